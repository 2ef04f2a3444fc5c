"""A step recorded once stands for all steps: it leaves what training one by one leaves."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from torch import nn

from lanes import (
    ADAM,
    ADAMW,
    SGD,
    Memory,
    alone,
    jobs,
    lenet,
    pictures,
    prints,
    recipe,
    resnet,
    resnet20,
    trained,
    whole_state,
)
from lth_runner import masking
from lth_runner.allocate import Global, NOfM
from lth_runner.masking import Gradual, Rigl, ScalePenalty, SrSte, Static
from lth_runner.problem.task import Task
from lth_runner.schedule import Geometric, Iterations
from lth_runner.search.ticket import Start, Ticket
from lth_runner.store.checkpoint_file import load_checkpoint, save_checkpoint
from lth_runner.store.store import Store
from lth_runner.training import train as engine
from lth_runner.training.engines import choose as picking
from lth_runner.training.engines.cuda_graph_trial import Trial, obstacle, tried
from lth_runner.training.engines.graphed import WARM_UP, Graphed
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.learning_rate import Cosine
from lth_runner.training.pace import Interrupted, Pace
from lth_runner.training.recipe import Recipe
from lth_runner.training.trainer import Trainer
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from own_forward import HABITS, Own
from recorder import recorded
from second_proofs import mostly_slow_by_name

CPU = Graphed(capture=recorded)
train = functools.partial(trained, by=CPU)


KINDS = {
    "resnet, sgd": (resnet, {"length": "60it"}),
    "resnet-20, sgd in bf16": (resnet20, {"precision": "bf16"}),
    "resnet, adam": (resnet, {"optimizer": ADAM, "warmup": "8it"}),
    "resnet, no momentum": (resnet, {"optimizer": functools.partial(SGD, momentum=0.0)}),
    "resnet, clipped": (resnet, {"clip_norm": 0.1, "label_smoothing": 0.1}),
    "lenet, adamw": (lenet, {"optimizer": ADAMW, "decay": "weights", "length": "60it"}),
}


@pytest.mark.parametrize(
    ("model", "changes"),
    mostly_slow_by_name(KINDS, {"resnet, sgd", "resnet, clipped", "lenet, adamw"}),
)
def test_recorded_steps_leave_what_steps_one_by_one_leave(model, changes):
    """Several lanes, augmentation, changing learning rates, evaluations in between: every bit."""
    how = recipe(**changes)
    found, expected = train(jobs(2, model), how), alone(jobs(2, model), how)
    assert prints(found) == prints(expected)
    assert [outcome.history for outcome in found] == [outcome.history for outcome in expected]
    assert len(set(prints(found))) == 2
    assert len({row["learning_rate"] for row in found[0].history}) > 1


def test_rates_of_other_values_are_rounded_to_float32():
    chosen = jobs(1)
    for optimizer in (SGD, ADAM):
        how = recipe(optimizer=optimizer, learning_rate=Cosine(), length="12it")
        [one], [other] = train(chosen, how), alone(chosen, how)
        assert [row["learning_rate"] for row in one.history] == [
            row["learning_rate"] for row in other.history
        ]
        for name, value in one.weights.items():
            torch.testing.assert_close(value, other.weights[name], rtol=1e-4, atol=1e-5)


MOVING = [SrSte(NOfM(), Iterations(0.5), decay=0.01), ScalePenalty(0.01)]


@pytest.mark.parametrize("rule", MOVING, ids=["SrSte", "ScalePenalty"])
def test_masks_that_do_the_same_in_every_step_can_be_recorded(rule):
    chosen, how = jobs(2, masking=rule, full=True), recipe()
    found, expected = train(chosen, how), alone(chosen, how)
    assert prints(found) == prints(expected)
    assert [outcome.mask for outcome in found] == [outcome.mask for outcome in expected]
    assert prints(found) != prints(train(jobs(2, full=True), how))  # the masking had its part


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_neither_warming_up_nor_recording_leaves_a_trace(optimizer):
    """The whole state is that of a training one by one after each of the first steps."""
    [job], how = jobs(1), recipe(optimizer=optimizer)
    pair = [by.begin([job], how, [None]) for by in (CPU, Sequential())]
    for _ in range(WARM_UP + 3):
        for together in pair:
            together.advance()
        one, other = (whole_state(together.lanes[0].checkpoint()) for together in pair)
        assert one == other


@pytest.mark.slow
def test_an_evaluation_between_steps_disturbs_nothing():
    chosen = jobs(2)
    every, last = (train(chosen, recipe(eval_every=period)) for period in ("1it", "20it"))
    assert prints(every) == prints(last)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_a_training_killed_and_continued_is_the_uninterrupted_one(tmp_path, optimizer):
    how = recipe(optimizer=optimizer)
    keepers, asked = [Memory(), Memory()], iter([False] * 10 + [True])
    with pytest.raises(Interrupted):
        train(jobs(2), how, keepers=keepers, pace=Pace(stop=lambda: next(asked)))
    for index, keeper in enumerate(keepers):
        save_checkpoint(tmp_path / str(index), keeper.checkpoint)
        keeper.checkpoint = load_checkpoint(tmp_path / str(index))
        assert keeper.checkpoint.step == 11
    whole, resumed = train(jobs(2), how), train(jobs(2), how, keepers=keepers)
    assert prints(resumed) == prints(whole)
    assert [outcome.history for outcome in resumed] == [outcome.history for outcome in whole]


def test_a_ticket_with_an_optimizer_state_goes_on_as_the_dense_training():
    [dense], how = jobs(1, full=True), recipe(optimizer=ADAM)
    early = engine.replay(dense, how, None, 9, engine=CPU)
    start = Start(step=9, optimizer=early.optimizer)
    again = replace(dense, ticket=Ticket(dense.task.dense(), early.weights, start))
    assert prints(train([again], how)) == prints(train([dense], how))


def begun(num: int, how: Recipe):
    """Lanes that have gone on from a record, and all that they consist of on the device."""
    together = CPU.begin(jobs(num), how, [None] * num)
    for _ in range(WARM_UP + 1):
        together.advance()
    steps = together.advance.__self__
    held = [tensor for lane in together.lanes for tensor in (
        *lane.model.state_dict().values(), lane.loss,
        *(value for state in lane.optimizer.state.values() for value in state.values()),
    )]  # fmt: skip
    return steps, held


def test_a_recorded_step_depends_on_nothing_but_its_inlet(monkeypatch):
    steps, held = begun(2, recipe())
    before = [tensor.clone() for tensor in held]

    def after(poison: bool) -> list[torch.Tensor]:
        for tensor, value in zip(held, before, strict=True):
            tensor.data.copy_(value)
        if poison:
            for lane in steps.lanes:
                lane.step += 23
                lane.stream, lane.recipe = None, None
        steps._recorded()
        return [tensor.clone() for tensor in held]

    clean, poisoned = after(poison=False), after(poison=True)
    assert all(map(torch.equal, clean, poisoned))
    assert not all(map(torch.equal, before, clean))
    steps.inputs._memory.copy_(steps.inputs._memory.flip(0) * 0)  # other samples, rates of zero
    assert not all(map(torch.equal, clean, after(poison=False)))


def test_the_inlet_holds_each_lanes_own_step():
    how = recipe(warmup="8it", decay="weights")
    steps, _ = begun(2, how)
    steps.inputs.send(steps.lanes)
    for lane, draws, rates in zip(steps.lanes, steps.inputs.draws, steps.inputs.rates, strict=True):
        expected = lane.job.task.data.stream(10, lane.job.task.seed)[lane.step]
        assert all(map(torch.equal, lane.stream.take(*draws), expected))
        assert [rate.item() for rate in rates] == [2**-3 * 5 / 8] * 2
    assert not torch.equal(steps.inputs.draws[0][0], steps.inputs.draws[1][0])


def test_a_diverging_lane_leaves_the_others_as_they_are():
    chosen = jobs(3, lenet)
    weights = {name: value * 1e30 for name, value in chosen[1].ticket.weights.items()}
    bad = replace(chosen[1], ticket=replace(chosen[1].ticket, weights=weights))
    outcomes = train([chosen[0], bad, chosen[2]], recipe())
    assert [outcome.diverged for outcome in outcomes] == [False, True, False]
    assert prints(outcomes)[::2] == prints(train(chosen, recipe()))[::2]


def test_where_a_record_does_not_fit_into_memory_halves_are_trained():
    """The error that comes out is the recording's, with that of the memory behind it."""
    sizes = []

    def tight(work, device):
        sizes.append(None)
        if len(sizes) == 1:
            try:
                raise torch.OutOfMemoryError
            finally:
                raise RuntimeError("the recording was broken off")
        return recorded(work, device)

    how = recipe(length="10it", eval_every="10it")
    found = train(jobs(3), how, by=Graphed(capture=tight))
    assert prints(found) == prints(alone(jobs(3), how))
    assert len(sizes) == 3


def test_another_error_while_recording_comes_out():
    def broken(work, device):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        train(jobs(2), recipe(), by=Graphed(capture=broken))


def test_trainings_with_as_many_steps_to_go_are_picked_together():
    first, second, third, fourth = jobs(4)
    one_data = [replace(job, task=first.task.with_seed(job.task.seed)) for job in (second, third)]
    late = replace(one_data[0], ticket=replace(second.ticket, start=Start(step=5)))
    assert Graphed().pick([first, late, one_data[1], fourth]) == [0, 2, 3]
    assert Graphed(2).pick([first, *one_data]) == [0, 1]


def test_the_store_keeps_an_engines_trainings_apart(tmp_path):
    chosen, how = jobs(2), recipe(length="10it", batch_size=5)
    keys = []
    for by in (CPU, Sequential()):
        done = list(Trainer(how, Store(tmp_path), by).fit(chosen))
        assert not any(one.reused for one in done)
        keys.append({one.key for one in done})
        assert states.fingerprint(done[0].at(7)) == states.fingerprint(
            engine.replay(chosen[0], how, None, 7).weights
        )
    assert not keys[0] & keys[1]


@pytest.mark.parametrize(("habit", "reason"), HABITS.values(), ids=HABITS.keys())
def test_a_trial_finds_what_a_forward_pass_should_not_do(habit, reason):
    [job] = jobs(1, functools.partial(Own, habit))
    found = tried(job.task, Static(), recipe(), recorded).obstacle
    assert (found is None) if reason is None else reason in found


def test_a_trial_of_few_steps_or_of_a_diverging_network_finds_nothing_wrong():
    [job] = jobs(1)
    assert tried(job.task, Static(), recipe(length="2it"), recorded) == Trial()
    wild = functools.partial(SGD, lr=1e30)
    assert tried(job.task, Static(), recipe(optimizer=wild), recorded).obstacle is None


def test_a_trial_notices_a_record_that_is_not_what_was_recorded():
    def idle(work, device):
        return lambda: None

    [job] = jobs(1)
    assert "something else" in tried(job.task, Static(), recipe(), idle).obstacle


def test_parts_that_cannot_be_recorded_are_named():
    def why(model=resnet, rule=Static(), **changes):  # noqa: B008
        return obstacle(Task(model, pictures()), rule, recipe(**changes))

    def with_part(part):
        return lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 9), part, nn.Linear(9, 3))

    assert why() is None
    assert why(rule=SrSte(NOfM(), Iterations(0.5))) is None
    assert "Gradual" in why(rule=Gradual(Global(), Geometric(0.8, rounds=2)))
    assert "Rigl" in why(rule=Rigl())
    assert "random" in why(with_part(nn.Dropout()))
    assert "BatchNorm1d" in why(with_part(nn.BatchNorm1d(9, momentum=None)))
    assert "SGD may ask" in why(optimizer=functools.partial(SGD, fused=False))
    assert "RMSprop" in why(optimizer=functools.partial(torch.optim.RMSprop, lr=0.1))


def test_every_masking_says_whether_its_steps_can_be_recorded():
    parts = {n: p for n, p in vars(masking).items() if hasattr(p, "install") and n[0].isupper()}
    said = {name: part.captures for name, part in parts.items() if name != "Masking"}
    assert len(said) > 12
    assert {name for name, can in said.items() if can} == {"Static", "ScalePenalty", "SrSte"}


def test_memory_bounds_the_number_of_lanes():
    trial = Trial(lane=100, evaluation=50)
    assert trial.num_lanes(recipe(), 0) == 1
    assert trial.num_lanes(recipe(), 449) == 3
    assert trial.num_lanes(recipe(max_packed=5), 1e9) == 5


def test_graphs_asked_for_without_a_cuda_device_are_refused():
    [job] = jobs(1)
    with pytest.raises(UserError, match="need a CUDA device, and this run has device=cpu"):
        picking.choose(recipe(engine="graphed"), job.task, Static())
    assert picking.choose(recipe(), job.task, Static()).name == "sequential"


def test_on_cuda_what_cannot_be_packed_is_recorded_unless_a_trial_fails(monkeypatch):
    """The choice alone: what packing and the trial say is given."""
    task = replace(jobs(1)[0].task, device="cuda")

    def choice(packing: str | None, trial: Trial, name: str = "auto"):
        monkeypatch.setattr(picking, "obstacle", lambda *parts: packing)
        monkeypatch.setattr(picking, "tried", lambda *parts: trial)
        monkeypatch.setattr(picking, "lanes_that_fit", lambda *parts: 16)
        monkeypatch.setattr(picking, "free_memory", lambda device: 1000.0)
        found = picking.choose(recipe(engine=name), task, Static())
        engine, told = found.engine(recipe(), task)
        assert engine.name == found.name
        return found.name, getattr(engine, "max_packed", 1), told

    fine, bad = Trial(lane=100, evaluation=300), Trial("it dreams")
    assert choice(None, bad)[0] == "packed"
    assert choice("a Conv2d", fine)[:2] == ("graphed", 5)
    told = choice("a Conv2d", fine)[2]
    assert told.startswith("up to 5 at once: what 0.0")
    assert told.endswith("not packed: a Conv2d; each step one CUDA graph")
    assert choice("a Conv2d", bad)[0] == "sequential"
    assert choice("a Conv2d", bad)[2] == "not packed: a Conv2d; not graphed: it dreams"
    assert choice(None, fine, "graphed")[:2] == ("graphed", 5)
    with pytest.raises(UserError, match="cannot be graphed: it dreams; use"):
        choice(None, bad, "graphed")

    monkeypatch.setattr(picking, "_held_by_others", lambda device: held)
    full, held = Trial("out of memory", is_out_of_memory=True), 0.02
    assert choice("a Conv2d", full)[2] == "not packed: a Conv2d; not graphed: out of memory"
    held = 0.5
    with pytest.raises(UserError, match=r"50 % of the memory of cuda is held by other.*sequential"):
        choice("a Conv2d", full)


def test_out_of_memory_in_a_trial_is_told_as_that(monkeypatch):
    def short(work, device):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    [job] = jobs(1)
    trial = tried(job.task, Static(), recipe(), short)
    assert trial.is_out_of_memory
    assert trial.obstacle is not None
    assert trial.obstacle.startswith("out of memory")
    monkeypatch.setattr(Sequential, "begin", lambda *parts: short(None, None))
    with pytest.raises(
        UserError, match=r"a single training does not fit .* lower train\.batch_siz"
    ):
        tried(job.task, Static(), recipe())


def test_kernels_are_tried_out_on_cuda_alone_and_not_where_bits_must_repeat():
    before = torch.backends.cudnn.benchmark
    for device, deterministic, expected in (
        ("cpu", False, False), ("cuda", False, True), ("cuda", True, False),
    ):  # fmt: skip
        with recipe(deterministic=deterministic).arithmetic(torch.device(device)):
            assert torch.backends.cudnn.benchmark is expected
    assert torch.backends.cudnn.benchmark is before
