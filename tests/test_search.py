"""Schedules, and the search that proposes tickets from finished rounds."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_past import CLOCK, Fake, equal, small_task
from lth_runner.allocate import Global
from lth_runner.control import permuted
from lth_runner.schedule import Geometric
from lth_runner.score import Magnitude
from lth_runner.search import Iterative
from lth_runner.search.rewind import Rewind
from lth_runner.values.errors import UserError

quick = settings(derandomize=True, deadline=None, max_examples=60)


# --- schedules


def test_each_round_takes_its_share_of_what_remains():
    assert Geometric(rate=0.2, rounds=3)() == pytest.approx((0.8, 0.64, 0.512), abs=1e-12)


def test_the_last_round_lands_on_the_sparsity_exactly():
    densities = Geometric(sparsity=0.95, rate=0.2)()
    assert len(densities) == 14  # 0.8^13 = 0.055, 0.8^14 = 0.044
    assert densities[-1] == 1 - 0.95
    assert densities[:-1] == pytest.approx([0.8**r for r in range(1, 14)], abs=1e-12)


def test_a_sparsity_that_whole_rounds_reach_takes_no_extra_round():
    for rounds in range(1, 30):
        sparsity = 1 - 0.8**rounds
        assert len(Geometric(sparsity=sparsity, rate=0.2)()) == rounds


def test_two_sparsities_share_the_rounds_before_their_last():
    low, high = (Geometric(sparsity=s, rate=0.2)() for s in (0.9, 0.99))
    shared = len(low) - 1
    assert low[:shared] == high[:shared]  # bit for bit: the Store goes by it
    assert Geometric(rate=0.2, rounds=shared)() == high[:shared]


def test_sparsity_and_rounds_give_the_rate():
    densities = Geometric(sparsity=0.875, rounds=3)()
    assert densities == pytest.approx((0.5, 0.25, 0.125), abs=1e-12)
    assert Geometric(sparsity=0.9, rounds=1)() == (1 - 0.9,)


@quick
@given(st.floats(0.01, 0.99), st.floats(0.05, 0.9))
def test_densities_fall_and_end_at_the_sparsity(sparsity, rate):
    densities = (1.0, *Geometric(sparsity=sparsity, rate=rate)())
    assert all(after < before for before, after in pairwise(densities))
    assert densities[-1] == 1 - sparsity


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"sparsity": 95, "rate": 0.2}, r"pruner\.sparsity=95 .*95 % would be 0\.95"),
        ({"sparsity": 1.0, "rate": 0.2}, r"pruner\.sparsity=1\.0 is outside \(0, 1\)"),
        ({"sparsity": 0.9, "rate": 20}, r"pruner\.rate=20 .*20 % would be 0\.2"),
        ({"sparsity": 0, "rate": 0.2}, r"pruner\.sparsity=0 is outside"),
        ({"rate": 0.2, "rounds": 0}, "whole number, at least 1"),
        ({"rate": 0.2, "rounds": 2.5}, r"pruner\.rounds=2\.5"),
        ({"rate": 0.2}, r"set two of pruner\.sparsity, pruner\.rate and pruner\.rounds"),
        ({}, "set two of"),
        ({"sparsity": 0.95, "rate": 0.2, "rounds": 13}, r"reach sparsity 0\.945.*allow 14 rounds"),
    ],
)
def test_impossible_schedules_are_refused(options, why):
    with pytest.raises(UserError, match=why):
        Geometric(**options)


def test_all_three_may_be_set_where_they_agree():
    assert Geometric(0.95, 0.2, 14)() == Geometric(0.95, 0.2)()


# --- the search


def search(**options):
    return Iterative(Magnitude(), Global(), Geometric(rate=0.2, rounds=3), Rewind(**options))


def rounds(search, task):
    """Every ticket to the end, each trained in pretence."""
    past = []
    while (ticket := search.propose(task, past)) is not None:
        past.append(Fake(task, len(past), ticket))
    return past


def test_the_first_ticket_is_the_dense_network_at_its_initial_weights():
    task = small_task()
    first = search().propose(task, [])
    assert first.mask == task.dense()
    assert equal(first.weights, task.init())
    assert (first.start.step, first.start.order) == (0, 0)


def test_rounds_end_with_the_schedule_at_exact_counts():
    past = rounds(search(), small_task())
    assert len(past) == search().num_rounds == 4
    assert [t.mask.num_kept for t in past] == [81, 65, 52, 41]  # of 81 * 0.8^r


def test_masks_are_nested_and_hold_the_largest_trained_weights():
    past = rounds(search(), small_task())
    for before, after in pairwise(past):
        assert after.mask <= before.mask
        size = torch.cat([before.weights[n].abs().flatten() for n in before.mask])
        kept = torch.cat([after.mask[n].flatten() for n in before.mask])
        assert size[kept].min() > size[~kept].max()


def test_survivors_are_the_snapshots_bits_and_the_rest_is_zero():
    past = rounds(search(step="2ep"), small_task())
    early = past[0].at(100)
    for trained in past[1:]:
        masked = trained.ticket.masked
        for name, kept in trained.mask.items():
            assert torch.equal(masked[name][kept], early[name][kept])
            assert not masked[name][~kept].any()
            assert not torch.signbit(masked[name][~kept]).any()


def test_a_proposal_is_a_function_of_the_past_alone():
    task, one = small_task(), search(step="2ep")
    past = rounds(one, task)
    for length in reversed(range(len(past) + 1)):
        again = search(step="2ep").propose(task, past[:length])
        if length == len(past):
            assert again is None
            continue
        assert again.mask == past[length].ticket.mask
        assert equal(again.weights, past[length].ticket.weights)
        assert again.start == past[length].ticket.start


def test_the_search_asks_for_the_snapshot_that_it_rewinds_to():
    assert list(search(step="2ep").snapshots(CLOCK)) == [100]
    past = rounds(search(step="2ep"), small_task())
    assert set(past[0].asked) == {100}
    assert not any(trained.asked for trained in past[1:])


def test_a_mask_that_moved_in_training_is_the_one_pruned_further():
    task = small_task()
    past = rounds(search(), task)[:2]
    moved = permuted(past[1].mask, seed=0)
    past[1] = replace(past[1], moved=moved)
    third = search().propose(task, past)
    assert third.mask <= moved
    assert not third.mask <= past[1].ticket.mask
    assert third.mask.num_kept == 52
