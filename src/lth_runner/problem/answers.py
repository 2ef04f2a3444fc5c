"""Running a network on inputs, and measuring what it answers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lth_runner.problem.norm_layers import is_norm
from lth_runner.problem.objective import BySample, Objective, OfTheWhole
from lth_runner.values.global_streams import all_seeded, drawn_between, positions
from lth_runner.values.memory import is_out_of_memory
from lth_runner.values.tree import Batch, Tree, length, split


def answer(module: nn.Module, inputs: Tree) -> Tensor:
    """Runs a network on its inputs, which are its arguments by name where they are a mapping."""
    found: Tensor = module(inputs) if isinstance(inputs, Tensor) else module(**inputs)
    return found


@contextmanager
def plain_attention() -> Iterator[None]:
    """Has torch's transformer layers compute step by step, as they do in training."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@torch.no_grad()
def evaluate(module: nn.Module, batches: Iterator[Batch], objective: Objective) -> dict[str, float]:
    """Measures a network in evaluation mode, with one transfer from its device at the end."""
    training = module.training
    module.eval()
    found = figures(answered(functools.partial(answer, module), batches), objective)
    module.train(training)
    return found


def answered(
    ask: Callable[[Tree], Tensor], batches: Iterable[Batch]
) -> Iterator[tuple[Tensor, Tree]]:
    """Goes through a split's answers, in single precision, beside their targets.

    A batch that does not fit into memory is asked for by halves, which is the same for whoever
    adds up over samples.
    """
    for inputs, targets in batches:
        num = length(inputs)
        try:
            outputs = ask(inputs).float()
        except (MemoryError, RuntimeError) as error:
            if num == 1 or not is_out_of_memory(error):
                raise
        else:
            yield outputs, targets
            continue
        half = (num + 1) // 2  # behind the error, which held what did not fit
        halves = zip(split(inputs, half), split(targets, half), strict=True)
        yield from answered(ask, halves)


def figures(answers: Iterable[tuple[Tensor, Tree]], objective: Objective) -> dict[str, float]:
    """Gives each figure of a split's answers, by name; empty where there are none."""
    tally = Tally(objective)
    for outputs, targets in answers:
        tally.add(outputs, targets)
    return tally.figures()


@dataclass(frozen=True)
class Tally:
    """Gathers what an objective makes of a split, batch after batch.

    ``by_sample``: the parts of every sample are kept too, where the objective has some.
    """

    objective: Objective
    by_sample: bool = field(default=False, kw_only=True)
    _totals: list[Tensor] = field(init=False, default_factory=list)
    _parts: list[Tensor] = field(init=False, default_factory=list)

    def add(self, outputs: Tensor, targets: Tree) -> None:
        """Adds a batch."""
        is_whole = isinstance(self.objective, OfTheWhole)
        if isinstance(self.objective, BySample) and (self.by_sample or is_whole):
            parts = self.objective.sample_parts(outputs, targets)
            self._parts.append(parts.cpu() if self.by_sample else parts)
        if not is_whole:
            self._totals.append(self.objective.totals(outputs, targets))

    @property
    def pieces(self) -> list[Tensor]:
        """What the figures are made of, batch after batch, on the CPU: ``of`` takes it."""
        return [piece.cpu() for piece in self._totals or self._parts]

    @classmethod
    def of(cls, objective: Objective, pieces: Iterable[Tensor]) -> Tally:
        """Gathers pieces that several tallies have made, in the split's order."""
        whole = cls(objective)
        kept = whole._parts if isinstance(objective, OfTheWhole) else whole._totals
        kept.extend(pieces)
        return whole

    @property
    def totals(self) -> Tensor | None:
        """The totals of all that was added, float64 on the CPU; None of nothing."""
        if isinstance(self.objective, OfTheWhole):
            parts = self.parts
            return None if parts is None else self.objective.whole_totals(parts).cpu().double()
        return torch.stack(self._totals).cpu().double().sum(0) if self._totals else None

    @property
    def parts(self) -> Tensor | None:
        """The parts of every sample, [parts, samples]; None where none were kept."""
        return torch.cat(self._parts, 1) if self._parts else None

    def figures(self) -> dict[str, float]:
        """Gives each figure by name; none of nothing."""
        totals = self.totals
        return {} if totals is None else self.objective.values(totals)


@torch.no_grad()
def answered_in_pieces(
    module: nn.Module, batches: Iterable[Iterable[Batch]], objective: Objective
) -> list[list[Tensor]]:
    """Gives what each of some batches, cut into parts, adds to the figures of their split."""
    training, found = module.training, []
    module.eval()
    for parts in batches:
        tally = Tally(objective)
        for outputs, targets in answered(functools.partial(answer, module), parts):
            tally.add(outputs, targets)
        found.append(tally.pieces)
    module.train(training)
    return found


def drawn_in_a_step(
    module: nn.Module, batch: Batch, objective: Objective, device: torch.device | str
) -> frozenset[str]:
    """Finds the global random streams that a training step of a network draws from."""
    inputs, targets = batch
    module.train()
    with all_seeded(0, device):
        before = positions(device)
        try:
            objective.loss(answer(module, inputs), targets).backward()
        except (RuntimeError, ValueError):
            for part in module.modules():
                if is_norm(part):
                    part.eval()  # a single sample has no batch statistics
            answer(module, inputs)
        return drawn_between(before, positions(device))
