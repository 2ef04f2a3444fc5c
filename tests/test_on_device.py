"""A choice prepared for a device is the allocation's own, ties included."""

from __future__ import annotations

import pytest
import torch

from lth_runner.allocate import (
    Blocks,
    Channels,
    Deviation,
    ErdosRenyi,
    Global,
    LayerWise,
    NOfM,
    Proportional,
    Rows,
    SmartRatio,
    Uniform,
    keep_top,
)
from lth_runner.allocate.on_device import NUM_TIED, Top, prepared
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream

CPU = torch.device("cpu")
SHAPES = {"conv": (8, 4, 3, 3), "hidden": (12, 16), "output": (8, 12)}
BUDGETS = {
    "blocks": Blocks((4, 4)),
    "blocks, largest": Blocks((2, 4), worth="max", avoid_collapse=True),
    "channels": Channels(),
    "channels, by layer": Channels("layer", allow_empty=True),
    "deviation": Deviation(sensitivity={"hidden": 2.0}),
    "erk": ErdosRenyi(avoid_collapse=True),
    "er": ErdosRenyi(kernel=False),
    "given": Proportional({"*": 0.2, "output": 0.5}),
    "global": Global(),
    "global, none empty": Global(exclude=("output",), avoid_collapse=True, rounding="down"),
    "layerwise": LayerWise(rate=0.2, rates={"output": 0.1}),
    "n_of_m": NOfM(),
    "n_of_m, transposed": NOfM(exclude=("conv",), transposed=("hidden", "output")),
    "rows": Rows(),
    "rows, transposed": Rows(transposed=("hidden",), avoid_collapse=True),
    "smart_ratio": SmartRatio(),
    "uniform": Uniform(dense_first=False),
}


def cut(density: float) -> Mask:
    """A mask that has lost weights in every layer, and whole blocks and channels."""
    kept = {n: torch.rand(s, generator=stream(1, n)) < density for n, s in SHAPES.items()}
    for value in kept.values():
        value[2:4] = False
    return Mask(kept)


def scores_of(levels: int) -> dict[str, torch.Tensor]:
    """Scores of so many values, 0 for all different; with ties, in whole rows too."""
    found = {n: torch.randn(s, generator=stream(2, n)).abs() for n, s in SHAPES.items()}
    if not levels:
        return found
    tied = {n: (score * levels).round() for n, score in found.items()}
    for score in tied.values():
        score[1::2] = score[::2]
    return tied


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS.keys())
@pytest.mark.parametrize("within", [cut(2.0), cut(0.9)], ids=["less rows", "sparse"])
def test_on_a_device_every_budget_keeps_what_it_keeps_on_a_cpu(budget, within):
    for levels in (0, 9, 30):
        for density in (0.25, 0.4):
            for seed in (0, 1):
                scores = scores_of(levels)
                expected = budget(scores, density, within, seed)
                choose = budget.on_device(density, within, seed, CPU)
                assert all(Mask(choose(scores)) == expected for _ in range(2))


def test_of_up_to_64_equal_scores_the_same_ones_stay():
    scores = torch.zeros(3, NUM_TIED)
    for num_tied in (1, 2, 50, NUM_TIED):
        scores.view(-1)[5 : 5 + num_tied] = 1.0
        for num_kept in {1, num_tied // 2, num_tied}:
            if num_kept:
                within = torch.ones_like(scores, dtype=torch.bool)
                found = Top(num_kept, 7, CPU)([scores], [within])[0]
                assert torch.equal(found, keep_top(scores, within, num_kept, 7))


def test_of_more_equal_scores_as_many_stay_by_seed():
    scores, within = torch.zeros(40, 50), torch.ones(40, 50, dtype=torch.bool)
    within[:, 0] = False
    one, again, other = (Top(700, seed, CPU)([scores], [within])[0] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    for kept in (one, other):
        assert int(kept.sum()) == 700
        assert not bool((kept & ~within).any())


def test_a_device_is_asked_nothing():
    """Tensors of no values, of which nothing can be read."""
    meta, within = torch.device("meta"), cut(0.9)
    scores = {name: torch.empty(shape, device=meta) for name, shape in SHAPES.items()}
    for budget in BUDGETS.values():
        kept = budget.on_device(0.25, within, 0, meta)(scores)
        assert {name: value.shape for name, value in kept.items()} == SHAPES
        assert {value.device for value in kept.values()} == {meta}


def test_a_budget_of_ones_own_is_asked_on_the_host():
    def own(scores, density, within, seed):
        return Global()(scores, density, within, seed)

    scores = {"w": torch.tensor([3.0, 1.0, 2.0, torch.nan])}
    within = Mask({"w": torch.ones(4, dtype=torch.bool)})
    kept = prepared(own, 0.5, within, 0, torch.device("cpu", 0))
    assert kept({"w": scores["w"].nan_to_num()})["w"].tolist() == [True, False, True, False]
