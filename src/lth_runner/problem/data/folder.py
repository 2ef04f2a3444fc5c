"""Images in folders, or in a tar of them, decoded once and then read from a cache."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lth_runner.problem.data.augmentation import Augmentation
from lth_runner.problem.data.cache_file import cache_folder, write_cache_file
from lth_runner.problem.data.datasets import assemble
from lth_runner.problem.data.picture_files import SPLITS, Pictures, contents, find, stamps
from lth_runner.problem.data.pictures import BYTES_A_PIXEL, MAX_PIXELS, MODES, pixels
from lth_runner.problem.data.splits import moments, of_classes
from lth_runner.problem.data.tensors import Data
from lth_runner.values import tree
from lth_runner.values.errors import UserError

CACHE_FORMAT = 2  # part of the cache key: raise it when the decoding changes
_KEYS = tuple(f"{split}.{part}" for split in SPLITS for part in ("inputs", "labels"))
_log = logging.getLogger(__name__)


def imagefolder(
    *,
    root: str,
    shape: Sequence[int],
    num_classes: int,
    name: str = "imagefolder",
    validation: float = 0.1,
    split_seed: int = 0,
    subset: float | None = None,
    augment_flip: bool = False,
    augment_crop: int = 0,
    augment: Augmentation | Sequence[Augmentation] | None = None,
    cache: str | None = None,
    max_pixels: int = MAX_PIXELS,
    classes: Sequence[int] | None = None,
) -> Data:
    """Reads train/<class>/* and test/<class>/* images under ``root``, a folder or a tar of it.

    Images are resized (not cropped) to ``shape`` = (1 or 3, height, width); classes are numbered
    in the order of their sorted names; ``classes`` takes some by these
    numbers. What becomes of transparent, 16-bit, turned and other
    images: ``pictures.pixels``. Decoded pixels are kept in the folder ``cache`` (default:
    lth-runner under $XDG_CACHE_HOME or ~/.cache) for this place, until a file of it changes.
    Raises UserError for a missing split, an empty class, classes that differ, unreadable images,
    and images of more than ``max_pixels``.
    """
    if len(shape) != 3 or shape[0] not in MODES or min(shape) < 1:
        raise UserError(f"{name}: shape is {list(shape)}: give [1 or 3, height, width]")
    if isinstance(max_pixels, bool) or max_pixels < 1:
        raise UserError(f"dataset.max_pixels={max_pixels!r}: give a whole number above 0")
    folder = cache_folder(cache)
    tensors, num_found = _cached(Path(root).expanduser(), tuple(shape), folder, max_pixels)
    splits = [(tensors[f"{split}.inputs"], tensors[f"{split}.labels"]) for split in SPLITS]
    train, test, num_found = of_classes(splits[0], splits[1], classes, num_found)
    mean, std = moments(tree.tensors(train[0])[0])
    return assemble(
        train,
        test,
        name=name,
        shape=shape,
        num_classes=num_classes,
        found_classes=num_found,
        mean=mean,
        std=std,
        validation=validation,
        split_seed=split_seed,
        subset=subset,
        augment_flip=augment_flip,
        augment_crop=augment_crop,
        augment=augment,
    )


# --- decoding


def _decode(
    root: Path, images: Pictures, shape: tuple[int, ...], max_pixels: int
) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    rows: dict[str, np.ndarray[Any, Any]] = {}  # image name -> the row of pixels it fills
    for split in SPLITS:
        classes = sorted(images[split])
        names = [name for label in classes for name in images[split][label]]
        counts = torch.tensor([len(images[split][label]) for label in classes])
        inputs = torch.empty(len(names), *shape, dtype=torch.uint8)
        rows.update(zip(names, inputs.numpy(), strict=True))
        tensors[f"{split}.inputs"] = inputs
        tensors[f"{split}.labels"] = torch.arange(len(classes)).repeat_interleave(counts)
    _log.info("decoding %d images of %s", len(rows), root)
    for name, content in contents(root, rows, max_pixels * BYTES_A_PIXEL):
        where = f"{name} in {root}"
        rows[name][:] = pixels(content, shape, max_pixels=max_pixels, where=where)
    return tensors


# --- the cache


def _cached(
    root: Path, shape: tuple[int, ...], folder: Path, max_pixels: int
) -> tuple[dict[str, Tensor], int]:
    """Reads (tensors, number of classes) from the cache file, or decodes them into it.

    A cache file is of one place and of the very files that lie there: other pictures elsewhere may
    have their names, sizes and times.
    """
    most = max_pixels * BYTES_A_PIXEL
    images = None if root.is_file() else find(root, most)
    seen = stamps(root, images)
    key = json.dumps([CACHE_FORMAT, shape, str(root.resolve()), seen])
    path = folder / f"imagefolder-{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    if path.is_file():
        try:
            return _load(path)
        except (SafetensorError, OSError, ValueError) as error:
            aside = path.with_suffix(".corrupt")
            path.replace(aside)
            _log.warning("cache file %s is damaged (%s): set aside and rebuilt", path, error)
    listed = images or find(root, most)
    tensors = _decode(root, listed, shape, max_pixels)
    if stamps(root, images) != seen:
        raise UserError(f"{root} was changed while it was read: start again when it is at rest")
    _save(path, tensors, num_classes=len(listed["train"]))
    return tensors, len(listed["train"])


def _load(path: Path) -> tuple[dict[str, Tensor], int]:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in _KEYS}
    if metadata.get("sha256") != _digest(tensors):
        raise ValueError("its checksum does not match")
    return tensors, int(metadata["num_classes"])


def _save(path: Path, tensors: dict[str, Tensor], *, num_classes: int) -> None:
    metadata = {"sha256": _digest(tensors), "num_classes": str(num_classes)}
    write_cache_file(path, tensors, metadata, "decoded images")


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in _KEYS:
        digest.update(tensors[key].view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
