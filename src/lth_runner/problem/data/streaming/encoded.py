"""The seam for images as they are encoded, and what their contents are called."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from lth_runner.values import identity
from lth_runner.values.seeds import stream as generator

WHOLE = 2**32  # bytes up to which all of them are hashed
HASHED = 4096  # images of a larger split whose bytes are
_log = logging.getLogger(__name__)


class Encoded(Protocol):
    """Images of one split as they are encoded, each read when it is asked for."""

    @property
    def fingerprint(self) -> str:
        """What tells contents apart, wherever they lie."""

    @property
    def labels(self) -> Tensor:
        """The class of each, int64 [images]."""

    def __len__(self) -> int:
        """How many images there are."""

    def read(self, number: int) -> bytes:
        """Reads an image; raises UserError, naming it, where it is gone or another one by now."""

    def where(self, number: int) -> str:
        """Names an image, for messages."""


@dataclass(frozen=True, eq=False)
class Picked:
    """Some images, by their numbers, with classes of their own."""

    encoded: Encoded
    index: Tensor
    labels: Tensor

    @cached_property
    def fingerprint(self) -> str:
        sums = [hashlib.sha256(part.numpy().tobytes()).hexdigest()
                for part in (self.index, self.labels)]  # fmt: skip
        return identity.digest([self.encoded.fingerprint, *sums])

    def __len__(self) -> int:
        return len(self.index)

    def read(self, number: int) -> bytes:
        return self.encoded.read(int(self.index[number]))

    def where(self, number: int) -> str:
        return self.encoded.where(int(self.index[number]))


def content_hash(encoded: Encoded, lengths: Tensor, what: str) -> bytes:
    """Hashes images by class, bytes, and how many these are.

    Of more than ``WHOLE`` bytes those of ``HASHED`` images that are drawn by a fixed seed, beside
    the lengths of all, which it says.
    """
    digest = hashlib.sha256()
    for part in (encoded.labels, lengths):
        digest.update(part.to(torch.int64).numpy().tobytes())
    numbers = list(range(len(encoded)))
    total = int(lengths.sum())
    if total > WHOLE and len(encoded) > HASHED:
        order = torch.randperm(len(encoded), generator=generator(0, "hashed"))
        numbers = sorted(order[:HASHED].tolist())
        _log.info(
            "data     %s: %s images of %.1f GB are told from others by the lengths of all and the "
            "content of %s of them, drawn at random",
            what, f"{len(encoded):,}", total / 1e9, f"{HASHED:,}",
        )  # fmt: skip
    for number in numbers:
        digest.update(encoded.read(number))
    return digest.digest()
