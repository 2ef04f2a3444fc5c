"""Scores of Gaussian weights N(mu, sigma^2), by where they lie and by how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lth_runner.problem.gaussian import deviations
from lth_runner.problem.task import Task
from lth_runner.score.checks import check_whole_number
from lth_runner.score.score import Scores
from lth_runner.values.mask import Mask
from lth_runner.values.state import State


@dataclass(frozen=True)
class SignalToNoise:
    """Scores each weight by |mu| / sigma (Blundell et al., ICML 2015, arXiv 1505.05424)."""

    def check(self, task: Task) -> None:
        """Raises UserError where weights have no sigma."""
        deviations(task.named_modules(), task.init(), task.dense())

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        sigmas = deviations(task.named_modules(), weights, mask)
        return {name: weights[name].cpu().abs() / sigma for name, sigma in sigmas.items()}


@dataclass(frozen=True)
class MeanSquare:
    """Scores each weight by sqrt(mu^2 + sigma^2), the root of its mean square.

    Kuhn et al., 2026, arXiv 2602.18825.
    """

    def check(self, task: Task) -> None:
        """Raises UserError where weights have no sigma."""
        deviations(task.named_modules(), task.init(), task.dense())

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        sigmas = deviations(task.named_modules(), weights, mask)
        return {name: torch.hypot(weights[name].cpu(), sigma) for name, sigma in sigmas.items()}


@dataclass(frozen=True)
class Lexicographic:
    """Scores by |mu| and, where that is the same, by how small sigma is: the surer one is kept.

    The score is the rank of (|mu|, -sigma) among all covered weights, equal for equal pairs, so
    that it goes over layers as |mu| does. ``digits``: |mu| is rounded to so many significant
    decimal digits before, so that nearly equal ones are the same; None: as it is. Raises UserError
    for a number of digits below 1.
    """

    digits: int | None = None

    def __post_init__(self) -> None:
        if self.digits is not None:
            check_whole_number(1, digits=self.digits)

    def check(self, task: Task) -> None:
        """Raises UserError where weights have no sigma."""
        deviations(task.named_modules(), task.init(), task.dense())

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        sigmas = deviations(task.named_modules(), weights, mask)
        sizes = torch.cat([weights[name].cpu().abs().flatten().double() for name in mask])
        sizes = sizes if self.digits is None else _rounded(sizes, self.digits)
        widths = torch.cat([sigmas[name].flatten().double() for name in mask])
        ranks = _ranks(sizes, -widths).split([kept.numel() for kept in mask.values()])
        return {n: rank.view_as(mask[n]) for n, rank in zip(mask, ranks, strict=True)}


def _rounded(sizes: Tensor, digits: int) -> Tensor:
    """Rounds to significant decimal digits."""
    unit = torch.where(sizes > 0, 10.0 ** (sizes.log10().floor() - (digits - 1)), 1.0)
    return (sizes / unit).round() * unit


def _ranks(first: Tensor, second: Tensor) -> Tensor:
    """Ranks pairs by their first number and then by their second, equal pairs alike."""
    by_second = second.argsort(stable=True)
    order = by_second[first[by_second].argsort(stable=True)]
    ordered = torch.stack([first[order], second[order]])
    steps = (ordered[:, 1:] != ordered[:, :-1]).any(0)
    ranks = torch.zeros(len(order), dtype=torch.float64)
    ranks[order[1:]] = steps.cumsum(0).double()
    return ranks
