"""Images in tar shards of the WebDataset layout: for each key an image and its class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from lth_runner.problem.data.augmentation import Augmentation
from lth_runner.problem.data.picture_files import SUFFIXES, Stamp, as_archive, members, stamp_of
from lth_runner.problem.data.pictures import MAX_PIXELS
from lth_runner.problem.data.sampled import SampledData
from lth_runner.problem.data.streaming.broken import Broken
from lth_runner.problem.data.streaming.files import EncodedFiles
from lth_runner.problem.data.streaming.listed import Listing, listed, piece, refuse_packed
from lth_runner.problem.data.streaming.splits import Decoding, ImageTransforms, streamed
from lth_runner.values.errors import UserError
from lth_runner.values.home import from_home
from lth_runner.values.json_files import loaded

CLASS, FACTS = ".cls", ".json"
LONGEST = 2**20  # bytes of a class, or of facts


def image_shards(
    *,
    root: str,
    shape: Sequence[int],
    num_classes: int,
    train: str = "train-*.tar",
    val: str | None = None,
    test: str = "test-*.tar",
    label_key: str = "cls",
    name: str = "shards",
    validation: float = 0.1,
    split_seed: int = 0,
    subset: float | None = None,
    augment_flip: bool = False,
    augment_crop: int = 0,
    augment: Augmentation | Sequence[Augmentation] | None = None,
    transforms: ImageTransforms | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    broken: Broken = "refuse",
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    cache: str | None = None,
) -> SampledData:
    """Reads images of tar shards in ``root``, in any order, by an index that is made once.

    ``train``, ``val`` and ``test`` are patterns of file names. A sample is the files of one key, up
    to the first dot of the name: an image, and its class as a number in ``.cls``, or under
    ``label_key`` in ``.json``. All else is said by ``streamed``. Raises UserError for shards that
    are missing, compressed or cut, and for keys without an image or a class.
    """
    folder = from_home(root)
    patterns = {"train": train, "test": test} | ({} if val is None else {"val": val})
    found = {split: _shards(folder, pattern, split) for split, pattern in patterns.items()}
    every = [stamp for stamps in found.values() for stamp in stamps]

    def listing() -> dict[str, Listing]:
        return {split: _listing(folder, stamps, label_key) for split, stamps in found.items()}

    counts = {split: [stamp[0] for stamp in stamps] for split, stamps in found.items()}
    splits: dict[str, EncodedFiles] = listed(
        folder, ["shards", label_key, counts], every, listing, cache
    )
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
    return streamed(
        splits["train"],
        splits["test"],
        splits.get("val"),
        decoding=decoding,
        name=name,
        num_classes=num_classes,
        validation=validation,
        split_seed=split_seed,
        subset=subset,
        augment_flip=augment_flip,
        augment_crop=augment_crop,
        augment=augment,
        told=f"{len(every)} shards of {folder}",
    )


def _shards(folder: Path, pattern: str, split: str) -> list[Stamp]:
    names = sorted(path.name for path in folder.glob(pattern)) if "/" not in pattern else []
    if not names:
        raise UserError(
            f"{folder} has no file {pattern} (dataset.{split}): give the folder of the shards as "
            "dataset.root, and a pattern of their names, such as 'train-*.tar'"
        )
    return [stamp_of(folder, name) for name in names]


def _listing(folder: Path, shards: Sequence[Stamp], label_key: str) -> Listing:
    listing = Listing()
    for stamp in shards:
        path = folder / stamp[0]
        refuse_packed(path)
        images, classes = _keys(path, label_key)
        for key in sorted(images.keys() | classes.keys()):
            if key not in images or key not in classes:
                lacking = "image" if key not in images else "class"
                raise UserError(
                    f"{path}: {key} has no {lacking}: each sample needs an image and its class, a "
                    f"number in {key}.cls, or in {key}.json under dataset.label_key={label_key!r}"
                )
            member, begin, length = images[key]
            listing.add(stamp, classes[key], member, begin, length)
    return listing


def _keys(path: Path, label_key: str) -> tuple[dict[str, tuple[str, int, int]], dict[str, int]]:
    """Finds where each key's image lies in a shard, and the key's class."""
    images: dict[str, tuple[str, int, int]] = {}
    classes: dict[str, int] = {}
    for archive, member in members(path):
        if not member.isfile():
            continue
        key, suffix = _key(member.name)
        if suffix in SUFFIXES:
            if key in images:
                raise UserError(f"{path}: {key} has two images, {images[key][0]} and {member.name}")
            images[key] = (member.name, *piece(path, member))
        elif suffix in (CLASS, FACTS):
            if member.size > LONGEST:
                raise UserError(f"{path}: {member.name} has {member.size:,} bytes: no class is one")
            with as_archive(path):
                file = archive.extractfile(member)
                content = b"" if file is None else file.read()
            found = _class(f"{member.name} in {path}", suffix, content, label_key)
            if found is not None:
                classes[key] = found
    return images, classes


def _key(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    key, dot, suffix = path.name.partition(".")
    return str(path.parent / key), (dot + suffix).lower()


def _class(where: str, suffix: str, content: bytes, label_key: str) -> int | None:
    """Reads a class; None where facts in JSON hold none, which may be about something else."""
    try:
        found = loaded(content.decode())
    except ValueError as error:
        raise UserError(
            f"{where} is no {'number' if suffix == CLASS else 'JSON'}: {error}"
        ) from error
    if suffix == FACTS:
        if not isinstance(found, dict) or label_key not in found:
            return None
        found = found[label_key]
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise UserError(f"{where} says the class is {found!r}: give a whole number from 0")
    return found
