"""Single weights carried over to whole channels and dense blocks, and blocks as a budget."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import command
import small
from finished import random_mask
from lth_runner.allocate import Blocks, Refill, Regroup
from lth_runner.allocate.coarsen import groups_of_rows
from lth_runner.control import Coarsened
from lth_runner.masking import Static
from lth_runner.runs.folder import read_rounds
from lth_runner.score import Magnitude
from lth_runner.search.ticket import Ticket
from lth_runner.training import Job, Slot
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream

quick = settings(derandomize=True, deadline=None, max_examples=40)
OUTPUT = torch.ones(2, 5, dtype=torch.bool)


def counted(*counts, columns=10):
    """A layer whose channels keep so many weights each, before a last layer."""
    return Mask({"w": torch.arange(columns) < torch.tensor(counts)[:, None], "output": OUTPUT})


def alike(mask):
    return {name: torch.ones(kept.shape) for name, kept in mask.items()}


@st.composite
def masks(draw):
    """A convolution and a linear layer, pruned at random, before a last layer."""
    rows, inputs, kernel = (
        draw(st.integers(1, 40)),
        draw(st.integers(1, 6)),
        draw(st.integers(1, 2)),
    )
    random, density = stream(draw(st.integers(0, 999)), "mask"), draw(st.floats(0.02, 0.98))
    shapes = {"conv": (rows, inputs, kernel, kernel), "linear": (rows, 9)}
    drawn = {name: torch.rand(shape, generator=random) < density for name, shape in shapes.items()}
    return Mask(drawn | {"output": OUTPUT})


# --- channels


def test_channels_that_25_weights_fill_by_hand():
    """Of [9, 1, 5, 7, 3] kept weights, 10 a channel: 2 stay; the authors' code would keep 3."""
    mask = counted(9, 1, 5, 7, 3)
    kept = Refill()(mask, alike(mask), 0)
    assert kept["w"].sum(1).tolist() == [10, 0, 0, 10, 0]
    # 2.5 + 0.2 * (5 - 2.5) = 3
    assert Refill(0.2)(mask, alike(mask), 0)["w"].sum(1).tolist() == [10, 0, 10, 10, 0]
    assert torch.equal(kept["output"], OUTPUT)


def test_channels_are_worth_their_kept_scores():
    mask = counted(2, 2, 6)
    scores = alike(mask) | {"w": torch.tensor([[4.0] * 10, [1.0] * 10, [1.0] * 10])}
    assert Refill()(mask, scores, 0)["w"].sum(1).tolist() == [10, 0, 0]  # 8, 2 and 6
    scores["w"][1, 5] = 1000  # of a removed weight
    assert Refill()(mask, scores, 0)["w"].sum(1).tolist() == [10, 0, 0]


def test_tied_channels_are_drawn_by_seed_and_are_whole():
    mask = counted(*[5] * 8)
    drawn = [Refill()(mask, alike(mask), seed)["w"] for seed in range(10)]
    assert {tuple(one.sum(1).tolist()).count(10) for one in drawn} == {4}
    assert len({one.numpy().tobytes() for one in drawn}) > 1


@quick
@given(masks(), st.sampled_from([0.0, 0.1, 0.5]))
def test_exactly_as_many_whole_channels_as_the_weights_fill(mask, extra):
    kept = Refill(extra)(mask, alike(mask), 3)
    for name in ("conv", "linear"):
        by_channel = kept[name].flatten(1)
        assert torch.equal(by_channel.all(1), by_channel.any(1))
        num, full = len(by_channel), int(mask[name].sum()) / by_channel.shape[1]
        asked = math.floor(full + extra * (num - full) + 1e-9)
        assert int(by_channel.any(1).sum()) == (num if full == num else max(1, asked))


# --- blocks of rows


def test_blocks_that_were_shuffled_are_found_again():
    rows = torch.randperm(64, generator=stream(0, "rows"))
    hidden = torch.zeros(64, 40, dtype=torch.bool)
    for block in range(2):
        hidden[rows[32 * block : 32 * (block + 1)], 20 * block : 20 * (block + 1)] = True
    mask = Mask({"w": hidden, "output": OUTPUT})
    assert Regroup(32)(mask, alike(mask), 0) == mask


@pytest.mark.parametrize("blocks", [2, 4, 7])
def test_the_basis_that_a_library_gives_decides_no_group(monkeypatch, blocks):
    size, generator = 56 // blocks, np.random.default_rng(0)
    hidden = np.kron(np.eye(blocks), np.ones((size, 3))) > 0  # all blocks weigh the same
    kept = hidden[generator.permutation(len(hidden))]
    groups, eigh = groups_of_rows(kept, 8), np.linalg.eigh
    assert all(len(np.unique(kept[group], axis=0)) == 1 for group in groups if blocks != 7)

    def turned(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, vectors = eigh(matrix)
        for start in np.flatnonzero(np.diff(values, prepend=-1.0) > 1e-9):
            same = np.abs(values - values[start]) < 1e-9
            turn = np.linalg.qr(generator.normal(size=(same.sum(), same.sum())))[0]
            vectors[:, same] = vectors[:, same] @ turn
        return values, vectors

    monkeypatch.setattr(np.linalg, "eigh", turned)
    for _ in range(5):
        assert groups_of_rows(kept, 8) == groups


@quick
@given(masks(), st.integers(1, 16))
def test_blocks_fit_into_the_weights_a_layer_has_left(mask, most):
    kept = Regroup(most)(mask, alike(mask), 0)
    for name in ("conv", "linear"):
        before, after = mask[name].flatten(1), kept[name].flatten(1)
        groups = groups_of_rows(before.numpy(), most)
        assert (
            sorted(row for group in groups for row in group)
            == torch.nonzero(before.any(1)).flatten().tolist()
        )
        assert max(map(len, groups), default=0) <= most
        if before.all():
            assert torch.equal(after, before)
            continue
        if not before.any():  # no layer stays empty
            assert after.sum() == 1
            continue
        assert all(len(after[group].unique(dim=0)) == 1 for group in groups)  # dense blocks
        largest = max(map(len, groups))
        assert int(before.sum()) - largest < int(after.sum()) <= max(largest, int(before.sum()))


# --- blocks as a budget


def test_blocks_by_hand():
    scores = {"w": torch.tensor([[1.0, 1, 9, 0], [1, 1, 0, 0], [3, 3, 0, 0], [3, 3, 0, 0]])}
    dense = Mask({"w": torch.ones(4, 4, dtype=torch.bool)})
    mean = Blocks((2, 2))(scores, 0.5, dense, 0)["w"].int().tolist()  # 1, 2.25, 3, 0
    assert mean == [[0, 0, 1, 1]] * 2 + [[1, 1, 0, 0]] * 2
    largest = Blocks((2, 2), "max")(scores, 0.25, dense, 0)["w"].int().tolist()
    assert largest == [[0, 0, 1, 1]] * 2 + [[0, 0, 0, 0]] * 2


@quick
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.data())
def test_as_many_whole_blocks_as_the_density_says(rows, columns, down, across, data):
    assume((rows, columns) != (1, 1))
    shape = (rows * down, columns * across)
    dense = Mask({"w": torch.ones(shape, dtype=torch.bool)})
    num = data.draw(st.integers(1, down * across))
    scores = {"w": torch.rand(shape, generator=stream(num, "scores"))}
    kept = Blocks((rows, columns))(scores, num / (down * across), dense, 0)["w"]
    blocks = kept.unflatten(1, (across, columns)).unflatten(0, (down, rows)).transpose(1, 2)
    assert torch.equal(blocks.flatten(2).all(2), blocks.flatten(2).any(2))
    assert int(kept.sum()) == num * rows * columns


def test_layers_that_blocks_do_not_divide_stay_dense(caplog):
    dense = Mask({"w": torch.ones(8, 8).bool(), "odd": torch.ones(3, 8).bool()})
    scores = {name: torch.rand(kept.shape) for name, kept in dense.items()}
    kept = Blocks((4, 2))(scores, 0.25, dense, 0)
    assert (kept.layer_density(), len(caplog.records)) == ({"w": 0.25, "odd": 1.0}, 1)
    with pytest.raises(UserError, match=r"divides no layer: as matrices they are w \(8, 8\)"):
        Blocks((5, 5)).layers(dense)


# --- as arms of a run


def test_a_channel_that_is_gone_sends_nothing_before_training_and_after(tmp_path):
    task = small.task(model=small.convolutional)
    moved = {n: w + 0.3 * torch.ones_like(w) for n, w in task.init().items()}
    first = torch.zeros(6, 1, 3, 3, dtype=torch.bool)
    first[:3, :, :2] = True
    mask = Mask(dict(task.dense()) | {"0.weight": first})
    arm = Coarsened(Refill(), Magnitude())(task, Ticket(mask, moved), [], 0)
    gone = ~arm.mask["0.weight"].flatten(1).any(1)
    assert gone.sum() == 4  # 18 weights fill 2 channels of 9
    [trained] = small.trainer(tmp_path).fit([Job(task, arm, Static(), Slot(1, "refill"))])
    end = trained.weights
    for weights in (arm.weights, end):
        assert not weights["1.weight"][gone].any()
        assert not weights["1.bias"][gone].any()
    assert arm.weights["1.bias"][~gone].all()


@pytest.mark.parametrize("coarsen", [Refill(), Refill(0.1), Regroup(4)])
def test_a_layer_whose_removed_weights_came_as_zeros_is_not_filled_with_them(coarsen):
    """One such layer is enough: the others have their values."""
    task = small.task(model=small.convolutional)
    mask = random_mask(task, 0.5)
    own = task.init()
    first = next(iter(mask))
    ticket = Ticket(mask, own | {first: own[first] * mask[first]})
    control = Coarsened(coarsen)
    for asked in (control, control.check_ticket):
        seed = (0,) if asked is control else ()
        with pytest.raises(UserError, match=rf"control={coarsen.called} .* weights of {first} "):
            asked(task, ticket, [], *seed)
    control.check_ticket(task, Ticket(mask, own), [])
    whole = Ticket(control(task, Ticket(mask, own), [], 0).mask, own)
    control.check_ticket(task, Ticket(whole.mask, whole.masked), [])  # nothing left to fill


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["control=refill", "control.refill.coarsen.extra=1"], "refill's extra=1 is the share"),
        (["control=regroup", "control.regroup.coarsen.rows=0"], "regroup's rows=0"),
        (["control=refill", "pruner.biases=true"], "pruner.biases=true prunes what is none"),
        (
            ["control=refill", "coordinates=delta", "coordinates.only=['*weight']"],
            "are of other coordinates (Delta)",
        ),
        (["pruner.scope=blocks", "pruner.budgets.blocks.shape=[4]"], "give rows and columns"),
        (["pruner.scope=blocks", "pruner.budgets.blocks.shape=[7,3]"], "divides no layer"),
    ],
)
def test_what_cannot_be_coarsened_is_told_before_training(tmp_path, words, said):
    ended = command.lth_run(*command.SMALL, "record=local", f"paths.outputs={tmp_path}", *words)
    assert (ended.status, said in ended.err) == (2, True), ended.err


def test_a_run_has_a_structured_ticket_beside_the_unstructured_one(tmp_path):
    words = ("control=[refill,refill_plus,regroup]", "record=local", f"paths.outputs={tmp_path}")
    ended = command.lth_run(*command.SMALL, *words)
    assert ended.status == 0, ended.err
    [folder] = (tmp_path / "small").iterdir()
    rows = read_rounds(folder)
    assert {row["arm"] for row in rows} == {"ticket", "refill", "refill_plus", "regroup"}
    for row in rows:
        if row["arm"] == "refill":
            width, density = 8, next(iter(row["layer_density"].values()))
            assert density * width == pytest.approx(round(density * width))
