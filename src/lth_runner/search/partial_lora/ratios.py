"""How many rows and columns of each layer's adapter are trained: evenly, or as a task needs."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from lth_runner.allocate import count, keep_top
from lth_runner.allocate.budget import Budget
from lth_runner.problem.answers import figures
from lth_runner.problem.covers import TRANSPOSED
from lth_runner.problem.low_rank import pairs
from lth_runner.problem.task import Task
from lth_runner.schedule import Schedule
from lth_runner.search.partial_lora.lines import Lines, Spectrum, lines_of, singular
from lth_runner.search.ticket import Past
from lth_runner.values import identity, tree
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.measure import ACCURACY
from lth_runner.values.seeds import derive
from lth_runner.values.state import State
from lth_runner.values.tree import Batch

log = logging.getLogger(__name__)
BATCH = 64


class Ratios(Protocol):
    """Decides how many lines of each matrix are kept; ``reads`` what of the samples it goes by."""

    @property
    def needs_dense(self) -> bool:
        """Whether it asks for the dense training."""

    @property
    def reads(self) -> Collection[str]: ...

    def check(self, task: Task) -> None:
        """Raises UserError, before any training, for what this problem cannot serve."""

    def __call__(self, task: Task, past: Past) -> Lines: ...


@dataclass(frozen=True)
class Even:
    """Keeps the same share q of the rows of every B and of the columns of every A.

    q is the schedule's last density: of the trained entries, so that of the entries of a change of
    a weight q^2 may differ from 0.
    """

    schedule: Schedule
    needs_dense: ClassVar[bool] = False
    reads: ClassVar[Collection[str]] = ()

    def check(self, task: Task) -> None:
        self(task, [])

    def __call__(self, task: Task, past: Past) -> Lines:
        lines = lines_of(task.dense())
        return even(lines, count(self.schedule()[-1], sum(lines.values())))


def even(lines: Lines, total: int) -> Lines:
    """Shares a number of lines out to the matrices as they have lines, one to each at least."""
    budget = Budget(total, dict(lines), {})
    shares = budget.proportional({name: float(num) for name, num in lines.items()})
    try:
        return budget.whole_numbers(shares, avoid_collapse=True)
    except UserError as error:
        raise UserError(
            f"of {sum(lines.values())} rows and columns only {total} would be kept, and there are "
            f"{len(lines)} matrices, each of which keeps one at least: lower pruner.sparsity"
        ) from error


@dataclass(frozen=True)
class Derived:
    """Derives each layer's density from how few elements of its pretrained weight a task needs.

    The full model is the dense training's: theta_0 with its adapters and its head. Of each weight
    W = U diag(s) V^T of theta_0 an element is scored by (W_k)_ij^2, with W_k the fewest singular
    directions that hold a share e of the energy sum s^2; the fewest elements that hold a share e of
    sum (W_k)^2 stay, the others of theta_0 are zero. One e holds for all layers, the smallest (by
    ``num_steps`` bisections) at which accuracy on ``num_samples`` training samples is ``tau`` of
    the full model's at least. The share of elements kept is rho, and sqrt(rho) of the rows and of
    the columns are what a layer keeps, one at least.
    A reading of Damirchi et al., arXiv 2512.22495, whose code is not published. Raises UserError
    for a tau outside (0, 1] and for an objective without accuracy.
    """

    tau: float = 0.9
    num_samples: int = 256
    num_steps: int = 7
    needs_dense: ClassVar[bool] = True
    reads: ClassVar[Collection[str]] = ("labels", "pixels")

    def __post_init__(self) -> None:
        number = isinstance(self.tau, (int, float)) and not isinstance(self.tau, bool)
        if not number or not 0 < self.tau <= 1:
            raise UserError(f"pruner.tau={self.tau!r}: give a share of accuracy in (0, 1]")
        for name in ("num_samples", "num_steps"):
            if isinstance(value := getattr(self, name), bool) or value < 1:
                raise UserError(f"pruner.{name}={value!r}: give a whole number, at least 1")

    def check(self, task: Task) -> None:
        if ACCURACY.name not in {measure.name for measure in task.objective.measures}:
            raise UserError(
                "pruner.ratios=derived derives densities from accuracy, and "
                f"{type(task.objective).__name__} has none: take pruner.ratios=even"
            )

    def __call__(self, task: Task, past: Past) -> Lines:
        trained = past[0].weights
        asked = {
            "task": task.identity,
            "seed": task.seed,
            "ratios": identity.describe(self),
            "weights": states.fingerprint(trained),
        }
        kept = past[0].derived(
            f"ratios-{identity.digest(asked, 16)}",
            lambda: {n: torch.tensor(d) for n, d in self.densities(task, trained).items()},
        )
        lines, found = lines_of(task.dense()), dict[str, int]()
        for weight, names in pairs(task.prunable).items():
            share = math.sqrt(float(kept[weight]))
            found |= {name: max(1, round(share * lines[name])) for name in names}
        return found

    @torch.no_grad()
    def densities(self, task: Task, trained: State) -> dict[str, float]:
        """Derives the density of each weight that has a pair; ``trained``: in A, B and a head."""
        thinned = _Thinned.of(task, trained, self.num_samples)
        full = thinned.accuracy(None)
        low, high = 0.0, 1.0
        found = dict.fromkeys(thinned.spectra, 1.0)
        for _ in range(self.num_steps):
            share = (low + high) / 2
            masks = thinned.masks(share)
            if thinned.accuracy(masks) >= self.tau * full:
                high, found = share, {name: density(kept) for name, kept in masks.items()}
            else:
                low = share
        log.info(
            "ratios   elements of pretrained weights that %.4g of the accuracy (%.2f %% of %d "
            "training samples) needs: %.3g to %.3g of a layer's, a share %.3g of their energy",
            self.tau, 100 * full, thinned.num, min(found.values()), max(found.values()), high,
        )  # fmt: skip
        return found


def density(kept: Tensor) -> float:
    """Computes the share of the elements that are kept."""
    return float(kept.float().mean())


@dataclass(frozen=True, eq=False)
class _Thinned:
    """A trained network of which theta_0 loses elements, and the samples it is asked about."""

    stock: Task
    weights: State
    base: State
    spectra: Mapping[str, Spectrum]
    turned: Mapping[str, bool]
    batches: Sequence[Batch]

    @classmethod
    def of(cls, task: Task, trained: State, num: int) -> _Thinned:
        stock = replace(task, coordinates=None)
        merged = task.merged(trained)
        spectra = singular(task)
        start = task.merged(task.init())
        return cls(
            stock,
            {name: merged[name].to(task.device) for name in stock.names},
            {name: start[name] for name in spectra},
            spectra,
            {name: task.kind(name) == TRANSPOSED for name in spectra},
            _samples(task, num),
        )

    @property
    def num(self) -> int:
        """How many samples there are."""
        return sum(tree.length(targets) for _, targets in self.batches)

    def masks(self, share: float) -> dict[str, Tensor]:
        """Finds the elements that stay where a share of the energy does, as the weights lie."""
        found = {}
        for name, (u, s, v) in self.spectra.items():
            energies = s.double().square()
            enough = energies.cumsum(0) >= share * energies.sum()
            k = int(enough.int().argmax()) + 1
            scores = ((u[:, :k] * s[:k]) @ v[:k]).square()
            ordered = scores.double().flatten().sort(descending=True).values.cumsum(0)
            num = int((ordered < share * ordered[-1]).sum()) + 1
            every = torch.ones_like(scores, dtype=torch.bool)
            kept = keep_top(scores, every, min(num, scores.numel()), 0)
            found[name] = kept.t() if self.turned[name] else kept
        return found

    def accuracy(self, masks: Mapping[str, Tensor] | None) -> float:
        """Measures the network on the samples, without what the masks remove of theta_0."""
        weights = dict(self.weights)
        for name, kept in (masks or {}).items():
            lost = (self.base[name] * ~kept).to(weights[name])
            weights[name] = weights[name] - lost
        answers = ((self.stock.outputs(weights, x).float(), y) for x, y in self.batches)
        return figures(answers, self.stock.objective)[ACCURACY.name]


def _samples(task: Task, num: int) -> list[Batch]:
    """Draws so many training samples, or all where there are fewer, in batches."""
    seed = derive(task.seed, derive(task.seed, "ratios"))
    drawn = task.data.sample(min(num, task.data.num_train), seed)
    return list(zip(*(tree.split(part, BATCH) for part in drawn), strict=True))
