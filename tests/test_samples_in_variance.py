"""Test samples in the variance: worked by hand, and by runs whose truth is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lth_runner.problem.outcomes import Outcomes
from lth_runner.runs.evidence.by_sample import SamplePart, Table, sample_part
from lth_runner.runs.evidence.estimate import (
    LEVEL,
    Estimate,
    Sample,
    decide,
    over_samples,
    paired,
    two_sample,
)
from lth_runner.runs.evidence.judge import judge
from lth_runner.runs.evidence.merged import merged_run, on_levels
from lth_runner.runs.evidence.needed import samples_hinder, samples_needed, seeds_needed
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.evidence.verdict import Verdict
from lth_runner.runs.folder import append_rows
from lth_runner.runs.pages.wording import deciding
from lth_runner.runs.report.headline import headline
from lth_runner.runs.report.method import method
from lth_runner.runs.samples import samples_row


def table(*seeds: list[float]) -> Table:
    found = Table.of([np.array(values) for values in seeds])
    assert found is not None
    return found


# --- by hand


def test_the_variance_over_seeds_and_samples_worked_by_hand():
    # seeds x samples: [[4, 2], [2, 0]] has no residual, [[1, 1], [1, 3]] one of 4 (1/2)^2 / 1 = 1
    first = Sample(2, 2.0, 2.0, 1, table([4, 2], [2, 0]))
    second = Sample(2, 1.5, 0.5, 1, table([1, 1], [1, 3]))
    found = two_sample(first, second)
    # seeds: 2 / 2 + 0.5 / 2 = 1.25; samples: D = (2, -1), 4.5 / 2 = 2.25; residual: 1 / (2 * 2)
    assert found.error**2 == pytest.approx(1.25 + 2.25 - 0.25)
    # 3.25^2 / (1^2 / 1 + 0.25^2 / 1 + 2.25^2 / 1 + 0.25^2 / 1)
    assert found.freedom == pytest.approx(3.25**2 / (1 + 0.0625 + 5.0625 + 0.0625))
    assert found.difference == found.fixed.difference == 0.5
    assert found.fixed.error == pytest.approx(math.sqrt(1.25))
    assert (-found).error == found.error
    assert (-found).fixed.error == found.fixed.error


def test_of_pairs_it_is_the_balanced_analysis_of_variance():
    rng = np.random.default_rng(0)
    n, num = 4, 30
    ours, theirs = (rng.normal(size=(n, 1)) + rng.normal(size=num) + rng.normal(size=(n, num))
                    for _ in range(2))  # fmt: skip
    d = ours - theirs
    rows, columns, whole = d.mean(1), d.mean(0), d.mean()
    ms_seed = num * ((rows - whole) ** 2).sum() / (n - 1)
    ms_sample = n * ((columns - whole) ** 2).sum() / (num - 1)
    ms_rest = ((d - rows[:, None] - columns + whole) ** 2).sum() / ((n - 1) * (num - 1))
    means = ({seed: float(one.mean()) for seed, one in enumerate(of)} for of in (ours, theirs))
    found = paired(*means, Table.of(list(d)))
    variance = (ms_seed + ms_sample - ms_rest) / (n * num)
    assert found.error**2 == pytest.approx(variance)
    terms = ((ms_seed, n - 1), (ms_sample, num - 1), (ms_rest, (n - 1) * (num - 1)))
    freedom = (variance * n * num) ** 2 / sum(ms**2 / degrees for ms, degrees in terms)
    assert found.freedom == pytest.approx(freedom)


def test_the_variance_is_never_below_that_of_seeds_or_of_samples_alone():
    seeds = Estimate(3, 0.0, 1.0, 4.0)
    for samples, residual, error, freedom in ((0.5, 0.7, 1.0, 4), (2.0, 1.5, 2**0.5, 99)):
        found = over_samples(seeds, SamplePart(100, samples, ((residual, 200.0),)))
        assert (found.error, found.freedom) == (pytest.approx(error), freedom)


def test_without_both_arms_samples_only_seeds_vary():
    one, other = table([1, 0], [0, 1]), table([1, 0, 1], [0, 1, 1])
    assert sample_part(one, None) is None
    assert sample_part(one, other) is None
    assert Table.of([np.zeros(3), np.zeros(2)]) is None
    found = two_sample(Sample(2, 1.0, 1.0, 1, one), Sample(2, 0.0, 1.0, 1))
    assert (found.samples, found.fixed) == (None, found)


def test_an_arm_of_one_seed_is_taken_to_have_the_others_residual():
    part = sample_part(table([1, 1], [1, 3]), table([2, 1]))
    assert part.residual == pytest.approx(1 / (2 * 2) + 1 / (1 * 2))


# --- what would decide


def limited(*, by_seed: float, by_sample: float) -> Estimate:
    """A difference of -0.2 to a limit of -0.5, of 3 seeds and 100 samples, without residual."""
    return over_samples(Estimate(3, -0.2, by_seed, 4.0), SamplePart(100, by_sample**2))


def test_where_samples_limit_no_seeds_are_promised():
    estimate = limited(by_seed=0.05, by_sample=0.2)
    assert decide(estimate, -0.5) == "undecided"
    assert seeds_needed(estimate.fixed, -0.5) == 2
    assert seeds_needed(estimate, -0.5) is None
    needed = samples_needed(estimate, -0.5)
    # 0.04 * 100 / N (t(.95) + t(.8))^2 <= 0.3^2 less the seeds' part, t of 4 degrees: 2.13 + 0.94
    assert needed == pytest.approx(100 * 0.04 / (0.09 / 3.0728**2 - 0.0025), rel=0.01)
    assert samples_hinder(estimate, -0.5)
    told = deciding(estimate, -0.5, "images")
    assert told.startswith("no number of seeds up to 1000 would decide it on 100 images; about ")
    assert f"{needed:,} images would with 3 seeds" in told
    both = limited(by_seed=0.2, by_sample=0.2)
    assert samples_needed(both, -0.5) is None
    assert deciding(both, -0.5, "images").endswith("on 100 images; it takes more of both")


def test_where_seeds_alone_are_too_many_samples_are_not_said_to_stand_in_the_way():
    estimate = limited(by_seed=30.0, by_sample=0.01)
    assert seeds_needed(estimate.fixed, -0.5) is None
    assert not samples_hinder(estimate, -0.5)
    assert samples_hinder(limited(by_seed=30.0, by_sample=0.2), -0.5)  # 0.2 (1.64 + 0.84) > 0.3
    assert not samples_hinder(limited(by_seed=0.05, by_sample=0.01), -0.5)  # few seeds decide


def test_where_seeds_limit_their_number_takes_in_what_samples_leave():
    alone, both = limited(by_seed=0.2, by_sample=0.0), limited(by_seed=0.2, by_sample=0.08)
    assert 2 < seeds_needed(alone, -0.5) < seeds_needed(both, -0.5)
    assert deciding(both, -0.5).startswith(f"about {seeds_needed(both, -0.5)} seeds would decide")


# --- runs with a known truth, through the report's own code


@dataclass(frozen=True)
class InMemory:
    """What trainings made of each sample, without files."""

    folders: tuple[Path, ...] = ()
    values: dict[str, Any] = field(default_factory=dict)

    def of(self, key: str) -> Any:
        return self.values[key]


def simulated(rng: np.random.Generator, *, n: int, num: int, loss: float, **report: Any) -> Verdict:
    """Seeds x images: a twentieth of all images is hard, more often right in some arm than another.

    Over all images there are, each round of the ticket is right less often than dense by ``loss``.
    """
    rows, values = [], {}
    hard = rng.random(num) < 0.05
    for round in range(4):
        mean = 0.6 - (loss / 0.05 if round else 0)
        chance = np.where(hard, rng.beta(mean, 1 - mean, num), 0.995)
        for seed in range(n):
            luck = 1 - rng.exponential(0.002)  # of the whole training: 0.2 points
            right = (rng.random(num) < luck * chance).astype(float)
            key = f"{round} {seed}"
            values[key] = right
            rows.append({"round": round, "arm": "ticket", "seed": seed, "density": 0.8**round,
                         "test_accuracy": float(right.mean()), "training_key": key})  # fmt: skip
    config = {"name": "simulated", "report": {"tolerance": 0.005, **report}}
    kept = InMemory((), values)
    run = FinishedRun(Path(), config, {"state": "done"}, {}, tuple(rows), kept_samples=kept)  # type: ignore[arg-type]
    return judge(run)


def test_pages_say_what_varies_and_where_these_samples_alone_give_another_word():
    def told(**report: Any) -> tuple[Verdict, str]:
        verdict = simulated(np.random.default_rng(5), n=3, num=400, loss=0.0, **report)
        return verdict, f"{headline(verdict).text} {method(verdict)}"

    drawn, text = told()
    fixed, text_fixed = told(samples="fixed")
    assert drawn.shown() is None
    assert drawn.of_these_samples.shown().round == fixed.shown().round == 3
    assert "Of these 400 samples alone, the sparsest shown match is 48.8 %." in text
    assert "Seeds vary in it and the 400 test samples, as a draw" in text
    assert fixed.num_samples == 0
    assert "alone" not in text_fixed
    assert "the test samples are all that is asked about" in text_fixed
    one = method(simulated(np.random.default_rng(5), n=1, num=400, loss=0.0))
    assert "no interval: one seed does not tell how much seeds differ" in one
    assert "not kept" not in one


def test_runs_that_are_merged_bring_what_their_trainings_made_of_each_sample(tmp_path):
    """Two trainings of one place count once, by the mean of both."""
    rng = np.random.default_rng(0)
    runs, values = [], {}
    for number in (0, 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        rows = []
        for round, seed in ((0, 0), (1, 2 * number), (1, 2 * number + 1)):
            right = torch.from_numpy(rng.random(50) < 0.9)
            place = {"round": round, "arm": "ticket", "seed": seed}
            place["training_key"] = key = f"{number} {round} {seed}"
            values[key] = right.numpy()
            row = samples_row(place, Outcomes(torch.zeros(1), right).packed())
            append_rows(folder / "samples.jsonl", [row])
            rows.append(
                place | {"density": 0.5**round, "test_accuracy": float(right.float().mean())}
            )
        append_rows(folder / "rounds.jsonl", rows)
        runs.append(FinishedRun.load(folder))
    merged = on_levels(merged_run(runs), [0.5], runs)
    assert merged.by_sample("ticket", 1).keys() == {0, 1, 2, 3}
    both = (values["0 0 0"].astype(float) + values["1 0 0"]) / 2
    np.testing.assert_array_equal(merged.by_sample("ticket", 0)[0], both)
    assert judge(merged).num_samples == 50


def most(rate: float, repeats: int) -> float:
    """A rate with three and a half standard errors of its simulation, and one run more."""
    return rate + 3.5 * math.sqrt(rate * (1 - rate) / repeats) + 1 / repeats


@pytest.mark.parametrize(
    "repeats", [60, pytest.param(2000, marks=pytest.mark.slow)], ids=["quick", "whole"]
)
@pytest.mark.parametrize("paired", [False, True], ids=["two samples", "paired"])
def test_verdicts_on_drawn_images_err_no_oftener_than_they_say_and_on_fixed_ones_do(
    repeats: int, paired: bool
):
    rng = np.random.default_rng(repeats)
    for n in (3, 5):
        words = {name: {"shown": 0, "refuted": 0, "undecided": 0} for name in ("drawn", "fixed")}
        for _ in range(repeats):
            verdict = simulated(rng, n=n, num=1000, loss=0.005, paired=paired)  # at the tolerance
            words["drawn"][verdict.at("ticket", 2).matches] += 1
            words["fixed"][verdict.of_these_samples.at("ticket", 2).matches] += 1
        for word in ("shown", "refuted"):
            assert words["drawn"][word] / repeats <= most(LEVEL, repeats)
        wrong = words["fixed"]["shown"] + words["fixed"]["refuted"]
        assert wrong / repeats > 0.15  # a word each way may be wrong in one of twenty
        # no effect: a match is never refuted, and 4,000 images show many
        quiet = [simulated(rng, n=n, num=4000, loss=0.0, paired=paired) for _ in range(repeats)]
        found = [verdict.at("ticket", 2).matches for verdict in quiet]
        assert found.count("refuted") / repeats <= most(0.002, repeats)
        assert found.count("shown") / repeats > 0.35
