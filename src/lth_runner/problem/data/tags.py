"""Sentences whose words are tagged, and what the names of tags say of spans."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lth_runner.problem.data.sequences import Sequences
from lth_runner.problem.data.token_table import Table, fingerprint_of
from lth_runner.values import identity
from lth_runner.values.ignored import IGNORED
from lth_runner.values.tree import Batch

SPAN = re.compile(r"([BIES])(?:-(.+))?")  # begins, inside, ends, a span of one word
OUTSIDE, NO_SPAN = 0, -1  # kinds of tags that are of no span: O, and what is no such tag at all


@dataclass(frozen=True, eq=False)
class Tags:
    """One split of sentences whose words are tagged; see ``Sequences`` for inputs.

    ``table`` has ``labels`` too, int16, of all tokens one after the other. Targets by name:
    ``tag``, int64 [sentences, length], the number in ``names`` of a word's tag at its first token,
    -100 at all others; and what each tag says of spans, [sentences, tags] (see ``span_facts``).
    """

    table: Table
    length: int
    names: tuple[str, ...]

    @cached_property
    def _sequences(self) -> Sequences:
        return Sequences({**self.table, "targets": self.table["ends"]}, self.length)

    @cached_property
    def _facts(self) -> dict[str, Tensor]:
        return span_facts(self.names)

    @cached_property
    def fingerprint(self) -> str:
        return identity.digest(["tags", self.length, list(self.names), fingerprint_of(self.table)])

    def extremes(self) -> Tensor:
        """Numbers the longest sentence, and the one with the largest token number."""
        return self._sequences.extremes()

    def __len__(self) -> int:
        return len(self._sequences)

    def take(self, index: Tensor, draw: torch.Generator) -> Batch:
        inputs, ends = self._sequences.take(index, draw)
        assert isinstance(ends, Tensor)
        assert not isinstance(inputs, Tensor)
        inside = inputs["attention_mask"].bool()
        places = (ends - self._sequences.lengths[index])[:, None] + torch.arange(inside.shape[1])
        labels = self.table["labels"][torch.where(inside, places, 0)].long()
        tags = {"tag": torch.where(inside, labels, IGNORED)}
        return inputs, tags | {
            name: fact.repeat(len(index), 1) for name, fact in self._facts.items()
        }


def span_facts(names: Sequence[str]) -> dict[str, Tensor]:
    """Says of each tag what it is for the spans of a sentence.

    ``kind``: of what type its span is, from 1 by the alphabet, 0 of O, and -1 of a tag that is
    none of O, B-type, I-type, E-type, S-type (or the letter alone). ``opens``: a span begins here
    whatever stands before (B, S); ``closes``: one ends here whatever comes (E, S).
    """
    found = [SPAN.fullmatch(name) for name in names]
    types = sorted({one[2] or "" for one in found if one})
    kinds = [
        types.index(one[2] or "") + 1 if one else OUTSIDE if name == "O" else NO_SPAN
        for name, one in zip(names, found, strict=True)
    ]
    return {
        "kind": torch.tensor(kinds),
        "opens": torch.tensor([one is not None and one[1] in "BS" for one in found]),
        "closes": torch.tensor([one is not None and one[1] in "ES" for one in found]),
    }
