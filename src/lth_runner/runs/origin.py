"""Weights to start from that an earlier run has trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lth_runner.problem.laying import Laying
from lth_runner.problem.origin import File
from lth_runner.runs.ended_weights import ended_weights
from lth_runner.runs.folder import read_problem, read_rounds, unfinished
from lth_runner.runs.one_run import not_in_store, one_run, trained_anew, trained_path
from lth_runner.runs.rebuilt import rebuilt
from lth_runner.store.ended import WEIGHTS, read_end
from lth_runner.values import state as states
from lth_runner.values.errors import Damaged, UserError
from lth_runner.values.listed import numbers_listed
from lth_runner.values.name_patterns import as_names
from lth_runner.values.state import State

TICKET = "ticket"  # the arm that is no control


@dataclass(frozen=True)
class FromRun:
    """Starts from the weights at the end of a training of a run: the dense one, or a ticket.

    ``run`` is a run folder, ``outputs/<name>/<run_id>``, or ``outputs/<name>`` where there is one
    run in it; ``round`` 0 is the dense training, and a later one that of a ticket, whose pruned
    weights are zero; ``arm`` is the ticket or a control's name. Without ``seed`` it is the run's
    first. The weights come out of the Store beside it. Those of a run in other coordinates, as
    deltas, are computed by its network, which is built again: where they are pruned they are the
    weights that it started from. ``into``, ``fresh`` and ``unused`` are those of ``File``, and so
    is what tells one start from another: what the weights are. Raises UserError where there is no
    such training.
    """

    run: str = field(compare=False)
    round: int = field(default=0, compare=False)
    seed: int | None = field(default=None, compare=False)
    arm: str = field(default=TICKET, compare=False)
    into: str = ""
    fresh: Sequence[str] = ()
    unused: Sequence[str] = ()
    key: str = field(default="origin.run", compare=False)  # what messages call the path
    content: str = field(init=False, default="")  # SHA-256, as a File's

    def __post_init__(self) -> None:
        for name in ("fresh", "unused"):
            object.__setattr__(self, name, as_names(getattr(self, name)))
        object.__setattr__(self, "content", self._content)

    def lay(self, module: nn.Module) -> None:
        """Writes the trained weights into a network."""
        laid = self._file.tensors() if self._merged is None else self._into(self._merged)
        Laying(self._called, self.fresh, self.unused).lay(module, laid)

    def _into(self, state: State) -> Iterator[tuple[str, Tensor]]:
        return ((f"{self.into}{name}", value) for name, value in state.items())

    @property
    def _content(self) -> str:
        """A hash of the weights: that of their file or, where they are computed, of themselves."""
        return self._file.content if self._merged is None else states.fingerprint(self._merged)

    @property
    def _called(self) -> str:
        return f"{self.key}={self.run}"

    @cached_property
    def folder(self) -> Path:
        """The run folder."""
        return one_run(self.run, self._called)

    @property
    def weights(self) -> State:
        """The weights at the end of the training, under the stock network's names."""
        if self._merged is not None:
            return self._merged
        end = trained_path(self.folder, self.row)
        try:
            return read_end(end)[1]
        except (Damaged, OSError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: BaseException) -> UserError:
        return UserError(
            f"{self._called}: the Store's weights cannot be read: {error}; "
            f"{trained_anew(self.folder)}"
        )

    @cached_property
    def _merged(self) -> State | None:
        """The network's own weights of a run in other coordinates; None of one in weights."""
        if not read_problem(self.folder).get("coordinates"):
            return None
        return ended_weights(self.folder, self.row, rebuilt(self.folder))

    @cached_property
    def _file(self) -> File:
        end = trained_path(self.folder, self.row)
        if not end.is_file():
            training = f"its training {end.parent.name}"
            raise UserError(f"{self._called}: {not_in_store(self.folder, training)}")
        try:
            return File(str(end), WEIGHTS, self.into, self.fresh, self.unused)
        except UserError as error:
            if isinstance(error.__cause__, Damaged):  # told as the run's, and not as a file's
                raise self._unreadable(error.__cause__) from error
            raise

    @cached_property
    def row(self) -> dict[str, Any]:
        """The training's line of rounds.jsonl."""
        arms = [row for row in read_rounds(self.folder) if row.get("arm") == self.arm]
        if not arms and self.arm != TICKET:
            known = sorted({str(row.get("arm")) for row in read_rounds(self.folder)})
            raise UserError(f"{self._called} has no arm {self.arm}: it has {', '.join(known)}")
        seeds = sorted({row["seed"] for row in arms})
        seed = seeds[0] if self.seed is None and seeds else self.seed
        for row in arms:
            if row["round"] == self.round and row["seed"] == seed:
                if row.get("diverged"):
                    raise UserError(
                        f"{self._called}: round {self.round} of seed {seed} has diverged: "
                        "choose another seed or round"
                    )
                return row
        rounds = sorted({row["round"] for row in arms})
        why = unfinished(self.folder)
        asked = f" of round {self.round} and seed {seed}: it has rounds "
        asked += f"{numbers_listed(rounds)} and seeds {numbers_listed(seeds)}"
        raise UserError(
            f"{self._called} has no finished training{asked if rounds else ''}"
            + (f". {why}" if why else "")
        )
