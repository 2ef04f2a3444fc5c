"""Images in folders, or in a tar of them, decoded once and then read from a cache."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lth_runner.problem.data.augmentation import Augmentation
from lth_runner.problem.data.datasets import assemble
from lth_runner.problem.data.splits import moments
from lth_runner.problem.data.tensors import Data
from lth_runner.values.errors import UserError

Images = dict[str, dict[str, list[str]]]  # split -> class -> sorted image names under the root
SPLITS = ("train", "test")
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
)
CACHE_FORMAT = 1  # part of the cache key: raise it when the decoding changes
_MODES = {1: "L", 3: "RGB"}
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
) -> Data:
    """Reads train/<class>/* and test/<class>/* images under ``root``, a folder or a tar of it.

    Images are resized (not cropped) to ``shape`` = (1 or 3, height, width); classes are numbered
    in the order of their sorted names. Decoded pixels are kept in the folder ``cache`` (default:
    lth-runner under $XDG_CACHE_HOME or ~/.cache) until the files' names, sizes or times change.
    Raises UserError for a missing split, an empty class, classes that differ, unreadable images.
    """
    if len(shape) != 3 or shape[0] not in _MODES or min(shape) < 1:
        raise UserError(f"{name}: shape is {list(shape)}: give [1 or 3, height, width]")
    folder = Path(cache).expanduser() if cache else default_cache()
    tensors, num_found = _cached(Path(root).expanduser(), tuple(shape), folder)
    mean, std = moments(tensors["train.inputs"])
    return assemble(
        (tensors["train.inputs"], tensors["train.labels"]),
        (tensors["test.inputs"], tensors["test.labels"]),
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


def default_cache() -> Path:
    """Returns $XDG_CACHE_HOME/lth-runner, or ~/.cache/lth-runner."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lth-runner"


# --- finding the images


def _list(root: Path) -> Images:
    images = _list_archive(root) if root.is_file() else _list_folder(root)
    for split in SPLITS:
        if not images.get(split):
            raise UserError(
                f"{root} has no {split}/<class>/ folders: give dataset.root a folder, .tar or"
                " .tar.gz with train/<class>/* and test/<class>/* images"
            )
        for label, names in images[split].items():
            if not names:
                raise UserError(
                    f"class folder {split}/{label} in {root} holds no image: add some"
                    f" ({' '.join(sorted(SUFFIXES))}) or remove the folder"
                )
    if only := set(images["train"]) ^ set(images["test"]):
        raise UserError(
            f"train/ and test/ in {root} do not hold the same classes:"
            f" {', '.join(sorted(only))} found in one of them only"
        )
    return images


def _list_folder(root: Path) -> Images:
    images: Images = {}
    for split in SPLITS:
        if not (root / split).is_dir():
            continue
        classes = [f.name for f in sorted((root / split).iterdir()) if f.is_dir()]
        images[split] = {
            label: sorted(
                f"{split}/{label}/{path.name}"
                for path in (root / split / label).iterdir()
                if _is_image(path.name)
            )
            for label in classes
            if not label.startswith(".")
        }
    return images


def _list_archive(root: Path) -> Images:
    found: dict[str, dict[str, set[str]]] = {}
    prefixes = set()
    for member in _members(root):
        path = PurePosixPath(member.name)
        *prefix, split, label = ("", "", *(path if member.isdir() else path.parent).parts)
        if split not in SPLITS or label.startswith("."):
            continue
        prefixes.add("/".join(prefix))
        names = found.setdefault(split, {}).setdefault(label, set())
        if member.isfile() and _is_image(path.name):
            names.add(member.name)
    if len(prefixes) > 1:
        raise UserError(
            f"{root} holds train/ or test/ below several folders"
            f" ({', '.join(sorted(prefixes))}): pack one train/ and one test/"
        )
    return {s: {c: sorted(names) for c, names in group.items()} for s, group in found.items()}


def _members(root: Path) -> list[tarfile.TarInfo]:
    try:
        with tarfile.open(root) as archive:
            return archive.getmembers()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(
            f"{root} is not a readable tar archive ({error}): give a folder, .tar or .tar.gz"
        ) from error


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES and not name.startswith(".")


# --- decoding


def _decode(root: Path, images: Images, shape: tuple[int, ...]) -> dict[str, Tensor]:
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
    for name, content in _contents(root, rows):
        rows[name][:] = _pixels(content, shape, where=f"{name} in {root}")
    return tensors


def _contents(root: Path, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    if not root.is_file():
        yield from ((name, (root / name).read_bytes()) for name in names)
        return
    with tarfile.open(root) as archive:  # in the archive's order; nothing is written to disk
        for member in archive:
            file = archive.extractfile(member) if member.name in names else None
            if file is not None:
                yield member.name, file.read()


def _pixels(content: bytes, shape: tuple[int, ...], *, where: str) -> np.ndarray[Any, Any]:
    from PIL import Image

    channels, height, width = shape
    try:
        image = Image.open(io.BytesIO(content)).convert(_MODES[channels])
    # SyntaxError is what PIL raises for a broken PNG
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read the image {where}: {error}; replace or remove it") from error
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels: np.ndarray[Any, Any] = np.asarray(image).reshape(height, width, channels)
    return np.moveaxis(pixels, 2, 0)


# --- the cache


def _cached(root: Path, shape: tuple[int, ...], folder: Path) -> tuple[dict[str, Tensor], int]:
    """Reads (tensors, number of classes) from the cache file, or decodes them into it."""
    images = None if root.is_file() else _list(root)
    key = json.dumps([CACHE_FORMAT, shape, _stamps(root, images)])
    path = folder / f"imagefolder-{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    if path.exists():
        try:
            return _load(path)
        except (SafetensorError, OSError, ValueError) as error:
            aside = path.with_suffix(".corrupt")
            path.replace(aside)
            _log.warning("cache file %s is damaged (%s): set aside and rebuilt", path, error)
    images = images or _list(root)
    tensors = _decode(root, images, shape)
    _save(path, tensors, num_classes=len(images["train"]))
    return tensors, len(images["train"])


def _stamps(root: Path, images: Images | None) -> list[tuple[str, int, int]]:
    """Lists (name, size, time) of every file: of the archive itself where there is one."""
    if images is None:
        names = [root.name]
        root = root.parent
    else:
        names = [name for split in SPLITS for group in images[split].values() for name in group]
    stats = [(root / name).stat() for name in names]
    return [(name, s.st_size, s.st_mtime_ns) for name, s in zip(names, stats, strict=True)]


def _load(path: Path) -> tuple[dict[str, Tensor], int]:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in _KEYS}
    if metadata.get("sha256") != _digest(tensors):
        raise ValueError("its checksum does not match")
    return tensors, int(metadata["num_classes"])


def _save(path: Path, tensors: dict[str, Tensor], *, num_classes: int) -> None:
    metadata = {"sha256": _digest(tensors), "num_classes": str(num_classes)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="imagefolder-", dir=path.parent) as folder:
            written = Path(folder) / path.name
            save_file(tensors, written, metadata=metadata)
            written.replace(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"cannot write the decoded images to {path.parent} ({error}):"
            " pass dataset.cache=<a folder with room>"
        ) from error


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in _KEYS:
        digest.update(tensors[key].view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
