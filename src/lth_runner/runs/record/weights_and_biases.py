"""The sink that keeps a view of the run in Weights & Biases."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lth_runner.runs.evidence.means import aggregate
from lth_runner.runs.folder import (
    CONFIG,
    CURVE,
    DONE,
    ENDED,
    PROBLEM,
    ROUNDS,
    Row,
    plain,
    read_metrics,
    read_rounds,
)
from lth_runner.runs.measure import ending
from lth_runner.runs.one_run import ticket_path
from lth_runner.runs.record.record import Progress, RunDescription
from lth_runner.runs.record.rows_as_numbers import (
    curve_of_evaluation,
    curve_of_round,
    numbers,
    require,
    steps_of_training,
    total_step,
)
from lth_runner.store.ticket_file import Subnetwork
from lth_runner.values.errors import UserError, nearest

MODES = ("online", "offline", "disabled", "shared")
TICKETS = ("none", "last", "all")
TICKET = "ticket"
log = logging.getLogger(__name__)


class WeightsAndBiases:
    """Keeps one W&B run per attempt, with every row from the first round on.

    An attempt that continues a killed one sends the rows of the earlier one again, because an
    offline run cannot be continued: each view is whole. ``mode`` is that of wandb.init
    (online, offline, disabled); the environment variable WANDB_MODE goes before it. An offline view
    begins with the first rows, so that no training waits for it; one that can be watched at once.
    ``tickets``: those of which round go along as an artifact, ``none``, ``last`` or ``all``. At the
    end all rows are a table, and the mean over seeds, with one standard deviation below and above,
    is a curve against sparsity. Raises UserError where wandb is not installed.
    """

    def __init__(
        self,
        mode: str = "offline",
        project: str = "lth-runner",
        entity: str | None = None,
        group: str | None = None,
        tickets: str = "none",
    ) -> None:
        self._mode = os.environ.get("WANDB_MODE") or mode
        for key, value, known in (
            ("record.wandb.mode", mode, MODES), ("WANDB_MODE", self._mode, MODES),
            ("record.wandb.tickets", tickets, TICKETS),
        ):  # fmt: skip
            if value not in known:
                raise UserError(f"{key}={value!r}: {nearest(str(value), known)}")
        self._wandb: Any = None
        self._curves: set[str] = set()  # those that have their axis
        self._project, self._entity, self._group = project, entity, group
        self._tickets = tickets
        self._is_off = self._mode == "disabled"
        if not self._is_off:
            require("wandb", "wandb", "wandb")

    def open(self, run: RunDescription) -> None:
        if self._is_off:
            return
        self._run, self._folder, headline = run, run.folder, run.headline
        self._headline = f"test_{headline.name}", "max" if headline.better == "higher" else "min"
        self._length = steps_of_training(run)
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
            self._send(curve_of_round(row), "sparsity", row)

    def progress(self, progress: Progress) -> None:
        pass

    def metrics(self, rows: Sequence[Row]) -> None:
        if self._is_off:
            return
        self._begin()
        for row in rows:
            self._metric(row)

    def samples(self, row: Row) -> None:
        pass

    def round(self, row: Row, ticket: Subnetwork) -> None:
        if self._is_off:
            return
        self._begin()
        self._send(curve_of_round(row), "sparsity", row)

    def close(self, state: str, error: str | None) -> None:
        if self._is_off or (self._wandb is None and state not in ENDED):
            return  # stopped before there was anything to see
        self._begin()
        try:
            if state in ENDED:
                self._conclude()
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

    def _conclude(self) -> None:
        """Sends what is known at the end alone: means over seeds, the table, picture, tickets."""
        import wandb

        rows = read_rounds(self._folder)
        self._means(rows)
        names = list(dict.fromkeys(name for row in rows for name in row))
        cells = [[_cell(plain(row).get(name)) for name in names] for row in rows]
        self._wandb.log({"rows": wandb.Table(columns=names, data=cells, allow_mixed_types=True)})
        if (self._folder / CURVE).exists():
            self._wandb.log({"curve": wandb.Image(str(self._folder / CURVE))})
        if self._tickets != "none":
            self._wandb.log_artifact(self._artifact(rows))

    def _means(self, rows: Sequence[Row]) -> None:
        """Sends the headline's mean over seeds against sparsity: curves/<arm>/..."""
        name = self._headline[0]
        for (arm, _), one in aggregate(rows).items():
            if one.sparsity is None or name not in one.mean:
                continue
            middle, spread = one.mean[name], one.std.get(name) or 0.0
            self._send(f"curves/{arm}", "sparsity", {
                "sparsity": one.sparsity, "n": one.count[name], f"{name}_mean": middle,
                f"{name}_low": middle - spread, f"{name}_high": middle + spread,
            })  # fmt: skip

    def _artifact(self, rows: Sequence[Row]) -> Any:
        """Gathers tickets and what they came of: the run, its data, its start."""
        import wandb

        run, problem = self._run, self._run.problem
        found = wandb.Artifact(
            f"{run.name}-{run.run_id}-tickets".replace("/", "-"),
            type=TICKET,
            metadata={
                "run_id": run.run_id,
                "command": run.command,
                "data": (problem.get("identity") or {}).get("data"),
                "dataset": run.config.get("dataset"),
                "model": run.config.get("model"),
                "origin": problem.get("origin"),
                "seed": run.config.get("seed"),
                "training_keys": [row.get("training_key") for row in rows],
            },
        )
        tickets = [row for row in rows if row["arm"] == TICKET]
        last = max((row["round"] for row in tickets), default=0)
        for row in tickets:
            path = ticket_path(self._folder, row)
            if path.exists() and (self._tickets == "all" or row["round"] == last):
                found.add_file(str(path), name=f"tickets/{path.name}")
        for name in (CONFIG, PROBLEM, ROUNDS):
            if (self._folder / name).exists():
                found.add_file(str(self._folder / name), name=name)
        return found

    def _metric(self, row: Row) -> None:
        """Sends one evaluation, against the steps of all rounds one after the other."""
        row = {**row, "total_step": total_step(row, self._length)}
        self._send(curve_of_evaluation(row), "total_step", row)

    def _send(self, where: str, axis: str, row: Row) -> None:
        # an axis of its own for each curve, and never step=: W&B's own counter must only grow
        if where not in self._curves:
            step, (name, best) = f"{where}/{axis}", self._headline
            self._wandb.define_metric(f"{where}/*", step_metric=step)
            self._wandb.define_metric(f"{where}/{name}", step_metric=step, summary=f"last,{best}")
            self._curves.add(where)
        self._wandb.log({f"{where}/{name}": value for name, value in numbers(row).items()})


def _cell(value: Any) -> Any:
    """A cell of a table: numbers by layer are text there."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
