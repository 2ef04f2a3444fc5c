"""Trainings without what their masks have cut off are those of the whole networks."""

from __future__ import annotations

import functools
import gc
import weakref
from dataclasses import replace

import pytest
import torch
from torch import nn

import lanes
from lth_runner.cutting import parts
from lth_runner.masking import Set, Static
from lth_runner.problem import models
from lth_runner.problem.covers import Covers
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Start, Ticket
from lth_runner.training.engines.choose import choose
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.narrow import narrowed
from lth_runner.training.network import fresh_network
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask

SMALL = {"shape": (3, 8, 8), "num_classes": 3}


@pytest.fixture(autouse=True)
def of_any_width(monkeypatch):
    """Small networks are cut to any width, which large ones are not."""
    monkeypatch.setattr("lth_runner.training.narrow.MULTIPLE", 1)


class Grouped(nn.Module):
    """A depthwise and a grouped convolution, a concatenation, and an activation of one's own."""

    def __init__(self, act):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.own, self.grouped = (
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.Conv2d(8, 12, 1, groups=2),
        )
        self.last, self.act = nn.Linear(20, 3), act

    def forward(self, x):
        x = self.act(self.norm(self.first(x)))
        x = torch.cat([self.act(self.own(x)), self.act(self.grouped(x))], 1)
        return self.last(x.mean((2, 3)))


class Watched(nn.Module):
    """Two layers, what is between them watched in training alone."""

    def __init__(self, watch):
        super().__init__()
        self.first, self.last, self.watch = nn.Linear(192, 8), nn.Linear(8, 3), watch()

    def forward(self, x):
        between = self.first(x.flatten(1)).relu()
        if self.training:
            return self.last(between) + self.watch(between)
        return self.last(between)


class Average(nn.Module):
    """A moving average of what it is given, which answers 0."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x):
        self.mean.lerp_(x.detach().mean(0), 0.1)
        return 0.0


def with_second_head():
    return Watched(lambda: nn.Linear(8, 3))


def with_average():
    return Watched(Average)


def biased():
    """A bias before a norm, which takes it off again but for rounding."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 3)
    )


def by_one():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(192, 12), nn.LeakyReLU(), nn.Linear(12, 8), nn.ReLU(),
        nn.Linear(8, 3)
    )  # fmt: skip


def computed():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(192, 8))
    return nn.Sequential(nn.Flatten(), layer, nn.ReLU(), nn.Linear(8, 3))


def relu_groups():
    return Grouped(nn.ReLU())


def gelu_groups():
    return Grouped(nn.GELU())


class Recurrent(nn.Module):
    """Rows of a picture, one after another."""

    def __init__(self):
        super().__init__()
        self.memory, self.last = nn.LSTM(24, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.memory(x.transpose(1, 2).flatten(2))[0][:, -1])


def conv(norm="batch"):
    return models.conv(**SMALL, depth=2, norm=norm)


def plain():
    return conv("none")


def dropped():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Dropout(), nn.Linear(8, 3))


MODELS = {
    "conv": conv,
    "plain": plain,
    "resnet": lanes.resnet,
    "groups": relu_groups,
}


def job(model, *, share=0.5, columns=0.0, start=None, seed=0):
    """A ticket whose layers have lost whole channels, and whole inputs too."""
    task = Task(model, lanes.pictures(), seed)
    generator, mask = torch.Generator().manual_seed(seed), dict(task.dense())
    for name in list(mask)[:-1]:
        kept = mask[name]
        rows = torch.rand(len(kept), generator=generator) >= share
        rows[0] = True
        mask[name] = kept & rows.view(-1, *[1] * (kept.ndim - 1))
    for name in list(mask)[1:] if columns else ():
        kept = mask[name]
        heard = torch.rand(kept.shape[1], generator=generator) >= columns
        heard[0] = True
        mask[name] = kept & heard.view(1, -1, *[1] * (kept.ndim - 2))
    return Job(task, Ticket(Mask(mask), task.init(), start or Start()), Static())


def begun(model, values, *, seed=0):
    """A ticket some of whose tensors begin with one value all over."""
    chosen = job(model, seed=seed)
    weights = chosen.ticket.weights
    for name, value in values.items():
        weights[name][:] = value
    return replace(chosen, ticket=replace(chosen.ticket, weights=weights))


def both(chosen, **changes):
    whole, small = (
        lanes.trained([chosen], lanes.recipe(cut_dead=cut, **changes), by=Sequential())[0]
        for cut in (False, True)
    )
    return whole, small


def assert_alike(whole, small, *, atol=2e-4):
    parameters = [n for n in whole.weights if "running" not in n]
    for name in parameters:
        torch.testing.assert_close(small.weights[name], whole.weights[name], atol=atol, rtol=1e-2)
    for row, other in zip(whole.history, small.history, strict=True):
        assert row["val_loss"] == pytest.approx(other["val_loss"], abs=1e-3)


def narrow(chosen, **changes):
    how = lanes.recipe(**changes)
    return narrowed(chosen, how, fresh_network(chosen.task, how))


def widths(chosen, **changes):
    found = narrow(chosen, **changes)
    return parts.widths(chosen.task.module() if found is None else found.small)


@pytest.mark.parametrize("optimizer", [lanes.SGD, lanes.ADAMW])
@pytest.mark.parametrize("name", MODELS)
def test_a_training_without_dead_channels_is_that_of_the_whole_network(name, optimizer):
    chosen = job(MODELS[name], columns=0.3)
    assert narrow(chosen) is not None
    assert_alike(*both(chosen, optimizer=optimizer, length="8it"))


def test_units_of_a_recurrent_layer_that_nobody_hears_are_not_trained():
    task = Task(Recurrent, lanes.pictures(), 0, covers=Covers(types=("linear", "recurrent")))
    mask = {name: kept.clone() for name, kept in task.dense().items()}
    for name in ("memory.weight_hh_l0", "last.weight"):
        mask[name][:, [1, 4, 5]] = False
    chosen = Job(task, Ticket(Mask(mask), task.init(), Start()), Static())
    assert widths(chosen) == {"memory": 5, "last": 3}
    assert_alike(*both(chosen, length="8it"))


def test_a_channel_that_sends_a_constant_goes_behind_a_relu_alone():
    with_relu, with_gelu = (widths(job(model)) for model in (relu_groups, gelu_groups))
    assert with_relu["first"] < 8
    assert with_gelu["first"] == 8  # its shift could be learned


def test_a_shift_above_0_is_learned_and_below_0_is_not():
    chosen = begun(conv, {"norm1.bias": 0.1, "norm2.bias": -0.1})
    found = widths(chosen)
    assert found["conv1"] == 64
    assert found["conv2"] == int(chosen.ticket.mask["conv2.weight"].flatten(1).any(1).sum())
    assert_alike(*both(chosen, length="8it"))


@pytest.mark.parametrize(
    "optimizer",
    [
        functools.partial(torch.optim.Adam, lr=2**-7, weight_decay=1e-3),
        functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1),
    ],
)
def test_a_shift_that_weight_decay_takes_past_0_stays(optimizer):
    zero, below = job(conv), begun(conv, {"norm1.bias": -1e-3})
    assert widths(zero, optimizer=optimizer)["conv1"] < 64
    assert widths(below, optimizer=optimizer)["conv1"] == 64
    assert widths(below)["conv1"] < 64


def test_what_a_running_mean_sends_in_evaluation_stays():
    chosen = begun(conv, {"norm1.bias": -0.1, "norm1.running_mean": -0.15})
    assert widths(chosen)["conv1"] == 64
    inputs, _ = chosen.task.data.sample(4, 0)
    whole, small = (chosen.task.outputs(one.weights, inputs) for one in both(chosen, length="1it"))
    torch.testing.assert_close(small, whole)


def test_what_a_norm_leaves_of_a_constant_stays():
    assert widths(begun(biased, {"0.bias": 0.0}))["0"] < 8
    below = begun(biased, {"0.bias": torch.linspace(-2, -0.1, 8)})
    assert widths(below)["0"] == 8


def test_what_could_learn_stays_though_who_hears_it_is_off_by_chance():
    chosen = begun(by_one, {"1.bias": 0.0, "3.bias": 0.0}, seed=3)
    mask = {name: torch.ones_like(kept) for name, kept in chosen.ticket.mask.items()}
    mask["1.weight"][:6] = False
    mask["3.weight"] = torch.rand(8, 12, generator=torch.Generator().manual_seed(103)) < 0.4
    mask["3.weight"][:, :6] = torch.eye(8, 6)
    assert widths(replace(chosen, ticket=replace(chosen.ticket, mask=Mask(mask))))["1"] == 12


@pytest.mark.parametrize("model", [with_second_head, with_average])
def test_a_step_that_fails_without_what_is_dead_is_told(model, caplog):
    assert narrow(job(model)) is None
    assert "trained whole: a step without what is dead fails: " in caplog.text


def test_moments_of_an_earlier_training_keep_what_they_would_move():
    moments = {"norm1.bias.exp_avg": torch.ones(64)}
    plain, moved = (widths(job(conv, start=start)) for start in (Start(), Start(optimizer=moments)))
    assert plain["conv1"] < moved["conv1"] == 64


def test_a_training_goes_on_with_equal_bits():
    chosen, how = job(lanes.resnet, columns=0.3), lanes.recipe(cut_dead=True, length="8it")
    [whole] = lanes.trained([chosen], how, by=Sequential())
    keeper = lanes.Memory()
    half = replace(chosen, snapshots=(5,))
    lanes.trained([half], how, by=Sequential(), keepers=[keeper])
    keeper.checkpoint = keeper.snapshots[5]
    [continued] = lanes.trained([chosen], how, by=Sequential(), keepers=[keeper])
    assert lanes.prints([whole]) == lanes.prints([continued])


def test_nothing_is_cut_where_no_channel_is_dead():
    [dense] = lanes.jobs(1, full=True)
    mask = dense.ticket.mask
    one = Mask({name: kept.clone() for name, kept in mask.items()})
    one["conv1.weight"][0, 0, 0, 0] = False
    scattered = replace(dense, ticket=replace(dense.ticket, mask=one))
    assert narrow(scattered) is None
    assert narrow(dense) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"engine": "packed"}, "it is for train.engine=sequential, and this run has packed"),
        ({"masking": Set()}, "Set moves the mask"),
        ({"model": dropped}, "draws random numbers"),
        ({"model": computed}, "the hooks or parametrisations of 1 "),
        ({"recompute": True}, "train.recompute=true computes"),
        ({"optimizer": torch.optim.Adafactor}, "Adafactor may look at a whole tensor"),
    ],
)
def test_what_cannot_be_cut_is_refused_before_any_training(change, told):
    task = Task(change.get("model", conv), lanes.pictures())
    how = {name: change[name] for name in change.keys() - {"masking", "model"}}
    with pytest.raises(UserError, match=told):
        choose(lanes.recipe(cut_dead=True, **how), task, change.get("masking", Static()))


@pytest.mark.parametrize("cut_dead", [False, True])
def test_a_training_is_gone_as_soon_as_nobody_holds_it(cut_dead):
    together = Sequential().begin([job(conv)], lanes.recipe(cut_dead=cut_dead), [None])
    network = weakref.ref(together.lanes[0].model)
    gc.disable()  # a circle would wait for it, beside the next training
    try:
        del together
        assert network() is None
    finally:
        gc.enable()


def test_dead_channels_stay_that_fill_a_vector(monkeypatch):
    free = widths(job(conv, share=0.7))
    monkeypatch.setattr("lth_runner.training.narrow.MULTIPLE", 8)
    chosen = job(conv, share=0.7)
    assert widths(chosen) == {
        name: num if name == "output" else -(-num // 8) * 8 for name, num in free.items()
    }
    assert_alike(*both(chosen, length="8it"))
