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

    Nothing changes it: a tensor is read as one of its own, and every operation makes a new mask.
    It holds a bit a weight, an eighth of what boolean tensors take.
    """

    def __init__(self, kept: Mapping[str, Tensor]) -> None:
        for name, value in kept.items():
            if value.dtype != torch.bool:
                raise TypeError(f"mask of {name} is {value.dtype}, not torch.bool")
        self._shapes = {name: value.shape for name, value in kept.items()}
        self._bits = {
            name: np.packbits(value.detach().cpu().numpy()) for name, value in kept.items()
        }

    def __getitem__(self, name: str) -> Tensor:
        shape = self._shapes[name]
        kept = np.unpackbits(self._bits[name], count=shape.numel())
        return torch.from_numpy(kept.view(np.bool_)).view(shape)

    def __contains__(self, name: object) -> bool:
        return name in self._bits  # without unpacking what is there

    def __iter__(self) -> Iterator[str]:
        return iter(self._bits)

    def __len__(self) -> int:
        return len(self._bits)

    def __call__(self, weights: State) -> State:
        """Applies the mask: m * theta, pruned entries exactly +0.0.

        A product would leave -0.0 and NaN behind.
        """
        zero = torch.zeros(())
        return {
            name: torch.where(self[name].to(w.device), w, zero.to(w)) if name in self._bits else w
            for name, w in weights.items()
        }

    @cached_property
    def num_kept(self) -> int:
        """How many weights are kept."""
        return sum(self._num_kept.values())

    @cached_property
    def _num_kept(self) -> Mapping[str, int]:
        return {name: int(self[name].sum()) for name in self._bits}

    @cached_property
    def num_prunable(self) -> int:
        """How many weights the mask covers."""
        return sum(shape.numel() for shape in self._shapes.values())

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
        for name in sorted(self._bits):
            digest.update(f"{name}:{tuple(self._shapes[name])};".encode())
            digest.update(self._bits[name].data)
        return digest.hexdigest()

    @cached_property
    def biases(self) -> frozenset[str]:
        """The tensors that are biases, told by their single axis; a weight has more."""
        return frozenset(name for name, shape in self._shapes.items() if len(shape) == 1)

    def of_weights(self) -> Mask:
        """Returns the mask without biases, for what is about matrices, filters and paths."""
        if not self.biases:
            return self
        return Mask({name: self[name] for name in self._bits if name not in self.biases})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"Mask({self.num_kept} of {self.num_prunable} kept)"

    def layer_density(self) -> dict[str, float]:
        """Returns the density of each prunable tensor."""
        return {name: num / self._shapes[name].numel() for name, num in self._num_kept.items()}

    def _with(self, other: Mask, combine: Callable[[Tensor, Tensor], Tensor]) -> Mask:
        if self._bits.keys() != other._bits.keys():
            raise KeyError(f"masks name different tensors: {sorted(self.keys() ^ other.keys())}")
        return Mask({name: combine(self[name], other[name]) for name in self._bits})

    def __and__(self, other: Mask) -> Mask:
        return self._with(other, torch.logical_and)

    def __or__(self, other: Mask) -> Mask:
        return self._with(other, torch.logical_or)

    def __invert__(self) -> Mask:
        return Mask({name: ~self[name] for name in self._bits})

    def __le__(self, other: Mask) -> bool:
        """Returns whether this mask is nested in the other: all it keeps is kept there."""
        return (self & other).num_kept == self.num_kept

    def overlap(self, other: Mask) -> float:
        """Computes the Jaccard index |A and B| / |A or B|; two empty masks overlap fully."""
        union = (self | other).num_kept
        return (self & other).num_kept / union if union else 1.0

    def packed(self) -> State:
        """Packs one bit a weight: ``name`` -> uint8 bytes, the last one padded with zeros."""
        return {name: torch.from_numpy(bits.copy()) for name, bits in self._bits.items()}

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
