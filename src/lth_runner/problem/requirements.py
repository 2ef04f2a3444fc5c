"""What a score, a control or a probe needs of a problem, refused before any training."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lth_runner.problem.data import Data
from lth_runner.problem.objective import CrossEntropy
from lth_runner.problem.task import Task
from lth_runner.values import tree
from lth_runner.values.errors import UserError
from lth_runner.values.name_patterns import others


@runtime_checkable
class Demanding(Protocol):
    """A part that not every problem can serve."""

    def check(self, task: Task) -> None:
        """Raises UserError for a problem that cannot serve it."""


@runtime_checkable
class GoesByLayers(Protocol):
    """A part that goes by what the axes of a layer's weight are: its outputs, inputs, or depth."""

    def check_layers(self, task: Task) -> None:
        """Raises UserError for layers whose weights have other axes."""


@runtime_checkable
class GoesByReplicates(Protocol):
    """A part that has something else for each replicate."""

    def check_replicates(self, tasks: Sequence[Task]) -> None:
        """Raises UserError where it has nothing for one of them, or what does not fit."""


@runtime_checkable
class DrawsAnew(Protocol):
    """A part that may train weights drawn by another seed than the task's own."""

    @property
    def draws_anew(self) -> bool:
        """Whether it does."""


@dataclass(frozen=True)
class Classification:
    """A table of samples with one class number each."""

    data: Data
    inputs: Tensor
    labels: Tensor  # int64 [samples]
    num_classes: int


def check(part: object, task: Task) -> None:
    """Raises UserError where the problem cannot serve a part that says what it needs."""
    if isinstance(part, Demanding):
        part.check(task)


def check_layers(part: object, task: Task) -> None:
    """Raises UserError where a part, or one that it is made of, cannot serve the covered layers."""
    if isinstance(part, GoesByLayers):
        part.check_layers(task)
    if is_dataclass(part):
        for field in fields(part):
            check_layers(getattr(part, field.name), task)


def check_exclude(part: object, task: Task) -> None:
    """Raises UserError where what a part of a pruner, or one in it, excludes is every layer."""
    patterns = getattr(part, "exclude", None)
    if patterns:
        others(patterns, task.prunable, "pruner.exclude")
    if is_dataclass(part):
        for field in fields(part):
            check_exclude(getattr(part, field.name), task)


def check_replicates(part: object, tasks: Sequence[Task]) -> None:
    """Raises UserError where a part lacks something for one of the replicates."""
    if isinstance(part, GoesByReplicates):
        part.check_replicates(tasks)


def draws_anew(part: object) -> bool:
    """Whether a part, or one that it is made of, trains weights drawn by another seed."""
    if isinstance(part, DrawsAnew):
        return part.draws_anew
    return is_dataclass(part) and any(draws_anew(getattr(part, f.name)) for f in fields(part))


def check_kinds(task: Task, names: Iterable[str], accepted: Collection[str], what: str) -> None:
    """Raises UserError where a covered weight is of no ``accepted`` kind of layer.

    ``what`` says which part goes by which axis. Biases are not looked at.
    """
    for name in names:
        kind = task.kind(name)
        if task.dense()[name].ndim > 1 and kind not in accepted:
            said = "is no known layer's" if kind is None else f"is of the kind {kind}"
            raise UserError(
                f"{what}, but {name} {said}, whose axes are others: name it in pruner.exclude, "
                "leave it out of covers, or choose another (pruner.scope=global)"
            )


def classification(task: Task, what: str) -> Classification:
    """Returns the training samples with their classes.

    Raises UserError, naming ``what`` needs them, for other objectives and for data without.
    """
    if isinstance(task.objective, CrossEntropy) and isinstance(task.data, Data):
        inputs, labels = task.data.train
        num = task.data.num_classes
        plain = isinstance(labels, Tensor) and labels.ndim == 1 and isinstance(inputs, Tensor)
        if plain and num is not None and isinstance(labels, Tensor) and isinstance(inputs, Tensor):
            return Classification(task.data, inputs, labels, num)
    raise UserError(
        f"{what} needs samples in memory with a class number each, and this problem "
        f"({type(task.objective).__name__} on {task.data.name}) has none: leave it out, or choose "
        "another"
    )


def num_classes_of(task: Task, what: str) -> int:
    """Returns how many classes there are, of samples with one class number each.

    They need not lie in memory. Raises UserError, naming ``what`` needs them, for others.
    """
    num = task.data.num_classes
    if isinstance(task.objective, CrossEntropy) and num is not None:
        _, labels = task.data.sample(1, 0)
        if isinstance(labels, Tensor) and labels.ndim == 1 and labels.dtype == torch.int64:
            return num
    raise UserError(
        f"{what} needs samples with a class number each, and this problem "
        f"({type(task.objective).__name__} on {task.data.name}) has none: leave it out, or choose "
        "another"
    )


def input_shape(task: Task, what: str) -> tuple[int, ...]:
    """Returns the shape of one input, a tensor of numbers.

    Raises UserError, naming ``what`` feeds the network inputs of its own or derives by them, where
    inputs are tokens or tensors by name.
    """
    inputs, _ = task.data.sample(1, 0)
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        raise UserError(
            f"{what} needs inputs that are plain numbers, and those of {task.data.name} are "
            f"{tree.describe(inputs)}: leave it out, or choose another"
        )
    return tuple(inputs.shape[1:])


def check_probabilities(task: Task, what: str) -> None:
    """Raises UserError, naming ``what`` compares them, where outputs are no classes' logits."""
    if not isinstance(task.objective, CrossEntropy):
        raise UserError(
            f"{what} compares the probabilities of classes, and {type(task.objective).__name__} "
            "has none on axis 1: choose another"
        )


def ones_input(task: Task, what: str, dtype: torch.dtype) -> Tensor:
    """Makes one input of ones; raises UserError as ``input_shape`` does."""
    return torch.ones(1, *input_shape(task, what), dtype=dtype, device=task.device)
