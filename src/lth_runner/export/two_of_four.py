"""The form semi_structured: 2:4, which sparse matrix units compute with."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from lth_runner.export import layouts
from lth_runner.export.agreement import Answer
from lth_runner.export.taken_ticket import Taken
from lth_runner.export.tensor_files import PARTS, answering, load, of_form, save_packed
from lth_runner.export.tensor_files import thinned as thinned_tensors
from lth_runner.problem.answers import answer
from lth_runner.problem.covers import TRANSPOSED
from lth_runner.values import state as states
from lth_runner.values import tree
from lth_runner.values.errors import UserError
from lth_runner.values.export_forms import SUFFIXES
from lth_runner.values.listed import listed
from lth_runner.values.tree import Tree

ROWS, COLUMNS = 32, 64  # the multiples that CUTLASS's kernels for 16 bits take


@dataclass(frozen=True)
class SemiStructured:
    """Two of every four consecutive inputs, packed; what the mask left dense stays dense.

    The file has the weights in their own precision and a plain layout (``layouts``): it is read
    anywhere, and the layout of a GPU's kernels is made when it is loaded onto one. PyTorch's
    converters compress a tensor that is not 2:4 wrongly and say nothing, so every tensor is looked
    at first, and those that the kernels can take go through the converters and back.
    """

    name: ClassVar[str] = "semi_structured"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES["semi_structured"]

    @property
    def tolerance(self) -> float:
        return 0.02 if torch.cuda.is_available() else 0.0  # half precision there, exact here

    def check(self, ticket: Taken) -> None:
        ticket.check_zeros(self.name)
        names = thinned_tensors(ticket)
        if not names:
            raise UserError(
                f"{self.name}: the mask of this ticket removes nothing, choose a later round"
            )
        refuse_other([n for n in names if not layouts.is_two_of_four(outputs_first(ticket, n)[1])])

    def write(self, ticket: Taken, path: Path) -> tuple[str, ...]:
        names = thinned_tensors(ticket)
        parts = {}
        for name in names:
            weight, kept = outputs_first(ticket, name)
            check_round_trip(name, weight)
            parts[name] = layouts.to_semi_structured(weight, kept)
        shapes = {name: tuple(ticket.weights[name].shape) for name in names}
        turned = [name for name in names if _is_turned(ticket, name)]
        save_packed(path, ticket, self.name, parts, shapes, turned)
        return tuple(_notes(ticket, names))

    def read(self, path: Path, ticket: Taken) -> Answer:
        if torch.cuda.is_available():
            module = load_semi_structured(path, ticket.stock())
            return lambda inputs: answer(module, on_gpu(inputs)).cpu()
        return answering(ticket.stock(), load(path))


def is_two_of_four(ticket: Taken) -> bool:
    """Whether the mask removes something, and every tensor that it thins out is 2:4."""
    names = thinned_tensors(ticket)
    return bool(names) and all(layouts.is_two_of_four(outputs_first(ticket, n)[1]) for n in names)


def outputs_first(ticket: Taken, name: str) -> tuple[Tensor, Tensor]:
    """Gives a weight and its mask as (out, in, ...), those of transformers' Conv1D turned so."""
    weight, kept = ticket.weights[name].cpu(), ticket.mask[name]
    return (weight.t(), kept.t()) if _is_turned(ticket, name) else (weight, kept)


def _is_turned(ticket: Taken, name: str) -> bool:
    return ticket.task.kind(name) == TRANSPOSED


def refuse_other(names: list[str]) -> None:
    """Raises UserError for tensors that are thinned out and not 2:4."""
    if names:
        verb = "are" if len(names) > 1 else "is"
        raise UserError(
            f"{listed(names)} {verb} not 2:4: of every four consecutive inputs at "
            "most two may be kept. Train with pruner.scope=n_of_m pruner.sparsity=0.5 "
            "(pruner=one_shot, imp or sr_ste), or export as csr or bitmask"
        )


def check_round_trip(name: str, weight: Tensor) -> None:
    """Sends a tensor through PyTorch's own converters and back, in the precision of its kernels.

    Raises UserError where it does not come back as it was. A tensor that they do not take, of a
    convolution or of sizes that they do not divide, is left.
    """
    from torch.sparse import _semi_structured_conversions as conversions

    if not fits_kernels(weight):
        return
    half = weight.to(torch.float16).contiguous()
    values, places = conversions.sparse_semi_structured_from_dense_cutlass(half)
    back = conversions.sparse_semi_structured_to_dense_cutlass(values, places)
    if not torch.equal(back, half):
        refuse_other([name])


def fits_kernels(weight: Tensor) -> bool:
    """Whether PyTorch has a 2:4 kernel for a weight: a matrix of (32 n, 64 m) entries."""
    return weight.ndim == 2 and weight.shape[0] % ROWS == 0 and weight.shape[1] % COLUMNS == 0


def load_semi_structured(
    path: str | Path, module: nn.Module, device: torch.device | str = "cuda"
) -> nn.Module:
    """Loads a file into a network of its kind on a CUDA device, in half precision, and returns it.

    Weights of linear layers that its kernels can take become torch's semi-structured tensors, all
    others are dense. The network is for inference. Raises UserError without such a device,
    and for a file of another form.
    """
    _, metadata = of_form(path, "semi_structured")
    if not torch.cuda.is_available():
        raise UserError("there is no CUDA device: load(path) gives the dense state_dict anywhere")
    names = json.loads(metadata[PARTS])
    placed = copy.deepcopy(module)
    for _, value in states.named_tensors(placed):  # hollow ones cannot be written to
        value.data = torch.empty(value.shape, dtype=value.dtype)
    placed.load_state_dict(load(path))
    return compressed(_halved(placed, device), names)


def compressed(module: nn.Module, names: Iterable[str]) -> nn.Module:
    """Makes torch's semi-structured tensors of linear layers' weights, in place, on CUDA.

    A weight that several layers share is one tensor of them all.
    """
    held = dict(module.named_parameters())
    chosen = {id(held[name]): held[name] for name in names if fits_kernels(held[name])}
    made: dict[int, nn.Parameter] = {}
    for layer in module.modules():
        if not isinstance(layer, nn.Linear) or (key := id(layer.weight)) not in chosen:
            continue
        if key not in made:
            sparse = torch.sparse.to_sparse_semi_structured(chosen[key].detach())
            made[key] = nn.Parameter(sparse, requires_grad=False)
        layer.weight = made[key]
    return module


def timed_on_gpu(ticket: Taken) -> dict[str, Answer]:
    """Gives the ticket in half precision on CUDA, dense and 2:4, answering when all is done."""
    dense = _halved(ticket.module(), "cuda")
    sparse = compressed(_halved(ticket.module(), "cuda"), thinned_tensors(ticket))

    def waited(module: nn.Module) -> Answer:
        def answers(inputs: Tree) -> Tensor:
            found = answer(module, inputs)
            torch.cuda.synchronize()
            return found

        return answers

    return {"masked, half, CUDA": waited(dense), "2:4, half, CUDA": waited(sparse)}


def on_gpu(inputs: Tree) -> Tree:
    """Moves inputs to CUDA, numbers in half precision."""
    return tree.each(lambda v: v.cuda().half() if v.is_floating_point() else v.cuda(), inputs)


def _halved(module: nn.Module, device: torch.device | str) -> nn.Module:
    found = module.to(device=device, dtype=torch.float16).eval()
    return found.requires_grad_(False)  # noqa: FBT003 (torch's own signature)


def _notes(ticket: Taken, names: tuple[str, ...]) -> list[str]:
    dense = [n for n, kept in ticket.mask.items() if kept.ndim > 1 and n not in names]
    slow = [n for n in names if _is_turned(ticket, n) or not fits_kernels(ticket.weights[n])]
    found = []
    if dense:
        found.append(f"left dense, since the mask removes nothing of them: {', '.join(dense)}")
    if slow:
        found.append(
            "2:4 in the file, computed densely on a GPU (no kernel for convolutions, for Conv1D, "
            f"nor for matrices that are no multiple of {ROWS} x {COLUMNS}): {', '.join(slow)}"
        )
    return found
