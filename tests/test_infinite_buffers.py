"""A network may hold infinity on purpose, as in a mask of attention: it has not diverged by it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import small
from lth_runner.allocate import Global
from lth_runner.masking import EarlyBirdStop
from lth_runner.schedule import Iterations
from lth_runner.training import train as engine
from lth_runner.training.engines.cuda_graph_trial import _strayed
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.loop import Loop
from lth_runner.training.pace import Pace


class Masked(nn.Module):
    """A small network whose first units are clamped from below, by nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 8), nn.Linear(8, 3)
        self.norm = nn.BatchNorm1d(8)
        self.register_buffer("least", torch.full((8,), -torch.inf))

    def forward(self, images):
        return self.last(self.norm(self.first(images.flatten(1))).maximum(self.least).relu())


class Forgetful:
    """A keeper that keeps nothing."""

    def load(self):
        return None

    def save(self, checkpoint):
        pass

    snapshot = save


def trained(masking=None):
    job = small.dense_job(small.task(model=Masked))
    job = job if masking is None else replace(job, masking=masking)
    [(_, outcome)] = engine.train(Sequential(), [job], small.recipe(), [Forgetful()], Pace())
    return outcome


def test_a_training_goes_on_to_its_end():
    outcome = trained()
    assert not outcome.diverged
    assert [row["step"] for row in outcome.history] == [10, 20, 30, 40]


@pytest.mark.parametrize("name", ["first.weight", "norm.running_var"])
def test_infinite_weights_and_statistics_are_told(name):
    loop = Loop(small.dense_job(small.task(model=Masked)), small.recipe(), None)
    loop.model.state_dict()[name].view(-1)[0] = torch.inf
    loop.evaluate()
    assert loop.diverged


def test_an_early_bird_is_found():
    outcome = trained(EarlyBirdStop(Global(), Iterations(0.5), window=2, distance=1.0, every="5it"))
    assert outcome.mask.density == 0.5


def test_weights_that_went_elsewhere_are_seen_beside_it():
    start, there, other = (
        {"weight": torch.full((3,), value), "least": torch.full((2,), -torch.inf)}
        for value in (0.0, 1.0, -1.0)
    )
    assert _strayed(start, there, other)
    assert not _strayed(start, there, there)
