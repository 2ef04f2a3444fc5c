"""Weights to start from that an earlier run has trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from lth_runner.problem.origin import File
from lth_runner.runs.folder import read_problem, read_rounds, unfinished
from lth_runner.runs.one_run import one_run, trained_path
from lth_runner.values.errors import UserError
from lth_runner.values.listed import numbers_listed


@dataclass(frozen=True)
class FromRun:
    """Starts from the weights at the end of a training of a run: the dense one, or a ticket.

    ``run`` is a run folder, ``outputs/<name>/<run_id>``, or ``outputs/<name>`` where there is one
    run in it; ``round`` 0 is the dense training, and a later one that of a ticket, whose pruned
    weights are zero. Without ``seed`` it is the run's first. The weights come out of the Store
    beside it. ``into``, ``fresh`` and ``unused`` are those of ``File``, and so is what tells one
    start from another: what the weights are. Raises UserError where there is no such training.
    """

    run: str = field(compare=False)
    round: int = field(default=0, compare=False)
    seed: int | None = field(default=None, compare=False)
    into: str = ""
    fresh: Sequence[str] = ()
    unused: Sequence[str] = ()
    content: str = field(init=False, default="")  # SHA-256, as a File's

    def __post_init__(self) -> None:
        for name in ("fresh", "unused"):
            object.__setattr__(self, name, tuple(getattr(self, name) or ()))
        object.__setattr__(self, "content", self._file.content)

    def lay(self, module: nn.Module) -> None:
        """Writes the trained weights into a network."""
        self._file.lay(module)

    @cached_property
    def _file(self) -> File:
        folder = one_run(self.run, f"origin.run={self.run}")
        if coordinates := read_problem(folder).get("coordinates"):
            raise UserError(
                f"origin.run={self.run} was trained in other coordinates ({coordinates}), and what "
                "the Store holds are no weights of the network: start from another run"
            )
        end = trained_path(folder, self._row(folder))
        if not end.is_file():
            raise UserError(
                f"origin.run={self.run}: the Store no longer holds its training {end.parent.name} "
                "(store.keep lets go of some): run it again, or choose another origin.round"
            )
        return File(str(end), "weights.", self.into, self.fresh, self.unused)

    def _row(self, folder: Path) -> dict[str, Any]:
        tickets = [row for row in read_rounds(folder) if row.get("arm") == "ticket"]
        seeds = sorted({row["seed"] for row in tickets})
        seed = seeds[0] if self.seed is None and seeds else self.seed
        for row in tickets:
            if row["round"] == self.round and row["seed"] == seed:
                if row.get("diverged"):
                    raise UserError(
                        f"origin.run={self.run}: round {self.round} of seed {seed} has diverged: "
                        "choose another origin.seed or origin.round"
                    )
                return row
        rounds = sorted({row["round"] for row in tickets})
        why = unfinished(folder)
        raise UserError(
            f"origin.run={self.run} has no finished training of round {self.round} and seed "
            f"{seed}: it has rounds {numbers_listed(rounds)} and seeds {numbers_listed(seeds)}"
            + (f". {why}" if why else "")
        )
