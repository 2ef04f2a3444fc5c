"""A user's own torch data set: fetched when asked for, seeded, resumed to the bit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

import small
from lth_runner.masking import Static
from lth_runner.problem.data import MapStyle, map_style
from lth_runner.problem.fits import check_fits
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.store.checkpoint_file import load_checkpoint, save_checkpoint
from lth_runner.training import train as engine
from lth_runner.training.job import Job
from lth_runner.values import state as states
from lth_runner.values.errors import UserError


@dataclass
class Rows:
    """Six numbers and a class by the row's number; a random shift, from all three streams."""

    num: int = 40
    shift: float = 0.0
    asked: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, index: int) -> tuple[object, object]:
        self.asked.append(index)
        drawn = torch.rand(()).item() + np.random.rand() + random.random()
        values = torch.linspace(0, 1, 6) * (1 + index % 3) + self.shift * drawn
        return {"values": values, "scale": np.float64(1.0)}, index % 3


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(6, 9), nn.Linear(9, 3)

    def forward(self, values: Tensor, scale: Tensor) -> Tensor:
        answer: Tensor = self.output(self.hidden(values * scale[:, None]).relu())
        return answer


def data(shift: float = 0.5, **changes: object):
    return map_style(train=Rows(shift=shift), test=Rows(num=12), num_classes=3, **changes)


def test_samples_are_fetched_one_by_one_when_they_are_asked_for() -> None:
    rows = Rows()
    samples = MapStyle(rows, given="rows")
    rows.asked.clear()
    inputs, targets = samples.take(torch.tensor([7, 2]), torch.Generator())
    assert rows.asked == [7, 2]
    assert targets.tolist() == [1, 2]
    assert {name: (v.dtype, tuple(v.shape)) for name, v in inputs.items()} == {
        "values": (torch.float32, (2, 6)), "scale": (torch.float32, (2,)),
    }  # fmt: skip


def test_a_step_is_a_function_of_seed_and_step_and_draws_leave_no_trace() -> None:
    stream, again = data().stream(8, seed=3), data().stream(8, seed=3)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    sequence = [stream[step][0]["values"] for step in range(9)]
    for step in (8, 0, 5, 5):
        assert torch.equal(again[step][0]["values"], sequence[step])
    assert not torch.equal(data().stream(8, seed=4)[0][0]["values"], sequence[0])
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1], before[2]) == (np.random.get_state()[1].tolist(), random.getstate())


def test_every_sample_of_a_step_draws_by_itself() -> None:
    first, second = MapStyle(Rows(shift=0.5)).take(torch.tensor([3, 6]), torch.Generator())[0][
        "values"
    ]
    assert not torch.equal(first, second)  # both are rows of class 0


def test_a_training_with_a_random_transform_is_continued_bit_for_bit(tmp_path: Path) -> None:
    task = Task(Named, data())
    check_fits(task)
    job, recipe = Job(task, Ticket(task.dense(), task.init()), Static()), small.recipe()
    whole = engine.replay(job, recipe, None, 20)
    save_checkpoint(tmp_path / "at", engine.replay(job, recipe, None, 7))
    continued = engine.replay(job, recipe, load_checkpoint(tmp_path / "at"), 20)
    assert states.fingerprint(continued.weights) == states.fingerprint(whole.weights)
    still = Job(Task(Named, data(shift=0.0)), job.ticket, Static())
    other = engine.replay(still, recipe, None, 20)
    assert states.fingerprint(other.weights) != states.fingerprint(whole.weights)


def test_the_fingerprint_is_that_of_all_samples_or_the_name_that_is_given() -> None:
    assert data().fingerprint == data().fingerprint != data(shift=0.4).fingerprint
    rows = Rows()
    named = MapStyle(rows, given="rows, first edition")
    rows.asked.clear()
    assert named.fingerprint != MapStyle(Rows(), given="second").fingerprint
    assert rows.asked == []
    assert named.fingerprint == MapStyle(Rows(shift=9.0), given="rows, first edition").fingerprint


@dataclass
class Flipped(Rows):
    """Options that the samples do not show."""

    share: float = 0.0
    root: str = "/here"
    transform: object = None


@dataclass
class Drawn(Rows):
    """Hides its option, so that samples alone tell one from another."""

    _share: float = 0.0

    def __getitem__(self, index: int) -> tuple[object, object]:
        return super().__getitem__(index)[0], int(torch.rand(()) < self._share)


class Option(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p


def test_sets_of_other_random_transforms_are_others_wherever_they_lie() -> None:
    prints = [MapStyle(Drawn(_share=share)).fingerprint for share in (0.0, 0.5, 0.8)]
    assert len(set(prints)) == 3
    assert MapStyle(Flipped(share=1e-9)).fingerprint != MapStyle(Flipped()).fingerprint
    assert MapStyle(Flipped(root="/there")).fingerprint == MapStyle(Flipped()).fingerprint
    kept: list[object] = []  # whose method is in C, of no module
    assert MapStyle(Flipped(transform=kept.append)).fingerprint
    inner = [MapStyle(Flipped(transform=nn.Sequential(Option(p)))) for p in (0.1, 0.9)]
    assert inner[0].fingerprint != inner[1].fingerprint


def test_a_class_that_is_none_and_a_label_that_is_none_are_told_before_training(caplog) -> None:
    last = Items([({"values": torch.zeros(6), "scale": 1.0}, int(n == 30) * 3) for n in range(40)])
    three = {"train": last, "test": last, "num_classes": 3, "validation": 0}
    with pytest.raises(UserError, match=r"custom: train: .*from 0 to 3: accepted 0 to 2"):
        check_fits(Task(Named, map_style(**three)))
    assert "are checked" not in caplog.text
    with pytest.raises(UserError, match=r"from 0 to 3: accepted 0 to 2"):
        check_fits(Task(Named, map_style(**three, given="many")))
    assert "the targets of 40 of 40 samples alone are checked" in caplog.text


def test_samples_are_held_out_unless_there_is_a_split_of_its_own() -> None:
    held, own = data(validation=10), data(val=Rows(num=5))
    assert (held.num_train, len(held.val), len(held.test)) == (30, 10, 12)
    assert (own.num_train, len(own.val)) == (40, 5)


@dataclass
class Items:
    """Whatever it is given, item by item."""

    items: list[object]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> object:
        return self.items[index]


class Streamed(IterableDataset):
    def __iter__(self) -> Iterator[object]:
        yield torch.zeros(2), 0


class OwnDraws(Rows):
    """Another look, another sample, whatever the seed; only the last of seven looks shows it."""

    looks = 0

    def __getitem__(self, index: int) -> tuple[object, object]:
        inputs, target = super().__getitem__(index)
        self.looks += 1
        return {**inputs, "scale": float(self.looks > 6)}, target


PAIR = (torch.zeros(2), 0)


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        (Streamed(), "Streamed has no length.*__len__ and __getitem__"),
        (Items([]), "is empty"),
        (OwnDraws(), "sample 0 differs from one look to the next under one seed"),
        (Items([torch.zeros(2)]), r"sample 0 is a Tensor: give a pair \(inputs, targets\)"),
        (Items([("text", 0)]), "sample 0 holds a str: give a tensor, an array or a number"),
        (Items([({"a": {"b": 1.0}}, 0)]), "sample 0 holds a dict: .*a mapping of these by name"),
        (Items([PAIR, (torch.zeros(3), 0)]), r"sample 1 is .*\(3,\).*first one .*\(2,\).*padding"),
        (Items([PAIR, (torch.zeros(2), 0.5)]), "sample 1 is .* float32 .*first one .* int64"),
    ],
)
def test_a_set_that_cannot_be_trained_on_is_refused(dataset: object, says: str) -> None:
    with pytest.raises(UserError, match=says):
        map_style(train=dataset, test=Items([PAIR]), validation=0).fingerprint  # noqa: B018


def test_samples_that_do_not_stack_are_told_by_number() -> None:
    samples = MapStyle(Items([PAIR, (torch.zeros(3), 0)]), "own: train", given="unread")
    with pytest.raises(
        UserError, match=r"own: train: samples 0, 1, \.\.\. do not stack to a batch"
    ):
        samples.take(torch.tensor([0, 1]), torch.Generator())


@pytest.mark.parametrize(
    ("items", "shape", "says"),
    [
        ([PAIR], [3], r"dataset.shape=\[3\], but an input has the shape \[2\]: set dataset.shape"),
        ([({"a": 1.0}, 0)], [2], r"inputs are by name \(a: float32.*~model.shape"),
    ],
)
def test_a_shape_that_is_not_the_samples_is_refused(items, shape, says):
    with pytest.raises(UserError, match=says):
        map_style(train=Items(items), test=Items(items), shape=shape)


def test_workers_fetch_the_same_samples() -> None:
    alone, by_one = (map_style(train=Rows(shift=1.0), test=Rows(), workers=num) for num in (0, 1))
    assert alone.fingerprint == by_one.fingerprint
    for step in (0, 1, 5):
        for one, other in zip(*(data.stream(4, 0)[step] for data in (alone, by_one)), strict=True):
            values = [part if isinstance(part, Tensor) else part["values"] for part in (one, other)]
            assert torch.equal(*values)


def test_what_cannot_be_sent_to_workers_is_refused() -> None:
    rows = Rows()
    rows.opened = lambda: None
    data = map_style(train=rows, test=Rows(), workers=1)
    with pytest.raises(UserError, match=r"cannot be sent to worker processes.*dataset\.workers=0"):
        data.stream(4, 0)[0]
