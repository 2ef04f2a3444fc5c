"""Forms that are named tensors in a file: all of them, or those that stay and where they belong."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lth_runner.export import layouts
from lth_runner.export.agreement import Answer, Disagreement
from lth_runner.export.taken_ticket import Taken, of_file, said
from lth_runner.export.whole_file import written
from lth_runner.problem.answers import answer
from lth_runner.values import state as states
from lth_runner.values.errors import Damaged, UserError
from lth_runner.values.export_forms import MADE_BY, SUFFIXES
from lth_runner.values.state import State

PARTS = "packed"  # metadata: the shape of each packed tensor
TIED = "tied"  # metadata: names that stand for a tensor of another name
TURNED = "turned"  # metadata: names of the packed tensors (in, out), packed as (out, in)
DENSE = "checkpoint, csr, bitmask or semi_structured"  # the forms that ``load`` makes dense
EXTRA = "lth-export"  # the facts of a .pt, beside the versions of its modules
Unpack = Callable[[State, tuple[int, ...]], Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """The network's ``state_dict`` as ``load_state_dict`` takes it: .safetensors, or .pt."""

    name: ClassVar[str] = "checkpoint"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES["checkpoint"]
    tolerance: ClassVar[float] = 0.0
    suffix: str = ".safetensors"

    def check(self, ticket: Taken) -> None:
        _state_dict(ticket.lent)

    def write(self, ticket: Taken, path: Path) -> tuple[str, ...]:
        tensors = _state_dict(ticket.lent)
        if self.suffix == ".safetensors":
            states.save(path, tensors, said(ticket.facts, self.name))
            return ()
        tensors._metadata[EXTRA] = of_file(ticket.facts, self.name)  # type: ignore[attr-defined]
        with written(path) as opened:
            torch.save(tensors, opened)
        return ()

    def read(self, path: Path, ticket: Taken) -> Answer:
        if self.suffix == ".safetensors":
            return answering(ticket.stock(), load(path))
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return answering(ticket.stock(), found)


@dataclass(frozen=True)
class Packed:
    """The weights that stay and where they belong; all other tensors as they are.

    In the file are ``<tensor>/<part>`` for what the mask thins out, and in its metadata the shapes.
    """

    tolerance: ClassVar[float] = 0.0
    name: str
    pack: Callable[[Tensor, Tensor], State]

    @property
    def suffixes(self) -> tuple[str, ...]:
        return SUFFIXES[self.name]

    def check(self, ticket: Taken) -> None:
        ticket.check_zeros(self.name)
        if not thinned(ticket):
            raise UserError(
                f"{self.name}: the mask of this ticket removes nothing (round "
                f"{ticket.facts['round']}, sparsity {ticket.facts['sparsity']:.4g}): choose a "
                "later round, or checkpoint"
            )

    def write(self, ticket: Taken, path: Path) -> tuple[str, ...]:
        parts = packed(ticket, self.pack, thinned(ticket))
        shapes = {name: tuple(ticket.weights[name].shape) for name in thinned(ticket)}
        save_packed(path, ticket, self.name, parts, shapes)
        return ()

    def read(self, path: Path, ticket: Taken) -> Answer:
        return answering(ticket.stock(), load(path))


CSR = Packed("csr", layouts.to_csr)
BITMASK = Packed("bitmask", layouts.to_bitmask)


def thinned(ticket: Taken) -> tuple[str, ...]:
    """Names the tensors of two axes or more from which the mask removes something."""
    return tuple(n for n, kept in ticket.mask.items() if kept.ndim > 1 and not bool(kept.all()))


def packed(
    ticket: Taken, pack: Callable[[Tensor, Tensor], State], names: tuple[str, ...]
) -> dict[str, State]:
    """Packs some of a ticket's tensors."""
    return {name: pack(ticket.weights[name].cpu(), ticket.mask[name]) for name in names}


def save_packed(
    path: Path,
    ticket: Taken,
    form: str,
    parts: Mapping[str, State],
    shapes: Mapping[str, tuple[int, ...]],
    turned: Sequence[str] = (),
) -> None:
    """Writes packed tensors, all others as they are, and what puts them together again.

    ``turned``: names of those that were packed with their two axes exchanged.
    """
    module = ticket.lent
    held: dict[str, Any] = module.state_dict(keep_vars=True)
    firsts = {id(v): name for name, v in states.named_tensors(module) if name in held}
    # what is no parameter and no buffer, the extra state of a module, has one name alone
    tied = {n: first for n, v in held.items() if (first := firsts.get(id(v), n)) != n}
    tensors = {
        name: value.detach()
        for name, value in _state_dict(module).items()
        if name not in parts and name not in tied
    }
    for name, own in parts.items():
        tensors |= {f"{name}/{part}": value for part, value in own.items()}
    metadata = said(ticket.facts, form)
    metadata |= {PARTS: json.dumps(dict(shapes)), TIED: json.dumps(tied)}
    metadata |= {TURNED: json.dumps(list(turned))} if turned else {}
    states.save(path, tensors, metadata)


def load(path: str | Path) -> State:
    """Reads a .safetensors file of any form as the network's dense ``state_dict``.

    Such a file cannot run code. Raises UserError for one that is damaged or that is none of ours,
    and for a task vector, which is no whole network.
    """
    tensors, metadata = opened(path)
    if metadata["form"] == "task_vector":
        raise UserError(
            f"{path} is a task vector, the change of a network: lay it on one that has its base's "
            "weights (TaskVector.load(path).apply(network)), or export as checkpoint"
        )
    shapes = json.loads(metadata.get(PARTS, "{}"))
    unpack: Mapping[str, Unpack] = {
        "csr": layouts.from_csr,
        "bitmask": layouts.from_bitmask,
        "semi_structured": layouts.from_semi_structured,
    }
    whole = whole_of(tensors, shapes)
    turned = json.loads(metadata.get(TURNED, "[]"))
    for name, shape in shapes.items():
        laid = tuple(reversed(shape)) if name in turned else tuple(shape)
        found = unpack[metadata["form"]](parts_of(tensors, name), laid)
        whole[name] = states.row_major(found.t()) if name in turned else found
    for name, first in json.loads(metadata.get(TIED, "{}")).items():
        whole[name] = whole[first]
    return whole


def load_csr(path: str | Path) -> State:
    """Reads a file of the form csr, its thinned tensors as torch's sparse matrices (out, rest)."""
    tensors, metadata = of_form(path, "csr")
    shapes = json.loads(metadata[PARTS])
    whole = whole_of(tensors, shapes)
    for name, shape in shapes.items():
        whole[name] = layouts.as_csr(parts_of(tensors, name), tuple(shape))
    return whole


def opened(path: str | Path, wanted: str = DENSE) -> tuple[State, dict[str, str]]:
    """Reads a file of ours: its tensors as they lie in it, and its metadata.

    ``wanted``: the forms that a message asks for; which one it is, the caller looks at.
    """
    place = Path(path)
    try:
        if states.metadata_of(place).get("made_by") != MADE_BY:
            raise UserError(
                f"{path} was not written by lth-export, or was cut short: give a .safetensors file "
                f"of the form {wanted} (docs/export.md)"
            )
        tensors, metadata = states.load(place)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except Damaged as error:
        raise UserError(
            f"{path} is not what lth-export wrote: it was changed or cut short; export it again"
        ) from error
    if (form := metadata.get("form")) not in SUFFIXES:
        raise UserError(
            f"{path} is of the form {form!r}, and this version of lth-runner knows "
            f"{', '.join(SUFFIXES)}: read it with the version that wrote it"
        )
    return tensors, metadata


def of_form(path: str | Path, form: str) -> tuple[State, dict[str, str]]:
    """Reads a file of one of our forms; raises UserError for another, saying what reads that."""
    tensors, metadata = opened(path, form)
    if (found := metadata["form"]) != form:
        read = "TaskVector.load" if found == "task_vector" else "lth_runner.export.load"
        raise UserError(
            f"{path} is of the form {found}, not {form}: read it by {read}, or export its run with "
            f"--as {form}"
        )
    return tensors, metadata


def whole_of(tensors: State, packed: Collection[str]) -> State:
    """Picks the tensors that are no part of a packed one; a layer's own name may have a slash."""
    return {name: v for name, v in tensors.items() if name.rpartition("/")[0] not in packed}


def parts_of(tensors: State, name: str) -> State:
    """Picks the parts of one packed tensor."""
    begin = f"{name}/"
    return {key.removeprefix(begin): v for key, v in tensors.items() if key.startswith(begin)}


def answering(module: nn.Module, state: Mapping[str, Tensor]) -> Answer:
    """Gives a network without memory all tensors of a file, as they lie there, and has it answer.

    Raises Disagreement for a file that does not hold the network's ``state_dict``.
    """
    try:
        module.load_state_dict(dict(state), assign=True)
    except RuntimeError as error:  # torch's, for names and shapes
        told = " ".join(str(error).split())
        raise Disagreement(f"the network does not take what the file holds: {told}") from error
    return lambda inputs: answer(module, inputs)


def _state_dict(module: nn.Module) -> dict[str, Tensor]:
    found: dict[str, Any] = module.state_dict()
    for name, value in found.items():
        if not isinstance(value, Tensor):
            raise UserError(
                f"{name.rpartition('.')[0] or 'the network'} keeps extra state that is no tensor "
                f"({type(value).__name__}): a file of tensors cannot hold it; take shrink or onnx, "
                "which hold what is computed"
            )
    return found
