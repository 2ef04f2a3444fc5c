"""How much of the accuracy is in the mask alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from lth_runner.control import random_signs, signed_constant
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Past, Trained
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import derive
from lth_runner.values.state import State

MOST_DRAWS = 1000  # each is an evaluation in every row


@dataclass(frozen=True)
class Supermask:
    """Measures the test accuracy of the ticket's weights under its mask, without any training.

    ``supermask_accuracy``: m * theta_k as they are. ``supermask_signed_constant_accuracy``:
    m * sign(theta_k) * c, c each layer's standard deviation of the kept weights about 0.
    ``supermask_random_signs_accuracy``: m * |theta_k| with random signs, the mean over
    ``num_draws``. Running statistics of normalisation layers are those of the ticket, at step 0
    those of no data. Zhou et al., NeurIPS 2019, arXiv 1905.01067.
    """

    num_draws: int = 3

    def __post_init__(self) -> None:
        if isinstance(self.num_draws, bool) or not 1 <= self.num_draws <= MOST_DRAWS:
            raise UserError(
                f"probe.supermask.num_draws={self.num_draws!r}: give a whole number from 1 to "
                f"{MOST_DRAWS}"
            )

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, float]]:
        mask, weights = trained.ticket.mask, trained.ticket.masked

        name = task.objective.measures[0].name

        def headline(state: State) -> float:
            return task.evaluate(state, "test")[name]

        yield f"supermask_{name}", headline(weights)
        yield f"supermask_signed_constant_{name}", headline(signed_constant(weights, mask))
        seed = derive(task.seed, "probe", "supermask", mask.fingerprint)
        draws = (random_signs(weights, mask, derive(seed, i)) for i in range(self.num_draws))
        yield f"supermask_random_signs_{name}", fmean(headline(draw) for draw in draws)
