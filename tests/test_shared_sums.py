"""Scores that add up over batches come to the same on two ranks as in one process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import lanes
import small
from lth_runner.allocate import Global
from lth_runner.problem import NextToken
from lth_runner.problem.data import Data
from lth_runner.problem.gaussian import Gaussian
from lth_runner.problem.models import masked_transformer
from lth_runner.problem.task import Task
from lth_runner.score import (
    Force,
    GradientMagnitude,
    Grasp,
    GraspIterated,
    Obd,
    Snip,
    derivatives,
    sums,
)  # fmt: skip
from lth_runner.training.engines.distributed.lines import Leader
from lth_runner.training.engines.distributed.shared_sums import ByRanks
from lth_runner.values.ignored import IGNORED
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.tree import length
from second_rank import two_ranks


@pytest.fixture(scope="module")
def leader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leader]:
    with two_ranks(tmp_path_factory.mktemp("ranks")) as found:
        yield found


def transformer() -> nn.Module:
    return masked_transformer(vocabulary=9, length=6, width=8, depth=1, heads=2)


def uneven() -> Task:
    """Sequences of which each has another number of targets, some of them none."""
    rng = stream(0, "uneven")
    tokens = torch.randint(0, 9, (40, 6), generator=rng)
    targets = torch.where(torch.rand(40, 6, generator=rng) < 0.2, tokens, IGNORED)
    split = {"input_ids": tokens}, targets
    data = Data.from_tensors(split, split, split, num_classes=9)
    return Task(transformer, data, objective=NextToken())


class ByHand(nn.BatchNorm1d):
    """A batch norm in plain arithmetic, which no other rank is asked for."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(values)
        return (values - values.mean(0)) / (values.var(0, unbiased=False) + self.eps).sqrt()


def normed(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), norm, nn.ReLU(), nn.Linear(8, 3))


def by_hand() -> nn.Module:
    return normed(ByHand(8))


def untracked() -> nn.Module:
    return normed(nn.BatchNorm1d(8, track_running_stats=False))


RESNET = lanes.jobs(1, lanes.resnet)[0].task
PLAIN = small.task()
CASES: dict[str, tuple[Any, Task, bool]] = {  # score, problem, whether ranks share it
    "snip": (Snip(batch_size=21), PLAIN, True),
    "snip_of_absolutes": (Snip(num_batches=3, batch_size=8, absolute="before"), PLAIN, True),
    "snip_by_batch_statistics": (
        Snip(num_batches=3, batch_size=10, batch_statistics=True), RESNET, True,
    ),
    "snip_of_tokens": (Snip(num_batches=2, batch_size=15), uneven(), True),
    "snip_of_one_sample": (Snip(batch_size=1), PLAIN, True),
    "force": (Force(batch_size=16), PLAIN, True),
    "force_by_batch_statistics": (Force(batch_size=16), RESNET, True),
    "force_of_an_odd_batch": (Force(batch_size=15), RESNET, False),
    "force_of_norms_by_sample": (Force(batch_size=15), uneven(), True),
    "force_of_a_norm_by_hand": (Force(batch_size=16), small.task(model=by_hand), False),
    "snip_without_running_statistics": (Snip(batch_size=16), small.task(model=untracked), True),
    "snip_of_an_odd_batch_without": (Snip(batch_size=15), small.task(model=untracked), False),
    "hutchinson_without": (
        Obd("hutchinson", num_batches=2, batch_size=9), small.task(model=untracked), True,
    ),
    "grasp_it": (GraspIterated(batch_size=16), PLAIN, True),
    "gradient": (GradientMagnitude(batch_size=16), RESNET, True),
    "grasp": (Grasp(num_batches=3), RESNET, True),
    "obd": (Obd(num_batches=2, batch_size=9), PLAIN, True),
    "fisher": (Obd("fisher", num_batches=2, batch_size=9), PLAIN, True),
    "hutchinson": (Obd("hutchinson", num_batches=2, batch_size=9, num_draws=3), PLAIN, True),
    "drawn_weights": (Snip(batch_size=9), replace(PLAIN, coordinates=Gaussian()), True),
    "drawn_weights_by_batch_statistics": (
        Force(batch_size=16), replace(RESNET, coordinates=Gaussian()), True,
    ),
    "grasp_of_drawn_weights": (
        Grasp(num_batches=1), replace(PLAIN, coordinates=Gaussian()), True,
    ),
}  # fmt: skip


def half(task: Task) -> Mask:
    drawn = {n: torch.rand(k.shape, generator=stream(0, n)) for n, k in task.dense().items()}
    return Mask({name: value < 0.5 for name, value in drawn.items()})


class Counting:
    """Two ranks, and how many samples are each one's."""

    def __init__(self, leader: Leader) -> None:
        self._by, self.num, self.shares = ByRanks(leader), 2, []

    def add_up(self, task: Task, terms: Any, shares: Any, **how: Any) -> Any:
        self.shares += [sum(length(batch[1]) for _, batch in share) for share in shares]
        return self._by.add_up(task, terms, shares, **how)


@pytest.mark.parametrize("name", CASES)
def test_a_score_is_that_of_one_process(leader: Leader, name: str) -> None:
    score, task, is_shared = CASES[name]
    counting = Counting(leader)
    shared = replace(task, sharing=counting)
    weights = task.init()
    mask = half(task)
    one, both = (score(which, weights, mask) for which in (task, shared))
    assert one.keys() == both.keys() == mask.keys()
    for layer, value in one.items():
        scale = float(value.abs().max())
        assert torch.allclose(both[layer], value, rtol=1e-4, atol=1e-6 * scale), layer
    kept = [Global()(scores, 0.2, mask, 0) for scores in (one, both)]
    assert kept[0] == kept[1]
    assert bool(counting.shares) == is_shared
    if is_shared and name != "snip_of_one_sample":
        assert all(counting.shares)


def test_a_batch_of_fewer_samples_than_ranks_leaves_some_without() -> None:
    parts = sums._divided(PLAIN, PLAIN.batches(1, 0, 2), 3)
    assert [len(part) for part in parts] == [0, 1, 1]
    assert sum(factor for share in parts for factor, _ in share) == 1


def test_with_whom_scores_are_shared_is_no_part_of_a_training(leader: Leader) -> None:
    [job] = lanes.jobs(1)
    shared = replace(job, task=replace(job.task, sharing=ByRanks(leader)))
    ours = lanes.recipe()
    assert shared.identity(ours, "distributed") == job.identity(ours, "distributed")


def test_a_batch_without_a_term_has_no_gradient_however_many_samples_it_has() -> None:
    task = uneven()
    tokens = torch.zeros(100, 6, dtype=torch.long)
    batch = {"input_ids": tokens}, torch.full_like(tokens, IGNORED)
    found = derivatives.gradient(task, task.init(), task.prunable, batch, batch_statistics=False)
    assert not any(value.any() for value in found.values())
