"""Arms that ask what of a pruner's decision matters, each different in what its name says."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pytest
import torch

from fake_past import Fake, equal, small_task
from lth_runner.allocate import Global, LayerWise
from lth_runner.control import Even, Invert, RandomData, Shuffle, possible
from lth_runner.probe.masks import Collapse
from lth_runner.problem.task import Task
from lth_runner.schedule import Geometric, Iterations
from lth_runner.score import Magnitude, Snip, Synflow
from lth_runner.search import AtInit, Iterative
from lth_runner.search.rewind import Rewind
from lth_runner.search.ticket import Ticket
from lth_runner.values import identity
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask


def at_init(score, iterations=1):
    return AtInit(score, Global(), Iterations(0.6, iterations))


SEARCHES = {
    "magnitude": at_init(Magnitude()),
    "snip": at_init(Snip(batch_size=20, batch_statistics=True)),
    "synflow": at_init(Synflow(), 5),
    "imp": Iterative(Magnitude(), LayerWise(), Geometric(rate=0.4, rounds=2), Rewind(step="1ep")),
}


def state_of(search, num_rounds=1):
    """A ticket with the past it was proposed from."""
    task, past = small_task(), []
    for _ in range(num_rounds):
        past.append(Fake(task, len(past), search.propose(task, past)))
    return task, search.propose(task, past), past


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind in ("invert", "random_data", "even")
        for name in SEARCHES
        if (kind, name) != ("random_data", "imp")  # it trains: test_random_data.py
    ],
)
def test_an_arm_differs_in_its_mask_alone_at_the_same_sum(name, kind):
    search = SEARCHES[name]
    task, ticket, past = state_of(search)
    control = {"invert": Invert(search), "random_data": RandomData(search), "even": Even()}[kind]
    arm, again, other = (control(task, ticket, past, seed) for seed in (1, 1, 2))
    assert arm.mask.num_kept == ticket.mask.num_kept
    assert equal(arm.weights, ticket.weights)
    assert arm.start is ticket.start
    assert arm.mask == again.mask
    data_free = kind == "random_data" and name != "snip"
    assert (arm.mask == ticket.mask) == data_free
    assert (arm.mask != other.mask) == (kind == "even")


def test_inversion_keeps_the_least_important():
    task, ticket, past = state_of(SEARCHES["magnitude"])
    arm = Invert(SEARCHES["magnitude"])(task, ticket, past, 0)
    size = torch.cat([ticket.weights[n].abs().flatten() for n in arm.mask])
    kept = torch.cat([arm.mask[n].flatten() for n in arm.mask])
    assert size[kept].max() < size[~kept].min()


def test_inversion_within_rounds_chooses_among_the_survivors():
    task, ticket, past = state_of(SEARCHES["imp"], 2)
    arm = Invert(SEARCHES["imp"])(task, ticket, past, 0)
    assert arm.mask <= past[-1].mask
    for name, kept in arm.mask.items():
        size, left = past[-1].weights[name].abs(), past[-1].mask[name] & ~kept
        assert size[kept].max() < size[left].min()


def test_a_search_without_a_score_has_nothing_to_invert(caplog):
    with pytest.raises(UserError, match=r"control=invert .*control=\[shuffle,reinit,random_data\]"):
        Invert(Scoreless())
    with pytest.raises(UserError, match=r"without_score='leaf_out'.*leave_out"):
        Invert(SEARCHES["snip"], "leaf_out")
    chosen = {"shuffle": Shuffle(), "invert": Invert(Scoreless(), "leave_out")}
    with caplog.at_level(logging.INFO):
        assert list(possible(chosen)) == ["shuffle"]
    assert caplog.messages == ["control  invert is left out: this pruner's masks come of no score"]
    one, other = (identity.describe(Invert(SEARCHES["snip"], w)) for w in ("refuse", "leave_out"))
    assert one == other  # where there is a score it decides nothing


@dataclass(frozen=True)
class Scoreless:
    num_rounds: int = 1


def test_an_even_arm_has_the_same_share_of_each_layer():
    task, ticket, past = state_of(at_init(Magnitude()))
    lopsided = Ticket(
        Global(exclude=["output"])(ticket.weights, 0.4, task.dense(), 0), ticket.weights
    )
    assert set(lopsided.mask.layer_density().values()) == {5 / 54, 1.0}
    arm = Even()(task, lopsided, past, 0)
    assert [int(kept.sum()) for kept in arm.mask.values()] == [21, 11]  # of 54 and 27, 32 in all


@pytest.mark.parametrize("corrupt", ["labels", "pixels"])
def test_only_the_training_split_is_corrupted_and_only_in_its_name(corrupt):
    shown = Shown()
    search = AtInit(shown, Global(), Iterations(0.5))
    task, ticket, past = state_of(search)
    shown.tasks.clear()
    RandomData(search, corrupt)(task, ticket, past, 0)
    (seen,) = shown.tasks
    assert seen.seed == task.seed
    (inputs, labels), (own_inputs, own_labels) = seen.data.train, task.data.train
    assert torch.equal(inputs, own_inputs) == (corrupt == "labels")
    assert torch.equal(labels, own_labels) == (corrupt == "pixels")
    assert torch.equal(inputs.sort(1).values, own_inputs.sort(1).values)
    moved = (inputs != own_inputs).any(1)
    assert corrupt == "labels" or moved.float().mean() > 0.9
    assert set(labels.tolist()) <= {0, 1, 2}
    assert equal({"x": seen.data.test[0]}, {"x": task.data.test[0]})


@dataclass(frozen=True)
class Shown:
    """Magnitude at random; remembers the tasks it was asked about."""

    tasks: list[Task] = field(default_factory=list, compare=False)

    def __call__(self, task, weights, mask):
        self.tasks.append(task)
        return Magnitude()(task, weights, mask)


def test_a_score_that_reads_no_labels_is_told_once(caplog):
    search = SEARCHES["synflow"]
    for num_rounds in (1, 2):  # as if there were a second one
        task, ticket, past = state_of(search)
        past *= num_rounds
        with caplog.at_level(logging.INFO):
            RandomData(search)(task, ticket, past, 0)
    assert caplog.text.count("reads no labels") == 1


def test_unknown_corruptions_are_refused():
    with pytest.raises(UserError, match=r"control\.random_data\.corrupt='label'.*labels"):
        RandomData(SEARCHES["snip"], "label")


def test_collapsed_layers_are_counted_and_told_where_a_training_emptied_them(caplog):
    task, ticket, past = state_of(SEARCHES["magnitude"])
    empty = {name: kept & (name != "output.weight") for name, kept in task.dense().items()}
    trained = Fake(task, 1, Ticket(type(ticket.mask)(empty), ticket.weights))
    assert list(Collapse()(task, past, trained)) == [("num_collapsed_layers", 1)]
    assert list(Collapse()(task, past, past[0])) == [("num_collapsed_layers", 0)]
    assert not caplog.text  # the search has told of a ticket's mask
    moved = Fake(task, 0, Ticket(task.dense(), ticket.weights), moved=Mask(empty))
    assert list(Collapse()(task, [], moved)) == [("num_collapsed_layers", 1)]
    assert "the training left nothing of output.weight" in caplog.text
