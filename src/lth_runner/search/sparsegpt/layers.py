"""The layers that SparseGPT knows: their weights as matrices, and the inputs that these meet."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from lth_runner.problem.covers import TRANSPOSED

KINDS = ("linear", TRANSPOSED, "convolution")
AT_ONCE = 8  # samples whose places are laid out together: many times what they hold


@dataclass(frozen=True)
class Layer:
    """A layer with a covered weight, by the weight's name."""

    name: str
    module: nn.Module
    kind: str

    @property
    def weight(self) -> Tensor:
        return self.module.get_parameter(self.name.rpartition(".")[2])

    @property
    def is_convolution(self) -> bool:
        return self.kind == "convolution"

    def matrix(self, weight: Tensor) -> Tensor:
        """Lays a weight out as (outputs, columns); of a convolution the input channels run fastest.

        So the groups of an N:M pattern are consecutive columns.
        """
        if self.kind == TRANSPOSED:
            return weight.t()
        return weight.movedim(1, -1).flatten(1)

    def shaped(self, matrix: Tensor) -> Tensor:
        """Lays a matrix out as the weight is."""
        if self.kind == TRANSPOSED:
            return matrix.t().contiguous()
        shape = self.weight.movedim(1, -1).shape
        return matrix.reshape(shape).movedim(-1, 1).contiguous()

    def rows(self, inputs: Tensor) -> Tensor:
        """Lays inputs out as (places, columns): what the matrix is multiplied with."""
        layer = self.module
        if not isinstance(layer, _ConvNd):
            return inputs.flatten(0, -2)
        axes = len(layer.kernel_size)
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        found = F.pad(inputs, _around(layer), mode=mode)
        for axis in range(axes):
            dilation = layer.dilation[axis]
            reach = dilation * (layer.kernel_size[axis] - 1) + 1
            found = found.unfold(2 + axis, reach, layer.stride[axis])[..., ::dilation]
        return found.movedim(1, -1).flatten(0, axes).flatten(1)  # (n, *places, *kernel, channels)


def _around(layer: _ConvNd) -> list[int]:
    """How much is added before and behind each axis, the last axis first, as F.pad has it."""
    found: list[int] = []
    for axis in reversed(range(len(layer.kernel_size))):
        if layer.padding == "same":
            total = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
            found += [total // 2, total - total // 2]
        else:
            num = 0 if layer.padding == "valid" else int(layer.padding[axis])
            found += [num, num]
    return found


@dataclass(eq=False)
class Seen:
    """The inner products of the inputs that layers have seen so far, in double precision.

    Layers that are given one tensor share the work. ``real`` says which tokens of a sample are no
    padding: rows of the others are left out where there are as many.
    """

    real: Tensor | None = None
    grams: dict[str, Tensor] = field(default_factory=dict)
    _last: tuple[Tensor, int, Tensor] | None = None  # of which version of its values

    def see(self, layer: Layer, inputs: Tensor) -> None:
        """Adds what a layer is given."""
        version = inputs._version  # which changes with its values, by F.relu_ for example
        last = self._last
        if last is None or layer.is_convolution or last[0] is not inputs or last[1] != version:
            last = self._last = inputs, version, self._product(layer, inputs)
        product, before = last[2], self.grams.get(layer.name)
        # not in place: other layers may have the same tensor
        self.grams[layer.name] = product if before is None else before + product

    def _product(self, layer: Layer, inputs: Tensor) -> Tensor:
        if not layer.is_convolution:
            rows = layer.rows(inputs)
            if self.real is not None and len(rows) == len(self.real):
                rows = rows[self.real.to(rows.device)]
            return _squared(rows).double()
        columns = layer.matrix(layer.weight).shape[1]
        product = inputs.new_zeros((columns, columns), dtype=torch.float64)
        for piece in inputs.split(AT_ONCE):
            rows = layer.rows(piece)
            product += _squared(rows)
        return product

    def forget_inputs(self) -> None:
        """Lets go of what layers were given last."""
        self._last = None


def _squared(rows: Tensor) -> Tensor:
    """Multiplies rows with themselves, those of half precision in float32: sums would overflow."""
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    return rows.t() @ rows
