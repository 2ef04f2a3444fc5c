"""Concrete Ticket Search scores weights by the logits of a relaxed mask that it trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lth_runner.problem.requirements import check_probabilities
from lth_runner.problem.task import Task
from lth_runner.schedule import Schedule
from lth_runner.score import derivatives
from lth_runner.score.checks import (
    KEY,
    check_fraction,
    check_one_of,
    check_positive,
    check_whole_number,
)
from lth_runner.score.concrete_objectives import OBJECTIVES, OF_PROBABILITIES
from lth_runner.score.score import Scores
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.name_patterns import select
from lth_runner.values.seeds import derive, stream
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Duration

TEMPERATURE = 2 / 3
SLACK = 1.1  # how far above the target the expected number of weights may be for nothing
MEMORY = 0.99  # of the penalty's weight, from step to step
WEIGHT = 100.0  # of the penalty, before it is balanced


@dataclass(frozen=True)
class Concrete:
    """Scores each weight by its trained logit alpha of being kept, the weights being frozen.

    z = sigma(alpha + logit(u) / tau), tau = 2/3, u uniform and drawn anew at each step; the
    network of z * w is held to ``objective``. alpha starts at logit(kappa), kappa being the last
    density of ``schedule`` among the layers that are searched, and follows by Adam
    g + lambda * p: g is the objective's gradient and p that of the excess
    100 (sum sigma(alpha) / (1.1 kappa d) - 1). lambda keeps 0.99 of itself and takes 0.01 of
    |g| / |p|, or of 0 where there is no excess; at first all of it. ``lr`` falls to a tenth after
    the share ``drop``. Norm layers take the batch's statistics, and samples are not augmented.

    ``objective``: reverse_kl is KL(sparse || dense), the authors' CTS-KL; forward_kl, loss,
    delta_loss, gradient_norm, gradient_match. ``exclude``: layers that stay whole; as for the
    budget. ``length``: steps or epochs of ``batch_size``; ``shrink_to``: at most so many steps.
    Arora & Teuscher, 2025, arXiv 2512.07142; 1.1 and the moving average are their code's.
    """

    schedule: Schedule
    objective: Literal[
        "reverse_kl", "forward_kl", "loss", "delta_loss", "gradient_norm", "gradient_match"
    ] = "reverse_kl"
    length: Duration | str = "20ep"
    batch_size: int = 512
    lr: float = 0.1
    drop: float = 0.88
    exclude: Sequence[str] = ()
    shrink_to: Duration | str | None = None

    def __post_init__(self) -> None:
        check_one_of(OBJECTIVES, objective=self.objective)
        check_whole_number(1, batch_size=self.batch_size)
        check_positive(lr=self.lr)
        check_fraction(drop=self.drop)
        for name in ("length", "shrink_to"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Duration.parse(getattr(self, name)))

    def check(self, task: Task) -> None:
        """Raises UserError for a length, batches or a density that cannot be had.

        A density cannot be had where it leaves nothing to the layers that are searched.
        """
        if self.objective in OF_PROBABILITIES:
            check_probabilities(task, f"{KEY}.objective={self.objective} (loss does without)")
        self._num_steps(task)
        self._wanted(task.dense())
        if self.batch_size == 1 and task.norm:
            raise UserError(f"{KEY}.batch_size=1 has no batch statistics: give at least 2")

    def _num_steps(self, task: Task) -> int:
        size = min(self.batch_size, task.data.num_train)
        if size < self.batch_size and task.data.nominal_train is None:
            raise UserError(
                f"{KEY}.batch_size={self.batch_size}, but there are {task.data.num_train} training "
                "samples: lower it"
            )
        shrink = None if self.shrink_to is None else Duration.parse(self.shrink_to)
        epoch = task.data.epoch(self.batch_size)
        length = Duration.parse(self.length)
        return Clock.of(length, epoch, shrink, key=f"{KEY}.length").total

    def _wanted(self, mask: Mask) -> tuple[float, int]:
        """Counts the weights that the searched layers are to keep, and those that they have.

        They are to keep so many that the whole network has the schedule's last density.
        """
        density = self.schedule()[-1]
        fixed = select(self.exclude, mask, "pruner.exclude")
        left = {name: int(value.sum()) for name, value in mask.items()}
        searched = sum(num for name, num in left.items() if name not in fixed)
        wanted = density * mask.num_prunable - sum(left[name] for name in fixed)
        if not 0 < wanted < searched:
            raise UserError(
                f"density {density:.4g} leaves {wanted:.6g} of {searched} weights to the layers "
                "that are searched: lower pruner.sparsity, or let pruner.exclude name fewer layers"
            )
        return wanted, searched

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        self.check(task)
        fixed = select(self.exclude, mask, "pruner.exclude")
        names = [name for name in mask if name not in fixed]
        alpha = self._search(task, derivatives.to_device_and_dtype(task, weights), mask, names)
        parts = _split(alpha, mask, names)
        whole_layers = {name: torch.zeros(mask[name].shape) for name in fixed}
        found = derivatives.on_cpu(whole_layers | parts)
        return {name: found[name] for name in mask}

    def _search(self, task: Task, weights: State, mask: Mask, names: Sequence[str]) -> Tensor:
        wanted, searched = self._wanted(mask)
        num_steps = self._num_steps(task)
        inside = torch.cat([mask[name].reshape(-1) for name in names])
        inside = inside.to(weights[names[0]])
        even = math.log(wanted / (searched - wanted))
        alpha = torch.full_like(inside, even, requires_grad=True)
        optimizer = torch.optim.Adam([alpha], lr=self.lr)
        objective, multiplier = OBJECTIVES[self.objective], None
        batches = task.data.unaugmented().stream(
            min(self.batch_size, task.data.num_train), derive(task.seed, "search", "concrete")
        )
        for step in range(num_steps):
            noise = _noise(len(inside), task.seed, step).to(inside)
            batch = derivatives.match_device_and_dtype(batches[step], weights)
            with torch.enable_grad(), derivatives.twice_differentiable():
                soft = torch.sigmoid(alpha + noise) * inside
                value = objective(task, weights, _split(soft, mask, names), batch)
            (slope,) = torch.autograd.grad(value, alpha)
            excess, pull = density_pull(alpha.detach(), inside, wanted)
            multiplier = balanced(multiplier, slope, pull, excess)
            alpha.grad = slope + multiplier * pull
            rate = self.lr if step < round(self.drop * num_steps) else self.lr / 10
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
        return alpha.detach()


def density_pull(alpha: Tensor, inside: Tensor, num_wanted: float) -> tuple[Tensor, Tensor]:
    """Measures how far the expected density is above its target, and the penalty's gradient.

    The excess is sum sigma(alpha) / (1.1 * wanted) - 1, the gradient that of 100 times it.
    """
    chance = torch.sigmoid(alpha) * inside
    target = SLACK * num_wanted
    return chance.sum() / target - 1, WEIGHT / target * chance * (1 - chance)


def balanced(multiplier: Tensor | None, slope: Tensor, pull: Tensor, excess: Tensor) -> Tensor:
    """Finds the penalty's multiplier that makes both gradients equally long (GradBalance).

    It is a moving average over the steps, and goes to 0 where there is no excess.
    """
    ratio = slope.norm() / pull.norm().clamp_min(torch.finfo(pull.dtype).tiny)
    wanted = torch.where(excess > 0, ratio, torch.zeros_like(ratio))
    return wanted if multiplier is None else MEMORY * multiplier + (1 - MEMORY) * wanted


def _noise(num: int, seed: int, step: int) -> Tensor:
    """Draws a step's own logit(u) / tau."""
    drawn = torch.rand(num, generator=stream(seed, "search", "concrete", step))
    return torch.logit(drawn, eps=1e-7) / TEMPERATURE


def _split(flat: Tensor, mask: Mask, names: Sequence[str]) -> State:
    parts = flat.split([mask[name].numel() for name in names])
    return {name: part.view(mask[name].shape) for name, part in zip(names, parts, strict=True)}
