"""Images that cannot be decoded: named and refused, or left out and counted."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from lth_runner.problem.data.pictures import picture
from lth_runner.problem.data.sampled import InOrder
from lth_runner.problem.data.streaming.encoded import Encoded, Picked
from lth_runner.problem.data.token_table import cached_table
from lth_runner.problem.data.workers import Ahead
from lth_runner.values.errors import UserError
from lth_runner.values.tree import Batch

Broken = Literal["refuse", "skip"]
PIECE = 64  # images that a worker tries at once
NAMED = 3  # of those that are left out
_log = logging.getLogger(__name__)


def readable(
    encoded: Encoded, what: str, *, channels: int, max_pixels: int, workers: int, cache: str | None
) -> tuple[Encoded, int]:
    """Leaves out what cannot be decoded, and says how many images that are.

    All are decoded once, and what came of it is kept in the cache. Raises UserError where none is
    left.
    """

    def make() -> dict[str, Tensor]:
        tried = _Tried(encoded, channels, max_pixels)
        requests = InOrder("tried", len(encoded), PIECE)
        ahead = Ahead({"tried": tried}, workers) if workers else None
        places = range(-(-len(encoded) // PIECE))
        found = [
            (
                requests[place].made({"tried": tried})
                if ahead is None
                else ahead.take(requests, place)
            )
            for place in tqdm(places, f"decode {what}", unit="batch", leave=False, disable=None)
        ]
        return {"decodes": torch.cat([flags for flags, _ in found if isinstance(flags, Tensor)])}

    key = ["decodes", encoded.fingerprint, channels, max_pixels]
    told = f"data     decoding {len(encoded):,} images of {what} once, to leave out what is broken"
    decodes = cached_table(key, make, cache, kind="images", told=told)["decodes"]
    kept = decodes.nonzero().squeeze(1)
    num = len(encoded) - len(kept)
    if not num:
        return encoded, 0
    left_out = (~decodes).nonzero().squeeze(1).tolist()
    names = ", ".join(encoded.where(number) for number in left_out[:NAMED])
    more = f" and {num - NAMED:,} more" if num > NAMED else ""
    _log.warning("warning: %s: %d of %d images cannot be decoded and are left out: %s%s",
                 what, num, len(encoded), names, more)  # fmt: skip
    if not len(kept):
        raise UserError(f"{what}: no image can be decoded: look at {names}")
    return Picked(encoded, kept, encoded.labels[kept]), num


@dataclass(frozen=True, eq=False)
class _Tried:
    """Says of images whether each can be decoded."""

    encoded: Encoded
    channels: int
    max_pixels: int

    @property
    def fingerprint(self) -> str:
        return self.encoded.fingerprint

    def __len__(self) -> int:
        return len(self.encoded)

    def take(self, index: Tensor, draw: torch.Generator) -> Batch:
        found = torch.tensor([self._decodes(number) for number in index.tolist()])
        return found, found

    def _decodes(self, number: int) -> bool:
        content, where = self.encoded.read(number), self.encoded.where(number)
        try:
            picture(content, self.channels, max_pixels=self.max_pixels, where=where)
        except UserError:
            return False
        return True
