"""Images in folders, or in a tar of them, decoded once and read from a cache, or streamed."""

from __future__ import annotations

import hashlib
import json
import logging
import math
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
from lth_runner.problem.data.pictures import BYTES_A_PIXEL, MAX_PIXELS, pixels
from lth_runner.problem.data.sampled import SampledData
from lth_runner.problem.data.splits import moments, of_classes
from lth_runner.problem.data.streaming import Decoding, ImageTransforms, streamed
from lth_runner.problem.data.streaming.broken import Broken
from lth_runner.problem.data.streaming.listed import is_packed, listed_archive, listed_folder
from lth_runner.problem.data.tensors import Data
from lth_runner.values import tree
from lth_runner.values.errors import UserError
from lth_runner.values.home import from_home
from lth_runner.values.memory import total_memory

CACHE_FORMAT = 2  # part of the cache key: raise it when the decoding changes
_KEYS = tuple(f"{split}.{part}" for split in SPLITS for part in ("inputs", "labels"))
SHARE = 0.25  # of a machine's memory that decoded images may take
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
    stream: bool | None = None,
    transforms: ImageTransforms | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    broken: Broken = "refuse",
    workers: int | None = None,
) -> Data | SampledData:
    """Reads train/<class>/* and test/<class>/* images under ``root``, a folder or a tar of it.

    They are decoded into memory, or with ``stream`` when a batch asks for them, by ``workers``
    processes; None: where they would take more than a quarter of this machine's memory, or have
    transforms of their own. All that is streamed is said by ``Decoding`` and ``streamed``; below,
    what is not.
    Images are resized (not cropped) to ``shape`` = (1 or 3, height, width); classes are numbered
    in the order of their sorted names; ``classes`` takes some by these
    numbers. What becomes of transparent, 16-bit, turned and other
    images: ``pictures.pixels``. Decoded pixels are kept in the folder ``cache`` (default:
    lth-runner under $XDG_CACHE_HOME or ~/.cache) for this place, until a file of it changes.
    Raises UserError for a missing split, an empty class, classes that differ, unreadable images,
    and images of more than ``max_pixels``.
    """
    decoding = Decoding(
        shape=tuple(shape),
        max_pixels=max_pixels,
        transforms=transforms,
        mean=mean,
        std=std,
        broken=broken,
        workers=workers,
        cache=cache,
    )
    place = from_home(root)
    pictures = _found(place, decoding, stream=stream)
    why = None if pictures is None else _why_streamed(pictures, decoding, asked=bool(stream))
    if pictures is not None and why is not None:
        lists = (listed_archive if place.is_file() else listed_folder)(place, pictures, cache)
        return streamed(
            lists["train"],
            lists["test"],
            None,
            decoding=decoding,
            name=name,
            num_classes=num_classes,
            found_classes=len(pictures["train"]),
            validation=validation,
            split_seed=split_seed,
            subset=subset,
            classes=classes,
            augment_flip=augment_flip,
            augment_crop=augment_crop,
            augment=augment,
            told=f"{place} ({why})",
        )
    folder = cache_folder(cache)
    tensors, num_found = _cached(place, pictures, tuple(shape), folder, max_pixels)
    splits = [(tensors[f"{split}.inputs"], tensors[f"{split}.labels"]) for split in SPLITS]
    train, test, num_found = of_classes(splits[0], splits[1], classes, num_found)
    own = mean is None or std is None
    centre, scale = moments(tree.tensors(train[0])[0]) if own else (tuple(mean), tuple(std))  # type: ignore[arg-type]
    return assemble(
        train,
        test,
        name=name,
        shape=shape,
        num_classes=num_classes,
        found_classes=num_found,
        mean=centre,
        std=scale,
        validation=validation,
        split_seed=split_seed,
        subset=subset,
        augment_flip=augment_flip,
        augment_crop=augment_crop,
        augment=augment,
    )


def _found(place: Path, decoding: Decoding, *, stream: bool | None) -> Pictures | None:
    """Lists the images; None where they are decoded into memory whatever they are."""
    if stream is not None and not isinstance(stream, bool):
        raise UserError(f"dataset.stream={stream!r}: accepted: true, false, null (as memory asks)")
    wanted = bool(stream) or decoding.transforms is not None or decoding.broken != "refuse"
    # what is compressed cannot be streamed, and to list it all of it is unpacked
    if stream is not False and (wanted or not place.is_file() or is_packed(place) is None):
        return find(place, decoding.max_pixels * BYTES_A_PIXEL)
    if wanted:
        key = "transforms" if decoding.transforms is not None else "broken"
        raise UserError(
            f"dataset.{key} is for images that are decoded when asked for: leave "
            "dataset.stream=false out, or the other"
        )
    return None


def _why_streamed(pictures: Pictures, decoding: Decoding, *, asked: bool) -> str | None:
    """Says why images are not decoded into memory; None where they are."""
    if asked:
        return "dataset.stream=true"
    if decoding.transforms is not None:
        return "they have transforms"
    if decoding.broken != "refuse":
        return f"dataset.broken={decoding.broken}"
    num_bytes, there = _bytes_decoded(pictures, decoding.shape), total_memory()
    if num_bytes <= SHARE * there:
        return None
    return (
        f"decoded they would take {num_bytes / 1e9:,.1f} GB, more than a quarter of this machine's "
        f"{there / 1e9:,.1f}"
    )


def _bytes_decoded(pictures: Pictures, shape: tuple[int, ...]) -> int:
    num = sum(len(names) for split in SPLITS for names in pictures[split].values())
    return num * math.prod(shape)


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
    root: Path, found: Pictures | None, shape: tuple[int, ...], folder: Path, max_pixels: int
) -> tuple[dict[str, Tensor], int]:
    """Reads (tensors, number of classes) from the cache file, or decodes them into it.

    A cache file is of one place and of the very files that lie there: other pictures elsewhere may
    have their names, sizes and times.
    """
    most = max_pixels * BYTES_A_PIXEL
    images = None if root.is_file() else found or find(root, most)
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
    listed = found or images or find(root, most)
    if (num_bytes := _bytes_decoded(listed, shape)) > total_memory():
        raise UserError(
            f"{root}: decoded its images take {num_bytes / 1e9:,.1f} GB, and this machine has "
            f"{total_memory() / 1e9:,.1f}: leave dataset.stream=false out, and unpack what is "
            "compressed, for images to be decoded when a batch asks for them"
        )
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
