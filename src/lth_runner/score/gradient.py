"""SNIP, FORCE and GraSP score weights by gradients before training."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lth_runner.problem.size import bytes_of_copies
from lth_runner.problem.task import Task
from lth_runner.score import derivatives, sums
from lth_runner.score.checks import check_one_of, check_positive, check_whole_number
from lth_runner.score.examples import check_draw, check_per_class, draw_batches, per_class
from lth_runner.score.score import Scores
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.state import State


@dataclass(frozen=True)
class Snip:
    """Scores each weight by |dL/dm| = |theta * g(m * theta)|, how much the loss feels it.

    absolute: ``after`` sums the signed gradients of the batches and then takes |.|, ``before``
    sums their |.|; normalise divides by the sum over all weights, which changes no ranking.
    batch_statistics: batch norm by the batch's statistics (PyTorch ports), not the running ones;
    resample draws other batches for each mask, so for each step of an iterated search.
    A removed weight scores 0. The authors' code scores biases too (``Task.biases``: those that
    start at zero score 0 and go first), and trains a fresh draw; here that is the search's choice.
    Lee et al., ICLR 2019, arXiv 1810.02340; iterated: de Jorge et al., ICLR 2021, arXiv 2006.09081.
    """

    num_batches: int = 1
    batch_size: int = 128
    batch_statistics: bool = False
    absolute: str = "after"
    normalise: bool = True
    resample: bool = False

    def __post_init__(self) -> None:
        check_whole_number(1, num_batches=self.num_batches, batch_size=self.batch_size)
        check_one_of(("after", "before"), absolute=self.absolute)

    def check(self, task: Task) -> None:
        """Raises UserError for more samples than there are."""
        _check(self, task)

    def bytes_on_device(self, task: Task) -> int:
        """Counts the weights, a gradient and the mean of such."""
        return bytes_of_copies(task, 1, 2)

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        start = derivatives.to_device_and_dtype(task, mask(weights))
        slope = _mean_gradient(self, task, start, mask, absolute=self.absolute == "before")
        scores = {name: (start[name] * g).abs() for name, g in slope.items()}
        total = torch.stack([value.double().sum() for value in scores.values()]).sum()
        if self.normalise and total != 0:
            scores = {name: value / total for name, value in scores.items()}
        return derivatives.on_cpu(scores)


@dataclass(frozen=True)
class Force:
    """Scores each weight by |theta * g(m * theta)| with the dense theta.

    So a removed weight has a score too, and may return. Options as ``Snip``. The authors' code
    draws a batch per step and keeps batch norm in training mode, as the defaults here do.
    de Jorge et al., ICLR 2021, arXiv 2006.09081.
    """

    num_batches: int = 1
    batch_size: int = 128
    batch_statistics: bool = True
    resample: bool = True

    def __post_init__(self) -> None:
        check_whole_number(1, num_batches=self.num_batches, batch_size=self.batch_size)

    def check(self, task: Task) -> None:
        """Raises UserError for more samples than there are."""
        _check(self, task)

    def bytes_on_device(self, task: Task) -> int:
        """Counts the weights, a gradient and the mean of such."""
        return bytes_of_copies(task, 1, 2)

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        dense = derivatives.to_device_and_dtype(task, weights)
        slope = _mean_gradient(self, task, mask(dense), mask)
        return derivatives.on_cpu({name: (dense[name] * g).abs() for name, g in slope.items()})


@dataclass(frozen=True)
class GraspIterated:
    """Scores each weight by g(m * theta)^2, its share of the masked network's gradient norm.

    Options as ``Snip``. A removed weight has a score, but the authors never take one back.
    GraSP-It of de Jorge et al., ICLR 2021, arXiv 2006.09081.
    """

    num_batches: int = 1
    batch_size: int = 128
    batch_statistics: bool = True
    resample: bool = True

    def __post_init__(self) -> None:
        check_whole_number(1, num_batches=self.num_batches, batch_size=self.batch_size)

    def check(self, task: Task) -> None:
        """Raises UserError for more samples than there are."""
        _check(self, task)

    def bytes_on_device(self, task: Task) -> int:
        """Counts the weights, a gradient and the mean of such."""
        return bytes_of_copies(task, 1, 2)

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        start = derivatives.to_device_and_dtype(task, mask(weights))
        slope = _mean_gradient(self, task, start, mask)
        return derivatives.on_cpu({name: g.square() for name, g in slope.items()})


@dataclass(frozen=True)
class GradientMagnitude:
    """Scores each weight by |g(m * theta)|, a removed one too.

    Options as ``Snip``. A criterion of Zhou et al., NeurIPS 2019, arXiv 1905.01067.
    """

    num_batches: int = 1
    batch_size: int = 128
    batch_statistics: bool = False
    resample: bool = False

    def __post_init__(self) -> None:
        check_whole_number(1, num_batches=self.num_batches, batch_size=self.batch_size)

    def check(self, task: Task) -> None:
        """Raises UserError for more samples than there are."""
        _check(self, task)

    def bytes_on_device(self, task: Task) -> int:
        """Counts the weights, a gradient and the mean of such."""
        return bytes_of_copies(task, 1, 2)

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        start = derivatives.to_device_and_dtype(task, mask(weights))
        slope = _mean_gradient(self, task, start, mask)
        return derivatives.on_cpu({name: g.abs() for name, g in slope.items()})


@dataclass(frozen=True)
class Grasp:
    """Scores each weight by theta * H g at m * theta.

    That is half of what removing the weight takes from the squared gradient norm:
    |g|^2 changes by -2 theta_j (H g)_j to first order when theta_j goes, so the lowest scores,
    below zero too, hurt it least. g and H are those of the kept prunable weights and of
    cross-entropy at logits / temperature, over ``samples_per_class`` samples of each class in
    ``num_batches`` batches, g and H g being means over them (null: of at most 64 samples each).
    order: ``mixed``, or ``by_class``, one class after another, so that two batches are the halves
    of the authors' code, each of half of the classes. fresh_linear: linear layers are scored at a
    Xavier-normal draw, as there. It has the sign turned round, too, and divides by |sum|.
    Wang et al., ICLR 2020, arXiv 2002.07376.
    """

    temperature: float = 200.0
    samples_per_class: int = 10
    num_batches: int | None = None
    batch_statistics: bool = True
    order: str = "mixed"
    fresh_linear: bool = False

    def __post_init__(self) -> None:
        check_one_of(("mixed", "by_class"), order=self.order)
        check_positive(temperature=self.temperature)
        check_whole_number(1, samples_per_class=self.samples_per_class)
        if self.num_batches is not None:
            check_whole_number(1, num_batches=self.num_batches)

    def check(self, task: Task) -> None:
        """Raises UserError for more samples than a class has."""
        check_per_class(task, self.samples_per_class, self.num_batches)

    def bytes_on_device(self, task: Task) -> int:
        """Counts the weights, the gradient, a Hessian product and what it is derived of."""
        return bytes_of_copies(task, 1, 3)

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        self.check(task)
        by_class = self.order == "by_class"
        batches = per_class(task, self.samples_per_class, self.num_batches, by_class=by_class)
        start = derivatives.to_device_and_dtype(task, mask(weights))
        if self.fresh_linear:
            start |= mask(_xavier(task, start))
        gradient = sums.Gradient(start, list(mask), self.batch_statistics, self.temperature)
        slope = mask(sums.mean(task, gradient, batches()))
        product = sums.HessianProduct(start, slope, self.batch_statistics, self.temperature)
        curved = sums.mean(task, product, batches())
        return derivatives.on_cpu({name: start[name] * h for name, h in curved.items()})


def _xavier(task: Task, weights: State) -> State:
    """Draws every linear layer's weights from N(0, 2 / (in + out)), by the task's seed."""
    drawn = {}
    for name in task.prunable:
        like = weights[name]
        if task.kind(name) in ("linear", "transposed_linear"):
            rng = stream(task.seed, "search", "xavier", name)
            normal = torch.randn(like.shape, generator=rng).to(like)
            drawn[name] = normal * (2 / sum(like.shape)) ** 0.5
    return drawn


def _check(score: Snip | Force | GraspIterated | GradientMagnitude, task: Task) -> None:
    check_draw(task, score.num_batches, score.batch_size, batch_statistics=score.batch_statistics)


def _mean_gradient(
    score: Snip | Force | GraspIterated | GradientMagnitude,
    task: Task,
    weights: State,
    mask: Mask,
    *,
    absolute: bool = False,
) -> State:
    """Averages the gradient, or with ``absolute`` |gradient|, over the batches of a score."""
    _check(score, task)
    name = mask.fingerprint if score.resample else ""
    batches = draw_batches(task, score.num_batches, score.batch_size, name=name)
    gradient = sums.Gradient(
        weights, list(mask), batch_statistics=score.batch_statistics, absolute=absolute
    )
    return sums.mean(task, gradient, batches)
