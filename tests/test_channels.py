"""Whole output channels, the price on norm scales that finds them, and a real run of both."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import command
import small
from lth_runner.allocate import Channels, Global, channels, count, empty_layers
from lth_runner.cli.check import resolve
from lth_runner.cli.conf_dir import conf_dir
from lth_runner.masking import ScalePenalty, Static
from lth_runner.parts.make import make
from lth_runner.score import FilterNorm, Magnitude, NormScale
from lth_runner.search import EarlyBird
from lth_runner.search.ticket import Ticket
from lth_runner.training.job import Job, Slot
from lth_runner.training.loop import Loop
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream

CONVOLUTIONAL = small.task(model=small.convolutional)
quick = settings(derandomize=True, deadline=None, max_examples=40)


def full(*shapes):
    return Mask({f"w{i}": torch.ones(shape, dtype=torch.bool) for i, shape in enumerate(shapes)})


def noise(mask, *, levels=20):
    return {
        name: torch.randint(levels, kept.shape, generator=stream(0, name)).float()
        for name, kept in mask.items()
    }


# --- the budget


def test_channels_by_hand():
    """Means 2, 1, 4 and 3, 0.5; the last layer's scores say nothing."""
    scores = {
        "w0": torch.tensor([[1.0, 3.0], [1.0, 1.0], [8.0, 0.0]]),
        "w1": torch.tensor([[3.0, 3.0, 3.0], [0.5, 0.5, 0.5]]),
        "w2": torch.zeros(2, 2),
    }
    dense = full((3, 2), (2, 3), (2, 2))
    kept = channels(Channels()(scores, 0.6, dense, 0))
    assert {n: k.flatten().int().tolist() for n, k in kept.items()} == {
        "w0": [1, 0, 1],
        "w1": [1, 0],
    }
    kept = channels(Channels()(scores, 0.4, dense, 0))
    assert {n: k.flatten().int().tolist() for n, k in kept.items()} == {
        "w0": [0, 0, 1],
        "w1": [1, 0],
    }
    kept = channels(Channels("layer")(scores, 1 / 3, dense, 0))
    assert {n: k.flatten().int().tolist() for n, k in kept.items()} == {
        "w0": [0, 0, 1],
        "w1": [1, 0],
    }


shapes = st.lists(
    st.tuples(st.integers(1, 8), st.integers(1, 4), st.integers(1, 2)), min_size=2, max_size=4
)


@quick
@given(shapes, st.floats(0.01, 1), st.floats(0.01, 1))
def test_the_number_of_channels_is_exact_all_are_whole_and_masks_are_nested(sizes, one, other):
    dense = full(*[(out, inner, side, side) for out, inner, side in sizes])
    scores, within = noise(dense), dense
    for density in sorted((one, other), reverse=True):
        mask = Channels(allow_empty=True)(scores, density, within, 3)
        kept = channels(mask)
        assert kept.num_kept == count(density, kept.num_prunable)
        assert all(
            len(row.unique()) == 1 for name in kept for row in mask[name].flatten(1)
        )  # all or none
        assert mask <= within
        assert bool(list(mask.values())[-1].all())
        within = mask


def test_equal_channels_are_drawn_by_seed_whatever_their_size():
    dense = full((40, 7), (40, 13), (2, 2))
    scores = {name: torch.full(kept.shape, 0.1) for name, kept in dense.items()}
    one, again, other = (channels(Channels()(scores, 0.5, dense, seed)) for seed in (0, 0, 1))
    assert one == again != other
    assert 0.25 < one.layer_density()["w0"] < 0.75


def test_no_layer_is_emptied_unless_asked():
    dense = full((6, 2), (6, 2), (2, 2))
    scores = {"w0": torch.ones(6, 2), "w1": torch.zeros(6, 2), "w2": torch.zeros(2, 2)}
    assert channels(Channels()(scores, 0.5, dense, 0))["w1"].sum() == 1
    assert empty_layers(Channels(allow_empty=True)(scores, 0.5, dense, 0)) == ("w1",)
    for across in ("network", "layer"):
        with pytest.raises(UserError, match=r"1 of 12 channels .* 2 layers: .*allow_empty=true"):
            Channels(across)(scores, 0.1, dense, 0)


def test_excluded_layers_stay_as_they_are_and_do_not_count():
    dense = full((6, 2), (4, 2), (2, 2))
    mask = Channels(exclude=["w0"])(noise(dense), 0.5, dense, 0)
    assert mask.layer_density() == {"w0": 1.0, "w1": 0.5, "w2": 1.0}


def test_impossible_channels_are_refused():
    dense = full((6, 2), (4, 2))
    for wrong, match in (
        (lambda: Channels("model"), r"across='model'.*network"),
        (lambda: Channels(exclude=["w0"])(noise(dense), 0.5, dense, 0), "no layer is left"),
        (lambda: Channels()(noise(full((6, 2))), 0.5, full((6, 2)), 0), "no layer is left"),
        (lambda: Channels(exclude=["x"])(noise(dense), 0.5, dense, 0), r"pruner\.exclude: 'x'"),
    ):
        with pytest.raises(UserError, match=match):
            wrong()
    half = Channels()(noise(dense), 0.5, dense, 0)
    with pytest.raises(UserError, match=r"5 of 6 channels .*only 3 have weights left"):
        Channels()(noise(dense), 0.9, half, 0)


@pytest.mark.parametrize("score", [FilterNorm(), Magnitude()], ids=["filters", "magnitudes"])
def test_by_layer_the_filters_of_largest_1_norm_stay(score):
    problem = CONVOLUTIONAL
    weights, dense = problem.init(), problem.dense()
    kept = channels(Channels("layer")(score(problem, weights, dense), 0.5, dense, 0))
    for name in kept:
        norms = weights[name].abs().flatten(1).sum(1)
        assert set(kept[name].nonzero()[:, 0].tolist()) == set(norms.topk(3).indices.tolist())


# --- the price on scales


def test_the_penalty_adds_its_sign_to_the_gradient_of_each_scale_and_to_nothing_else():
    ticket = small.imp().propose(CONVOLUTIONAL, [])
    weights = ticket.weights  # a copy
    weights["1.weight"][:2] = torch.tensor([-0.5, 0.0])
    ticket = Ticket(ticket.mask, weights)
    found = {}
    for masking in (Static(), ScalePenalty(0.25)):
        loop = Loop(Job(CONVOLUTIONAL, ticket, masking, Slot(0)), small.recipe(), None)
        loop.backward()
        found[type(masking)] = {n: p.grad.clone() for n, p in loop.model.named_parameters()}
    for name, plain in found[Static].items():
        sign = torch.ones(6) if name in ("1.weight", "4.weight") else torch.zeros(())
        if name == "1.weight":
            sign[:2] = torch.tensor([-1.0, 0.0])
        torch.testing.assert_close(found[ScalePenalty][name], plain + 0.25 * sign)


def test_a_sparse_training_pays_nothing(tmp_path):
    def trained(masking, mask):
        ticket = Ticket(mask, CONVOLUTIONAL.init())
        [found] = small.trainer(tmp_path).fit([Job(CONVOLUTIONAL, ticket, masking, Slot(0))])
        return found.weights

    dense = CONVOLUTIONAL.dense()
    sparse = Global()(Magnitude()(CONVOLUTIONAL, CONVOLUTIONAL.init(), dense), 0.5, dense, 0)
    plain = trained(Static(), sparse)
    priced = trained(ScalePenalty(0.1), sparse)
    assert all(torch.equal(plain[name], priced[name]) for name in plain)
    medians = [trained(m, dense)["1.weight"].abs().median() for m in (Static(), ScalePenalty(0.1))]
    assert medians[0] > 0.9
    assert medians[1] < 0.3


def test_wrong_penalties_are_refused():
    for strength in (-1.0, math.inf, math.nan):
        with pytest.raises(UserError, match=r"pruner\.penalty="):
            ScalePenalty(strength)
    with pytest.raises(UserError, match=r"no batch or group norm.*pruner\.penalty=0"):
        ScalePenalty().install(small.perceptron(), small.task().dense(), 0)
    ScalePenalty(0).install(small.perceptron(), small.task().dense(), 0)


# --- from the config


def parts(*overrides):
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        pruner = resolve(compose("config", overrides=list(overrides)))["pruner"]
    return {name: make(pruner[name]) for name in ("search", "masking")}


def test_early_bird_of_channels_is_as_published():
    found = parts("pruner=early_bird_channels")
    search = found["search"]
    assert isinstance(search, EarlyBird)
    assert (search.score, search.allocate) == (NormScale(), Channels(exclude=[]))
    assert (search.unit, search.distance, search.window) == ("channels", 0.1, 5)
    assert found["masking"] == ScalePenalty(1e-4)
    assert parts("pruner=early_bird")["masking"] == Static()


def rows(folder, *words):
    said = command.lth_run(
        *command.SMALL, "control=none", "rewind=init", f"paths.outputs={folder}", *words
    )
    assert said.status == 0, said.err
    [path] = folder.glob("*/*/rounds.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_early_bird_of_channels_runs(tmp_path):
    found = rows(
        tmp_path, "pruner=early_bird_channels", "model.norm=batch", "model.widths=[12,8]",
        "pruner.distance=1", "pruner.rate=0.5", "pruner.rounds=1",
    )  # fmt: skip
    assert [row["round"] for row in found] == [0, 1]
    assert found[1]["start_step"] > 0
    density = found[1]["layer_density"]
    assert density["linear1.weight"] * 12 + density["linear2.weight"] * 8 == pytest.approx(10)
    assert density["output.weight"] == 1


def test_structured_prospr_runs(tmp_path):
    found = rows(
        tmp_path, "pruner=prospr", "pruner.search.score.structured=true", "pruner.scope=channels",
        "pruner.rate=0.5", "pruner.rounds=1", "pruner.search.score.batch_size=32",
    )  # fmt: skip
    assert found[1]["layer_density"] == {"linear1.weight": 0.5, "output.weight": 1.0}


def test_from_round_to_round_the_last_layer_is_the_networks(tmp_path):
    def network():
        layers = {"z_first": nn.Linear(16, 6), "relu": nn.ReLU(), "a_last": nn.Linear(6, 3)}
        return nn.Sequential(OrderedDict(flat=nn.Flatten(), **layers))

    problem = small.task(model=network)
    search, past = replace(small.imp(rounds=1), allocate=Channels()), []
    for number in range(2):
        job = Job(problem, search.propose(problem, past), Static(), Slot(number))
        past += small.trainer(tmp_path).fit([job])
    assert past[1].mask.layer_density() == {"z_first.weight": 4 / 6, "a_last.weight": 1.0}
