"""Labelled sentences, or pairs of them, as the splits of a problem."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from lth_runner.problem.data.sampled import SampledData
from lth_runner.problem.data.samples import Samples, Subset
from lth_runner.problem.data.sequences import Sequences
from lth_runner.problem.data.splits import Split, hold_out, keep_subset, numbers_kept
from lth_runner.problem.data.tensors import Data
from lth_runner.problem.data.token_table import Table, cached_table, names_of, table_of
from lth_runner.problem.data.tokenizers import Encode, Knowing, Tokenizer, Words, special_of
from lth_runner.values import identity
from lth_runner.values.errors import UserError, nearest

PADS = ("length", "batch")


@dataclass(frozen=True, slots=True)
class Labelled:
    """One row: its texts, its label, and where it stands."""

    parts: tuple[str, ...]
    label: str
    where: str


Rows = Mapping[str, Sequence[Labelled]]  # by split: train, test, and maybe val


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """Makes data of labelled rows, by a tokenizer that learns from the training rows alone.

    Samples are ``input_ids`` and ``attention_mask``, and ``token_type_ids`` where the tokenizer
    tells the two texts of a pair apart and ``token_types`` leaves them. ``pad`` is ``length``: a
    table in memory, all of ``length`` tokens; or ``batch``: tokens are kept in a file of the
    folder ``cache`` and each batch is as long as its longest sample. Classes are numbers from 0, or
    names, numbered by the alphabet; ``num_classes=None``: labels are numbers to be predicted,
    float32 [samples, 1]. Raises UserError, naming file and line, for what does not fit.
    """

    name: str
    length: int
    vocabulary: int
    num_classes: int | None
    tokenizer: Tokenizer | None = None
    pad: Literal["length", "batch"] = "length"
    token_types: bool = True
    cache: str | None = None
    validation: float = 0.1
    split_seed: int = 0
    subset: float | None = None

    def __post_init__(self) -> None:
        check_length(self.length)
        if self.pad not in PADS:
            raise UserError(f"dataset.pad={self.pad}: {nearest(str(self.pad), PADS)}")

    def of(self, read: Callable[[], Rows], made_of: Callable[[], Any]) -> Data | SampledData:
        """Makes the data of what ``read`` gives; ``made_of`` says all that this goes by."""
        if self.pad == "length":
            return self._in_memory(*self._tables(read()))
        kept = [f.name for f in fields(self) if f.name in ("length", "vocabulary", "num_classes")]
        how = [getattr(self, name) for name in kept] + [self.token_types]
        described = [made_of(), how, identity.describe(self._tokenizer), "names"]

        def encoded() -> Table:
            tables, names = self._tables(read())
            return {**joined(tables), "names": table_of(names)}

        table = dict(cached_table(described, encoded, self.cache))
        names = names_of(table.pop("names"))
        return self._by_batch(parted(table), names)

    @property
    def _tokenizer(self) -> Tokenizer:
        return Words(self.vocabulary) if self.tokenizer is None else self.tokenizer

    def _tables(self, read: Rows) -> tuple[dict[str, Table], tuple[str, ...]]:
        """Encodes the splits, and names the classes where they have names."""
        encode = self._tokenizer.encoder(part for row in read["train"] for part in row.parts)
        check_vocabulary(encode, self.vocabulary)
        classes = None if self.num_classes is None else _classes(read["train"], self.num_classes)
        found = {
            split: {
                **_encoded(rows, encode, self.length, self.vocabulary),
                "targets": _targets(rows, classes),
            }
            for split, rows in read.items()
        }
        told_apart = any(bool(table["segments"].any()) for table in found.values())
        if not (told_apart and self.token_types):
            for table in found.values():
                del table["segments"]
        named = () if classes is None or all(map(_is_number, classes)) else tuple(classes)
        return dict(found), named

    def _in_memory(self, tables: Mapping[str, Table], names: tuple[str, ...]) -> Data:
        splits = {split: self._padded(table) for split, table in tables.items()}
        if "val" in splits:
            kept, held = splits["train"], splits["val"]
        else:
            kept, held = hold_out(splits["train"], self.validation, seed=self.split_seed)
        return Data(
            train=keep_subset(kept, self.subset, seed=self.split_seed),
            val=held,
            test=splits["test"],
            num_classes=self.num_classes,
            class_names=names,
            name=self.name,
        )

    def _padded(self, table: Table) -> Split:
        """Pads all samples to ``length``."""
        samples = Sequences(table, self.length)
        offsets = torch.arange(self.length)
        inside = offsets < samples.lengths[:, None]
        shape = inside.shape
        tokens = table["padding"].expand(shape).clone()
        tokens[inside] = table["tokens"].long()
        inputs = {"input_ids": tokens, "attention_mask": inside.long()}
        if "segments" in table:
            inputs["token_type_ids"] = torch.zeros(shape, dtype=torch.int64)
            inputs["token_type_ids"][inside] = table["segments"].long()
        return inputs, table["targets"]

    def _by_batch(self, tables: Mapping[str, Table], names: tuple[str, ...]) -> SampledData:
        samples = {split: Sequences(table, self.length) for split, table in tables.items()}
        if "val" in samples:
            found = SampledData(train=samples["train"], val=samples["val"], test=samples["test"])
        else:
            found = SampledData.held_out(
                samples["train"],
                samples["test"],
                validation=self.validation,
                split_seed=self.split_seed,
            )
        some = self.subset
        train = found.train if some is None else some_of(found.train, some, self.split_seed)
        num_classes = self.num_classes
        return replace(
            found, train=train, num_classes=num_classes, class_names=names, name=self.name
        )


def check_length(length: int) -> None:
    """Raises UserError for a number of tokens that no sample has."""
    if isinstance(length, bool) or length < 1:
        raise UserError(f"dataset.length={length} must be at least 1: the tokens of one sample")


def check_vocabulary(encode: Encode, vocabulary: int) -> None:
    """Raises UserError where a tokenizer's numbers are not those of ``vocabulary``.

    A few may be left over, as where a model's embedding is rounded up.
    """
    if not isinstance(encode, Knowing):
        return
    if not 0.9 * vocabulary <= encode.num_tokens <= vocabulary:
        raise UserError(
            f"dataset.vocabulary={vocabulary}, but the tokenizer has {encode.num_tokens} tokens: "
            f"set dataset.vocabulary={encode.num_tokens}, or give the tokenizer that belongs to "
            "the model (the tokenizer.json of its folder): to a pretrained network the numbers of "
            "another mean nothing"
        )


def _encoded(
    rows: Sequence[Labelled], encode: Encode, length: int, vocabulary: int
) -> dict[str, Tensor]:
    if len(rows[0].parts) == 2 and length < 3:
        raise UserError(f"dataset.length={length} has no room for two texts: give at least 3")
    tokens: list[int] = []
    segments: list[int] = []
    ends: list[int] = []
    for row in rows:
        if isinstance(encode, Knowing):
            numbers, kinds = encode.with_segments(row.parts, length)
        else:
            numbers = encode(row.parts, length)
            kinds = [0] * len(numbers)
        if not numbers:
            raise UserError(f"{row.where}: the tokenizer finds no token in {row.parts[0]!r}")
        if max(numbers) >= vocabulary:
            raise UserError(
                f"{row.where}: the tokenizer gives token {max(numbers)}, beyond "
                f"dataset.vocabulary={vocabulary}: set it to the tokenizer's own"
            )
        tokens += numbers
        segments += kinds
        ends.append(len(tokens))
    return {
        "tokens": torch.tensor(tokens, dtype=torch.int32),
        "segments": torch.tensor(segments, dtype=torch.uint8),
        "ends": torch.tensor(ends),
        "padding": torch.tensor(special_of(encode).padding),
    }


def joined(tables: Mapping[str, Table]) -> Table:
    """Puts the tables of splits into one, each name behind its split's."""
    return {f"{split}.{name}": v for split, table in tables.items() for name, v in table.items()}


def parted(table: Table) -> dict[str, Table]:
    """Takes apart what ``joined`` puts together."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in table.items():
        split, _, part = name.partition(".")
        found.setdefault(split, {})[part] = value
    return dict(found)


def some_of(samples: Samples, amount: float, seed: int) -> Samples:
    """Takes those that ``keep_subset`` takes."""
    return Subset(samples, numbers_kept(len(samples), amount, seed=seed))


def _classes(rows: Sequence[Labelled], num_classes: int) -> dict[str, int]:
    """The class number of each label of the training file."""
    labels = sorted({row.label for row in rows})
    where = rows[0].where.rpartition(",")[0]
    if all(map(_is_number, labels)):
        found = {label: int(label) for label in labels}
        least, known = min(found.values()), max(found.values()) + 1
        shown = f"class numbers {least} to {known - 1}"
        if least > 0 and known != num_classes:
            raise UserError(
                f"{where}: the config says num_classes={num_classes}, but the file has {shown}: "
                f"class numbers must start at 0: subtract {least} from each (or give names, which "
                "are numbered by the alphabet)"
            )
    else:
        found = {label: number for number, label in enumerate(labels)}
        known, shown = len(labels), f"{len(labels)} classes ({', '.join(labels[:10])})"
    if known != num_classes:
        raise UserError(
            f"{where}: the config says num_classes={num_classes}, but the file has {shown}: set "
            f"dataset.num_classes={known}, or null where the labels are numbers to be predicted"
        )
    return found


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdigit()


def _targets(rows: Sequence[Labelled], classes: Mapping[str, int] | None) -> Tensor:
    if classes is None:
        return torch.tensor([[_number(row)] for row in rows], dtype=torch.float32)
    for row in rows:
        if row.label not in classes:
            raise UserError(
                f"{row.where}: the class {row.label!r} is not in the training file: "
                f"{nearest(row.label, classes)}"
            )
    return torch.tensor([classes[row.label] for row in rows])


def _number(row: Labelled) -> float:
    try:
        value = float(row.label)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(
            f"{row.where}: the label {row.label!r} is no finite number: with num_classes=null "
            "labels are numbers to be predicted; set dataset.num_classes for classes"
        )
    return value
