"""The global streams of random numbers that a user's code may draw from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import torch

TORCH, NUMPY, PYTHON = "torch", "numpy", "Python's random"


@contextmanager
def all_seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seeds the global streams of torch, numpy and Python, and puts them back.

    Torch's are those of the CPU and of ``device``.
    """
    before, numpys = random.getstate(), numpy.random.get_state()
    with torch_seeded(seed, device):
        numpy.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(before)
            numpy.random.set_state(numpys)


@contextmanager
def torch_seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seeds torch's global streams, those of the CPU and of ``device``, and puts them back."""
    on = torch.device(device)
    with torch.random.fork_rng(devices=[on] if on.type == "cuda" else []):
        torch.random.default_generator.manual_seed(seed)
        if on.type == "cuda":
            with torch.cuda.device(on):
                torch.cuda.manual_seed(seed)
        if on.type != "mps":
            yield
            return
        mps = torch.mps.get_rng_state()
        torch.mps.manual_seed(seed)
        try:
            yield
        finally:
            torch.mps.set_rng_state(mps)


def positions(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Reads where the global streams stand, by whose they are: equal where nothing was drawn."""
    on = torch.device(device)
    torchs = [torch.get_rng_state()]
    torchs += [torch.cuda.get_rng_state(on)] if on.type == "cuda" else []
    torchs += [torch.mps.get_rng_state()] if on.type == "mps" else []
    kind, keys, *rest = numpy.random.get_state()
    return {
        TORCH: [state.numpy().tobytes() for state in torchs],
        NUMPY: (kind, numpy.asarray(keys).tobytes(), rest),
        PYTHON: random.getstate(),
    }


def drawn_between(before: dict[str, Any], after: dict[str, Any]) -> frozenset[str]:
    """Names whose streams were drawn from between two readings of their positions."""
    return frozenset(name for name, position in after.items() if position != before[name])
