"""The training samples that a score looks at are seeded, normalised and never augmented."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from lth_runner.problem.requirements import classification
from lth_runner.problem.task import Task
from lth_runner.score.checks import KEY
from lth_runner.score.derivatives import MAX_SAMPLES
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import derive, stream
from lth_runner.values.tree import Batch

PER_CLASS = f"{KEY} draws as many samples of each class: it"


def draw_batches(task: Task, num_batches: int, batch_size: int, *, name: str = "") -> list[Batch]:
    """Draws ``num_batches`` batches without repetition; each ``name`` gives others.

    From data cut short by ``max_samples`` come fewer or smaller ones.
    """
    return task.batches(num_batches, derive(0, "score", name), batch_size)


def per_class(
    task: Task, samples_per_class: int, num_batches: int | None, *, by_class: bool = False
) -> Callable[[], Iterator[Batch]]:
    """Makes a reader of batches that hold as many samples of each class.

    Each call reads the same samples from the start: mixed, or one class after another, in
    ``num_batches`` batches; by default in as few as hold at most 64 samples each.
    """
    known = classification(task, PER_CLASS)
    data = known.data
    order = torch.randperm(data.num_train, generator=stream(task.seed, "search", "per_class"))
    labels = known.labels.cpu()[order]
    taken = [(labels == c).nonzero()[:samples_per_class, 0] for c in range(known.num_classes)]
    places = torch.cat(taken)
    index = order[places if by_class else places.sort().values].to(data.device)
    picked = (known.inputs[index], known.labels[index])
    empty = (picked[0][:0], picked[1][:0])
    size = MAX_SAMPLES if num_batches is None else -(-len(index) // num_batches)
    while len(index) % size == 1 and size < len(index):  # one sample has no batch statistics
        size += 1
    return partial(replace(data, train=picked, val=empty, test=picked).batches, "train", size)


def check_draw(
    task: Task, num_batches: int, batch_size: int, *, batch_statistics: bool, key: str = KEY
) -> None:
    """Raises UserError where ``draw_batches`` would fall short of what is asked for under a key."""
    wanted = num_batches * batch_size
    if wanted > task.data.num_train and task.data.nominal_train is None:
        raise UserError(
            f"{key}.num_batches={num_batches} of {key}.batch_size={batch_size} make {wanted} "
            f"samples, but there are {task.data.num_train} training samples: lower one of them"
        )
    if batch_size == 1 and batch_statistics and task.norm:
        raise UserError(
            f"{key}.batch_size=1 has no batch statistics: give at least 2, or set "
            f"{key}.batch_statistics=false"
        )


def check_per_class(task: Task, samples_per_class: int, num_batches: int | None) -> None:
    """Raises UserError where a class has too few samples, or a batch would be left empty."""
    known = classification(task, PER_CLASS)
    counts = torch.bincount(known.labels.cpu(), minlength=known.num_classes)
    if int(counts.min()) < samples_per_class and task.data.nominal_train is None:
        raise UserError(
            f"{KEY}.samples_per_class={samples_per_class}, but class {int(counts.argmin())} has "
            f"{int(counts.min())} training samples: lower it"
        )
    total = samples_per_class * known.num_classes
    if num_batches is not None and 2 * num_batches > total:
        raise UserError(
            f"{KEY}.num_batches={num_batches} cuts {total} samples into batches of less than 2: "
            f"give at most {total // 2}"
        )
