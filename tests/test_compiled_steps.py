"""Steps through torch.compile are those of the plain network, or refused before any training."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from torch import nn

import lanes
from lth_runner.masking import ScalePenalty, Static
from lth_runner.problem.task import Task
from lth_runner.training import compiling
from lth_runner.training.engines.choose import choose
from lth_runner.training.engines.sequential import Sequential
from lth_runner.values.errors import UserError


def dropped():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Dropout(), nn.Linear(8, 3))


def chosen(*, model=lanes.resnet, masking=None, **changes):
    task = Task(model, lanes.pictures())
    return choose(lanes.recipe(compile=True, **changes), task, masking or Static())


class Doubled(nn.Module):
    """What a compiler would make of a network that it got wrong."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return 2 * self.network(x)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"engine": "packed"}, "it is for train.engine=sequential, and this run has packed"),
        (
            {"masking": ScalePenalty(1e-4)},
            "ScalePenalty does more in a step",
        ),
        ({"model": dropped}, "draws random numbers"),
    ],
)
def test_what_cannot_be_compiled_is_refused_before_any_training(changes, told):
    with pytest.raises(UserError, match=told):
        chosen(**changes)


def test_a_network_that_is_compiled_wrongly_is_refused():
    with mock.patch.object(torch, "compile", Doubled), pytest.raises(UserError, match="differs by"):
        chosen()


def test_a_compiler_that_fails_is_told():
    broken = mock.patch.object(torch, "compile", side_effect=RuntimeError("no compiler\nmore"))
    with broken, pytest.raises(UserError, match="compile fails on this network: no compiler"):
        chosen()


def test_memory_that_does_not_suffice_is_no_compiler_that_fails():
    small = mock.patch.object(torch, "compile", side_effect=torch.OutOfMemoryError("tried"))
    with small, pytest.raises(torch.OutOfMemoryError):
        chosen()


def test_what_is_as_good_as_compiled_trains_in_its_place_and_is_evaluated_plain():
    seen = []

    class Watched(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            seen.append(self.network.training)
            return self.network(x)

    [job] = lanes.jobs(1)
    with mock.patch.object(torch, "compile", Watched):
        [found] = lanes.trained([job], lanes.recipe(compile=True, length="4it"), by=Sequential())
    assert seen == [True] * 4
    assert lanes.prints([found]) == lanes.prints(lanes.alone([job], lanes.recipe(length="4it")))


@pytest.mark.slow
def test_a_compiled_training_is_that_of_the_plain_network():
    compiling.check(lanes.recipe(compile=True), Task(lanes.resnet, lanes.pictures()), Static())
    [job] = lanes.jobs(1)
    plain, compiled = (
        lanes.trained([job], lanes.recipe(compile=how, length="6it"), by=Sequential())[0]
        for how in (False, True)
    )
    for name, value in plain.weights.items():
        torch.testing.assert_close(compiled.weights[name], value, atol=1e-4, rtol=1e-3)
