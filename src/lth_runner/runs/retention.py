"""The probe of what a network that goes on from an earlier run still knows of that run's task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from lth_runner.problem.task import Task
from lth_runner.runs.origin import TICKET, FromRun
from lth_runner.runs.rebuilt import rebuilt
from lth_runner.search.ticket import Past, Trained
from lth_runner.values import identity
from lth_runner.values.errors import UserError
from lth_runner.values.listed import listed
from lth_runner.values.name_patterns import as_names, select
from lth_runner.values.state import State


@dataclass(frozen=True)
class Retention:
    """Measures an earlier run's task, by its test data, on the network that was trained here.

    ``of`` with ``round``, ``arm`` and ``seed`` is the training that is looked back to, chosen as
    ``FromRun`` does. ``own``: patterns of the tensors that stay that training's, its head; all
    others are those trained here, as weights whatever they were trained in.
    ``retained_<measure>``: the earlier task's headline; ``retained_before``: what that training
    itself reached. Raises UserError where the networks differ elsewhere than in ``own``.
    """

    of: str = field(compare=False)
    own: Sequence[str] = ()
    round: int = field(default=0, compare=False)
    arm: str = field(default=TICKET, compare=False)
    seed: int | None = field(default=None, compare=False)
    content: str = field(init=False, default="")  # of the weights, and of what they were trained on

    def __post_init__(self) -> None:
        object.__setattr__(self, "own", as_names(self.own))
        told = {"weights": self._run.content, "task": self._earlier.identity}
        object.__setattr__(self, "content", identity.digest(told))

    def check(self, task: Task) -> None:
        """Raises UserError where this network has not the tensors of the earlier one."""
        self._mixed(task.merged(task.init()))

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, float]]:
        measure = self._earlier.objective.measures[0]
        figures = self._earlier.evaluate(self._mixed(task.merged(trained.weights)), "test")
        yield f"retained_{measure.name}", figures[measure.name]
        yield "retained_before", self._before

    @cached_property
    def _run(self) -> FromRun:
        return FromRun(self.of, self.round, self.seed, self.arm, key="probe.retention.of")

    @cached_property
    def _earlier(self) -> Task:
        """The earlier problem, whose network has its stock weights."""
        return replace(rebuilt(self._run.folder), coordinates=None)

    @cached_property
    def _before(self) -> float:
        measure = self._earlier.objective.measures[0]
        return self._earlier.evaluate(self._run.weights, "test")[measure.name]

    def _mixed(self, here: State) -> State:
        """Puts the earlier head on a network that was trained here."""
        there = self._run.weights
        own = select(self.own, there, "probe.retention.own")
        lacking = [
            name
            for name, value in there.items()
            if name not in own and (name not in here or here[name].shape != value.shape)
        ]
        if lacking:
            raise UserError(
                f"probe.retention.of={self.of} has {listed(sorted(lacking))}, which this network "
                "has not, or in another shape: name what is the earlier task's alone in "
                "probe.retention.own"
            )
        return {name: value if name in own else here[name] for name, value in there.items()}
