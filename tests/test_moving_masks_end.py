"""Whatever its length and its periods, a training ends at the density asked for, or is refused."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from lth_runner.allocate import Channels, Global, LayerWise, NOfM, count
from lth_runner.masking import (
    Continuous,
    EarlyBirdStop,
    EdgePopup,
    GemMiner,
    Gradual,
    MultiPrize,
    Rigl,
    Set,
    SrSte,
    StraightThrough,
    Supermask,
    Updates,
    check,
)
from lth_runner.schedule import Iterations
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.steps import Clock

SIZE = 64
DENSITY = 0.25
GOAL = Iterations(1 - DENSITY, iterations=7, shape="cubic")
ONCE = Iterations(1 - DENSITY)


def ended(masking, total, *, density=1.0):
    """The share of weights that a training of so many steps ends with."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, SIZE // 8, bias=False))
    kept = torch.rand(SIZE // 8, 8)
    kept = kept <= kept.flatten().kthvalue(count(density, SIZE)).values
    with torch.no_grad():
        model[0].weight.mul_(kept)
    live = masking.install(model, {"0.weight": kept}, 0)
    optimizer = torch.optim.SGD(live.trainable(), lr=0.1)
    for step in range(total):
        optimizer.zero_grad()
        model.zero_grad()
        model(torch.randn(4, 8)).square().sum().backward()
        if live.after_backward(step, total, optimizer):
            optimizer.step()
        live.after_step(step, total)
    found = live.mask()
    assert (live.weights()["0.weight"] != 0).sum() <= found.num_kept
    return found.density


LENGTHS = (1, 2, 3, 5, 15, 16, 17, 30, 33, 48)
STRETCHES = ((0.0, 0.0), (0.0, 0.5), (0.0, 0.9), (0.5, 1.0), (1.0, 1.0), (0.3, 0.97))


EVERY = ("1it", "7it", "16it", "100it", "40%", "90%")


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("total", LENGTHS)
def test_feedback_ends_at_its_density(every, total):
    # each length meets each stretch, at every other period
    chosen = range((LENGTHS.index(total) + EVERY.index(every)) % 2, len(STRETCHES), 2)
    for begin, end in (STRETCHES[number] for number in chosen):
        masking = StraightThrough(Global(), GOAL, begin, end, every)
        assert ended(masking, total) == DENSITY, (begin, end)


def test_feedback_chooses_at_the_multiples_alone_where_they_reach_the_density():
    masking = StraightThrough(Global(), GOAL, 0.0, 0.5, "16it")
    assert [s for s in range(1, 41) if masking._chooses(s, 40, 7)] == [16, 32]
    assert [s for s in range(1, 31) if masking._chooses(s, 30, 7)] == [16]
    late = StraightThrough(Global(), GOAL, 0.0, 0.9, "16it")
    assert [s for s in range(1, 31) if late._chooses(s, 30, 7)] == [16, 27]


@pytest.mark.parametrize(
    "masking",
    [
        *(Gradual(Global(), GOAL, begin, end) for begin, end in STRETCHES),
        SrSte(NOfM(4), ONCE), GemMiner(Global(), GOAL), EdgePopup(Global(), ONCE),
        MultiPrize(Global(), ONCE), Supermask(Global(), sparsity=1 - DENSITY),
        Continuous(sparsity=1 - DENSITY),
    ],
    ids=lambda masking: type(masking).__name__,
)  # fmt: skip
@pytest.mark.parametrize("total", LENGTHS)
def test_a_mask_that_begins_dense_ends_at_its_density(masking, total):
    assert ended(masking, total) == DENSITY


SHARES = {  # whose whole density is not the one that they are asked for
    "a layer that goes faster": LayerWise(rate=0.2, rates={"0": 0.6}),
    "a layer that goes slower": LayerWise(rate=0.2, rates={"0": 0.05}),
    "channels": Channels(),
}


@pytest.mark.parametrize("total", [3, 16, 48])
@pytest.mark.parametrize("budget", SHARES.values(), ids=SHARES)
@pytest.mark.parametrize("kind", [Gradual, StraightThrough, GemMiner])
def test_a_mask_ends_at_what_its_budget_makes_of_the_density(kind, budget, total):
    model = nn.Sequential(nn.Linear(8, SIZE // 8, bias=False), nn.Linear(8, 4, bias=False))
    whole = Mask({name: torch.ones(p.shape, dtype=bool) for name, p in model.named_parameters()})
    zeros = {name: torch.zeros(kept.shape) for name, kept in whole.items()}
    live = kind(budget, Iterations(1 - DENSITY, iterations=7)).install(model, whole, 0)
    for step in range(total):
        live.after_step(step, total)
    assert live.mask().num_kept == budget(zeros, DENSITY, whole, 0).num_kept


@pytest.mark.parametrize("kind", [Rigl, Set])
@pytest.mark.parametrize("total", LENGTHS)
def test_a_mask_that_begins_sparse_keeps_its_density(kind, total):
    for every, end in itertools.product(("1it", "7it", "40%"), (0.0, 0.75, 1.0)):
        assert ended(kind(updates=Updates(0.5, every, end)), total, density=DENSITY) == DENSITY


@pytest.mark.parametrize(
    ("every", "until", "total", "refused"),
    [
        ("4%", "100%", 4, True), ("4%", "100%", 5, False), ("4%", "100%", 1000, False),
        ("30it", "100%", 149, True), ("30it", "100%", 150, False), ("4%", "19%", 100, True),
        ("4%", "20%", 100, False), ("4%", "400it", 100, False), ("50%", "400it", 100, True),
    ],
)  # fmt: skip
def test_an_early_bird_that_cannot_be_found_is_refused(every, until, total, refused):
    masking = EarlyBirdStop(Global(), ONCE, every=every, until=until)
    if not refused:
        check(masking, Clock(10, total))
        return
    with pytest.raises(UserError, match=r"pruner\.window=5 masks are more than the \d that"):
        check(masking, Clock(10, total))


@pytest.mark.parametrize(
    ("kind", "said"), [(Rigl, "at the first step alone"), (Set, "no connection moves")]
)
def test_connections_that_do_not_move_on_are_warned_of(kind, said, caplog):
    for every, warned in (("100it", True), ("10it", False), ("16it", True)):
        caplog.clear()
        check(kind(Updates(every=every, end=0.75)), Clock(5, 20))
        assert (said in caplog.text) == warned
    caplog.clear()
    check(Rigl(Updates(fraction=0.0)), Clock(5, 20))
    assert not caplog.text
