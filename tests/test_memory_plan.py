"""What trainings take of memory, said before they start; evaluations that fit."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import small
from command import SMALL, lth_run, no_training
from lth_runner.allocate import Global
from lth_runner.probe import EffectiveDensity, TangentKernel
from lth_runner.problem import NextToken, models
from lth_runner.problem.data import Data
from lth_runner.problem.evaluated import VALUES, in_parts, values_of_a_token
from lth_runner.problem.size import check_size
from lth_runner.problem.task import Task
from lth_runner.schedule import Geometric
from lth_runner.score import Grasp, Obd, Snip, Synflow
from lth_runner.search import AtInit
from lth_runner.training import memory
from lth_runner.training.memory import MemoryPlan, bytes_of, check_on_device
from lth_runner.training.trial import try_a_step
from lth_runner.values import tree
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream

ADAM = functools.partial(torch.optim.AdamW, lr=1e-3)
SGD = functools.partial(torch.optim.SGD, lr=1e-3)
CPU = torch.device("cpu")


def plan(optimizer: object, starts: int = 1, device: torch.device = CPU) -> MemoryPlan:
    return MemoryPlan.of(4_400_000_000, small.recipe(optimizer=optimizer), starts, device)


def test_a_plan_counts_weights_gradients_moments_starts_and_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "total_memory", lambda device="cpu": 40e9)
    assert plan(ADAM).told == (
        "weights 4.4 GB, gradients 4.4 GB, moments 8.8 GB; 1 to start from 4.4 GB, a checkpoint "
        "4.4 GB: 26.4 GB of 40.0 GB, and activations"
    )
    plan(ADAM).check()
    with pytest.raises(UserError, match=r"5 to start from 22\.0 GB.* 44\.0 GB of 40\.0.*train=sgd"):
        plan(ADAM, 5).check()
    assert plan(SGD, 5).moments == 0
    plan(SGD, 5).check()
    cuda = plan(ADAM, 6, torch.device("cuda"))
    assert "17.6 GB of 40.0 GB on cuda" in cuda.told
    cuda.check()
    with pytest.raises(UserError, match="do not fit"):
        plan(ADAM, 7, torch.device("cuda")).check()


def test_the_moments_of_a_sharded_training_need_not_fit_one_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "total_memory", lambda device="cpu": 15e9)
    cuda = torch.device("cuda")
    for engine in ("distributed", "sharded"):
        recipe = small.recipe(optimizer=ADAM, engine=engine)
        found = MemoryPlan.of(4_000_000_000, recipe, 0, cuda)
        if engine == "sharded":
            assert "moments 8.0 GB (in parts on the ranks): 8.0 GB of 15.0 GB" in found.told
            found.check()
        else:
            with pytest.raises(UserError, match="do not fit"):
                found.check()


def test_ranks_of_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "total_memory", lambda device="cpu": 40e9)
    both = replace(plan(ADAM), num_ranks=2)
    with pytest.raises(UserError, match=r"each of 2 ranks.* 44\.0 GB of 40\.0.*fewer ranks on"):
        both.check()
    replace(both, device=torch.device("cuda")).check()  # each has its own
    with pytest.raises(UserError, match=r"of each rank, 44\.0 GB"):
        replace(both, num_ranks=5, is_sharded=True).check_whole()


def test_a_network_too_large_to_be_looked_at_whole_is_not_sharded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small.recipe(optimizer=SGD, engine="sharded")
    cuda = torch.device("cuda")
    monkeypatch.setattr(memory, "total_memory", lambda device="cpu": 7e9)
    with pytest.raises(UserError, match=r"and its gradients on the device of each rank, 8\.0 GB"):
        MemoryPlan.of(4_000_000_000, recipe, 0, cuda).check()
    monkeypatch.setattr(memory, "total_memory", lambda device="cpu": 1e3)
    with no_training():  # whatever its size is known by
        said = lth_run(*SMALL, "train.engine=sharded", f"paths.outputs={tmp_path}")
    assert said.status == 2
    assert "train.engine=sharded lays out trainings, and not what is looked at before" in said.err


@pytest.mark.parametrize(
    ("key", "part", "bytes_a_weight"),
    [
        ("pruner", AtInit(Snip(), Global(), Geometric(0.5, rounds=1)), 12),
        ("pruner", AtInit(Grasp(), Global(), Geometric(0.5, rounds=1)), 16),
        ("pruner", AtInit(Obd(), Global(), Geometric(0.5, rounds=1)), 24),
        ("pruner", AtInit(Synflow(), Global(), Geometric(0.5, rounds=1)), 24),
        ("probe.kernel", TangentKernel(), 8),
        ("probe.paths", EffectiveDensity(), 16),
    ],
)
def test_what_looks_at_a_network_that_no_device_holds_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, key: str, part: Any, bytes_a_weight: int
) -> None:
    task, recipe = small.task(), small.recipe(optimizer=SGD, engine="sharded")
    bytes_there = bytes_a_weight * task.num_parameters
    monkeypatch.setattr(memory, "total_memory", lambda device="cpu": bytes_there)
    check_on_device(key, part, task, recipe)
    monkeypatch.setattr(memory, "total_memory", lambda device="cpu": 0.8 * bytes_there)
    with pytest.raises(UserError, match=f"{key}: .* looks at the whole network on one device"):
        check_on_device(key, part, task, recipe)


def test_a_class_that_a_part_holds_is_not_asked_for_its_size() -> None:
    @dataclass(frozen=True)
    class Own:
        kind: type = Snip

    check_on_device("pruner", Own(), small.task(), small.recipe(optimizer=SGD))


def test_a_step_is_tried_of_few_weights_where_a_training_is_sharded() -> None:
    made: list[torch.optim.Optimizer] = []

    def optimizer(groups: object) -> torch.optim.Optimizer:
        made.append(ADAM(groups))
        return made[-1]

    try_a_step(small.task(), small.recipe(optimizer=optimizer, engine="sharded"))
    sizes = sorted(tuple(p.shape) for p, state in made[-1].state.items() if state)
    assert sizes == [(3,), (3, 12)]


def test_a_large_network_is_refused_before_it_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "total_memory", lambda device="cpu": 1e9)
    words = [*SMALL, "model.widths=[70000000]", "dataset.shape=[1,1,1]", "dataset.num_classes=2"]
    with no_training():
        said = lth_run(*words, "train=adam", f"paths.outputs={tmp_path}")
    assert said.status == 2
    assert "the trainings do not fit into memory: weights 1.1 GB" in said.err


def test_the_bytes_of_a_network_are_the_same_before_and_after_it_is_built() -> None:
    tied = functools.partial(
        models.masked_transformer, vocabulary=9, length=6, width=8, depth=1, heads=2, tied=True
    )
    for model in (tied, functools.partial(models.mlp, shape=(1, 4, 4), num_classes=3, widths=(8,))):
        task = small.task(model=model)
        assert check_size(model, CPU) == bytes_of(task) == 4 * task.num_parameters


def test_an_evaluation_on_tokens_is_taken_in_parts_that_fit_and_on_images_whole() -> None:
    module = models.masked_transformer(vocabulary=50, length=6, width=8, depth=1, heads=2)
    assert values_of_a_token(module) == 50
    tokens = torch.zeros(20, 6, dtype=torch.int64)
    batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}, tokens
    [whole] = in_parts([batch], 50)
    assert whole == batch
    sizes = [tree.length(targets) for _, targets in in_parts([batch], 50, most=6 * 50 * 8)]
    assert sizes == [8, 8, 4]
    assert [tree.length(t) for _, t in in_parts([batch], 50, most=1)] == [1] * 20
    images = torch.zeros(20, 300), torch.zeros(20)
    assert [*in_parts([images], VALUES)] == [images]


def test_parts_of_an_evaluation_change_no_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = stream(0, "tokens")
    tokens = torch.randint(0, 9, (30, 6), generator=rng)
    data = Data.from_tensors(*[({"input_ids": tokens}, tokens)] * 3, num_classes=9)
    model = functools.partial(
        models.masked_transformer, vocabulary=9, length=6, width=8, depth=1, heads=2
    )

    whole = Task(model, data, objective=NextToken())
    expected = whole.evaluate(whole.init(), "test")
    monkeypatch.setattr("lth_runner.problem.evaluated.VALUES", 6 * 32 * 7)
    assert len([*whole.evaluated("test")]) == 5
    assert whole.evaluate(whole.init(), "test") == pytest.approx(expected)
