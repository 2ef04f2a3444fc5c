"""What a step of training draws is a function of seed and step, whatever it is drawn from."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial

import numpy
import pytest
import torch

import hiding
import small
from lth_runner.masking import Static
from lth_runner.training.engines import cuda_graph_trial, packed
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.train import replay
from lth_runner.values import state as states
from lth_runner.values.global_streams import (
    NUMPY,
    PYTHON,
    TORCH,
    all_seeded,
    drawn_between,
    positions,
)

DRAWING = {
    hiding.FunctionalDropout: TORCH,
    hiding.RecurrentDropout: TORCH,
    hiding.AttentionDropout: TORCH,
    hiding.StochasticDepth: TORCH,
    hiding.NormThatDraws: TORCH,
    hiding.GradientNoise: TORCH,
    hiding.DepthByNumpy: NUMPY,
    hiding.DepthByPython: PYTHON,
}


def job(network):
    return small.dense_job(small.task(model=partial(network, shape=(1, 4, 4), num_classes=3)))


def trained(network, *, disturbed: int) -> str:
    """Weights after some steps, begun where the global streams stand anywhere."""
    with all_seeded(disturbed):
        return states.fingerprint(replay(job(network), small.recipe(), None, 6).weights)


@pytest.mark.parametrize("network", DRAWING)
def test_a_training_is_the_same_whatever_was_drawn_before(network) -> None:
    assert job(network).task.drawn_from == {DRAWING[network]}
    assert trained(network, disturbed=1) == trained(network, disturbed=2)


@pytest.mark.parametrize("network", DRAWING)
def test_a_step_leaves_the_global_streams_where_they_stood(network) -> None:
    before = positions()
    one = job(network)
    together = Sequential().begin([one], small.recipe(), [None])
    together.advance()
    assert not drawn_between(before, positions())


@pytest.mark.parametrize("network", DRAWING)
def test_a_killed_training_draws_on_as_if_nothing_had_been(network) -> None:
    whole = replay(job(network), small.recipe(), None, 6)
    half = replay(job(network), small.recipe(), None, 3)
    with all_seeded(9):
        rest = replay(job(network), small.recipe(), half, 6)
    assert states.fingerprint(rest.weights) == states.fingerprint(whole.weights)


class Noisy(torch.optim.SGD):
    """Langevin dynamics: every step adds noise, from two streams."""

    def step(self, closure=None):
        super().step()
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter += 1e-2 * numpy.random.rand() * torch.randn(parameter.shape)


def noisy(checkpoint, steps: int, *, disturbed: int, seed: int = 0) -> states.State:
    recipe = small.recipe(optimizer=partial(Noisy, lr=0.1, momentum=0.9))
    with all_seeded(disturbed):
        before = positions()
        found = replay(small.dense_job(small.task(seed=seed)), recipe, checkpoint, steps)
        assert not drawn_between(before, positions())
    return found


def test_an_optimizer_that_draws_is_seeded_at_every_step_and_goes_on_as_if_nothing_had_been() -> (
    None
):
    whole = states.fingerprint(noisy(None, 6, disturbed=1).weights)
    half = noisy(None, 3, disturbed=2)
    assert states.fingerprint(noisy(half, 6, disturbed=3).weights) == whole
    plain = replay(small.dense_job(small.task()), small.recipe(), None, 6)
    assert states.fingerprint(plain.weights) != whole


@pytest.mark.parametrize("network", [hiding.DepthByNumpy, hiding.DepthByPython])
def test_what_draws_from_any_stream_is_neither_packed_nor_recorded(network) -> None:
    task, masking, recipe = job(network).task, Static(), small.recipe()
    assert packed.obstacle(task, masking, recipe) == "the network draws random numbers"
    assert cuda_graph_trial.obstacle(task, masking, recipe) == "the network draws random numbers"


def test_the_gradient_of_a_norm_that_draws_in_training_is_a_function_of_the_weights() -> None:
    task = job(hiding.NormThatDraws).task
    one, other = (task.grad(task.init(), 1, batch_statistics=True) for _ in range(2))
    assert states.fingerprint(one) == states.fingerprint(other)


def test_what_draws_nothing_is_not_seeded() -> None:
    assert not job(hiding.Plain).task.is_random
    lone = replace(small.task(), data=small.blobs(num=25).limited(1))
    assert not lone.is_random  # nor a batch norm of one sample an error
    assert not replace(lone, model=small.convolutional).is_random


def test_streams_that_were_drawn_from_are_named_and_put_back() -> None:
    before = positions()
    with all_seeded(3):
        began = positions()
        drawn = torch.rand(()), numpy.random.rand(), random.random()
        assert drawn_between(began, positions()) == {TORCH, NUMPY, PYTHON}
    with all_seeded(3):
        assert drawn == (torch.rand(()), numpy.random.rand(), random.random())
    assert positions() == before
