"""SQuAD v1.1: questions about passages, whose answers are spans of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lth_runner.problem.data.passages import NONE, Passages
from lth_runner.problem.data.rows import decoded, whole
from lth_runner.problem.data.sampled import SampledData
from lth_runner.problem.data.sentences import check_vocabulary
from lth_runner.problem.data.splits import numbers_held_out
from lth_runner.problem.data.token_table import Table, cached_table
from lth_runner.problem.data.tokenizer_file import FileEncoder, TokenizerFile
from lth_runner.values import identity
from lth_runner.values.errors import UserError
from lth_runner.values.home import from_home
from lth_runner.values.json_files import loaded


def squad(
    *,
    root: str,
    length: int,
    vocabulary: int,
    tokenizer: TokenizerFile,
    stride: int = 128,
    train: str = "train-v1.1.json",
    test: str = "dev-v1.1.json",
    validation: float = 0.1,
    split_seed: int = 0,
    cache: str | None = None,
    name: str = "squad",
) -> SampledData:
    """Reads SQuAD v1.1 (Rajpurkar et al., EMNLP 2016, arXiv 1606.05250) from its two files.

    A sample is a question and a window of its passage, ``length`` tokens in all; windows of one
    passage share ``stride`` tokens. The development set is the test split, and ``validation``
    passages are held out of train, with all their questions. Of several answers the first is
    learned, and all are accepted in evaluation. Raises UserError, naming file and question, for
    what is no such file, and for a length that leaves a question no room.
    """
    folder = from_home(root)
    files = {"train": folder / train, "test": folder / test}
    for path in files.values():
        if not path.is_file():
            raise UserError(
                f"{path} is no file: nothing is downloaded in a run. `python scripts/fetch_data.py "
                "squad --root data` fetches it where there is internet; copy the folder, and give "
                "dataset.root=<data>/squad"
            )
    if not 0 <= stride < length:
        raise UserError(
            f"dataset.stride={stride}: windows of dataset.length={length} share fewer tokens"
        )
    sums = [hashlib.sha256(whole(path)).hexdigest() for path in files.values()]
    made_of = [sums, length, stride, vocabulary, validation, split_seed]

    def encoded() -> Table:
        encode = tokenizer.encoder(())
        check_vocabulary(encode, vocabulary)
        passages = {split: _read(path) for split, path in files.items()}
        kept, held = _held_out(passages["train"], validation, split_seed)
        found: dict[str, torch.Tensor] = {}
        for split, chosen in (("train", kept), ("val", held), ("test", passages["test"])):
            rows = _Windows(encode, length, stride)
            for passage in chosen:
                rows.add(passage)
            found |= {f"{split}.{key}": value for key, value in rows.table().items()}
        return found

    table = cached_table(["squad", made_of, identity.describe(tokenizer)], encoded, cache)
    splits = {
        split: Passages(_of(table, split), length)
        for split in ("train", "val", "test")
        if len(table[f"{split}.ends"])
    }
    return SampledData(
        train=splits["train"],
        val=splits.get("val"),
        test=splits["test"],
        name=name,
        evaluated=64,
    )


def _of(table: Table, split: str) -> Table:
    return {
        name.removeprefix(f"{split}."): value
        for name, value in table.items()
        if name.startswith(f"{split}.")
    }


@dataclass(frozen=True)
class _Question:
    text: str
    answers: tuple[str, ...]
    begin: int  # of the first answer, in characters of the passage
    where: str


@dataclass(frozen=True)
class _Passage:
    text: str
    questions: tuple[_Question, ...]


def _read(path: Path) -> list[_Passage]:
    try:
        found = [_passage(path, paragraph) for article in loaded(decoded(path))["data"]
                 for paragraph in article["paragraphs"]]  # fmt: skip
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(
            f"{path} is no file of SQuAD v1.1 ({type(error).__name__}: {error}): it has data, "
            "paragraphs, a context, qas, and answers to each with text and answer_start"
        ) from error
    if not any(passage.questions for passage in found):
        raise UserError(f"{path} holds no question")
    return found


def _passage(path: Path, paragraph: Any) -> _Passage:
    context, questions = str(paragraph["context"]), []
    for qa in paragraph["qas"]:
        where = f"{path}, question {qa.get('id')!r}"
        if not qa["answers"]:
            raise UserError(
                f"{where} has no answer, as in SQuAD v2, which is not read: take v1.1, or leave "
                "the question out"
            )
        first = qa["answers"][0]
        begin, text = int(first["answer_start"]), str(first["text"])
        if context[begin : begin + len(text)] != text:
            raise UserError(f"{where}: its passage has not {text!r} at character {begin}")
        answers = tuple(dict.fromkeys(str(answer["text"]) for answer in qa["answers"]))
        questions.append(_Question(str(qa["question"]).strip(), answers, begin, where))
    return _Passage(context, tuple(questions))


def _held_out(
    passages: Sequence[_Passage], amount: float, seed: int
) -> tuple[list[_Passage], list[_Passage]]:
    kept, held = numbers_held_out(len(passages), amount, seed=seed)
    return [passages[n] for n in kept.tolist()], [passages[n] for n in held.tolist()]


@dataclass
class _Windows:
    """Encodes passage after passage into the columns of a table."""

    encode: FileEncoder
    length: int
    stride: int
    tokens: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)
    rows: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    answers: list[list[int]] = field(default_factory=list)

    def add(self, passage: _Passage) -> None:
        """Encodes the questions of one passage."""
        for question in passage.questions:
            for window in self._encoded(question, passage.text):
                of_passage = [number == 1 for number in window.sequence_ids]
                places = list(zip(window.offsets, of_passage, strict=True))
                begins = [begin if of else NONE for (begin, _), of in places]
                stops = [stop if of else NONE for (_, stop), of in places]
                self.tokens += window.ids
                self.segments += window.type_ids
                self.begins += begins
                self.stops += stops
                start, end = _span(begins, stops, question)
                row = (len(self.tokens), len(self.answers), len(self.texts), start, end)
                self.rows.append(row)
            codes = [code for answer in question.answers for code in (*map(ord, answer), NONE)]
            self.answers.append(codes)
        self.texts.append(passage.text)

    def _encoded(self, question: _Question, passage: str) -> Iterator[Any]:
        library = self.encode.library
        try:
            library.enable_truncation(self.length, stride=self.stride, strategy="only_second")
            found = library.encode(question.text, passage)
        except Exception as error:  # the library raises nothing narrower
            raise UserError(
                f"{question.where} leaves no room for its passage in dataset.length={self.length} "
                f"with dataset.stride={self.stride} ({error}): give a larger length"
            ) from error
        yield from (found, *found.overflowing)

    def table(self) -> dict[str, torch.Tensor]:
        """Makes the tensors that ``Passages`` reads."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * 5
        ends, questions, passages, start, end = (
            torch.tensor(column, dtype=torch.int64) for column in columns
        )
        int32 = torch.int32
        texts = [code for text in self.texts for code in map(ord, text)]
        answers = [code for codes in self.answers for code in codes]
        return {
            "tokens": torch.tensor(self.tokens, dtype=int32),
            "segments": torch.tensor(self.segments, dtype=torch.uint8),
            "begins": torch.tensor(self.begins, dtype=int32),
            "stops": torch.tensor(self.stops, dtype=int32),
            "ends": ends,
            "targets": questions,
            "passage": passages,
            "start": start,
            "end": end,
            "text": torch.tensor(texts, dtype=int32),
            "text_ends": torch.tensor([len(t) for t in self.texts], dtype=torch.int64).cumsum(0),
            "answers": torch.tensor(answers, dtype=int32),
            "answer_ends": torch.tensor(
                [len(codes) for codes in self.answers], dtype=torch.int64
            ).cumsum(0),
            "padding": torch.tensor(self.encode.special.padding),
        }


def _span(begins: Sequence[int], stops: Sequence[int], question: _Question) -> tuple[int, int]:
    """Finds the tokens that the first answer begins and ends in; (0, 0) where one is not here."""
    first, last = question.begin, question.begin + len(question.answers[0]) - 1
    holds = [(begin <= first < stop, begin <= last < stop)
             for begin, stop in zip(begins, stops, strict=True)]  # fmt: skip
    starts = [place for place, (is_start, _) in enumerate(holds) if is_start]
    ends = [place for place, (_, is_end) in enumerate(holds) if is_end]
    return (starts[0], ends[-1]) if starts and ends else (0, 0)
