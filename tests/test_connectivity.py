"""Error along the line between networks, and the trainings it is measured with."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

import small
from command import SMALL, parts_of
from lth_runner.cli.conf_dir import conf_dir
from lth_runner.cli.launch import describe
from lth_runner.masking import Static
from lth_runner.probe import Instability, InstabilityByStep, StartEnd
from lth_runner.probe.connectivity import barrier, between, children, line
from lth_runner.problem import models
from lth_runner.problem.batch_norm_statistics import recompute
from lth_runner.problem.data import Data
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Trained
from lth_runner.training.job import Job
from lth_runner.training.pace import Pace
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import derive, stream
from lth_runner.values.state import State

TASK = small.task()
NORMED = small.task(model=small.convolutional)
FEW = {"num_points": 5, "num_samples": 48}


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    [trained] = small.trainer(tmp_path_factory.mktemp("store")).fit([small.dense_job(TASK)])
    return trained


def trained_at(folder: Path, task: Task = TASK, **changes: object) -> Trained:
    [trained] = small.trainer(folder, **changes).fit([small.dense_job(task)])
    return trained


def num_stored(folder: Path) -> int:
    return len(list((folder / "entries").iterdir()))


# --- the line


def test_a_barrier_is_counted_from_the_mean_of_the_ends() -> None:
    assert barrier([0.1, 0.5, 0.3]) == pytest.approx(0.3)
    assert barrier([0.1, 0.2, 0.3]) == pytest.approx(0.1)
    assert barrier([0.25, 0.0, 0.25]) == 0.0


def test_points_between_are_exact_at_the_ends_and_leave_counters_alone() -> None:
    one, other = NORMED.init(1), NORMED.init(2)
    other = {n: v + 7 if not v.is_floating_point() else v for n, v in other.items()}
    assert all(between(one, other, 0.0)[n].equal(one[n]) for n in one)
    whole, half = between(one, other, 1.0), between(one, other, 0.5)
    for name in one:
        if one[name].is_floating_point():
            assert whole[name].equal(other[name])
            assert half[name].allclose((one[name] + other[name]) / 2)
        else:
            assert whole[name].equal(one[name])
            assert whole[name].dtype == torch.int64
    assert "1.running_var" in half
    assert "1.weight" in half


def test_the_line_through_zero_guesses_the_first_class() -> None:
    weights = {n: v if v.ndim > 1 else v + 0.1 for n, v in TASK.init().items()}
    errors = line(TASK, weights, {n: -v for n, v in weights.items()}, 3, 48)["test"]
    assert errors[1] == pytest.approx(2 / 3)  # equal logits; three classes, equally many
    for index, sign in ((0, 1), (2, -1)):
        ended = TASK.evaluate({n: sign * v for n, v in weights.items()}, "test")
        assert errors[index] == pytest.approx(1 - ended["accuracy"])


def test_the_same_network_twice_has_a_flat_line(dense: Trained) -> None:
    found = line(TASK, dense.weights, dense.weights, 30, 48)
    assert set(found) == {"test", "train"}
    for errors in found.values():
        assert len(errors) == 30
        assert len(set(errors)) == 1
        assert barrier(errors) == 0.0


def garbled(weights: State) -> State:
    return weights | {
        name: value + 5 if name.endswith("mean") else 30 * value
        for name, value in weights.items()
        if name.endswith(("running_mean", "running_var"))
    }


def test_recomputed_statistics_do_not_depend_on_the_stored_ones(tmp_path: Path) -> None:
    weights = trained_at(tmp_path, NORMED).weights
    plain = line(NORMED, weights, weights, 2, 60)
    spoilt = line(NORMED, garbled(weights), garbled(weights), 2, 60)
    assert spoilt["test_recomputed"] == plain["test_recomputed"]
    assert spoilt["train_recomputed"] == plain["train_recomputed"]
    assert spoilt["test"] != plain["test"]


def test_recomputed_statistics_are_those_of_the_samples() -> None:
    module = NORMED.module().eval()
    states.write(module, garbled(NORMED.init()))
    inputs, labels = next(NORMED.data.batches("train", 60))
    with torch.no_grad():
        recompute(module, [(inputs, labels)])
        first = module[0](inputs)
    assert module[1].running_mean.allclose(first.mean(dim=(0, 2, 3)), atol=1e-6)
    assert module[1].running_var.allclose(first.var(dim=(0, 2, 3)), atol=1e-5)
    assert (module[1].momentum, module[1].training) == (0.1, False)


def test_the_line_leaves_torchs_streams_and_the_weights_alone(dense: Trained) -> None:
    before, key = torch.get_rng_state(), states.fingerprint(dense.weights)
    line(TASK, dense.weights, dense.ticket.weights, 3, 48)
    assert torch.get_rng_state().equal(before)
    assert states.fingerprint(dense.weights) == key


# --- children


def test_children_differ_from_the_ticket_in_their_data_order_alone(tmp_path: Path) -> None:
    trainer = small.trainer(tmp_path)
    search, past = small.imp(rounds=1, step="4it", optimizer="restore"), []
    while (ticket := search.propose(TASK, past)) is not None:
        past += trainer.fit([Job(TASK, ticket, Static())])
    asked = []

    class Watched:
        ticket = past[1].ticket

        def sibling(self, ticket, arm):
            asked.append((ticket, arm))
            return past[1].sibling(ticket, arm)

    ends = children(TASK, Watched(), past[1].ticket, 2)
    orders = [derive(0, "probe", "instability", index) for index in (0, 1)]
    assert [ticket.start.order for ticket, _ in asked] == orders
    for ticket, _ in asked:
        assert (ticket.mask, ticket.fingerprint) == (
            past[1].ticket.mask,
            past[1].ticket.fingerprint,
        )
        own, start = ticket.start, past[1].ticket.start
        assert own.fingerprint == start.fingerprint
        assert replace(own, order=start.order, optimizer={}) == replace(start, optimizer={})
        assert start.optimizer
    assert len({states.fingerprint(end) for end in [*ends, past[1].weights]}) == 3
    for end in ends:
        assert all(not end[n][~kept].any() for n, kept in past[1].mask.items())


def test_one_training_run_twice_has_a_barrier_of_exactly_zero(tmp_path: Path) -> None:
    replayed: list[int] = []
    dense = trained_at(tmp_path, NORMED, pace=Pace(replayed=replayed.append))
    seen = dict(Instability(**FEW, same_order=True)(NORMED, [], dense))
    assert replayed == [dense.clock.total]  # it was really run again
    for split in ("test", "train", "test_recomputed", "train_recomputed"):
        assert seen[f"barrier_{split}"] == 0.0
        assert len(set(seen[f"error_{split}_curve"])) == 1
    assert seen["stable"] == 1.0


def test_trainings_are_as_many_as_announced(tmp_path: Path) -> None:
    dense = trained_at(tmp_path)
    probe = Instability(**FEW, num_orders=3)
    seen = dict(probe(TASK, [], dense))
    assert num_stored(tmp_path) - 1 == probe.num_trainings([1]) == 3
    assert probe.num_trainings([1, 2, 2, 2]) == 3 * 7
    assert Instability(rounds=[0, 3]).num_trainings([1, 2, 2, 5]) == 2 * (1 + 5)
    assert set(seen) == {
        "barrier_test", "error_test_curve", "barrier_train", "error_train_curve", "stable",
    }  # fmt: skip
    by_step = InstabilityByStep(["0it", "5it"], **FEW)
    dict(by_step(TASK, [], dense))
    # two of the trainings from step 0 were there already
    assert num_stored(tmp_path) - 4 == by_step.num_trainings([1, 9]) - 2 == 2


def test_a_run_announces_the_trainings_that_its_probes_add() -> None:
    def announced(probe: str) -> int:
        words = [*SMALL, "record=local", "control=[reinit]", f"probe={probe}", "replicates=2"]
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
            config = compose("config", overrides=[*words, "pruner.rounds=2"])
        return describe(parts_of(config), "lth-run", {}).num_trainings

    rows = 1 + 2 + 2
    assert announced("default") == 2 * rows
    assert announced("connectivity") == 2 * (rows + 2 * rows)
    assert announced("instability_by_step") == 2 * (rows + 2 * 6)


def test_other_rounds_are_left_alone(dense: Trained) -> None:
    assert not dict(Instability(rounds=[1])(TASK, [], dense))


def test_a_mean_over_pairs_is_between_the_pairs(dense: Trained) -> None:
    seen = dict(Instability(**FEW, num_orders=3)(TASK, [], dense))
    ends = children(TASK, dense, dense.ticket, 3)
    pairs = [
        barrier(line(TASK, ends[i], ends[j], **FEW)["test"]) for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    assert seen["barrier_test"] == pytest.approx(sum(pairs) / 3)


def test_a_training_that_diverges_leaves_no_barrier(tmp_path: Path) -> None:
    wild = small.recipe(optimizer=functools.partial(torch.optim.SGD, lr=1e20))
    dense = trained_at(tmp_path, recipe=wild)
    seen = dict(Instability(**FEW)(TASK, [], dense))
    assert list(seen) == ["barrier_test"]
    assert math.isnan(seen["barrier_test"])
    seen = dict(InstabilityByStep(["0it"], **FEW)(TASK, [], dense))
    assert math.isnan(seen["instability_by_step"]["0"])
    assert math.isnan(seen["stable_from_step"])


def quadrants() -> Data:
    """Points of a square; the class is whether their coordinates have the same sign."""

    def draw(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        points = 2 * torch.rand(200, 2, generator=stream(0, "quadrants", name)) - 1
        return points, (points.prod(1) > 0).long()

    return Data.from_tensors(draw("train"), draw("test"), validation=20)


def hidden_sixteen() -> nn.Module:
    return models.mlp(shape=(2,), num_classes=2, widths=(16,), init="kaiming_normal")


def test_the_same_start_is_connected_and_another_one_is_not(tmp_path: Path) -> None:
    task = Task(hidden_sixteen, quadrants())
    recipe = small.recipe(length="150it", batch_size=20, eval_every="50it")
    dense = trained_at(tmp_path, task, recipe=recipe)
    same = dict(Instability(num_points=30, num_samples=100)(task, [], dense))
    assert same["barrier_test"] < 0.02
    assert same["stable"] == 1.0
    other = dense.sibling(replace(dense.ticket, weights=task.init(98)), "other")
    assert min(dense.history[-1]["test_accuracy"], other.history[-1]["test_accuracy"]) > 0.9
    assert barrier(line(task, dense.weights, other.weights, 30, 100)["test"]) > 0.15


# --- by step


def test_parting_at_the_start_is_the_instability_of_round_zero(dense: Trained) -> None:
    once = dict(Instability(**FEW)(TASK, [], dense))
    seen = dict(InstabilityByStep(["10it", "0it", "25%"], **FEW)(TASK, [], dense))
    assert list(seen) == ["instability_by_step", "instability_train_by_step", "stable_from_step"]
    assert list(seen["instability_by_step"]) == ["0", "10"]
    assert seen["instability_by_step"]["0"] == once["barrier_test"]
    assert seen["instability_train_by_step"]["0"] == once["barrier_train"]
    stable = [step for step, of in seen["instability_by_step"].items() if of < 0.02]
    assert (str(seen["stable_from_step"]) in stable) == ("10" in stable)


def test_recomputed_barriers_have_names_of_their_own_and_decide(tmp_path: Path) -> None:
    dense = trained_at(tmp_path, NORMED)
    seen = dict(InstabilityByStep(["0it"], **FEW, tolerance=1.0)(NORMED, [], dense))
    assert set(seen) == {
        "instability_by_step",
        "instability_train_by_step",
        "instability_recomputed_by_step",
        "instability_train_recomputed_by_step",
        "stable_from_step",
    }
    assert seen["stable_from_step"] == 0


@pytest.mark.parametrize("kind", ["fresh", "restore"])
def test_the_optimizer_at_the_parting_is_fresh_or_restored(kind: str, dense: Trained) -> None:
    probe = InstabilityByStep(["4it"], **FEW, optimizer=kind)
    ticket = probe._parting(dense, 4)
    assert ticket.start.step == 4
    assert ticket.mask == TASK.dense()
    assert all(ticket.weights[n].equal(value) for n, value in dense.at(4).items())
    assert bool(ticket.start.optimizer) == (kind == "restore")


def test_tickets_have_no_instability_by_step(dense: Trained) -> None:
    assert not dict(InstabilityByStep(["0it"])(TASK, [dense], dense))


# --- start to end


def test_the_line_from_start_to_end_has_their_errors(dense: Trained) -> None:
    seen = dict(StartEnd(num_points=4, num_samples=48)(TASK, [], dense))
    errors = seen["start_end_error_test_curve"]
    for weights, error in ((dense.ticket.masked, errors[0]), (dense.weights, errors[-1])):
        assert error == pytest.approx(1 - TASK.evaluate(weights, "test")["accuracy"])
    assert seen["start_end_barrier_test"] == barrier(errors)
    assert errors[0] > errors[-1]


# --- options


@pytest.mark.parametrize(
    ("probe", "options", "named"),
    [
        (Instability, {"num_points": 1}, "num_points"),
        (Instability, {"num_orders": 1}, "num_orders"),
        (Instability, {"num_samples": 0}, "num_samples"),
        (Instability, {"tolerance": 0}, "tolerance"),
        (Instability, {"rounds": [-1]}, "rounds"),
        (Instability, {"same_order": True, "num_orders": 3}, "num_orders"),
        (InstabilityByStep, {"steps": []}, "steps"),
        (InstabilityByStep, {"steps": ["soon"]}, "soon"),
        (InstabilityByStep, {"steps": ["0it"], "optimizer": "old"}, "optimizer"),
        (StartEnd, {"num_points": True}, "num_points"),
    ],
)
def test_options_out_of_range_are_refused_by_name(
    probe: type, options: dict[str, object], named: str
) -> None:
    with pytest.raises(UserError, match=named):
        probe(**options)


@pytest.mark.parametrize("step", ["40it", "41it", "2ep", "100%"])
def test_steps_at_or_past_the_end_are_refused(step: str, dense: Trained) -> None:
    if step == "2ep":  # an inner one is not
        assert InstabilityByStep([step])._steps(dense) == [2 * dense.clock.epoch]
        return
    with pytest.raises(UserError, match=r"instability_by_step\.steps"):
        dict(InstabilityByStep([step])(TASK, [], dense))
