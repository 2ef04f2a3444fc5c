"""On a CUDA device: what holds of a recorder on a CPU holds of CUDA graphs."""

from __future__ import annotations

import functools

import pytest
import torch

from lanes import (
    ADAM,
    SGD,
    Memory,
    alone,
    jobs,
    lenet,
    prints,
    recipe,
    resnet,
    resnet20,
    trained,
    whole_state,
)
from lth_runner.masking import Static
from lth_runner.training.engines import choose as picking
from lth_runner.training.engines.cuda_graph_trial import tried
from lth_runner.training.engines.graphed import WARM_UP, Graphed
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.pace import Interrupted, Pace
from own_forward import HABITS, Own

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]
CUDA = Graphed()
train = functools.partial(trained, by=CUDA)
on_device = functools.partial(jobs, device="cuda")
exact = functools.partial(recipe, deterministic=True)
KINDS = {
    "resnet, sgd": (resnet, {"length": "60it"}),
    "resnet, adam": (resnet, {"optimizer": ADAM, "warmup": "8it"}),
    "resnet-20 in bf16": (resnet20, {"precision": "bf16", "length": "60it"}),
    "resnet in tf32, clipped": (resnet, {"precision": "tf32", "clip_norm": 0.1}),
    "lenet": (lenet, {"optimizer": ADAM, "decay": "weights"}),
}


@pytest.mark.parametrize(("model", "changes"), KINDS.values(), ids=KINDS.keys())
def test_graphs_train_as_steps_one_by_one_do(model, changes):
    how = exact(**changes)
    found, expected = train(on_device(3, model), how), alone(on_device(3, model), how)
    close = 0.05 if how.precision == "bf16" else 0.01
    for one, other in zip(found, expected, strict=True):
        for row, same in zip(one.history, other.history, strict=True):
            assert row["train_loss"] == pytest.approx(same["train_loss"], rel=close)
            assert row["learning_rate"] == same["learning_rate"]
        if how.precision == "fp32":
            for name, value in one.weights.items():
                torch.testing.assert_close(value, other.weights[name], rtol=1e-2, atol=1e-3)
    assert len(set(prints(found))) == 3


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_neither_warming_up_nor_recording_counts_as_a_step(optimizer):
    [job], how = on_device(1), exact(optimizer=optimizer)
    pair = [by.begin([job], how, [None]) for by in (CUDA, Sequential())]
    with how.arithmetic(torch.device("cuda")):
        for _ in range(WARM_UP + 3):
            for together in pair:
                together.advance()
            one, other = (together.lanes[0].checkpoint() for together in pair)
            assert (one.step, one.num_losses) == (other.step, other.num_losses)
            assert one.loss == pytest.approx(other.loss, rel=1e-3)
            for name, value in one.weights.items():  # counters of batch norm too
                torch.testing.assert_close(value, other.weights[name], rtol=1e-2, atol=1e-3)


def test_a_deterministic_training_killed_and_continued_has_the_same_bits():
    how, keepers, asked = exact(), [Memory(), Memory()], iter([False] * 10 + [True])
    with pytest.raises(Interrupted):
        train(on_device(2), how, keepers=keepers, pace=Pace(stop=lambda: next(asked)))
    assert [keeper.checkpoint.step for keeper in keepers] == [11, 11]
    whole, resumed = train(on_device(2), how), train(on_device(2), how, keepers=keepers)
    assert prints(resumed) == prints(whole)
    assert [outcome.history for outcome in resumed] == [outcome.history for outcome in whole]


def test_a_lane_has_the_same_bits_in_any_company():
    how = exact()
    together = prints(train(on_device(3), how))
    assert together[1:] == prints(train(on_device(3)[1:], how))


def test_a_replay_depends_on_nothing_but_its_inlet():
    how, found = exact(), []
    with how.arithmetic(torch.device("cuda")):
        for poison in (0, 23):
            together = CUDA.begin(on_device(2), how, [None, None])
            for _ in range(WARM_UP + 1):
                together.advance()
            steps = together.advance.__self__
            steps.inputs.send(steps.lanes)
            for lane in steps.lanes:
                lane.step += poison
            steps._recorded()
            for lane in steps.lanes:
                lane.step -= poison
            found.append([whole_state(lane.checkpoint()) for lane in steps.lanes])
    assert found[0] == found[1]


@pytest.mark.parametrize("by", [CUDA, Sequential()], ids=["graphed", "sequential"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_step_waits_for_the_device(by, precision):
    how = recipe(precision=precision, clip_norm=1.0)
    with how.arithmetic(torch.device("cuda")):
        together = by.begin(on_device(1), how, [None])
        for _ in range(WARM_UP + 2):  # recording waits, once
            together.advance()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(8):  # into another epoch: 6 steps are one
                together.advance()
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_a_trial_measures_memory_and_what_fails_it_leaves_the_device_usable():
    [job] = on_device(1)
    trial = tried(job.task, Static(), recipe())
    assert trial.obstacle is None
    assert trial.lane > 4 * sum(p.numel() for p in job.task.module().parameters())
    assert trial.evaluation > 0
    for habit, reason in HABITS.values():
        [own] = on_device(1, functools.partial(Own, habit))
        found = tried(own.task, Static(), recipe())
        assert (found.obstacle is None) if reason is None else reason in found.obstacle
    assert tried(job.task, Static(), recipe()).obstacle is None
    assert picking.choose(recipe(), job.task, Static()).name == "graphed"
    assert train([job], recipe())[0].history[-1]["step"] == 20
