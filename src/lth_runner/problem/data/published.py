"""Published image sets, found, unpacked or downloaded through torchvision's dataset classes."""

from __future__ import annotations

import hashlib
import importlib
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from lth_runner.problem.data.augmentation import Augmentation
from lth_runner.problem.data.datasets import assemble
from lth_runner.problem.data.idx import LARGEST, read_idx, unpacked
from lth_runner.problem.data.splits import Split, of_classes
from lth_runner.problem.data.tensors import Data
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.files import read_regular
from lth_runner.values.home import from_home
from lth_runner.values.raised import reason_of


@dataclass(frozen=True)
class PublishedDataset:
    """What torchvision calls a dataset, where it keeps it, and its channel moments (of 0..1)."""

    cls: str
    folder: str  # under the root; "" where the files lie in the root itself
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    contents: frozenset[str] = frozenset()  # MD5 sums of the unpacked files, for repacked archives


_MNIST_CONTENTS = frozenset(
    {
        "6bbc9ace898e44ae57da46a324031adb",  # train-images-idx3-ubyte
        "a25bea736e30d166cdddb491f175f624",  # train-labels-idx1-ubyte
        "2646ac647ad5339dbf082846283269ea",  # t10k-images-idx3-ubyte
        "27ae3e4e09519cfbb04c329615203637",  # t10k-labels-idx1-ubyte
    }
)
_CIFAR10_MOMENTS = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
_CIFAR100_MOMENTS = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
_SVHN_MOMENTS = ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970))
PUBLISHED = {
    "mnist": PublishedDataset("MNIST", "MNIST", 10, (0.1307,), (0.3081,), _MNIST_CONTENTS),
    "fashion_mnist": PublishedDataset("FashionMNIST", "FashionMNIST", 10, (0.2860,), (0.3530,)),
    "kmnist": PublishedDataset("KMNIST", "KMNIST", 10, (0.1918,), (0.3483,)),
    "cifar10": PublishedDataset("CIFAR10", "cifar-10-batches-py", 10, *_CIFAR10_MOMENTS),
    "cifar100": PublishedDataset("CIFAR100", "cifar-100-python", 100, *_CIFAR100_MOMENTS),
    "svhn": PublishedDataset("SVHN", "", 10, *_SVHN_MOMENTS),
}
# what torchvision raises for files that are missing, damaged, or out of the network's reach
_FAILURES = (OSError, RuntimeError, ValueError, AssertionError, EOFError, HTTPException, zlib.error)


def torchvision_dataset(
    *,
    name: str,
    shape: Sequence[int],
    num_classes: int,
    root: str,
    validation: float = 5000,
    split_seed: int = 0,
    subset: float | None = None,
    augment_flip: bool = False,
    augment_crop: int = 0,
    augment: Augmentation | Sequence[Augmentation] | None = None,
    classes: Sequence[int] | None = None,
) -> Data:
    """Reads one of torchvision's image sets from ``root``, downloaded into it on first use.

    CIFAR's published files are pickles: torchvision unpickles them only after their MD5 sums
    match the published ones. Nothing else read here can run code. ``classes`` takes some of the
    classes, by their numbers; inputs are standardised by the moments of all.
    Raises UserError when the data are neither there nor to be had.
    """
    train, test = load_published(name, Path(root))
    entry = PUBLISHED[name]
    train, test, num_found = of_classes(train, test, classes, entry.num_classes)
    return assemble(
        train,
        test,
        name=name,
        shape=shape,
        num_classes=num_classes,
        found_classes=num_found,
        mean=entry.mean,
        std=entry.std,
        validation=validation,
        split_seed=split_seed,
        subset=subset,
        augment_flip=augment_flip,
        augment_crop=augment_crop,
        augment=augment,
    )


def load_published(name: str, root: Path) -> tuple[Split, Split]:
    """Reads (train, test) in torchvision's order: as found, from archives there, or downloaded.

    Writes into ``root`` only to publish a download; archives unpack in a temporary folder.
    """
    if name not in PUBLISHED:
        raise UserError(f"torchvision dataset {name!r} is not known: {nearest(name, PUBLISHED)}")
    entry = PUBLISHED[name]
    root = from_home(root)
    if (found := read_idx(root / entry.folder / "raw", entry.contents)) is not None:
        return _as_images(*found[0]), _as_images(*found[1])
    datasets = _import_datasets(name)
    try:
        return _read(datasets, entry, root, download=False)
    except ImportError as error:
        raise UserError(f"{name} needs another package, install it: {error}") from error
    except _FAILURES as error:
        not_ready = error
    try:
        splits = _from_archives(datasets, entry, root)
        return splits or _download(datasets, entry, root)
    except _FAILURES as error:
        raise UserError(
            f"{name} is not usable under {root.resolve()}: looked for torchvision's files in"
            f" {root.resolve() / entry.folder} ({reason_of(not_ready)}) and could not fetch them"
            f" ({reason_of(error)})."
            f" Without internet: fetch it on a connected machine (scripts/fetch_data.py {name} of"
            " the repository, or one run there), copy that folder here and pass"
            " dataset.root=<folder>. If files are there but damaged, delete them first"
        ) from error


def _import_datasets(name: str) -> ModuleType:
    try:
        return importlib.import_module("torchvision.datasets")
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise UserError(
            f"{name} needs a torchvision that matches torch {torch.__version__}: install both"
            f" from the same package index ({error})"
        ) from error


def _read(
    datasets: ModuleType, entry: PublishedDataset, root: Path, *, download: bool
) -> tuple[Split, Split]:
    make: Callable[..., Any] = getattr(datasets, entry.cls)
    if entry.cls == "SVHN":
        parts = [make(root, split=split, download=download) for split in ("train", "test")]
        train, test = ((part.data, part.labels) for part in parts)
    else:
        parts = [make(root, train=train, download=download) for train in (True, False)]
        train, test = ((part.data, part.targets) for part in parts)
    return _as_images(*train), _as_images(*test)


def _as_images(images: Any, labels: Any) -> Split:
    pixels = torch.as_tensor(np.ascontiguousarray(images))
    if pixels.dim() == 3:
        pixels = pixels.unsqueeze(1)
    elif pixels.shape[-1] == 3:
        pixels = pixels.permute(0, 3, 1, 2).contiguous()
    return pixels, torch.as_tensor(labels).long()


def _from_archives(
    datasets: ModuleType, entry: PublishedDataset, root: Path
) -> tuple[Split, Split] | None:
    """Reads the splits from published archives in ``root``, checked by MD5; None for no archive.

    Unpacked in a temporary folder, since ``root`` may be read-only.
    """
    cls = getattr(datasets, entry.cls)
    with tempfile.TemporaryDirectory(prefix="lth-runner-") as folder:
        if hasattr(cls, "resources"):
            raw = root / entry.folder / "raw"
            if not all((raw / name).is_file() for name, _ in cls.resources):
                return None
            unpacked = Path(folder) / entry.folder / "raw"
            unpacked.mkdir(parents=True)
            for name, md5 in cls.resources:
                _gunzip(raw / name, unpacked, md5, entry.contents)
        elif hasattr(cls, "tgz_md5"):
            archive = root / cls.filename
            if not archive.is_file():
                return None
            if _md5(archive.read_bytes()) != cls.tgz_md5:
                raise OSError(f"wrong MD5 sum: {archive}")
            (Path(folder) / archive.name).symlink_to(archive.resolve())
        else:
            return None
        # what torchvision would download is there and intact: it only unpacks and reads
        return _read(datasets, entry, Path(folder), download=True)


def _gunzip(path: Path, folder: Path, md5: str, contents: frozenset[str]) -> None:
    packed = read_regular(path, LARGEST)
    content = unpacked(packed)
    if _md5(packed) != md5 and _md5(content) not in contents:
        raise OSError(f"wrong MD5 sum: {path}")
    (folder / path.stem).write_bytes(content)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _download(datasets: ModuleType, entry: PublishedDataset, root: Path) -> tuple[Split, Split]:
    """Downloads beside the final place and renames, so that runs at once do not collide."""
    new = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    try:
        return _download_into(datasets, entry, root)
    finally:
        if new and not any(root.iterdir()):
            root.rmdir()  # nothing came: leave no empty folder that looks like data


def _download_into(
    datasets: ModuleType, entry: PublishedDataset, root: Path
) -> tuple[Split, Split]:
    with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as folder:
        splits = _read(datasets, entry, Path(folder), download=True)
        if _is_ready(datasets, entry, root):  # another run was quicker
            return splits
        for source in Path(folder).iterdir():
            target = root / source.name
            if target.exists():  # damaged: set aside, since a user's files are not ours to delete
                target.replace(Path(tempfile.mkdtemp(prefix="aside-", dir=root)) / target.name)
            source.replace(target)
    return splits


def _is_ready(datasets: ModuleType, entry: PublishedDataset, root: Path) -> bool:
    try:
        _read(datasets, entry, root, download=False)
    except _FAILURES:
        return False
    return True
