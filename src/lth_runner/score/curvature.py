"""Scores from the loss's curvature: Optimal Brain Damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap

from lth_runner.mask import Mask
from lth_runner.score import derivatives
from lth_runner.score.checks import one_of, whole
from lth_runner.score.examples import check_draw, draw
from lth_runner.score.protocol import Scores
from lth_runner.seeds import stream
from lth_runner.state import State
from lth_runner.task import Batch, Task

ESTIMATORS = ("ggn", "hutchinson", "fisher")
_NUMBERS = 2**25  # of per-sample gradients in memory at once: 256 MB

Scalar = Callable[[Tensor, Tensor], Tensor]  # (logits, labels) of one sample -> what is derived


@dataclass(frozen=True)
class Obd:
    """1/2 H_jj theta_j^2 at m * theta, H being the loss's Hessian at a trained network.

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
        one_of(ESTIMATORS, estimator=self.estimator)
        whole(1, num_batches=self.num_batches, batch_size=self.batch_size, num_draws=self.num_draws)

    def check(self, task: Task) -> None:
        """Raises UserError for more samples than there are."""
        check_draw(task, self.num_batches, self.batch_size, batch_statistics=False)

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        self.check(task)
        home = derivatives.with_doubles(task)
        start = derivatives.placed(home, mask(weights), least=torch.float64)
        batches = draw(task, self.num_batches, self.batch_size)
        if self.estimator == "hutchinson":
            diagonal = self._hutchinson(home, start, mask, batches)
        else:
            scalars: list[Scalar] = [_label_loss]
            if self.estimator == "ggn":
                scalars = [_class_term(c) for c in range(task.data.num_classes)]
            diagonal = _mean_square(home, start, mask, batches, scalars)
        return derivatives.on_cpu(
            {n: 0.5 * h.clamp(min=0) * start[n].square() for n, h in diagonal.items()}
        )

    def _hutchinson(self, task: Task, start: State, mask: Mask, batches: list[Batch]) -> State:
        def products() -> Iterator[State]:
            for index in range(self.num_draws):
                signs = {n: _signs(task, start[n], index, n) for n in mask}
                for batch in batches:
                    curved = derivatives.hessian_product(
                        task, start, signs, batch, batch_statistics=False
                    )
                    yield {n: signs[n] * h for n, h in curved.items()}

        return derivatives.mean(products())


def _signs(task: Task, like: Tensor, index: int, name: str) -> Tensor:
    generator = stream(task.seed, "search", "hutchinson", index, name)
    return (2 * torch.randint(2, like.shape, generator=generator) - 1).to(like)


def _label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels)


def _class_term(index: int) -> Scalar:
    """A scalar whose squared gradient is p_c (d log p_c)^2: summed over c, the GGN's diagonal."""

    def term(logits: Tensor, labels: Tensor) -> Tensor:
        log_p = logits.log_softmax(1)[0, index]
        return (0.5 * log_p).exp().detach() * log_p

    return term


def _mean_square(
    task: Task, start: State, mask: Mask, batches: list[Batch], scalars: list[Scalar]
) -> State:
    """The mean over samples of each one's squared gradients, summed over ``scalars``."""
    own = {name: start[name] for name in task.prunable}  # builds the network: not inside vmap
    total = {name: torch.zeros_like(value) for name, value in own.items()}
    chunk = max(1, _NUMBERS // sum(value.numel() for value in own.values()))
    for scalar in scalars:

        def value(own: State, one: Tensor, label: Tensor, scalar: Scalar = scalar) -> Tensor:
            return scalar(task.logits(start | own, one[None]), label[None])

        single = vmap(grad(value), in_dims=(None, 0, 0))
        for batch in batches:
            inputs, labels = derivatives.fitted(batch, start)
            for part in zip(inputs.split(chunk), labels.split(chunk), strict=True):
                with derivatives.twice_differentiable():
                    found = single(own, *part)
                for name, g in found.items():
                    total[name] += g.square().sum(0)
    num = sum(len(labels) for _, labels in batches)
    return {name: value / num for name, value in total.items()}
