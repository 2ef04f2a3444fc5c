"""theta = theta_0 + delta: what is trained, what stands still, and what pruning gives back."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import small
from command import SMALL, folders, lth_run, rows
from fake_past import data
from forked import lth_run_forked
from lth_runner.allocate import Global
from lth_runner.masking import Static, with_measured_statistics
from lth_runner.problem import LowRank, models
from lth_runner.problem.coordinates import Coordinates, Delta, constants, own_name, stock_name
from lth_runner.problem.covers import Covers
from lth_runner.problem.gaussian import Gaussian
from lth_runner.problem.origin import File
from lth_runner.problem.task import Task
from lth_runner.score import Magnitude
from lth_runner.search.ticket import Ticket
from lth_runner.training import train as engine
from lth_runner.training.job import Job
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream


class Net(nn.Module):
    """A shared weight, a batch norm and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.two.weight = self.one.weight
        self.norm = nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 3)

    def forward(self, inputs):
        return self.head(self.norm(self.two(self.one(inputs).relu())).relu())


DELTA = Delta(only=["one.weight"], whole=["head"])
SHARED = "one.parametrizations.weight.original"


def task(coordinates=DELTA, **changes) -> Task:
    return Task(Net, data(), coordinates=coordinates, **changes)


class Placed(nn.Module):
    """A network with places of its own, as BERT keeps position_ids: in no state_dict."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.head = nn.Linear(6, 6), nn.Linear(6, 3)
        self.register_buffer("places", torch.arange(512), persistent=False)
        self.scale = nn.ParameterDict({"base": torch.ones(2)})

    def forward(self, inputs):
        return self.head(self.one(inputs).relu()) * self.scale["base"][0]


@pytest.mark.parametrize("coordinates", [None, Delta(only=["one.weight"]), Gaussian()])
def test_buffers_of_the_network_are_no_parameters_in_any_coordinates(coordinates) -> None:
    assert Task(Placed, data(), coordinates=coordinates).num_parameters == 6 * 6 + 6 + 6 * 3 + 3 + 2


@pytest.mark.parametrize("coordinates", [DELTA, LowRank(2, targets=["head"])])
def test_scales_that_stand_still_are_no_running_statistics(coordinates) -> None:
    problem = task(coordinates)
    start = problem.init()
    ticket = with_measured_statistics(problem, Ticket(problem.dense(), start), Static())
    changed = {n for n in start if not torch.equal(start[n], ticket.weights[n])}
    assert changed == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert ticket.weights.keys() == start.keys()


class Normed(nn.Module):
    """A network whose first weight is computed by its own code."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.head = weight_norm(nn.Linear(6, 6)), nn.Linear(6, 3)

    def forward(self, inputs):
        return self.head(self.one(inputs).relu())


@pytest.mark.parametrize("model", [Placed, Normed])
@pytest.mark.parametrize("laid", [Delta, partial(LowRank, 2), Gaussian])
def test_merged_is_a_state_of_the_stock_network(model, laid) -> None:
    problem = Task(model, data(), coordinates=laid(covers=Covers(only=["head.weight"])))
    assert problem.merged(problem.init()).keys() == {*Task(model, data()).names}


def trained(problem: Task, density: float, steps: int = 30):
    """The ticket of random scores, and the weights after some steps."""
    scores = {n: torch.rand(k.shape, generator=stream(0, n)) for n, k in problem.dense().items()}
    mask = Global()(scores, density, problem.dense(), 0)
    job = Job(problem, Ticket(mask, problem.init()), Static())
    return mask, engine.replay(job, small.recipe(batch_size=10), None, steps).weights


def test_a_network_in_deltas_starts_as_the_stock_network() -> None:
    inputs = data().sample(20, 0)[0]
    stock, delta = task(None), task()
    assert torch.equal(delta.outputs(delta.init(), inputs), stock.outputs(stock.init(), inputs))
    assert delta.prunable == (SHARED,)
    assert not delta.init()[SHARED].any()
    assert delta.num_parameters == stock.num_parameters


def test_what_neither_has_a_delta_nor_is_whole_is_bit_equal_after_training() -> None:
    problem = task()
    before, (_, weights) = task(None).init(), trained(problem, 1.0)
    after = problem.merged(weights)
    still = ("one.bias", "two.bias", "norm.weight", "norm.bias")
    assert all(torch.equal(after[name], before[name]) for name in still)
    for name in ("one.weight", "head.weight", "head.bias", "norm.running_mean"):
        assert not torch.equal(after[name], before[name])


def test_a_pruned_delta_is_theta_0_to_the_bit_and_a_kept_one_moves() -> None:
    problem = task()
    before, (mask, weights) = task(None).init()["one.weight"], trained(problem, 0.4)
    after, kept = problem.merged(weights)["one.weight"], mask[SHARED]
    assert torch.equal(after[~kept], before[~kept])
    assert (after[kept] != before[kept]).float().mean() > 0.9
    assert int(kept.sum()) == round(0.4 * 36)


def test_layers_that_share_a_weight_share_its_delta() -> None:
    problem = task()
    _, weights = trained(problem, 1.0)
    module = problem.module()
    states.write(module, weights)
    assert torch.equal(module.one.weight, module.two.weight)
    assert sum(name == SHARED for name, _ in module.named_parameters()) == 1


@pytest.mark.parametrize("density", [1.0, 0.3])
def test_merged_is_the_stock_networks_state_and_answers_as_the_deltas_do(density: float) -> None:
    problem = task()
    _, weights = trained(problem, density)
    stock = Net()
    states.write(stock, merged := problem.merged(weights))
    assert merged.keys() == task(None).init().keys()
    inputs = data().sample(20, 0)[0]
    assert torch.equal(stock.eval()(inputs), problem.outputs(weights, inputs))


def test_a_frozen_shared_weight_stays_shared() -> None:
    problem = task(Delta(only=["head.weight"]))
    assert {n for n, _ in problem.module().named_parameters()} == {
        "head.parametrizations.weight.original"
    }
    module = problem.module()
    assert module.one.weight is module.two.weight
    held = constants(module)
    assert problem.num_parameters == task(None).num_parameters
    assert "head.parametrizations.weight.0.base" in held


def test_the_start_is_the_origins_and_so_is_what_stands_still(tmp_path: Path) -> None:
    torch.manual_seed(5)
    held = {name: torch.randn(v.shape).to(v.dtype) for name, v in Net().state_dict().items()}
    held["two.weight"] = held["one.weight"].clone()
    save_file(held, tmp_path / "model.safetensors")
    problem = task(origin=File(str(tmp_path)))
    mask, weights = trained(problem, 0.5)
    after = problem.merged(weights)
    kept = mask[SHARED]
    assert torch.equal(after["one.weight"][~kept], held["one.weight"][~kept])
    assert torch.equal(after["two.bias"], held["two.bias"])
    assert problem.identity != task().identity  # what stands still is no part of a State


def test_seeds_that_draw_another_theta_0_are_told_apart() -> None:
    assert task().identity != task().with_seed(1).identity


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Delta(only=[]), "coordinates.only is empty"),
        (lambda: Delta(only=["onr"]), "coordinates.only: 'onr' matches no tensor; .*one"),
        (lambda: Delta(only=["one"], whole=["hed"]), "coordinates.whole: 'hed' matches no tensor"),
        (lambda: Delta(only=["*weight"], whole=["head"]), "both name head.weight"),
    ],
)
def test_patterns_that_name_nothing_or_one_tensor_twice_are_refused(make, says: str) -> None:
    with pytest.raises(UserError, match=says):
        _ = task(make()).prunable


@pytest.mark.parametrize("name", ["weight", "layer.0.weight", "a.b.in_proj_weight"])
def test_names_of_deltas_lead_back_to_the_stock_networks(name: str) -> None:
    assert stock_name(own_name(name)) == name


def test_scores_of_deltas_are_of_what_was_added() -> None:
    problem = task()
    mask, weights = trained(problem, 0.5)
    found = Magnitude()(problem, weights, mask)
    assert torch.equal(found[SHARED], (weights[SHARED] * mask[SHARED]).abs())


# --- through runs

RUN = (
    *SMALL, "record=local", "coordinates=delta", "coordinates.only=[linear1.weight]",
    "coordinates.whole=[output]", "train.shrink_to=200it", "pruner.rounds=1", "control=shuffle",
    "train.checkpoint_minutes=0.0005",
)  # fmt: skip


@pytest.mark.slow
def test_a_run_in_deltas_prunes_them_and_a_killed_one_ends_the_same(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    said = lth_run(*RUN, f"paths.outputs={whole}")
    assert said.status == 0, said.err
    run = lth_run_forked(*RUN, f"paths.outputs={killed}", logs=tmp_path)
    while run.is_running and not list(killed.glob("store/drafts/*/checkpoint*")):
        time.sleep(0.01)
    run.kill()
    lth_run_forked(*RUN, f"paths.outputs={killed}", logs=tmp_path).finish()

    def results(outputs: Path) -> list[dict]:
        [folder] = folders(outputs)
        timed = ("seconds", "search_seconds")
        return [
            {k: v for k, v in row.items() if k not in timed}
            for row in rows(folder / "rounds.jsonl")
        ]

    assert results(killed) == results(whole)
    [folder] = folders(whole)
    ticket = load_file(folder / "tickets/round-01.safetensors")
    assert {name for name in ticket if name.startswith("mask.")} == {"mask.linear1.weight"}
    row = results(whole)[-1]
    before = load_file(folder / "tickets/round-00.safetensors")
    assert before.keys() == ticket.keys()
    assert torch.equal(ticket["weights.linear1.weight"], before["weights.linear1.weight"])
    assert (row["num_prunable"], row["num_kept"]) == (512, round(512 * 0.8))
    assert row["sparsity_of_all"] == (512 - row["num_kept"]) / 610


@pytest.mark.parametrize("coordinates", [Delta(), LowRank(2), Gaussian()])
def test_networks_of_a_task_have_their_constants_once_and_training_leaves_them(
    coordinates: Coordinates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lth_runner.problem.task.MANY", 0)  # of large ones alone, else
    problem = Task(partial(models.lenet300, shape=(1, 2, 3), num_classes=3), data(),
                   coordinates=coordinates)  # fmt: skip
    held = [constants(network) for network in (problem.module(), problem.module())]
    assert held[0]
    assert all(value.data_ptr() == held[1][name].data_ptr() for name, value in held[0].items())
    before = states.fingerprint(held[0])
    trained(problem, 0.5, steps=5)
    assert states.fingerprint(held[0]) == before
