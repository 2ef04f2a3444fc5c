"""The sink that keeps a view of the run in Trackio's local database."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from typing import Any

from lth_runner.runs.folder import Row, read_metrics, read_rounds
from lth_runner.runs.record.record import Progress, RunDescription
from lth_runner.runs.record.rows_as_numbers import (
    curve_of_evaluation,
    curve_of_round,
    numbers,
    require,
    settings,
    steps_of_training,
    total_step,
)
from lth_runner.store.ticket_file import Subnetwork

log = logging.getLogger(__name__)


class Trackio:
    """Keeps one Trackio run for one run folder, in the folder that TRACKIO_DIR names.

    An attempt that continues an earlier one puts a whole view in the place of the earlier, so that
    no row is there twice. Raises UserError where trackio is not installed.
    """

    def __init__(self, project: str = "lth-runner", group: str | None = None) -> None:
        require("trackio", "trackio", "'lth-runner[trackio]'")
        self._project, self._group = project, group
        self._view: Any = None

    def open(self, run: RunDescription) -> None:
        import trackio  # not before it is asked for

        self._length = steps_of_training(run)
        name = f"{run.name}-{run.run_id[:8]}"
        with _silent():
            with contextlib.suppress(ValueError):  # the project is a new one
                for earlier in trackio.Api().runs(self._project):
                    if earlier.name == name:
                        earlier.delete()
            self._view = trackio.init(
                project=self._project,
                name=name,
                group=self._group or run.name,
                config=settings(dict(run.config)),
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
        self.metrics(read_metrics(run.folder))
        for row in read_rounds(run.folder):
            self._send(curve_of_round(row), row, row["round"])

    def progress(self, progress: Progress) -> None:
        pass

    def metrics(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._send(curve_of_evaluation(row), row, total_step(row, self._length))

    def samples(self, row: Row) -> None:
        pass

    def round(self, row: Row, ticket: Subnetwork) -> None:
        self._send(curve_of_round(row), row, row["round"])

    def close(self, state: str, error: str | None) -> None:
        if self._view is None:
            return
        import trackio

        with _silent():
            trackio.finish()
        log.info("trackio show --project %s", self._project)

    def _send(self, curve: str, row: Row, step: int) -> None:
        values = {f"{curve}/{name}": value for name, value in numbers(row).items()}
        self._view.log(values, step=step)


@contextlib.contextmanager
def _silent() -> Any:
    """Keeps back what it prints: the run's own lines say where the view is."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
