"""Probes of how well a network does, and of when it did best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lth_runner.problem.task import Task
from lth_runner.search.final_outcomes import final_outcomes
from lth_runner.search.ticket import Past, Trained
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.name_patterns import as_names

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Performance:
    """Measures the trained network on splits by its objective, ``<split>_<measure>``.

    Of a classification these are accuracy (0..1) and loss (nats). ``splits``: which ones, of train,
    val and test, on which verdicts go. Raises UserError for others, and for none.
    """

    splits: Sequence[str] = SPLITS

    def __post_init__(self) -> None:
        if not self.splits:
            raise UserError(
                "probe.accuracy.splits=[] measures no network, and nothing could be said of one: "
                f"name some of {', '.join(SPLITS)}"
            )
        object.__setattr__(self, "splits", as_names(self.splits))
        for split in self.splits:
            if split not in SPLITS:
                raise UserError(f"probe.accuracy.splits: {split!r}: {nearest(str(split), SPLITS)}")

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, float]]:
        for split in SPLITS:
            if split not in self.splits:
                continue
            if split == "test":
                figures = final_outcomes(task, trained).figures(task.objective)
            else:
                figures = task.evaluate(trained.weights, split)
            for name, value in figures.items():
                yield f"{split}_{name}", value


@dataclass(frozen=True)
class Before:
    """Measures a network before its training on the test split, ``before_<measure>``.

    Of a ticket this is what pruning alone has cost. Nothing of one that is never trained.
    """

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, float]]:
        if trained.ticket.start.is_end(trained.clock):
            return
        for name, value in task.evaluate(trained.ticket.masked, "test").items():
            yield f"before_{name}", value


@dataclass(frozen=True)
class Learning:
    """Finds the step of lowest validation loss, that loss, and the headline on test there.

    The last is ``best_val_test_<measure>``, the accuracy of a classification.
    """

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, float]]:
        rows = [row for row in trained.history if row.get("val_loss") is not None]
        if rows:
            best = min(rows, key=lambda row: row["val_loss"])
            yield "best_val_step", best["step"]
            yield "best_val_loss", best["val_loss"]
            name = task.objective.measures[0].name
            yield f"best_val_test_{name}", best[f"test_{name}"]
