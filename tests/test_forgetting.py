"""A second task after a first: its start, what is left of the first, and the study of both."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from command import SMALL, folders, lth_run, rows
from lth_runner.problem import models
from lth_runner.problem.coordinates import own_name
from lth_runner.problem.task import Task
from lth_runner.runs.ended_weights import ended
from lth_runner.runs.origin import FromRun
from lth_runner.runs.rebuilt import rebuilt
from lth_runner.runs.retention import Retention
from lth_runner.store.ticket_file import read_ticket
from lth_runner.values.errors import UserError

LOTA = (
    *SMALL, "record=local", "coordinates=delta", "covers.only=[linear1.weight]",
    "coordinates.whole=[output]", "pruner=magnitude_at_init", "pruner.score_step=5it",
    "pruner.sparsity=0.8", "control=[random]", "train.optimizer.lr=0.3",
)  # fmt: skip


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("first")
    said = lth_run(*LOTA, "name=first", f"paths.outputs={outputs}")
    assert said.status == 0, said.err
    return folders(outputs, "first")[0]


def after(first: Path, *words: str, name: str = "second") -> Path:
    start = ("origin=run", f"origin.run={first}", "origin.fresh=[output]", "dataset.seed=1")
    said = lth_run(*LOTA, *start, f"name={name}", f"paths.outputs={first.parents[1]}", *words)
    assert said.status == 0, said.err
    return folders(first.parents[1], name)[0]


def trained(folder: Path, round: int, arm: str = "ticket"):
    [row] = [r for r in rows(folder / "rounds.jsonl") if (r["round"], r["arm"]) == (round, arm)]
    return row, *ended(folder, row, rebuilt(folder))


def in_weights(folder: Path) -> Task:
    return replace(rebuilt(folder), coordinates=None)


def test_a_run_in_deltas_gives_its_networks_weights_to_start_from(first: Path) -> None:
    start = read_ticket(first / "tickets/round-00.safetensors").weights
    for round, arm in ((0, "ticket"), (1, "ticket"), (1, "random")):
        _, mask, weights = trained(first, round, arm)
        kept = mask["linear1.weight"]
        found = FromRun(str(first), round, arm=arm).weights
        assert torch.equal(found["linear1.weight"][~kept], start["linear1.weight"][~kept])
        assert (found["linear1.weight"] != start["linear1.weight"])[kept].float().mean() > 0.8
        assert all(torch.equal(found[name], value) for name, value in weights.items())
    contents = {FromRun(str(first), r, arm=a).content for r, a in ((0, "ticket"), (1, "random"))}
    assert len(contents) == 2
    with pytest.raises(UserError, match=r"origin.arm=shuffle: .* has random, ticket"):
        FromRun(str(first), 1, arm="shuffle")


def test_a_second_mask_outside_the_first_leaves_its_weights_and_what_is_retained_is_measured(
    first: Path,
) -> None:
    words = ("origin.round=1", f"pruner.outside={first}", "probe=retention")
    second = after(first, *words)
    _, mask, kept = trained(first, 1)
    mine, other, found = trained(second, 1)
    both = mask["linear1.weight"] & other["linear1.weight"]
    assert not both.any()
    assert int(other["linear1.weight"].sum()) == mine["num_kept"] == round(0.2 * 512)
    still = ~other["linear1.weight"]
    assert torch.equal(found["linear1.weight"][still], kept["linear1.weight"][still])

    earlier = rebuilt(first)
    head = {name: value for name, value in kept.items() if name.startswith("output")}
    stock = in_weights(first)
    assert stock.evaluate(found | head, "test")["accuracy"] == mine["retained_accuracy"]
    assert mine["retained_before"] == trained(first, 1)[0]["test_accuracy"]
    assert own_name("linear1.weight") in earlier.names


def test_a_network_that_has_not_the_earlier_ones_tensors_is_refused(first: Path) -> None:
    task = rebuilt(first)
    Retention(str(first), ["output"]).check(task)
    wide = functools.partial(models.mlp, shape=(1, 8, 8), num_classes=10, widths=(9,))
    with pytest.raises(UserError, match=r"has linear1.*name what is the earlier task's alone"):
        Retention(str(first), ["output"]).check(replace(task, model=wide))
