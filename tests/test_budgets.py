"""Budgets by layer: to the weight, nested, by hand where the paper has a formula."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lth_runner.allocate import (
    Deviation,
    ErdosRenyi,
    Global,
    LayerWise,
    Proportional,
    SmartRatio,
    Uniform,
    count,
    empty_layers,
)
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream

quick = settings(derandomize=True, deadline=None, max_examples=60)
shapes = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 8), st.integers(1, 8)),
        st.tuples(st.integers(1, 4), st.integers(1, 4), st.just(3), st.just(3)),
    ),
    min_size=1,
    max_size=4,
)
EXACT = {
    "uniform": Uniform(dense_first=False),
    "er": ErdosRenyi(kernel=False),
    "erk": ErdosRenyi(),
    "proportional": Proportional({"*": 0.5, "w0": 0.1}),
    "smart_ratio": SmartRatio(linear=0.0),
    "smart_ratio_vgg": SmartRatio(form="vgg", linear=0.0),
    "deviation": Deviation(),
    "layerwise": LayerWise(),
    "global": Global(avoid_collapse=True),
}
NET = {"conv": (4, 2, 3, 3), "fc": (5, 20), "out": (3, 5)}  # 72 + 100 + 15 = 187
DEEP = {"c1": (2, 1, 3, 3), "c2": (4, 2, 3, 3), "c3": (4, 4, 3, 3), "fc": (3, 4)}  # 246


def full(shapes):
    named = shapes if isinstance(shapes, dict) else {f"w{i}": s for i, s in enumerate(shapes)}
    return Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in named.items()})


def noise(mask, seed=0):
    return {n: torch.rand(k.shape, generator=stream(seed, "noise", n)) for n, k in mask.items()}


def counts(mask):
    return [int(kept.sum()) for kept in mask.values()]


def kept(allocate, density, shapes=NET):
    dense = full(shapes)
    return counts(allocate(noise(dense), density, dense, 0))


# --- what every budget promises


@pytest.mark.parametrize("name", EXACT)
@quick
@given(shapes, st.floats(0.05, 1), st.floats(0, 1))
def test_the_sum_is_exact_and_every_layers_best_stay_nested(name, shapes, density, further):
    allocate, dense = EXACT[name], full(shapes)
    scores = noise(dense)
    if count(density * further, dense.num_prunable) < len(dense) and name == "global":
        return  # refused: see below
    outer = allocate(scores, density, dense, 0)
    inner = allocate(scores, density * further, outer, 1)
    assert outer.num_kept == count(density, dense.num_prunable)
    assert inner.num_kept == count(density * further, dense.num_prunable)
    assert inner <= outer
    for layer, stays in outer.items():
        if stays.any() and not stays.all():
            assert scores[layer][stays].min() >= scores[layer][~stays].max()


@pytest.mark.parametrize(
    "allocate",
    [
        Global(avoid_collapse=True),
        Deviation(avoid_collapse=True),
        LayerWise(avoid_collapse=True),
        Uniform(dense_first=False, avoid_collapse=True),
        ErdosRenyi(avoid_collapse=True),
        SmartRatio(linear=0.0, avoid_collapse=True),
        Proportional({"*": 0.5, "conv": 0.0}, avoid_collapse=True),
    ],
)
def test_collapse_is_avoided_at_the_same_sum_and_refused_where_weights_are_too_few(allocate):
    dense = full(NET)
    scores = noise(dense) | {"conv": 1e-9 * noise(dense)["conv"]}
    for num_kept in (3, 4, 9):
        mask = allocate(scores, num_kept / 187, dense, 0)
        assert mask.num_kept == num_kept
        assert min(counts(mask)) >= 1
        assert mask["conv"].flatten()[scores["conv"].argmax()]
    with pytest.raises(UserError, match=r"avoid_collapse wants a weight in each of 3 layers.*2"):
        allocate(scores, 2 / 187, dense, 0)


def test_without_the_option_a_layer_may_be_emptied_and_is_named():
    dense = full(NET)
    scores = noise(dense) | {"conv": 1e-9 * noise(dense)["conv"]}
    assert empty_layers(Global()(scores, 0.5, dense, 0)) == ("conv",)
    assert empty_layers(dense) == ()


def test_avoiding_a_collapse_that_does_not_threaten_changes_nothing():
    dense = full(NET)
    one, other = (Global(avoid_collapse=a)(noise(dense), 0.5, dense, 0) for a in (False, True))
    assert one == other


@pytest.mark.parametrize("allocate", [*EXACT.values(), Uniform()])
def test_more_than_is_left_is_refused(allocate):
    dense = full(NET)
    half = Global()(noise(dense), 0.5, dense, 0)
    with pytest.raises(UserError, match=r"density 0\.6 (of \w+ )?cannot be had"):
        allocate(noise(dense), 0.6, half, 0)


@pytest.mark.parametrize(
    "allocate",
    [
        Uniform(exclude=["fc"], dense_first=False),
        ErdosRenyi(exclude=["fc"]),
        Proportional({"*": 1.0}, exclude=["fc"]),
        SmartRatio(exclude=["fc"]),
        Deviation(exclude=["fc"]),
    ],
)
def test_an_excluded_layer_is_dense_and_the_others_pay(allocate):
    found = kept(allocate, 0.7)
    assert found[1] == 100
    assert sum(found) == count(0.7, 187)
    with pytest.raises(UserError, match="100 weights are in excluded layers"):
        kept(allocate, 0.5)


# --- Erdos-Renyi


def test_erk_is_epsilon_times_the_sum_of_the_shape():
    # sums 12, 25, 8; epsilon = 75 / 45: 20, 41.67, 13.33
    assert kept(ErdosRenyi(), 0.4) == [20, 42, 13]


def test_erk_fills_a_layer_and_finds_epsilon_anew():
    # epsilon = 94 / 45 would put 16.7 into 15: dense; then 79 / 37: 25.62, 53.38
    assert kept(ErdosRenyi(), 0.5) == [26, 53, 15]


def test_er_counts_channels_alone():
    # (4+2)*9 = 54, 25, 8; epsilon = 65 / 87: 40.34, 18.68, 5.98
    assert kept(ErdosRenyi(kernel=False), 0.35) == [40, 19, 6]


def test_erk_of_linear_layers_is_er():
    linear = {"a": (30, 20), "b": (10, 30)}
    assert kept(ErdosRenyi(), 0.3, linear) == kept(ErdosRenyi(kernel=False), 0.3, linear)


# --- uniform and given


def test_uniform_keeps_the_first_layer_dense_and_the_others_alike():
    # 150 - 72 = 78 of 115 in the others: 67.83 and 10.17
    assert kept(Uniform(), 150 / 187) == [72, 68, 10]
    with pytest.raises(UserError, match=r"72 weights are in excluded layers \(conv, the first"):
        kept(Uniform(), 0.2)


def test_given_densities_are_kept_where_they_are_the_budget():
    given = Proportional({"*": 0.5, "fc": 0.1, "out": 1.0})
    total = 36 + 10 + 15
    assert kept(given, total / 187) == [36, 10, 15]


def test_given_densities_keep_their_proportions_at_another_budget():
    given = Proportional({"*": 0.5, "fc": 0.25, "out": 0.5})
    # 36 : 25 : 7.5 of 68.5, doubled
    assert kept(given, 137 / 187) == [72, 50, 15]
    # and beyond: what full layers cannot take goes to the others
    assert kept(given, 157 / 187) == [72, 70, 15]


def test_impossible_given_densities_are_refused():
    with pytest.raises(UserError, match=r"says nothing of conv, out"):
        kept(Proportional({"fc": 0.1}), 0.1)
    with pytest.raises(UserError, match=r"densities: fc=1.5 is outside"):
        Proportional({"fc": 1.5})
    with pytest.raises(UserError, match=r"'head' matches no tensor"):
        kept(Proportional({"*": 0.5, "head": 1.0}), 0.1)
    with pytest.raises(UserError, match=r"150 weights are to be kept, 35 more than"):
        kept(Proportional({"*": 0.5, "conv": 0.0}), 150 / 187)
    for none in (None, {}):
        with pytest.raises(UserError, match=r"scope=given needs densities"):
            Proportional(none)
    with pytest.raises(UserError, match=r"densities: fc=half is outside"):
        Proportional({"fc": "half"})


# --- smart ratio


def test_smart_ratio_falls_with_depth_and_pushes_the_surplus_on():
    # 20, 12, 6 times 18, 72, 144; 123 - 3.6 for them: 20.59 | 49.41 | 49.41, of 18 at most
    assert kept(SmartRatio(), 0.5, DEEP) == [18, 52, 49, 4]


def test_smart_ratio_for_vgg_divides_by_the_square_of_the_depth():
    # 20, 12/4, 6/9; 49 - 3.6 for them: 24.32 | 14.59 | 6.49, of 18 at most
    assert kept(SmartRatio(form="vgg"), 0.2, DEEP) == [18, 21, 6, 4]


def test_smart_ratio_gives_to_the_linear_layers_what_nothing_else_can_take():
    assert kept(SmartRatio(), 240 / 246, DEEP) == [18, 72, 144, 6]


def test_smart_ratio_of_linear_layers_alone_fixes_the_last():
    linear = {"a": (10, 10), "b": (10, 10), "out": (10, 10)}
    # L = 3: 12, 6 of the other 45 - 30
    assert kept(SmartRatio(), 0.15, linear) == [10, 5, 30]


def test_impossible_smart_ratios_are_refused():
    with pytest.raises(UserError, match=r"linear layers alone keep 4: lower pruner.linear=0.3"):
        kept(SmartRatio(), 3 / 246, DEEP)
    with pytest.raises(UserError, match=r"pruner.form='vgh'.*vgg"):
        SmartRatio(form="vgh")
    with pytest.raises(UserError, match=r"pruner.linear=30 is outside"):
        SmartRatio(linear=30)


# --- standard deviations


def test_a_threshold_in_deviations_knows_no_scale():
    dense = full({"small": (8,), "large": (8,)})
    size = torch.arange(1.0, 9.0)
    scores = {"small": size, "large": 1000 * size}
    assert counts(Global()(scores, 0.5, dense, 0)) == [0, 8]
    mask = Deviation()(scores, 0.5, dense, 0)
    assert counts(mask) == [4, 4]
    assert torch.equal(mask["small"], size > 4)


def test_the_threshold_is_one_number_of_deviations_of_what_is_left():
    dense = full({"a": (50, 40), "b": (30, 20)})
    scores = {n: s.mul(9 if n == "a" else 1).square() for n, s in noise(dense).items()}
    outer = Deviation()(scores, 0.6, dense, 0)
    inner = Deviation()(scores, 0.3, outer, 0)
    units = {n: s / s[outer[n]].square().mean().sqrt() for n, s in scores.items()}
    lowest = min(float(units[n][inner[n]].min()) for n in inner)
    highest = max(float(units[n][outer[n] & ~inner[n]].max()) for n in inner)
    assert lowest > highest


def test_sensitivity_raises_a_layers_threshold():
    dense = full({"a": (8,), "b": (8,)})
    scores = dict.fromkeys(("a", "b"), torch.arange(1.0, 9.0))
    # with b's values halved: 8 7 6 5 4.. against 4 3.5 3 2.5..
    assert counts(Deviation(sensitivity={"b": 2.0})(scores, 0.25, dense, 0)) == [4, 0]
    with pytest.raises(UserError, match=r"sensitivity: b=0 must be above 0"):
        Deviation(sensitivity={"b": 0})


def test_a_layer_of_zeros_goes_first():
    dense = full({"a": (8,), "dead": (8,)})
    scores = {"a": torch.arange(1.0, 9.0), "dead": torch.zeros(8)}
    assert counts(Deviation()(scores, 0.5, dense, 0)) == [8, 0]
