"""A second task after a first: its start, what is left of the first, and the study of both."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pretrained
from command import SMALL, folders, lth_run, no_training, rows
from lth_runner.problem import Delta, models
from lth_runner.problem.coordinates import own_name
from lth_runner.problem.task import Task
from lth_runner.runs.ended_weights import ended
from lth_runner.runs.evidence.forgetting import find_forgetting
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.origin import FromRun
from lth_runner.runs.rebuilt import rebuilt
from lth_runner.runs.retention import Retention
from lth_runner.runs.study_pages import forgetting as forgetting_page
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


@pytest.mark.slow
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
    with pytest.raises(UserError, match=r"has no arm shuffle: it has random, ticket"):
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
    with pytest.raises(UserError, match=r"probe\.retention\.of=.* no finished training of round 9"):
        Retention(str(first), ["output"], round=9)


def test_buffers_that_a_network_makes_itself_are_no_weights_to_start_from(tmp_path: Path) -> None:
    model = pretrained.sequence_classifier(pretrained.folder(tmp_path / "bert"))
    stock = Task(model, pretrained.sentences())
    task = replace(stock, coordinates=Delta(only=["*query.weight"], whole=["classifier"]))
    assert task.merged(task.init()).keys() == {*stock.names}


# --- the page


def made(name: str, config: dict, *found: dict) -> FinishedRun:
    whole = {"coordinates": {"_target_": "lth_runner.problem.Delta"}, "train": RECIPE, **config}
    alike = {"seed": 0, "sparsity": 0.0, "density": 1.0, "arm": "ticket", "round": 0}
    return FinishedRun(Path("outputs/x") / name, whole, {"state": "done"}, {},
                       tuple(alike | row for row in found))  # fmt: skip


RECIPE = {"length": "5it", "optimizer": {"lr": 2e-4}}
OTHER = RECIPE | {"optimizer": {"lr": 2e-3}}
SPARSE = {"round": 1, "sparsity": 0.9, "density": 0.1}


def second(name: str, round: int, arm: str, retained: float, outside: str | None = None):
    config = {
        "dataset": {"name": "high"}, "pruner": {"outside": outside},
        "origin": {"run": "outputs/x/one", "round": round, "arm": arm},
    }  # fmt: skip
    told = {"retained_before": 0.75, "test_accuracy": 0.5}
    return made(
        name, config,
        {**told, "retained_accuracy": 0.25},
        {**told, **SPARSE, "retained_accuracy": retained},
        {**told, **SPARSE, "arm": "random", "retained_accuracy": 0.5},
        {**told, **SPARSE, "seed": 1, "retained_accuracy": retained + 0.25},
    )  # fmt: skip


def test_ways_are_read_off_the_configs_and_each_is_told_in_a_sentence(tmp_path: Path) -> None:
    one = made("one", {"dataset": {"name": "low"}}, {}, SPARSE, SPARSE | {"arm": "random"})
    after = [("a", 0, "ticket", 0.5), ("b", 1, "ticket", 0.625), ("d", 1, "random", 0.5)]
    runs = [one, *(second(*each) for each in after), second("c", 1, "ticket", 0.5, "outputs/x/one")]
    low_rank = {"_target_": "lth_runner.problem.LowRank"}
    runs.append(made("three", {"dataset": {"name": "low"}, "coordinates": low_rank}, {}))
    runs.append(made(
        "e", {"dataset": {"name": "high"}, "coordinates": low_rank, "pruner": {}, "train": OTHER,
              "origin": {"run": "outputs/x/three", "round": 0, "arm": "ticket"}},
        {"retained_before": 0.75, "test_accuracy": 0.5, "retained_accuracy": 0.375},
        {**SPARSE, "steps": 0, "retained_before": 0.75, "test_accuracy": 0.1,
         "retained_accuracy": 0.125},  # measured, not trained: no way to train
    ))  # fmt: skip
    [found] = find_forgetting(runs)
    assert (found.first, found.second) == ("low", "high")
    told = [one.way.told for one in found.kept]
    assert told[:4] == [
        "full, then full", "LoRA, then LoRA", "LoTA, then LoTA", "random, then random",
    ]  # fmt: skip
    assert not any("ticket" in text for text in told)
    assert {"LoRA, then LoRA", "LoTA, then LoTTO", "LoTA, then full", "full, then LoTA"} <= set(
        told
    )
    assert forgetting_page.sentence(found, found.kept[2]) == (
        # 0.75 less 0.625 and 0.875: +-0.125 of two seeds, t(.975) of one degree 12.706
        "LoTA, then LoTA (n = 2): kept 75.00 ± 17.68 % of 75.00 ± 0.00 % on low, a loss of +0.00 "
        "points [−158.83, +158.83] (undecided), and reached 50.00 ± 0.00 % on high."
    )
    assert "a loss of +50.00 points (undecided)" in forgetting_page.sentence(found, found.kept[0])
    assert found.by_kept[0].way.told == "LoTA, then LoTA"
    assert "That it keeps more than the next is undecided: +" in forgetting_page.best(found).text
    page, *beside = forgetting_page.write_forgetting(found, tmp_path)
    assert {path.name for path in beside} == {"forgetting-kept.png", "forgetting-kept.csv"}
    assert "LoTA, then LoTTO (n = 2): kept" in page.read_text()


@pytest.mark.slow  # seven runs
def test_the_study_runs_every_way_in_small_and_given_again_trains_nothing(tmp_path: Path) -> None:
    words = (
        "+study=digits_forgetting", "+scale=smoke", "study.seeds=['0']", "pruner.sparsity=0.8",
        "train.shrink_to=4it", "max_samples=64", "device=cpu", "threads=1",
        f"paths.outputs={tmp_path}", f"hydra.sweep.dir={tmp_path}/sweeps/one",
    )  # fmt: skip
    said = lth_run(*words)
    assert said.status == 0, said.err
    found = (tmp_path / "digits_forgetting/forgetting-kept.csv").read_text().splitlines()
    ways = {tuple(line.split(",")[:2]) for line in found[1:]}
    ours = {("full", "full"), ("LoRA", "LoRA"), ("LoTA", "LoTA"), ("random", "random")}
    assert ours | {("LoTA", "LoTTO")} <= ways
    every = (tmp_path / "digits_forgetting").glob("*/rounds.jsonl")
    keys = [row["training_key"] for file in every for row in rows(file)]
    assert len(keys) == 19
    assert len(set(keys)) == 18  # LoTA and LoTTO calibrate by one training
    with no_training():
        assert lth_run(*words).status == 0
