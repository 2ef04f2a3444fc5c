"""Controls with the ticket's mask, started from another place of the same trainings."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lth_runner.problem.task import Task
from lth_runner.search import Rewinding, Search
from lth_runner.search.rewind import Layers, Rate, Rewind
from lth_runner.search.ticket import Past, Ticket
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.steps import Clock, Duration, Step

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Late:
    """Keeps the mask and rewinds to another step, to the dense training's weights and clock.

    All else is as ``search``, the run's own, has it. The step may also be an earlier one. Raises
    UserError for a search that does not rewind.
    """

    search: Search
    step: Duration | str

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", Duration.parse(self.step))
        _own(self.search, "late")

    @property
    def _rewind(self) -> Rewind:
        whole: dict[str, Any] = {"weights": "rewind", "bn": "rewind", "only": (), "layers": None}
        return dataclasses.replace(_own(self.search, "late"), step=self.step, **whole)

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError for a step at or past the end, and without a dense training."""
        step = clock.at(Duration.parse(self.step), "control.late.step")
        if step == clock.total and self._rewind.lr_clock != "restart":
            raise UserError(
                f"control.late.step={self.step} is the end of training: nothing is left to train"
            )
        _rewound_by(self.search, self._rewind).check(task, clock, rate)
        if self._rewind == _own(self.search, "late"):
            log.warning(
                "warning: control.late.step=%s is where the ticket starts: the arm is the ticket "
                "itself", self.step,
            )  # fmt: skip

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        return _started_by(self.search, self._rewind, task, ticket, past)

    def check_way_back(self, task: Task, clock: Clock, mask_by: Callable[[Step], Mask]) -> None:
        """Raises UserError for weights that round 0 will have removed by then."""
        _check_way_back(_rewound_by(self.search, self._rewind), task, clock, mask_by)


@dataclass(frozen=True)
class Partial:
    """Keeps the mask and rewinds only a part of the layers; the others stay as they were trained.

    The part is named by ``layers`` or by ``only``, as in ``Rewind``; normalisation stays trained.
    All else is as ``search``, the run's own, has it. Raises UserError for a search that does not
    rewind.
    """

    search: Search
    layers: Layers | None = None
    only: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.layers is None and not self.only:
            raise UserError(
                "control.partial rewinds nothing: name what is rewound, "
                "control.partial.layers=early_half or control.partial.only=[output]"
            )
        _ = self._rewind  # refuses what Rewind refuses

    @property
    def _rewind(self) -> Rewind:
        part: dict[str, Any] = {"weights": "rewind", "bn": "keep"}
        own = _own(self.search, "partial")
        return dataclasses.replace(own, only=self.only, layers=self.layers, **part)

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError for a part that this network lacks, and without a dense training."""
        _rewound_by(self.search, self._rewind).check(task, clock, rate)

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        return _started_by(self.search, self._rewind, task, ticket, past)

    def check_way_back(self, task: Task, clock: Clock, mask_by: Callable[[Step], Mask]) -> None:
        """Raises UserError for weights that round 0 will have removed by then."""
        _check_way_back(_rewound_by(self.search, self._rewind), task, clock, mask_by)


def _own(search: Search, control: str) -> Rewind:
    if not isinstance(search, Rewinding):
        raise UserError(
            f"control={control} rewinds otherwise than the ticket, but {type(search).__name__} "
            "does not rewind: leave it out"
        )
    return search.rewind


def _rewound_by(search: Any, rewind: Rewind) -> Search:
    found: Search = dataclasses.replace(search, rewind=rewind)
    return found


def _check_way_back(search: Any, task: Task, clock: Clock, mask_by: Callable[[Step], Mask]) -> None:
    own = getattr(search, "check_way_back", None)
    if own is not None:
        own(task, clock, mask_by)


def _started_by(search: Search, rewind: Rewind, task: Task, ticket: Ticket, past: Past) -> Ticket:
    """Gives the ticket's mask the start that its search makes of another rewinding.

    Asked of the search and not of the rewinding, since a search may go on from what it rewound.
    """
    other = _rewound_by(search, rewind)
    assert isinstance(other, Rewinding)
    weights, start = other.start(task, past)
    return replace(ticket, weights=weights, start=start)
