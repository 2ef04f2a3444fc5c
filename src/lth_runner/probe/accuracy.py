"""How well a network does, and when it did best."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lth_runner.problem.task import Task
from lth_runner.search.ticket import Past, Trained


@dataclass(frozen=True)
class Accuracy:
    """Reports ``<split>_accuracy`` (0..1) and ``<split>_loss`` (nats) at the end of training."""

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, float]]:
        for split in ("train", "val", "test"):
            for name, value in task.evaluate(trained.weights, split).items():
                yield f"{split}_{name}", value


@dataclass(frozen=True)
class Learning:
    """Reports the step of lowest validation loss, that loss, and the test accuracy there."""

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, float]]:
        rows = [row for row in trained.history if row.get("val_loss") is not None]
        if rows:
            best = min(rows, key=lambda row: row["val_loss"])
            yield "best_val_step", best["step"]
            yield "best_val_loss", best["val_loss"]
            yield "best_val_test_accuracy", best["test_accuracy"]
