"""How many seeds to plan for: by hand, against known figures, and as a user asks for it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import stdtrit

from lth_runner.cli.report import main
from lth_runner.problem.outcomes import Outcomes
from lth_runner.runs.evidence.estimate import Estimate
from lth_runner.runs.evidence.judge import judge
from lth_runner.runs.evidence.needed import seeds_needed
from lth_runner.runs.evidence.planning import losses, plan
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.folder import append_rows
from lth_runner.runs.report.planning_text import planned
from lth_runner.runs.samples import samples_row


@pytest.mark.parametrize(
    ("spread", "loss", "seeds"),
    [(0.2, 0, 3), (0.2, 0.25, 6), (0.4, 0, 6), (0.4, 0.25, 18), (0.58, 0, 10), (0.58, 0.25, 35)],
)
def test_seeds_of_paired_differences_are_those_of_the_formula(spread, loss, seeds):
    """n >= sd^2 (t_.95 + t_.8)^2 / (.5 - loss)^2, t of n - 1 degrees of freedom.

    By hand, sd .4, loss 0: n = 5 asks for .64 (2.132 + .941)^2 = 6.04, n = 6 for
    .64 (2.015 + .920)^2 = 5.51.
    """
    seen = Estimate(3, -loss, spread / math.sqrt(3))
    assert seeds_needed(seen, -0.5, per_seed=1) == seeds


def a_run(folder: Path, *, paired: bool = False, **changes: float) -> FinishedRun:
    """Dense 97 %, tickets that lose 0, .2, .6 and 5 points, three seeds .2 points apart."""
    folder.mkdir(parents=True)
    rows = [
        {"round": round, "arm": "ticket", "seed": seed, "density": 0.5**round,
         "sparsity": 1 - 0.5**round,
         "test_accuracy": 0.97 - loss + 0.002 * ((seed + round) % 3 - 1)}
        for round, loss in enumerate((0, 0, 0.002, 0.006, 0.05))
        for seed in range(3)
    ]  # fmt: skip
    report = {"tolerance": 0.005, "paired": paired} | changes
    config = {"name": "toy", "report": report, "dataset": {"num_classes": 10}}
    (folder / "rounds.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    (folder / "config.yaml").write_text(json.dumps(config))
    (folder / "status.json").write_text(json.dumps({"state": "done"}))
    return FinishedRun.load(folder)


def test_rounds_are_planned_from_the_sparsest_shown_match_to_the_first_refuted_one(tmp_path):
    verdict = judge(a_run(tmp_path / "run"))
    assert [one.matches for one in verdict.of("ticket")] == ["shown", *["undecided"] * 2, "refuted"]
    found = plan(verdict)
    assert [one.level.round for one in found] == [1, 2, 3, 4]
    assert losses(verdict) == (0, 0.0025)
    for one in found:
        none, half = one.seeds
        assert none < half  # a quarter of the room is four times as many, but for t
        assert one.spread == pytest.approx(one.seen.error * math.sqrt(3))


def test_a_paired_run_is_planned_with_a_degree_of_freedom_a_seed(tmp_path):
    [first, *_] = plan(judge(a_run(tmp_path / "run", paired=True)))
    n, of_spread = first.seeds[0], first.spread / 0.005
    need = {k: (of_spread * float(stdtrit(k - 1, 0.95) + stdtrit(k - 1, 0.8))) ** 2
            for k in (n - 1, n)}  # fmt: skip
    assert need[n] <= n
    assert need[n - 1] > n - 1


def test_lth_report_plans_seeds_and_draws_nothing(tmp_path, capsys):
    run = a_run(tmp_path / "run")
    files = sorted(run.folder.iterdir())
    with pytest.raises(SystemExit):
        main([str(run.folder), "--plan-seeds", "--out", "elsewhere"])
    assert main([str(run.folder), "--plan-seeds"]) == 0
    told = capsys.readouterr().out
    assert "loss none  loss 0.25 points" in told
    assert "at a tolerance of 0.5 points" in " ".join(told.split())
    rounds = [line.split() for line in told.splitlines() if line.strip()[:1].isdigit()]
    assert [(one[0], one[4]) for one in rounds] == [
        ("1", "shown"), ("2", "undecided"), ("3", "undecided"), ("4", "refuted"),
    ]  # fmt: skip
    assert "Not in the table" not in told
    assert sorted(run.folder.iterdir()) == files


def a_run_of_samples(folder: Path) -> Path:
    """Twelve rounds, 40 samples each; the last four lose all, and from the sixth on a fifth."""
    folder.mkdir()
    draws = np.random.default_rng(0)
    hard = np.arange(40) % 5 == 0
    for round in range(13):
        for seed in range(3):
            chance = np.where(hard & (round > 5), 0.1, 0.99) * (round < 9)
            right = torch.from_numpy(draws.random(40) < chance)
            place = {"round": round, "arm": "ticket", "seed": seed}
            facts = place | {"training_key": f"{round} {seed}"}
            kept = {"density": 0.8**round, "test_accuracy": float(right.double().mean())}
            append_rows(folder / "rounds.jsonl", [facts | kept])
            packed = Outcomes(torch.zeros(1), right).packed()
            append_rows(folder / "samples.jsonl", [samples_row(facts, packed)])
    return folder


def test_a_plan_says_where_samples_stand_in_the_way_and_which_rounds_it_leaves_out(tmp_path):
    run = FinishedRun.load(a_run_of_samples(tmp_path / "run"))
    verdict = judge(run)
    found, told = plan(verdict), planned(run)
    for one in found:
        assert one.spread == pytest.approx(one.seen.fixed.error * math.sqrt(3))
        assert one.lasting == pytest.approx(math.sqrt(one.seen.samples.lasting))
    lines = {line.split()[0]: line for line in told.splitlines() if line.strip()[:1].isdigit()}
    assert {int(number) for number in lines} == {one.level.round for one in found}
    hindered = {str(one.level.round) for one in found if any(one.hindered)}
    assert hindered
    assert hindered == {number for number, line in lines.items() if "> 1000*" in line}
    assert "*: the 40 test samples stand in the way, and not the seeds" in " ".join(told.split())
    left = " ".join(told.split()).partition("Not in the table: ")[2]
    numbers = set()
    for low, high in re.findall(
        r"(\d+)(?: to (\d+))?(?=[ ,;]| \()", re.sub(r"\([^)]*\)", "", left)
    ):
        numbers |= set(range(int(low), int(high or low) + 1))
    assert numbers == set(range(1, 13)) - {one.level.round for one in found}
    assert "sparser than the first that is refuted" in left


@pytest.mark.parametrize(
    ("kept", "changed", "told"),
    [
        (lambda row: row["seed"] == 0, {}, "one seed does not tell how much seeds differ"),
        (lambda row: row["round"] == 0, {}, "Only the dense network has finished (97.0 ± 0.2 %, n"),
        (lambda row: True, {"test_accuracy": 0.9}, "3 seeds that all give the same to the digit"),
        (lambda row: row["round"] > 0, {}, "No dense network (round 0) with a test accuracy"),
        (lambda row: True, {"test_accuracy": None, "diverged": True}, "diverged in all of 3"),
    ],
)
def test_where_no_seeds_can_be_planned_the_reason_is_true(tmp_path, capsys, kept, changed, told):
    run = a_run(tmp_path / "run")
    rows = [row | changed for row in run.rows if kept(row)]
    (run.folder / "rounds.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    assert main([str(run.folder), "--plan-seeds"]) == 0
    assert told in " ".join(capsys.readouterr().out.split())
