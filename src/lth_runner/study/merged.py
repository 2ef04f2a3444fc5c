"""Networks that were trained from one start, merged into one that keeps a head for each task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from lth_runner.problem.task import Task
from lth_runner.runs.folder import MERGES, append_rows, read_flat_config
from lth_runner.runs.origin import FromRun
from lth_runner.runs.rebuilt import rebuilt
from lth_runner.study.merging import Interference, Merging, interference
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.listed import listed
from lth_runner.values.measure import Measure
from lth_runner.values.name_patterns import select
from lth_runner.values.state import State

SHOWN = 3  # tensors that a message names


@dataclass(frozen=True, eq=False)
class Source:
    """One training that is merged: its task in stock weights, what it began and ended with.

    ``own``: the tensors that stay its own, its head and what is no parameter: running statistics
    of norms, which are of its network's values and no changes that add up (a sum of variances
    that fell may be negative).
    """

    name: str
    task: Task
    start: State
    end: State
    own: frozenset[str]
    head: frozenset[str] = frozenset()  # those of its own that were named
    classes: tuple[str, ...] = ()  # what its answers stand for, in their order, where that is known
    folder: Path = Path()  # of its run
    row: Mapping[str, Any] = field(default_factory=dict)  # its line of rounds.jsonl

    @classmethod
    def of_run(
        cls, run: str, own: Sequence[str], *, round: int, arm: str, seed: int | None
    ) -> Source:
        """Reads a training of a finished run; its problem is built again from the folder.

        ``own`` are patterns of its head's tensors.
        """
        chosen = FromRun(run, round, seed, arm, key="RUN")
        task = rebuilt(chosen.folder)
        task = task if task.seed == chosen.row["seed"] else task.with_seed(chosen.row["seed"])
        start, end = task.merged(task.init()), dict(chosen.weights)
        stock = replace(task, coordinates=None)
        name = f"{chosen.folder.parent.name}/{chosen.folder.name}"
        head = select(own, end, "--head")
        own_tensors = head | (end.keys() - _parameters(stock))
        classes = _classes(task, chosen.folder)
        return cls(name, stock, start, end, own_tensors, head, classes, chosen.folder, chosen.row)

    @property
    def measure(self) -> Measure:
        """The headline by which it is measured."""
        return self.task.objective.measures[0]

    def value(self, weights: State, split: str) -> float:
        """Measures weights on this task."""
        return self.task.evaluate(weights, split)[self.measure.name]


@dataclass(frozen=True)
class Trial:
    """One merged network: the weight of every vector, and its figures by source."""

    weight: float
    values: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Merge:
    """Sources that began at the same weights, whose changes are merged.

    Raises UserError for fewer than two, for networks of other tensors, for heads that are all of a
    network, for other starts, and for heads that are merged though they number other classes.
    """

    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        if len(self.sources) < 2:
            raise UserError("to merge takes two runs or more: name another one")
        names = [one.name for one in self.sources]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"{twice} is named twice: its change would count double")
        first = self.sources[0]
        if not self.shared:
            raise UserError(
                f"--head takes all weights of {first.name}, and nothing is left to merge: name the "
                "tensors of its output layer alone"
            )
        for other in self.sources[1:]:
            _refuse_other_classes(first, other)
            odd = sorted((first.end.keys() - first.own) ^ (other.end.keys() - other.own))
            if odd:
                raise UserError(
                    f"{first.name} and {other.name} have other tensors: {listed(odd[:SHOWN])}: "
                    "name each task's own in --head"
                )
            apart = [n for n in self.shared if not _same(first.start[n], other.start[n])]
            if apart:
                raise UserError(
                    f"{first.name} and {other.name} started from other weights "
                    f"({listed(apart[:SHOWN])}), so that their changes do not add up: train both "
                    "from one origin, and name each task's own in --head"
                )

    @cached_property
    def shared(self) -> tuple[str, ...]:
        """The tensors that are merged: the weights that all sources have."""
        first = self.sources[0]
        return tuple(
            n for n, v in first.end.items() if n not in first.own and v.is_floating_point()
        )

    @property
    def told(self) -> str:
        """Says whose heads are kept and whose are merged, and what their answers stand for."""
        if any(one.head for one in self.sources):
            named = sorted({name for one in self.sources for name in one.head})
            return f"{listed(named)}: each its own"
        answers = {one.name: one.classes or (one.task.data.name,) for one in self.sources}
        if len(set(answers.values())) == 1:
            (same,) = set(answers.values())
            return f"none is named: output layers are merged too, all of {listed(same)}"
        told = "; ".join(f"{name} of {listed(classes)}" for name, classes in answers.items())
        return (
            f"none is named: output layers are merged too, as if they answered the same: {told}. "
            "With --head PATTERN each keeps its own"
        )

    @cached_property
    def vectors(self) -> tuple[State, ...]:
        """The change of each source, theta - theta_0."""
        return tuple(
            {name: one.end[name] - one.start[name] for name in self.shared} for one in self.sources
        )

    def networks(self, method: Merging, weight: float) -> tuple[State, ...]:
        """Merges with one weight for all, and gives each source's network: the body and its head.

        Where no source has changed a weight it is the start's to the last bit.
        """
        change = method(self.vectors, [weight] * len(self.sources))
        start = self.sources[0].start
        body = {name: (start[name] + change[name]).to(start[name]) for name in self.shared}
        return tuple(one.end | body for one in self.sources)

    def tried(self, method: Merging, weight: float, split: str) -> Trial:
        """Measures a merged network on every task."""
        networks = self.networks(method, weight)
        pairs = zip(self.sources, networks, strict=True)
        return Trial(weight, tuple(one.value(network, split) for one, network in pairs))

    def best(self, method: Merging, weights: Sequence[float]) -> float:
        """Finds the weight whose network loses least on validation, on average over the tasks.

        A loss is taken from what the source itself reaches there; of equal weights it is the first.
        A weight at which a figure is no number is chosen only where that is so at every weight.
        """
        for one in self.sources:
            if next(iter(one.task.data.batches("val", 1)), None) is None:
                raise UserError(
                    f"{one.name} has no validation samples to choose a weight by: give one --weight"
                )
        alone = [one.value(one.end, "val") for one in self.sources]

        def gain(weight: float) -> float:
            found = self.tried(method, weight, "val").values
            triples = zip(self.sources, found, alone, strict=True)
            mean = fmean(one.measure.gain(value, own) for one, value, own in triples)
            return mean if math.isfinite(mean) else -math.inf

        return max(weights, key=gain)

    def alone(self, split: str = "test") -> tuple[float, ...]:
        """Measures each source by itself."""
        return tuple(one.value(one.end, split) for one in self.sources)

    @cached_property
    def interference(self) -> Mapping[tuple[str, str], Interference]:
        """Counts where each two of the changes meet, and where their signs differ."""
        named = list(zip(self.sources, self.vectors, strict=True))
        return {
            (one.name, other.name): interference(a, b)
            for (one, a), (other, b) in combinations(named, 2)
        }


def keep_merges(merge: Merge, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Adds merged networks' figures to ``merges.jsonl`` in the first source's run folder.

    Each row has what it is of beside what was measured: the trainings, and where two changes meet.
    """
    names = [one.name for one in merge.sources]
    met = [
        {"of": [names.index(one), names.index(other)], **asdict(found)}
        for (one, other), found in merge.interference.items()
    ]
    file = merge.sources[0].folder / MERGES
    append_rows(file, [{**row, "interference": met} for row in rows])
    return file


def training_of(source: Source) -> dict[str, Any]:
    """Says which training a source is, as ``merges.jsonl`` has it."""
    place = {"name": source.folder.parent.name, "run": source.folder.name}
    return place | {key: source.row.get(key) for key in ("round", "arm", "seed", "training_key")}


def write_merged(path: Path, network: State, facts: Mapping[str, Any]) -> None:
    """Writes a merged network as a plain state_dict, which origin=file starts from."""
    states.save(path, network, {name: str(value) for name, value in facts.items()})


def _parameters(task: Task) -> set[str]:
    """Names what of a network's tensors is a parameter."""
    network = next(module for _, module in task.named_modules())
    return {name for name, _ in network.named_parameters()}


def _classes(task: Task, folder: Path) -> tuple[str, ...]:
    """Names the classes that a run's data have, or the numbers of those that it took of them."""
    named: tuple[str, ...] = getattr(task.data, "class_names", ())  # a user's own may have none
    taken = read_flat_config(folder).get("dataset.classes")
    return named or (tuple(map(str, taken)) if isinstance(taken, (list, tuple)) else ())


def _refuse_other_classes(one: Source, other: Source) -> None:
    """Refuses to merge heads whose answers, at the same places, are known to be of other classes.

    Classes of other names may be the same ones; that is told, and for the caller to know.
    """
    if one.head or other.head or not (one.classes and other.classes):
        return
    names = [[name.casefold() for name in source.classes] for source in (one, other)]
    numbers = all(name.isdecimal() for name in (*one.classes, *other.classes))
    if names[0] != names[1] and (sorted(names[0]) == sorted(names[1]) or numbers):
        raise UserError(
            f"{one.name} answers by the classes {listed(one.classes)}, {other.name} by "
            f"{listed(other.classes)}, and with no --head their output layers would be merged into "
            "one: name that layer's tensors in --head, so that each keeps its own"
        )


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)
