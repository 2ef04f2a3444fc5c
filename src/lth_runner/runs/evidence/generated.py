"""What flows have generated, beside the networks that they learned from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from lth_runner.runs.evidence.means import number
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.folder import Row
from lth_runner.values.measure import ACCURACY, Measure

EXPLAINED = "generated_explained"
FIELDS = ("spread", "ensemble", "nearest", "neighbours", "pairwise", "same_errors")
FLOW, TRAINING = "flow", "training"
CURVES = ("generated_curve", "generated_nearest_curve")


@dataclass(frozen=True)
class Kind:
    """Networks of one making: their figures on average."""

    name: str
    value: float
    figures: Mapping[str, float]

    def __hash__(self) -> int:
        return hash((self.name, self.value))


@dataclass(frozen=True)
class Flow:
    """One trained flow and what it generates; ``values`` and ``nearest`` of each network.

    Either is NaN of a network that has none, as where its weights are not finite.
    ``measure``: the headline of the generated networks' own problem.
    """

    run: FinishedRun
    seed: int
    measure: Measure
    kinds: tuple[Kind, ...]
    values: tuple[float, ...]
    nearest: tuple[float, ...]
    explained: float

    def option(self, name: str) -> object:
        """Reads a key of the flow's data."""
        return self.run.option("dataset", name)

    @property
    def called(self) -> str:
        """Names it by what flows differ in."""
        order = "in one order" if self.option("canonicalize") else "as trained"
        num = self.option("components")
        reduced = "all weights" if num is None else f"{num} components"
        told = f"{order}, {reduced}, noise {self.option('source_std')}"
        return f"{told}, seed {self.seed}" if len(self.run.seeds) > 1 else told

    def kind(self, name: str) -> Kind | None:
        """Finds networks of one making."""
        return next((one for one in self.kinds if one.name == name), None)

    @property
    def num_neighbours(self) -> int | None:
        """How many training networks are the nearest of a generated one."""
        one = self.kind(FLOW)
        return None if one is None else int(one.figures["neighbours"])

    @property
    def novelty(self) -> float | None:
        """The distance to the nearest training network, in those of these to each other."""
        ours, theirs = (
            None if kind is None else kind.figures.get("nearest")
            for kind in (self.kind(FLOW), self.kind(TRAINING))
        )
        return ours / theirs if ours is not None and theirs else None


@dataclass(frozen=True)
class Generation:
    """Flows over the networks of the same runs, side by side."""

    source: str
    flows: tuple[Flow, ...]

    @property
    def runs(self) -> tuple[FinishedRun, ...]:
        """The runs of the flows, each once."""
        return tuple({flow.run.folder: flow.run for flow in self.flows}.values())


def find_generated(runs: Sequence[FinishedRun]) -> tuple[Generation, ...]:
    """Finds flows whose generated networks were measured, by the runs that they learned from."""
    found: dict[str, list[Flow]] = {}
    for run in runs:
        for row in run.rows:
            if EXPLAINED in row and row.get("arm") == TICKET:
                flow = _flow(run, row, runs)
                if flow.kinds:
                    found.setdefault(str(run.option("dataset", "run")), []).append(flow)
    return tuple(
        Generation(source, tuple(sorted(flows, key=lambda flow: flow.called)))
        for source, flows in found.items()
    )


def _flow(run: FinishedRun, row: Row, runs: Sequence[FinishedRun]) -> Flow:
    measure = _measure(run, row, runs)
    means = row.get(f"generated_{measure.name}")
    columns = {field: row.get(f"generated_{field}") for field in FIELDS}
    kinds = [
        Kind(name, value, {
            field: figure
            for field, of in columns.items()
            if isinstance(of, Mapping) and (figure := number(of.get(name))) is not None
        })
        for name, mean in (means.items() if isinstance(means, Mapping) else ())
        if (value := number(mean)) is not None
    ]  # fmt: skip
    values, nearest = (
        tuple(
            math.nan if (known := number(value)) is None else known for value in row.get(name) or ()
        )
        for name in CURVES
    )
    explained = number(row.get(EXPLAINED)) or 0.0
    return Flow(run, row["seed"], measure, tuple(kinds), values, nearest, explained)


def _measure(run: FinishedRun, row: Row, runs: Sequence[FinishedRun]) -> Measure:
    """Finds the headline of the networks that a flow learned from.

    Of their run where it is among those that are looked at, else by its name in the row.
    """
    named = run.option("dataset", "run")
    first = named if isinstance(named, str) or not named else named[0]
    place = PurePath(str(first)).name
    for one in runs:
        if place in (one.folder.name, one.folder.parent.name) and one is not run:
            return one.measure
    others = {f"generated_{field}" for field in FIELDS}
    name = next(
        key.removeprefix("generated_")
        for key, value in row.items()
        if key.startswith("generated_") and isinstance(value, Mapping) and key not in others
    )
    return ACCURACY if name == ACCURACY.name else Measure(name)
