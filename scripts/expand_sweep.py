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

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import setup_globals
from hydra.types import RunMode

from lth_runner.cli.main import EXIT_USER, conf_dir, scale_last
from lth_runner.cli.messages import MISTAKES, explain
from lth_runner.cli.sweep import command, points, with_snapshots
from lth_runner.runs.sweep_folder import write_points
from lth_runner.values.errors import UserError

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
    parser = get_args_parser()
    parsed, unknown = parser.parse_known_args(with_snapshots(scale_last(arguments)))
    if unknown:
        raise UserError(f"lth-run has no option {unknown[0]}")
    setup_globals()
    try:
        hydra = Hydra.create_main_hydra2("lth-run", search_path(parsed.config_dir))
        config = hydra.compose_config(
            parsed.config_name or "config",
            overrides=parsed.overrides,
            run_mode=RunMode.MULTIRUN,
            with_log_configuration=False,
        )
        known, sweeper = config.hydra, config.hydra.sweeper
        if not sweeper._target_.endswith(".BasicSweeper"):
            raise UserError(
                f"the sweeper {sweeper._target_} chooses its points as results come in: only a "
                "grid (hydra/sweeper=basic) can be written down beforehand"
            )
        found = points(known.overrides.task, sweeper.params or {})
        for point in found:
            hydra.config_loader.load_sweep_config(config, point)
        fixed = [x for x in known.overrides.hydra if not x.startswith(OF_THE_SWEEP)]
        if known.mode == RunMode.MULTIRUN:  # by a yaml that every point reads again
            fixed.append("hydra.mode=RUN")
        commands = tuple(command(known, point) for point in found)
        return Sweep(commands, tuple(program), tuple(fixed), Path(str(known.sweep.dir)))
    finally:
        GlobalHydra.instance().clear()


def search_path(config_dir: str | None) -> ConfigSearchPath:
    """Where lth-run looks for yaml: the user's folder before its own."""
    path = create_config_search_path(str(conf_dir()))
    if config_dir is not None:
        mine = Path(config_dir).absolute()
        if not mine.is_dir():
            raise UserError(f"--config-dir {config_dir}: there is no such folder")
        anchor = SearchPathQuery(provider="schema")
        path.prepend(provider="command-line", path=f"file://{mine}", anchor=anchor)
    return path


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
