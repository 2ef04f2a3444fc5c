"""The arm that decides by corrupted data: its trainings, how many there are, who shares them."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

import small
from fake_past import Fake, small_task
from lth_runner.allocate import Global
from lth_runner.control import RandomData
from lth_runner.experiment import Experiment, next_jobs, run
from lth_runner.masking import Continuous, EdgePopup, GemMiner, Gradual, Static, Supermask
from lth_runner.runs.record import Record
from lth_runner.schedule import Geometric, Iterations
from lth_runner.score import Concrete, Magnitude, Snip, Synflow
from lth_runner.search import AtInit, EarlyBird, Found, Iterative, KeptScores, Learned
from lth_runner.search.rewind import Rewind
from lth_runner.training.job import Job, Slot
from lth_runner.training.pace import Interrupted, Pace

HALF = Iterations(0.5)
TICKET, ARM, MIRROR = "ticket", "random_data", "ticket/random_data"


def at_init(score, **options):
    return AtInit(score, Global(), HALF, **options)


def imp(**rewind):
    return Iterative(Magnitude(), Global(), Geometric(rate=0.3, rounds=3), Rewind(**rewind))


class Watched:
    """Trainings as they are done: which slots, and every step of them; what was run again."""

    def __init__(self):
        self.steps, self.again = [], []

    def watch(self, job, step, clock, row):
        if row is not None:
            self.steps.append((job.slot, step))

    @property
    def trained(self):
        """How often a training of each slot came to its end."""
        return Counter((slot.round, slot.arm) for slot, step in self.steps if step == 40)


def whole(folder, search, masking=None, *, corrupt="labels", stop=lambda: False, seen=None):
    """A run of one replicate with the arm; what was trained for it, and the rows' tickets."""
    seen, masking = seen or Watched(), masking or Static()
    pace = Pace(stop=stop, watch=seen.watch, replayed=seen.again.append)
    recipe = small.recipe(eval_every="1it")
    trainer = small.trainer(folder, pace=pace, recipe=recipe)
    record = Kept({})
    control = RandomData(search, corrupt)
    run(Experiment([small.task()], search, masking, {ARM: control}, []), trainer, record)
    return seen, record.found


@dataclass(frozen=True)
class Kept(Record):
    """Remembers every training by its round and arm."""

    sinks: dict
    found: dict = None

    def __post_init__(self):
        object.__setattr__(self, "found", {})

    def round(self, job, trained, row):
        self.found[job.slot.round, job.slot.arm] = trained


def corrupted(task):
    """The task that the arm decides by."""
    return RandomData(imp())._corrupted(task)


@pytest.mark.slow
@pytest.mark.parametrize("rewind", [{}, {"step": "4it"}, {"weights": "keep", "bn": "keep"}])
def test_its_masks_are_those_of_the_same_search_on_the_corrupted_data(tmp_path, rewind):
    search = imp(**rewind)
    seen, found = whole(tmp_path / "arm", search)
    there, past = corrupted(small.task()), []
    trainer = small.trainer(tmp_path / "there", recipe=small.recipe(eval_every="1it"))
    while (ticket := search.propose(there, past)) is not None:
        past += trainer.fit([Job(there, ticket, Static(), Slot(len(past)))])
    for number in (1, 2, 3):
        arm, true = found[number, ARM], found[number, TICKET]
        assert arm.mask == past[number].ticket.mask != true.mask
        assert arm.job.task is true.job.task  # and is trained on the true data
    entries = [{p.name for p in (tmp_path / n / "entries").iterdir()} for n in ("arm", "there")]
    assert len(entries[0] & entries[1]) == 3  # the last round's ticket decides nothing any more
    assert seen.trained == Counter(found.keys() | {(number, MIRROR) for number in (0, 1, 2)})
    assert not seen.again  # the snapshots of the true trainings were kept of the mirrored ones too


@pytest.mark.parametrize(
    ("search", "same"),
    [
        (at_init(Snip(batch_size=20)), False),
        (at_init(Snip(batch_size=20), rewind=Rewind(weights="keep", bn="keep")), False),
        (at_init(Snip(batch_size=20), rewind=Rewind(step="4it"), score_step="0it"), False),
        (at_init(Snip(batch_size=20), dense=False), False),
        (KeptScores(Concrete(HALF, "loss", length="4it", batch_size=10), Global(), HALF), False),
        (at_init(Synflow()), True),
        (at_init(Magnitude()), True),
    ],
)
def test_a_decision_by_initial_weights_trains_nothing_more(tmp_path, search, same, caplog):
    with caplog.at_level(logging.INFO):
        seen, found = whole(tmp_path, search)
    assert not [slot for slot, _ in seen.steps if slot.arm == MIRROR]
    last = max(number for number, _ in found)
    assert (found[last, ARM].key == found[last, TICKET].key) == same
    assert caplog.text.count("reads no labels") == same


def test_a_decision_by_early_weights_takes_one_training_more(tmp_path):
    seen, _ = whole(tmp_path, at_init(Magnitude(), rewind=Rewind(step="4it")))
    assert seen.trained[0, MIRROR] == 1
    seen, _ = whole(tmp_path, at_init(Snip(batch_size=20), rewind=Rewind(step="4it")))
    assert not seen.trained[0, MIRROR]  # another search on the same data: from the Store


FOUND = {
    "gradual": (Learned(rescale=False), Gradual(Global(), Iterations(0.5, 4))),
    "continuous": (Learned(), Continuous(penalty=1e-3, score_lr=1.0)),
    "edge_popup": (Found(), EdgePopup(Global(), HALF)),
    "gem_miner": (Found(train=True), GemMiner(Global(), Iterations(0.5, 4))),
    "supermask": (Found(), Supermask(Global(), sparsity=0.5)),
    "early_bird": (EarlyBird(Magnitude(), Global(), HALF, 1.0, 2), Static()),
}


@pytest.mark.parametrize("name", FOUND)
def test_a_mask_found_within_a_training_is_found_again_on_corrupted_data(tmp_path, name):
    search, masking = FOUND[name]
    seen, found = whole(tmp_path, search, masking, corrupt="pixels")
    assert seen.trained[0, MIRROR] == 1
    arm, ticket = found[1, ARM], found[1, TICKET]
    assert arm.ticket.mask != ticket.ticket.mask
    assert arm.mask == arm.ticket.mask  # held while the ticket is trained
    assert arm.ticket.start == ticket.ticket.start
    counts = [t.mask.num_kept for t in (arm, ticket)]
    assert (len({*counts}) == 1) == (name != "continuous")  # there it is part of what is learned


def test_a_finished_run_asks_for_no_training_and_no_corrupted_data_again(tmp_path, monkeypatch):
    _, found = whole(tmp_path, imp())
    monkeypatch.setattr(RandomData, "_other", None)
    seen, again = whole(tmp_path, imp())
    assert not seen.steps
    assert {place: t.key for place, t in again.items()} == {p: t.key for p, t in found.items()}


@pytest.mark.slow
def test_stopped_in_the_midst_of_a_mirrored_training_it_does_no_step_twice(tmp_path):
    seen = Watched()
    with pytest.raises(Interrupted):
        whole(tmp_path / "cut", imp(), seen=seen, stop=lambda: seen.steps[-1:] == halfway)
    cut = len(seen.steps)
    assert seen.steps[-1] == halfway[0]
    _, found = whole(tmp_path / "cut", imp(), seen=seen)
    uncut, wanted = whole(tmp_path / "uncut", imp())
    assert 0 < cut < len(seen.steps)
    assert Counter(seen.steps) == Counter(uncut.steps)
    assert max(Counter(seen.steps).values()) == 1
    assert {place: t.key for place, t in found.items()} == {p: t.key for p, t in wanted.items()}


halfway = [(Slot(1, MIRROR), 20)]


@dataclass(frozen=True)
class Diverging(Fake):
    """A training whose siblings diverge."""

    def sibling(self, ticket, arm, task=None):
        return SimpleNamespace(diverged=True)


@dataclass(frozen=True)
class Unwilling:
    """Finds a ticket on one task alone."""

    task: object = None

    num_rounds = 2

    def propose(self, task, past):
        found = imp().propose(small_task(), [])
        return found if task is self.task or not past else None


@pytest.mark.parametrize(
    ("search", "why"),
    [
        (imp(), "a training that it goes by diverged"),
        (Unwilling(), "the search finds no ticket"),
    ],
)
def test_where_nothing_is_decided_there_is_no_arm_and_a_warning(search, why, caplog):
    task = small_task(seed=3)
    past = [Diverging(task, 0, imp().propose(task, []))]
    ticket = imp().propose(task, past)
    with caplog.at_level(logging.WARNING):
        assert RandomData(search)(task, ticket, past, 0) is None
    assert f"no random_data arm in round 1 of seed 3: deciding that way, {why}" in caplog.text


def test_a_round_goes_on_without_an_arm_that_there_is_not(tmp_path):
    task = small.task()
    past = {0: list(small.trainer(tmp_path).fit([small.dense_job(task)]))}
    controls = {"none": lambda task, ticket, past, seed: None, "same": lambda task, t, *_: t}
    experiment = Experiment([task], imp(), Static(), controls, [])
    assert [one.job.slot.arm for one in next_jobs(experiment, past, [])] == ["ticket", "same"]


def test_it_says_how_many_trainings_it_may_add():
    assert RandomData(imp()).num_trainings([1, 3, 3, 3]) == 3
    assert RandomData(at_init(Magnitude(), dense=False)).num_trainings([3]) == 0


def test_weights_that_stay_trained_come_back_under_a_mask_that_is_not_nested(tmp_path):
    _, found = whole(tmp_path, imp(weights="keep", bn="keep"))
    arm, before = found[2, ARM], found[1, TICKET]
    outside = {n: kept & ~before.mask[n] for n, kept in arm.ticket.mask.items()}
    assert sum(int(kept.sum()) for kept in outside.values())
    for name, kept in outside.items():
        assert (arm.ticket.masked[name][kept] != 0).all()
    assert replace(arm.ticket, mask=before.mask).masked.keys() == before.weights.keys()
