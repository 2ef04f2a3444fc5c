"""The objective of answering a question by a span of a passage."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lth_runner.problem.objective.objective import check_is_tensor, mean_loss
from lth_runner.values.errors import UserError
from lth_runner.values.measure import LOSS, Measure
from lth_runner.values.tree import Tree, describe

NEEDED = ("start", "end", "question", "length", "begins", "stops", "text", "answers")
LEAST = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class Span:
    """Minimises the mean of -log softmax over places of an answer's start and of its end.

    ``outputs`` are [windows, length, 2], ``targets`` those of ``Passages``; padding takes no part.
    The answer to a question is the span of at most ``longest`` tokens of the passage with the
    largest sum of outputs, over all its windows. Measures, of the texts without case, punctuation
    and articles: ``f1`` of their words, the mean over questions of the best of the accepted
    answers; ``exact_match``; and ``loss`` in nats, by window. Rajpurkar et al., EMNLP 2016, arXiv
    1606.05250, and its evaluation script of v1.1.
    """

    longest: int = 30

    def __post_init__(self) -> None:
        if isinstance(self.longest, bool) or self.longest < 1:
            raise UserError(
                f"objective.longest={self.longest}: give at least 1, an answer's tokens"
            )

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (
            Measure("f1", unit="%", scale=100),
            Measure("exact_match", unit="%", scale=100),
            LOSS,
        )

    def chance(self, num_classes: int | None) -> Mapping[str, float]:
        """Leaves out what depends on passages and answers."""
        return {}

    def loss(self, outputs: Tensor, targets: Tree) -> Tensor:
        return F.cross_entropy(*_places(outputs, targets))

    def weight(self, targets: Tree) -> float:
        return float(len(_named(targets)["start"]))

    def totals(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Computes the totals of a whole split, which do not add up: see ``whole_totals``."""
        return self.whole_totals(self.sample_parts(outputs, targets))

    def sample_parts(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Finds each window's best span.

        Its question's number, its score, its exact match and F1, and the window's loss.
        """
        named = {name: value.cpu() for name, value in _named(targets).items()}
        outputs = outputs.float().cpu()
        losses = F.cross_entropy(*_places(outputs, named), reduction="none").mean(1)
        scores, starts, ends = _best_spans(outputs, named["begins"] >= 0, self.longest)
        matches = []
        for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            begin, stop = int(named["begins"][row, start]), int(named["stops"][row, end])
            said = _text(named["text"][row, max(begin, 0) : max(stop, 0)])
            matches.append(best_match(said, _answers(named["answers"][row])))
        exact, f1 = torch.tensor(matches, dtype=torch.float64).reshape(-1, 2).t()
        numbers = named["question"].double()
        return torch.stack([numbers, scores.double(), exact, f1, losses.double()])

    def whole_totals(self, parts: Tensor) -> Tensor:
        """Counts questions and windows, and sums exact matches, F1 and losses."""
        exact, f1 = _by_question(parts)
        count = exact.new_tensor([len(exact), parts.shape[1]])
        return torch.cat([count, torch.stack([exact.sum(), f1.sum(), parts[4].sum()])])

    def sample_values(self, parts: Tensor, totals: Tensor) -> Tensor:
        """Gives the F1 of each question: its windows are one sample."""
        return _by_question(parts)[1]

    def values(self, totals: Tensor) -> dict[str, float]:
        questions, windows, exact, f1, summed = totals.tolist()
        return {
            "f1": mean_loss(f1, questions),
            "exact_match": mean_loss(exact, questions),
            "loss": mean_loss(summed, windows),
        }

    def check(self, outputs: Any, targets: Tree, num_classes: int | None) -> None:
        """Raises UserError for targets that are no spans, and answers that are not two a token."""
        check_is_tensor(outputs)
        if isinstance(targets, Tensor) or not set(NEEDED) <= set(targets):
            raise UserError(
                f"objective=span needs questions with passages, not {describe(targets)}: choose "
                "dataset=squad, or another objective"
            )
        if outputs.ndim != 3 or outputs.shape[2] != 2:
            raise UserError(
                f"the model answers with shape {tuple(outputs.shape[1:])} for one input, but "
                "objective=span needs (length, 2): where an answer starts and where it ends "
                "(model.task=question_answering)"
            )


def best_match(said: str, answers: Sequence[str]) -> tuple[float, float]:
    """Computes the exact match and the F1 of words, each the best of several answers."""
    exact, f1 = 0.0, 0.0
    words = _words(said)
    for answer in map(_words, answers):
        exact = max(exact, float(words == answer))
        shared = sum((Counter(words) & Counter(answer)).values())
        if shared:
            f1 = max(f1, 2 * shared / (len(words) + len(answer)))
    return exact, f1


def _words(text: str) -> list[str]:
    """Lists the words without case, punctuation and articles."""
    plain = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def _named(targets: Tree) -> Mapping[str, Tensor]:
    assert not isinstance(targets, Tensor)
    return targets


def _places(outputs: Tensor, targets: Tree) -> tuple[Tensor, Tensor]:
    """Takes places for classes, [windows, length, 2], those of padding impossible."""
    named = _named(targets)
    offsets = torch.arange(outputs.shape[1], device=outputs.device)
    padding = offsets >= named["length"][:, None]
    least = max(LEAST, torch.finfo(outputs.dtype).min)
    possible = outputs.masked_fill(padding.unsqueeze(2), least)
    return possible, torch.stack([named["start"], named["end"]], 1)


def _best_spans(outputs: Tensor, of_passage: Tensor, longest: int) -> tuple[Tensor, Tensor, Tensor]:
    """Finds the largest start + end with start <= end < start + longest, both of the passage."""
    starts, ends = outputs.masked_fill(~of_passage.unsqueeze(2), -torch.inf).unbind(2)
    length = outputs.shape[1]
    best = starts.new_full((len(starts),), -torch.inf)
    first = torch.zeros(len(starts), dtype=torch.int64)
    last = first.clone()
    for more in range(min(longest, length)):
        found, place = (starts[:, : length - more] + ends[:, more:]).max(1)
        better = found > best
        best = torch.where(better, found, best)
        first = torch.where(better, place, first)
        last = torch.where(better, place + more, last)
    return best, first, last


def _by_question(parts: Tensor) -> tuple[Tensor, Tensor]:
    """Takes exact match and F1 of each question from the window with the largest score."""
    order = parts[1].argsort(descending=True, stable=True)
    numbers = parts[0][order]
    by_number = numbers.argsort(stable=True)  # of one question the best first
    sorted_numbers = numbers[by_number]
    is_first = torch.ones_like(sorted_numbers, dtype=torch.bool)
    is_first[1:] = sorted_numbers[1:] != sorted_numbers[:-1]
    chosen = order[by_number[is_first]]
    return parts[2][chosen], parts[3][chosen]


def _text(codes: Tensor) -> str:
    return "".join(map(chr, codes[codes >= 0].tolist()))


def _answers(codes: Tensor) -> list[str]:
    """Parts accepted answers, -1 after each."""
    found = "".join(chr(code) if code >= 0 else "\0" for code in codes.tolist())
    return [answer for answer in found.split("\0") if answer]
