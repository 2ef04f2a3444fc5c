"""The trade-off model: worked by hand, and how often its intervals hold a truth that is known."""

from __future__ import annotations

import math
import random

import pytest

from lth_runner.runs.evidence.tradeoff import Fit, Model, Observation, Range, r_squared_words
from lth_runner.runs.evidence.tradeoff_fit import fit, seed_spread

TRUTH = Model(dense=0.975, b_inf=0.004, b_0=0.02, tau=400.0)
STEPS, SPARSITIES = (0, 100, 250, 500, 1000, 2000), (0.5, 0.8, 0.9, 0.95, 0.98)
TOLERANCE = 0.02


def trainings(law=TRUTH, *, seeds=3, noise=0.0, shared=0.0, steps=STEPS, sparsities=SPARSITIES,
              rng=None):  # fmt: skip
    """Each seed's dense training and tickets; `shared`: the noise that all of a seed have."""
    rng = rng or random.Random(0)
    found = []
    for seed in range(seeds):
        own = rng.gauss(0, shared)
        places = [(0, 0.0), *((k, s) for k in steps for s in sparsities)]
        found += [Observation(k, s, seed, law.accuracy(k, s) + own + rng.gauss(0, noise))
                  for k, s in places]  # fmt: skip
    return found


def fitted(found, tolerance=TOLERANCE):
    return fit(found, tolerance=tolerance)


def test_a_fit_to_the_model_itself_recovers_it():
    result = fitted(trainings())
    for name in ("dense", "b_inf", "b_0", "tau"):
        found = result.parameter(name)
        assert found.value == pytest.approx(getattr(TRUTH, name), rel=1e-4)
        assert found.high - found.low < 1e-3 * found.value
    assert result.r_squared == pytest.approx(1)
    assert result.trusted


def test_a_ticket_of_a_weight_in_a_million_has_its_place_in_the_fit():
    assert fitted(trainings(sparsities=(0.5, 0.9, 1 - 1e-6))).trusted


def test_sparsest_match_and_smallest_step_worked_by_hand():
    # dense .9, tolerance .09: 1 - tolerance / dense = .9, and s_max = 1 - .9^(1 / b).
    # b = .5 + .5 exp(-k / 100): b(0) = 1, s_max = .1; b(100 ln 2) = .75, s_max = 1 - .9^(4/3)
    law = Model(0.9, 0.5, 0.5, 100.0)
    result = fitted(trainings(law, steps=(0, 50, 100, 200), sparsities=(0.05, 0.1, 0.15)), 0.09)
    half = 1 - 0.9 ** (4 / 3)
    assert result.largest_sparsity(0).value == pytest.approx(0.1, rel=1e-4)
    assert result.largest_sparsity(100 * math.log(2)).value == pytest.approx(half, rel=1e-4)
    assert result.smallest_step(half).value == pytest.approx(100 * math.log(2), rel=1e-3)
    assert result.smallest_step(0.09) == Range(0.0, 0.0, 0.0)  # matches from the start on
    assert result.smallest_step(0.19).value is None  # b = .5, which no step reaches
    assert result.smallest_step(0.0) == Range(0.0, 0.0, 0.0)
    assert result.smallest_step(1.0) == Range(None, None, None)
    no_loss = Fit(Model(0.9, -0.1, 0.05, 100.0), (), 0.09, 9, 1, (0, 50), (0.5,), 1, 0, None,
                  None, at_bound=False)  # fmt: skip
    assert no_loss.largest_sparsity(0) == Range(1.0, None, None)


def test_an_interval_is_that_of_student_t_over_seeds_drawn_in_all_ways():
    """Dense .8 and .9, else alike: mean .85, standard error .05, t of one degree 12.706."""
    found = trainings(Model(0.8, 0.004, 0.02, 400.0), seeds=1)
    found += [Observation(p.step, p.sparsity, 1, p.accuracy * 0.9 / 0.8) for p in found]
    result = fitted(found)
    assert [chance for chance, _ in result.draws] == [0.25, 0.5, 0.25]
    dense = result.parameter("dense")
    assert dense.value == pytest.approx(0.85, rel=1e-6)
    assert (dense.low, dense.high) == pytest.approx((0.85 - 0.6353, 0.85 + 0.6353), abs=1e-3)


FLAT, WEAK = Model(0.975, 0.02, 0.0, 400.0), Model(0.975, 0.01, 0.001, 400.0)


class Cliff:
    """No loss at all up to nine tenths, and then a fall."""

    def accuracy(self, step, sparsity):
        return 0.97 - 0.1 * (sparsity > 0.9) * math.exp(-step / 400)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (trainings(steps=(200, 800), noise=0.002), "fewer than 3 rewind steps (2)"),
        (trainings(sparsities=(0.5, 0.9), noise=0.002), "fewer than 3 sparsities (2)"),
        (trainings(seeds=1, noise=0.002), "one seed does not tell how much seeds vary"),
        (trainings(Cliff(), noise=0.002), "its form is wrong"),
        (trainings(FLAT, noise=0.002), "that later rewinding loses less is not shown"),
        (trainings(WEAK, noise=0.004), "that later rewinding loses less is not shown"),
        (trainings(steps=(0, 1, 2), seeds=5, noise=0.002), "tau is not identified"),
        (trainings(steps=(0, 4000, 8000), noise=0.002), "tau is not identified"),
    ],
)
def test_a_fit_that_should_not_be_trusted_says_why(found, words):
    result = fitted(found)
    assert not result.trusted
    assert words in "; ".join(result.doubts)


def test_without_a_later_rewinding_nothing_is_fitted():
    assert fitted(trainings(steps=(0,))) is None


def test_r_squared_far_below_that_of_the_mean_is_written_without_digits():
    assert (r_squared_words(-0.1234), r_squared_words(None)) == ("−0.123", "undefined")
    assert r_squared_words(-7.0) == "below −1"


def test_seed_spread_pools_by_degrees_of_freedom():
    # variances .0002 (1 degree of freedom) and .0001 (2): (.0002 + 2 * .0001) / 3
    values = {(1, 0.5): (0.50, 0.52), (2, 0.5): (0.60, 0.61, 0.62), (3, 0.5): (0.9,)}
    found = [Observation(k, s, i, v) for (k, s), vs in values.items() for i, v in enumerate(vs)]
    assert seed_spread(found) == pytest.approx((0.0004 / 3) ** 0.5)
    assert seed_spread(found[-1:]) is None


# --- how often intervals hold the truth


def truths():
    """By name: the truth, and how a fit tells it."""
    lost = -math.log1p(-TOLERANCE / TRUTH.dense)
    found = {name: (getattr(TRUTH, name), lambda f, name=name: f.parameter(name))
             for name in ("dense", "b_inf", "b_0", "tau")}  # fmt: skip
    for k in (0, 250, 2000):
        s = -math.expm1(-lost / TRUTH.exponent(k))
        found[f"s_max({k})"] = s, lambda f, k=k: f.largest_sparsity(k)
    for s in (0.8, 0.9, 0.95):
        k = -TRUTH.tau * math.log((lost / -math.log1p(-s) - TRUTH.b_inf) / TRUTH.b_0)
        found[f"k*({s})"] = k, lambda f, s=s: f.smallest_step(s)
    return found


def coverage(*, repeats, **how):
    """By name: how often an interval holds the truth; and how often a fit is trusted."""
    rng, known = random.Random(7), truths()
    hits, trusted = dict.fromkeys(known, 0), 0
    for _ in range(repeats):
        result = fitted(trainings(rng=rng, **how))
        trusted += result.trusted
        for name, (truth, told) in known.items():
            found = told(result)
            high = math.inf if found.high is None else found.high
            hits[name] += found.low is not None and found.low <= truth <= high
    return {name: count / repeats for name, count in hits.items()}, trusted / repeats


@pytest.mark.parametrize(
    ("seeds", "noise", "shared", "repeats"),
    [
        (3, 0.003, 0.0, 24),
        pytest.param(2, 0.003, 0.0, 400, marks=pytest.mark.slow),
        pytest.param(3, 0.003, 0.0, 400, marks=pytest.mark.slow),
        pytest.param(3, 0.002, 0.002, 400, marks=pytest.mark.slow),
        pytest.param(5, 0.003, 0.0, 200, marks=pytest.mark.slow),
        pytest.param(10, 0.003, 0.0, 200, marks=pytest.mark.slow),
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_say(seeds, noise, shared, repeats):
    found, trusted = coverage(seeds=seeds, noise=noise, shared=shared, repeats=repeats)
    told = ", ".join(f"{name} {share:.2f}" for name, share in found.items())
    print(f"{seeds} seeds, noise {noise:g} + {shared:g}: {told}; trusted {trusted:.2f}")
    least = 0.92 - 3.5 * math.sqrt(0.95 * 0.05 / repeats)
    assert min(found.values()) >= least
    assert trusted >= 0.5


@pytest.mark.parametrize("repeats", [12, pytest.param(300, marks=pytest.mark.slow)])
def test_a_trade_off_that_is_not_there_is_seldom_trusted(repeats):
    rng = random.Random(3)
    wrong = sum(fitted(trainings(FLAT, noise=0.003, rng=rng)).trusted for _ in range(repeats))
    print(f"no gain of later rewinding: {wrong} of {repeats} fits trusted")
    assert wrong / repeats <= 0.025 + 3.5 * math.sqrt(0.025 * 0.975 / repeats)
