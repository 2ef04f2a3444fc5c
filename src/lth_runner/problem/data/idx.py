"""MNIST and the sets in its format, read without torchvision, whose import takes seconds."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor

from lth_runner.problem.data.splits import Split
from lth_runner.values.files import read_regular

LARGEST = 2**26  # bytes of a file: MNIST's training images have 47 million
UNSIGNED_BYTES = b"\0\0\x08"  # how a file of them begins; then the number of dimensions, and each


def read_idx(folder: Path, contents: frozenset[str]) -> tuple[Split, Split] | None:
    """Reads (train, test), images [n, rows, columns] as bytes, from a folder's four files.

    Plain ones are taken as they are, packed ones where the MD5 sum of what is in them is one of
    ``contents``. None where a file is missing or not what it should be.
    """
    splits = []
    for part in ("train", "t10k"):
        images = _tensor(_content(folder / f"{part}-images-idx3-ubyte", contents), 3)
        labels = _tensor(_content(folder / f"{part}-labels-idx1-ubyte", contents), 1)
        if images is None or labels is None or len(images) != len(labels):
            return None
        splits.append((images, labels.long()))
    return splits[0], splits[1]


def _content(path: Path, contents: frozenset[str]) -> bytes:
    """Reads a file, plain or packed; gives nothing where it cannot be had or is another's."""
    try:
        if path.is_file():
            return path.read_bytes()
        if not contents:
            return b""  # what is packed could not be told from damage
        content = unpacked(read_regular(path.with_name(f"{path.name}.gz"), LARGEST))
    except (OSError, EOFError, zlib.error):
        return b""
    known = hashlib.md5(content, usedforsecurity=False).hexdigest() in contents
    return content if known else b""


def unpacked(packed: bytes) -> bytes:
    """Unpacks a gzip; raises OSError where more is in it than any of these sets holds."""
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as opened:
        content = opened.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise OSError(f"more than {LARGEST:,} bytes are packed in a file of {len(packed):,}")
    return content


def _tensor(content: bytes, num_dimensions: int) -> Tensor | None:
    """Reads the tensor of bytes that an IDX file holds, big-endian sizes before the values."""
    start = 4 + 4 * num_dimensions
    if len(content) < start or content[:4] != UNSIGNED_BYTES + bytes([num_dimensions]):
        return None
    sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if not sizes[0] or len(content) != start + math.prod(sizes):
        return None
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start)
    return values.reshape(sizes)
