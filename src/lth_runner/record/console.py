"""What a person at a terminal sees, and what a log file keeps: aligned plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from tqdm import tqdm

from lth_runner.record.record import Progress, Row, Run
from lth_runner.ticket import Ticket

LINE_SECONDS = 10.0


class Console:
    """One line per finished training, and in long ones a line per evaluation.

    On a terminal a live bar counts all steps of the run and estimates the time left; a log file
    gets lines alone.
    """

    def open(self, run: Run) -> None:
        self._run = run
        self._last_line = time.monotonic()
        self._last_count = 0
        self._bar = tqdm(
            total=run.num_steps,
            unit="step",
            unit_scale=True,
            dynamic_ncols=True,
            smoothing=0.05,
            leave=False,
            disable=not sys.stderr.isatty(),
        )
        self._say(f"run     {run.folder}")

    def progress(self, progress: Progress) -> None:
        count = progress.step - progress.start
        self._bar.update(count - self._last_count if count > self._last_count else 0)
        self._last_count = count
        self._bar.set_description(
            f"round {progress.round}/{self._run.num_rounds - 1} {progress.arm} "
            f"seed {progress.seed}",
            refresh=False,
        )
        ends = progress.step == progress.total
        if progress.row and (ends or time.monotonic() - self._last_line > LINE_SECONDS):
            self._last_line = time.monotonic()
            self._say(_evaluation(progress, self._run.num_rounds - 1))
        if ends:
            self._last_count = 0

    def metrics(self, rows: Sequence[Row]) -> None:
        pass

    def round(self, row: Row, ticket: Ticket) -> None:
        if row["reused"]:
            self._bar.update(row["steps"])
        if row["diverged"]:
            self._say(
                f"round {row['round']:>2}  {row['arm']:<10} seed {row['seed']}  DIVERGED: the loss "
                "became NaN or infinite; this replicate's chain ends here, the others go on"
            )
        elif row["reused"]:
            self._say(
                f"round {row['round']:>2}  {row['arm']:<10} seed {row['seed']}  "
                f"test {100 * row.get('test_accuracy', float('nan')):6.2f} %  from the Store"
            )

    def close(self, state: str, error: str | None) -> None:
        self._bar.close()

    def _say(self, line: str) -> None:
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()


def _evaluation(progress: Progress, last_round: int) -> str:
    row = progress.row or {}
    width = len(str(progress.total))
    parts = [
        f"round {progress.round:>2}/{last_round}",
        f"{progress.arm:<10}",
        f"seed {progress.seed}",
        f"step {progress.step:>{width}}/{progress.total}",
        f"loss {_number(row.get('train_loss'), 1, '8.4f')}",
        f"val {_number(row.get('val_accuracy'), 100, '6.2f')} %",
        f"test {_number(row.get('test_accuracy'), 100, '6.2f')} %",
    ]
    return "  ".join(parts)


def _number(value: float | None, scale: float, form: str) -> str:
    return format("-", f">{form.split('.')[0]}") if value is None else format(value * scale, form)
