"""How several task vectors, each a change of the same weights, become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lth_runner.allocate.keep import count, keep_top
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream
from lth_runner.values.state import State


class Merging(Protocol):
    """Makes one task vector of several, the i-th with the weight w_i."""

    def __call__(self, vectors: Sequence[State], weights: Sequence[float]) -> State: ...


@dataclass(frozen=True)
class TaskArithmetic:
    """Adds them up: sum of w_i v_i. Ilharco et al., ICLR 2023, arXiv 2212.04089.

    With weights of 1 it is the plain sum, which leaves vectors as they are that share no place.
    """

    def __call__(self, vectors: Sequence[State], weights: Sequence[float]) -> State:
        return {
            name: torch.stack([w * v[name] for w, v in zip(weights, vectors, strict=True)]).sum(0)
            for name in vectors[0]
        }


@dataclass(frozen=True)
class Ties:
    """Trims each vector, elects a sign for each place, and averages those that have it.

    Trim: the largest |v| stay, the share ``density`` of a whole vector. Elect: the sign of the sum
    over the vectors; where that is 0, the sign that most places have, as in the authors' code.
    Merge: the mean of w_i v_i over the vectors that are not 0 there and have the elected sign.
    Yadav et al., NeurIPS 2023, arXiv 2306.01708.
    """

    density: float = 0.2

    def __post_init__(self) -> None:
        _check_share("--density", self.density, least=0.0)

    def __call__(self, vectors: Sequence[State], weights: Sequence[float]) -> State:
        trimmed = [trim(vector, self.density) for vector in vectors]
        signs = {n: torch.stack([v[n] for v in trimmed]).sum(0).sign() for n in vectors[0]}
        most = torch.stack([sign.sum() for sign in signs.values()]).sum().sign()
        merged = {}
        for name, sign in signs.items():
            elected = torch.where(sign == 0, most.to(sign), sign)
            own = torch.stack([vector[name] for vector in trimmed])
            agree = (own != 0) & (own.sign() == elected)
            scaled = own * torch.tensor(weights, dtype=own.dtype).view(-1, *[1] * sign.ndim)
            merged[name] = (scaled * agree).sum(0) / agree.sum(0).clamp(min=1)
        return merged


@dataclass(frozen=True)
class Dare:
    """Drops places of each vector with probability ``drop``, rescales what is left, and adds.

    sum of w_i b_i v_i / (1 - drop), b_i in {0, 1} drawn by ``seed``. Yu et al., ICML 2024, arXiv
    2311.03099.
    """

    drop: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        _check_share("--drop", self.drop, most=1.0)

    def __call__(self, vectors: Sequence[State], weights: Sequence[float]) -> State:
        return TaskArithmetic()([self.dropped(v, i) for i, v in enumerate(vectors)], weights)

    def dropped(self, vector: State, index: int) -> State:
        """Drops and rescales one vector, the ``index``-th of those that are merged."""
        found = {}
        for name, value in vector.items():
            drawn = torch.rand(value.shape, generator=stream(self.seed, "dare", index, name))
            found[name] = value * (drawn >= self.drop) / (1 - self.drop)
        return found


def trim(vector: State, density: float) -> State:
    """Keeps the largest |v| of a whole vector, a share of all its places; the others become 0."""
    flat = torch.cat([value.reshape(-1) for value in vector.values()])
    num = max(1, count(density, len(flat)))
    kept = keep_top(flat.abs(), torch.ones_like(flat, dtype=torch.bool), num, 0)
    parts: Sequence[Tensor] = (flat * kept).split([value.numel() for value in vector.values()])
    return {n: part.view_as(vector[n]) for n, part in zip(vector, parts, strict=True)}


@dataclass(frozen=True)
class Interference:
    """How two task vectors are in each other's way.

    ``both``: places where neither is 0. ``by_chance``: how many these would be of places drawn at
    random, |a| |b| / N. ``conflicts``: of ``both``, those of opposite signs; by chance it is half.
    """

    num: int
    both: int
    by_chance: float
    conflicts: int

    @property
    def conflict_share(self) -> float:
        """The share of the common places where the signs differ; 0 where there is none."""
        return self.conflicts / self.both if self.both else 0.0


def interference(one: State, other: State) -> Interference:
    """Counts where two task vectors meet, and where they pull apart."""
    a, b = (torch.cat([v.reshape(-1) for v in vector.values()]) for vector in (one, other))
    both = (a != 0) & (b != 0)
    return Interference(
        num=len(a),
        both=int(both.sum()),
        by_chance=int((a != 0).sum()) * int((b != 0).sum()) / len(a),
        conflicts=int((both & (a.sign() != b.sign())).sum()),
    )


def _check_share(
    key: str, value: float, *, least: float | None = None, most: float | None = None
) -> None:
    """Raises UserError for what is no share, or is the end that leaves nothing: least or most."""
    if not 0 <= value <= 1:
        raise UserError(f"{key} {value} must be a share between 0 and 1")
    if value in (least, most):
        raise UserError(f"{key} {value} leaves nothing to merge: give a share between 0 and 1")
