"""Whether gradients point early at the weights that a mask keeps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

from lth_runner.allocate import Global
from lth_runner.control import permuted
from lth_runner.probe.probe import Value
from lth_runner.probe.reference import check_count, dense_training
from lth_runner.probe.trajectory import weights_at
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Past, Trained
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import derive
from lth_runner.values.state import State

VERSION = 1  # of what is kept beside a training: raised where the arithmetic below changes


@dataclass(frozen=True)
class EarlyGradients:
    """Compares a mask with the support of the dense network's early gradients (Jaccard index).

    The support is the top k, k = weights kept, of the mean |gradient| over the dense training's
    first ``num_steps`` steps. ``jaccard_chance`` is d / (2 - d), what two random masks of density
    d expect; ``jaccard_null`` the mean over ``num_nulls`` layer-wise shuffled masks, which leaves
    only what the mask says beyond its densities by layer.

    ``jaccard_z`` = (I - mean) / deviation over all such shuffles, in closed form, where I is the
    number of shared weights, of which the index I / (2k - I) is a growing function; NaN where
    shuffling moves nothing. Raises UserError for counts below 1.
    """

    num_steps: int = 100
    num_nulls: int = 3

    def __post_init__(self) -> None:
        check_count("early_gradients.num_steps", self.num_steps)
        check_count("early_gradients.num_nulls", self.num_nulls)

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        dense = dense_training(past, trained)
        if dense is None:
            return
        magnitude = dense.derived(
            f"early-gradient-v{VERSION}-{self.num_steps}",
            lambda: mean_magnitude(dense, self.num_steps),
        )
        mask, seed = trained.mask, derive(task.seed, "probe", "early-gradient")
        # ties (inputs that never vary have zero gradient) are drawn by seed, not by position
        support = Global()(
            {name: magnitude[name] for name in mask}, mask.density, task.dense(), seed
        )
        yield "jaccard_early_gradient", mask.overlap(support)
        yield "jaccard_chance", mask.density / (2 - mask.density)
        nulls = (permuted(mask, seed + draw) for draw in range(self.num_nulls))
        yield "jaccard_null", fmean(null.overlap(support) for null in nulls)
        yield "jaccard_z", z_score((mask & support).num_kept, *over_shuffles(support, mask))


@dataclass(frozen=True)
class GradientEnergy:
    """Measures ||m * g||^2 / ||g||^2, the share of the gradient's energy on the kept weights.

    g is the gradient of the plain loss in the prunable weights of the dense training at the step
    where this training starts, on ``num_batches`` seeded batches of 128 training samples,
    normalisation by the batch's statistics. ``gradient_energy_chance`` is what random masks of
    the same density expect, the density; ``gradient_energy_null`` what layer-wise shuffles of
    this mask do, sum_l d_l ||g_l||^2 / ||g||^2, and ``gradient_energy_z`` how many of their
    standard deviations it lies above that, both over all shuffles, in closed form; NaN where
    shuffling moves nothing. ``gradient_energy_by_layer`` are the shares within each layer, to be
    read beside ``layer_density``. Raises UserError for a count below 1.
    """

    num_batches: int = 8

    def __post_init__(self) -> None:
        check_count("gradient_energy.num_batches", self.num_batches)

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        dense = dense_training(past, trained)
        if dense is None:
            return
        step, mask = trained.ticket.start.step, trained.mask
        gradient = dense.derived(
            f"gradient-v{VERSION}-{step}-{self.num_batches}",
            lambda: _gradient(task, weights_at(dense, step), dense.mask, self.num_batches),
        )
        energy = {name: gradient[name].double().square() for name in mask}
        kept = {name: float(energy[name][mask[name]].sum()) for name in mask}
        whole = {name: float(energy[name].sum()) for name in mask}
        total = sum(whole.values())
        mean, deviation = over_shuffles(energy, mask)
        yield "gradient_energy", _ratio(sum(kept.values()), total)
        yield "gradient_energy_chance", mask.density
        yield "gradient_energy_null", _ratio(mean, total)
        yield "gradient_energy_z", z_score(sum(kept.values()), mean, deviation)
        yield "gradient_energy_by_layer", {n: _ratio(kept[n], whole[n]) for n in mask}


def mean_magnitude(trained: Trained, num_steps: int) -> State:
    """Averages |gradient| of the prunable weights over a training's first steps, by name."""
    total: State = {}
    count = 0
    for gradients in trained.gradients(num_steps):
        for name in list(gradients):  # ours: each is let go once it is added
            size = gradients.pop(name).abs_()
            if name not in trained.mask:
                continue
            total[name] = total[name].add_(size) if name in total else size
        count += 1
    return {name: value.div_(count).cpu() for name, value in total.items()}


def over_shuffles(values: Mapping[str, Tensor], mask: Mask) -> tuple[float, float]:
    """Computes mean and deviation of the kept values' sum over all layer-wise shuffles of a mask.

    Of N values of a layer, of mean v and variance s^2 (divisor N - 1), k are drawn without
    replacement: mean k v, variance k (1 - k / N) s^2.
    """
    mean = variance = 0.0
    for name, kept in mask.items():
        value, num_kept, num = values[name].double(), int(kept.sum()), kept.numel()
        mean += num_kept * float(value.mean())
        if 0 < num_kept < num:
            variance += num_kept * (1 - num_kept / num) * float(value.var())
    return mean, math.sqrt(variance)


def z_score(value: float, mean: float, deviation: float) -> float:
    """Computes (value - mean) / deviation; NaN where nothing deviates."""
    return _ratio(value - mean, deviation)


def _gradient(task: Task, weights: State, mask: Mask, num_batches: int) -> State:
    found = task.grad(weights, num_batches, batch_statistics=True)
    return {name: found[name] for name in mask}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
