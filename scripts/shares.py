"""Where the time of an ``lth-run`` goes, by the parts of the program that it passes through.

    OMP_NUM_THREADS=1 python scripts/shares.py +experiment=lenet300_mnist_imp threads=1 ...

runs what it is given in a folder of its own, which goes afterwards, and prints each part's share.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from measuring import Now, own_clock

from lth_runner import experiment
from lth_runner.cli import launch
from lth_runner.cli import main as cli
from lth_runner.runs.record import Record
from lth_runner.training.engines.engine import Together
from lth_runner.training.loop import Loop
from lth_runner.values.steps import Clock, Growing

# whose, which, and what it is counted as; the innermost of several belongs to the outermost
PARTS: Sequence[tuple[Any, str, str]] = (
    (launch, "prepared", "start"),
    (launch, "expect", "start"),
    (Loop, "evaluate", "evaluation"),
    (experiment, "row", "probes"),
    (experiment, "next_jobs", "pruning"),
    (Record, "watch", "record"),
    (Record, "round", "record"),
    (Record, "close", "report"),
    (launch, "_redraw", "report"),
    (launch.Terminal, "conclude", "report"),
)


class Shares:
    """Seconds by name; what is timed within something else that is timed belongs to that."""

    def __init__(self, clock: Now) -> None:
        self.seconds: dict[str, float] = {}
        self._clock, self._is_inside = clock, False

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call``, its time counted."""

        def measured(*arguments: Any, **named: Any) -> Any:
            if self._is_inside:
                return call(*arguments, **named)
            self._is_inside, began = True, self._clock()
            try:
                return call(*arguments, **named)
            finally:
                self._is_inside = False
                self.seconds[name] = self.seconds.get(name, 0) + self._clock() - began

        return measured


def canonical(
    label: str,
    steps: int,
    *arguments: str,
    full: int | None = None,
    looks: Sequence[str] = (),
) -> None:
    """An experiment with its default probes, in this process: where its time goes.

    ``steps`` of each training are done; ``full``: how many the experiment has, to which the time
    of steps and of evaluations is stretched. ``looks``: values of ``train.eval_every``, of which
    the first is the experiment's, with as many evaluations as each has in so many steps. With one
    thread it is the processor's time, which other work on the machine leaves alone.
    """
    found = seconds(*arguments, *(["threads=1"] if torch.get_num_threads() == 1 else []))
    told = ", ".join(f"{name} {found[name]:.2f} s" for name in sorted(found))
    print(f"  {label}: {told}", flush=True)
    for every in looks or ("",):
        stretched = dict(found)
        stretched["steps"] *= (full or steps) / steps
        if every:
            stretched["evaluation"] *= num_looks(every, full or steps) / num_looks(looks[0], steps)
        else:
            stretched["evaluation"] *= (full or steps) / steps
        whole = sum(stretched.values())
        parts = ", ".join(f"{n} {100 * stretched[n] / whole:.2f} %" for n in sorted(stretched))
        by = f", {num_looks(every, full or steps)} evaluations ({every})" if every else ""
        print(f"    at {full or steps} steps a training{by}: {parts}", flush=True)


def num_looks(every: str, steps: int) -> int:
    """How many evaluations a training of so many steps has, the last one among them."""
    return len({*Clock(1, steps).every(Growing.parse(every), "train.eval_every"), steps})


def seconds(*arguments: str) -> dict[str, float]:
    """Seconds of a run in a folder of its own, by part."""
    clock = own_clock()
    shares = Shares(clock)
    made = Together.__init__

    def timed_steps(self: Any, lanes: Any, advance: Callable[[], object], *rest: Any,
                    **named: Any) -> None:  # fmt: skip
        made(self, lanes, shares.timed("steps", advance), *rest, **named)

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as patches:
        command = ["lth-run", *arguments, "record=local", f"paths.outputs={folder}"]
        patches.enter_context(mock.patch.object(sys, "argv", command))
        patches.enter_context(mock.patch.object(Together, "__init__", timed_steps))
        for owner, name, part in PARTS:
            call = shares.timed(part, getattr(owner, name))
            patches.enter_context(mock.patch.object(owner, name, call))
        nowhere = patches.enter_context(Path(os.devnull).open("w"))
        patches.enter_context(mock.patch.object(sys, "stdout", nowhere))
        began = clock()
        with contextlib.suppress(SystemExit):
            cli.main()
        found = shares.seconds
        found["all else"] = clock() - began - sum(found.values())
    return found


def main() -> None:
    found = seconds(*sys.argv[1:])
    whole = sum(found.values())
    for name in sorted(found, key=found.__getitem__, reverse=True):
        print(f"{name:12}{found[name]:9.2f} s{100 * found[name] / whole:8.2f} %")


if __name__ == "__main__":
    main()
