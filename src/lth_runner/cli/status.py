"""The console script `lth-status`, which says how runs stand and looks after the Store."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from lth_runner.cli.program import exit_status
from lth_runner.runs.status import drawing, retry
from lth_runner.runs.status.point import BAD, Point
from lth_runner.runs.status.reading import read_points
from lth_runner.runs.status.store_care import remove, survey
from lth_runner.values.errors import UserError
from lth_runner.values.terminal import Arguments, show, visible_lines

WATCH_SECONDS = 2.0
HIDE, SHOW, HOME = "\x1b[?25l", "\x1b[?25h", "\x1b[H\x1b[J"

DESCRIPTION = """\
Show how every point of an outputs folder stands, from its files; nothing is trained.

states: running, waiting (its sweep has not come to it), done, interrupted,
  failed (with its error), refused (what its command asks for is a mistake), dead (it says
  running, but its process is gone or has been silent for ten minutes), missing (its sweep
  ended before it began), diverged (done, but the loss of a ticket became NaN or infinite: the same
  command ends in the same way)
"""

EPILOG = """\
examples:
  lth-status outputs                     every point, those that need you first
  lth-status outputs --watch 5           the same, drawn anew every five seconds
  lth-status outputs --retry             commands of points to start again, for a shell
  lth-status outputs --retry --launch    starts them one after the other
  lth-status outputs --store             what the Store holds and what of it could go
  lth-status outputs --prune             what would be removed; with --yes it is

While a run is neither done, diverged nor refused, no training, snapshot or draft is removed.
exit status: 0, 1 where a point failed, is dead, missing, refused or diverged (with --launch: where
a command failed; --retry alone, --store and --prune: 0), 2 for a mistake in the command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `lth-status`; returns its exit status."""
    arguments = _arguments(argv)
    return exit_status("lth-status", lambda: _run(arguments))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Arguments(
        prog="lth-status",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("outputs", metavar="OUTPUTS", type=Path, help="the folder that runs write to")
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--watch", nargs="?", const=WATCH_SECONDS, type=_seconds, metavar="SECONDS",
        help=f"draw anew every so many seconds ({WATCH_SECONDS:g}), until Ctrl-C",
    )  # fmt: skip
    action.add_argument("--retry", action="store_true", help="print commands of points to redo")
    action.add_argument("--store", action="store_true", help="what the Store holds")
    action.add_argument("--prune", action="store_true", help="what could be removed from it")
    add("--launch", action="store_true", help="with --retry: run these commands")
    add("--refused", action="store_true", help="with --retry: those that were refused, too")
    add("--yes", action="store_true", help="with --prune: remove it")
    add(
        "--keep", choices=("tickets", "last"), default="",
        help="with --prune: take more. tickets: also snapshots and derived files; last: also "
        "trainings before the last round of a run",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    pairs = (("launch", "retry"), ("refused", "retry"), ("yes", "prune"), ("keep", "prune"))
    for option, needed in pairs:
        if getattr(arguments, option) and not getattr(arguments, needed):
            parser.error(f"--{option} goes with --{needed}")
    return arguments


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r}: give seconds, 0.1 to 86400, after OUTPUTS")
    return value


def _run(arguments: argparse.Namespace) -> int:
    outputs: Path = arguments.outputs
    if arguments.watch is not None and sys.stdout.isatty():
        return _watch(outputs, arguments.watch)
    points = read_points(outputs, _now())
    if arguments.retry:
        return _retry(points, outputs, refused=arguments.refused, launch=arguments.launch)
    if arguments.store:
        show(drawing.holdings(survey(outputs, points, _now())))
        return 0
    if arguments.prune:
        return _prune(points, outputs, keep=arguments.keep, yes=arguments.yes)
    show(drawing.listing(points))
    return _status(points)


def _watch(outputs: Path, seconds: float) -> int:
    """Draws into the terminal until Ctrl-C; what stood there before is scrolled up, not lost."""
    points = read_points(outputs, _now())
    out = sys.stdout
    out.write(HIDE + "\n" * shutil.get_terminal_size().lines)
    try:
        while True:
            size = shutil.get_terminal_size()
            text = drawing.listing(points, width=size.columns, height=size.lines - 1)
            stamp = f"{datetime.now():%H:%M:%S}, every {seconds:g} s, Ctrl-C ends"
            out.write(f"{HOME}{visible_lines(text)}\n{stamp[: size.columns - 1]}")
            out.flush()
            time.sleep(seconds)
            points = read_points(outputs, _now())
    except KeyboardInterrupt:
        return _status(points)
    finally:
        out.write(f"{SHOW}\n")
        out.flush()


def _retry(points: Sequence[Point], outputs: Path, *, refused: bool, launch: bool) -> int:
    wanted = retry.chosen(points, refused=refused)
    commands, notes = retry.commands(wanted)
    num_refused = sum(point.state == retry.REFUSED for point in points)
    if num_refused and not refused:
        notes.append(
            f"left out: {num_refused} that can only be refused again; mend their commands "
            "(--refused adds them)"
        )
    for note in notes:
        show(note, sys.stderr)
    if commands:
        try:
            retry.check_folder(wanted, outputs.resolve())
        except UserError as error:
            if launch:
                raise
            show(f"lth-status: {error}", sys.stderr)
    else:
        print("nothing to start again", file=sys.stderr)
    if launch and commands:
        return retry.launch(commands)
    for command in commands:
        show(command)
    return 0


def _prune(points: Sequence[Point], outputs: Path, *, keep: str, yes: bool) -> int:
    found = survey(outputs, points, _now())
    going = found.going(keep)
    if yes:
        remove(found, going)
    show(drawing.removal(found, going, removed=yes))
    return 0


def _status(points: Sequence[Point]) -> int:
    return 1 if any(point.state in BAD for point in points) else 0


def _now() -> datetime:
    return datetime.now(timezone.utc)


if __name__ == "__main__":
    sys.exit(main())
