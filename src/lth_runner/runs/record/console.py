"""The sink for a person at a terminal or a log file, which writes aligned plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from tqdm.auto import tqdm  # a notebook's own bar there

from lth_runner.runs.folder import ENDED, Row, read_rounds
from lth_runner.runs.record.record import Place, Progress, RunDescription
from lth_runner.store.ticket_file import Subnetwork
from lth_runner.values.measure import ACCURACY
from lth_runner.values.terminal import visible_lines

LINE_SECONDS = 10.0


class Console:
    """Writes a line per finished training, and in long ones a line per evaluation.

    On a terminal, and in a notebook that has widgets, a live bar counts all steps of the run and
    estimates the time left; a log file gets lines alone.
    """

    def open(self, run: RunDescription) -> None:
        arms = ["ticket", *map(str, run.config.get("control") or {})]
        self._last_round = run.num_rounds - 1
        self._arm_width = max(map(len, arms))
        self._seed_width = len(str(run.config["seed"] + run.config["replicates"] - 1))
        self._step_width = 0
        self._last_line = time.monotonic()
        self._counts: dict[Place, int] = {}  # steps seen of each training under way
        self._trained = self._stored = 0
        self._bar = tqdm(
            total=run.num_steps,
            initial=sum(row["steps"] for row in read_rounds(run.folder)),
            unit="step",
            unit_scale=True,
            dynamic_ncols=True,
            smoothing=0.05,
            leave=False,
            disable=not (sys.stderr.isatty() or is_of_a_notebook(tqdm)),
        )
        self._headline = run.headline
        self._say(f"run      {run.folder}")
        if self._headline.name != ACCURACY.name:
            name, better = self._headline.name, self._headline.better
            self._say(f"measure  {name} on the validation and the test split; {better} is better")

    def progress(self, progress: Progress) -> None:
        place = (progress.round, progress.arm, progress.seed)
        count = progress.step - progress.start
        self._bar.update(count - self._counts.get(place, 0))
        self._counts[place] = count
        self._bar.set_description(
            f"round {progress.round}/{self._last_round} {progress.arm} seed {progress.seed}",
            refresh=False,
        )
        ends = progress.step == progress.total
        if progress.row and (ends or time.monotonic() - self._last_line > LINE_SECONDS):
            self._last_line = time.monotonic()
            width = len(str(progress.total))
            state = f"step {progress.step:>{width}}/{progress.total}"
            self._step_width = max(self._step_width, len(state))
            self._say(self._line(place, state, progress.row))

    def metrics(self, rows: Sequence[Row]) -> None:
        pass

    def samples(self, row: Row) -> None:
        pass

    def round(self, row: Row, ticket: Subnetwork) -> None:
        place = (row["round"], row["arm"], row["seed"])
        count = self._counts.pop(place, None)
        self._bar.update(row["steps"] - (count or 0))
        if count is None:
            self._stored += row["steps"]
        else:
            self._trained += count
        if row["diverged"]:
            self._say(
                f"{self._place(place)}  DIVERGED: the loss became NaN or infinite; this "
                "replicate's chain ends here, the others go on"
            )
        elif count is None:
            known = {name: value for name, value in row.items() if name != "train_loss"}
            self._say(self._line(place, "from the Store", known))

    def close(self, state: str, error: str | None) -> None:
        self._bar.close()
        if state in ENDED and self._stored:
            trained = self._trained + sum(self._counts.values())  # those without a row too
            self._say(f"steps    {trained} trained, {self._stored} from the Store")

    def _say(self, line: str) -> None:
        tqdm.write(visible_lines(line), file=sys.stdout)
        sys.stdout.flush()

    def _place(self, place: Place) -> str:
        number, arm, seed = place
        self._arm_width = max(self._arm_width, len(arm))  # "ticket/random_data" is in no config
        return (
            f"round {number:>{len(str(self._last_round))}}/{self._last_round}  "
            f"{arm:<{self._arm_width}}  seed {seed:>{self._seed_width}}"
        )

    def _line(self, place: Place, state: str, row: Row) -> str:
        width = max(self._step_width, len("from the Store"))
        loss = row.get("train_loss")
        return "  ".join(
            [
                self._place(place),
                f"{state:<{width}}",
                f"loss {'-' if loss is None else f'{loss:.4f}':>7}",
                *(f"{split} {self._figure(split, row)}" for split in ("val", "test")),
            ]
        )

    def _figure(self, split: str, row: Row) -> str:
        value = row.get(f"{split}_{self._headline.name}")
        shown = "-" if value is None else self._headline.number(value)
        return f"{shown:>6} {self._headline.unit}".rstrip()


def is_of_a_notebook(bar: type) -> bool:
    """Whether a bar is a widget, which is shown wherever stderr leads."""
    return any(base.__module__ == "tqdm.notebook" for base in bar.__mro__)
