"""What a set of networks is worth, and how far it is from the networks that it was made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, pstdev

import torch
from torch import Tensor

from lth_runner.problem.answers import answer, figures
from lth_runner.problem.objective import CrossEntropy
from lth_runner.problem.task import Task
from lth_runner.values import state as states
from lth_runner.values.state import State
from lth_runner.values.tree import Tree

BLOCK = 2**16  # weights that are widened to float64 at once
EXACT = "donot_use_mm_for_euclid_dist"  # a small distance of large numbers would be lost


@dataclass(frozen=True, eq=False)
class Measured:
    """Networks as they answer: the headline of each, of all together, and where each is wrong.

    ``wrong`` [networks, test samples], None where there are no classes.
    """

    values: tuple[float, ...]
    ensemble: float
    wrong: Tensor | None

    @property
    def mean(self) -> float:
        """The mean headline."""
        return fmean(self.values)

    @property
    def spread(self) -> float:
        """Its standard deviation over the networks."""
        return pstdev(self.values)


@torch.no_grad()
def measure(task: Task, networks: Iterable[State]) -> Measured:
    """Measures networks one by one on test, and the mean of their answers.

    Of classes that is the mean of their probabilities.
    """
    module = task.module().eval()
    batches = list(task.evaluated("test"))
    classes = isinstance(task.objective, CrossEntropy)
    headline = task.objective.measures[0].name
    values, wrong, total, num = [], [], [torch.zeros(()) for _ in batches], 0
    for state in networks:
        states.write(module, state)
        answers = [answer(module, inputs).float() for inputs, _ in batches]
        pairs = [(out, of) for out, (_, of) in zip(answers, batches, strict=True)]
        values.append(figures(iter(pairs), task.objective)[headline])
        shares = [out.softmax(1) if classes else out for out in answers]
        total = [sum_ + share.double().cpu() for sum_, share in zip(total, shares, strict=True)]
        if classes:
            wrong.append(torch.cat([_missed(*pair) for pair in pairs]).cpu())
        num += 1
    mixed = [(value / num).log() if classes else value / num for value in total]
    placed = [value.float().to(task.device) for value in mixed]
    together = ((out, of) for out, (_, of) in zip(placed, batches, strict=True))
    ensemble = figures(together, task.objective)[headline]
    return Measured(tuple(values), ensemble, torch.stack(wrong) if wrong else None)


def _missed(answers: Tensor, targets: Tree) -> Tensor:
    """Says of each sample whether a place of it gets another class."""
    assert isinstance(targets, Tensor)
    return (answers.argmax(1) != targets).reshape(len(answers), -1).any(1)


@dataclass(frozen=True)
class Distances:
    """How far rows of weights are from those of the networks that they were made of.

    ``nearest``: of each, to the nearest network; ``num_neighbours``: how many networks are a
    nearest one; ``pairwise``: the mean over every two rows, NaN of one.
    """

    nearest: tuple[float, ...]
    num_neighbours: int
    pairwise: float


def distances(rows: Tensor, networks: Tensor, *, themselves: bool = False) -> Distances:
    """Computes L2 distances; of networks ``themselves`` a network's own 0 is left out."""
    apart = _apart(rows, networks)
    if themselves:
        apart.fill_diagonal_(torch.inf)
    nearest, which = apart.min(1)
    own, num = _apart(rows, rows), len(rows)
    pairwise = float(own.sum()) / (num * (num - 1)) if num > 1 else float("nan")
    return Distances(tuple(nearest.tolist()), len(which.unique()), pairwise)


def _apart(rows: Tensor, others: Tensor) -> Tensor:
    """Computes L2 distances [rows, others] in float64, some weights at a time."""
    squares = torch.zeros(len(rows), len(others), dtype=torch.float64)
    for one, other in zip(rows.split(BLOCK, 1), others.split(BLOCK, 1), strict=True):
        squares += torch.cdist(one.double(), other.double(), compute_mode=EXACT).square()
    return squares.sqrt()


def same_errors(wrong: Tensor, of_networks: Tensor, *, themselves: bool = False) -> float:
    """Averages how alike the errors of each are to those of the network that is most alike.

    Intersection over union of the samples that both get wrong; 1 for a copy. NaN of a network by
    itself, which has no other.
    """
    one, other = wrong.double(), of_networks.double()
    both = one @ other.t()
    either = one.sum(1, keepdim=True) + other.sum(1) - both
    alike = torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(both))
    if themselves:
        alike.fill_diagonal_(-1 if len(alike) > 1 else torch.nan)
    return float(alike.max(1).values.mean())
