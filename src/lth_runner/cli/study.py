"""``lth-run +study=...``: plans all runs of a study, then runs what is missing, stage by stage.

Every point is composed and checked as ``lth-run`` with its words would be, before the first one
trains. Points of a stage go through Hydra's launcher as those of a sweep do, one after the other,
side by side, or by Slurm; the folder of the study's own is a sweep's, so that ``lth-status`` lists
what is still to come. A point that fails takes with it those that need it, and no other.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from lth_runner.cli.arguments import named_folders
from lth_runner.cli.ending import EXIT_BUG
from lth_runner.cli.study_plan import Planned, plan_points, read_study, set_by_scale
from lth_runner.cli.sweep import command, command_line, conclude, hold
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.folder import ROUNDS
from lth_runner.runs.sweep_folder import add_failure, replace_points, write_points
from lth_runner.study.plan import Point, own_words
from lth_runner.values.errors import UserError
from lth_runner.values.terminal import show


def run_study(config: DictConfig, known: Any, task: Callable[[DictConfig], Any]) -> None:
    """Runs what is missing of a study; exits with another status than 0 where a point failed.

    ``task`` runs one composed point and returns its run folder, None where it failed.
    """
    if known.mode == RunMode.MULTIRUN:
        raise UserError("a study has its own points: give +study=... without -m and +sweep=...")
    study = read_study(config.study)
    loader = GlobalHydra.instance().config_loader()
    own = own_words(list(known.overrides.task))
    points = study.points(own, set_by_scale(own, loader))
    master = master_of(known, loader)
    planned = plan_points(points, master, loader)
    typed = [word for word in known.overrides.hydra if word != "hydra.mode=RUN"]  # Hydra's own
    whole = command(known, [*typed, *known.overrides.task])
    folder = Path(str(master.hydra.sweep.dir))
    lease = hold(folder)
    try:
        _run(_Rows(planned, master, folder, whole), _launcher(master, loader, task))
    finally:
        if lease is not None:
            lease.release()


def master_of(known: Any, loader: ConfigLoader) -> DictConfig:
    """Composes what the points' own configs take from a sweep: its folder, its launcher."""
    fixed = [word for word in known.overrides.task if word.startswith("paths.outputs=")]
    return loader.load_configuration(
        known.job.config_name or "config",
        [*known.overrides.hydra, "hydra.mode=MULTIRUN", *fixed],
        RunMode.MULTIRUN,
    )


def _launcher(
    master: DictConfig, loader: ConfigLoader, task: Callable[[DictConfig], Any]
) -> Callable[[Sequence[list[str]], int], list[str | None]]:
    context = HydraContext(config_loader=loader, callbacks=Callbacks(master))
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=task, config=master
    )

    def launch(points: Sequence[list[str]], first: int) -> list[str | None]:
        """Runs points and returns their folders."""
        return [done.return_value for done in launcher.launch(points, initial_job_idx=first)]

    return launch


class _Rows:
    """The points of a study in the folder of its sweep, in the order in which they are run."""

    def __init__(
        self, planned: Sequence[Planned], master: DictConfig, folder: Path, whole: str
    ) -> None:
        self.planned = planned
        self.folder = folder
        self.whole = whole
        self.outputs = Path(str(master.paths.outputs))
        self.folders: dict[int, str] = {}  # of points that are done
        self.commands: list[str] = []
        self.num_lost = 0  # points without a command, since what they need did not end well
        own = named_folders(master.hydra)
        self._line = lambda words: command_line(own, master.hydra.job.config_name, words)

    def stages(self) -> list[list[Planned]]:
        """Lists the points of each stage."""
        names = dict.fromkeys(one.point.stage for one in self.planned)
        return [[one for one in self.planned if one.point.stage == name] for name in names]

    def needed(self, one: Planned) -> dict[str, str] | None:
        """Maps each stage that a point names to a run folder; None where one is not there."""
        found = {name: self.folders.get(id(need)) for name, need in one.point.needs.items()}
        return None if None in found.values() else {n: f for n, f in found.items() if f}

    def expected(self, begun: Sequence[Sequence[Planned]]) -> list[str]:
        """Lists the commands that are known, and the study's own for each point to come.

        What a point of a later stage needs is known once that is there.
        """
        seen = {one.key for stage in begun for one in stage}
        later = {one.key for one in self.planned} - seen
        return [*self.commands, *[self.whole] * (len(later) + self.num_lost)]

    def line(self, words: Sequence[str]) -> str:
        """Writes the command of a point."""
        return self._line(words)


def _run(rows: _Rows, launch: Callable[[Sequence[list[str]], int], list[str | None]]) -> None:
    owner = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": rows.whole,
    }
    write_points(rows.folder, rows.expected(()), owner)
    known: dict[tuple[str, ...], str | None] = {}  # by words: a point of two stages runs once
    stages = rows.stages()
    for number, stage in enumerate(stages, 1):
        name = stage[0].point.stage
        words = {id(one): one.words(f) for one in stage if (f := rows.needed(one)) is not None}
        new = list({tuple(w): w for w in words.values() if tuple(w) not in known}.values())
        asked = f"{len(stage)} points, {len(new)} to run or to find done"
        show(f"stage    {number} of {len(stages)}  {name}: {asked}")
        rows.num_lost += len(stage) - len(words)
        first = len(rows.commands)
        rows.commands += [rows.line(w) for w in new]
        replace_points(rows.folder, rows.expected(stages[:number]))
        for line in rows.commands[first:]:
            show(f"         {line}")
        if new:
            known |= zip(map(tuple, new), launch(new, first), strict=True)
        for one in stage:
            found = known.get(tuple(words[id(one)])) if id(one) in words else None
            if found is not None:
                rows.folders[id(one.point)] = found
            elif id(one) not in words:
                _tell_lost(rows, one.point)
    _conclude(rows)


def _tell_lost(rows: _Rows, point: Point) -> None:
    """Notes of a point that what it needs is not there: the study's own command makes it."""
    lost = [need.label for need in point.needs.values() if id(need) not in rows.folders]
    told = f"{point.label} cannot run: it needs {', '.join(lost)}, which did not end well"
    show(f"error: {told}", sys.stderr)
    add_failure(rows.folder, rows.whole, told, EXIT_BUG)


def _conclude(rows: _Rows) -> None:
    """Draws the pages of all runs together, and tells of what failed."""
    from lth_runner.runs.comparisons import compare_runs
    from lth_runner.runs.evidence.merged import common_parent

    folders = dict.fromkeys(Path(folder) for folder in rows.folders.values())
    runs = [FinishedRun.load(folder) for folder in folders if (folder / ROUNDS).is_file()]
    if len(runs) > 1:
        text, written = compare_runs(runs, common_parent(runs))
        show(f"\n{text}\n")
        show("written: " + "\n         ".join(map(str, written)))
    conclude(rows.folder, rows.outputs)
