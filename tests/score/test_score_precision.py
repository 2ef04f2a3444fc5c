"""Scores are in single precision whatever the training is in, and a large batch goes in pieces."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import pytest
import torch
from score_cases import images, task
from torch import nn

from lth_runner import score as scores
from lth_runner.allocate import Global
from lth_runner.masking import Static
from lth_runner.problem.task import Task
from lth_runner.schedule import Iterations
from lth_runner.score import derivatives
from lth_runner.search import AtInit
from lth_runner.store.store import Store
from lth_runner.training.engines.packed import Packed
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job, Slot
from lth_runner.training.recipe import Recipe
from lth_runner.training.trainer import Trainer


@dataclass(frozen=True)
class Kept:
    """A score that remembers what it answered."""

    score: scores.Score
    found: list[scores.Scores] = field(default_factory=list)

    def __call__(self, task, weights, mask):
        self.found.append(self.score(task, weights, mask))
        return self.found[-1]


@pytest.mark.parametrize(
    "score",
    [
        scores.Snip(batch_size=12),
        scores.Grasp(samples_per_class=4),
        scores.Synflow(),
        scores.Prospr(batch_size=12),
        scores.Obd(num_batches=1, batch_size=12),
    ],
    ids=lambda score: type(score).__name__,
)
def test_a_score_is_the_same_beside_a_training_in_bf16_and_a_packed_one(score, tmp_path):
    problem, found = task("mlp"), []
    optimizer = functools.partial(torch.optim.SGD, lr=0.1)
    for precision, engine in (("fp32", Sequential()), ("bf16", Sequential()), ("fp32", Packed())):
        kept = Kept(score)
        search = AtInit(kept, Global(), Iterations(0.5))
        recipe = Recipe("4it", 12, optimizer=optimizer, precision=precision)
        trainer = Trainer(recipe, Store(tmp_path / f"{precision}-{engine.name}"), engine)
        past = []
        for number in range(2):
            job = Job(problem, search.propose(problem, past), Static(), Slot(number))
            past += trainer.fit([job])
        again = AtInit(kept, Global(), Iterations(0.5)).propose(problem, past[:1])
        assert again.mask == past[1].mask  # a training in bf16 leaves nothing switched on
        found.append((kept.found, past))
    (single, in_single), *others = found
    for other, in_other in others:
        ended = in_other[0].weights
        assert any(not torch.equal(w, ended[n]) for n, w in in_single[0].weights.items())
        for one, two in zip(single, other, strict=True):
            assert all(value.dtype in (torch.float32, torch.float64) for value in two.values())
            assert all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.mark.parametrize("model", ["mlp", "resnet"])
@pytest.mark.parametrize("second", [False, True])
def test_a_batch_in_pieces_has_the_derivatives_of_the_whole(model, second, monkeypatch):
    problem = Task(task(model).model, images(num=60))
    [batch] = problem.batches(1, 0, 50)
    weights = derivatives.to_device_and_dtype(problem, problem.init(), min_dtype=torch.float64)
    sizes = []

    def derived(*, batch_statistics):
        kept = Task.loss

        def watched(self, weights, piece, *args, **options):
            sizes.append(len(piece[1]))
            return kept(self, weights, piece, *args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Task, "loss", watched)
            if second:
                along = {name: weights[name].sign() for name in problem.prunable}
                return derivatives.hessian_product(
                    problem, weights, along, batch, batch_statistics=batch_statistics
                )
            names = list(problem.prunable)
            return derivatives.gradient(
                problem, weights, names, batch, batch_statistics=batch_statistics
            )

    whole = derived(batch_statistics=False)
    by_batch = derived(batch_statistics=True)
    assert sizes == [50, 50]
    sizes.clear()
    monkeypatch.setattr(derivatives, "MAX_SAMPLES", 16)
    torch.testing.assert_close(derived(batch_statistics=False), whole, rtol=1e-9, atol=1e-12)
    assert sizes == [16, 16, 16, 2]
    sizes.clear()
    torch.testing.assert_close(derived(batch_statistics=True), by_batch, rtol=1e-9, atol=1e-12)
    assert sizes == ([50] if problem.norm else [16, 16, 16, 2])


def test_a_batch_that_a_norm_always_goes_by_is_taken_whole(monkeypatch):
    def untracked():
        norm = nn.BatchNorm2d(4, track_running_stats=False)
        return nn.Sequential(nn.Conv2d(2, 4, 3), norm, nn.Flatten(), nn.Linear(144, 3))

    problem = Task(untracked, images(num=60))
    [batch] = problem.batches(1, 0, 50)
    weights = derivatives.to_device_and_dtype(problem, problem.init())
    found = []
    for most in (64, 16):
        monkeypatch.setattr(derivatives, "MAX_SAMPLES", most)
        names = list(problem.prunable)
        found.append(derivatives.gradient(problem, weights, names, batch, batch_statistics=False))
    torch.testing.assert_close(found[1], found[0])
