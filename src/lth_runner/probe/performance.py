"""Probes of how well a network does, and of when it did best."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lth_runner.problem.task import Task
from lth_runner.search.final_outcomes import final_outcomes
from lth_runner.search.ticket import Past, Trained


@dataclass(frozen=True)
class Performance:
    """Measures the trained network on each split by its objective, ``<split>_<measure>``.

    Of a classification these are accuracy (0..1) and loss (nats).
    """

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, float]]:
        found = {split: task.evaluate(trained.weights, split) for split in ("train", "val")}
        found["test"] = final_outcomes(task, trained).figures(task.objective)
        for split, figures in found.items():
            for name, value in figures.items():
                yield f"{split}_{name}", value


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
