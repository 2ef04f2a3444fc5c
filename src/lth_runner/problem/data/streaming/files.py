"""Encoded images in files: each a file of its own, or a piece of an archive."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from lth_runner.problem.data.streaming.encoded import content_hash
from lth_runner.problem.data.token_table import Table
from lth_runner.values.errors import UserError


@dataclass(frozen=True)
class Texts:
    """Many texts in two tensors, which cost no object each and are shared among processes."""

    joined: Tensor  # uint8, of UTF-8
    ends: Tensor  # int64

    @classmethod
    def of(cls, texts: Sequence[str]) -> Texts:
        """Joins texts."""
        encoded = [os.fsencode(text) for text in texts]
        whole = bytearray(b"".join(encoded))
        joined = torch.frombuffer(whole, dtype=torch.uint8) if whole else torch.empty(0).byte()
        return cls(joined, torch.tensor([len(text) for text in encoded]).cumsum(0))

    def __getitem__(self, number: int) -> str:
        begin = int(self.ends[number - 1]) if number else 0
        return os.fsdecode(self.joined[begin : int(self.ends[number])].numpy().tobytes())


@dataclass(frozen=True, eq=False)
class EncodedFiles:
    """Images of one split in files under ``root``, as the files were when they were listed.

    Image i is the ``lengths[i]`` bytes from ``begins[i]`` on of file ``places[i]``. ``members``
    name images within an archive; without them, each is a file of its own.
    """

    root: str
    files: Texts
    sizes: Tensor  # of the files, in bytes
    times: Tensor  # of their content, in ns
    places: Tensor
    begins: Tensor
    lengths: Tensor
    labels: Tensor
    members: Texts | None = None
    content: bytes = b""

    @cached_property
    def fingerprint(self) -> str:
        return self.content.hex()

    def __len__(self) -> int:
        return len(self.labels)

    def hashed(self, what: str) -> EncodedFiles:
        """Returns the same images with the hash of their contents."""
        return replace(self, content=content_hash(self, self.lengths, what))

    def read(self, number: int) -> bytes:
        # no view of these tensors is kept: what is sent to a worker moves to other memory
        place = int(self.places[number])
        begin, length = int(self.begins[number]), int(self.lengths[number])
        try:
            # without waiting, should a named pipe have taken its place
            opened = os.open(f"{self.root}/{self.files[place]}", os.O_RDONLY | os.O_NONBLOCK)
            try:
                facts = os.fstat(opened)
                changed = not stat.S_ISREG(facts.st_mode) or (
                    facts.st_size != int(self.sizes[place])
                    or facts.st_mtime_ns != int(self.times[place])
                )
                found = b"" if changed else os.pread(opened, length, begin)
            finally:
                os.close(opened)
        except OSError as error:
            raise UserError(
                f"cannot read the image {self.where(number)}: {error.strerror}. It was there when "
                "the data were listed: put it back, and the same command goes on"
            ) from error
        if changed or len(found) != length:
            raise UserError(
                f"the image {self.where(number)} is not what it was when the data were listed: "
                "put it back, and the same command goes on; with other data begin another run"
            )
        return found

    def where(self, number: int) -> str:
        file = Path(self.root, self.files[int(self.places[number])])
        return str(file) if self.members is None else f"{self.members[number]} in {file}"

    def packed(self, split: str) -> dict[str, Tensor]:
        """Packs all that there is as tensors for a file."""
        found = {"files": self.files.joined, "files_ends": self.files.ends}
        if self.members is not None:
            found |= {"members": self.members.joined, "members_ends": self.members.ends}
        found |= {name: getattr(self, name) for name in _NUMBERS}
        found["content"] = torch.frombuffer(bytearray(self.content), dtype=torch.uint8)
        return {f"{split}.{name}": value for name, value in found.items()}

    @classmethod
    def unpacked(cls, root: str, table: Table, split: str) -> EncodedFiles:
        """Unpacks what ``packed`` packs."""
        own = {
            n.removeprefix(f"{split}."): v for n, v in table.items() if n.startswith(f"{split}.")
        }
        return cls(
            root=root,
            files=Texts(own["files"], own["files_ends"]),
            members=Texts(own["members"], own["members_ends"]) if "members" in own else None,
            content=own["content"].numpy().tobytes(),
            **{name: own[name] for name in _NUMBERS},
        )


_NUMBERS = ("sizes", "times", "places", "begins", "lengths", "labels")
