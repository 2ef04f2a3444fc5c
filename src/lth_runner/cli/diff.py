"""The console script `lth-diff`, which says what differs between two runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING

from lth_runner.cli.program import exit_status
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.terminal import Arguments, show, visible

if TYPE_CHECKING:
    from lth_runner.runs.diff.lines import Line

SAME, DIFFERS = 0, 1
SECTIONS = ("config", "code", "data", "start", "machine", "result")
LONGEST = 44  # letters of a value, unless all is asked for

DESCRIPTION = """\
Say what differs between two runs, from the files in their folders; nothing is built or trained.

A and B are run folders, outputs/<name>/<run_id>, or outputs/<name> with one run in it.
"""

EPILOG = """\
sections:
  config   keys of config.yaml that can change a result
  code     the version of this program, and the hashes of your own modules
  data     the hash of all samples
  start    the origin, and the weights that the first training of each replicate starts from
  machine  processor, threads, versions, host, engine
  result   the measure that verdicts go by, of trainings that both runs have; what is timed never counts

examples:
  lth-diff outputs/first outputs/second
  lth-diff outputs/first outputs/second --only result     the same results on another machine?

exit status: 0 where nothing differs, 1 where something does, 2 for a mistake in the command.
"""  # noqa: E501 (a line of the terminal)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `lth-diff`; returns 0, 1 where the runs differ, or 2 after a message."""
    parser = Arguments(
        prog="lth-diff",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("first", metavar="A", help="a run folder")
    parser.add_argument("second", metavar="B", help="another")
    parser.add_argument(
        "--only", metavar="SECTION,...", default=",".join(SECTIONS), help="these sections alone"
    )
    parser.add_argument(
        "--all", action="store_true", help="every key and every arm, and values in their length"
    )
    arguments = parser.parse_args(argv)

    def run() -> int:
        return _run(arguments.first, arguments.second, arguments.only, everything=arguments.all)

    return exit_status("lth-diff", run, unread=DIFFERS)


def _run(first: str, second: str, only: str, *, everything: bool) -> int:
    chosen = [part.strip() for part in only.split(",")]
    for part in chosen:
        if part not in SECTIONS:
            raise UserError(f"--only {part}: {nearest(part, SECTIONS)}")
    from lth_runner.runs.aligned_text import aligned
    from lth_runner.runs.diff import lines, outcome
    from lth_runner.runs.evidence.rows import FinishedRun
    from lth_runner.runs.one_run import one_run

    a, b = (FinishedRun.load(one_run(path)) for path in (first, second))
    found = {
        "config": lines.config_lines(a, b, everything=everything),
        "code": lines.code_lines(a, b),
        "data": lines.data_lines(a, b),
        "start": lines.start_lines(a, b),
        "machine": lines.machine_lines(a, b),
        "result": outcome.result_lines(a, b, everything=everything),
    }
    told = [line for name in SECTIONS if name in chosen for line in found[name]]
    if not told:
        show(f"no difference in {', '.join(name for name in SECTIONS if name in chosen)}")
        return SAME
    rows = [(one.section, one.what, *_shown(one, everything=everything)) for one in told]
    rows = [rows[0], *(("", *one[1:]) if one[0] == before[0] else one
                       for before, one in pairwise(rows))]  # fmt: skip
    heads = ("", "", str(a.folder), str(b.folder))
    show("\n".join(aligned([heads, *(tuple(map(visible, row)) for row in rows)])))
    return DIFFERS


def _shown(line: Line, *, everything: bool) -> tuple[str, str]:
    """Gives both values, long ones from shortly before they part, unless all is asked for."""
    first, second = line.first, line.second
    if everything:
        return first, second
    both = zip(first, second, strict=False)
    alike = sum(1 for _ in takewhile(lambda letters: letters[0] == letters[1], both))
    start = 0 if alike < LONGEST // 2 else alike - LONGEST // 4
    return _cut(first, start), _cut(second, start)


def _cut(text: str, start: int) -> str:
    if len(text) <= LONGEST:
        return text
    text = f"…{text[start + 1 :]}" if start else text
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


if __name__ == "__main__":
    sys.exit(main())
