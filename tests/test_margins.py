"""What masks share by chance, given how many weights each input and output keeps."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from lth_runner.runs.evidence.margins import kept_chances
from lth_runner.runs.evidence.overlap import overlap_of


def mask(*rows):
    return np.array([[bit == "1" for bit in row] for row in rows])


def test_chances_worked_by_hand():
    # columns alike, so that each row's weights are spread evenly: 2 / 3 and 1 / 3
    assert kept_chances(mask("110", "001")) == pytest.approx(
        np.array([[2 / 3] * 3, [1 / 3] * 3]), abs=1e-3
    )
    # rows of 2 and 1, columns of 2 and 1: there is one such mask
    assert kept_chances(mask("11", "10")) == pytest.approx(np.array([[1, 1], [1, 0]]), abs=0.02)
    # a column that keeps nothing leaves its share to the others
    assert kept_chances(mask("100", "010")) == pytest.approx(
        np.array([[0.5, 0.5, 0], [0.5, 0.5, 0]]), abs=1e-3
    )


def test_overlap_by_chance_worked_by_hand():
    # chances 2/3 and 1/3: 3 (4/9 + 1/9) = 5/3 shared of 3 + 3; by density 6 (1/2)^2 = 3/2
    one, other = {"a": mask("110", "001")}, {"a": mask("101", "010")}
    found = overlap_of("3", [one, other])
    assert found.jaccard == pytest.approx(1 / 5)
    assert found.by_units == pytest.approx((5 / 3) / (6 - 5 / 3), abs=1e-3)
    assert found.shuffled == found.random == pytest.approx((3 / 2) / (6 - 3 / 2))
    # variance 6 (2/9)^2 = 8/27 of what is shared; dJ / dc = (1 + J) / (6 - c)
    slope = (1 + 5 / 13) / (13 / 3)
    assert found.by_units_std == pytest.approx(math.sqrt(8 / 27) * slope, abs=1e-3)


def test_a_vector_and_a_single_output_are_conditioned_on_their_density_alone():
    assert kept_chances(np.array([True, False, True, False])) == pytest.approx(0.5)
    assert kept_chances(mask("1000")) == pytest.approx(0.25)
    assert kept_chances(np.ones((2, 3), dtype=bool)) == pytest.approx(1.0)


@settings(max_examples=30, deadline=None)
@given(
    shape=some.tuples(some.integers(2, 12), some.integers(2, 12), some.integers(1, 2)),
    density=some.floats(0.05, 0.95), seed=some.integers(0, 999),
)  # fmt: skip
def test_chances_keep_the_counts_of_every_row_and_column(shape, density, seed):
    kept = np.random.default_rng(seed).random(shape) < density
    found = kept_chances(kept)
    assert found.shape == kept.shape
    assert ((found >= 0) & (found <= 1)).all()
    assert found.sum(axis=(1, 2)) == pytest.approx(kept.sum(axis=(1, 2)), abs=2e-3)
    assert found.sum(axis=0) == pytest.approx(kept.sum(axis=0), abs=2e-3)


def test_chances_are_near_those_over_all_masks_with_the_same_counts():
    """All masks of five rows and five columns with these counts, listed."""
    kept = mask("11100", "10010", "01000", "10100", "00001")
    rows = [[np.array(r) for r in itertools.product((0, 1), repeat=5) if sum(r) == k]
            for k in kept.sum(axis=1)]  # fmt: skip
    every = [np.stack(r) for r in itertools.product(*rows)
             if (sum(r) == kept.sum(axis=0)).all()]  # fmt: skip
    assert len(every) > 100
    assert kept_chances(kept) == pytest.approx(np.mean(every, axis=0), abs=0.06)


def swapped(kept, rng, trades):
    """A curveball chain: two rows trade what one has and the other lacks (Strona et al., 2014)."""
    rows = [set(np.flatnonzero(row)) for row in kept]
    for _ in range(trades):
        i, j = rng.sample(range(len(rows)), 2)
        common, apart = rows[i] & rows[j], sorted(rows[i] ^ rows[j])
        rng.shuffle(apart)
        cut = len(rows[i]) - len(common)
        rows[i], rows[j] = common | set(apart[:cut]), common | set(apart[cut:])
    found = np.zeros_like(kept)
    for row, columns in zip(found, rows, strict=True):
        row[list(columns)] = True
    return found


@pytest.mark.slow
def test_overlap_by_chance_is_that_of_masks_that_trade_weights_at_random():
    """Inputs of unlike counts, as images have them: 40 x 60, a tenth kept; 400 pairs."""
    draws, rng = np.random.default_rng(0), random.Random(0)
    sizes = draws.normal(size=(2, 40, 60)) * np.exp(draws.normal(size=60))
    one, other = (abs(x) > np.quantile(abs(x), 0.9) for x in sizes)
    shared = []
    first, second = one, other
    for _ in range(400):
        first, second = swapped(first, rng, 80), swapped(second, rng, 80)
        shared.append(int((first & second).sum()))
    jaccards = [c / (int(one.sum()) + int(other.sum()) - c) for c in shared]
    found = overlap_of("1", [{"a": one}, {"a": other}])
    error = np.std(jaccards) / math.sqrt(len(jaccards))
    assert found.by_units > 1.3 * found.shuffled  # layer densities alone would mislead
    assert abs(found.by_units - np.mean(jaccards)) < 4 * error + 0.01 * found.by_units
    assert found.by_units_std == pytest.approx(np.std(jaccards), rel=0.25)
