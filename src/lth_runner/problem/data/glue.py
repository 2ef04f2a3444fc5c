"""The nine tasks of GLUE, read from their files as they are published."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lth_runner.problem.data.rows import decoded, tabbed
from lth_runner.problem.data.sampled import SampledData
from lth_runner.problem.data.sentences import Labelled, Sentences
from lth_runner.problem.data.tensors import Data
from lth_runner.problem.data.text import contents
from lth_runner.problem.data.tokenizers import Tokenizer
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.home import from_home

BROKEN = 0.01  # share of a file's lines above which it is no file of GLUE
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Format:
    """How one task's files are laid out: its folder, columns by name, and the measure it is by.

    ``header`` names the columns of files that have no such line themselves.
    """

    folder: str
    texts: tuple[str, ...]
    label: str
    num_classes: int | None
    objective: str
    header: tuple[str, ...] = ()
    test: str = "dev.tsv"


COLA = ("source", "label", "original", "sentence")
PAIR = ("sentence1", "sentence2")
FORMATS = {
    "cola": Format("CoLA", ("sentence",), "label", 2, "matthews", header=COLA),
    "sst2": Format("SST-2", ("sentence",), "label", 2, "classification"),
    "mrpc": Format("MRPC", ("#1 String", "#2 String"), "Quality", 2, "f1"),
    "stsb": Format("STS-B", PAIR, "score", None, "correlation"),
    "qqp": Format("QQP", ("question1", "question2"), "is_duplicate", 2, "f1"),
    "mnli": Format("MNLI", PAIR, "gold_label", 3, "classification", test="dev_matched.tsv"),
    "qnli": Format("QNLI", ("question", "sentence"), "label", 2, "classification"),
    "rte": Format("RTE", PAIR, "label", 2, "classification"),
    "wnli": Format("WNLI", PAIR, "label", 2, "classification"),
}


def glue(
    *,
    task: str,
    root: str,
    length: int,
    vocabulary: int,
    num_classes: int | None,
    tokenizer: Tokenizer,
    name: str = "glue",
    mismatched: bool = False,
    pad: Literal["length", "batch"] = "batch",
    token_types: bool = True,
    validation: float = 0.1,
    split_seed: int = 0,
    subset: float | None = None,
    cache: str | None = None,
) -> Data | SampledData:
    """Reads a task of GLUE (Wang et al., ICLR 2019, arXiv 1804.07461) from its folder in ``root``.

    The published test sets have no labels: dev.tsv is the test split (of mnli that of matched
    genres, or with ``mismatched`` the other), and ``validation`` samples are held out of train.
    Class names are numbered by the alphabet; scores of stsb, from 0 to 5, are to be predicted.
    Lines of other than the header's number of cells, which qqp has some of, are left out and
    counted in the log. All else is said by ``Sentences``. Raises UserError for a folder that is
    not there, and for classes that are not the task's.
    """
    layout = _format(task, num_classes, mismatched=mismatched)
    folder = from_home(root) / layout.folder
    if not folder.is_dir():
        raise UserError(
            f"{folder} is no folder: it holds {task} of GLUE, train.tsv and {layout.test}. Nothing "
            "is downloaded in a run: `python scripts/fetch_data.py glue --root data` fetches it "
            "where there is internet; copy the folder, and give dataset.root=<data>/glue"
        )
    files = {"train": folder / "train.tsv", "test": folder / layout.test}
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

    def read() -> dict[str, list[Labelled]]:
        return {split: _rows(path, layout) for split, path in files.items()}

    return made_by.of(read, lambda: [task, contents(files)])


def _format(task: str, num_classes: int | None, *, mismatched: bool) -> Format:
    """Finds how a task's files are laid out; raises UserError where the config does not fit."""
    if task not in FORMATS:
        raise UserError(f"dataset.task={task}: {nearest(str(task), FORMATS)}")
    layout = FORMATS[task]
    if num_classes != layout.num_classes:
        told = "null" if layout.num_classes is None else str(layout.num_classes)
        what = "scores" if layout.num_classes is None else f"{told} classes"
        raise UserError(
            f"dataset.num_classes={'null' if num_classes is None else num_classes}, but the labels "
            f"of dataset.task={task} are {what}: set dataset.num_classes={told} "
            f"objective={layout.objective}"
        )
    if not mismatched:
        return layout
    if "_matched" not in layout.test:
        raise UserError(
            f"dataset.mismatched=true, but dataset.task={task} has one test split, {layout.test}: "
            "leave it out, or choose dataset.task=mnli"
        )
    return replace(layout, test=layout.test.replace("_matched", "_mismatched"))


def _rows(path: Path, layout: Format) -> list[Labelled]:
    lines = tabbed(decoded(path))
    names = list(layout.header) or next(lines, (0, [""]))[1]
    for column in (*layout.texts, layout.label):
        if column not in names:
            raise UserError(
                f"{path} has no column {column!r}, only {', '.join(map(repr, names))}: give the "
                "files of GLUE as they are published"
            )
    columns = [names.index(column) for column in (*layout.texts, layout.label)]
    found, num_broken = [], 0
    for number, cells in lines:
        if len(cells) != len(names):
            num_broken += 1
            continue
        *parts, label = (cells[column] for column in columns)
        found.append(Labelled(tuple(parts), label.strip(), f"{path}, line {number}"))
    if not found:
        raise UserError(f"{path} holds no sample")
    if num_broken > BROKEN * (num_broken + len(found)):
        raise UserError(
            f"{path}: {num_broken} of {num_broken + len(found)} lines have not the {len(names)} "
            f"cells that there are columns ({', '.join(names)}): give the file as it is published"
        )
    if num_broken:
        _log.warning("%s: %d lines are broken and left out", path, num_broken)
    return found
