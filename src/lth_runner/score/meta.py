"""ProsPr scores weights by differentiating through the first steps of training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lth_runner.problem.size import bytes_of_copies
from lth_runner.problem.task import Task
from lth_runner.score import derivatives
from lth_runner.score.checks import (
    check_channels,
    check_fraction,
    check_one_of,
    check_positive,
    check_whole_number,
)
from lth_runner.score.examples import check_draw, draw_batches
from lth_runner.score.score import Scores
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.tree import Batch


@dataclass(frozen=True)
class Prospr:
    """Scores each weight by |dL(theta_S)/dm| after S steps of SGD from theta_0 = m * theta.

    The steps train all parameters. The mask enters at step 0 alone, and the steps are
    differentiated through (``first_order`` takes their gradients for constants). One batch serves
    all steps and the last loss, as in the authors' command line; with ``new_data_in_inner`` each
    step has its own and the last loss another, as in their function's default. S = 0 is SNIP.
    Memory grows with S.
    first_buffer: ``derived``, the first step's momentum buffer is part of the derivative as the
    others are, or ``constant``, cut off from it, as in the authors' code (without momentum there is
    none to cut).
    structured: one mask value for each output channel, |dL/dm| given to all of its weights; the
    last layer, whose channels are the classes, scores above all others.
    Alizadeh et al., ICLR 2022, arXiv 2202.08132.
    """

    num_steps: int = 3
    inner_lr: float = 0.1
    inner_momentum: float = 0.0
    batch_size: int = 128
    new_data_in_inner: bool = False
    first_order: bool = False
    batch_statistics: bool = True
    structured: bool = False
    first_buffer: str = "derived"

    def __post_init__(self) -> None:
        check_whole_number(0, num_steps=self.num_steps)
        check_whole_number(1, batch_size=self.batch_size)
        check_positive(inner_lr=self.inner_lr)
        check_fraction(inner_momentum=self.inner_momentum)
        check_one_of(("derived", "constant"), first_buffer=self.first_buffer)

    def check(self, task: Task) -> None:
        """Raises UserError for more samples than there are, channels of biases, and one layer."""
        if self.structured:
            check_channels(task, "prospr with structured=true")
            if len(task.prunable) == 1:
                raise UserError(
                    "prospr with structured=true scores the channels of all layers but the last, "
                    f"and {task.prunable[0]} is the only one that is pruned: take structured=false"
                )
        num = self.num_steps + 1 if self.new_data_in_inner else 1
        check_draw(task, num, self.batch_size, batch_statistics=self.batch_statistics)

    def bytes_on_device(self, task: Task) -> int:
        """Counts the weights before and after a step, and its momentum."""
        return bytes_of_copies(task, 3, 0)

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        self.check(task)
        *inner, last = self._batches(task)
        start = derivatives.to_device_and_dtype(task, weights)
        names = [name for name, _ in task.module().named_parameters()]
        kept = self._masks(task, start, mask)
        if self.structured:
            start = mask(start)
        with torch.enable_grad(), derivatives.twice_differentiable():
            now = {n: start[n].clone().requires_grad_() for n in names}
            now |= {n: start[n] * kept[n] for n in kept}
            pace = {n: torch.zeros_like(start[n]) for n in names}
            for step, batch in enumerate(inner):
                slope = self._gradient(task, start, now, batch)
                pace = {n: self.inner_momentum * pace[n] + slope[n] for n in names}
                if not step and self.inner_momentum and self.first_buffer == "constant":
                    pace = {n: value.detach() for n, value in pace.items()}
                now = {n: w - self.inner_lr * pace[n] for n, w in now.items()}
            loss = self._loss(task, start | now, last)
            found = torch.autograd.grad(
                loss, list(kept.values()), allow_unused=True, materialize_grads=True
            )
        scores = derivatives.on_cpu({n: g.abs() for n, g in zip(kept, found, strict=True)})
        above = max(float(value.max()) for value in scores.values()) + 1 if scores else 1.0
        return {
            name: scores[name].expand(k.shape).clone()
            if name in scores
            else torch.full(k.shape, above)
            for name, k in mask.items()
        }

    def _masks(self, task: Task, start: State, mask: Mask) -> State:
        """Makes what the loss is derived by: m, or a 1 per output channel of all layers but one."""
        if not self.structured:
            return {name: kept.to(start[name]).requires_grad_() for name, kept in mask.items()}
        ones = {n: start[n].new_ones(len(k), *[1] * (k.ndim - 1)) for n, k in mask.items()}
        return {name: ones[name].requires_grad_() for name in task.prunable[:-1]}

    def _batches(self, task: Task) -> list[Batch]:
        """Draws a batch for each inner step, and the one of the last loss."""
        own = self.num_steps + 1 if self.new_data_in_inner else 1
        found = draw_batches(task, own, self.batch_size)
        return [found[step % len(found)] for step in range(self.num_steps + 1)]

    def _loss(self, task: Task, weights: State, batch: Batch) -> Tensor:
        ready = derivatives.match_device_and_dtype(batch, weights)
        return task.loss(weights, ready, batch_statistics=self.batch_statistics)

    def _gradient(self, task: Task, start: State, now: State, batch: Batch) -> State:
        found = torch.autograd.grad(
            self._loss(task, start | now, batch),
            list(now.values()),
            create_graph=not self.first_order,
            allow_unused=True,
            materialize_grads=True,
        )
        return dict(zip(now, found, strict=True))
