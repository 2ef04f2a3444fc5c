"""The global streams of random numbers that a user's code may draw from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import torch


@contextmanager
def all_seeded(seed: int) -> Iterator[None]:
    """Seeds the global streams of torch, numpy and Python, and puts them back."""
    before, numpys = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        numpy.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(before)
            numpy.random.set_state(numpys)
