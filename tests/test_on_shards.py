"""The choice among scores that lie on several processes is that of one that has all."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from lth_runner.allocate.keep import keep_top_of_all, tie_generator
from lth_runner.allocate.on_shards import Parts
from lth_runner.values.seeds import stream


@dataclass
class Together:
    """Threads in the place of processes: each waits for the others' values."""

    num: int
    given: dict[int, Tensor] = field(default_factory=dict)
    most: int = 0  # numbers that one of them has given at once

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.num)

    def summed(self, number: int, value: Tensor) -> Tensor:
        self.given[number] = value
        self.most = max(self.most, value.numel())
        self.barrier.wait()
        found = torch.stack([self.given[one] for one in range(self.num)]).sum(0)
        self.barrier.wait()
        return found


@dataclass
class Holder:
    together: Together
    number: int

    @property
    def num(self) -> int:
        return self.together.num

    def summed(self, value: Tensor) -> Tensor:
        return self.together.summed(self.number, value)


def cut(values: Tensor, num: int) -> list[Tensor]:
    """Rows as torch shards them: the last parts may be short or empty."""
    found = list(values.chunk(num))
    return found + [values[:0]] * (num - len(found))


def chosen(
    scores: list[Tensor], within: list[Tensor], k: int, num: int, seed: int
) -> tuple[list[Tensor], Together]:
    """What ``num`` processes choose, put together."""
    together = Together(num)
    parts = [[cut(one, num) for one in group] for group in (scores, within)]

    def one(number: int) -> list[Tensor]:
        own = ([tensor[number] for tensor in group] for group in parts)
        return Parts(*own, Holder(together, number)).kept(k, tie_generator(seed))

    with ThreadPoolExecutor(num) as threads:
        found = list(threads.map(one, range(num)))
    return [torch.cat(pieces) for pieces in zip(*found, strict=True)], together


def drawn(kind: str, dtype: torch.dtype, seed: int) -> list[Tensor]:
    rng = stream(seed, "scores")
    found = [torch.randn(shape, generator=rng) for shape in ((5, 3), (7,), (4, 2, 2), (1, 4))]
    if kind == "tied":
        found = [value.round() for value in found]  # both zeros among them
    if kind == "extreme":
        found = [value * 10.0 ** (30 * value.sign()) for value in found]
    if kind == "constant":
        found = [torch.full_like(value, -0.5) for value in found]
    return [value.to(dtype) for value in found]


@pytest.mark.parametrize("num", [1, 2, 5])
@pytest.mark.parametrize("kind", ["plain", "tied", "extreme", "constant"])
def test_it_is_the_choice_of_one_process(kind: str, num: int) -> None:
    for seed, dtype in enumerate((torch.float32, torch.float64, torch.bfloat16)):
        scores = drawn(kind, dtype, seed)
        rng = stream(seed, "within")
        within = [torch.rand(value.shape, generator=rng) < 0.8 for value in scores]
        every = 1 if num == 1 else 3  # threads that wait for each other take long
        for k in range(1 + seed, sum(int(one.sum()) for one in within), every):
            expected = keep_top_of_all(scores, within, k, seed)
            found, _ = chosen(scores, within, k, num, seed)
            for one, other in zip(found, expected, strict=True):
                assert torch.equal(one, other), (k, dtype)


def test_what_is_sent_are_counts_and_not_scores() -> None:
    rng = stream(0, "large")
    scores = [torch.randn(300, 200, generator=rng), torch.randn(90, 1000, generator=rng)]
    every = [torch.ones_like(one, dtype=torch.bool) for one in scores]
    found, together = chosen(scores, every, 20_000, 3, 0)
    assert together.most == 2**11
    for one, other in zip(found, keep_top_of_all(scores, every, 20_000, 0), strict=True):
        assert torch.equal(one, other)


def test_a_score_that_is_not_finite_is_seen_by_all() -> None:
    scores = torch.tensor([[1.0], [2.0], [torch.nan], [torch.inf]])
    for within, finite in (([True, True, False, False], True), ([True, True, False, True], False)):
        together = Together(2)
        inside = torch.tensor(within)[:, None]
        parts = [Parts([scores[2 * n : 2 * n + 2]], [inside[2 * n : 2 * n + 2]],
                       Holder(together, n)) for n in range(2)]  # fmt: skip
        with ThreadPoolExecutor(2) as threads:
            assert list(threads.map(Parts.are_finite, parts)) == [finite, finite]
