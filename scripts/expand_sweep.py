"""Print one shell-quoted command per point of a sweep, without running any of them."""

from __future__ import annotations

import argparse
import itertools
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig

from lth_runner.cli.arguments import refuse_misplaced
from lth_runner.cli.conf_dir import conf_dir
from lth_runner.cli.ending import EXIT_USER
from lth_runner.cli.messages import MISTAKES, explain
from lth_runner.cli.sweep import command_line, has_grid, points, with_snapshots
from lth_runner.runs.sweep_folder import write_points
from lth_runner.values.errors import UserError

HYDRAS = ("hydra.", "hydra/")  # whose keys are Hydra's
PROGRAMS = ("lth-run", "lth_runner")  # lth_runner: python -m lth_runner
OF_THE_SWEEP = ("hydra/launcher", "hydra/sweeper", "hydra.launcher", "hydra.sweep", "hydra.mode")
EXAMPLES = """
examples:
  python scripts/expand_sweep.py lth-run -m pruner.sparsity=0.5,0.9 seed=0,1
  python scripts/expand_sweep.py lth-run +sweep=mine          (hydra.sweeper.params of a yaml)

The commands are those that `lth-run -m` would run, in its order; what the sweep is launched with is
left out of them. With --save they go to commands.txt in the sweep's own folder (hydra.sweep.dir),
and the path of that file is printed instead.
"""


@dataclass(frozen=True)
class Sweep:
    """The points as ``lth-run`` commands; ``program`` is what starts lth-run, ``fixed`` what every
    point gets beside its overrides, ``folder`` the sweep's own (hydra.sweep.dir).
    """

    points: tuple[str, ...]
    program: tuple[str, ...]
    fixed: tuple[str, ...]
    folder: Path

    @property
    def text(self) -> str:
        """One shell-quoted command a line."""
        return "".join(
            f"{shlex.join((*self.program, *shlex.split(point)[1:], *self.fixed))}\n"
            for point in self.points
        )

    def save(self) -> Path:
        """commands.txt, and points.jsonl and sweep.json as a sweep has them, in a new folder."""
        for attempt in itertools.count(1):
            suffix = f"-{attempt}" if attempt > 1 else ""
            folder = self.folder.with_name(self.folder.name + suffix)
            try:
                folder.mkdir(parents=True)
                break
            except FileExistsError:
                continue
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        owner = {"pid": None, "host": None, "started": started}  # no process waits for the points
        write_points(folder, self.points, owner)
        path = folder / "commands.txt"
        path.write_text(self.text)
        return path


def expand(words: Sequence[str]) -> Sweep:
    """The points of ``lth-run ...``; each is composed once, so that mistakes show before they cost.

    Raises UserError or Hydra's own exceptions for what ``lth-run -m`` would refuse as well.
    """
    program, arguments = split_program(words)
    refuse_misplaced(arguments)
    given = parsed(arguments)
    folders = [] if given.config_dir is None else [own_folder(given.config_dir)]
    for folder in folders:
        look_into(folder)
    with initialize_config_dir(str(conf_dir().absolute()), version_base="1.3"):

        def composed(overrides: Sequence[str]) -> DictConfig:
            return compose(given.config_name, list(overrides), return_hydra_config=True)

        loader = GlobalHydra.instance().config_loader()
        [one, *_] = points(given.overrides, {}, loader)
        known = composed(one).hydra
        sweeper = known.sweeper
        if not has_grid(known):
            raise UserError(
                f"the sweeper {sweeper._target_} chooses its points as results come in: only a "
                "grid (hydra/sweeper=basic) can be written down beforehand"
            )
        of_hydra = [word for word in given.overrides if word.lstrip("+~").startswith(HYDRAS)]
        task = [word for word in given.overrides if word not in of_hydra]
        every = points(task, sweeper.params or {}, loader)
        kept, *_ = [composed([*point, *of_hydra]).train.snapshots for point in every]
        fixed = [word for word in of_hydra if not word.startswith(OF_THE_SWEEP)]
        if known.mode == RunMode.MULTIRUN:  # by a yaml that every point reads again
            fixed.append("hydra.mode=RUN")
        commands = [
            command_line(folders, given.config_name, point) for point in with_snapshots(every, kept)
        ]
        return Sweep(tuple(commands), tuple(program), tuple(fixed), Path(str(known.sweep.dir)))


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """What of lth-run's options a sweep may have; raises UserError for any other."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-cd", "--config-dir")
    parser.add_argument("-cn", "--config-name", default="config")
    parser.add_argument("overrides", nargs="*")
    found, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UserError(f"lth-run has no option {unknown[0]} for a sweep")
    return found


def own_folder(name: str) -> Path:
    """The folder of --config-dir."""
    mine = Path(name).absolute()
    if not mine.is_dir():
        raise UserError(f"--config-dir {name}: there is no such folder")
    return mine


def look_into(folder: Path) -> None:
    """Makes Hydra look for yaml where lth-run's --config-dir does: behind its own folder."""

    class OwnFolder(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            anchor = SearchPathQuery(provider="schema")
            search_path.prepend("command-line", f"file://{folder}", anchor)

    Plugins.instance().register(OwnFolder)


def split_program(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Everything up to lth-run, whatever starts it (srun, a container), and its arguments."""
    for index, word in enumerate(words):
        if Path(word).name in PROGRAMS:
            return list(words[: index + 1]), list(words[index + 1 :])
    raise UserError(f"no lth-run in {shlex.join(words)!r}: give the command of the sweep")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the commands; 0, or 2 when the sweep is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--save", action="store_true", help="write commands.txt, print its path")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="lth-run ...")
    parsed = parser.parse_args(argv)
    words = parsed.command[1:] if parsed.command[:1] == ["--"] else parsed.command
    try:
        sweep = expand(words)
        print(f"{sweep.save()}\n" if parsed.save else sweep.text, end="")
    except MISTAKES as error:
        print(f"error: {explain(error, conf_dir())}", file=sys.stderr)
        return EXIT_USER
    return 0


if __name__ == "__main__":
    sys.exit(main())
