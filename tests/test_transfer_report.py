"""Tickets carried from task to task: which runs belong together, and what they are held against."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lth_runner.problem.outcomes import Outcomes
from lth_runner.runs.evidence.differences import Differences
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.evidence.sources import alike, universality
from lth_runner.runs.evidence.transfer import OWN, Transfer
from lth_runner.runs.evidence.transfer_runs import find_transfers
from lth_runner.runs.folder import append_rows
from lth_runner.runs.samples import KeptSamples, samples_row
from lth_runner.runs.study_pages.transfer import text, write_transfer

DENSITIES = (1.0, 0.3, 0.03)
SPARSEST = DENSITIES[-1]
SPREAD = (-0.002, 0.0, 0.002)


def run(
    name: str, data: str, value: float, *, ticket: str = "", train: str = "adam", **random: float
) -> FinishedRun:
    """A run on a data set whose tickets reach a value, and whose controls reach theirs."""
    pruner: dict[str, Any] = {"ticket": f"outputs/x/{ticket}", "weights": "ticket"}
    arms = {"ticket": value, **random}
    rows = tuple(
        {"round": round, "arm": arm, "seed": seed, "density": kept, "sparsity": 1 - kept,
         "layer_density": {"hidden": kept, "output": kept},
         "test_accuracy": reached + noise * (1 + round)}
        for round, kept in enumerate(DENSITIES)
        for arm, reached in arms.items() if round or arm == "ticket"
        for seed, noise in enumerate(SPREAD)
    )  # fmt: skip
    config = {
        "name": "x", "seed": 0, "replicates": 3,
        "dataset": {"name": data, "num_classes": 10, "root": f"/data/{name}"},
        "model": {"_target_": "lenet", "num_classes": 10},
        "train": {"length": "5it", "optimizer": {"lr": 0.1, "kind": train}},
        "pruner": pruner if ticket else {"rate": 0.2},
        "rewind": {"step": "1it"},
        "report": {"tolerance": 0.005, "paired": False},
    }  # fmt: skip
    return FinishedRun(
        Path("outputs/x") / name, config, {"state": "done", "command": f"lth-run name={name}"},
        {"choices": {"train": train}}, rows,
    )  # fmt: skip


def three() -> list[FinishedRun]:
    """Two sources, two targets; what b carries to a is worse, what a carries to b is as good."""
    return [
        run("s1", "a", 0.90),
        run("s2", "b", 0.80),
        run("c1", "b", 0.80, ticket="s1", random=0.60, shuffle=0.70),
        run("c2", "a", 0.70, ticket="s2", random=0.70, shuffle=0.65),
    ]


def found(runs: list[FinishedRun]) -> Transfer:
    [one] = find_transfers(runs)
    return one


def test_the_targets_own_tickets_are_those_of_the_same_method_on_its_data() -> None:
    transfer = found(three())
    assert [cell.pair for cell in transfer.cells] == [("a", "b"), ("b", "a")]
    assert {target: one.folder.name for target, one in transfer.own.items()} == {
        "b": "s2",
        "a": "s1",
    }
    assert transfer.density == SPARSEST
    assert len(transfer.runs) == 4


def test_each_cell_is_held_against_the_own_ticket_and_against_chance() -> None:
    transfer = found(three())
    assert transfer.words(SPARSEST, OWN) == {("a", "b"): "undecided", ("b", "a"): "refuted"}
    assert transfer.words(SPARSEST, "random") == {("a", "b"): "shown", ("b", "a"): "undecided"}
    assert transfer.words(SPARSEST, "shuffle") == {("a", "b"): "shown", ("b", "a"): "shown"}
    cell = transfer.cells[1]
    lead = cell.lead(SPARSEST, OWN)
    assert lead is not None
    assert lead.difference == pytest.approx(-0.2)
    assert lead.n == 3


def test_a_source_whose_run_is_not_there_makes_no_cell_and_a_lost_own_ticket_no_comparison() -> (
    None
):
    runs = three()
    assert not find_transfers(runs[2:])
    alone = found([runs[0], runs[2]])
    assert [cell.pair for cell in alone.cells] == [("a", "b")]
    assert alone.words(SPARSEST, OWN) == {}
    assert alone.words(SPARSEST, "random") == {("a", "b"): "shown"}


def test_tickets_are_compared_at_the_density_they_were_found_with_whatever_their_rounds() -> None:
    """Rounds of given tickets have numbers of their own, and a head of the target stays dense."""
    source, own = run("s1", "a", 0.9), run("s2", "b", 0.8)
    own = replace(own, rows=tuple(
        row | {"test_accuracy": row["test_accuracy"] + 0.1 * (row["round"] == 1)}
        for row in own.rows
    ))  # fmt: skip
    whole = run("c1", "b", 0.8, ticket="s1", random=0.6)
    only = {"density": 0.05, "layer_density": {"hidden": SPARSEST, "output": 1.0}}
    carried = replace(whole, rows=tuple(
        row | ({"round": 1} | only if row["round"] else {})
        for row in whole.rows if row["round"] != 1
    ))  # fmt: skip
    transfer = found([source, own, carried])
    [cell] = transfer.cells
    assert transfer.densities == (SPARSEST,)
    assert cell.level(SPARSEST).density == pytest.approx(0.05)
    assert cell.lead(SPARSEST, OWN).difference == pytest.approx(0.0)
    assert cell.lead(DENSITIES[1], OWN) is None

    shorter = replace(own, rows=tuple(row for row in own.rows if row["round"] < 2))
    transfer = found([source, shorter, carried])
    assert transfer.words(SPARSEST, OWN) == {}
    assert transfer.words(SPARSEST, "random") == {("a", "b"): "shown"}


def test_a_carried_ticket_that_diverged_is_neither_near_nor_better(tmp_path: Path) -> None:
    for seeds in ((1, 2), (0, 1, 2)):
        runs = three()
        rows = tuple(
            row | {"test_accuracy": None, "diverged": True}
            if row["round"] == 2 and row["arm"] == "ticket" and row["seed"] in seeds else row
            for row in runs[2].rows
        )  # fmt: skip
        runs[2] = replace(runs[2], rows=rows)
        transfer = found(runs)
        for to in (OWN, "random", "shuffle"):
            assert transfer.words(SPARSEST, to)["a", "b"] == "refuted"
    write_transfer(transfer, tmp_path)  # nothing is left to take a difference of
    with (tmp_path / "transfer-matrix.csv").open() as file:
        told = [r["word"] for r in csv.DictReader(file) if r["round"] == "2"
                and (r["source"], r["compared_with"]) == ("a", OWN)]  # fmt: skip
    assert told == ["refuted"]


def test_to_be_near_an_own_ticket_that_guesses_says_nothing() -> None:
    runs = [run("s1", "a", 0.9), run("s2", "b", 0.1)]
    transfer = found([*runs, run("c1", "b", 0.1, ticket="s1", random=0.1)])
    assert transfer.cells[0].lead(SPARSEST, OWN) is not None
    assert transfer.words(SPARSEST, OWN) == {}


@pytest.mark.parametrize("paired", [True, False])
def test_two_runs_are_compared_as_two_arms_of_one_are_with_their_samples(
    tmp_path: Path, *, paired: bool
) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for round, arm in ((0, "ticket"), (1, "ticket"), (1, "other")):
        for seed in range(4):
            right = torch.from_numpy(rng.random(20) < 0.8)
            place = {"round": round, "arm": arm, "seed": seed, "training_key": f"{rng.random()}"}
            kept = samples_row(place, Outcomes(torch.zeros(1), right).packed())
            append_rows(tmp_path / "samples.jsonl", [kept])
            rows.append({**place, "density": 0.1**round, "test_accuracy": right.double().mean()})
    rows = [row | {"test_accuracy": float(row["test_accuracy"])} for row in rows]
    config = {"report": {"tolerance": 0.005, "paired": paired}}
    one = FinishedRun(tmp_path, config, {}, {}, tuple(rows), {}, KeptSamples((tmp_path,)))
    ours = replace(one, rows=tuple(row for row in rows if row["arm"] == "ticket"))
    theirs = [row for row in rows if row["round"] == 0 or row["arm"] == "other"]
    other = replace(one, rows=tuple(row | {"arm": "ticket"} for row in theirs))
    cell = ("ticket", 1)
    between = Differences(ours).beside(cell, Differences(other), cell)
    assert between == Differences(one)(cell, ("other", 1))
    assert between is not None
    assert between.samples is not None
    assert between.samples.num == 20


def test_of_two_runs_of_a_pair_the_later_counts() -> None:
    runs = [*three(), run("c3", "b", 0.5, ticket="s1", random=0.4)]
    runs[2].status["updated"], runs[4].status["updated"] = "2026-02-02", "2026-01-01"  # type: ignore[index]
    transfer = found(runs)
    assert [cell.run.folder.name for cell in transfer.cells] == ["c1", "c2"]


def test_runs_of_a_pair_that_are_carried_in_other_ways_make_matrices_of_their_own() -> None:
    for section, key, value in (
        ("pruner", "best_matching", True), ("pruner", "seed", 0), ("pruner", "rounds", 1),
        ("rewind", "step", "400it"), ("pruner", "fresh", ["output"]),
    ):  # fmt: skip
        runs = [*three(), run("c3", "b", 0.5, ticket="s1", random=0.4)]
        runs[4].config[section][key] = value  # type: ignore[index]
        first, second = find_transfers(runs)
        assert [cell.run.folder.name for cell in first.cells] == ["c1", "c2"]
        assert [cell.run.folder.name for cell in second.cells] == ["c3"]
        assert f"{key}={value}" in text(second)
    runs = three()  # a head for other classes follows the data
    runs[2].config["pruner"]["fresh"] = ["output"]  # type: ignore[index]
    assert len(found(runs).cells) == 2


def lowered(one: FinishedRun, by: float) -> FinishedRun:
    """The same run with worse tickets and the same dense network."""
    rows = tuple(
        row | {"test_accuracy": row["test_accuracy"] - by * (row["round"] > 0)} for row in one.rows
    )
    return replace(one, rows=rows)


def test_a_source_is_universal_where_it_loses_at_most_a_deviation_on_every_target() -> None:
    near, far = 0.0015, 0.003  # of trainings that vary by 0.002
    runs = three()
    runs[2], runs[3] = lowered(runs[2], near), lowered(runs[3], far)
    one, other = universality(found(runs), SPARSEST)
    assert (one.source, one.as_published, one.num_within, one.num_targets) == ("a", "yes", 2, 2)
    assert one.targets["b"].gain.difference == pytest.approx(-near)
    assert one.targets["b"].spread == pytest.approx(0.002)
    assert (other.source, other.as_published, other.num_within) == ("b", "no", 1)
    # three seeds that vary by up to 0.006 tell no loss of 0.005 from these
    assert {one.word, other.word} == {"undecided"}
    first = [replace(x, rows=tuple(r for r in x.rows if r["seed"] == 0)) for x in runs]
    words = {(one.word, one.as_published) for one in universality(found(first), SPARSEST)}
    assert words == {("undecided", "open")}


def test_that_a_source_is_universal_is_decided_by_the_rule_of_every_match() -> None:
    runs = [replace(one, rows=steady(one.rows)) for one in three()]
    runs[3] = lowered(runs[3], 0.1)
    one, other = universality(found(runs), SPARSEST)
    assert (one.word, one.num_shown) == ("shown", 2)
    assert (other.word, {t: x.word for t, x in other.targets.items()}) == (
        "refuted", {"a": "refuted", "b": "shown"}
    )  # fmt: skip


def steady(rows: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """The same rows with a tenth of the spread over seeds, and carried tickets as good as dense."""
    dense = [row["test_accuracy"] for row in rows if row["round"] == 0]
    return tuple(
        row | {"test_accuracy": sum(dense) / 3 + SPREAD[row["seed"]] / 10}
        if row["arm"] == "ticket" else row
        for row in rows
    )  # fmt: skip


def test_tickets_of_two_sources_are_compared_with_chance_by_layers(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    masks = {}
    for place in ("s1", "s2"):
        dense = torch.rand(4000, generator=rng) < 0.5
        sparse = torch.rand(40, 100, generator=rng) < 0.1
        masks[place] = {"mask.one": dense, "mask.two": sparse, f"mask.{place}": dense.clone()}
    runs = [replace(one, folder=tmp_path / one.folder.name) for one in three()]
    for place, tensors in masks.items():
        (tmp_path / place / "tickets").mkdir(parents=True)
        save_file(tensors, tmp_path / place / "tickets/round-02.safetensors")
    [pair] = alike(found(runs), SPARSEST)
    assert (pair.first, pair.second) == ("a", "b")
    ours, theirs = (torch.cat([m["mask.one"], m["mask.two"].flatten()]) for m in masks.values())
    assert pair.jaccard == pytest.approx(float((ours & theirs).sum() / (ours | theirs).sum()))
    assert pair.chance == pytest.approx((0.25 + 0.01) / (0.75 + 0.19), abs=0.02)
    assert 0.001 < pair.std < 0.02
    assert abs(pair.jaccard - pair.chance) < 4 * pair.std


def test_a_source_that_learns_something_else_makes_cells_and_has_no_own_ticket() -> None:
    tokens = run("m", "mlm", 0.0)
    rows = tuple(row | {"test_perplexity": 9.0} for row in tokens.rows)
    measures = [{"name": "perplexity", "better": "lower"}]
    tokens = replace(tokens, rows=rows, problem={"measures": measures})
    assert tokens.measure.name == "perplexity"
    transfer = found([*three(), tokens, run("c3", "a", 0.9, ticket="m", random=0.6)])
    assert ("mlm", "a") in [cell.pair for cell in transfer.cells]
    assert transfer.targets == ("a", "b")
    assert transfer.words(SPARSEST, "random")["mlm", "a"] == "shown"


def test_a_ticket_on_its_own_task_is_no_cell() -> None:
    again = run("c4", "a", 0.9, ticket="s1", random=0.1)
    assert [cell.pair for cell in found([*three(), again]).cells] == [("a", "b"), ("b", "a")]


def test_the_run_that_tickets_come_from_is_found_by_its_name_too() -> None:
    runs = three()
    runs[0] = replace(runs[0], folder=Path("outputs/first/s1"))
    runs[2].config["pruner"]["ticket"] = "outputs/first/"  # type: ignore[index]
    assert [cell.pair for cell in found(runs).cells] == [("a", "b"), ("b", "a")]
    again = replace(run("s3", "a", 0.5), folder=Path("outputs/first/s3"))
    for one, day in zip((*runs, again), (1, 1, 2, 2, 3), strict=True):
        one.status["started"] = f"2026-01-0{day}"  # type: ignore[index]
    assert found([again, *runs]).at(("a", "b")).origin is runs[0]


def test_tasks_are_named_by_what_tells_them_apart() -> None:
    runs = [
        run("s1", "a", 0.9), run("s2", "a", 0.9, train="sgd"),
        run("c1", "a", 0.9, ticket="s1", train="sgd", random=0.5),
        run("c2", "a", 0.9, ticket="s2", random=0.5),
    ]  # fmt: skip
    assert [cell.pair for cell in found(runs).cells] == [("adam", "sgd"), ("sgd", "adam")]
    both = [*runs[:1], run("c3", "b", 0.9, ticket="s1", train="sgd", random=0.5), *runs[2:3]]
    assert [cell.pair for cell in found(both).cells] == [("a adam", "a sgd"), ("a adam", "b sgd")]

    alike = [run("s1", "a", 0.9), run("s2", "a", 0.8), run("c1", "a", 0.9, ticket="s1", random=0.5)]
    for one, classes in zip(alike, ([0, 1], [2, 3], [2, 3]), strict=True):
        one.config["dataset"]["classes"] = classes  # type: ignore[index]
    [cell] = found(alike).cells
    assert cell.pair == ("classes=[0, 1]", "classes=[2, 3]")
    assert cell.own is alike[1]


def test_the_page_holds_the_matrix_and_its_numbers(tmp_path: Path) -> None:
    transfer = found(three())
    written = write_transfer(transfer, tmp_path)
    page = (tmp_path / "transfer.html").read_text()
    assert "1 of 2" in page
    assert "lth-run name=c1" in page
    with (tmp_path / "transfer-matrix.csv").open() as file:
        rows = list(csv.DictReader(file))
    words = {
        (r["source"], r["target"], r["compared_with"]): r["word"] for r in rows if r["round"] == "2"
    }
    assert words["b", "a", OWN] == "refuted"
    assert words["a", "b", "random"] == "shown"
    assert {"transfer.html", "transfer-matrix.png", "transfer-curves.csv"} <= {
        f.name for f in written
    }
    assert "refuted" in text(transfer)
