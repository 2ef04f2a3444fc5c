"""``lth-run --dry-run ...``: what a run, a sweep or a study would do; nothing is done of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from lth_runner.cli.arguments import DRY_RUN, OWN_FOLDER, parted, searched
from lth_runner.cli.choose import engine_name, threads_of
from lth_runner.cli.composed import composed
from lth_runner.cli.expected import Expected, expect, told_disk, told_time
from lth_runner.cli.hydra_config import without_hydra
from lth_runner.cli.launch import describe, prepared
from lth_runner.cli.loading import untold
from lth_runner.cli.study import master_of
from lth_runner.cli.study_plan import plan_points, read_study, set_by_scale
from lth_runner.cli.sweep import has_grid, points
from lth_runner.runs.folder import ENDED, read_status
from lth_runner.runs.record import RunFolder
from lth_runner.study.plan import own_words
from lth_runner.values.errors import UserError
from lth_runner.values.terminal import show

MULTIRUN = ("-m", "--multirun")
ROOT = ("-cn", "--config-name")
ENDS = "dry run: nothing was trained, no run was begun"


@dataclass(frozen=True)
class Asked:
    """The words behind ``--dry-run``, taken apart."""

    overrides: Sequence[str]
    folder: str | None = None  # of the user's own yaml
    root: str = "config"
    is_sweep: bool = False


@dataclass
class Sums:
    """What the points looked at so far come to; a training that several share counts once."""

    expected: list[Expected] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)  # names of trainings, by any point
    num_shared: int = 0
    num_done: int = 0

    def add(self, one: Expected | None) -> None:
        """Adds a point, None for one that is done."""
        if one is None:
            self.num_done += 1
            return
        if one.seen is not None:
            self.num_shared += len(one.seen.missing & self.missing)
            self.missing |= one.seen.missing
        self.expected.append(one)

    def lines(self, num_points: int) -> list[str]:
        """Writes what all points together come to."""
        whole = sum(one.num_to_train for one in self.expected)
        num = whole - self.num_shared
        told = [f"all      {num_points} points: {self.num_done} done, at most {num} trainings"]
        if self.num_shared:
            told[0] += f" ({self.num_shared} that several share are counted once)"
        if not self.expected:
            return told
        own = num / whole if whole else 1.0
        times = [one.seconds for one in self.expected]
        timing = next((one.timing for one in self.expected if one.timing), None)
        seconds = None if None in times else own * sum(time for time in times if time is not None)
        num_bytes = own * sum(one.num_bytes for one in self.expected)
        return [*told, f"time     {told_time(num, seconds, timing)}",
                told_disk(num_bytes, self.expected[0].place)]  # fmt: skip


def dry_run(words: Sequence[str], conf: Path) -> None:
    """Prints what ``lth-run`` with these words would do, the option itself among them.

    Config, parts and data are checked as for a real run. Raises what a real run would be refused
    with.
    """
    asked = _asked(words)
    with initialize_config_dir(version_base="1.3", config_dir=str(conf)):
        loader = GlobalHydra.instance().config_loader()
        overrides = [*searched(asked.folder), *asked.overrides]
        whole = loader.load_configuration(
            asked.root, overrides, RunMode.MULTIRUN, validate_sweep_overrides=False
        )
        if asked.is_sweep or whole.hydra.mode == RunMode.MULTIRUN:
            _of_sweep(whole, loader)
            show(ENDS)
            return
        whole = loader.load_configuration(asked.root, overrides, RunMode.RUN)
        if "study" in whole:
            _of_study(whole, loader)
        elif (one := _of_run(whole)[1]) is not None:
            show("\n".join(one.lines))
    show(ENDS)


def _asked(words: Sequence[str]) -> Asked:
    overrides, folder, root, is_sweep = [], None, "config", False
    for is_option, (word, *value) in parted(words):
        name, _, joined = word.partition("=")
        given = value[0] if value else joined
        if not is_option:
            overrides.append(word)
        elif name in OWN_FOLDER and given:
            folder = given
        elif name in ROOT and given:
            root = given.removesuffix(".yaml")
        elif word in MULTIRUN:
            is_sweep = True
        elif word != DRY_RUN:
            raise UserError(
                f"{word} does not go with {DRY_RUN}: beside it stand overrides, "
                "-m, --config-dir and --config-name"
            )
    return Asked(overrides, folder, root, is_sweep)


def _of_run(whole: DictConfig) -> tuple[Path, Expected | None]:
    """Says of one composed run where it stands: its folder, and None where it is done."""
    HydraConfig.instance().set_config(whole)
    one = composed(without_hydra(whole), whole.hydra)
    parts = prepared(one.config)
    torch.set_num_threads(threads_of(parts))
    run = describe(parts, one.command, one.choices)
    status = read_status(run.folder)
    state = status.get("state")
    is_done = state in ENDED and status.get("probes") == run.probes
    stands = "done" if is_done else f"goes on, is {state}" if state else "new"
    show(f"run      {run.folder}  {stands}")
    if is_done:
        return run.folder, None
    with untold():
        recorded = RunFolder(draw=lambda folder: None).done(run)
    return run.folder, expect(parts, run, engine_name(parts, run.folder), recorded)


def _of_sweep(whole: DictConfig, loader: ConfigLoader) -> None:
    if not has_grid(whole.hydra):
        raise UserError("this sweeper chooses its points as it goes: which there are is not known")
    sweeper = OmegaConf.to_container(whole.hydra.sweeper, resolve=True)
    assert isinstance(sweeper, dict)
    described = points(whole.hydra.overrides.task, sweeper.get("params") or {}, loader)
    sums = Sums()
    for number, one in enumerate(described, 1):
        _of_point(loader.load_sweep_config(whole, one), number, len(described), sums)
    show("\n".join(sums.lines(len(described))))


def _of_study(whole: DictConfig, loader: ConfigLoader) -> None:
    """Says how the points stand of which all that they need is done, and counts the rest.

    A point that several stages have is one.
    """
    study = read_study(whole.study)
    own = own_words(list(whole.hydra.overrides.task))
    master = master_of(whole.hydra, loader)
    planned = plan_points(study.points(own, set_by_scale(own, loader)), master, loader)
    stages = dict.fromkeys(one.point.stage for one in planned)
    for number, stage in enumerate(stages, 1):
        these = [one for one in planned if one.point.stage == stage]
        later = sum(bool(one.point.needs) for one in these)
        awaits = f", {later} upon what others will have trained" if later else ""
        show(f"stage    {number} of {len(stages)}  {stage}: {len(these)} points{awaits}")
    num = len({one.key for one in planned})
    sums, folders, left = Sums(), dict[int, str](), set[tuple[str, ...]]()
    looked_at: dict[tuple[str, ...], str | None] = {}  # by words: the folder of one that is done
    for one in planned:
        needed = {name: folders.get(id(need)) for name, need in one.point.needs.items()}
        if None in needed.values():
            left.add(one.key)
            continue
        words = tuple(one.words({name: str(folder) for name, folder in needed.items()}))
        if words not in looked_at:
            config = loader.load_sweep_config(master, list(words))
            looked_at[words] = _of_point(config, len(looked_at) + 1, num, sums)
        if (folder := looked_at[words]) is not None:
            folders[id(one.point)] = folder
    if left:
        show(
            f"point    {len(left)} more, of which the trainings are not counted: their results "
            "decide"
        )
    show("\n".join(sums.lines(len(looked_at) + len(left))))


def _of_point(config: DictConfig, number: int, num_points: int, sums: Sums) -> str | None:
    """Says of one of several points where it stands; its folder where it is done."""
    show(f"point    {number:>{len(str(num_points))}} of {num_points}")
    folder, one = _of_run(config)
    if one is not None:
        show(one.lines[0])
    sums.add(one)
    return str(folder) if one is None else None
