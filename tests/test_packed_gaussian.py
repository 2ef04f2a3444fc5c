"""Replicates of Bayesian perceptrons trained as one give what each gives alone."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from torch import nn

import small
from lanes import Memory
from lth_runner.allocate import Global
from lth_runner.masking import Gradual, Static
from lth_runner.problem import Gaussian
from lth_runner.problem.gaussian import is_rho, mu_of
from lth_runner.problem.task import Task
from lth_runner.schedule import Iterations
from lth_runner.search.ticket import Ticket
from lth_runner.training import train as engine
from lth_runner.training.engines.choose import choose
from lth_runner.training.engines.packed import Packed, obstacle
from lth_runner.training.engines.packed_layers import slice_of
from lth_runner.training.engines.packed_loop import Pack
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.loop import Loop
from lth_runner.training.pace import Pace
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream

ADAM = functools.partial(torch.optim.Adam, lr=1e-2, fused=True)
RECIPES = {
    "adam": {"optimizer": ADAM},
    "sgd": {},
    "clipped": {"clip_norm": 0.1, "decay": "weights", "label_smoothing": 0.1},
}
COORDINATES = Gaussian(initial_std=0.3, temperature=2.0)


def jobs(masking: object = None, num: int = 3) -> list[Job]:
    first, found = replace(small.task(), coordinates=COORDINATES), []
    for seed in range(num):
        problem = first.with_seed(seed)
        kept = {
            name: torch.rand(full.shape, generator=stream(seed, name)) < 0.5
            for name, full in problem.dense().items()
        }
        ticket = Ticket(Mask(kept), problem.init())
        found.append(Job(problem, ticket, masking or Static()))  # type: ignore[arg-type]
    return found


def train(chosen: list[Job], recipe, by) -> list:
    outcomes = dict(engine.train(by, chosen, recipe, [Memory() for _ in chosen], Pace()))
    return [outcomes[index] for index in range(len(chosen))]


@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES.keys())
@pytest.mark.parametrize("moving", [False, True])
def test_lanes_end_with_the_weights_and_figures_that_each_has_alone(changes, moving: bool) -> None:
    recipe = small.recipe(length="24it", **changes)
    masking = Gradual(Global(), Iterations(sparsity=0.8, iterations=4)) if moving else Static()
    chosen = jobs(masking)
    packed = train(chosen, recipe, Packed())
    for job, found in zip(chosen, packed, strict=True):
        [wanted] = train([job], recipe, Sequential())
        assert found.mask == wanted.mask
        for name, value in wanted.weights.items():
            torch.testing.assert_close(found.weights[name], value, rtol=1e-3, atol=1e-5)
        for name, kept in found.mask.items():
            for of in (n for n in found.weights if mu_of(n) == name):
                assert not found.weights[of][~kept].any()
        for one, other in zip(found.history, wanted.history, strict=True):
            assert one == pytest.approx(other, rel=1e-3, abs=1e-5)


def test_gradients_of_means_and_widths_are_those_of_each_network_alone() -> None:
    chosen, recipe = jobs(), small.recipe()
    pack = Pack(chosen, recipe, [None] * len(chosen), sparse=None)
    pack.backward()
    slabs = dict(pack._network.named_parameters())
    for index, job in enumerate(chosen):
        loop = Loop(job, recipe, None)
        loop.backward()
        for name, own in loop.model.named_parameters():
            gradient = slice_of(slabs[name].grad, index, own)
            torch.testing.assert_close(gradient, own.grad, rtol=1e-4, atol=1e-6)
            if is_rho(name):
                assert not gradient[~job.ticket.mask[mu_of(name)]].any()
                assert gradient.any()


def test_lanes_go_on_from_a_checkpoint_to_the_same_bits() -> None:
    recipe = small.recipe(optimizer=ADAM)
    whole = Pack(jobs(), recipe, [None] * 3, sparse=None)
    for _ in range(4):
        whole.advance()
    kept = [lane.checkpoint() for lane in whole.lanes]
    resumed = Pack(jobs()[1:], recipe, kept[1:], sparse=None)  # and whoever it is packed with
    for pack in (whole, resumed):
        for _ in range(4):
            pack.advance()
    for lane, other in zip(whole.lanes[1:], resumed.lanes, strict=True):
        ours, theirs = lane.weights(), other.weights()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def plain(*more: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), *more, nn.Linear(8, 3))


class Twice(nn.Linear):
    def forward(self, inputs):
        return 2 * super().forward(inputs)


def twice() -> nn.Module:
    return plain(Twice(8, 8))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"coordinates": Gaussian(local_reparameterisation=False)}, "weights are drawn, and not"),
        ({"coordinates": Gaussian(num_samples=2)}, "a step has several draws"),
        ({"model": functools.partial(plain, nn.Dropout(0.1))}, "it has a Dropout layer"),
        ({"model": twice}, "is parametrised"),
        ({"model": small.convolutional}, "is parametrised"),
    ],
)
def test_what_cannot_be_packed_says_why_and_goes_one_by_one(changes, why) -> None:
    task = Task(**{"model": plain, "data": small.blobs(), "coordinates": Gaussian(), **changes})
    found = obstacle(task, Static(), small.recipe())
    assert (found is None) == (why is None)
    assert why is None or why in found
    choice = choose(small.recipe(), task, Static())
    assert choice.name == ("packed" if why is None else "sequential")
