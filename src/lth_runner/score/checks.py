"""Checks that refuse a score's options, naming the config key that set them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lth_runner.problem.requirements import check_kinds
from lth_runner.problem.task import Task
from lth_runner.values.errors import UserError, nearest

KEY = "pruner.search.score"
MOST = 1_000_000  # of anything that is counted: batches, draws, steps


def check_whole_number(least: int, *, under: str = KEY, **options: int) -> None:
    """Raises UserError for an option that is no whole number from ``least`` to ``MOST``.

    The message names it by its key ``under`` another.
    """
    for key, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int) or not (least <= value <= MOST):
            raise UserError(
                f"{under}.{key}={value!r} must be a whole number of at least {least}, at most "
                f"{MOST}"
            )


def check_positive(**options: float) -> None:
    """Raises UserError for an option that is no finite number above 0."""
    for key, value in options.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 < value < math.inf:
            raise UserError(f"{KEY}.{key}={value!r} must be a number above 0")


def check_fraction(**options: float) -> None:
    """Raises UserError for an option that is no number of at least 0 and below 1."""
    for key, value in options.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value < 1:
            raise UserError(f"{KEY}.{key}={value!r} must be a number of at least 0 and below 1")


def check_channels(task: Task, score: str) -> None:
    """Raises UserError where a score of whole output channels meets biases, or layers without.

    The weights of these do not have their outputs on the first axis.
    """
    if task.biases:
        raise UserError(
            f"pruner.biases=true, but {score} scores whole output channels: leave pruner.biases "
            "out, or take a score of single weights (magnitude, snip, synflow)"
        )
    what = f"{score} scores output channels, rows of a weight (out, in, ...)"
    check_kinds(task, task.prunable, ("linear", "convolution"), what)


def check_one_of(accepted: Iterable[str], **options: str) -> None:
    """Raises UserError for an option that is none of the ``accepted`` words."""
    names = tuple(accepted)
    for key, value in options.items():
        if value not in names:
            raise UserError(f"{KEY}.{key}={value!r}: {nearest(str(value), names)}")
