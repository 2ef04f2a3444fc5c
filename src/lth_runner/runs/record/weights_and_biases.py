"""The sink that keeps a view of the run in Weights & Biases and never stops a training."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from lth_runner.runs.folder import CURVE, DONE, ENDED, Row, plain, read_metrics, read_rounds
from lth_runner.runs.measure import ending
from lth_runner.runs.record.record import Progress, RunDescription
from lth_runner.store.ticket_file import Subnetwork
from lth_runner.values.errors import UserError, nearest

MODES = ("online", "offline", "disabled", "shared")
log = logging.getLogger(__name__)
Method = TypeVar("Method", bound=Callable[..., None])


def _never_fatal(method: Method) -> Method:
    """Makes a method warn once and fall silent where W&B fails: the local files are the truth."""

    @wraps(method)
    def guarded(self: WeightsAndBiases, *args: Any) -> None:
        if self.broken:
            return
        try:
            method(self, *args)
        except Exception as error:
            self.broken = True
            log.warning("W&B stopped (%s); the run goes on, its files are complete", error)
            self.abandon()

    return guarded  # type: ignore[return-value]


class WeightsAndBiases:
    """Keeps one W&B run per attempt, with every row from the first round on.

    An attempt that continues a killed one sends the rows of the earlier one again, because an
    offline run cannot be continued: each view is whole. ``mode`` is that of wandb.init
    (online, offline, disabled); the environment variable WANDB_MODE goes before it. An offline view
    begins with the first rows, so that no training waits for it; one that can be watched at once.
    """

    def __init__(self, mode: str, project: str, entity: str | None, group: str | None) -> None:
        self._mode = os.environ.get("WANDB_MODE") or mode
        for key, value in (("record.wandb.mode", mode), ("WANDB_MODE", self._mode)):
            if value not in MODES:
                raise UserError(f"{key}={value!r}: {nearest(str(value), MODES)}")
        self._wandb: Any = None
        self._curves: set[str] = set()  # those that have their axis
        self._project, self._entity, self._group = project, entity, group
        self.broken = self._mode == "disabled"

    @_never_fatal
    def open(self, run: RunDescription) -> None:
        self._run, self._folder, headline = run, run.folder, run.headline
        self._headline = f"test_{headline.name}", "max" if headline.better == "higher" else "min"
        self._length = run.num_steps // max(1, run.num_trainings)
        self._earlier = [read_metrics(run.folder), read_rounds(run.folder)]
        if self._mode != "offline":
            self._begin()

    def _begin(self) -> None:
        """Starts W&B where it has not started, and sends it an earlier attempt's rows."""
        if self._wandb is not None:
            return
        import wandb

        run = self._run
        self._wandb = wandb.init(
            project=self._project,
            entity=self._entity,
            group=self._group or run.name,
            name=f"{run.name}-{run.run_id[:8]}",
            config={**run.config, "run_id": run.run_id},
            dir=str(run.folder),
            mode=self._mode,  # type: ignore[arg-type]
            reinit="create_new",  # a run of whoever calls us from Python stays theirs, and open
            settings=wandb.Settings(silent=True, console="off"),
        )
        metrics, rounds = self._earlier
        self._earlier = [[], []]
        for row in metrics:
            self._metric(row)
        for row in rounds:
            self._round(row)

    def progress(self, progress: Progress) -> None:
        pass

    @_never_fatal
    def metrics(self, rows: Sequence[Row]) -> None:
        self._begin()
        for row in rows:
            self._metric(row)

    def samples(self, row: Row) -> None:
        pass

    @_never_fatal
    def round(self, row: Row, ticket: Subnetwork) -> None:
        self._begin()
        self._round(row)

    @_never_fatal
    def close(self, state: str, error: str | None) -> None:
        if self._wandb is None and state not in ENDED:
            return  # stopped before there was anything to see
        import wandb

        self._begin()
        curve = self._folder / CURVE
        try:
            if curve.exists():
                self._wandb.log({"curve": wandb.Image(str(curve))})
            ended = ending(self._folder)
            self._wandb.summary["state"] = state
            self._wandb.summary["sparsity"] = ended.sparsity
            self._wandb.summary[self._headline[0]] = ended.value
        finally:
            self._wandb.finish(exit_code=0 if state == DONE else 1)
        if self._mode == "offline":
            log.info("W&B      wandb sync %s", Path(self._wandb.dir).parent)
        elif self._wandb.url:
            log.info("W&B      %s", self._wandb.url)

    def abandon(self) -> None:
        """Ends a failed view, so that the next run of a sweep does not write into it."""
        if self._wandb is not None:
            with suppress(Exception):  # it has failed already, and has been told
                self._wandb.finish(exit_code=1)

    def _metric(self, row: Row) -> None:
        """Sends one evaluation, against the steps of all rounds one after the other."""
        row = {**row, "total_step": row["round"] * self._length + row["step"]}
        self._send(f"train/{row['arm']}/seed-{row['seed']}", "total_step", row)

    def _round(self, row: Row) -> None:
        """Sends one training's row, against sparsity: rounds/<arm>/seed-<seed>/..."""
        self._send(f"rounds/{row['arm']}/seed-{row['seed']}", "sparsity", row)

    def _send(self, where: str, axis: str, row: Row) -> None:
        # an axis of its own for each curve, and never step=: W&B's own counter must only grow
        if where not in self._curves:
            step, (name, best) = f"{where}/{axis}", self._headline
            self._wandb.define_metric(f"{where}/*", step_metric=step)
            self._wandb.define_metric(f"{where}/{name}", step_metric=step, summary=f"last,{best}")
            self._curves.add(where)
        values: dict[str, Any] = {}
        for name, value in plain(row).items():
            if isinstance(value, dict):
                values |= {f"{where}/{name}/{layer}": item for layer, item in value.items()}
            elif isinstance(value, (int, float)):
                values[f"{where}/{name}"] = value
        self._wandb.log(values)
