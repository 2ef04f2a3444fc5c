"""How large the inputs are that meet each weight, seen in the products of a network's forward pass.

A network may hold its weights in layers of any class and use them without calling the layer, as
``nn.MultiheadAttention`` does, so that no hook on a layer sees all inputs. Every product that torch
computes is seen here instead, and a weight is known by the memory that it lies in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lth_runner.problem.answers import plain_attention
from lth_runner.problem.task import Task
from lth_runner.score.derivatives import MAX_SAMPLES, match_device_and_dtype
from lth_runner.values import tree
from lth_runner.values.state import State
from lth_runner.values.tree import Batch, Tree

aten = torch.ops.aten
# product -> which of its arguments are the left and the right matrix
PRODUCTS = {
    aten.mm.default: (0, 1),
    aten.bmm.default: (0, 1),
    aten.mv.default: (0, 1),
    aten.addmm.default: (1, 2),
    aten.baddbmm.default: (1, 2),
    aten.addmv.default: (1, 2),
}


class UnknownUseError(Exception):
    """A network computes something of a weight that is no product with inputs."""

    def __init__(self, name: str, operation: str) -> None:
        super().__init__(f"{name} goes into {operation}")
        self.name = name
        self.operation = operation


def squared_input_norms(
    task: Task, weights: State, names: Sequence[str], batches: Sequence[Batch]
) -> Callable[[str], Tensor | None]:
    """Sums over the batches, for each named weight, the square of the input that meets each entry.

    The answer gives by name a float64 tensor shaped like the weight: sum of x_j^2 over all rows
    that the weight was multiplied with, those of several calls too; None where there was none.
    A convolution's entry at input channel c and kernel place p has what lay there: the column of
    the unfolded input, zeros of the padding included. Where inputs have an ``attention_mask``,
    rows of tokens at which it is 0 are left out wherever there are as many rows as tokens.
    Raises UnknownUseError for a weight that is used in another way than in a product.
    """
    own = {name: weights[name].contiguous().clone() for name in names}
    seen = _Seen(own)
    with torch.no_grad(), plain_attention():
        for batch in batches:
            inputs, _ = match_device_and_dtype(batch, weights)
            for part, real in unpadded_parts(inputs):
                with _Watched(seen, real):
                    task.outputs(weights | own, part)
    return seen.total


def unpadded_parts(inputs: Tree) -> Iterator[tuple[Tree, Tensor | None]]:
    """Goes through a batch in parts, each with which of its tokens are real (None: all).

    A sample with padding comes alone: a matrix of as many rows as tokens has them in order then,
    however the network lays out a batch.
    """
    mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
    if mask is None or mask.ndim != 2:
        yield from ((part, None) for part in tree.split(inputs, MAX_SAMPLES))
        return
    full = mask.bool().all(1)
    for part in tree.split(tree.rows(inputs, full.nonzero()[:, 0]), MAX_SAMPLES):
        yield part, None
    for index in (~full).nonzero():
        yield tree.rows(inputs, index), mask[index[0]].bool()


@dataclass(frozen=True)
class _View:
    """Where in a weight a matrix lies that was multiplied, and which of its axes meets inputs."""

    name: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    inputs_first: bool  # (..., in, out), else (..., out, in)


@dataclass(frozen=True)
class _Seen:
    """The squares seen so far; a vector of inputs for each matrix, spread out when asked for."""

    weights: State
    products: dict[_View, Tensor] = field(default_factory=dict)
    convolutions: dict[str, Tensor] = field(default_factory=dict)

    def total(self, name: str) -> Tensor | None:
        """Lays what was seen out in the weight's shape."""
        weight = self.weights[name]
        found = torch.zeros_like(weight, dtype=torch.float64)
        views = [view for view in self.products if view.name == name]
        for view in views:
            squares = self.products[view].unsqueeze(-1 if view.inputs_first else -2)
            place = found.as_strided(view.shape, view.strides, view.offset)
            place += squares
        if name in self.convolutions:
            unfolded = self.convolutions[name]
            # all outputs of a group meet the same
            found += unfolded.repeat_interleave(len(weight) // len(unfolded), 0)
        return found if views or name in self.convolutions else None

    def add_product(
        self, name: str, matrix: Tensor, squares: Tensor, *, inputs_first: bool
    ) -> None:
        """Adds sums of squares, a vector for each matrix of a stack."""
        shape, strides = tuple(matrix.shape), matrix.stride()
        if matrix.ndim > 2 and strides[0] == 0:  # one matrix for the whole stack
            squares, shape = squares.sum(0, keepdim=True), (1, *shape[1:])
        view = _View(name, shape, strides, int(matrix.storage_offset()), inputs_first)
        self.products[view] = self.products[view] + squares if view in self.products else squares

    def add_convolution(self, name: str, squares: Tensor) -> None:
        """Adds sums of squares shaped (groups or inputs, in / groups or 1, *kernel)."""
        before = self.convolutions.get(name)
        self.convolutions[name] = squares if before is None else before + squares


class _Watched(TorchDispatchMode):
    """Looks at each operation of torch that a weight goes into."""

    def __init__(self, seen: _Seen, real: Tensor | None) -> None:
        super().__init__()
        self._seen = seen
        self._real = real
        self._names = {_memory(weight): name for name, weight in seen.weights.items()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        named = [name for value in tree_leaves((args, kwargs)) if (name := self._name(value))]
        if named:
            self._look(func, args, kwargs, found, named)
        return found

    def _name(self, value: Any) -> str | None:
        return self._names.get(_memory(value)) if isinstance(value, Tensor) else None

    def _is_whole(self, value: Tensor) -> bool:
        """Whether a tensor is one of the weights as it is, no part or turned view of it."""
        weight = self._seen.weights.get(self._name(value) or "")
        return weight is not None and (value.shape, value.stride()) == (
            weight.shape,
            weight.stride(),
        )

    def _look(self, func: Any, args: Any, kwargs: Any, found: Any, named: list[str]) -> None:
        """Notes the inputs of a product; lets views pass; refuses the rest."""
        single = len(named) == 1 and not kwargs  # as alpha, which scales a product
        if func in PRODUCTS and single:
            left, right = (args[place] for place in PRODUCTS[func])
            if self._name(left) or self._name(right):
                return self._product(left, right)
        elif func is aten.convolution.default and single and self._is_whole(args[1]):
            return self._seen.add_convolution(named[0], _unfolded_squares(found, *args))
        elif not func._schema.is_mutable and all(
            self._name(value) for value in tree_leaves(found) if isinstance(value, Tensor)
        ):
            return None
        raise UnknownUseError(named[0], str(func))

    def _product(self, left: Tensor, right: Tensor) -> None:
        name = self._name(left)
        if name is None:
            inputs, matrix = left, right  # [..., rows, in] and (..., in, out)
        else:
            matrix = left  # (..., out, in)
            inputs = right.unsqueeze(0) if right.ndim == 1 else right.transpose(-1, -2)
        if self._real is not None and inputs.shape[-2] == len(self._real):
            inputs = inputs[..., self._real, :]
        squares = inputs.square().sum(-2, dtype=torch.float64)
        self._seen.add_product(
            str(name or self._name(right)), matrix, squares, inputs_first=name is None
        )


def _memory(value: Tensor) -> int | None:
    """Returns where a tensor's memory begins, the same for all its views."""
    return value.untyped_storage().data_ptr() or None


def _unfolded_squares(
    output: Tensor,
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,  # noqa: FBT001 (torch's own order)
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    """Sums the squares of the inputs that each entry of a kernel meets, one output for a group.

    A convolution is linear in its kernel, so that they are the gradient, by a kernel, of the sum of
    what it makes of the squared inputs.
    """
    one = weight[:, :1] if transposed else weight[:groups]
    num = groups * one.shape[1] if transposed else groups
    ones = output.new_ones((len(output), num, *output.shape[2:]))
    found: Tensor = aten.convolution_backward.default(
        ones, inputs.square(), one.contiguous(), [0], stride, padding, dilation, transposed,
        output_padding, groups, [False, True, False],
    )[1]  # fmt: skip
    return found.double()
