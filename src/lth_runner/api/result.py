"""``lth_runner.Result``: a run read from its folder, with its rows, verdict, curve and tickets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lth_runner.api.borrowed import importable
from lth_runner.export import Taken
from lth_runner.export import ticket as take_ticket
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.folder import DIVERGED, DONE, read_status
from lth_runner.runs.measure import ending
from lth_runner.runs.one_run import one_run
from lth_runner.values.errors import UserError

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from torch import nn


@dataclass(frozen=True)
class Result:
    """What a run came to, read from its folder: ``outputs/<name>/<run_id>``.

    ``Result("outputs/digits_imp")`` reads a run that was made before, by the command line too.
    Raises UserError where that is no run folder, and holds none or several.
    """

    folder: Path

    def __post_init__(self) -> None:
        if not isinstance(self.folder, (str, os.PathLike)):
            raise UserError(
                f"Result({self.folder!r}): give a run folder, such as 'outputs/digits_imp'"
            )
        object.__setattr__(self, "folder", one_run(self.folder))

    def __str__(self) -> str:
        """The table of the run, as ``lth-run`` prints it at the end."""
        from lth_runner.runs.report.run_text import run_text  # loads scipy

        return run_text(self.read)

    @cached_property
    def read(self) -> FinishedRun:
        """The folder's files, read once: rows, config, status, environment."""
        return FinishedRun.load(self.folder)

    @property
    def rows(self) -> pandas.DataFrame:
        """One line for every training, with the fields of ``rounds.jsonl`` for columns.

        Raises UserError where pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise UserError(
                "rows are a DataFrame, and pandas is not installed: pip install "
                "'lth-runner[notebook]'; result.read.rows are the same as dictionaries"
            ) from error
        return pandas.DataFrame([dict(row) for row in self.read.rows])

    @property
    def verdict(self) -> str:
        """Whether a ticket matches the dense network and beats its controls, in some sentences."""
        from lth_runner.runs.evidence.judge import judge  # loads scipy
        from lth_runner.runs.report.headline import headline

        return headline(judge(self.read)).text

    @property
    def value(self) -> float | None:
        """The headline measure of the last tickets, mean over replicates on the test split.

        None where all have diverged. Raises UserError for a run that is not done, and for rows that
        are not what was written.
        """
        state = read_status(self.folder).get("state")
        if state not in (DONE, DIVERGED):
            raise UserError(
                f"{self.folder} is not done, its status is {state or 'unknown'}: its last tickets "
                "are others than those it was to end with. The same words again go on with it; "
                "result.read.rows has what is there"
            )
        found = ending(self.folder).value
        if found is None and state == DONE:
            raise UserError(
                f"{self.folder}/rounds.jsonl is not what was written: there is no last ticket in "
                "it. Remove the folder and give the same words again: trainings are in the Store"
            )
        return found

    @property
    def diverged(self) -> bool:
        """Whether a ticket's loss became NaN or infinite, and its replicate has no later rounds."""
        return read_status(self.folder).get("state") == DIVERGED

    def curve(self) -> Figure:
        """Draws the headline measure against the weights that remain, as ``curve.png`` has it."""
        from lth_runner.runs.report.curve import curve_figure  # loads matplotlib

        return curve_figure([self.read])

    def ticket(
        self,
        density: float | None = None,
        *,
        round: int | None = None,
        sparsity: float | None = None,
        best_matching: bool = False,
        seed: int | None = None,
        arm: str = "ticket",
        start: bool = False,
    ) -> Taken:
        """Takes one ticket: its ``mask``, its ``weights``, its ``module()``.

        Which: by the share that it keeps or, with ``sparsity``, that was removed, by its round, the
        sparsest that is shown to match (``best_matching``), else the last round; of the first
        replicate, or that of ``seed``; of a control, its ``arm``. Weights are those at the end of
        training, with ``start`` those it started from. Raises UserError for a ticket that is not
        there, with those that are.
        """
        with importable():
            return take_ticket(
                self.folder,
                round=round,
                sparsity=sparsity,
                density=density,
                best_matching=best_matching,
                seed=seed,
                arm=arm,
                start=start,
            )

    def module(self, density: float | None = None, **which: Any) -> nn.Module:
        """Builds the stock network with a ticket's weights, chosen as ``ticket`` does."""
        return self.ticket(density, **which).module()
