"""Which weights stay: an immutable boolean tensor for every tensor that may be pruned."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lth_runner.values import state as states
from lth_runner.values.state import State


class Mask(Mapping[str, Tensor]):
    """Kept weights by parameter name (bool, CPU); ``mask(weights)`` is m * theta.

    Nothing changes it: a tensor is read as a copy, and every operation makes a new mask.
    """

    def __init__(self, kept: Mapping[str, Tensor]) -> None:
        for name, value in kept.items():
            if value.dtype != torch.bool:
                raise TypeError(f"mask of {name} is {value.dtype}, not torch.bool")
        self._kept = {name: value.detach().cpu().clone() for name, value in kept.items()}

    def __getitem__(self, name: str) -> Tensor:
        return self._kept[name].clone()

    def __contains__(self, name: object) -> bool:
        return name in self._kept  # without a copy of what is there

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __call__(self, weights: State) -> State:
        """Applies the mask: m * theta, pruned entries exactly +0.0.

        A product would leave -0.0 and NaN behind.
        """
        zero = torch.zeros(())
        return {
            name: torch.where(self._kept[name].to(w.device), w, zero.to(w))
            if name in self._kept
            else w
            for name, w in weights.items()
        }

    @cached_property
    def num_kept(self) -> int:
        """How many weights are kept."""
        return sum(int(kept.sum()) for kept in self._kept.values())

    @cached_property
    def num_prunable(self) -> int:
        """How many weights the mask covers."""
        return sum(kept.numel() for kept in self._kept.values())

    @property
    def density(self) -> float:
        """The share of the prunable weights that are kept."""
        return self.num_kept / self.num_prunable

    @property
    def sparsity(self) -> float:
        """The share of the prunable weights that are removed."""
        return 1 - self.density

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 over names, shapes and packed bits."""
        digest = hashlib.sha256()
        for name in sorted(self._kept):
            digest.update(f"{name}:{tuple(self._kept[name].shape)};".encode())
            digest.update(np.packbits(self._kept[name].numpy()).data)
        return digest.hexdigest()

    @cached_property
    def biases(self) -> frozenset[str]:
        """The tensors that are biases, told by their single axis; a weight has more."""
        return frozenset(name for name, kept in self._kept.items() if kept.ndim == 1)

    def of_weights(self) -> Mask:
        """Returns the mask without biases, for what is about matrices, filters and paths."""
        if not self.biases:
            return self
        return Mask({n: kept for n, kept in self._kept.items() if n not in self.biases})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"Mask({self.num_kept} of {self.num_prunable} kept)"

    def layer_density(self) -> dict[str, float]:
        """Returns the density of each prunable tensor."""
        return {name: int(kept.sum()) / kept.numel() for name, kept in self._kept.items()}

    def _with(self, other: Mask, combine: Callable[[Tensor, Tensor], Tensor]) -> Mask:
        if self._kept.keys() != other._kept.keys():
            raise KeyError(f"masks name different tensors: {sorted(self.keys() ^ other.keys())}")
        return Mask({name: combine(kept, other[name]) for name, kept in self._kept.items()})

    def __and__(self, other: Mask) -> Mask:
        return self._with(other, torch.logical_and)

    def __or__(self, other: Mask) -> Mask:
        return self._with(other, torch.logical_or)

    def __invert__(self) -> Mask:
        return Mask({name: ~kept for name, kept in self._kept.items()})

    def __le__(self, other: Mask) -> bool:
        """Returns whether this mask is nested in the other: all it keeps is kept there."""
        return (self & other).num_kept == self.num_kept

    def overlap(self, other: Mask) -> float:
        """Computes the Jaccard index |A and B| / |A or B|; two empty masks overlap fully."""
        union = (self | other).num_kept
        return (self & other).num_kept / union if union else 1.0

    def packed(self) -> State:
        """Packs one bit a weight: ``name`` -> uint8 bytes, the last one padded with zeros."""
        return {n: torch.from_numpy(np.packbits(kept.numpy())) for n, kept in self._kept.items()}

    @classmethod
    def unpacked(cls, packed: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> Mask:
        """Unpacks what ``packed`` packs, given the tensors' shapes."""
        return cls(
            {
                name: torch.from_numpy(
                    np.unpackbits(bits.numpy(), count=shapes[name].numel()).astype(bool)
                ).view(shapes[name])
                for name, bits in packed.items()
            }
        )

    def save(self, path: Path) -> None:
        """Writes a safetensors file of ``mask.<name>`` (bool)."""
        states.save(path, {f"mask.{name}": kept for name, kept in self.items()}, {})

    @classmethod
    def load(cls, path: Path) -> Mask:
        """Reads ``mask.<name>`` from a safetensors file, a whole ticket's too."""
        tensors, _ = states.load(path)
        return cls({k.removeprefix("mask."): v for k, v in tensors.items() if k[:5] == "mask."})
