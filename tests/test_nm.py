"""N of every M input channels: chosen once, or anew in every step."""

from __future__ import annotations

import functools
import logging
import math

import pytest
import torch
from torch import nn

import command
import small
from lth_runner.allocate import Global, NOfM
from lth_runner.allocate.n_of_m import best_of_groups
from lth_runner.masking import SrSte
from lth_runner.schedule import Geometric, Iterations
from lth_runner.score import Magnitude
from lth_runner.search import Iterative, Learned
from lth_runner.search.rewind import Rewind
from lth_runner.training.job import Job
from lth_runner.training.loop import Loop
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream


def drawn(*shape: int) -> dict[str, torch.Tensor]:
    return {"w": torch.rand(shape, generator=stream(0, "scores"))}


def dense(*shape: int) -> Mask:
    return Mask({"w": torch.ones(shape, dtype=torch.bool)})


def groups(kept: torch.Tensor, size: int) -> torch.Tensor:
    """How many are kept of every group of input channels, the hard way."""
    out, inputs = kept.shape[:2]
    flat = kept.reshape(out, inputs, -1)
    return torch.stack([flat[:, i : i + size].sum(1) for i in range(0, inputs, size)])


def test_two_of_four_by_hand():
    scores = {"w": torch.tensor([[4.0, 1.0, 3.0, 2.0, 0.1, 0.4, 0.2, 0.3]])}
    mask = NOfM()(scores, 0.5, dense(1, 8), 0)
    assert mask["w"].int().tolist() == [[1, 0, 1, 0, 0, 1, 0, 1]]
    assert NOfM()(scores, 0.25, dense(1, 8), 0)["w"].int().tolist() == [[1, 0, 0, 0, 0, 1, 0, 0]]


def test_groups_run_along_the_input_channels_and_not_along_the_kernel():
    # input channel c scores c at the kernel's left place and -c at its right
    channel = torch.arange(4.0).reshape(1, 4, 1, 1)
    scores = {"w": torch.cat([channel, -channel], dim=3)}
    kept = NOfM()(scores, 0.5, dense(1, 4, 1, 2), 0)["w"].int()
    assert kept[0, :, 0, 0].tolist() == [0, 0, 1, 1]
    assert kept[0, :, 0, 1].tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("shape", [(5, 16), (3, 8, 3, 3), (2, 8, 5)])
@pytest.mark.parametrize(("num", "size"), [(2, 4), (1, 4), (4, 8), (1, 2)])
def test_every_group_keeps_as_many_ties_included(shape, num, size):
    for scores in (drawn(*shape), {"w": torch.ones(shape)}):
        kept = NOfM(size)(scores, num / size, dense(*shape), 0)["w"]
        assert groups(kept, size).unique().tolist() == [num]


def test_ties_are_drawn_by_seed():
    same = {"w": torch.ones(8, 16)}
    masks = [NOfM()(same, 0.5, dense(8, 16), seed)["w"] for seed in (0, 0, 1)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert best_of_groups(same["w"], 2, 4)[0].int().tolist() == [1, 1, 0, 0] * 4


def test_densities_in_between_are_rounded_up_and_masks_are_nested():
    scores, mask, left = drawn(4, 16), dense(4, 16), []
    for density in Geometric(0.75, 0.2)():
        closer = NOfM()(scores, density, mask, 0)
        assert closer <= mask
        mask, left = closer, [*left, groups(closer["w"], 4).unique().tolist()]
    assert left == [[4], [3], [3], [2], [2], [2], [1]]


def test_layers_that_do_not_divide_stay_dense_and_are_named(caplog):
    mask = Mask({"first": dense(4, 3, 3, 3)["w"], "out": dense(2, 8)["w"]})
    scores = {"first": torch.ones(4, 3, 3, 3), "out": torch.ones(2, 8)}
    with caplog.at_level(logging.WARNING):
        kept = NOfM()(scores, 0.5, mask, 0)
    assert kept["first"].all()
    assert groups(kept["out"], 4).unique().tolist() == [2]
    assert "no multiple of 4: first" in caplog.text
    assert NOfM(exclude=["out"], group=3)(scores, 1 / 3, mask, 0)["out"].all()
    with pytest.raises(UserError, match="no layer has input channels"):
        NOfM(exclude=["out"])(scores, 0.5, mask, 0)


def test_a_density_of_rounds_that_is_rounded_up_is_told(caplog):
    with caplog.at_level(logging.WARNING):
        assert NOfM(group=16).num_kept(0.3) == 5
        assert NOfM(group=16).num_kept(0.5) == 8
        assert NOfM(group=16, sparsity=0.5).num_kept(0.7) == 12  # on the way to a checked target
    [told] = caplog.messages
    assert "sparsity of 0.7 is not that of N in 16 weights: 5 of every 16 are kept" in told
    NOfM().num_kept(0.87)
    assert caplog.messages[-1].endswith("4 of every 4 are kept, and so nothing is removed")


def test_what_n_of_m_cannot_do_is_refused():
    for sparsity in (0.98, 0.6, 0.1):
        with pytest.raises(UserError, match=r"accepted: 0.25, 0.5, 0.75"):
            NOfM(sparsity=sparsity)
    assert NOfM(8, sparsity=0.875).num_kept(0.125) == 1
    for group in (1, 2.5, True):
        with pytest.raises(UserError, match="whole number"):
            NOfM(group)
    broken = {"w": torch.full((2, 4), math.nan)}
    with pytest.raises(UserError, match="not finite"):
        NOfM()(broken, 0.5, dense(2, 4), 0)
    with pytest.raises(UserError, match="n_of_m"):
        SrSte(Global(), Iterations(0.5))
    with pytest.raises(UserError, match="decay"):
        SrSte(NOfM(), Iterations(0.5), decay=-1.0)


def test_one_shot_of_a_trained_network_is_two_of_the_largest_four(tmp_path):
    problem, magnitude = small.task(), Magnitude()
    search = Iterative(magnitude, NOfM(), Geometric(0.5, rounds=1), Rewind(weights="keep"))
    trainer = small.trainer(tmp_path)
    (first,) = trainer.fit([small.dense_job(problem)])
    ticket = search.propose(problem, [first])
    for name, kept in ticket.mask.items():
        size = first.weights[name].abs()
        assert groups(kept, 4).unique().tolist() == [2]
        best = size.unflatten(1, (-1, 4)).topk(2, dim=2).values.sum()
        assert float(size[kept].sum()) == pytest.approx(float(best))


# --- SR-STE


def test_sr_ste_by_hand():
    """Two steps: the decay is part of the gradient that momentum sums."""
    model = nn.Linear(4, 1, bias=False)
    model.weight.data = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    live = SrSte(NOfM(), Iterations(0.5), decay=0.1).install(
        model, {"weight": torch.ones(1, 4).bool()}, 0
    )
    optimizer = torch.optim.SGD(live.trainable(), lr=0.5, momentum=0.9)
    model.weight.grad = torch.tensor([[1.0, 1.0, 1.0, -9.0]])
    assert live.after_backward(0, 9, optimizer)  # the ticket is dense: nothing decays yet
    optimizer.step()
    live.after_step(0, 9)
    # theta is now 3.5, 2.5, 1.5, 5.5
    assert model.weight.tolist() == [[3.5, 0.0, 0.0, 5.5]]
    model.weight.grad = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    assert live.after_backward(1, 9, optimizer)
    optimizer.step()
    live.after_step(1, 9)
    # momentum: 0.9 * (1, 1, 1, -9) + (0, 1 + 0.25, 0.15, 0)
    momentum = optimizer.state[model.weight]["momentum_buffer"]
    assert momentum.tolist() == [pytest.approx([0.9, 2.15, 1.05, -8.1])]
    raw = live.state_dict()["raw.weight"]
    assert raw.tolist() == [pytest.approx([3.05, 1.425, 0.975, 9.55])]
    assert model.weight.tolist() == [pytest.approx([3.05, 0.0, 0.0, 9.55])]


@pytest.mark.parametrize(
    "optimizer", [functools.partial(torch.optim.SGD, lr=0.1), torch.optim.Adam]
)
def test_in_every_step_the_largest_of_each_group_are_in_place(optimizer):
    problem = small.task()
    job = Job(problem, Learned(retrain=False).propose(problem, []), SrSte(NOfM(), Iterations(0.5)))
    loop, changes = Loop(job, small.recipe(optimizer=optimizer), None), 0
    previous = None
    while loop.step < 40:
        loop.backward()
        loop.update()
        mask, raw = loop.live.mask(), loop.checkpoint().masking
        changes += previous is not None and mask != previous
        previous = mask
        for name, kept in mask.items():
            assert groups(kept, 4).unique().tolist() == [2]
            assert torch.equal(kept, best_of_groups(raw[f"raw.{name}"].abs(), 2, 4))
            assert torch.equal(loop.weights()[name], raw[f"raw.{name}"] * kept)
    assert changes


SPARSE = (*command.SMALL, "record=local", "pruner.sparsity=0.5", "pruner.rounds=null")


@pytest.mark.parametrize(
    "words",
    [
        ["pruner=sr_ste"],
        ["pruner=one_shot", "pruner.scope=n_of_m", "pruner.rate=null", "pruner.rounds=1"],
        ["pruner=imp", "pruner.scope=n_of_m", "pruner.rate=0.2"],
        ["pruner=snip", "pruner.scope=n_of_m", "pruner.dense=false"],
    ],
    ids=lambda words: words[0],
)
def test_pruners_end_at_two_of_four(words, tmp_path):
    said = command.lth_run(*SPARSE, f"paths.outputs={tmp_path}", "control=none", *words)
    assert said.status == 0, said.err
    [folder] = command.folders(tmp_path)
    last = command.rows(folder / "rounds.jsonl")[-1]
    assert set(last["layer_density"].values()) == {0.5}


def test_a_sparsity_that_is_no_n_of_m_is_refused_before_any_training(tmp_path):
    for pruner in ("imp", "sr_ste"):
        said = command.lth_run(
            *SPARSE, f"paths.outputs={tmp_path}", f"pruner={pruner}", "pruner.scope=n_of_m",
            "pruner.sparsity=0.6",
        )  # fmt: skip
        assert said.status == 2
        assert "accepted: 0.25, 0.5, 0.75" in said.err
    said = command.lth_run(
        *SPARSE, f"paths.outputs={tmp_path}", "pruner=sr_ste", "pruner.scope=erk"
    )
    assert said.status == 2
    assert "pruner.scope=n_of_m" in said.err
