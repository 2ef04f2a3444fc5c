"""Networks as points: their trained weights in one row, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lth_runner.values.mask import Mask
from lth_runner.values.state import State


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each trained weight of a network stands in a row; pruned ones have no place.

    ``template`` gives what no row holds: shapes, running statistics, counters.
    """

    template: State
    names: tuple[str, ...]
    mask: Mask | None

    @property
    def size(self) -> int:
        """How many numbers a network has."""
        return sum(self._kept(name).numel() for name in self.names)

    def rows(self, networks: Sequence[State]) -> Tensor:
        """Lays networks out, [networks, weights] in single precision."""
        rows = [torch.cat([self._values(state, name) for name in self.names]) for state in networks]
        return torch.stack(rows)

    def network(self, row: Tensor) -> State:
        """Puts a row back, pruned weights exactly zero."""
        found, begin = dict(self.template), 0
        for name in self.names:
            kept = self._kept(name)
            value = torch.zeros(self.template[name].numel(), dtype=row.dtype)
            value[kept] = row[begin : begin + kept.numel()]
            found[name] = value.view_as(self.template[name]).to(self.template[name].dtype)
            begin += kept.numel()
        return found

    def _values(self, state: State, name: str) -> Tensor:
        return state[name].reshape(-1)[self._kept(name)].float()

    def _kept(self, name: str) -> Tensor:
        """Lists the places of a tensor that are not pruned."""
        if self.mask is not None and name in self.mask:
            return self.mask[name].reshape(-1).nonzero().squeeze(1)
        return torch.arange(self.template[name].numel())
