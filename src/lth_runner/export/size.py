"""How large a ticket is in each form: parameters, non-zeros, FLOPs and bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from lth_runner.export import layouts
from lth_runner.export.flops import flops
from lth_runner.export.taken_ticket import Taken
from lth_runner.export.tensor_files import thinned
from lth_runner.export.two_of_four import is_two_of_four, outputs_first
from lth_runner.values import state as states
from lth_runner.values.state import State


@dataclass(frozen=True)
class FormSize:
    """One form's size; ``flops`` are those of one sample, None where nobody has counted them.

    ``num_bytes`` are the tensors' own, without the header of a file.
    """

    form: str
    num_parameters: int
    num_nonzero: int
    flops: int | None
    num_bytes: int


def form_sizes(ticket: Taken, small: nn.Module | None) -> list[FormSize]:
    """Sizes a ticket dense, masked, by bit mask, as CSR, as 2:4 where it is, and shrunk.

    Those that leave out what the mask removes are there where that is zero. A masked network
    multiplies by its zeros: it has the FLOPs of the dense one. What CSR has are
    those of the weights that stay, each as often as it is used; None where one of them goes into an
    operation that nobody can count.
    """
    module, example = ticket.lent, ticket.inputs(1)
    num, nonzero = _parameters(module)
    whole = _bytes(dict(states.named_tensors(module)))
    counted = flops(module, example, {name: ticket.mask[name] for name in thinned(ticket)})
    total = counted.total
    found = [
        FormSize("dense", num, num, total, whole),
        FormSize("masked", num, nonzero, total, whole),
    ]
    leaves_out = not any(ticket.not_zero())
    if leaves_out:
        left = None if counted.removed is None else total - counted.removed
        found += [
            FormSize("bitmask", num, nonzero, None, _packed(ticket, whole, layouts.to_bitmask)),
            FormSize("csr", num, nonzero, left, _packed(ticket, whole, layouts.to_csr)),
        ]
    if leaves_out and is_two_of_four(ticket):
        packed = whole
        for name in thinned(ticket):
            weight, kept = outputs_first(ticket, name)
            packed += _bytes(layouts.to_semi_structured(weight, kept)) - weight.nbytes
        found.append(FormSize("semi_structured", num, nonzero, None, packed))
    if small is not None:
        left = flops(small, example, {}).total
        found.append(
            FormSize("shrunk", *_parameters(small), left, _bytes(dict(states.named_tensors(small))))
        )
    return found


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
