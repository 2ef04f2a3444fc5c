"""How many seeds to plan for: by hand, against known figures, and as a user asks for it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from scipy.special import stdtrit

from lth_runner.runs.evidence.estimate import Estimate
from lth_runner.runs.evidence.planning import losses, plan, seeds_needed
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.evidence.verdict import judge
from lth_runner.runs.report.command import main


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
    assert sorted(run.folder.iterdir()) == files


def test_one_seed_tells_no_plan(tmp_path, capsys):
    run = a_run(tmp_path / "run")
    rows = [row for row in run.rows if row["seed"] == 0]
    (run.folder / "rounds.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    assert main([str(run.folder), "--plan-seeds"]) == 0
    assert "Two seeds or more tell how much seeds differ" in capsys.readouterr().out
