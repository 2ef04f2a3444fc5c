"""How large a ticket is in each form: parameters, non-zeros, FLOPs and bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lth_runner.export import layouts
from lth_runner.export.taken import Taken
from lth_runner.export.tensor_files import thinned
from lth_runner.export.two_of_four import is_two_of_four
from lth_runner.problem.answers import answer
from lth_runner.values import state as states
from lth_runner.values.state import State
from lth_runner.values.tree import Tree


@dataclass(frozen=True)
class Size:
    """One form's size; ``flops`` are those of one sample, None where nobody has counted them.

    ``num_bytes`` are the tensors' own, without the header of a file.
    """

    form: str
    num_parameters: int
    num_nonzero: int
    flops: int | None
    num_bytes: int


def sizes(ticket: Taken, small: nn.Module | None) -> list[Size]:
    """Sizes a ticket dense, masked, by bit mask, as CSR, as 2:4 where it is, and shrunk.

    A masked network multiplies by its zeros: it has the FLOPs of the dense one. What CSR has are
    those of the weights that stay, each as often as it is used.
    """
    module, example = ticket.lent, ticket.inputs(1)
    num, nonzero = _parameters(module)
    whole = _bytes(dict(states.named_tensors(module)))
    by_layer = flops_by_module(module, example)
    total = by_layer[""]
    found = [
        Size("dense", num, num, total, whole),
        Size("masked", num, nonzero, total, whole),
        Size("bitmask", num, nonzero, None, _packed(ticket, whole, layouts.to_bitmask)),
        Size(
            "csr", num, nonzero, total - _spared(ticket, by_layer),
            _packed(ticket, whole, layouts.to_csr),
        ),
    ]  # fmt: skip
    if is_two_of_four(ticket):
        packed = _packed(ticket, whole, layouts.to_semi_structured)
        found.append(Size("semi_structured", num, nonzero, None, packed))
    if small is not None:
        flops = flops_by_module(small, example)[""]
        found.append(
            Size("shrunk", *_parameters(small), flops, _bytes(dict(states.named_tensors(small))))
        )
    return found


@torch.no_grad()
def flops_by_module(module: nn.Module, example: Tree) -> dict[str, int]:
    """Counts a network's FLOPs by the paths of its modules, all of them under the empty one."""
    with FlopCounterMode(display=False) as counter:
        answer(module, example)
    root = type(module).__name__
    found = {"": int(counter.get_total_flops())}
    for place, counts in counter.get_flop_counts().items():
        if place.startswith(f"{root}."):
            found[place.removeprefix(f"{root}.")] = sum(map(int, counts.values()))
    return found


def _spared(ticket: Taken, by_layer: dict[str, int]) -> int:
    """Counts the FLOPs of the layers' weights that the mask removes."""
    return sum(
        round(
            by_layer.get(name.rpartition(".")[0], 0) * (1 - float(ticket.mask[name].float().mean()))
        )
        for name in thinned(ticket)
        if name.rpartition(".")[0]
    )


def _packed(ticket: Taken, whole: int, pack: Callable[[Tensor, Tensor], State]) -> int:
    """Counts the bytes of a network some of whose tensors are packed."""
    for name in thinned(ticket):
        weight = ticket.weights[name]
        whole += _bytes(pack(weight, ticket.mask[name])) - weight.nbytes
    return whole


def _parameters(module: nn.Module) -> tuple[int, int]:
    values = list(module.parameters())
    return sum(v.numel() for v in values), sum(int(v.count_nonzero()) for v in values)


def _bytes(tensors: State) -> int:
    return sum(value.nbytes for value in tensors.values())
