"""Running a network on inputs, and measuring what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from lth_runner.problem.norm_layers import is_norm
from lth_runner.problem.objective import Objective
from lth_runner.values.global_streams import all_seeded, drawn_between, positions
from lth_runner.values.tree import Batch, Tree


def answer(module: nn.Module, inputs: Tree) -> Tensor:
    """Runs a network on its inputs, which are its arguments by name where they are a mapping."""
    found: Tensor = module(inputs) if isinstance(inputs, Tensor) else module(**inputs)
    return found


@torch.no_grad()
def evaluate(module: nn.Module, batches: Iterator[Batch], objective: Objective) -> dict[str, float]:
    """Measures a network in evaluation mode, with one transfer from its device at the end."""
    training = module.training
    module.eval()
    totals = [objective.totals(answer(module, x).float(), targets) for x, targets in batches]
    module.train(training)
    return figures(totals, objective)


def figures(totals: Sequence[Tensor], objective: Objective) -> dict[str, float]:
    """Sums the batches' totals and gives each figure by name; empty where there are none."""
    if not totals:
        return {}
    return objective.values(torch.stack(list(totals)).cpu().double().sum(0))


def drawn_in_a_step(
    module: nn.Module, batch: Batch, objective: Objective, device: torch.device | str
) -> frozenset[str]:
    """Watches whose global streams a training step of a network draws from."""
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
