"""The sink that keeps a view of the run as TensorBoard's event files."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lth_runner.runs.folder import CURVE, Row, read_metrics, read_rounds
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

FOLDER = "tensorboard"
log = logging.getLogger(__name__)


class TensorBoard:
    """Writes event files, in the run folder or in ``folder/<name>-<run_id>``.

    ``rounds/<arm>/seed-<seed>/...`` stands against the number of the round, since TensorBoard knows
    no other axis than whole steps, ``train/...`` against the steps of all rounds. An attempt that
    continues an earlier one writes its rows again, into new files in place of the old. Raises
    UserError where tensorboard is not installed.
    """

    def __init__(self, folder: str | None = None) -> None:
        require("tensorboard", "tensorboard", "'lth-runner[tensorboard]'")
        self._folder = folder
        self._writer: Any = None

    def open(self, run: RunDescription) -> None:
        from torch.utils.tensorboard import SummaryWriter  # not before it is asked for

        self._run, self._length = run, steps_of_training(run)
        own = f"{run.name.replace('/', '-')}-{run.run_id}"
        self._into = Path(self._folder) / own if self._folder else run.folder / FOLDER
        for old in self._into.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = SummaryWriter(str(self._into))
        self._writer.add_text("config", _as_code(yaml.safe_dump(dict(run.config))))
        self._writer.add_text("command", _as_code(run.command))
        self._writer.add_custom_scalars(self._layout())
        self.metrics(read_metrics(run.folder))
        for row in read_rounds(run.folder):
            self._add(curve_of_round(row), row, row["round"])

    def _layout(self) -> dict[str, dict[str, list[Any]]]:
        """Puts the seeds of an arm into one chart: TensorBoard's tab Custom Scalars."""
        arms = ["ticket", *map(str, self._run.config.get("control") or {})]
        name = f"test_{self._run.headline.name}"
        return {
            name: {
                arm: ["Multiline", [rf"rounds/{re.escape(arm)}/seed-\d+/{name}$"]] for arm in arms
            }
        }

    def progress(self, progress: Progress) -> None:
        pass

    def metrics(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._add(curve_of_evaluation(row), row, total_step(row, self._length))

    def samples(self, row: Row) -> None:
        pass

    def round(self, row: Row, ticket: Subnetwork) -> None:
        self._add(curve_of_round(row), row, row["round"])
        self._writer.flush()

    def close(self, state: str, error: str | None) -> None:
        if self._writer is None:
            return
        picture = self._run.folder / CURVE
        if picture.exists():
            import numpy as np
            from PIL import Image

            with Image.open(picture) as opened:
                self._writer.add_image(
                    "curve", np.asarray(opened.convert("RGB")), dataformats="HWC"
                )
        self._writer.add_text("state", state)
        self._writer.close()
        log.info("tensorboard --logdir %s", self._into)

    def _add(self, curve: str, row: Row, step: int) -> None:
        for name, value in numbers(row).items():
            self._writer.add_scalar(f"{curve}/{name}", value, global_step=step)


def _as_code(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())  # Markdown's way
