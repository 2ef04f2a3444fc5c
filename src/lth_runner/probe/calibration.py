"""Whether a classifier knows what it does not know: calibration, and entropy on other data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lth_runner.probe.probe import Value
from lth_runner.problem.data import Dataset
from lth_runner.problem.requirements import check_probabilities
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Past, Trained
from lth_runner.values.errors import UserError
from lth_runner.values.state import State
from lth_runner.values.tree import Batch

MOST = 1000  # bins
SPLIT = "test"


@dataclass(frozen=True)
class Calibration:
    """Holds a classifier's probabilities against what is right, and its doubt against other data.

    Samples are sorted into ``bins`` of equal width by their confidence, the probability of the
    likeliest class. Yields ``expected_calibration_error``, sum_b (n_b / n) |acc_b - conf_b|, which
    averages samples (Guo et al., ICML 2017, arXiv 1706.04599), and
    ``mean_absolute_calibration_error``, which averages the bins that have any; of each of these
    ``reliability_by_bin``, the share that is right, by the middle of the bin; the mean
    ``negative_log_likelihood`` of the right class; and ``entropy_test``, the mean entropy of the
    probabilities (nats). ``entropy_other`` is that on other data: the test split of ``other``,
    whatever its classes, or the own test images turned by ``quarter_turns``; ``auroc_other`` is
    the chance that a sample of those has more of it than one of the own. Without images to turn
    and without ``other`` both are left out. Raises UserError for other tasks than classifying
    samples and for inputs of other shapes.
    """

    bins: int = 20
    quarter_turns: int = 1
    other: Dataset | None = field(default=None, compare=False)
    content: str = field(init=False, default="")  # of the other data, which are large

    def __post_init__(self) -> None:
        if self.other is not None:
            object.__setattr__(self, "content", self.other.fingerprint)
        for name, most in (("bins", MOST), ("quarter_turns", 3)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise UserError(
                    f"probe.calibration.{name}={value!r}: give a whole number, 1 to {most}"
                )

    def check(self, task: Task) -> None:
        """Raises UserError for what classifies no samples, and for other data of another shape."""
        check_probabilities(task, "probe=calibration")
        _, targets = task.data.sample(1, 0)
        if not isinstance(targets, Tensor) or targets.ndim != 1:
            raise UserError(
                f"probe=calibration counts samples, and those of {task.data.name} have a class at "
                "each of several places: leave it out"
            )
        if self.other is None:
            return
        own, theirs = (next(data.batches(SPLIT, 1), None) for data in (task.data, self.other))
        if own is None or theirs is None:
            raise UserError(
                f"probe.calibration.other: {self.other.name} has no test samples: give other data"
            )
        _check_shapes(own, theirs, self.other.name)

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        weights = {name: value.to(task.device) for name, value in trained.weights.items()}
        found = [_read(task, weights, batch) for batch in task.evaluated(SPLIT)]
        if not found:
            return
        logs, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        yield "negative_log_likelihood", float(-logs.gather(1, labels[:, None]).mean())
        yield from reliability(logs, labels, self.bins)
        entropy = entropies(logs)
        yield "entropy_test", float(entropy.mean())
        others = [_read(task, weights, batch)[0] for batch in self._others(task)]
        if others:
            theirs = entropies(torch.cat(others))
            yield "entropy_other", float(theirs.mean())
            yield "auroc_other", auroc(entropy, theirs)

    def _others(self, task: Task) -> Iterator[Batch]:
        """Goes through other data; nothing where there are none."""
        if self.other is not None:
            yield from self.other.to(task.device).batches(SPLIT, 2000)
            return
        for inputs, targets in task.data.batches(SPLIT, 2000):
            if isinstance(inputs, Tensor) and inputs.ndim == 4 and len({*inputs.shape[2:]}) == 1:
                yield torch.rot90(inputs, self.quarter_turns, (2, 3)), targets


@torch.no_grad()
def _read(task: Task, weights: State, batch: Batch) -> tuple[Tensor, Tensor]:
    """Gives the logarithms of a batch's probabilities [samples, classes], float64, and labels."""
    inputs, targets = batch
    assert isinstance(targets, Tensor)
    logs = task.outputs(weights, inputs).float().cpu().double().log_softmax(1)
    return logs, targets.cpu()


def reliability(logs: Tensor, labels: Tensor, bins: int) -> Iterator[tuple[str, Value]]:
    """Yields the calibration errors, by sample and by bin, and what is right in each bin."""
    confidence, answer = logs.exp().max(1)
    right = (answer == labels).double()
    # of (0, 1/bins], (1/bins, 2/bins], and so on
    number = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    counts = torch.bincount(number, minlength=bins).double()
    kept = counts > 0
    sums = (torch.zeros(bins, dtype=torch.float64).index_add_(0, number, x)
            for x in (right, confidence))  # fmt: skip
    accuracies, confidences = (one[kept] / counts[kept] for one in sums)
    gaps = (accuracies - confidences).abs()
    yield "expected_calibration_error", float((gaps * counts[kept]).sum() / counts.sum())
    yield "mean_absolute_calibration_error", float(gaps.mean())
    middles = (torch.arange(bins)[kept] + 0.5) / bins
    named = zip(middles.tolist(), accuracies.tolist(), strict=True)
    yield "reliability_by_bin", {f"{middle:.4g}": accuracy for middle, accuracy in named}


def entropies(logs: Tensor) -> Tensor:
    """Computes each sample's entropy, -sum p log p, in nats."""
    return -(logs.exp() * logs).nan_to_num(0.0).sum(1)


def auroc(own: Tensor, other: Tensor) -> float:
    """Computes the chance that a value of ``other`` is larger than one of ``own``, ties by half.

    That is the area under the curve that tells them apart by a threshold.
    """
    ordered = own.sort().values
    below = torch.searchsorted(ordered, other, right=False).double()
    at_most = torch.searchsorted(ordered, other, right=True).double()
    return float((below + at_most).mean() / (2 * len(own)))


def _check_shapes(own: Batch, theirs: Batch, name: str) -> None:
    wanted, found = own[0], theirs[0]
    shape = tuple(wanted.shape[1:]) if isinstance(wanted, Tensor) else None
    other = tuple(found.shape[1:]) if isinstance(found, Tensor) else None
    if shape is None or shape != other:
        said = "tensors by name" if other is None else f"inputs of shape {other}"
        raise UserError(
            f"probe.calibration.other: {name} has {said}, and the network takes "
            f"{'tensors by name' if shape is None else shape}: give data of that shape; images of "
            "a folder are scaled, and made grey, by probe.calibration.other.shape=[1,28,28]"
        )
