"""The input-output Jacobian of a network where its training starts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from lth_runner.probe.probe import Value
from lth_runner.probe.reference import check_count, sample_numbers
from lth_runner.problem.requirements import input_shape
from lth_runner.problem.size import bytes_of_copies
from lth_runner.problem.task import Task
from lth_runner.score import derivatives
from lth_runner.search.ticket import Past, Trained
from lth_runner.values.state import State

WHAT = "probe.jacobian, which derives by the inputs,"
LIMIT = 2**25  # numbers of one block of Jacobians: 256 MiB


@dataclass(frozen=True)
class Jacobian:
    """Computes the singular values of df/dx at m * theta, for each of ``num_inputs`` inputs.

    Each Jacobian is [classes, input values], in evaluation mode and float64. Mean and mean square
    run over all its min(classes, input values) singular values and over the inputs; the rank counts
    those above eps * max(shape) * the largest, and is averaged; the condition number, largest over
    smallest of those counted, is the median over inputs. ``jacobian_dead_inputs`` is the share of
    input values without influence on any of the sampled inputs.
    Saxe et al., ICLR 2014, arXiv 1312.6120; Pennington et al., NeurIPS 2017, arXiv 1711.04735; for
    pruning Lee et al., ICLR 2020, arXiv 1906.06307.
    """

    num_inputs: int = 64

    def __post_init__(self) -> None:
        check_count("jacobian.num_inputs", self.num_inputs)

    def check(self, task: Task) -> None:
        """Raises UserError for inputs that are tokens."""
        input_shape(task, WHAT)

    def bytes_on_device(self, task: Task) -> int:
        """Counts the weights, in float64."""
        return bytes_of_copies(task, 1, 0, size=8)

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        found: list[Tensor] = []
        influence = torch.zeros(())
        inputs = sample_numbers(task, self.num_inputs, WHAT)
        for block in jacobians(task, trained.ticket.masked, inputs):
            found.append(torch.linalg.svdvals(block).cpu())
            influence = torch.maximum(influence, block.abs().amax(dim=(0, 1)).cpu())
        values = torch.cat(found)
        tolerance = torch.finfo(values.dtype).eps * max(len(values[0]), influence.numel())
        ranks = (values > tolerance * values[:, :1]).sum(dim=1)
        yield "jacobian_singular_value_mean", float(values.mean())
        yield "jacobian_singular_value_mean_square", float(values.square().mean())
        yield "jacobian_condition_number", condition_number(values, ranks)
        yield "jacobian_rank", float(ranks.double().mean())
        yield "jacobian_dead_inputs", float((influence == 0).double().mean())


def jacobians(task: Task, weights: State, inputs: Tensor) -> Iterator[Tensor]:
    """Yields blocks of df/dx, [inputs, classes, input values]; one backward per class and block."""
    home = derivatives.on_device_with_float64(task)
    placed = derivatives.to_device_and_dtype(home, weights, min_dtype=torch.float64)
    few = inputs[:1].to(home.device, torch.float64)
    num_outputs = home.outputs(placed, few).numel()
    for part in inputs.split(max(1, LIMIT // (num_outputs * inputs[0].numel()))):
        x = part.to(home.device, torch.float64).requires_grad_()
        with torch.enable_grad():
            # no input acts on another's outputs: one sum has the gradients of all
            totals = home.outputs(placed, x).flatten(1).sum(dim=0)
        rows = [torch.autograd.grad(total, x, retain_graph=True)[0] for total in totals]
        yield torch.stack([row.flatten(1) for row in rows], dim=1)


def condition_number(values: Tensor, ranks: Tensor) -> float:
    """Computes the median over rows of the largest over the smallest value within the rank.

    NaN where no row has a rank above 0.
    """
    found = [
        float(row[0] / row[rank - 1])
        for row, rank in zip(values, ranks.tolist(), strict=True)
        if rank
    ]
    return median(found) if found else math.nan
