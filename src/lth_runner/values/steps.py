"""Durations as people write them, and the clock that turns them into optimizer steps."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass

from lth_runner.values.errors import UserError

Step = int  # optimizer updates done since initialisation

MOST_STEPS = 10**9  # of one training: days on the fastest machine, for the smallest network

_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(it|ep|%)\s*")


@dataclass(frozen=True)
class Duration:
    """A length of training: ``500it`` steps, ``12ep`` epochs or ``10%`` of the whole training."""

    amount: float
    unit: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "amount", float(self.amount))  # 40 and 40.0 are one duration

    @classmethod
    def parse(cls, text: Duration | str) -> Duration:
        """Reads ``500it``, ``12ep``, ``2.5ep`` or ``10%``; raises UserError on anything else."""
        if isinstance(text, Duration):
            return text
        match = _TEXT.fullmatch(str(text))
        if match is None or (match[2] == "it" and "." in match[1]):
            raise UserError(
                f"{text!r} is not a duration: write whole steps as 500it, epochs as 12ep, "
                "or a share of the training as 10%"
            )
        if not math.isfinite(float(match[1])):
            raise UserError(f"{text[:20]!r}... is more than any training lasts")
        return cls(float(match[1]), match[2])

    def __str__(self) -> str:
        return f"{self.amount:.15g}{self.unit}" if self.unit != "it" else f"{int(self.amount)}it"


@dataclass(frozen=True)
class Growing:
    """Distances that grow: ``100it+3%`` is 100 steps, or 3 % of the steps taken if that is more."""

    least: Duration
    percent: float

    @classmethod
    def parse(cls, text: Duration | Growing | str) -> Duration | Growing:
        """Reads a duration, or one with a share of the steps taken; raises UserError otherwise."""
        if not isinstance(text, str) or "+" not in text:
            return text if isinstance(text, Growing) else Duration.parse(text)
        first, _, last = text.partition("+")
        least, share = Duration.parse(first), Duration.parse(last)
        if share.unit != "%" or not 0 < share.amount <= 100:
            raise UserError(
                f"{text!r} grows by {last.strip()!r}: give a share of the steps taken above 0% and "
                "at most 100%, as in 100it+3%"
            )
        return cls(least, share.amount)

    def __str__(self) -> str:
        return f"{self.least}+{self.percent:.15g}%"


@dataclass(frozen=True)
class Clock:
    """Says how long one training lasts: ``epoch`` steps an epoch, ``total`` steps in all.

    ``scale`` < 1 is a training shrunk as a whole: every duration in it shrinks alike.
    """

    epoch: Step
    total: Step
    scale: float = 1.0

    @classmethod
    def of(
        cls,
        length: Duration,
        epoch: Step,
        shrink_to: Duration | None = None,
        *,
        key: str = "train.length",
    ) -> Clock:
        """Makes the clock of a training of ``length``, optionally shrunk to ``shrink_to``.

        Raises UserError for a length that is none, which ``key`` names.
        """
        full = cls(epoch, 0).steps(length, key)
        if full < 1:
            raise UserError(f"{key}={length} is no training: at least one step is needed")
        if full > MOST_STEPS:
            raise UserError(f"{key}={length} is {full:.3g} steps: give at most {MOST_STEPS}")
        if shrink_to is None:
            return cls(epoch, full)
        short = cls(epoch, full).steps(shrink_to, "train.shrink_to")
        if short < 1:
            raise UserError(
                f"train.shrink_to={shrink_to} leaves no step: give 1it or more, or null to shrink "
                "nothing"
            )
        return cls(epoch, full) if short >= full else cls(epoch, short, short / full)

    def steps(self, duration: Duration, name: str) -> Step:
        """Counts the steps of a duration, wherever it ends."""
        if duration.unit == "%":
            if not self.total:
                raise UserError(f"{name}={duration}: a share of what? give steps (it) or epochs")
            return round(duration.amount / 100 * self.total)
        return round(duration.amount * (self.epoch if duration.unit == "ep" else 1) * self.scale)

    def every(self, distance: Duration | Growing, name: str) -> Collection[Step]:
        """Lists a training's steps at this distance from each other, which is at least one step."""
        least = distance.least if isinstance(distance, Growing) else distance
        apart = max(1, self.steps(least, name))
        if not isinstance(distance, Growing):
            return range(apart, self.total + 1, apart)
        found, step = set(), apart
        while step <= self.total:
            found.add(step)
            step += max(apart, int(step * distance.percent / 100))
        return found

    def at(self, duration: Duration, name: str) -> Step:
        """Finds the step a duration after the start; UserError (naming the key) past the end."""
        step = self.steps(duration, name)
        if duration.unit == "%" and duration.amount > 100:  # which rounding may hide
            raise UserError(f"{name}={duration} is past the end of the training: at most 100%")
        if step > self.total:
            whole = round(self.total / self.scale)
            shrunk = f"shrunk from {whole} as every duration is, " if self.scale != 1 else ""
            raise UserError(
                f"{name}={duration} is step {step}, past the end of the training "
                f"({self.total} steps, {shrunk}{self.epoch} an epoch): choose 0it to {whole}it"
            )
        return step
