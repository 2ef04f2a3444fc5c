"""The objective of tagging words, measured by words or by the spans that their tags make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lth_runner.problem.objective.cross_entropy import (
    check_class_numbers,
    check_several,
    zero_of_none,
)
from lth_runner.problem.objective.objective import (
    check_is_tensor,
    in_float64,
    mean_loss,
    mean_of_classes,
    sample_ratios,
)
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.ignored import IGNORED
from lth_runner.values.measure import ACCURACY, LOSS, Measure
from lth_runner.values.tree import Tree, describe

NEEDED = ("tag", "kind", "opens", "closes")
PLAIN = 3  # totals of words: right ones, the loss, how many there are
HEADLINES = {
    "span_f1": (Measure("span_f1", unit="%", scale=100), ACCURACY, LOSS),
    "accuracy": (ACCURACY, LOSS),
}


@dataclass(frozen=True)
class Tagging:
    """Minimises the mean of -log softmax(outputs)[tag] over words, the tags on the last axis.

    ``outputs`` are [sentences, length, tags], ``targets`` those of ``Tags``: a word counts once,
    at its first token. Measures: ``span_f1``, 2 TP / (2 TP + FP + FN) of the spans of all sentences
    together, one found where its first word, its last and its type are right, 0 where there are
    none; ``accuracy``, the share of words whose largest output is their tag's; and ``loss`` in nats
    a word. ``headline=accuracy`` leaves the spans out, for tags that make none. The spans of tags
    are those of conlleval (Tjong Kim Sang and Buchholz, CoNLL 2000): I- begins one where none of
    its type goes on. Raises UserError for another headline.
    """

    label_smoothing: float = 0.0
    headline: Literal["span_f1", "accuracy"] = "span_f1"

    def __post_init__(self) -> None:
        if self.headline not in HEADLINES:
            raise UserError(f"objective.headline: {nearest(str(self.headline), HEADLINES)}")

    @property
    def measures(self) -> tuple[Measure, ...]:
        return HEADLINES[self.headline]

    def chance(self, num_classes: int | None) -> Mapping[str, float]:
        """Guesses one of the tags; what spans that makes depends on the sentences."""
        return {"accuracy": 1 / num_classes} if num_classes else {}

    def loss(self, outputs: Tensor, targets: Tree) -> Tensor:
        tags = _named(targets)["tag"].flatten()
        flat = outputs.flatten(0, 1)
        return zero_of_none(F.cross_entropy(flat, tags, label_smoothing=self.label_smoothing), tags)

    def weight(self, targets: Tree) -> float:
        return float((_named(targets)["tag"] != IGNORED).sum())

    def totals(self, outputs: Tensor, targets: Tree) -> Tensor:
        return self.totals_by_sample(outputs, targets).sum(1)

    def totals_by_sample(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Computes what each sentence adds to ``totals``, of words and then of spans."""
        named = _named(targets)
        tags, predicted = named["tag"], outputs.argmax(2)
        losses = F.cross_entropy(outputs.flatten(0, 1), tags.flatten(), reduction="none")
        parts = [predicted == tags, losses.view(tags.shape), tags != IGNORED]
        words = torch.stack([in_float64(part).sum(1) for part in parts])
        if self.headline == "accuracy":
            return words
        return torch.cat([words, in_float64(span_counts(predicted, named))])

    def averaged(self, outputs: Tensor) -> Tensor:
        """Takes the mean of the networks' probabilities of each word's tags."""
        return mean_of_classes(outputs, -1)

    def sample_parts(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Counts each sentence's 2 TP and 2 TP + FP + FN of spans, or its right words and all."""
        found = self.totals_by_sample(outputs, targets)
        if self.headline == "accuracy":
            return found[[0, 2]]
        hits, predicted, true = found[PLAIN:]
        return torch.stack([2 * hits, predicted + true])

    def sample_values(self, parts: Tensor, totals: Tensor) -> Tensor:
        """Computes what each sentence adds to the headline."""
        return sample_ratios(parts) if bool(parts[1].any()) else torch.zeros_like(parts[1])

    def values(self, totals: Tensor) -> dict[str, float]:
        right, summed, count = totals[:PLAIN].tolist()
        plain = {"accuracy": mean_loss(right, count), "loss": mean_loss(summed, count)}
        if self.headline == "accuracy":
            return plain
        hits, predicted, true = totals[PLAIN:].tolist()
        return {"span_f1": 2 * hits / (predicted + true) if predicted + true else 0.0, **plain}

    def smoothed(self, amount: float) -> Tagging:
        """Returns the same with uniform targets mixed in, for training alone."""
        return replace(self, label_smoothing=amount)

    def check(self, outputs: Any, targets: Tree, num_classes: int | None) -> None:
        """Raises UserError for targets that are no tags, and answers that are not one a token."""
        check_is_tensor(outputs)
        if isinstance(targets, Tensor) or not set(NEEDED) <= set(targets):
            raise UserError(
                f"objective=tagging needs sentences whose words are tagged, not "
                f"{describe(targets)}: choose dataset=tagged, or another objective"
            )
        tags, kinds = targets["tag"], targets["kind"]
        wanted = (*tags.shape[1:], kinds.shape[1])
        if tuple(outputs.shape[1:]) != wanted:
            raise UserError(
                f"the model answers with shape {tuple(outputs.shape[1:])} for one input, but "
                f"objective=tagging needs {wanted}: a number for each of the {kinds.shape[1]} tags "
                "at every token (model.task=token_classification)"
            )
        check_several(kinds.shape[1], "tags")
        check_class_numbers(tags, kinds.shape[1])
        others = int((kinds[0] < 0).sum())
        if self.headline == "span_f1" and others:
            raise UserError(
                "objective.headline=span_f1 goes by spans, tagged O, B-TYPE and I-TYPE (E-TYPE and "
                f"S-TYPE too), and {others} of {kinds.shape[1]} tags are none of these: choose "
                "objective.headline=accuracy, which is for parts of speech, or another "
                "dataset.tag_column"
            )


def span_counts(predicted: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
    """Counts true positives, predictions and labels among each sentence's spans.

    ``predicted`` are tag numbers [sentences, length], of which those at words count. Returns int64
    [3, sentences].
    """
    true = targets["tag"]
    is_word = true != IGNORED
    order = (~is_word).int().argsort(dim=1, stable=True)  # words first, as they stand
    words = is_word.gather(1, order)
    ends, begins, kinds = _spans(predicted.gather(1, order), words, targets)
    true_ends, true_begins, true_kinds = _spans(true.gather(1, order), words, targets)
    found = ends & true_ends & (begins == true_begins) & (kinds == true_kinds)
    return torch.stack([part.sum(1) for part in (found, ends, true_ends)])


def _spans(
    tags: Tensor, words: Tensor, targets: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Finds where spans end, where the one of each word began, and its type, of words side by side.

    A span begins where the tag says so, behind one that has ended, and where the type is another
    than before; it ends where its tag says so, before one that begins, and before another type.
    """
    number = torch.where(words, tags, 0)
    kinds, opens, closes = (targets[name].gather(1, number) for name in NEEDED[1:])
    kinds, opens, closes = torch.where(words, kinds, 0), opens & words, closes & words
    before, after = F.pad(kinds, (1, 0))[:, :-1], F.pad(kinds, (0, 1))[:, 1:]
    inside = kinds > 0
    starts = inside & (opens | F.pad(closes, (1, 0))[:, :-1] | (kinds != before))
    ends = inside & (closes | F.pad(opens, (0, 1))[:, 1:] | (kinds != after))
    places = torch.arange(tags.shape[1], device=tags.device)
    return ends, torch.where(starts, places, -1).cummax(1).values, kinds


def _named(targets: Tree) -> Mapping[str, Tensor]:
    assert not isinstance(targets, Tensor)
    return targets
