"""How far a ticket of rows answers as the network whose whole embedding was trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lth_runner.probe.reference import check_count, first_tested
from lth_runner.problem.objective import NextToken
from lth_runner.problem.task import Task
from lth_runner.score.kolmogorov_smirnov import check_level, threshold
from lth_runner.search.ticket import Past, Trained
from lth_runner.values.errors import UserError
from lth_runner.values.ignored import IGNORED
from lth_runner.values.state import State


@dataclass(frozen=True)
class Certificate:
    """Counts the test tokens at which a ticket answers as round 0, and those it is certified at.

    A token is certified where the probabilities of round 0's first and second choice lie more than
    2 tau(alpha) apart, tau(alpha) = sqrt(-ln(alpha / 2) / d) for rows of d values: rows that the
    test left out have moved less than tau, and the theorem lets a prediction move no further than
    that. ``certified``: their share; ``certified_agreement``: of these, the share with equal first
    choices, 1 where the theorem holds for this network; ``agreement``: that of all tokens.
    It is about agreement with the tuned embedding and says nothing of how good that is.
    Yuan et al., NAACL 2025, arXiv 2402.02801, theorem 2, read from its statement alone.
    """

    alpha: float = 0.05
    num_samples: int = 200

    def __post_init__(self) -> None:
        check_level(self.alpha, "probe.certificate.alpha")
        check_count("certificate.num_samples", self.num_samples)

    def check(self, task: Task) -> None:
        """Raises UserError for another objective than the next token's."""
        if not isinstance(task.objective, NextToken):
            raise UserError("probe=certificate is about tokens: it needs objective=next_token")

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, float]]:
        if not past:
            return
        width = min(kept[0].numel() for kept in trained.mask.values())
        ours, _ = self._choices(task, trained.weights)
        theirs, margins = self._choices(task, past[0].weights)
        same = (ours == theirs).double()
        certified = margins > 2 * threshold(self.alpha, width)
        yield "agreement", float(same.mean())
        yield "certified", float(certified.double().mean())
        if bool(certified.any()):
            yield "certified_agreement", float(same[certified].mean())

    def _choices(self, task: Task, weights: State) -> tuple[Tensor, Tensor]:
        """Gives the likeliest token at each target, and how far it is from the second."""
        placed = task.placed(weights)
        choices, margins = [], []
        for inputs, targets in first_tested(task, self.num_samples):
            assert isinstance(targets, Tensor)
            with torch.no_grad():
                logits = task.outputs(placed, inputs)[targets != IGNORED].float()
            best = logits.softmax(1).topk(2, 1)
            choices.append(best.indices[:, 0].cpu())
            margins.append((best.values[:, 0] - best.values[:, 1]).cpu())
        return torch.cat(choices), torch.cat(margins)
