"""One parameter of several networks that are trained as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lth_runner.training.engines.compiled import Survivors
from lth_runner.training.engines.packed_layers import slice_of


@dataclass(frozen=True, eq=False)
class PackedParameter:
    """One parameter of all lanes, in one tensor.

    The slices of ``slab`` are the lanes' ``own`` tensors or, of a sparse layer, hold what survives
    of them. ``factor``: the mask of a whole layer.
    """

    slab: nn.Parameter
    own: tuple[nn.Parameter, ...]
    survivors: Survivors | None = None
    factor: Tensor | None = None

    def size(self, lane: int) -> int:
        """Counts the values of a lane that the slab holds."""
        return len(self.survivors.flat[lane]) if self.survivors else self.own[lane].numel()

    def gather(self, values: Sequence[Tensor]) -> Tensor:
        """Makes a slab of tensors in the lanes' own shapes."""
        if self.survivors:
            return self.survivors.gather([value.detach() for value in values])
        joined = torch.zeros_like(self.slab)
        for index, value in enumerate(values):
            slice_of(joined, index, value).copy_(value)
        return joined

    def share_state(self, lane: int, state: dict[str, Tensor], before: dict[str, Tensor]) -> None:
        """Writes a lane's share of the optimizer's ``state`` into ``before``.

        As views that move with it or, of a sparse layer, as tensors with zeros where nothing
        survives.
        """
        own = self.own[lane]
        for key, value in state.items():
            if not isinstance(value, Tensor) or value.shape != self.slab.shape:
                before[key] = value
            elif self.survivors is None:
                before[key] = slice_of(value, lane, own)
            else:
                if key not in before:
                    before[key] = torch.zeros_like(own)
                self.survivors.scatter(value, lane, before[key])
