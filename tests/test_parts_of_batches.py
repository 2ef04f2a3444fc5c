"""Batches taken in parts, and losses scaled for half precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import small
from command import SMALL, lth_run, no_training
from lanes import Memory, jobs, recipe, trained, whole_state
from lth_runner.allocate import Global
from lth_runner.masking import Continuous, Static, StraightThrough
from lth_runner.problem import NextToken
from lth_runner.problem.data import Data
from lth_runner.problem.evaluated import values_kept_of_a_token
from lth_runner.problem.models import masked_transformer
from lth_runner.problem.task import Task
from lth_runner.schedule import Iterations
from lth_runner.search.ticket import Ticket
from lth_runner.store.checkpoint_file import load_checkpoint, save_checkpoint
from lth_runner.training.engines.packed import obstacle
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.loop import Loop
from lth_runner.training.loss_scale import FIRST, PATIENCE, LossScale
from lth_runner.training.pace import Interrupted, Pace
from lth_runner.training.trial import try_a_step
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.ignored import IGNORED
from lth_runner.values.seeds import stream


def gradients(loop: Loop) -> dict[str, torch.Tensor]:
    loop.backward()
    return {n: p.grad.clone() for n, p in loop.model.named_parameters() if p.grad is not None}


def masked_job() -> Job:
    """Sequences of which each has another number of targets, some none."""
    rng = stream(0, "masked")
    tokens = torch.randint(0, 9, (40, 6), generator=rng)
    targets = torch.where(torch.rand(40, 6, generator=rng) < 0.2, tokens, IGNORED)
    split = {"input_ids": tokens}, targets
    data = Data.from_tensors(split, split, split, num_classes=9)
    task = Task(model, data, objective=NextToken())
    return Job(task, Ticket(task.dense(), task.init()), Static())


def model() -> nn.Module:
    return masked_transformer(vocabulary=9, length=6, width=8, depth=1, heads=2)


def test_a_gradient_that_keeps_too_much_is_taken_in_parts(monkeypatch) -> None:
    job = masked_job()
    batch = job.task.data.sample(13, 0)
    whole = job.task.gradient(job.ticket.weights, batch)
    seen = []
    loss = Task.loss

    def watched(task: Task, weights: Any, part: Any, *rest: Any, **named: Any) -> torch.Tensor:
        seen.append(len(part[1]))
        return loss(task, weights, part, *rest, **named)

    monkeypatch.setattr(Task, "loss", watched)
    kept = values_kept_of_a_token(job.task.module())
    monkeypatch.setattr("lth_runner.problem.evaluated.KEPT_VALUES", 4 * 6 * kept)
    parts = job.task.gradient(job.ticket.weights, batch)
    assert seen == [4, 4, 4, 1]
    assert parts.keys() == whole.keys()
    for name, value in whole.items():
        assert torch.allclose(parts[name], value, atol=1e-6), name


@pytest.mark.parametrize("size", [1, 3, 10])
def test_parts_of_a_batch_add_up_to_its_gradient_and_loss(size: int) -> None:
    job = masked_job()
    whole = Loop(job, recipe(length="2it"), None)
    parts = Loop(job, recipe(length="2it", micro_batch=size), None)
    counts = [job.task.objective.weight(part) for part in whole.batch()[1].split(3)]
    assert len(set(counts)) > 1  # or a mean of means would do
    expected, found = gradients(whole), gradients(parts)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-6), name
    assert parts.loss.item() == pytest.approx(whole.loss.item(), rel=1e-5)


def test_a_batch_in_parts_is_refused_by_batch_norm_and_not_packed() -> None:
    [job] = jobs(1)
    with pytest.raises(UserError, match=r"train\.micro_batch=5.*BatchNorm2d.*model\.norm"):
        try_a_step(job.task, recipe(micro_batch=5))
    with pytest.raises(UserError, match=r"micro_batch=11.*from 1 to train\.batch_size=10"):
        recipe(micro_batch=11)
    with pytest.raises(UserError, match=r"micro_batch=2\.5: give a whole number"):
        recipe(micro_batch=2.5)
    plain = small.task()
    assert obstacle(plain, Static(), recipe()) is None
    assert "in parts" in str(obstacle(plain, Static(), recipe(micro_batch=5)))
    assert "scale" in str(obstacle(plain, Static(), recipe(precision="fp16")))
    with pytest.raises(UserError, match="it is for model=hf"):
        try_a_step(plain, recipe(recompute=True))


def test_a_scaled_training_goes_on_with_the_same_bits_where_it_was_killed(tmp_path: Path) -> None:
    job, how = small.dense_job(small.task()), recipe(precision="fp16", length="9it")
    [whole] = trained([job], how, by=Sequential())
    keeper, asked = Memory(), []

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 5

    with pytest.raises(Interrupted):
        trained([job], how, by=Sequential(), keepers=[keeper], pace=Pace(stop))
    save_checkpoint(tmp_path / "kept.safetensors", keeper.load())
    kept = load_checkpoint(tmp_path / "kept.safetensors")
    assert kept.scale.keys() == {"factor", "streak"}
    assert whole_state(kept) == whole_state(keeper.load())
    other = replace(kept, scale=kept.scale | {"factor": torch.tensor(2.0**99, dtype=torch.float64)})
    [resumed] = trained([job], how, by=Sequential(), keepers=[Memory(kept)])
    [astray] = trained([job], how, by=Sequential(), keepers=[Memory(other)])
    assert states.fingerprint(resumed.weights) == states.fingerprint(whole.weights)
    assert states.fingerprint(astray.weights) != states.fingerprint(whole.weights)


def test_a_step_whose_gradients_overflow_is_left_out_and_the_factor_halved() -> None:
    loop = Loop(small.dense_job(small.task()), recipe(precision="fp16"), None)
    before, scale = loop.weights(), loop.scale
    assert scale is not None
    loop.backward()
    next(loop.model.parameters()).grad.view(-1)[0] = torch.inf
    loop.update()
    assert loop.step == 1
    assert states.fingerprint(loop.weights()) == states.fingerprint(before)
    assert float(scale.state_dict()["factor"]) == FIRST / 2
    loop.backward()
    loop.update()
    assert states.fingerprint(loop.weights()) != states.fingerprint(before)
    assert int(scale.state_dict()["streak"]) == 1


def test_a_step_that_is_left_out_loses_no_weight_that_a_mask_may_take_back() -> None:
    task = small.task()
    masking = StraightThrough(Global(), Iterations(0.5), end=0.0, every="1it")
    loop = Loop(replace(small.dense_job(task), masking=masking), recipe(precision="fp16"), None)
    for overflows in (False, False, True):
        before = {n: v for n, v in loop.live.state_dict().items() if n.startswith("raw.")}
        loop.backward()
        if overflows:
            next(loop.model.parameters()).grad.view(-1)[0] = torch.inf
        loop.update()
    assert loop.live.mask().density == 0.5
    after = loop.live.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_mask_that_counts_its_steps_counts_one_that_is_left_out() -> None:
    job = replace(small.dense_job(small.task()), masking=Continuous())
    loop = Loop(job, recipe(precision="fp16"), None)
    loop.backward()
    next(loop.model.parameters()).grad.view(-1)[0] = torch.inf
    loop.update()
    assert int(loop.live.state_dict()["begin"]) == 0


def test_the_factor_doubles_after_many_steps_and_gradients_come_back_to_size() -> None:
    weight = nn.Parameter(torch.ones(3))
    scale = LossScale()
    scale.load_state_dict(scale.state_dict() | {"streak": torch.tensor(PATIENCE - 1)})
    scale((2 * weight).sum()).backward()
    assert scale.unscale([weight, nn.Parameter(torch.ones(1))])
    assert weight.grad.tolist() == [2.0] * 3
    assert float(scale.state_dict()["factor"]) == 2 * FIRST
    assert int(scale.state_dict()["streak"]) == 0


def test_half_precision_by_scale_is_refused_without_cuda(tmp_path: Path) -> None:
    words: list[Any] = [*SMALL, "train.precision=fp16", f"paths.outputs={tmp_path}"]
    with no_training():
        said = lth_run(*words)
    assert said.status == 2
    assert "fp16 needs a CUDA device" in said.err
    assert "accepted here: fp32, bf16" in said.err
