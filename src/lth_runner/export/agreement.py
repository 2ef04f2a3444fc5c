"""Whether what was exported answers as the ticket does: on real inputs, at several batch sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lth_runner.export.taken_ticket import Taken, first
from lth_runner.problem.answers import Tally, answer
from lth_runner.values import tree
from lth_runner.values.errors import UserError
from lth_runner.values.memory import is_out_of_memory
from lth_runner.values.raised import first_line
from lth_runner.values.tree import Batch, Tree

Answer = Callable[[Tree], Tensor]
BATCH = 256  # samples that are compared at once, beside a few smaller batches
SMALL = (1, 3)
HELD = 2**26  # bytes of inputs and answers that are kept while another network is asked
FLIPPED = 2  # samples whose near tie another processor may decide otherwise
RELATIVE = 1e-3  # by which another processor's sum may differ
ROUNDING = torch.finfo(torch.float32).eps  # a difference that is none, of outputs near 0
ROUNDINGS = 4  # of a network's own precision that other arithmetic may be off by, in fp16 or bf16


class Disagreement(Exception):
    """Says that a file was written and, read back, does not answer as the ticket does."""


@dataclass(frozen=True)
class Agreement:
    """How near the answers of an exported file are to the ticket's.

    ``largest`` is the largest difference of two outputs, ``scale`` the largest finite output, over
    ``num`` samples of ``split``; ``figures`` are the file's own, where that is the whole split.
    """

    split: str
    num: int
    largest: float
    scale: float
    figures: Mapping[str, float]

    def within(self, tolerance: float) -> bool:
        """Whether they differ by no more than a share of the largest output, or by rounding alone.

        A tolerance of 0 is to the bit.
        """
        return self.largest <= (max(tolerance * self.scale, ROUNDING) if tolerance else 0.0)

    @property
    def off(self) -> str:
        """How far apart the outputs are, in words."""
        if self.largest != self.largest:
            return "an output is NaN where the other is a number"
        return f"outputs differ by up to {self.largest:.3g} where the largest is {self.scale:.3g}"


def tolerated(taken: Taken, tolerance: float) -> float:
    """Returns a tolerance of single precision as it is for the network's own, where that is less.

    One of 0 stays: what is copied is the same in any precision.
    """
    kinds = {value.dtype for value in taken.weights.values() if value.is_floating_point()}
    coarsest = max((torch.finfo(kind).eps for kind in kinds), default=ROUNDING)
    return max(tolerance, ROUNDINGS * coarsest) if tolerance else 0.0


def apart(wanted: Tensor, found: Tensor) -> tuple[float, float]:
    """Finds the largest difference of two outputs, and the largest finite output.

    Two infinities of one sign are alike, and so are two that are no number (NaN). Raises
    Disagreement for outputs of another shape, and for what is no tensor.
    """
    if not isinstance(found, Tensor):
        raise Disagreement(f"the exported file answers with a {type(found).__name__}")
    found = found.float()
    if wanted.shape != found.shape:
        shapes = f"{tuple(found.shape)} in the place of {tuple(wanted.shape)}"
        raise Disagreement(f"the exported file answers with the shape {shapes}")
    alike = (wanted == found) | (wanted.isnan() & found.isnan())
    difference = (wanted - found).masked_fill(alike, 0).abs().max()
    return float(difference), float(wanted.nan_to_num(0, 0, 0).abs().max())


@torch.no_grad()
def compared(taken: Taken, read: Callable[[], Answer], most: int | None = None) -> Agreement:
    """Compares what ``read`` reads with the ticket, on at most so many samples; measures both.

    The ticket answers first, so that the two networks are not in memory at once. Raises UserError
    where the ticket itself, as it was built here, does not reach what its run recorded of it: then
    nothing that is held against it can be trusted.
    """
    tallies = Tally(taken.task.objective), Tally(taken.task.objective)
    largest, scale, num = 0.0, 0.0, 0
    answers: Answer | None = None
    for counted, (inputs, targets), wanted in _answered(taken, most):
        answers = _read_back(read) if answers is None else answers
        found = _given(answers, inputs)
        difference, size = apart(wanted, found)
        largest = max(largest, difference) if difference == difference else float("nan")
        scale = max(scale, size)
        if largest != largest:
            break
        if counted:
            num += tree.length(targets)
            for tally, outputs in zip(tallies, (wanted, found.float()), strict=True):
                tally.add(outputs, targets)
    own, figures = (tally.figures() for tally in tallies)
    if most is None and largest == largest:
        _refuse_other(taken, own, num)
    return Agreement(taken.split, num, largest, scale, figures if most is None else {})


def _read_back(read: Callable[[], Answer]) -> Answer:
    """Reads what was exported; raises Disagreement where its own runtime cannot."""
    try:
        return read()
    except (UserError, Disagreement, OSError):
        raise
    except Exception as error:  # whatever a runtime raises
        if is_out_of_memory(error):
            raise
        raise Disagreement(
            f"the exported file cannot be read back: {first_line(error)}. Nothing was written"
        ) from error


def _given(answers: Answer, inputs: Tree) -> Tensor:
    """Asks what was exported; raises Disagreement where it cannot answer."""
    try:
        return answers(inputs)
    except Exception as error:  # whatever a runtime raises
        if is_out_of_memory(error):
            raise
        shapes = ", ".join(str(tuple(value.shape)) for value in tree.tensors(inputs))
        raise Disagreement(
            f"the exported file cannot answer inputs of the shape {shapes}: {first_line(error)}. "
            "Nothing was written"
        ) from error


def _answered(taken: Taken, most: int | None) -> Iterator[tuple[bool, Batch, Tensor]]:
    """Goes through the samples with the ticket's answers, asked for some ``HELD`` bytes at a time.

    In between the ticket is put away: its network is run while nobody looks at another.
    """
    held: list[tuple[bool, Batch, Tensor]] = []
    size = 0
    for counted, batch in _batches(taken, most):
        held.append((counted, batch, answer(taken.lent, batch[0]).float()))
        size += sum(value.nbytes for value in (*tree.tensors(batch[0]), held[-1][-1]))
        if size >= HELD:
            taken.put_away()
            yield from held
            held, size = [], 0
    taken.put_away()
    yield from held


def _batches(taken: Taken, most: int | None) -> Iterator[tuple[bool, Batch]]:
    """Goes through the samples, and before that through some of them in small batches."""
    for inputs, targets in taken.batches(max(SMALL), max(SMALL)):
        for size in SMALL:
            yield False, (first(inputs, size), first(targets, size))
    for batch in taken.batches(BATCH, most):
        yield True, batch


def _refuse_other(taken: Taken, own: Mapping[str, float], num: int) -> None:
    measures = taken.task.objective.measures if taken.split == "test" else ()
    for measure in measures:
        name = f"test_{measure.name}"
        if name not in taken.expected:
            continue
        found, expected = own[measure.name], taken.expected[name]
        differ = RELATIVE * max(abs(expected), abs(measure.error(expected)))
        flipped = FLIPPED / num if measure.unit == "%" else ROUNDING
        if not abs(found - expected) <= max(flipped, differ):
            raise UserError(
                f"the network that is built here has {name} {found:.6g}, and the run recorded "
                f"{expected:.6g}: it is not the network that was trained. Export where the run was "
                "made, with its versions and its data"
            )
