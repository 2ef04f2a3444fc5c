"""Deltas all start at 0: what a score or a control would make of that is said, never trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from fake_past import small_task
from lth_runner.allocate import Global
from lth_runner.control import MagnitudesOnly, Noise, Reinit, ShuffledWeights, SignsOnly
from lth_runner.problem.coordinates import Delta
from lth_runner.schedule import Geometric
from lth_runner.score import Magnitude, Random, Snip
from lth_runner.search import AtInit
from lth_runner.search.ticket import Ticket
from lth_runner.training.learning_rate import Constant
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.steps import Clock

PLAIN = small_task(seed=5)
DELTAS = replace(PLAIN, coordinates=Delta(only=list(PLAIN.prunable)))
CLOCK = Clock(5, 20)


def halved(task) -> Mask:
    scores = Random()(task, {}, task.dense())
    return Global()(scores, 0.5, task.dense(), 0)


@pytest.mark.parametrize("score", [Magnitude(), Snip(num_batches=1, batch_size=8)])
def test_a_score_of_deltas_that_are_all_0_is_refused_before_training(score) -> None:
    search = AtInit(score, Global(), Geometric(0.5, rounds=1))
    with pytest.raises(UserError, match="every weight has the score 0"):
        search.check(DELTAS, CLOCK, Constant())
    search.check(PLAIN, CLOCK, Constant())


@pytest.mark.parametrize(
    "control",
    [
        Reinit(), Reinit(values="permuted"), Noise(), SignsOnly(), MagnitudesOnly(),
        ShuffledWeights(),
    ],
)  # fmt: skip
def test_a_control_that_would_be_the_ticket_itself_is_left_out(control) -> None:
    ticket = Ticket(halved(DELTAS), DELTAS.init())
    assert control(DELTAS, ticket, [], 1) is None
    plain = Ticket(halved(PLAIN), PLAIN.init())
    assert control(PLAIN, plain, [], 1) is not None


def test_a_control_with_a_head_drawn_anew_is_another_ticket() -> None:
    *deltas, head = PLAIN.prunable
    task = replace(PLAIN, coordinates=Delta(only=deltas, whole=[head]))
    arm = Reinit()(task, Ticket(halved(task), task.init()), [], 1)
    assert arm is not None
    assert not torch.equal(arm.weights[head], task.init()[head])


@dataclass(frozen=True)
class Cut:
    """A score of 0 once anything is removed, as SynFlow's is of a network that is cut."""

    def __call__(self, task, weights, mask):
        return {name: kept * float(mask.density == 1) for name, kept in mask.items()}


def test_scores_of_0_on_the_way_down_are_drawn_among() -> None:
    search = AtInit(Cut(), Global(), Geometric(0.75, rounds=2))
    assert search.mask(PLAIN, PLAIN.init()).num_kept == round(0.25 * 81)


def test_constants_go_with_the_precision_of_the_weights() -> None:
    double = {n: w.double() if w.is_floating_point() else w for n, w in DELTAS.init().items()}
    inputs = DELTAS.data.sample(4, 0)[0]
    found = DELTAS.outputs(double, inputs.double())
    torch.testing.assert_close(found.float(), DELTAS.outputs(DELTAS.init(), inputs))
