"""How masks relate to one another, to the dense network and to the paths that they leave."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, pairwise, takewhile

from lth_runner.allocate import Global, empty_layers
from lth_runner.probe.paths import WHAT, on_paths
from lth_runner.probe.probe import Value
from lth_runner.probe.reference import dense_training
from lth_runner.problem.requirements import input_shape
from lth_runner.problem.size import bytes_of_copies
from lth_runner.problem.task import Task
from lth_runner.score import Magnitude
from lth_runner.search.early_bird import mask_distance
from lth_runner.search.ticket import Past, Trained
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import derive
from lth_runner.values.steps import Clock, Duration, Step

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundOverlap:
    """Computes the Jaccard index of this mask and the ticket's mask of the round before."""

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, float]]:
        if past:
            yield "mask_overlap_previous", trained.mask.overlap(past[-1].mask)


@dataclass(frozen=True)
class Collapse:
    """Counts the layers without a single weight, where the network is cut.

    A warning names those that a training has emptied: of a ticket's mask its search has told.
    """

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, float]]:
        empty = empty_layers(trained.mask)
        if emptied := [name for name in empty if bool(trained.ticket.mask[name].any())]:
            log.warning(
                "warning: the training left nothing of %s: the network is cut there",
                ", ".join(emptied),
            )
        yield "num_collapsed_layers", len(empty)


@dataclass(frozen=True)
class DenseOverlap:
    """Computes the Jaccard index of this mask and the trained dense network's largest weights.

    As many weights are taken as the mask keeps, by one threshold for all layers: the mask of
    one-shot magnitude pruning. Two random masks of density d expect d / (2 - d).
    """

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        dense = dense_training(past, trained)
        if dense is None:
            return
        seed = derive(task.seed, "probe", "dense-overlap")
        largest = magnitude_mask(task, dense, dense.clock.total, trained.mask.density, seed)
        yield "mask_overlap_dense_magnitude", trained.mask.overlap(largest)


@dataclass(frozen=True)
class EffectiveDensity:
    """Measures the density without kept weights that lie on no path from an input to an output.

    ``effective_density`` and ``..._by_layer`` count live weights among the prunable,
    ``num_dead_weights`` those that are kept and not live; biases lie on no path and do not count.
    Vysogorets & Kempe, JMLR 2023, arXiv 2107.02306.
    """

    def check(self, task: Task) -> None:
        """Raises UserError for inputs that are tokens."""
        input_shape(task, WHAT)

    def bytes_on_device(self, task: Task) -> int:
        """Counts the weights and their gradient, in float64."""
        return bytes_of_copies(task, 1, 1, size=8)

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        alive = on_paths(task, trained.mask)
        yield "effective_density", alive.density
        yield "effective_density_by_layer", alive.layer_density()
        yield "num_dead_weights", trained.mask.of_weights().num_kept - alive.num_kept


@dataclass(frozen=True)
class MaskDistance:
    """Measures how far magnitude masks of the dense training are from one to the next.

    The distance is the share of the weights in which two masks differ, a mask every ``every``:
    what early-bird pruning watches. Of round 0 alone.

    Reads snapshots; those that were not kept are made by running the training again, once, and
    stay in the Store. Two random masks of sparsity s differ in 2s(1 - s).
    You et al., ICLR 2020, arXiv 1909.11957. Raises UserError for a sparsity outside (0, 1) and for
    an ``every`` that is no duration.
    """

    sparsity: float = 0.7
    every: Duration | str = "1ep"

    def __post_init__(self) -> None:
        object.__setattr__(self, "every", Duration.parse(self.every))
        if not Duration.parse(self.every).amount:
            raise UserError(f"probe.mask_distance.every={self.every}: give more than nothing")
        if isinstance(self.sparsity, bool) or not 0 < self.sparsity < 1:
            raise UserError(
                f"probe.mask_distance.sparsity={self.sparsity!r}: give a share in (0, 1)"
            )

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        if past or dense_training(past, trained) is None:
            return
        seed = derive(task.seed, "probe", "mask-distance")
        masks = [
            magnitude_mask(task, trained, step, 1 - self.sparsity, seed)
            for step in self.steps(trained.clock)
        ]
        yield "mask_distance_curve", [mask_distance(one, other) for one, other in pairwise(masks)]

    def steps(self, clock: Clock) -> list[Step]:
        """Names the steps of the masks, whole multiples of ``every`` to the end of the training."""
        every = Duration.parse(self.every)
        multiples = (Duration(num * every.amount, every.unit) for num in count(1))
        steps = (clock.steps(one, "probe.mask_distance.every") for one in multiples)
        return sorted({*takewhile(lambda step: step <= clock.total, steps)} - {0})


def magnitude_mask(task: Task, trained: Trained, step: Step, density: float, seed: int) -> Mask:
    """Masks the largest weights of a training at a step; equal ones by seed."""
    weights = trained.weights if step == trained.clock.total else trained.at(step)
    whole = task.dense()
    return Global()(Magnitude()(task, weights, whole), density, whole, seed)
