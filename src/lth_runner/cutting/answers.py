"""What two networks answer to the same inputs, and how far that is apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from lth_runner.cutting.double import (
    DoubleArguments,
    Exact,
    double_operations,
    double_recurrent,
)
from lth_runner.problem.answers import plain_attention
from lth_runner.values.errors import UserError

DOUBLE_TOLERANCE = 1e-9  # relative, in float64
TOLERANCE = 1e-5  # relative, in the network's own precision
ALIKE = 0.1  # relative, of both precisions: rounding is less in any of them
ROUNDINGS = 8  # as many times the masked network's own error of rounding, where that is more


@dataclass(frozen=True)
class Answers:
    """Answers to one input, in the network's own precision and in float64."""

    own: list[Tensor]
    double: list[Tensor]


def ask(module: nn.Module, example: Any, exact: Mapping[str, Exact]) -> Answers:
    """Asks a network in evaluation; ``exact`` names parameters known in float64."""
    names = dict(module.named_parameters())
    known = {id(names[name]): value for name, value in exact.items()}
    with plain_attention(), torch.no_grad():
        own = tensors(call(module, example))
        with double_operations(), DoubleArguments(known), double_recurrent(module):
            answer = call(module, example)
        return Answers([value.clone() for value in own], tensors(answer))


def call(module: nn.Module, example: Any) -> Any:
    """Calls a network with a tensor, with several in a tuple or list, or by name in a mapping."""
    if isinstance(example, Mapping):
        return module(**example)
    several = isinstance(example, (tuple, list)) and not isinstance(example, PackedSequence)
    return module(*example) if several else module(example)


def tensors(nested: Any) -> list[Tensor]:
    """Lists the tensors among what a network is asked or answers."""
    leaves = pytree.tree_leaves(dict(nested) if isinstance(nested, Mapping) else nested)
    return [value for value in leaves if isinstance(value, Tensor)]


def ask_another(module: nn.Module, example: Any, seed: int) -> tuple[Any, Answers]:
    """Draws inputs like an example, and asks a network; returns them and its answers.

    Whole numbers are drawn from those of the example. Where the network fails on them they stay as
    they are: lengths in falling order, for one.
    """
    drawn = random_like(example, seed)
    try:
        return drawn, ask(module, drawn, {})
    except Exception:  # of a forward that may be anyone's
        drawn = random_like(example, seed, whole=False)
        return drawn, ask(module, drawn, {})


def random_like(example: Any, seed: int, *, whole: bool = True) -> Any:
    """Draws inputs like an example: normal with its mean and spread, or of its whole numbers.

    Without ``whole`` these stay, and so does how sequences are packed.
    """
    generator = torch.Generator().manual_seed(seed)

    def drawn(value: Tensor) -> Tensor:
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator).to(value)
            spread = value.std() if value.numel() > 1 and bool(value.std() > 0) else 1.0
            return noise * spread + value.mean()
        if not whole:
            return value
        places = torch.randint(max(1, value.numel()), value.shape, generator=generator)
        return value.flatten()[places.to(value.device)] if value.numel() else value

    def leaf(value: Any) -> Any:
        if isinstance(value, PackedSequence):
            return value._replace(data=drawn(value.data))
        return drawn(value) if isinstance(value, Tensor) else value

    return pytree.tree_map(leaf, example, is_leaf=lambda value: isinstance(value, PackedSequence))


def difference(expected: Answers, given: Answers) -> str:
    """Says how the answers differ beyond what is tolerated; nothing where they do not."""
    found = _distance(expected.double, given.double)
    if found is None:
        return "the answers have other shapes"
    if not found <= DOUBLE_TOLERANCE:
        return f"in float64 the answers differ by {found:.1e}, relative to the largest"
    rounding = _distance(expected.double, expected.own) or 0.0
    own, precise = _distance(expected.own, given.own), expected.own
    smallest = all(value.dtype == torch.float64 for value in precise)
    allowed = DOUBLE_TOLERANCE if smallest else max(TOLERANCE, ROUNDINGS * rounding)
    if own is None or not own <= allowed:
        return f"in the network's own precision the answers differ by {own:.1e}"
    return ""


def check_double(answers: Answers) -> None:
    """Raises UserError where a network computes something else in float64, by which it is cut."""
    apart = _distance(answers.double, answers.own)
    if apart is None or not apart <= ALIKE:
        raise UserError(
            "the network cannot be shrunk: in float64 it answers otherwise than in its own "
            "precision, so nothing can be compared; let it compute the same in both"
        )


def _distance(expected: Sequence[Tensor], given: Sequence[Tensor]) -> float | None:
    """Computes the largest difference relative to the largest answer of each tensor."""
    shapes = [value.shape for value in given]
    if [value.shape for value in expected] != shapes:
        return None
    found = 0.0
    for one, other in zip(expected, given, strict=True):
        a, b = one.double().nan_to_num(), other.double().nan_to_num()
        if a.numel():
            if not torch.equal(one.isnan(), other.isnan()):
                return float("inf")
            scale = float(a.abs().max()) or 1.0
            found = max(found, float((a - b).abs().max()) / scale)
    return found
