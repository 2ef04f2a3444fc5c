"""Masks that keep whole rows of B and whole columns of A of low-rank pairs: their lines."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lth_runner.allocate import keep_top
from lth_runner.problem.covers import TRANSPOSED
from lth_runner.problem.low_rank import B, LowRank, pairs
from lth_runner.problem.task import Task
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream

Lines = Mapping[str, int]  # how many columns of each A and rows of each B, by its name
Scores = Mapping[str, Tensor]  # one of each line, larger means keep


def check_pairs(task: Task, what: str) -> LowRank:
    """Returns the task's low-rank coordinates; raises UserError, naming ``what`` needs them."""
    if not isinstance(task.coordinates, LowRank):
        raise UserError(
            f"{what} keeps rows and columns of low-rank adapters: take coordinates=low_rank, or "
            "leave it out"
        )
    return task.coordinates


def axis_of(name: str) -> int:
    """Finds the axis of a pair's matrix along which its lines are counted."""
    return 0 if name.endswith(B) else 1


def lines_of(dense: Mask) -> dict[str, int]:
    """Counts the lines of each matrix: the inputs of a layer at its A, the outputs at its B."""
    return {name: kept.shape[axis_of(name)] for name, kept in dense.items()}


def kept_lines(mask: Mask, what: str) -> dict[str, int]:
    """Counts the lines that a mask keeps; raises UserError where it keeps parts of lines."""
    found = {}
    for name, kept in mask.items():
        line = kept.any(1 - axis_of(name), keepdim=True)
        if not torch.equal(kept, line.expand_as(kept)):
            raise UserError(
                f"{what} goes by whole rows of B and whole columns of A, and the ticket's mask of "
                f"{name} keeps parts of them: take pruner=partial_lora, or leave it out"
            )
        found[name] = int(line.sum())
    return found


def best(dense: Mask, lines: Lines, scores: Scores, seed: int) -> Mask:
    """Keeps as many lines of each matrix as ``lines`` says, those of the largest scores."""
    found = {}
    for index, (name, whole) in enumerate(dense.items()):
        every = torch.ones(whole.shape[axis_of(name)], dtype=torch.bool)
        kept = keep_top(scores[name], every, lines[name], seed + index)
        found[name] = kept.unsqueeze(1 - axis_of(name)).expand_as(whole).clone()
    return Mask(found)


def drawn(dense: Mask, lines: Lines, seed: int) -> Mask:
    """Keeps as many lines of each matrix as ``lines`` says, drawn at random."""
    scores = {n: torch.rand(num, generator=stream(seed, n)) for n, num in lines_of(dense).items()}
    return best(dense, lines, scores, seed)


Spectrum = tuple[Tensor, Tensor, Tensor]  # U, S, V^T of a weight (out, in)


def singular(task: Task) -> dict[str, Spectrum]:
    """Takes theta_0's weights that have a pair apart, by their names in the stock network."""
    stock = task.merged(task.init())  # B = 0
    found: dict[str, Spectrum] = {}
    for weight in pairs(task.prunable):
        matrix = stock[weight].float()
        turned = task.kind(weight) == TRANSPOSED
        u, s, v = torch.linalg.svd(matrix.t() if turned else matrix, full_matrices=False)
        found[weight] = (u, s, v)
    return found


def top_energies(task: Task, num: int) -> dict[str, Tensor]:
    """Scores lines by what they hold of theta_0's ``num`` largest singular directions.

    Output i: sum of U_ij^2 s_j^2 over j; input i: sum of V_ij^2 s_j^2, of W = U diag(s) V^T.
    """
    found = {}
    spectra = singular(task)
    for weight, (a, b) in pairs(task.prunable).items():
        u, s, v = spectra[weight]
        squares = s[:num].square()
        found[a] = v[:num].square().t() @ squares
        found[b] = u[:, :num].square() @ squares
    return found
