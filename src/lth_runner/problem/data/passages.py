"""Questions with windows of the passage that holds their answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lth_runner.problem.data.sequences import Sequences
from lth_runner.problem.data.token_table import Table, fingerprint_of
from lth_runner.values import identity
from lth_runner.values.tree import Batch

NONE = -1  # the place of a token that is not of the passage, and what fills up texts


@dataclass(frozen=True, eq=False)
class Passages:
    """One split of windows, each a question and some of its passage; see ``Sequences`` for inputs.

    Targets by name: ``start`` and ``end``, the answer's first and last token, 0 where the window
    has not the whole of it; ``question``, its number; ``length``, how many tokens are no padding;
    ``begins`` and ``stops``, [windows, length], where in ``text`` each token of the passage begins
    and stops; ``text`` and ``answers``, as code points: of the window, and of all answers that are
    accepted, -1 after each.
    """

    table: Table
    length: int

    @cached_property
    def _sequences(self) -> Sequences:
        return Sequences(self.table, self.length)

    @cached_property
    def fingerprint(self) -> str:
        return identity.digest(["passages", self.length, fingerprint_of(self.table)])

    def extremes(self) -> Tensor:
        """Numbers the longest window, and the one with the largest token number."""
        return self._sequences.extremes()

    def __len__(self) -> int:
        return len(self._sequences)

    def take(self, index: Tensor, draw: torch.Generator) -> Batch:
        inputs, questions = self._sequences.take(index, draw)
        assert isinstance(questions, Tensor)
        lengths = self._sequences.lengths[index]
        width = inputs["input_ids"].shape[1]  # type: ignore[index]
        first = self.table["ends"][index] - lengths
        begins, stops = (
            _rows(self.table[name], first, lengths, width).long() for name in ("begins", "stops")
        )
        inside = begins != NONE
        low = torch.where(inside, begins, torch.iinfo(torch.int64).max).amin(1, keepdim=True)
        high = torch.where(inside, stops, 0).amax(1)
        passage = self.table["passage"][index]
        text_begin = _before(self.table["text_ends"], passage) + low[:, 0]
        answer_begin = _before(self.table["answer_ends"], questions)
        answer_length = self.table["answer_ends"][questions] - answer_begin
        return inputs, {
            "start": self.table["start"][index],
            "end": self.table["end"][index],
            "question": questions,
            "length": lengths,
            "begins": torch.where(inside, begins - low, NONE),
            "stops": torch.where(inside, stops - low, NONE),
            "text": _rows(self.table["text"], text_begin, high - low[:, 0]),
            "answers": _rows(self.table["answers"], answer_begin, answer_length),
        }


def _before(ends: Tensor, index: Tensor) -> Tensor:
    return torch.where(index > 0, ends[(index - 1).clamp(min=0)], 0)


def _rows(values: Tensor, begins: Tensor, counts: Tensor, width: int | None = None) -> Tensor:
    """Cuts pieces out of a row of values, filled up to one width."""
    offsets = torch.arange(int(counts.max()) if width is None else width)
    inside = offsets < counts[:, None]
    return torch.where(inside, values[torch.where(inside, begins[:, None] + offsets, 0)], NONE)
