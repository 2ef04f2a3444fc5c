"""Generalisation bounds for a finished training, by how few bits describe its network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from lth_runner.probe.probe import Value
from lth_runner.problem.requirements import num_classes_of
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Past, Trained
from lth_runner.values.errors import UserError

MOST_BITS = 64  # that a computer gives to one number


@dataclass(frozen=True)
class Capacity:
    """Measures the generalisation gap and bounds the true error (share of wrong answers).

    With k weights kept of N, n training samples and R the training error, each bound holds with
    probability 1 - ``delta``:
    MDL: R + sqrt((k ln N + ln(1/delta)) / (2n)), which counts the mask alone.
    Occam: R + sqrt((D ln 2 + ln(1/delta) + 2 ln D) / (2n)) with D bits to describe the network:
    log2 C(N, k) for the mask, log2(N + 1) for k, and ``bits_per_weight`` for each of the k weights
    and of the numbers that no mask covers (norms, and biases that are not pruned). With 0 bits,
    and for MDL, the bound is one for weights that the seed gives and nothing trains: supermasks.
    Bounds of 1 and more say nothing: then ``..._vacuous`` is 1.
    VC: k ln k, the order of the dimension for bounded depth (Bartlett et al., JMLR 2019,
    arXiv 1703.02930). Occam: McAllester, Machine Learning 1999; for compressed networks Zhou et
    al., ICLR 2019, arXiv 1804.05862. Raises UserError for options outside their range.
    """

    delta: float = 0.05
    bits_per_weight: float = 32

    def __post_init__(self) -> None:
        if isinstance(self.delta, bool) or not 0 < self.delta < 1:
            raise UserError(f"probe.capacity.delta={self.delta!r}: give a probability in (0, 1)")
        if isinstance(self.bits_per_weight, bool) or not 0 <= self.bits_per_weight <= MOST_BITS:
            raise UserError(
                f"probe.capacity.bits_per_weight={self.bits_per_weight!r}: give a number from 0 to "
                f"{MOST_BITS}"
            )

    def check(self, task: Task) -> None:
        """Raises UserError for an objective without a share of right answers."""
        num_classes_of(task, "probe.capacity, which bounds the share of wrong answers,")

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        weights, mask, num = trained.weights, trained.mask, task.data.num_train
        right = task.evaluate(weights, "train")["accuracy"]
        yield "generalisation_gap", right - task.evaluate(weights, "test")["accuracy"]
        kept, prunable = mask.num_kept, mask.num_prunable
        yield "vc_proxy", kept * math.log(kept) if kept else 0.0
        mdl = mdl_bound(1 - right, kept, prunable, num, self.delta)
        yield "mdl_bound", mdl
        yield "mdl_bound_vacuous", int(mdl >= 1)
        yield "mask_description_bits", log2_binomial(prunable, kept)
        others = sum(
            w.numel() for n, w in weights.items() if n not in mask and w.is_floating_point()
        )
        bits = description_bits(kept, prunable, others, self.bits_per_weight)
        occam = occam_bound(1 - right, bits, num, self.delta)
        yield "description_bits", bits
        yield "occam_bound", occam
        yield "occam_bound_vacuous", int(occam >= 1)


def log2_binomial(num: int, chosen: int) -> float:
    """Computes log2 C(num, chosen), the bits that name one mask keeping ``chosen`` of ``num``."""
    parts = math.lgamma(num + 1) - math.lgamma(chosen + 1) - math.lgamma(num - chosen + 1)
    return max(0.0, parts / math.log(2))  # lgamma rounds: C(n, n) is 1


def description_bits(kept: int, prunable: int, others: int, bits_per_weight: float) -> float:
    """Counts the bits for k, the mask, the kept weights and the numbers that no mask covers."""
    mask = math.log2(prunable + 1) + log2_binomial(prunable, kept)
    return mask + (kept + others) * bits_per_weight


def mdl_bound(error: float, kept: int, prunable: int, num: int, delta: float) -> float:
    """Computes error + sqrt((kept ln prunable + ln(1/delta)) / (2 num))."""
    return error + math.sqrt((kept * math.log(prunable) - math.log(delta)) / (2 * num))


def occam_bound(error: float, bits: float, num: int, delta: float) -> float:
    """Computes error + sqrt((bits ln 2 + ln(1/delta) + 2 ln bits) / (2 num)) for bits >= 1."""
    cost = bits * math.log(2) - math.log(delta) + 2 * math.log(bits)
    return error + math.sqrt(cost / (2 * num))
