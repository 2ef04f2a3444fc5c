"""Where the next round starts: an explicit specification, because published codes all differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from lth_runner.errors import UserError, nearest
from lth_runner.patterns import select
from lth_runner.seeds import derive
from lth_runner.state import State
from lth_runner.step import Clock, Duration, Step
from lth_runner.task import Task
from lth_runner.ticket import Past, Start


@dataclass(frozen=True)
class Rewind:
    """Weights and clocks of a round's start, from the rounds before.

    ``step`` k: how far back (Frankle et al., ICML 2020, arXiv 1912.05671; 0it is the original
    hypothesis). ``weights``: W_k of the dense training, the last round's trained weights, or a
    fresh draw. ``only``: patterns of the parameters that are rewound, the others keep their
    trained values. ``bn``: normalisation scales, shifts and statistics go back too, or stay
    trained. ``optimizer``: fresh, or the state it had at k. ``lr_clock``: the schedule continues
    from k, starts over with the whole length, or stands at its final rate (fine-tuning).
    ``data_order``: the dense training's batches again, or new ones in each round.

    Learning-rate rewinding (Renda et al., ICLR 2020, arXiv 2003.02389) is weights=keep, bn=keep,
    lr_clock=rewind.
    """

    step: Duration | str = "0it"
    weights: Literal["rewind", "keep", "reinit"] = "rewind"
    only: Sequence[str] = ()
    bn: Literal["rewind", "keep"] = "rewind"
    optimizer: Literal["fresh", "restore"] = "fresh"
    lr_clock: Literal["rewind", "restart", "final"] = "rewind"
    data_order: Literal["rewind", "continue"] = "continue"

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", Duration.parse(self.step))
        for name, hint in get_type_hints(type(self)).items():
            accepted, value = get_args(hint), getattr(self, name)
            if name not in ("step", "only") and value not in accepted:
                raise UserError(f"rewind.{name}={value!r}; {nearest(str(value), accepted)}")
        if self.only is None:
            raise UserError(
                "rewind.only is not set: name what is rewound, e.g. rewind.only=[output]"
            )
        if self.only and self.weights != "rewind":
            raise UserError(f"rewind.only names what is rewound: weights={self.weights} has no use")

    def at(self, clock: Clock) -> Step:
        """The step k; raises UserError where it lies at or past the end of the training."""
        step = clock.at(Duration.parse(self.step), "rewind.step")
        if step == clock.total and self.lr_clock != "restart":
            raise UserError(
                f"rewind.step={self.step} is the end of training: nothing is left to train"
            )
        return step

    def check(self, task: Task, clock: Clock) -> None:
        """Raises UserError for a step past the end and for patterns that match nothing."""
        self.at(clock)
        select(self.only, task.init(), "rewind.only")

    def __call__(self, task: Task, past: Past) -> tuple[State, Start]:
        """The weights (not yet masked) and the start of the round after ``past``."""
        dense = past[0]
        step = self.at(dense.clock)
        start = Start(
            step=0 if self.lr_clock == "restart" else step,
            order=len(past) if self.data_order == "continue" else dense.ticket.start.order,
            final_rate=self.lr_clock == "final",
            optimizer=dense.optimizer_at(step) if self.optimizer == "restore" else {},
        )
        return self._weights(task, past, step) | self._bn(task, past, step), start

    def _weights(self, task: Task, past: Past, step: Step) -> State:
        if self.weights == "keep":
            return past[-1].weights
        if self.weights == "reinit":
            return task.init(derive(task.seed, "reinit", len(past)))
        early = past[0].at(step)
        if not self.only:
            return early
        chosen = select(self.only, early, "rewind.only")
        return past[-1].weights | {name: early[name] for name in chosen}

    def _bn(self, task: Task, past: Past, step: Step) -> State:
        if self.bn == "keep":
            source = past[-1].weights
        elif self.weights == "reinit":
            return {}  # the fresh draw brings its own
        else:
            source = past[0].at(step)
        return {name: source[name] for name in source if name in task.norm}
