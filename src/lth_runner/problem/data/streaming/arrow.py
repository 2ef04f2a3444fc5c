"""Images in a column of a table of the library datasets, mapped into memory."""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lth_runner.problem.data.augmentation import Augmentation
from lth_runner.problem.data.hugging_face_data import library, opened, split_of
from lth_runner.problem.data.pictures import MAX_PIXELS
from lth_runner.problem.data.sampled import SampledData
from lth_runner.problem.data.streaming.broken import Broken
from lth_runner.problem.data.streaming.encoded import content_hash
from lth_runner.problem.data.streaming.splits import Decoding, ImageTransforms, streamed
from lth_runner.problem.data.token_table import cached_table
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.home import from_home

FORMAT = 1  # part of the cached file's name: raise it when a table is read otherwise


def image_table(
    *,
    path: str,
    shape: Sequence[int],
    num_classes: int,
    train: str = "train",
    val: str | None = "validation",
    test: str = "test",
    image_column: str = "image",
    label_column: str = "label",
    name: str = "hf_images",
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
    """Reads images of a folder that ``save_to_disk`` of the library datasets wrote, in any order.

    ``train``, ``val`` and ``test`` name its splits; without ``val``, ``validation`` samples are
    held out of train. All else is said by ``streamed``. Raises UserError where the library, the
    folder, a split, a column or a label is missing.
    """
    folder = str(from_home(path))
    named = {"train": train, "test": test} | ({} if val is None else {"val": val})
    splits = {
        split: _table(ImageTable(folder, chosen, split, image_column, label_column), cache)
        for split, chosen in named.items()
    }
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
        told=f"the table {folder}",
    )


@dataclass(frozen=True, eq=False)
class ImageTable:
    """Images of one split of a saved table; each process maps it for itself."""

    folder: str
    chosen: str
    split: str
    image_column: str
    label_column: str
    facts: Mapping[str, Tensor] | None = None  # labels and content, once they are known

    @property
    def labels(self) -> Tensor:
        return self._facts["labels"]

    @property
    def fingerprint(self) -> str:
        return self._facts["content"].numpy().tobytes().hex()

    @property
    def _facts(self) -> Mapping[str, Tensor]:
        assert self.facts is not None
        return self.facts

    def __len__(self) -> int:
        return len(self.labels)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def read(self, number: int) -> bytes:
        cell = self._rows[number][self.image_column]
        content = cell.get("bytes") if isinstance(cell, Mapping) else None
        if content is None:
            named = cell.get("path") if isinstance(cell, Mapping) else type(cell).__name__
            raise UserError(
                f"{self.where(number)} holds no image ({named}): save the table with the images in "
                "it, as save_to_disk does with a column of the type Image"
            )
        found: bytes = content
        return found

    def where(self, number: int) -> str:
        return f"row {number} of {self.chosen} in {self.folder}"

    @cached_property
    def _rows(self) -> Any:
        found = self._opened()
        columns = list(found.column_names)
        for key in ("image_column", "label_column"):
            name = getattr(self, key)
            if name not in columns:
                raise UserError(
                    f"{self.folder}: {self.chosen} has no column {name!r} (dataset.{key}): "
                    f"{nearest(name, columns)}"
                )
        image = library(self.folder).Image(decode=False)
        return found.select_columns([self.image_column]).cast_column(self.image_column, image)

    def _opened(self) -> Any:
        whole = opened(self.folder, None, download=False)
        return split_of(self.folder, whole, self.chosen, self.split)

    def read_labels(self) -> Tensor:
        """Reads the column of classes; raises UserError where one is none."""
        values = list(self._opened()[self.label_column])
        for number, value in enumerate(values):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise UserError(
                    f"{self.where(number)} has the class {reprlib.repr(value)}: give whole "
                    "numbers from 0 (dataset.label_column)"
                )
        return torch.tensor(values, dtype=torch.int64)


def _table(table: ImageTable, cache: str | None) -> ImageTable:
    """Reads classes and hashes contents, or what was kept of the same files."""
    folder = Path(table.folder)
    if not folder.is_dir():
        raise UserError(
            f"dataset.path={table.folder} is no folder: give one that datasets saved, with "
            "load_dataset(NAME).save_to_disk(FOLDER)"
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    seen = [[str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns]
            for path in files]  # fmt: skip
    made_of = ["table", FORMAT, str(folder.resolve()), seen, table.chosen, table.image_column,
               table.label_column]  # fmt: skip

    def make() -> dict[str, Tensor]:
        _ = table._rows
        labels = table.read_labels()
        size = sum(path.stat().st_size for path in files)
        lengths = torch.full((len(labels),), size // max(1, len(labels)))
        known = replace(table, facts={"labels": labels})
        content = content_hash(known, lengths, f"{table.folder}: {table.chosen}")
        whole = hashlib.sha256(content).digest()
        return {"labels": labels, "content": torch.frombuffer(bytearray(whole), dtype=torch.uint8)}

    told = f"data     reading the table {table.folder}: {table.chosen}"
    return replace(table, facts=cached_table(made_of, make, cache, kind="images", told=told))
