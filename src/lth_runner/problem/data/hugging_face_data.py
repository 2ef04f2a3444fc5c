"""Data sets of the library datasets: a folder that it saved, or a name that it has in its cache."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Literal

from lth_runner.problem.data.sampled import SampledData
from lth_runner.problem.data.sentences import Labelled, Sentences
from lth_runner.problem.data.tensors import Data
from lth_runner.problem.data.tokenizers import Tokenizer
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.home import from_home
from lth_runner.values.name_patterns import as_names
from lth_runner.values.raised import reason_of

MISSING = {"None", "nan"}  # what has no label
NEGATIVE = {"-1", "-1.0"}  # what published splits without labels have in their place


def hugging_face(
    *,
    path: str,
    length: int,
    vocabulary: int,
    num_classes: int | None,
    tokenizer: Tokenizer | None = None,
    config: str | None = None,
    download: bool = False,
    name: str = "hf",
    train: str = "train",
    val: str | None = "validation",
    test: str = "test",
    text_columns: Sequence[str] | None = None,
    label_column: str = "label",
    pad: Literal["length", "batch"] = "batch",
    token_types: bool = True,
    validation: float = 0.1,
    split_seed: int = 0,
    subset: float | None = None,
    cache: str | None = None,
) -> Data | SampledData:
    """Reads texts with labels, through the library datasets, which is loaded for nothing else.

    ``path`` is a folder of ``save_to_disk``, or a data set's name with ``config``, one of its
    configurations: found in the library's cache, and fetched only with ``download``. ``train``,
    ``val`` and ``test`` name its splits; without ``val``, ``validation`` samples are held out of
    train. ``text_columns`` are one or two, None for all columns of texts. All else is said by
    ``Sentences``. Raises UserError where the library, the data set, a split, a column or a label is
    missing.
    """
    found = opened(path, config, download=download)
    made_by = Sentences(
        name=name,
        length=length,
        vocabulary=vocabulary,
        num_classes=num_classes,
        tokenizer=tokenizer,
        pad=pad,
        token_types=token_types,
        cache=cache,
        validation=validation,
        split_seed=split_seed,
        subset=subset,
    )
    named = {"train": train, "test": test} | ({} if val is None else {"val": val})
    rows = {
        split: _rows(f"{path}: {chosen}", split_of(path, found, chosen, split), text_columns,
                     label_column)
        for split, chosen in named.items()
    }  # fmt: skip
    for split in rows.values():
        _refuse_unlabelled(split, are_classes=num_classes is not None)
    data = made_by.of(lambda: rows, lambda: ["hf", _digest(rows)])
    classes = _class_names(found[train], label_column)
    return replace(data, class_names=classes) if len(classes) == num_classes else data


def _class_names(samples: Any, label_column: str) -> tuple[str, ...]:
    """Names the classes as the library does whose labels are their numbers."""
    of = getattr(samples, "features", {}).get(label_column)
    return tuple(getattr(of, "names", None) or ())


def opened(path: str, config: str | None, *, download: bool) -> Any:
    """Opens a saved folder, or a data set by name; raises UserError where there is none."""
    found = library(
        path,
        "; or, where it is installed, write each split as a file that dataset=text reads, "
        "datasets.load_from_disk(FOLDER)['train'].to_json('train.jsonl')",
    )
    folder = from_home(path)
    try:
        if folder.is_dir():
            return found.load_from_disk(str(folder))
        with nullcontext() if download else _offline(found.config):
            return found.load_dataset(path, config)
    except Exception as error:  # the library raises nothing narrower
        first = reason_of(error)
        how = (
            "is no folder that datasets saved"
            if folder.is_dir()
            else "is no folder, and no data set of that name could be fetched"
            if download
            else "is no folder, and no data set of that name is in the cache"
        )
        named = "'NAME'" if folder.is_dir() else ", ".join(map(repr, filter(None, [path, config])))
        here = "" if download or folder.is_dir() else "; or dataset.download=true here"
        raise UserError(
            f"dataset.path={path} {how} ({first}). Where there is internet, "
            f"datasets.load_dataset({named}).save_to_disk('FOLDER'); copy the folder and give "
            f"dataset.path=FOLDER{here}"
        ) from error


@contextmanager
def _offline(config: Any) -> Iterator[None]:
    """Has the library ask nothing of a network."""
    before = config.HF_DATASETS_OFFLINE, config.HF_HUB_OFFLINE
    config.HF_DATASETS_OFFLINE = config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        config.HF_DATASETS_OFFLINE, config.HF_HUB_OFFLINE = before


def library(path: str, otherwise: str = "") -> Any:
    """Loads the library datasets; raises UserError where it is missing."""
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise UserError(
            f"dataset.path={path} needs the library datasets ({error}): pip install "
            f"datasets{otherwise}"
        ) from error


def split_of(path: str, found: Any, chosen: str, split: str) -> Any:
    """Returns the split of a saved data set that ``dataset.<split>`` names; raises UserError."""
    if not isinstance(found, Mapping):
        raise UserError(
            f"dataset.path={path} holds one split: save the whole data set, with train and test"
        )
    if chosen not in found:
        raise UserError(
            f"dataset.path={path} has no split {chosen!r} (dataset.{split}): "
            f"{nearest(chosen, found)}"
        )
    return found[chosen]


def _rows(
    where: str, samples: Any, text_columns: Sequence[str] | None, label_column: str
) -> list[Labelled]:
    if not len(samples):
        raise UserError(f"{where} holds no sample")
    columns = list(samples.column_names)
    first = samples[0]
    texts = list(as_names(text_columns)) if text_columns is not None else [
        name for name in columns if name != label_column and isinstance(first[name], str)
    ]  # fmt: skip
    for key, names in (("label_column", [label_column]), ("text_columns", texts)):
        for one in names:
            if one not in columns:
                raise UserError(
                    f"{where} has no column {one!r} (dataset.{key}): {nearest(str(one), columns)}"
                )
    if len(texts) not in (1, 2):
        raise UserError(
            f"{where}: dataset.text_columns are one column or two, not {texts}: name them, there "
            f"are {', '.join(columns)}"
        )
    found = []
    for number, sample in enumerate(samples):
        label, place = str(sample[label_column]), f"{where}, row {number}"
        for name in texts:
            if not isinstance(sample[name], str):
                raise UserError(f"{place}: {name!r} is a {type(sample[name]).__name__}, no text")
        found.append(Labelled(tuple(sample[name] for name in texts), label, place))
    return found


def _refuse_unlabelled(rows: Sequence[Labelled], *, are_classes: bool) -> None:
    """Refuses rows without a label: as a number to be predicted -1 is one, unless all are -1."""
    without = MISSING | NEGATIVE
    if not are_classes and not all(row.label in without for row in rows):
        without = MISSING
    if row := next((row for row in rows if row.label in without), None):
        raise UserError(
            f"{row.where} has no label ({row.label}): published test splits often have none; name "
            "another (dataset.test=validation dataset.val=null)"
        )


def _digest(rows: Mapping[str, Sequence[Labelled]]) -> str:
    plain = {split: [[*row.parts, row.label] for row in found] for split, found in rows.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
