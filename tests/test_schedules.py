"""Densities on the way down, and that they end where they should."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lth_runner.schedule import Geometric, Iterations, Linear, at_once, rate_to_reach
from lth_runner.values.errors import UserError

SHAPES = ("exponential", "linear", "cubic")


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.floats(0.01, 0.999), st.integers(1, 200), st.sampled_from(SHAPES))
def test_densities_fall_and_end_at_the_sparsity_exactly(sparsity, iterations, shape):
    densities = Iterations(sparsity, iterations, shape)()
    assert len(densities) == iterations
    assert densities[-1] == 1 - sparsity
    assert all(after < before for before, after in pairwise((1.0, *densities)))


def test_a_hundred_exponential_steps_to_one_percent_are_tanakas():
    densities = Iterations(0.99, 100)()
    said = {1: 0.95499, 2: 0.91201, 25: 0.31623, 50: 0.1, 75: 0.03162, 99: 0.01047, 100: 0.01}
    assert {k: round(densities[k - 1], 5) for k in said} == said


def test_ten_exponential_steps_to_one_percent_are_de_jorges():
    said = [0.63096, 0.39811, 0.25119, 0.15849, 0.1, 0.0631, 0.03981, 0.02512, 0.01585, 0.01]
    assert [round(d, 5) for d in Iterations(0.99, 10)()] == said


def test_linear_steps_are_even():
    assert Iterations(0.8, 4, "linear")() == pytest.approx((0.8, 0.6, 0.4, 0.2), abs=1e-12)


def test_cubic_steps_are_zhu_and_guptas():
    # 0.2 + 0.8 (1 - x)^3 at x = 1/4, 1/2, 3/4, 1
    assert Iterations(0.8, 4, "cubic")() == pytest.approx((0.5375, 0.3, 0.2125, 0.2), abs=1e-12)


def test_exponential_steps_are_geometric_rounds():
    assert Iterations(0.875, 3)() == pytest.approx(Geometric(sparsity=0.875, rounds=3)())


@pytest.mark.parametrize("shape", SHAPES)
def test_one_step_is_at_once(shape):
    assert Iterations(0.9, 1, shape)() == (1 - 0.9,)


def test_one_round_ends_where_the_rounds_of_a_rate_would():
    assert at_once(rate=0.2, rounds=3)() == pytest.approx((0.512,))
    assert at_once(0.9, rate=0.2)() == pytest.approx((0.1,))
    assert at_once(0.9, rounds=2)() == pytest.approx((0.1**0.5, 0.1))  # without a rate


def test_a_rate_is_raised_where_its_rounds_would_not_reach_the_sparsity():
    assert rate_to_reach(0.75, rounds=2, least=0.2) == pytest.approx(0.5)
    assert rate_to_reach(0.19, rounds=2, least=0.2) == 0.2


def test_without_a_sparsity_the_rounds_say_how_far():
    rounds = Geometric(rate=0.2, rounds=3)()
    assert Iterations(rate=0.2, rounds=3, iterations=7)()[-1] == rounds[-1]
    assert len(Iterations(rate=0.2, rounds=3, iterations=7)()) == 7


@pytest.mark.parametrize("rate", [0.1, 0.2, None])
def test_the_rate_does_not_move_a_sparsity(rate):
    assert Iterations(0.9, rate=rate)() == (1 - 0.9,)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"sparsity": 90}, r"pruner\.sparsity=90 .*90 % would be 0\.9"),
        ({"sparsity": 1.0}, r"outside \(0, 1\)"),
        ({"sparsity": 0.9, "iterations": 0}, r"pruner\.iterations=0: give a whole number"),
        ({"sparsity": 0.9, "iterations": 2.5}, r"pruner\.iterations=2\.5"),
        ({"sparsity": 0.9, "iterations": True}, r"pruner\.iterations=True"),
        ({"sparsity": 0.9, "shape": "cubik"}, r"pruner\.shape='cubik'.*cubic"),
        ({}, "set two of"),
        ({"rate": 0.2}, "set two of"),
        ({"sparsity": 0.9, "rounds": 5}, r"pruner\.rounds=5 has no use"),
        ({"sparsity": 0.9, "rounds": 5, "rate": 0.2}, r"allow 11 rounds"),
    ],
)
def test_impossible_schedules_are_refused(options, why):
    with pytest.raises(UserError, match=why):
        Iterations(**options)


def test_a_tenth_of_all_weights_goes_in_each_round():
    expected = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    for one in (Linear(0.7, 0.1), Linear(0.7, rounds=7), Linear(rate=0.1, rounds=7)):
        assert one() == pytest.approx(expected)
    assert Linear(0.7, 0.1)()[-1] == 1 - 0.7
    assert Linear(0.25, 0.1)() == pytest.approx([0.9, 0.8, 0.75])


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        ((None, 0.1, 10), "leave none: give at most 9 rounds"),
        ((0.7, 0.1, 6), r"reach sparsity 0\.6.*allow 7 rounds"),
        ((0.7, 1e-6, None), "raise pruner.rate"),
        ((0.7, 1e-310, None), "raise pruner.rate"),
        ((0.7, None, None), "set two of"),
        ((70, 0.1, None), "70 % would be 0.7"),
    ],
)
def test_rounds_of_equal_size_that_do_not_work_out_are_refused(numbers, why):
    with pytest.raises(UserError, match=why):
        Linear(*numbers)
