"""What of a ticket's accuracy is there before any training."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fake_past import Fake, drawn, small_task
from lth_runner.probe import Signs, Supermask
from lth_runner.probe.signs import by_layer, sign_preservation
from lth_runner.problem.data import Data
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask


def single() -> nn.Module:
    return nn.Linear(2, 2, bias=False)


# the first class where w00 * x0 > w11 * x1: three of these, the last one turned round
INPUTS = torch.tensor([[3.0, 1.0], [1.0, 3.0], [4.0, 1.0], [1.5, 1.0]])
LABELS = torch.tensor([0, 1, 0, 1])
TASK = Task(single, Data.from_tensors((INPUTS, LABELS), (INPUTS, LABELS), validation=0), 0)
MASK = Mask({"weight": torch.tensor([[True, False], [False, True]])})


def measured(first, second, num_draws=3):
    weights = {"weight": torch.tensor([[first, 9.0], [9.0, second]])}
    trained = Fake(TASK, 1, Ticket(MASK, weights))
    return dict(Supermask(num_draws)(TASK, [], trained))


def test_the_masked_weights_are_measured_and_the_signs_with_one_magnitude():
    found = measured(1.0, 2.0)  # classes by x0 > 2 x1: the last input is on the right side
    assert found["supermask_accuracy"] == 1.0
    assert found["supermask_signed_constant_accuracy"] == 0.75  # classes by x0 > x1


def test_random_signs_are_averaged_over_their_draws():
    # each draw is one of x0 > 2 x1, always the first or the second class, and turned round
    found = measured(1.0, 2.0, num_draws=400)["supermask_random_signs_accuracy"]
    turned = 0.0  # -x0 > -2 x1: every label the other one
    expected = (1.0 + 0.5 + 0.5 + turned) / 4
    assert found == pytest.approx(expected, abs=4 * 0.36 / math.sqrt(400))
    assert 0.0 < found < 1.0


def test_no_step_of_the_training_matters():
    weights = {"weight": torch.eye(2)}
    rounds = [Fake(TASK, number, Ticket(MASK, weights)) for number in (1, 2)]
    one, other = (dict(Supermask()(TASK, [], trained)) for trained in rounds)
    assert one == other
    assert not torch.equal(rounds[0].weights["weight"], rounds[1].weights["weight"])


def test_no_draw_is_refused():
    with pytest.raises(UserError, match=r"probe\.supermask\.num_draws=0"):
        Supermask(0)


# --- signs


def test_signs_by_layer_by_hand():
    start = {"a": torch.tensor([1.0, -1.0, 1.0, 0.0]), "b": torch.tensor([2.0, 2.0])}
    end = {"a": torch.tensor([5.0, 5.0, 5.0, 5.0]), "b": torch.tensor([-1.0, 0.0])}
    mask = Mask({"a": torch.tensor([True, True, False, True]), "b": torch.tensor([True, True])})
    assert by_layer(start, end, mask) == {"a": 0.5, "b": 0.0}  # a zero has no sign to keep
    assert sign_preservation(start, end, mask) == 0.25
    none = Mask({"a": torch.tensor([False, False, False, True]), "b": ~mask["b"]})
    assert by_layer(start, end, none) == {}
    assert math.isnan(sign_preservation(start, end, none))


def test_the_layers_are_named_only_where_they_are_asked_for():
    task = small_task()
    dense = Fake(task, 0, Ticket(task.dense(), drawn(task, "start")))
    half = {name: drawn(task, "mask")[name] > 0 for name in task.prunable}
    sparse = Fake(task, 1, Ticket(Mask(half), drawn(task, "start")))
    plain, full = (dict(probe(task, [dense], sparse)) for probe in (Signs(), Signs(by_layer=True)))
    agreement = {f"sign_agreement_{name}" for name in ("dense", "chance")}
    assert full.keys() - plain.keys() == {"sign_preservation_by_layer", *agreement}
    assert all(full[name] == plain[name] for name in plain)
    assert full["sign_preservation_by_layer"].keys() == set(task.prunable)
    counts = {name: int(kept.sum()) for name, kept in sparse.mask.items()}
    mean = sum(full["sign_preservation_by_layer"][n] * counts[n] for n in counts)
    assert mean / sum(counts.values()) == pytest.approx(full["sign_preservation"])


def test_agreement_with_the_dense_network_is_over_the_tickets_weights():
    task = small_task()
    dense = Fake(task, 0, Ticket(task.dense(), drawn(task, "start")))
    assert dict(Signs(by_layer=True)(task, [], dense))["sign_agreement_dense"] == 1.0
    half = Mask({name: drawn(task, "mask")[name] > 0 for name in task.prunable})
    sparse = Fake(task, 1, Ticket(half, drawn(task, "start")))
    measured = dict(Signs(by_layer=True)(task, [dense], sparse))
    found = measured["sign_agreement_dense"]
    same = [(dense.weights[n].sign() == sparse.weights[n].sign())[kept] for n, kept in half.items()]
    assert found == pytest.approx(float(torch.cat(same).float().mean()))
    ours = measured["sign_preservation"]
    theirs = measured["sign_preservation_dense_on_ticket"]
    by_itself = ours * theirs + (1 - ours) * (1 - theirs)  # both start with the same signs
    assert measured["sign_agreement_chance"] == pytest.approx(by_itself)
