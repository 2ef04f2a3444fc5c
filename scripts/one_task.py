"""Measures of runs that share a name and differ in their task: which of them a claim is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from measures import Found, above, beside, change, counted, held, level, ruled

from lth_runner.runs.evidence.estimate import Estimate, one_sample, sample
from lth_runner.runs.evidence.judge import ruling
from lth_runner.runs.evidence.means import mean
from lth_runner.runs.evidence.rows import FinishedRun, rewind_step
from lth_runner.runs.evidence.sources import universality
from lth_runner.runs.evidence.transfer import Transfer
from lth_runner.runs.evidence.transfer_runs import find_transfers

Runs = Mapping[str, FinishedRun]


class Measure(Protocol):
    """Reads a claim off runs by their role; None where they do not reach it."""

    def __call__(self, runs: Runs) -> Found | None: ...


@dataclass(frozen=True)
class On:
    """Another measure, of runs on one data set alone.

    ``steps``: the step that a role's tickets are rewound to; ``drawn``: roles whose start is a draw
    by the seed, while all others are pretrained; ``keeps``: roles whose rounds keep the weights
    that the one before has trained.
    """

    dataset: str
    measure: Measure
    steps: Mapping[str, int] = field(default_factory=dict)
    drawn: frozenset[str] = frozenset()
    keeps: frozenset[str] = frozenset()

    def __call__(self, runs: Runs) -> Found | None:
        for role, run in runs.items():
            if run.option("dataset", "name") != self.dataset:
                return None
            if (run.option("origin") is None) != (role in self.drawn):
                return None
            if (run.option("rewind", "weights") == "keep") != (role in self.keeps):
                return None
            if rewind_step(run) != self.steps.get(role, 0):
                return None
        return self.measure(runs)


@dataclass(frozen=True)
class NoBetter:
    """``first`` less ``second`` at one density: by less than a margin better."""

    kept: float
    margin: float

    def __call__(self, runs: Runs) -> Found | None:
        found = beside((runs["second"], runs["first"]), self.kept)
        if found is None:
            return None
        (plain, other), levels, lead = found
        text = f"{level(other)} against {level(plain)}: {change(-lead)}"
        return ruled(text, held(*levels, lead), -self.margin, as_good=True)


def matrix(runs: Runs, kept: float) -> Transfer | None:
    """The largest matrix of carried tickets that runs make, where it has this density."""
    found = max(find_transfers(list(runs.values())), key=lambda one: len(one.cells), default=None)
    if found is None or not any(abs(d - kept) <= 0.01 for d in found.densities):
        return None
    return found


def carried_means(found: Transfer, kept: float) -> dict[tuple[str, str], float]:
    """(source, target) -> the carried ticket's mean; a target's own ticket is one of them."""
    means = {c.pair: c.level(kept) for c in found.cells}
    means |= {(c.target, c.target): c.own_level(kept) for c in found.cells}
    return {pair: one.mean for pair, one in means.items() if one is not None and one.mean}


@dataclass(frozen=True)
class BestSource:
    """On each target the tickets of one source less the mean of the others'; over the targets.

    A target's own ticket is none that was carried.
    """

    source: str
    kept: float
    num_targets: int

    def __call__(self, runs: Runs) -> Found | None:
        found = matrix(runs, self.kept)
        if found is None:
            return None
        means = carried_means(found, self.kept)
        leads = {}
        for target in found.targets:
            others = [
                value for (source, to), value in means.items()
                if to == target and source not in (target, self.source)
            ]  # fmt: skip
            if (self.source, target) in means and others:
                leads[target] = means[self.source, target] - mean(others)
        if len(leads) < self.num_targets:
            return None
        over = one_sample(sample(list(leads.values())), 0.0)
        told = each({target: Estimate(1, lead) for target, lead in leads.items()})
        return above(f"{told}; mean {change(over)}", over, 0.0)


@dataclass(frozen=True)
class Universal:
    """The tickets of a source on every target less the dense networks, of runs of most seeds.

    On each by less than a margin below: shown by the least sure of them, refuted by the surest,
    with all targets counted in (Bonferroni).
    """

    source: str
    kept: float
    num_targets: int
    margin: float

    def __call__(self, runs: Runs) -> Found | None:
        found = [
            one for transfer in find_transfers(list(runs.values()))
            for one in universality(transfer, self.kept)
            if one.source == self.source and len(one.targets) == self.num_targets
        ]  # fmt: skip
        if not found:
            return None
        judged = max(found, key=lambda one: min(on.gain.n for on in one.targets.values()))
        gains = {name: on.gain for name, on in judged.targets.items()}
        text = (
            f"{each(gains)} to dense; within one standard deviation on {judged.num_within} of "
            f"{judged.num_targets}"
        )
        said = {ruling(on.held, as_good=True) for on in judged.targets.values()}
        if "refuted" in said:
            return counted(text, right=False)
        if "silent" in said:
            return Found(text, None, None)
        known = [p for gain in gains.values() if (p := gain.p_above(-self.margin)) is not None]
        whole = max(known) if len(known) == len(gains) else None
        return Found(text, whole, min(1.0, len(gains) * (1 - max(known))) if known else None)


def each(differences: Mapping[str, Estimate]) -> str:
    """``sst2 −1.2 [−2.0, −0.4], trec +0.4 [−0.1, +0.9]``: points by target."""
    return ", ".join(f"{name} {change(of, decimals=1)}" for name, of in differences.items())


def numbered(names: Sequence[tuple[str, str | None]]) -> dict[str, tuple[str, str | None]]:
    """Roles of a claim about every run of some names."""
    return {str(place): name for place, name in enumerate(names)}
