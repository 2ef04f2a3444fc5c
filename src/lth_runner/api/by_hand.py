"""``lth_runner.run_parts``: a run of parts that were made in Python, without any config."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lth_runner.api.result import Result
from lth_runner.api.running import concluded, in_this_process
from lth_runner.cli.build import check_measures, check_parts, named
from lth_runner.cli.launch import carry_out
from lth_runner.experiment import Experiment
from lth_runner.runs.run_name import check_name
from lth_runner.training.recipe import Recipe
from lth_runner.values.errors import UserError


def run_parts(
    experiment: Experiment,
    recipe: Recipe,
    *,
    name: str,
    outputs: str | Path = "outputs",
    tolerance: float | str = 0.005,
    quiet: bool = False,
) -> Result:
    """Runs an experiment, continues it or finds it done, in ``outputs/<name>/<run_id>``.

    As ``run`` does for words: everything is checked first, each training is looked up in
    ``outputs/store``, what is interrupted goes on by the same call. The seeds of the tasks must
    follow one another. ``tolerance``: what a matching ticket may lose. Its tickets are read by
    ``load_ticket``; the result cannot build the network again, which no config names. Raises
    UserError for parts that do not fit one another.
    """
    values = _values(experiment, name, outputs, tolerance)
    with in_this_process(quiet=quiet) as view:
        check_parts(experiment, recipe)
        check_measures(experiment, recipe, values)
        ended = carry_out(named(values, experiment, recipe), _script(), {}, view)
    return concluded(ended)


def _values(
    experiment: Experiment, name: str, outputs: str | Path, tolerance: float | str
) -> Mapping[str, Any]:
    """Writes the config of a run of which it does not name the parts."""
    check_name(name)
    seeds = [task.seed for task in experiment.tasks]
    if not seeds or seeds != list(range(seeds[0], seeds[0] + len(seeds))):
        raise UserError(f"tasks of the seeds {seeds}: give at least one, and seeds in a row: 0, 1")
    return {
        "name": name,
        "seed": seeds[0],
        "replicates": len(seeds),
        "threads": "auto",
        "paths": {"outputs": str(outputs)},
        "store": {"keep": "all"},
        "pruner": {},
        "control": {key: {} for key in experiment.controls},
        "probe": {type(probe).__name__: {} for probe in experiment.probes},
        "record": {},
        "report": {
            "tolerance": tolerance, "paired": False, "samples": "drawn", "published": None,
        },
    }  # fmt: skip


def _script() -> str:
    """What continues the run: the script that makes its parts; empty in a notebook."""
    script = sys.argv[0] if sys.argv else ""
    return shlex.join(["python", *sys.argv]) if script.endswith(".py") else ""
