"""The optimizer keeps state where the mask is, and trains what it trains otherwise."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch

import small
from fake_past import small_task
from lth_runner.allocate import Global
from lth_runner.masking import Compact, Static
from lth_runner.problem import Delta
from lth_runner.problem.task import Task
from lth_runner.score import Random
from lth_runner.search.ticket import Ticket
from lth_runner.training import train as engine
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.values.mask import Mask

ADAMW = functools.partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)
SGD = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-2)


def problem(*, deltas: bool) -> Task:
    task = small_task()
    coordinates = Delta(only=["hidden.weight"], whole=["output"]) if deltas else None
    return Task(task.model, task.data, coordinates=coordinates)


def job(task: Task, masking: object, density: float = 0.2) -> Job:
    scores = Random()(task, {}, task.dense())
    mask: Mask = Global()(scores, density, task.dense(), 0)
    if task.biases:  # a part of them, away from 0, where decay shows
        mask = Mask({**mask, "output.bias": torch.tensor([True, False, True])})
    weights = {name: value + 0.5 * (value.ndim == 1) for name, value in task.init().items()}
    return Job(task, Ticket(mask, weights), masking)  # type: ignore[arg-type]


@pytest.mark.parametrize("decay", ["all", "weights"])
@pytest.mark.parametrize("optimizer", [ADAMW, SGD])
@pytest.mark.parametrize("kind", ["weights", "deltas", "biases"])
def test_it_trains_what_the_plain_masking_trains(kind: str, optimizer, decay: str) -> None:
    task = replace(problem(deltas=kind == "deltas"), biases=kind == "biases")
    recipe = small.recipe(batch_size=10, optimizer=optimizer, clip_norm=1.0, decay=decay)
    one, other = (
        engine.replay(job(task, masking), recipe, None, 12).weights
        for masking in (Compact(), Static())
    )
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-5, atol=1e-6)


def test_its_moments_are_of_the_kept_weights_and_a_continued_training_ends_the_same() -> None:
    task = problem(deltas=True)
    recipe = small.recipe(batch_size=10, optimizer=ADAMW)
    together = Sequential().begin([job(task, Compact())], recipe, [None])
    for _ in range(6):
        together.advance()
    [loop] = together.lanes
    moments = [value for value in loop.checkpoint().optimizer.values() if value.ndim == 2]
    assert [value.shape[1] for value in moments if len(value) == 1] == [11, 11]  # of 54
    half = loop.checkpoint()
    whole = engine.replay(job(task, Compact()), recipe, None, 12)
    again = engine.replay(job(task, Compact()), recipe, half, 12)
    assert all(torch.equal(value, again.weights[name]) for name, value in whole.weights.items())
