"""When an early-bird ticket is found, and that it is the one of that epoch."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import pytest
import torch

from fake_past import CLOCK, Fake, equal, small_task
from lth_runner.allocate import Channels, Global, channels
from lth_runner.schedule import Iterations
from lth_runner.score import Magnitude, NormScale
from lth_runner.search import EarlyBird
from lth_runner.search.early_bird import mask_distance
from lth_runner.search.ticket import Ticket
from lth_runner.training.learning_rate import Constant
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.steps import Clock, Duration


@dataclass(frozen=True)
class Settling(Fake):
    """Weights drawn anew in each epoch up to ``settled``, and then no more."""

    settled: int = 4

    def at(self, step):
        super().at(step)
        drawn = min(step // CLOCK.epoch, self.settled)
        return {
            name: torch.randn(value.shape, generator=stream(drawn, "epoch", name))
            for name, value in self.task.init().items()
        }


def search(**options):
    return EarlyBird(Magnitude(), Global(), Iterations(0.5), **options)


def dense(task, **options):
    return Settling(task, 0, Ticket(task.dense(), task.init()), **options)


@pytest.mark.parametrize(("window", "settled", "found"), [(5, 4, 8), (5, 1, 5), (3, 4, 6)])
def test_the_first_epoch_whose_window_agrees_is_taken(window, settled, found):
    task = small_task()
    past = [dense(task, settled=settled)]
    ticket = search(window=window).propose(task, past)
    assert ticket.start.step == found * CLOCK.epoch
    assert max(past[0].asked) == found * CLOCK.epoch  # and no further
    assert 0 not in past[0].asked
    assert ticket.mask.num_kept == 41
    assert equal(ticket.weights, past[0].at(found * CLOCK.epoch))
    assert search(window=window).propose(task, [*past, past[0]]) is None


def test_masks_that_never_settle_are_told(caplog):
    task = small_task()
    with caplog.at_level(logging.WARNING):
        assert search().propose(task, [dense(task, settled=99)]) is None
        assert search(until="7ep").propose(task, [dense(task, settled=4)]) is None
    assert caplog.text.count("no early-bird ticket") == 2
    assert search(distance=1.0).propose(task, [dense(task, settled=99)]).start.step == 250


def test_masks_differ_in_what_one_alone_keeps():
    one, other = (Mask({"w": torch.tensor(k, dtype=torch.bool)}) for k in ([1, 1, 0], [0, 1, 0]))
    assert mask_distance(one, other) == mask_distance(other, one) == 1 / 3
    assert mask_distance(one, one) == 0


@dataclass(frozen=True)
class Scaled(Fake):
    """Nine scales of the norm, of which the order turns round in every other epoch until 4."""

    def at(self, step):
        epoch, scales = step // CLOCK.epoch, torch.arange(1.0, 10.0)
        ordered = {"norm.weight": scales.flip(0) if epoch < 4 and epoch % 2 else scales}
        return self.task.init() | ordered


def test_an_early_bird_of_channels_keeps_those_with_the_largest_scales():
    task = small_task()
    past = [Scaled(task, 0, Ticket(task.dense(), task.init()))]
    by_scale = replace(search(unit="channels"), score=NormScale(), allocate=Channels())
    ticket = by_scale.propose(task, past)
    assert ticket.start.step == 8 * CLOCK.epoch  # four alike before it, from 4 on
    assert channels(ticket.mask)["hidden.weight"].flatten().tolist() == [False] * 4 + [True] * 5
    assert ticket.mask["hidden.weight"].sum(1).tolist() == [0] * 4 + [6] * 5
    assert bool(ticket.mask["output.weight"].all())


@pytest.mark.parametrize(("unit", "found"), [("channels", 8), ("weights", 5)])
def test_the_distance_is_a_share_of_channels_or_of_weights(unit, found):
    """Eight of nine channels change until 4: 8/9 of channels, 48/81 of all weights."""
    task = small_task()
    past = [Scaled(task, 0, Ticket(task.dense(), task.init()))]
    between = replace(search(), score=NormScale(), allocate=Channels(), distance=0.7, unit=unit)
    assert between.propose(task, past).start.step == found * CLOCK.epoch


def test_a_snapshot_is_wanted_of_every_epoch():
    assert list(search().snapshots(CLOCK)) == list(range(50, 501, 50))
    assert list(search(until="3ep").snapshots(CLOCK)) == [50, 100, 150]
    shrunk = Clock.of(Duration.parse("10ep"), 50, Duration.parse("20it"))
    assert list(search().snapshots(shrunk)) == list(range(2, 21, 2))
    shorter = Clock.of(Duration.parse("182ep"), 1562, Duration.parse("20it"))  # nine to a step
    assert list(search().snapshots(shorter)) == list(range(1, 21))
    search().check(small_task(), shorter, Constant())


def test_impossible_windows_and_networks_are_refused():
    for options, why in (
        ({"window": 1}, r"pruner\.window=1"),
        ({"unit": "filters"}, r"pruner\.unit='filters'.*channels"),
        ({"distance": 2}, r"pruner\.distance=2"),
        ({"until": "soon"}, "not a duration"),
    ):
        with pytest.raises(UserError, match=why):
            search(**options)
    with pytest.raises(UserError, match=r"window=5 epochs are more than the 2 until 2ep"):
        search(until="2ep").check(small_task(), CLOCK, Constant())
    with pytest.raises(UserError, match=r"pruner\.until=11ep"):
        search(until="11ep").check(small_task(), CLOCK, Constant())
    plain = replace(small_task(), model=lambda: torch.nn.Sequential(torch.nn.Linear(6, 3)))
    with pytest.raises(UserError, match="norm"):
        replace(search(), score=NormScale()).check(plain, CLOCK, Constant())
    search().check(small_task(), CLOCK, Constant())
