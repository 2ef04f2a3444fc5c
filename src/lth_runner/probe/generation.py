"""What a language model writes behind a prompt, held against the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lth_runner.probe.reference import first_tested
from lth_runner.problem.objective import NextToken
from lth_runner.problem.task import Task
from lth_runner.problem.token_inputs import MASK, TOKENS, token_numbers
from lth_runner.search.ticket import Past, Trained
from lth_runner.values import tree
from lth_runner.values.errors import UserError
from lth_runner.values.ignored import IGNORED
from lth_runner.values.state import State
from lth_runner.values.tree import Batch, Tree


@dataclass(frozen=True)
class Generation:
    """Writes on greedily from test prompts: how often that is the answer, and whether it stops.

    A prompt is what stands before a sample's first target, the answer its targets to the last,
    which is the token that ends it. ``generated_exact``: the share of samples that are the answer
    and then end; ``generated_first_line``: those whose text up to ``newline`` or the end is the
    answer's; ``generated_stops``: those that end at all within ``more`` tokens beyond the longest
    answer. A model that answers and writes on has all of the second and none of the first.
    ``start``: the same of the weights before training, ``before_generated_...``, in round 0.
    ``num_samples``: the first ones of the test split, of which those without a target are left out.
    """

    newline: int | None = None
    more: int = 8
    num_samples: int = 200
    start: bool = True

    def __post_init__(self) -> None:
        for name, least in (("more", 0), ("num_samples", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(
                    f"probe.generation.{name}={value!r}: give a whole number, at least {least}"
                )
        line = self.newline
        if line is not None and (isinstance(line, bool) or not isinstance(line, int) or line < 0):
            raise UserError(
                f"probe.generation.newline={line!r}: give a token's number, from 0 on, or null"
            )

    def check(self, task: Task) -> None:
        """Raises UserError for another objective than the next token's, and for no prompts."""
        if not isinstance(task.objective, NextToken):
            raise UserError(
                "probe=generation writes token after token: it needs objective=next_token"
            )
        first = list(first_tested(task, self.num_samples))
        if any(token_numbers(inputs) is None for inputs, _ in first):
            raise UserError(
                "probe=generation needs inputs of one tensor of token numbers, [samples, length] "
                f"(by name: {TOKENS})"
            )
        if not any(bool(_first_targets(targets).any()) for _, targets in first):
            raise UserError(
                "probe=generation needs prompts: tokens before the first target, whose own "
                f"targets are {IGNORED} (dataset=cipher_answers has such)"
            )

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, float]]:
        if self.start and not past:
            for name, value in self._measured(task, trained.ticket.masked).items():
                yield f"before_{name}", value
        yield from self._measured(task, trained.weights).items()

    def _measured(self, task: Task, weights: State) -> dict[str, float]:
        parts = [_with_answer(part) for part in first_tested(task, self.num_samples)]
        answers = [answer for _, targets in parts for answer in _answers(targets)]
        num = max(map(len, answers)) + self.more
        ends = {answer[-1] for answer in answers}
        texts = [
            text
            for inputs, targets in parts
            for text in written(task, weights, inputs, _first_targets(targets), num, ends)
        ]
        pairs = list(zip(texts, answers, strict=True))
        found = {
            "generated_exact": sum(text == answer for text, answer in pairs),
            "generated_stops": sum(bool(text) and text[-1] in ends for text, _ in pairs),
        }
        if self.newline is not None:
            stops = ends | {self.newline}
            found["generated_first_line"] = sum(
                _line(text, stops) == _line(answer, stops) for text, answer in pairs
            )
        return {name: value / len(pairs) for name, value in found.items()}


def written(
    task: Task, weights: State, inputs: Tree, begins: Tensor, num: int, ends: set[int]
) -> list[list[int]]:
    """Writes up to ``num`` tokens from each sample's place on, the likeliest, to one of ``ends``.

    What stood behind the place is written over before it is read: answers are not seen. It ends at
    the network's length too.
    """
    placed = task.placed(weights)
    tokens = token_numbers(inputs)
    assert tokens is not None
    tokens, rows = tokens.clone(), torch.arange(len(tokens))
    for row, begin in enumerate(begins.tolist()):
        tokens[row, begin + 1 :] = tokens[row, begin]
    texts: list[list[int]] = [[] for _ in rows]
    with torch.no_grad():
        for step in range(num):
            places = begins + step
            open_rows = [
                row for row, text in enumerate(texts)
                if not (text and text[-1] in ends) and int(places[row]) < tokens.shape[1]
            ]  # fmt: skip
            if not open_rows:
                break
            index = torch.tensor(open_rows)
            logits = task.outputs(placed, _with_tokens(inputs, tokens, index))
            best = logits[torch.arange(len(index)), places[index]].argmax(1).cpu()
            for row, token in zip(open_rows, best.tolist(), strict=True):
                texts[row].append(token)
                if int(places[row]) + 1 < tokens.shape[1]:
                    tokens[row, int(places[row]) + 1] = token
    return texts


def _with_tokens(inputs: Tree, tokens: Tensor, index: Tensor) -> Tree:
    """Puts tokens in the place of those of some samples; all of them are real."""
    if not isinstance(inputs, Mapping):
        return tokens[index].to(inputs.device)
    found = dict(tree.rows(inputs, index))
    like = found[TOKENS]
    found[TOKENS] = tokens[index].to(like.device)
    if MASK in found:
        found[MASK] = torch.ones_like(found[MASK])
    return found


def _first_targets(targets: Tree) -> Tensor:
    """Finds the place of each sample's first target."""
    assert isinstance(targets, Tensor)
    return (targets != IGNORED).int().argmax(1).cpu()


def _with_answer(batch: Batch) -> Batch:
    """Leaves out the samples that have no target."""
    inputs, targets = batch
    assert isinstance(targets, Tensor)
    index = (targets != IGNORED).any(1).nonzero()[:, 0]
    return tree.rows(inputs, index), tree.rows(targets, index)


def _answers(targets: Tree) -> list[list[int]]:
    assert isinstance(targets, Tensor)
    return [row[row != IGNORED].tolist() for row in targets.cpu()]


def _line(text: list[int], stops: set[int]) -> list[int]:
    for place, token in enumerate(text):
        if token in stops:
            return text[:place]
    return text
