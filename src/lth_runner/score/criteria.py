"""Scores that compare a weight's initial value with its trained one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from lth_runner.problem.task import Task
from lth_runner.score.checks import KEY, check_one_of
from lth_runner.score.score import Scores
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.state import State

Criterion = Callable[[Tensor, Tensor, Tensor], Tensor]  # (initial, final, kept) -> scores


@dataclass(frozen=True)
class MaskCriterion:
    """Scores each weight by a function of its initial value w_i and its trained value w_f.

    w_i is the task's own draw.
    criterion: ``large_final`` |w_f|, ``small_final`` -|w_f|, ``large_init`` |w_i|, ``small_init``
    -|w_i|, ``magnitude_increase`` |w_f| - |w_i|, ``movement`` |w_f - w_i|,
    ``large_init_large_final`` and ``small_init_small_final`` the lower of the two ranks within
    the layer's kept weights (so the highest scores are those above a common percentile of both,
    which the authors find by bisection; in [0, 1]).
    same_sign: weights whose sign has changed score below all others (0 in the authors' code);
    diff_sign: those whose sign has not. Raises UserError for both. Their other criteria are
    scores of their own: ``Random``, and at the initial weights ``Snip`` and ``GradientMagnitude``.
    The paper prunes layer by layer. Zhou et al., NeurIPS 2019, arXiv 1905.01067.
    """

    criterion: str = "large_final"
    same_sign: bool = False
    diff_sign: bool = False

    def __post_init__(self) -> None:
        check_one_of(CRITERIA, criterion=self.criterion)
        if self.same_sign and self.diff_sign:
            raise UserError(f"{KEY}.same_sign and {KEY}.diff_sign leave no weight: set one of them")

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        initial = task.init()
        scores = {
            name: CRITERIA[self.criterion](_fine(initial[name]), _fine(weights[name]), kept)
            for name, kept in mask.items()
        }
        if not self.same_sign and not self.diff_sign:
            return scores
        lowest = min(float(s[mask[n]].min()) for n, s in scores.items() if mask[n].any()) - 1
        stays = {name: initial[name].sign() == weights[name].cpu().sign() for name in scores}
        return {
            name: torch.where(stays[name] == self.same_sign, s, lowest)
            for name, s in scores.items()
        }


def _fine(value: Tensor) -> Tensor:
    return value.cpu().to(torch.promote_types(value.dtype, torch.float32))


def _rank(values: Tensor, kept: Tensor) -> Tensor:
    """Ranks each value by the share of a layer's kept weights that are no larger.

    Equal values have equal ranks.
    """
    ordered = values[kept].sort().values
    below = torch.searchsorted(ordered, values.contiguous(), right=True)
    return below.double() / max(len(ordered), 1)


CRITERIA: Mapping[str, Criterion] = MappingProxyType(
    {
        "large_final": lambda wi, wf, kept: wf.abs(),
        "small_final": lambda wi, wf, kept: -wf.abs(),
        "large_init": lambda wi, wf, kept: wi.abs(),
        "small_init": lambda wi, wf, kept: -wi.abs(),
        "magnitude_increase": lambda wi, wf, kept: wf.abs() - wi.abs(),
        "movement": lambda wi, wf, kept: (wf - wi).abs(),
        "large_init_large_final": lambda wi, wf, kept: torch.minimum(
            _rank(wi.abs(), kept), _rank(wf.abs(), kept)
        ),
        "small_init_small_final": lambda wi, wf, kept: torch.minimum(
            _rank(-wi.abs(), kept), _rank(-wf.abs(), kept)
        ),
    }
)
