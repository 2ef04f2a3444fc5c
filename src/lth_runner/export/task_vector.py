"""A sparse change of a network as a file: written, laid on its base, and taken off again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from lth_runner.export.agreement import Answer
from lth_runner.export.layouts import to_bitmask
from lth_runner.export.taken_ticket import Taken, said
from lth_runner.export.tensor_files import of_form, parts_of, whole_of
from lth_runner.problem.answers import answer
from lth_runner.problem.coordinates import Delta, own_name
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.export_forms import SUFFIXES
from lth_runner.values.listed import listed
from lth_runner.values.state import State
from lth_runner.values.wrapped_names import plain_names

FORM = "task_vector"
SHAPES, BASE, ROUNDED = "packed", "base", "base_in"  # metadata: by tensor, a hash, its numbers


@dataclass(frozen=True, eq=False)
class TaskVector:
    """A change of a base: deltas where the mask kept some, and tensors that are another task's own.

    ``base`` is a hash of the weights that it is a change of, all but ``whole``; ``rounded``: they
    were rounded to bf16 where there are deltas. theta_0 + delta is what was trained, to the last
    bit.
    """

    base: str
    rounded: bool
    kept: Mapping[str, Tensor]
    values: State
    whole: State
    facts: Mapping[str, str]

    @classmethod
    def load(cls, path: str | Path) -> TaskVector:
        """Reads a file of the form task_vector; raises UserError for another."""
        tensors, metadata = of_form(path, FORM)
        shapes = {n: tuple(shape) for n, shape in json.loads(metadata[SHAPES]).items()}
        parts = {name: parts_of(tensors, name) for name in shapes}
        return cls(
            base=metadata[BASE],
            rounded=metadata[ROUNDED] == "bf16",
            kept={n: _unpacked(parts[n]["bits"], shape) for n, shape in shapes.items()},
            values={name: part["values"] for name, part in parts.items()},
            whole=whole_of(tensors, shapes),
            facts=metadata,
        )

    @torch.no_grad()
    def apply(self, module: nn.Module) -> Applied:
        """Lays the change on a network that has the base's weights; what it does can be undone.

        Raises UserError for a network of other tensors, and for one of other weights: nothing is
        written then.
        """
        tensors = dict(states.named_tensors(module))
        own = {name: tensors[path] for name, path in plain_names(module).items()}
        self._refuse_other(own)
        before: dict[str, tuple[Tensor | None, Tensor]] = {}
        for name, kept in self.kept.items():
            value, places = own[name], kept.to(own[name].device)
            base = _rounded(value) if self.rounded else value + 0.0
            before[name] = (None, value.clone()) if self.rounded else (places, value[places])
            changed = base[places] + self.values[name].to(value.device)
            if self.rounded:
                value.copy_(base)
            value[places] = changed
        for name, found in self.whole.items():
            before[name] = (None, own[name].clone())
            own[name].copy_(found)
        return Applied({name: own[name] for name in before}, before)

    def _refuse_other(self, own: State) -> None:
        named = self.kept.keys() | self.whole.keys()
        if lacking := sorted(named - own.keys()):
            raise UserError(f"the network has no {listed(lacking)}, which the task vector changes")
        for name in sorted(named):
            found = self.kept[name] if name in self.kept else self.whole[name]
            kind = self.values[name].dtype if name in self.kept else found.dtype
            if own[name].shape != found.shape or own[name].dtype != kind:
                raise UserError(
                    f"the network's {name} is {_told(own[name].shape, own[name].dtype)}, the task "
                    f"vector's {_told(found.shape, kind)}"
                )
        if fingerprint(own, self.kept, self.whole, rounded=self.rounded) != self.base:
            raise UserError(
                "the network has not the weights that the task vector is a change of: lay it on "
                "the pretrained weights that its run started from, before anything is trained or "
                "merged"
            )


@dataclass(frozen=True, eq=False)
class Applied:
    """A change that lies on a network; leaving a ``with`` block takes it off."""

    tensors: State
    before: Mapping[str, tuple[Tensor | None, Tensor]]  # where, None for everywhere, and what

    @torch.no_grad()
    def remove(self) -> None:
        """Gives the network back the bits that it had."""
        for name, (places, values) in self.before.items():
            if places is None:
                self.tensors[name].copy_(values)
            else:
                self.tensors[name][places] = values

    def __enter__(self) -> Applied:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def fingerprint(
    own: State, kept: Mapping[str, Tensor], whole: Mapping[str, Any], *, rounded: bool
) -> str:
    """Hashes the weights that a change is of; where there are deltas a zero has no sign."""
    base = {}
    for name, value in own.items():
        if name in kept:
            base[name] = _rounded(value) if rounded else value + 0.0
        elif name not in whole:
            base[name] = value
    return states.fingerprint(base)


@dataclass(frozen=True)
class TaskVectorForm:
    """The deltas that a run in coordinates=delta trained, and where they belong."""

    name: ClassVar[str] = FORM
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES[FORM]
    tolerance: ClassVar[float] = 0.0

    def check(self, ticket: Taken) -> None:
        if not isinstance(ticket.task.coordinates, Delta):
            raise UserError(
                f"{FORM} is the change of a run in coordinates=delta, which this one is not: take "
                "checkpoint"
            )
        if ticket.own is None:
            raise UserError(f"{FORM} is a change as it was trained: leave --start away")

    def write(self, ticket: Taken, path: Path) -> tuple[str, ...]:
        base, whole, rounded = _base(ticket)
        assert ticket.own is not None
        tensors = dict(whole)
        for name, kept in ticket.mask.items():
            packed = to_bitmask(ticket.own[own_name(name)], kept)
            tensors |= {f"{name}/{part}": value for part, value in packed.items()}
        shapes = {name: tuple(kept.shape) for name, kept in ticket.mask.items()}
        metadata = said(ticket.facts, FORM) | {
            SHAPES: json.dumps(shapes),
            BASE: fingerprint(base, ticket.mask, whole, rounded=rounded),
            ROUNDED: "bf16" if rounded else "own",
        }
        states.save(path, tensors, metadata)
        num, dense = (sum(v.nbytes for v in of.values()) for of in (tensors, ticket.weights))
        return (f"{num:,} bytes beside {dense:,} of the whole network, {100 * num / dense:.1f} %",)

    def read(self, path: Path, ticket: Taken) -> Answer:
        base, whole, _ = _base(ticket)
        module, without = ticket.stock(), base | {n: torch.zeros_like(v) for n, v in whole.items()}
        for name, value in states.named_tensors(module):
            value.data = without[name].clone(memory_format=torch.contiguous_format)
        TaskVector.load(path).apply(module)
        return lambda inputs: answer(module, inputs)


def _base(ticket: Taken) -> tuple[State, State, bool]:
    """Finds the weights without the change, those that are not of the base, and how it is kept."""
    assert ticket.own is not None
    deltas = {own_name(name) for name in ticket.mask}
    zeros = {n: torch.zeros_like(v) if n in deltas else v for n, v in ticket.own.items()}
    merged = ticket.task.merged(zeros)
    base = {name: merged[name] for name, _ in states.named_tensors(ticket.stock())}
    whole = {name: value for name, value in ticket.own.items() if name not in deltas}
    coordinates: Any = ticket.task.coordinates
    return base, whole, coordinates.base == "bf16"


def _rounded(value: Tensor) -> Tensor:
    return (value + 0.0).bfloat16().to(value.dtype)


def _unpacked(bits: Tensor, shape: tuple[int, ...]) -> Tensor:
    found = np.unpackbits(bits.numpy(), count=int(np.prod(shape))).astype(bool)
    return torch.from_numpy(found).reshape(shape)


def _told(shape: tuple[int, ...], kind: torch.dtype) -> str:
    return f"{tuple(shape)} {str(kind).removeprefix('torch.')}"
