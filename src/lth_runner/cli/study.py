"""``lth-run +study=...``: plans all runs of a study, then runs what is missing, stage by stage.

Every point is composed and checked as ``lth-run`` with its words would be, before the first one
trains. Points of a stage go through Hydra's launcher as those of a sweep do, one after the other,
side by side, or by Slurm; the folder of the study's own is a sweep's, so that ``lth-status`` lists
what is still to come. A point that fails takes with it those that need it, and no other.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from tqdm import tqdm

from lth_runner.cli.check import check
from lth_runner.cli.foresee import foresee
from lth_runner.cli.messages import dotted
from lth_runner.cli.sweep import command, command_line, conclude, hold
from lth_runner.runs.awaited import AwaitedRun
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.folder import ROUNDS
from lth_runner.runs.sweep_folder import add_failure, replace_points, write_points
from lth_runner.study.plan import KEYS, Point, Study, own_words
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.terminal import show

_OWN = re.compile(r"\$\{study\.([\w.]+)\}")
DEEPEST = 8  # names of names
LATER = "a-run-of-the-stage"  # stands for a run folder that is not there yet
EXIT_BUG = 1


@dataclass(frozen=True)
class Planned:
    """A point whose words compose: ``further`` are those that it gets where keys are unlike."""

    point: Point
    further: tuple[str, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """Tells the point from others before it is known what it needs."""
        needs = {name: need.label for name, need in self.point.needs.items()}
        return tuple(self.words(needs))

    def words(self, folders: Mapping[str, str]) -> list[str]:
        """Returns the words of a run of its own."""
        return self.point.spelt(folders, self.further)


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
    master = _master(known, loader)
    planned = _plan(points, master, loader)
    typed = [word for word in known.overrides.hydra if word != "hydra.mode=RUN"]  # Hydra's own
    whole = command(known, [*typed, *known.overrides.task])
    folder = Path(str(master.hydra.sweep.dir))
    lease = hold(folder)
    try:
        _run(_Rows(planned, master, folder, whole), _launcher(master, loader, task))
    finally:
        if lease is not None:
            lease.release()


def set_by_scale(own: Sequence[str], loader: ConfigLoader) -> set[str]:
    """Lists the dotted keys that the options of +scale= among some words set."""
    found: set[str] = set()
    for word in own:
        group, _, option = word.lstrip("+").partition("=")
        folders = [entry.path for entry in loader.get_search_path().get_path() if entry.path]
        for folder in folders if group == "scale" else ():
            file = Path(str(folder).removeprefix("file://"), group, f"{option}.yaml")
            if file.is_file():
                found |= set(dotted(OmegaConf.to_container(OmegaConf.load(file), resolve=False)))
    return {key for key in found if not any(other.startswith(f"{key}.") for other in found)}


def read_study(study: Any) -> Study:
    """Reads the plan out of a config's ``study``, ``${study.x}`` looked up in it."""
    if not isinstance(study, DictConfig):
        raise UserError(f"study={study}: choose a study by +study=<name>")
    written = str(OmegaConf.to_container(study, resolve=False))
    for key in map(str, study):
        if key not in KEYS and f"${{study.{key}" not in written:
            known = {*KEYS, *map(str, study)} - {key}
            raise UserError(f"study.{key} is used by nothing: {nearest(key, known)}")
    found = _looked_up(OmegaConf.to_container(study, resolve=False), study, 0)
    return Study.read(found)


def _looked_up(value: Any, study: DictConfig, depth: int) -> Any:
    """Puts what ``${study.x}`` names in its place; in a list, the parts of another list."""
    if isinstance(value, dict):
        return {key: _looked_up(one, study, depth) for key, one in value.items()}
    if isinstance(value, list):
        parts = [(one, _looked_up(one, study, depth)) for one in value]
        return [
            part
            for one, found in parts
            for part in (found if isinstance(found, list) and isinstance(one, str) else [found])
        ]
    match = _OWN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    found = OmegaConf.select(study, match[1], throw_on_resolution_failure=False)
    if found is None or depth > DEEPEST:
        raise UserError(f"{value}: study.{match[1]} is not there, or names itself")
    plain = OmegaConf.to_container(found, resolve=False) if OmegaConf.is_config(found) else found
    return _looked_up(plain, study, depth + 1)


def _master(known: Any, loader: ConfigLoader) -> DictConfig:
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


# --- planning


def _plan(points: Sequence[Point], master: DictConfig, loader: ConfigLoader) -> list[Planned]:
    """Composes, checks and tries to build every point; raises what any of them raises."""
    configs: dict[int, DictConfig] = {}
    known: dict[int, AwaitedRun | None] = {}
    tried: dict[tuple[object, ...], tuple[DictConfig, tuple[str, ...], AwaitedRun | None]] = {}
    found = []
    for point in tqdm(points, "plan", unit="point", leave=False, disable=None):
        later = {name: f"{LATER}-{name}" for name in point.needs}
        try:
            words = point.spelt(later)
            # the same words may need other points, to which other keys are unlike
            key = (*words, *(id(need) for need in point.needs.values()))
            if key not in tried:
                composed = loader.load_sweep_config(master, words)
                needed = [configs[id(need)] for need in point.needs.values()]
                if further := _further(point, composed, needed):
                    words = point.spelt(later, further)
                    composed = loader.load_sweep_config(master, words)
                awaited = {later[name]: known[id(need)] for name, need in point.needs.items()}
                tried[key] = composed, further, _try(point, composed, awaited)
            configs[id(point)], further, known[id(point)] = tried[key]
        except UserError as error:
            raise UserError(f"{point.label}: {error}") from error
        found.append(Planned(point, further))
    return found


def _further(point: Point, composed: DictConfig, needed: Sequence[DictConfig]) -> tuple[str, ...]:
    """Lists the words that a point gets where a key's value is another in a point it needs."""
    found: list[str] = []
    for key, words in point.unlike.items():
        values = [OmegaConf.select(one, key) for one in (composed, *needed)]
        if any(value != values[0] for value in values):
            found += words
    return tuple(found)


def _try(
    point: Point, composed: DictConfig, awaited: Mapping[str, AwaitedRun | None]
) -> AwaitedRun | None:
    """Checks a point, and builds its parts but for those that name a run that is not there yet."""
    config = composed.copy()
    with read_write(config), open_dict(config):
        del config["hydra"]
    return foresee(check(config), point.label, awaited)


# --- running


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
        sources = master.hydra.runtime.config_sources
        own = [Path(s.path) for s in sources if s.provider == "command-line"]
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
        return [*self.commands, *[self.whole] * len(later)]

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
        show(f"stage    {number} of {len(stages)}  {name}: {len(stage)} points, {len(new)} to run")
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
    from lth_runner.runs.evidence.merged import common_parent
    from lth_runner.runs.report.command import compare_runs

    folders = dict.fromkeys(Path(folder) for folder in rows.folders.values())
    runs = [FinishedRun.load(folder) for folder in folders if (folder / ROUNDS).is_file()]
    if len(runs) > 1:
        text, written = compare_runs(runs, common_parent(runs))
        show(f"\n{text}\n")
        show("written: " + "\n         ".join(map(str, written)))
    conclude(rows.folder, rows.outputs)
