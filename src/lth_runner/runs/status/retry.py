"""Starting points again that did not end well."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lth_runner.runs.status.point import Point
from lth_runner.values.errors import UserError
from lth_runner.values.terminal import show, visible

AGAIN = ("failed", "dead", "interrupted", "missing")
REFUSED = "refused"
PROGRAM = "lth-run"
# what starts several ranks on one machine, in the place of lth-run; their number between the two
RANKS = (("torchrun", "--standalone", "--nproc-per-node"), ("-m", "lth_runner"))
EXIT_INTERRUPTED = 130
LONGEST = 60  # characters of a command that is none


def chosen(points: Sequence[Point], *, refused: bool) -> list[Point]:
    """Chooses the points to start again; those whose command was refused only when asked for."""
    return [p for p in points if p.state in AGAIN or (refused and p.state == REFUSED)]


def commands(points: Sequence[Point]) -> tuple[list[str], list[str]]:
    """Lists the commands of points to start again, each once, and why some have none."""
    wanted, notes = [], []
    for point in points:
        where = f"{point.name}/{point.run_id}"
        if point.may_live:
            pid = point.status.get("pid")
            notes.append(f"{where} is left out: its process {pid} exists; end it first")
        elif not point.command:
            notes.append(f"{where} is left out: its status.json names no command")
        elif (command := quoted(point.command)) is None:
            told = repr(point.command[:LONGEST])
            notes.append(f"{where} is left out: it names no {PROGRAM} command, but {told}")
        elif (started := by_ranks(point, command)) is None:
            notes.append(
                f"{where} is left out: ranks on several machines, or how many is not known, train "
                "it: start it by torchrun as before (docs/cluster.md)"
            )
        else:
            wanted.append(started)
    return list(dict.fromkeys(wanted)), notes


def quoted(command: str) -> str | None:
    """Writes a stored command so that a shell takes it for words of `lth-run` and nothing else.

    None for another program's, and for one that no terminal should be shown.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if words[:1] != [PROGRAM] or any(visible(word) != word for word in words):
        return None
    return shlex.join(words)


def by_ranks(point: Point, command: str) -> str | None:
    """Writes a command as the torchrun that several ranks need, where they train its point.

    None where they are on several machines, or nobody has noted how many there are.
    """
    engine = point.status.get("engine")
    facts = engine if isinstance(engine, Mapping) else {}
    name, reason = str(facts.get("engine", "")), str(facts.get("reason", ""))
    found = re.fullmatch(r"(?:distributed|sharded)-(\d+)", name)
    if not found:
        asked = {"train.engine=distributed", "train.engine=sharded"} & {*shlex.split(command)}
        return None if asked else command
    machines = re.search(r"machines: (\d+)", reason)
    if machines is None or int(machines[1]) != 1:
        return None
    first, last = RANKS
    return shlex.join([*first, found[1], *last, *shlex.split(command)[1:]])


def check_folder(points: Sequence[Point], outputs: Path) -> None:
    """Raises UserError where the commands, started here, would write to another folder."""
    for point in points:
        named = point.config.get("paths.outputs")
        if named is not None and Path(named).resolve() != outputs:
            raise UserError(
                f"started in {Path.cwd()}, the commands would write to {Path(named).resolve()} and "
                f"not to {outputs}: go to the folder that they were first started in"
            )


def launch(lines: Sequence[str]) -> int:
    """Runs commands one after the other; returns 0, 1 where one failed, 130 after Ctrl-C.

    Ctrl-C reaches the run itself, which ends between two steps; no further one is started.
    Raises UserError, before anything starts, for a command that is not ``lth-run``, on one or
    several ranks.
    """
    parsed = [_started(line) for line in lines]
    interrupts: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: interrupts.append(number))
    failed = []
    try:
        for number, (words, line) in enumerate(zip(parsed, lines, strict=True), 1):
            show(f"[{number}/{len(lines)}] {line}")
            status = subprocess.Popen(words).wait()
            if interrupts or status == EXIT_INTERRUPTED:
                return EXIT_INTERRUPTED
            if status:
                failed.append(f"exit status {status}: {line}")
    finally:
        signal.signal(signal.SIGINT, before)
    show("\n".join([f"{len(lines) - len(failed)} of {len(lines)} ended well", *failed]))
    return 1 if failed else 0


def _started(line: str) -> list[str]:
    """Gives the words of a process that runs a command by this very Python."""
    safe = ["-P"] if sys.version_info >= (3, 11) else []  # not what lies under its names here
    python, words = [sys.executable, *safe, "-m"], shlex.split(line)
    first, last = (list(part) for part in RANKS)
    num, behind = len(first), len(first) + 1
    if words[:1] == [PROGRAM]:
        return [*python, "lth_runner", *words[1:]]
    if words[:num] == first and words[num].isdecimal() and words[behind : behind + 2] == last:
        return [*python, "torch.distributed.run", *words[1:]]
    raise UserError(f"{line!r} is not started: only {PROGRAM} commands are")
