"""Optimal Brain Damage scores weights by the curvature of the loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lth_runner.problem.requirements import num_classes_of
from lth_runner.problem.size import bytes_of_copies
from lth_runner.problem.task import Task
from lth_runner.score import derivatives, sums
from lth_runner.score.checks import KEY, check_one_of, check_whole_number
from lth_runner.score.examples import check_draw, draw_batches
from lth_runner.score.score import Scores
from lth_runner.score.squares import Derived, mean_squares
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.state import State
from lth_runner.values.tree import Batch

ESTIMATORS = ("ggn", "hutchinson", "fisher")


@dataclass(frozen=True)
class Obd:
    """Scores each weight by 1/2 H_jj theta_j^2, what the loss gains when the weight goes.

    H is the loss's Hessian at a trained network m * theta.
    estimator: ``ggn`` the exact diagonal of the generalised Gauss-Newton matrix,
    mean_n sum_c p_c (d log p_c / dtheta_j)^2, which in a ReLU network without batch norm is that
    of H; one backward per class. ``hutchinson`` the mean of v * H v over ``num_draws`` random
    signs v, negative values set to 0. ``fisher`` the mean over SAMPLES of g_j^2 at the labels,
    which is not H away from a perfect fit. float64, running statistics: the curvature of a fitted
    sample underflows. There is no official code.
    LeCun, Denker & Solla, NeurIPS 1989.
    """

    estimator: str = "ggn"
    num_batches: int = 8
    batch_size: int = 128
    num_draws: int = 32

    def __post_init__(self) -> None:
        check_one_of(ESTIMATORS, estimator=self.estimator)
        check_whole_number(
            1, num_batches=self.num_batches, batch_size=self.batch_size, num_draws=self.num_draws
        )

    def check(self, task: Task) -> None:
        """Raises UserError for more samples than there are, and for a problem without classes."""
        if self.estimator != "hutchinson":
            num_classes_of(task, f"{KEY}.estimator={self.estimator} (hutchinson does without)")
        check_draw(task, self.num_batches, self.batch_size, batch_statistics=False)

    def bytes_on_device(self, task: Task) -> int:
        """Counts the weights, squares and their sum, in float64."""
        return bytes_of_copies(task, 1, 2, size=8)

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        self.check(task)
        home = derivatives.on_device_with_float64(task)
        start = derivatives.to_device_and_dtype(home, mask(weights), min_dtype=torch.float64)
        batches = draw_batches(task, self.num_batches, self.batch_size)
        if self.estimator == "hutchinson":
            diagonal = self._hutchinson(home, start, mask, batches)
        else:
            derived: list[Derived] = [_label_loss]
            if self.estimator == "ggn":
                num = num_classes_of(task, KEY)
                derived = [_ClassTerm(c) for c in range(num)]
            diagonal = mean_squares(home, start, batches, derived)
        return derivatives.on_cpu(
            {n: 0.5 * h.clamp(min=0) * start[n].square() for n, h in diagonal.items()}
        )

    def _hutchinson(self, task: Task, start: State, mask: Mask, batches: list[Batch]) -> State:
        names = tuple(mask)
        if task.sharing is not None:
            return sums.mean(task, _SignedProduct(start, names, range(self.num_draws)), batches)
        draws = [_SignedProduct(start, names, (index,)) for index in range(self.num_draws)]
        return derivatives.mean(
            term for draw in draws for batch in batches for term in draw(task, batch)
        )


@dataclass(frozen=True)
class _SignedProduct:
    """The mean of v * H v of a batch's loss over draws of random signs v."""

    start: State
    names: Sequence[str]
    draws: Sequence[int]

    def __call__(self, task: Task, batch: Batch) -> Iterator[State]:
        start = derivatives.to_device_and_dtype(task, self.start)
        yield derivatives.mean(self._product(task, start, batch, index) for index in self.draws)

    def _product(self, task: Task, start: State, batch: Batch, index: int) -> State:
        signs = {n: _signs(task, start[n], index, n) for n in self.names}
        curved = derivatives.hessian_product(task, start, signs, batch, batch_statistics=False)
        return {n: signs[n] * h for n, h in curved.items()}

    def zeros(self) -> State:
        return {name: torch.zeros_like(self.start[name]) for name in self.names}

    def is_divisible(self, task: Task) -> bool:
        return sums.is_divisible(task, batch_statistics=False)

    def is_divisible_in_step(self, task: Task) -> bool:
        return False


def _signs(task: Task, like: Tensor, index: int, name: str) -> Tensor:
    generator = stream(task.seed, "search", "hutchinson", index, name)
    return (2 * torch.randint(2, like.shape, generator=generator) - 1).to(like)


def _label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True)
class _ClassTerm:
    """The term of class c, whose squared gradient is p_c (d log p_c / dtheta)^2.

    Summed over c that is the diagonal of the generalised Gauss-Newton matrix.
    """

    index: int

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_p = logits.log_softmax(1)[:, self.index]
        return (0.5 * log_p).exp().detach() * log_p
