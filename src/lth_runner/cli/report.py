"""The console script `lth-report`, which redraws and prints finished runs and compares several."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from lth_runner.cli.program import exit_status
from lth_runner.runs.folder import CURVE, PAGE, STATUS, read_status
from lth_runner.values.errors import UserError
from lth_runner.values.terminal import Arguments, show

if TYPE_CHECKING:
    from lth_runner.runs.evidence.rows import FinishedRun

MOST_PAGES = 50  # of single runs that are drawn unasked
DESCRIPTION = """\
Draw and print what runs have found, from the files in their folders; nothing is trained.

A PATH is a run folder (it holds rounds.jsonl) or any folder above some. Runs that still
train, failed or were interrupted are shown with the rounds they have.
"""

EPILOG = """\
examples:
  lth-report outputs/lenet/3f9c2a       one run: prints its table, redraws its
                                        curve.png and report.html
  lth-report outputs/lenet              every run below: also comparison.html, .png and
                                        .csv into the deepest folder that holds them all;
                                        runs that differ in pruner.sparsity, rewind.step and
                                        seed alone also give sweep.html and its figures,
                                        runs that differ in pruner pruners.html, tickets
                                        carried from task to task transfer.html,
                                        merged ones merges.html
  lth-report outputs/a outputs/b --out figures
                                        the comparison goes into figures/
  lth-report outputs/lenet --open       the same, and shows comparison.html in a browser

of several runs those without a page of their present rows and config get one, where they are 50
at most, and the 10 largest groups of comparable runs are drawn; --pages draws all of them anew.

each run is judged by the report keys of its own config.yaml, and no key is given here. To judge a
finished run by others, give them to its own command, which trains nothing: lth-run ...
report.samples=fixed

a match is shown where seeds exclude that the ticket is worse on the test split than the dense
network by more than the tolerance of its config (report.tolerance: a difference of the headline
measure, 0.005 of accuracy is half a point; or a share of the dense network's value, 2%), refuted
where they exclude that it is not, else undecided.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `lth-report`; returns 0, or 2 after a message on each thing to mend."""
    parser = Arguments(
        prog="lth-report",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="run folder, or a folder above")
    parser.add_argument(
        "--out", metavar="DIR", help="where the comparison of several runs goes (made if missing)"
    )
    parser.add_argument(
        "--pages", action="store_true", help="of several runs, draw the pages of all anew"
    )
    parser.add_argument(
        "--open", action="store_true", help="show the page that was written in a browser"
    )
    parser.add_argument(
        "--plan-seeds", action="store_true",
        help="draw nothing: say how many seeds would show a match, from the variance seen",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    if arguments.plan_seeds and (arguments.out is not None or arguments.pages or arguments.open):
        parser.error("--plan-seeds draws nothing: leave --out, --pages and --open away")
    return exit_status("lth-report", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    _refuse_keys(arguments.paths)
    if arguments.plan_seeds:
        return 2 if _plan_seeds(arguments.paths) else 0
    bad, page = _report(arguments.paths, arguments.out, pages=arguments.pages)
    if arguments.open and page is not None:
        _open(page)
    return 2 if bad else 0


def _refuse_keys(paths: Sequence[str]) -> None:
    """Raises UserError for a key of a config in the place of a path, with the command it is for."""
    keys = [path for path in paths if "=" in path and not _exists(path)]
    if not keys:
        return
    above = [Path(path) for path in paths if path not in keys]
    folders = {
        file.parent for path in above for way in ("", "*/") for file in path.glob(way + STATUS)
    }
    command = read_status(folders.pop()).get("command") if len(folders) == 1 else None
    raise UserError(
        f"{keys[0]} is a key of a config, and no path: each run is judged by its own config.yaml. "
        f"Give the key to the run's own command, which trains nothing where the run is done: "
        f"{command or 'lth-run ...'} {' '.join(keys)}"
    )


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # longer than a path can be
        return False


def _plan_seeds(paths: Sequence[str]) -> int:
    """Prints how many seeds each run would need; returns how many folders could not be read."""
    from lth_runner.runs.evidence.rows import FinishedRun, find_runs
    from lth_runner.runs.report.planning_text import planned

    folders, bad = find_runs(paths), 0
    for index, folder in enumerate(folders):
        try:
            show("\n" * bool(index) + planned(FinishedRun.load(folder)))
        except UserError as error:
            bad += _left_out(str(error), of=len(folders))
    return bad


def _open(page: Path) -> None:
    """Shows a page in the browser that the system names, and says which page that is."""
    import webbrowser

    address = page.resolve().as_uri()
    shown = webbrowser.open(address)
    show(f"{'opened' if shown else 'no browser was found: open'} {address}")


def _report(paths: Sequence[str], out: str | None, *, pages: bool) -> tuple[int, Path | None]:
    """Draws and prints; returns how many folders could not be reported, each told in a line.

    And the page that says most of all that was asked for.
    """
    # Matplotlib loads for most of a second: --help and a wrong path answer without it.
    from lth_runner.runs.evidence.rows import FinishedRun, find_runs

    folders, bad = find_runs(paths), 0
    runs = []
    for folder in tqdm(folders, "read", unit="run", leave=False, disable=None):
        try:
            runs.append(FinishedRun.load(folder))
        except UserError as error:
            bad += _left_out(str(error), of=len(folders))
    if out is not None and len(folders) == 1:
        raise UserError(
            f"--out {out} is where several runs are compared, but only {folders[0]} was found; "
            "leave --out away, or name more runs."
        )
    from lth_runner.runs.evidence.judge import judge
    from lth_runner.runs.pages.drawn import stale
    from lth_runner.runs.report.run_page import write_run
    from lth_runner.runs.report.run_text import run_text

    old = {run.folder for run in runs if len(folders) == 1 or pages or stale(run.folder)}
    writes = len(old) <= MOST_PAGES or pages
    drawn = []
    for run in tqdm(runs, "draw", unit="run", leave=False, disable=None):
        picture, page = run.folder / CURVE, run.folder / PAGE
        try:
            if run.folder in old and writes:
                picture, page = write_run(run)
            elif run.folder in old:
                judge(run)  # what could not be judged could not be compared
            drawn.append((run, picture, page))
        except UserError as error:
            bad += _left_out(str(error), of=len(folders))
        except OSError:  # of the disk that is written to
            raise
        except Exception as error:  # one folder of nonsense must not take the others' report
            reason = f"{run.folder} cannot be reported: {type(error).__name__}: {error}"
            bad += _left_out(reason, of=len(folders))
    if len(drawn) == 1:
        [(run, picture, page)] = drawn
        show(run_text(run))
        show(f"\nwritten: {picture}\n         {page}")
        return bad, page
    if not drawn:
        return bad, None
    shown = _compare([run for run, *_ in drawn], out, every=pages)
    if old and writes:
        show(f"         and curve.png, report.html in {len(old)} of {len(drawn)} run folders")
    elif old:
        show(
            f"{len(old)} of {len(drawn)} runs have no page of their present rows, each takes "
            "half a second: --pages draws them"
        )
    return bad, shown


def _compare(runs: Sequence[FinishedRun], out: str | None, *, every: bool) -> Path | None:
    """Draws and prints what several runs show together; returns the page, if there is one."""
    from lth_runner.runs.comparisons import MOST, compare_runs
    from lth_runner.runs.evidence.merged import common_parent

    place = _made(Path(out)) if out is not None else common_parent(runs)
    text, written = compare_runs(runs, place, most=len(runs) if every else MOST)
    show(text)
    show("\nwritten: " + "\n         ".join(map(str, written)))
    return next((file for file in written if file.suffix == ".html"), None)


def _left_out(reason: str, *, of: int) -> int:
    """Tells of one bad folder and counts it; raises UserError where it is all there is."""
    line = " ".join(reason.split())
    if of == 1:
        raise UserError(line)
    show(f"lth-report: left out: {line}", sys.stderr)
    return 1


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out {folder} cannot be made ({error.strerror}): name a folder"
        ) from error
    return folder


if __name__ == "__main__":
    sys.exit(main())
