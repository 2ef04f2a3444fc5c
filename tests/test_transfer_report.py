"""Tickets carried from task to task: which runs belong together, and what they are held against."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.evidence.transfer import OWN, Transfer, find_transfers
from lth_runner.runs.report.transfer_page import text, write_transfer

DENSITIES = (1.0, 0.3, 0.03)
SPREAD = (-0.002, 0.0, 0.002)


def run(
    name: str, data: str, value: float, *, ticket: str = "", train: str = "adam", **random: float
) -> FinishedRun:
    """A run on a data set whose tickets reach a value, and whose controls reach theirs."""
    pruner: dict[str, Any] = {"ticket": f"outputs/x/{ticket}", "weights": "ticket"}
    arms = {"ticket": value, **random}
    rows = tuple(
        {"round": round, "arm": arm, "seed": seed, "density": kept, "sparsity": 1 - kept,
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
    assert transfer.round == 2
    assert len(transfer.runs) == 4


def test_each_cell_is_held_against_the_own_ticket_and_against_chance() -> None:
    transfer = found(three())
    assert transfer.words(2, OWN) == {("a", "b"): "undecided", ("b", "a"): "refuted"}
    assert transfer.words(2, "random") == {("a", "b"): "shown", ("b", "a"): "undecided"}
    assert transfer.words(2, "shuffle") == {("a", "b"): "shown", ("b", "a"): "shown"}
    cell = transfer.cells[1]
    lead = cell.lead(2, OWN)
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
    assert alone.words(2, OWN) == {}
    assert alone.words(2, "random") == {("a", "b"): "shown"}


def test_of_two_runs_of_a_pair_the_later_counts() -> None:
    runs = [*three(), run("c3", "b", 0.5, ticket="s1", random=0.4)]
    runs[2].status["updated"], runs[4].status["updated"] = "2026-02-02", "2026-01-01"  # type: ignore[index]
    transfer = found(runs)
    assert [cell.run.folder.name for cell in transfer.cells] == ["c1", "c2"]


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
