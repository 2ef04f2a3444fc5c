"""Scores and budgets: exact counts, nested, in order of score, ties by seed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_past import drawn, equal, small_task
from lth_runner.allocate import (
    Blocks,
    Channels,
    ErdosRenyi,
    Global,
    LayerWise,
    NOfM,
    Uniform,
    count,
    keep_top,
)
from lth_runner.masking import EdgePopup, Supermask
from lth_runner.problem.models import lenet300
from lth_runner.problem.requirements import check_exclude
from lth_runner.schedule import Geometric
from lth_runner.score import Magnitude, Random
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream

sizes = st.lists(st.integers(1, 30), min_size=1, max_size=4)
densities = st.floats(0, 1)
quick = settings(derandomize=True, deadline=None, max_examples=60)


def full(*shapes):
    return Mask({f"w{i}": torch.ones(shape, dtype=torch.bool) for i, shape in enumerate(shapes)})


def noise(mask, *names, levels=1000):
    """Scores with some ties: whole numbers below ``levels``."""
    return {
        name: torch.randint(levels, kept.shape, generator=stream(0, *names, name)).float()
        for name, kept in mask.items()
    }


def mask_of(**kept):
    return Mask({name: torch.tensor(value, dtype=torch.bool) for name, value in kept.items()})


# --- scores


@pytest.mark.parametrize("draw", ["normal", "sorted", "few-values", "mostly-zero"])
def test_selection_from_many_scores_is_exact(draw):
    """Where a sample narrows the search, whatever the order and the ties."""
    scores = torch.randn(300_000, generator=torch.Generator().manual_seed(0)).abs()
    if draw == "sorted":
        scores = scores.sort().values
    elif draw == "few-values":
        scores = scores.mul(2).round()
    elif draw == "mostly-zero":
        scores = torch.where(scores > 2.5, scores, 0.0)
    within = torch.ones(len(scores), dtype=torch.bool)
    within[::7] = False
    inside = scores[within].sort(descending=True).values
    for num in (1, 1000, 128_571, int(within.sum()) - 1):
        kept = keep_top(scores, within, num, seed=0)
        assert int(kept.sum()) == num
        assert not bool((kept & ~within).any())
        assert torch.equal(scores[kept].sort(descending=True).values, inside[:num])


def test_magnitude_is_the_absolute_value_of_what_is_prunable():
    weights = {"w": torch.tensor([-2.0, 0.0, 1.5]), "bias": torch.tensor([9.0])}
    scores = Magnitude()(small_task(), weights, mask_of(w=[1, 0, 1]))
    assert {name: value.tolist() for name, value in scores.items()} == {"w": [2.0, 0.0, 1.5]}


def test_random_scores_are_a_function_of_the_tasks_seed_alone():
    task = small_task()
    one, again, other = (
        Random()(t, drawn(t, n), t.dense()) for t, n in ((task, 1), (task, 2), (small_task(1), 1))
    )
    assert equal(one, again)
    assert all(not torch.equal(one[name], other[name]) for name in task.prunable)
    assert all(value.min() >= 0 and value.max() < 1 for value in one.values())
    flat = torch.cat([value.flatten() for value in one.values()])
    assert len(flat.unique()) == len(flat) == 81  # the layers' draws differ too


# --- budgets


@pytest.mark.parametrize(
    ("density", "num", "kept"), [(0.5, 5, 3), (0.49, 5, 2), (0.25, 10, 3), (0, 7, 0), (1, 7, 7)]
)
def test_a_count_is_rounded_to_the_nearest_halves_up(density, num, kept):
    assert count(density, num) == kept


def test_the_largest_scores_stay_by_hand():
    scores = torch.tensor([[5.0, 1.0, 4.0], [9.0, 2.0, 3.0]])
    within = torch.tensor([[1, 1, 1], [0, 1, 1]], dtype=torch.bool)
    kept = keep_top(scores, within, 3, seed=0)
    assert kept.tolist() == [[True, False, True], [False, False, True]]


@quick
@given(sizes, densities, st.integers(1, 5), st.integers(0, 3))
def test_global_counts_are_exact_nested_and_in_order_of_score(shapes, density, levels, seed):
    dense = full(*shapes)
    scores = noise(dense, levels=levels)
    kept = Global()(scores, density, dense, seed)
    assert kept.num_kept == count(density, dense.num_prunable)
    smaller = Global()(scores, density / 2, kept, seed)
    assert smaller.num_kept == count(density / 2, dense.num_prunable)
    assert smaller <= kept
    flat = torch.cat([scores[name].flatten() for name in dense])
    stays = torch.cat([kept[name].flatten() for name in dense])
    if stays.any() and not stays.all():
        assert flat[stays].min() >= flat[~stays].max()


@quick
@given(sizes, densities, st.integers(1, 5))
def test_layerwise_sums_are_exact_each_layer_within_one_nested_and_in_order_of_score(
    shapes, density, levels
):
    dense = full(*shapes)
    scores = noise(dense, levels=levels)
    kept = LayerWise()(scores, density, dense, 0)
    assert kept.num_kept == count(density, dense.num_prunable)
    for name, stays in kept.items():
        assert abs(int(stays.sum()) - density * stays.numel()) < 1
        if stays.any() and not stays.all():
            assert scores[name][stays].min() >= scores[name][~stays].max()


@pytest.mark.parametrize("avoid_collapse", [False, True])
@quick
@given(sizes, st.floats(0.01, 0.5), st.floats(0.01, 0.9), st.integers(1, 12))
def test_layerwise_rounds_are_exact_to_the_weight_and_nested(
    avoid_collapse, shapes, rate, own, rounds
):
    """With and without a rate of its own for one layer, to the last round that has its weights."""
    dense = full(*((size, 1) for size in shapes))
    scores = noise(dense)
    alike = LayerWise(avoid_collapse=avoid_collapse)
    unlike = LayerWise(rate=rate, rates={"w0": own}, avoid_collapse=avoid_collapse)
    for allocate in (alike, unlike):
        mask = dense
        for number, density in enumerate(Geometric(rate=rate, rounds=rounds)(), start=1):
            shares = [density * size for size in shapes]
            if allocate is unlike:
                shares[0] = (1 - own) ** number * shapes[0]
            exact = sum(shares) if allocate is unlike else density * sum(shapes)
            if avoid_collapse and math.floor(exact + 0.5) < len(shapes):
                break
            smaller = allocate(scores, density, mask, number)
            assert smaller <= mask
            # the powers' last digits may decide about a half
            assert smaller.num_kept in {math.floor(exact + 0.5 + e) for e in (-1e-9, 0, 1e-9)}
            if avoid_collapse:
                assert all(bool(kept.any()) for kept in smaller.values())
            mask = smaller


def test_a_layerwise_budgets_largest_remainders_are_rounded_up_by_hand():
    dense = full(7, 9, 11, 13)
    # 2.1, 2.7, 3.3 and 3.9 of 40: 12, two more than the whole ones
    kept = LayerWise()(noise(dense), 0.3, dense, 0)
    assert [int(value.sum()) for value in kept.values()] == [2, 3, 3, 4]
    # 1.75, 2.25, 2.75 and 3.25 of 40: 10; equal remainders in the network's order
    kept = LayerWise()(noise(dense), 0.25, dense, 0)
    assert [int(value.sum()) for value in kept.values()] == [2, 2, 3, 3]
    # an excluded layer does not take part: 2.1, 2.7, 3.3 are 8.1
    kept = LayerWise(exclude=["w3"])(noise(dense), 0.3, dense, 0)
    assert [int(value.sum()) for value in kept.values()] == [2, 3, 3, 13]
    # 0.5^2 of the last: 3.5, 4.5, 5.5, 3.25 are 16.75: 17, two more than the whole ones
    kept = LayerWise(rate=0.2, rates={"w3": 0.36})(noise(dense), 0.5, dense, 0)
    assert [int(value.sum()) for value in kept.values()] == [4, 5, 5, 3]


def test_what_an_almost_empty_layer_took_from_a_layer_does_not_stop_the_next_round():
    dense = full((13, 1), (1, 1), (1, 1), (1, 1))
    allocate = LayerWise(avoid_collapse=True)
    outer = allocate(noise(dense), 0.4, dense, 0)  # 5.2 and thrice 0.4: 6
    assert [int(value.sum()) for value in outer.values()] == [3, 1, 1, 1]
    inner = allocate(noise(dense), 0.396, outer, 0)  # 5.148: more than is left of the first
    assert inner == outer


def test_a_slow_layer_gives_a_weight_to_an_almost_empty_one_but_not_anew_in_every_round():
    """20 * 0.95^n and 8 * 0.95^n beside two layers that are due a weight between them, or none."""
    mask = dense = full((20, 1), (8, 1), (4, 1), (8, 1))
    own = {"w0": 0.05, "w1": 0.05}
    allocate = LayerWise(rate=0.5, rates=own, avoid_collapse=True)
    for number, density in enumerate(Geometric(rate=0.5, rounds=30)(), start=1):
        mask = allocate(noise(dense), density, mask, number)
        slow, other, *poor = (int(kept.sum()) for kept in mask.values())
        assert min(other, *poor) >= 1
        assert slow == pytest.approx(20 * 0.95**number, abs=3)  # at the most what those two lack


@pytest.mark.parametrize("allocate", [Global(), LayerWise()])
def test_equal_scores_are_drawn_by_seed_and_neither_all_kept_nor_all_dropped(allocate):
    dense = full((10, 10), 100)
    scores = {name: torch.full(kept.shape, 0.1) for name, kept in dense.items()}
    one, again, other = (allocate(scores, 0.3, dense, seed) for seed in (1, 1, 2))
    assert one.num_kept == other.num_kept == 60
    assert one == again
    assert one != other
    assert 0 < one.overlap(other) < 0.5  # two draws of 3 in 10 share about 0.18


@pytest.mark.parametrize("allocate", [Global(), LayerWise()])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_refused_where_they_count(allocate, bad):
    scores = {"w": torch.tensor([3.0, bad, 1.0, 2.0])}
    with pytest.raises(UserError, match="not finite"):
        allocate(scores, 0.5, mask_of(w=[1, 1, 1, 1]), 0)
    kept = allocate(scores, 0.5, mask_of(w=[1, 0, 1, 1]), 0)
    assert kept == mask_of(w=[1, 0, 0, 1])


@pytest.mark.parametrize("allocate", [Global(), LayerWise()])
def test_a_density_above_what_is_left_is_refused(allocate):
    with pytest.raises(UserError, match=r"density 0\.75.*cannot be had"):
        allocate({"w": torch.arange(4.0)}, 0.75, mask_of(w=[1, 1, 0, 0]), 0)


@pytest.mark.parametrize("avoid_collapse", [False, True])
def test_a_layerwise_budget_names_the_layer_that_has_too_little_left(avoid_collapse):
    within = mask_of(w0=[[1, 0, 0, 0, 0, 0]], w1=[[1, 1, 1, 1, 1, 1]])
    with pytest.raises(UserError, match=r"density 0\.5 of w0 .*only 1 of its 6 weights are left"):
        LayerWise(avoid_collapse=avoid_collapse)(noise(within), 0.5, within, 0)


def test_an_excluded_layer_stays_and_the_others_pay_for_it():
    dense = full(60, 40)
    kept = Global(exclude=["w1"])(noise(dense), 0.5, dense, 0)
    assert {name: int(value.sum()) for name, value in kept.items()} == {"w0": 10, "w1": 40}
    layered = LayerWise(exclude=["w1"])(noise(dense), 0.5, dense, 0)
    assert {name: int(value.sum()) for name, value in layered.items()} == {"w0": 30, "w1": 40}


def test_more_excluded_than_the_density_keeps_is_refused():
    dense = full(60, 40)
    with pytest.raises(UserError, match=r"40 weights are in excluded layers.*60 others.*of 100"):
        Global(exclude=["w1"])(noise(dense), 0.3, dense, 0)


def test_excluding_every_layer_is_refused_as_such():
    dense = full((8, 8), (4, 8))
    for budget in (Global, LayerWise, Uniform, ErdosRenyi, Blocks, NOfM):
        with pytest.raises(UserError, match=r"pruner\.exclude=\['\*'\] leaves no layer to prune"):
            budget(exclude="*")(noise(dense), 0.5, dense, 0)
    rates = r"^pruner\.rates={'w0': 0.0}"
    for exclude, told in ([], rates + " leaves"), ("w1", rates + r" with pruner\.exclude=\['w1'\]"):
        both = dense if exclude else Mask({"w0": dense["w0"]})
        with pytest.raises(UserError, match=told):
            LayerWise(exclude, rate=0.2, rates={"w0": 0.0})(noise(both), 0.5, both, 0)


def test_layers_that_stay_anyway_are_told_as_such_and_excluded_ones_only_where_there_are_some():
    one, two = full((8, 8)), full((8, 8), (4, 8))
    for kind, told in (Uniform, "w0, the first, stays dense"), (Channels, "which are the classes"):
        with pytest.raises(UserError, match=f"no layer is left to prune: .*{told}") as error:
            kind()(noise(one), 0.5, one, 0)
        assert "exclude" not in str(error.value)
        every = "w1" if kind is Uniform else "w0"
        with pytest.raises(UserError, match=rf"{told}, and pruner.exclude=\['{every}'\] spares"):
            kind(exclude=every)(noise(two), 0.5, two, 0)


def test_excluding_every_layer_is_refused_wherever_in_a_pruner_it_is_said():
    task, schedule = small_task(), Geometric(0.5, rounds=1)
    check_exclude(EdgePopup(LayerWise(exclude=["output"]), schedule), task)
    for part in (EdgePopup(LayerWise(exclude="*"), schedule), Supermask(Global(), exclude=["*"])):
        with pytest.raises(UserError, match=r"pruner\.exclude=\['\*'\] leaves no layer to prune"):
            check_exclude(part, task)


def test_lenets_output_at_half_rate_gives_the_papers_densities():
    task = replace(small_task(), model=lambda: lenet300(shape=[1, 28, 28], num_classes=10))
    allocate = LayerWise(rate=0.2, rates={"output": 0.1})
    mask, found = task.dense(), {}
    for index, density in enumerate(Geometric(rate=0.2, rounds=18)(), start=1):
        smaller = allocate(noise(mask), density, mask, index)
        assert smaller <= mask
        mask = smaller
        found[index] = 100 * mask.density
        exact = 265_200 * 0.8**index + 1000 * 0.9**index
        assert mask.num_kept == math.floor(exact + 0.5)
        assert abs(int(mask["output.weight"].sum()) - 1000 * 0.9**index) < 1
    paper = {3: 51.28, 7: 21.07, 12: 6.95, 15: 3.58, 18: 1.85}
    assert {index: found[index] for index in paper} == pytest.approx(paper, abs=0.02)


def test_a_layers_own_rate_follows_a_last_round_that_is_cut_short():
    dense = full(1000, 1000)
    kept = LayerWise(rate=0.2, rates={"w1": 0.36})(noise(dense), 0.9, dense, 0)
    assert [int(value.sum()) for value in kept.values()] == [900, 810]  # 0.64 = 0.8^2


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"rate": 0.2, "rates": {"w": 1.0}}, r"pruner\.rates: w=1\.0 is outside"),
        ({"rate": 0.2, "rates": {"w": -0.1}}, r"pruner\.rates: w=-0\.1 is outside"),
        ({"rates": {"w": 0.1}}, r"relative to pruner\.rate"),
    ],
)
def test_impossible_rates_are_refused(options, why):
    with pytest.raises(UserError, match=why):
        LayerWise(**options)


def test_patterns_that_match_no_layer_are_refused():
    dense = full(4)
    for allocate in (
        Global(exclude=["out"]),
        LayerWise(exclude=["out"]),
        LayerWise(rate=0.2, rates={"out": 0.1}),
    ):
        with pytest.raises(UserError, match="'out' matches no tensor"):
            allocate(noise(dense), 0.5, dense, 0)


def test_masks_from_one_threshold_can_be_kept_in_files(tmp_path):
    kept = Global()(noise(full(9, 11)), 0.5, full(9, 11), 0)
    kept.save(tmp_path / "mask")
    assert Mask.load(tmp_path / "mask") == kept
