"""The rule of every verdict: worked by hand, and by runs whose truth is known."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from lth_runner.runs.evidence.differences import Differences
from lth_runner.runs.evidence.estimate import (
    DIFFERENCE_LEVEL,
    LEVEL,
    Estimate,
    Sample,
    benjamini_hochberg,
    decide,
    holm,
    paired,
    sample,
    two_sample,
)
from lth_runner.runs.evidence.judge import Held, judge, words
from lth_runner.runs.evidence.means import number
from lth_runner.runs.evidence.needed import seeds_needed
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.evidence.verdict import Level, Verdict, num_judged, sparsest_of
from lth_runner.runs.measure import BEYOND


def test_two_samples_worked_by_hand():
    # variances 1 and 4 of three each: error^2 = 5 / 3, freedom = (5/3)^2 / (1/18 + 16/18) = 50/17
    found = two_sample(Sample(3, 2.0, 1.0, 2), Sample(3, 1.0, 4.0, 2))
    assert (found.n, found.difference) == (3, 1.0)
    assert found.error == pytest.approx(math.sqrt(5 / 3))
    assert found.freedom == pytest.approx(50 / 17)


def test_values_as_large_as_rows_may_have_them_are_compared():
    most = 0.99 * BEYOND
    found = two_sample(sample([most, -most]), sample([most, 0.0]))
    assert found.freedom == pytest.approx((2 + 0.5) ** 2 / (4 + 0.25))
    assert number(BEYOND) is None


def test_a_side_of_one_value_is_taken_to_vary_as_the_other_does():
    # variance 1 of three: error^2 = 1 (1 / 3 + 1)
    found = two_sample(sample([5.0]), sample([1.0, 2.0, 3.0]))
    assert (found.n, found.error) == (1, pytest.approx(math.sqrt(4 / 3)))
    assert found.freedom == 2


def test_paired_differences_that_rounding_alone_tells_apart_are_equal_and_one_image_is_not():
    # 933/1000 - 932/1000 is not exactly 965/1000 - 964/1000 in binary
    draws = random.Random(0)
    for num in (359, 1000, 10_000):
        for _ in range(200):
            right = [draws.randint(num // 2, num - 3) for _ in range(5)]
            ours = {seed: (hits + 1) / num for seed, hits in enumerate(right)}
            theirs = {seed: hits / num for seed, hits in enumerate(right)}
            assert paired(ours, theirs).error is None
            assert paired({**ours, 0: (right[0] + 2) / num}, theirs).error is not None


def test_the_three_words_of_one_estimate():
    # t of one degree of freedom (Cauchy): P(T > 6.3138) = 0.05
    above, near, below = (Estimate(2, d, 1.0, 1.0) for d in (6.4, 6.2, -6.4))
    assert [decide(one) for one in (above, near, below)] == ["shown", "undecided", "refuted"]
    assert decide(above, limit=0.2) == "undecided"
    assert decide(Estimate(1, 100.0)) == decide(None) == "undecided"


def test_within_a_margin_takes_two_one_sided_tests():
    found = [Estimate(2, d, 1.0, 1.0) for d in (0.0, 5.0, 20.0)]
    assert [[p < LEVEL for p in one.p_within(7.0)] for one in found] == [
        [True, False], [False, False], [False, True],  # shown, undecided, refuted
    ]  # fmt: skip


def test_holm_and_benjamini_hochberg_worked_by_hand():
    p_values = {"a": 0.01, "b": 0.04, "c": 0.03}
    assert holm(p_values) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert benjamini_hochberg(p_values) == pytest.approx({"a": 0.03, "c": 0.04, "b": 0.04})
    assert holm({}) == benjamini_hochberg({}) == {}


def test_neighbours_of_the_same_variance_are_pooled_and_count():
    # s = 1 everywhere: nothing tells the variances apart, so that all five cells are one estimate:
    # s0^2 = exp(0 - psi(1)) = exp(.5772157) = 1.781072, s^2 = (8 * 1.781072 + 2 * 1) / 10
    found = sample([1.0, 2.0, 3.0], [[5.0, 6.0, 7.0]] * 4)
    assert found.variance == pytest.approx(1.624858)
    assert found.freedom == 10


def test_neighbours_that_differ_by_orders_count_for_little():
    own, far = [1.0, 2.0, 3.0], [[0.0, 10.0**k, 2 * 10.0**k] for k in (-4, -2, 2, 4)]
    assert 2 < sample(own, far).freedom < 4


def test_equal_values_vary_by_the_measures_step_where_neighbours_vary():
    assert sample([0.5] * 3, step=0.1).variance is None  # nothing says how seeds vary
    near = [[0.4, 0.5, 0.6], [0.3, 0.4, 0.5], [0.5, 0.6, 0.7]]
    found = sample([0.5] * 3, near, step=0.1)
    assert 0.01 / 12 < found.variance < 0.01


@pytest.mark.parametrize(
    ("spread", "loss", "seeds"), [(0.2, 0.0, 3), (0.4, 0.0, 6), (0.2, 0.25, 6)]
)
def test_the_seeds_that_decide_are_those_of_the_formula(spread, loss, seeds):
    """n >= sd^2 (t + t)^2 / distance^2, sd of a difference, tolerance 0.5; see the docstring."""
    estimate = Estimate(3, -loss, spread / math.sqrt(3), 4)
    needed = seeds_needed(estimate, -0.5)
    assert abs(needed - seeds) <= 1  # the formula's t has n - 1 degrees of freedom, ours more
    assert seeds_needed(Estimate(1, 0.0), -0.5) is None
    assert seeds_needed(Estimate(3, -0.5, 0.1, 4), -0.5) is None  # at the limit no number would


# --- runs with a known truth, through the report's own code


def simulated(folder: Path, rng: random.Random, *, n: int, losses: list[float]) -> Verdict:
    """A run of digits' size in points: dense, then a ticket and a control a round."""
    rows = []

    def add(round: int, arm: str, mean: float) -> None:
        for seed in range(n):
            value = round_to_image(0.98 + (mean + rng.gauss(0, 0.28)) / 100)
            rows.append({"round": round, "arm": arm, "seed": seed, "density": 0.8**round,
                         "test_accuracy": value})  # fmt: skip

    add(0, "ticket", 0.0)
    for round, loss in enumerate(losses, 1):
        add(round, "ticket", -loss)
        add(round, "reinit", -loss)
    config = {"name": "simulated", "report": {"tolerance": 0.005}}
    return judge(FinishedRun(folder, config, {"state": "done"}, {}, tuple(rows)))


def round_to_image(value: float, images: int = 1000) -> float:
    return round(value * images) / images


def rates(tmp_path: Path, *, n: int, losses: list[float], repeats: int) -> dict[str, float]:
    """How often a round's match is shown or refuted, any '>' stands, and a match is beyond."""
    rng = random.Random(n + len(losses))
    found = {"shown": 0.0, "refuted": 0.0, "any_better": 0.0, "beyond": 0.0}
    for _ in range(repeats):
        verdict = simulated(tmp_path, rng, n=n, losses=losses)
        level = verdict.at("ticket", 3)
        found["shown"] += level.matches == "shown"
        found["refuted"] += level.matches == "refuted"
        found["any_better"] += any(one.ticket_is_better for one in verdict.levels)
        truth = sum(loss < 0.5 for loss in losses)  # rounds that truly match are the first ones
        shown = verdict.shown()
        found["beyond"] += shown is not None and shown.round > truth
    return {name: count / repeats for name, count in found.items()}


def most(rate: float, repeats: int) -> float:
    """A rate with three and a half standard errors of its simulation, and one run more."""
    return rate + 3.5 * math.sqrt(rate * (1 - rate) / repeats) + 1 / repeats


@pytest.mark.parametrize(
    "repeats", [60, pytest.param(2000, marks=pytest.mark.slow)], ids=["quick", "whole"]
)
def test_verdicts_of_runs_with_a_known_truth_err_no_oftener_than_they_say(tmp_path, repeats):
    no_effect, at_limit = [0.0] * 6, [0.0, 0.0, 0.5, 0.5, 0.5, 0.5]
    decline = [0.0, 0.0, 0.75, 1.5, 2.5, 4.0]
    for n in (3, 5):
        quiet = rates(tmp_path, n=n, losses=no_effect, repeats=repeats)
        assert quiet["refuted"] <= most(0.005, repeats)
        assert quiet["any_better"] <= most(DIFFERENCE_LEVEL, repeats)
        # two-sample power by the formula, sd of a seed 0.28: .55 (n = 3), .82 (n = 5); pooled more
        assert quiet["shown"] >= {3: 0.55, 5: 0.80}[n] - 3.5 * math.sqrt(0.25 / repeats)
        edge = rates(tmp_path, n=n, losses=at_limit, repeats=repeats)
        assert edge["shown"] <= most(LEVEL, repeats)
        assert edge["refuted"] <= most(LEVEL, repeats)
        assert edge["beyond"] <= most(LEVEL, repeats)
        falling = rates(tmp_path, n=n, losses=decline, repeats=repeats)
        assert falling["beyond"] <= most(0.02, repeats)


@pytest.mark.parametrize(
    "repeats", [60, pytest.param(2000, marks=pytest.mark.slow)], ids=["quick", "whole"]
)
def test_a_sparsest_match_that_is_picked_from_many_runs_counts_them_all_in(tmp_path, repeats):
    rng = random.Random(7)
    alone = together = 0
    for _ in range(repeats // 4):
        runs = {name: simulated(tmp_path, rng, n=3, losses=[0.5]) for name in range(12)}
        assert num_judged(runs.values()) == 12
        alone += sparsest_of(runs, among=1) is not None
        together += sparsest_of(runs, among=12) is not None
    assert together / (repeats // 4) <= most(LEVEL, repeats // 4)
    assert alone / (repeats // 4) > 0.25  # 1 - .95^12 = .46


@pytest.mark.parametrize(
    "repeats", [60, pytest.param(2000, marks=pytest.mark.slow)], ids=["quick", "whole"]
)
@pytest.mark.parametrize(
    ("n", "two_sample_power", "pooled_power"), [(3, 0.52, 0.74), (5, 0.84, 0.92), (10, 1.0, 1.0)]
)
def test_the_power_to_see_a_difference_lies_between_two_samples_and_all_rounds_pooled(
    tmp_path, repeats, n, two_sample_power, pooled_power
):
    """0.3 points over 18 rounds, a seed varying by 0.14: as computed from t distributions."""
    rng, found, null = random.Random(n), 0, 0
    for _ in range(repeats):
        rows = [
            {"round": round, "arm": arm, "seed": seed, "density": 0.8**round,
             "test_accuracy": 0.98 + (rng.gauss(0, 0.14) - lead * (arm == "reinit")) / 100}
            for round in range(19) for lead in [0.3 * (round < 10)]
            for arm in ("ticket", "reinit") if round or arm == "ticket"
            for seed in range(n)
        ]  # fmt: skip
        differ = Differences(FinishedRun(tmp_path, {"name": "x"}, {}, {}, tuple(rows)))
        leads = [differ(("ticket", round), ("reinit", round)) for round in (9, 18)]
        words = [decide(lead, 0.0, DIFFERENCE_LEVEL) for lead in leads]
        found += words[0] == "shown"
        null += words[1] == "shown"
    noise = 0.0 if repeats > 1000 else 3.5 * math.sqrt(0.25 / repeats)
    assert two_sample_power - 0.05 - noise <= found / repeats <= pooled_power + 0.05 + noise
    assert null / repeats <= most(DIFFERENCE_LEVEL, repeats)


def test_paired_is_what_a_run_asks_for(tmp_path):
    rows = [
        {"round": r, "arm": "ticket", "seed": s, "density": 0.5**r, "test_accuracy": a + s / 100}
        for r, a in ((0, 0.90), (1, 0.899))
        for s in range(3)
    ]
    rows[-1]["test_accuracy"] += 0.0001
    config = {"name": "x", "report": {"tolerance": 0.005, "paired": True}}
    parts = [
        FinishedRun(tmp_path, given, {}, {}, tuple(rows))
        for given in (config, config | {"report": {"tolerance": 0.005}})
    ]
    together, apart = (judge(run).at("ticket", 1) for run in parts)
    assert together.against_dense.error < apart.against_dense.error / 10
    assert (together.matches, apart.matches) == ("shown", "undecided")


def arm(name: str, mean: float | None, *, diverged: int = 0, at_chance: bool = False) -> Level:
    """A level of three replicates."""
    return Level(name, 1, 0.1, 3 - diverged, mean, 0.001, diverged, at_chance)


def test_divergence_refutes_and_chance_is_nothing_to_match_before_any_difference_is_looked_at():
    far = Estimate(3, 0.5, 0.001, 4)
    ticket, lost = arm("ticket", 0.9), arm("ticket", 0.9, diverged=2)
    guessing, gone = arm("own", 0.1, at_chance=True), arm("own", None, diverged=3)
    every = {
        "open": Held(ticket, arm("own", 0.4), far),
        "diverged": Held(lost, arm("own", 0.4), far),
        "all diverged": Held(arm("ticket", None, diverged=3), arm("own", 0.4), None),
        "chance": Held(ticket, guessing, far),
        "diverged beside chance": Held(lost, guessing, far),
        "nothing there": Held(lost, gone, None),
        "not measured": Held(ticket, None, None),
    }
    lost_ones = {key: "refuted" for key in every if key.startswith(("diverged", "all"))}
    assert words(every, 0.0, LEVEL, as_good=True) == {"open": "shown", **lost_ones}
    better = words(every, 0.0, LEVEL, as_good=False)
    assert better == {"open": "shown", "chance": "shown", **lost_ones}


def test_a_ticket_that_diverged_is_not_better_than_a_control_by_its_other_seeds(tmp_path):
    rows = [
        {"round": r, "arm": a, "seed": s, "density": 0.5**r, "test_accuracy": value + s / 1000}
        for r, a, value in ((0, "ticket", 0.9), (1, "ticket", 0.9), (1, "random", 0.5))
        for s in range(3)
    ]
    config = {"name": "x", "report": {"tolerance": 0.005}}
    assert judge(FinishedRun(tmp_path, config, {}, {}, tuple(rows))).beaten(1) == ("random",)
    for row in rows[4:6]:
        row |= {"test_accuracy": None, "diverged": True}
    verdict = judge(FinishedRun(tmp_path, config, {}, {}, tuple(rows)))
    assert verdict.beaten(1) == ()
    assert verdict.at("ticket", 1).matches == "refuted"
