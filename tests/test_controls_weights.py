"""Arms with other weights, against values worked out by hand and laws of chance."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from fake_past import data, drawn, small_task
from lth_runner.allocate import Global
from lth_runner.control import (
    Noise,
    Random,
    Reinit,
    RescaledRandom,
    ShuffledWeights,
    SignsOnly,
    random_signs,
    signed_constant,
)
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream

TASK = small_task(seed=5)


def made():
    """A ticket of the small task with its past."""
    mask = Global()(drawn(TASK, "scores"), 0.4, TASK.dense(), 0)
    return [], Ticket(mask, drawn(TASK, "start"))


# --- kept 3, -4 and 0 of the first tensor, one weight of the second

BY_HAND = Ticket(
    Mask(
        {
            "a": torch.tensor([[True, True], [False, True]]),
            "b": torch.tensor([True, False]),
        }
    ),
    {"a": torch.tensor([[3.0, -4.0], [100.0, 0.0]]), "b": torch.tensor([-2.0, 7.0])},
)
RMS = (25 / 3) ** 0.5


def test_a_new_draw_may_be_the_own_initial_values_in_another_order():
    _, ticket = made()
    initial = TASK.init()
    arm = Reinit(values="permuted")(TASK, ticket, [], 1)
    for name in ticket.mask:
        assert not torch.equal(arm.weights[name], initial[name])
        assert torch.equal(
            arm.weights[name].flatten().sort().values, initial[name].flatten().sort().values
        )
    plain = Reinit()(TASK, ticket, [], 1)
    rest = arm.weights.keys() - ticket.mask.keys()
    assert all(torch.equal(arm.weights[n], plain.weights[n]) for n in rest)


@pytest.mark.parametrize("values", ["fresh", "permuted"])
def test_a_new_draw_may_keep_the_tickets_signs(values):
    _, ticket = made()
    drawn_, kept = (Reinit(values, s)(TASK, ticket, [], 1).weights for s in ("drawn", "kept"))
    for name in ticket.mask:
        assert torch.equal(kept[name].abs(), drawn_[name].abs())
        assert torch.equal(kept[name].sign(), ticket.weights[name].sign())
        assert not torch.equal(drawn_[name].sign(), ticket.weights[name].sign())
    for option in ({"values": "old"}, {"signs": "keep"}):
        with pytest.raises(UserError, match=rf"control\.reinit\.{next(iter(option))}="):
            Reinit(**option)


def test_signs_keep_one_magnitude_a_layer():
    own = SignsOnly()(TASK, BY_HAND, [], 0).weights
    assert own["a"].flatten().tolist() == pytest.approx([RMS, -RMS, 100, 0])
    assert own["b"].tolist() == [-2.0, 7.0]  # one weight has a deviation too
    given = SignsOnly(0.5)(TASK, BY_HAND, [], 0).weights
    assert given["a"].flatten().tolist() == [0.5, -0.5, 100, 0]
    assert given["b"].tolist() == [-0.5, 7.0]


def test_a_signed_constant_leaves_each_layers_sum_of_squares():
    _, ticket = made()
    arm = Ticket(ticket.mask, signed_constant(ticket.weights, ticket.mask))
    for name in ticket.mask:
        squares = [float(t.masked[name].square().sum()) for t in (arm, ticket)]
        assert squares[0] == pytest.approx(squares[1], rel=1e-5)
        assert torch.equal(arm.masked[name].sign(), ticket.masked[name].sign())
        assert len(arm.masked[name].abs().unique()) == 2  # zero and the constant


def test_magnitudes_stay_and_signs_are_even():
    weights, mask = {"w": torch.arange(1.0, 2001)}, Mask({"w": torch.ones(2000, dtype=torch.bool)})
    drawn_signs = random_signs(weights, mask, 3)["w"]
    assert torch.equal(drawn_signs.abs(), weights["w"])
    assert abs(float(drawn_signs.sign().mean())) < 4 / 2000**0.5


def test_shuffled_weights_are_the_same_values():
    past, ticket = made()
    arm = ShuffledWeights()(TASK, ticket, past, 1)
    for name, kept in ticket.mask.items():
        one, other = arm.weights[name][kept], ticket.weights[name][kept]
        assert torch.equal(one.sort().values, other.sort().values)


def moved(size, *, relative):
    task = Task(wide, data(), 0)
    weights = task.init()
    mask = at_random(task, 0.5)
    arm = Noise(size, relative)(task, Ticket(mask, weights), [], 7)
    return {n: ((arm.weights[n] - weights[n])[kept], weights[n][kept]) for n, kept in mask.items()}


def at_random(task, density):
    return Global()(drawn(task, "scores"), density, task.dense(), 0)


def wide():
    layers = OrderedDict(one=nn.Linear(6, 500), relu=nn.ReLU(), two=nn.Linear(500, 3))
    return nn.Sequential(layers)


@pytest.mark.parametrize("relative", [True, False])
def test_noise_has_the_size_it_is_given(relative):
    for step, weights in moved(0.1, relative=relative).values():
        unit = float(weights.square().mean().sqrt()) if relative else 1.0
        spread = float(step.square().mean().sqrt())
        assert spread == pytest.approx(0.1 * unit, rel=4 / (2 * len(step)) ** 0.5)
        assert abs(float(step.mean())) < 4 * spread / len(step) ** 0.5


def test_noise_of_another_size_is_the_same_noise():
    small, large = moved(0.01, relative=True), moved(0.1, relative=True)
    for name in small:
        assert torch.allclose(10 * small[name][0], large[name][0], atol=1e-5)


# --- random masks at critical variance


def deep():
    """Six layers of 100 units: enough for the signal's fate to show."""
    pairs = [(f"layer{i}", nn.Linear(6 if i == 0 else 100, 100)) for i in range(6)]
    layers = [part for name, layer in pairs for part in ((name, layer), (f"relu{name}", nn.ReLU()))]
    return nn.Sequential(OrderedDict([*layers, ("output", nn.Linear(100, 3))]))


def second_moments(task, weights, inputs):
    """Mean square of the signal after each hidden layer, relative to that after the first."""
    signal, sizes = inputs, []
    for name in (n for n in task.prunable if n != "output.weight"):
        signal = (signal @ weights[name].T).relu()
        sizes.append(float(signal.square().mean()))
    return [size / sizes[0] for size in sizes]


def test_rescaled_weights_pass_the_signal_on_and_plain_ones_lose_it():
    task = Task(deep, data(), 0)
    weights = task.init() | {
        n: w * (6**0.5) for n, w in task.init().items() if n in task.prunable
    }  # torch's own law has sigma^2 = 1/3, He's has 2
    mask = at_random(task, 0.2)
    ticket, inputs = Ticket(mask, weights), torch.randn(200, 6, generator=stream(0, "signal"))
    ends = {
        name: second_moments(task, control(task, ticket, [], 1).masked, inputs)[-1]
        for name, control in {
            "plain": Random(),
            "own": RescaledRandom("own"),
            "fresh": RescaledRandom(),
        }.items()
    }
    assert ends["plain"] == pytest.approx(0.2**5, rel=0.7)  # chi^5
    assert ends["own"] == pytest.approx(1, rel=0.7)
    assert ends["fresh"] == pytest.approx(1, rel=0.7)


def test_own_weights_are_divided_by_the_root_of_their_layers_density():
    past, ticket = made()
    arm = RescaledRandom("own")(TASK, ticket, past, 1)
    for name, kept in arm.mask.items():
        scale = (kept.numel() / int(kept.sum())) ** 0.5
        assert torch.allclose(arm.weights[name], ticket.weights[name] * scale)
    assert arm.mask == Random()(TASK, ticket, past, 1).mask


def test_fresh_weights_have_the_critical_variance_and_bring_their_own_normalisation():
    task = Task(wide, data(), 0)
    mask = Global()(task.init(), 0.1, task.dense(), 0)
    arm = RescaledRandom()(task, Ticket(mask, task.init()), [], 1)
    for name, kept in arm.mask.items():
        variance = float(arm.weights[name].square().mean())
        density = int(kept.sum()) / kept.numel()
        expected = 2 / (density * arm.weights[name].shape[1])
        assert variance == pytest.approx(expected, rel=4 * (2 / kept.numel()) ** 0.5)
    past, ticket = made()
    fresh = RescaledRandom()(TASK, ticket, past, 1).weights
    assert torch.equal(fresh["norm.running_var"], torch.ones(9))
