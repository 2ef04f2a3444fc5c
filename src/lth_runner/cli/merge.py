"""The console script `lth-merge`, which merges what several runs trained from one start."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lth_runner.cli.program import exit_status
from lth_runner.cli.stopping import say, terminated_as_interrupted
from lth_runner.values.search_path import user_code_last
from lth_runner.values.terminal import Arguments, show

if TYPE_CHECKING:
    from lth_runner.study.merged import Merge
    from lth_runner.study.merging import Merging

GRID = tuple(round(0.1 * number, 1) for number in range(1, 11))
METHODS = ("task_arithmetic", "sum", "ties", "dare")
DENSITY, DROP = 0.2, 0.9
SERVES = MappingProxyType({  # option -> the methods that it says something of
    "weight": ("task_arithmetic", "ties", "dare"), "density": ("ties",),
    "drop": ("dare",), "draw": ("dare",),
})  # fmt: skip

DESCRIPTION = """\
Merge networks that several runs trained from the same weights; nothing is trained.

RUN is a run folder, outputs/<name>/<run_id>, or outputs/<name> with one run in it. Every task keeps
its own head. Call it from where lth-run was called: each network and its data are built again.
"""

EPILOG = """\
methods:
  task_arithmetic  the weighted sum of the changes (Ilharco et al., ICLR 2023)
  sum              the same with a weight of 1, for changes that share no place
  ties             trim, elect signs, average those that agree (Yadav et al., NeurIPS 2023)
  dare             drop at random and rescale, then add (Yu et al., ICML 2024)

The weight is the best of 0.1, 0.2, ... 1 on the validation samples, unless --weight gives it.
Running statistics of norms stay each task's own, as its head does.

example:
  lth-merge outputs/sst2 outputs/trec --head classifier --method ties --to merged.safetensors
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `lth-merge`; returns its exit status."""
    arguments = _arguments(argv)
    written: list[Path] = []

    def run() -> int:
        user_code_last()  # model._target_=mine.Net finds mine.py in this folder
        with terminated_as_interrupted():
            return _run(arguments, written)

    return exit_status("lth-merge", run, written=written)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Arguments(
        prog="lth-merge",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="the runs, each with a training to merge")
    add(
        "--round",
        type=int,
        default=1,
        metavar="K",
        help="of each run: 1, the first ticket; 0 dense",
    )
    add("--arm", default="ticket", metavar="A", help="the ticket, or a control's name")
    add("--seed", type=int, metavar="N", help="the replicate's seed (each run's first)")
    add(
        "--head", nargs="*", default=[], metavar="PATTERN", help="tensors that stay each task's own"
    )
    add("--method", choices=METHODS, action="append", help="one or several (all four)")
    add("--weight", type=_number, metavar="W", help="of every change, in place of the grid")
    add(
        "--density", type=float, metavar="D",
        help=f"ties: the share that trimming keeps ({DENSITY})",
    )  # fmt: skip
    add("--drop", type=float, metavar="P", help=f"dare: the share that is dropped ({DROP})")
    add("--draw", type=int, metavar="N", help="dare: the seed of what is dropped (0)")
    add(
        "--to",
        metavar="FILE.safetensors",
        help="write the one method's network, with the first head",
    )
    arguments = parser.parse_args(argv)
    chosen = arguments.method or METHODS
    for option, methods in SERVES.items():
        if getattr(arguments, option) is not None and not {*methods} & {*chosen}:
            parser.error(
                f"--{option} goes with --method {' or '.join(methods)}: without it, it changes "
                "nothing"
            )
    if arguments.to is not None and len({*chosen}) != 1:
        parser.error("--to writes one network: give one --method")
    return arguments


def _run(arguments: argparse.Namespace, written: list[Path]) -> int:
    """Merges as asked; ``written`` gets the network's file once it is there."""
    from lth_runner.export.whole_file import check_target, finished
    from lth_runner.study.merged import Merge, Source, training_of, write_merged

    target = None
    if arguments.to is not None:
        target = check_target(arguments.to, (".safetensors",), "a merged network")
    methods = {n: _method(n, arguments) for n in arguments.method or METHODS}
    chosen = {"round": arguments.round, "arm": arguments.arm, "seed": arguments.seed}
    merge = Merge(tuple(Source.of_run(run, arguments.head, **chosen) for run in arguments.runs))
    say(f"head     {merge.told}")
    say("\n".join(_told(merge)))
    header = ["method", "weight", *(one.name for one in merge.sources)]
    alone = merge.alone()
    body, rows = [["alone", "", *_figures(merge, alone)]], list[dict[str, Any]]()
    for name, method in methods.items():
        weight = _weight(name, method, merge, arguments)
        found = merge.tried(method, weight, "test").values
        body.append([name, f"{weight:g}", *_figures(merge, found)])
        chosen_by = "given" if name == "sum" or arguments.weight is not None else "validation"
        facts = {"method": name, "weight": weight, "weight_by": chosen_by}
        triples = zip(merge.sources, alone, found, strict=True)
        sources = [training_of(one) | {"alone": own, "value": value} for one, own, value in triples]
        rows.append({**facts, "options": vars(method), "sources": sources})
        if target is not None:
            told = {"method": name, "weight": weight, "runs": [s.name for s in merge.sources]}
            with finished(target) as scratch:
                write_merged(scratch, merge.networks(method, weight)[0], told)
            written.append(target)
    _table(header, body)
    _keep(merge, rows)
    if target is not None:
        say(f"written  {target}, with the head of {merge.sources[0].name}")
    return 0


def _keep(merge: Merge, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keeps the figures for reports, and says what draws them; tells where they cannot be kept."""
    from lth_runner.study.merged import keep_merges

    try:
        file = keep_merges(merge, rows)
    except OSError as error:
        where = merge.sources[0].folder
        show(f"lth-merge: not kept: {where} cannot be written to: {error.strerror}", sys.stderr)
        return
    folders = dict.fromkeys(str(one.folder.parent) for one in merge.sources)
    say(f"kept     {file}; page: lth-report {' '.join(folders)}")


def _method(name: str, arguments: argparse.Namespace) -> Merging:
    from lth_runner.study.merging import Dare, TaskArithmetic, Ties

    density = DENSITY if arguments.density is None else arguments.density
    drop = DROP if arguments.drop is None else arguments.drop
    known: Mapping[str, Callable[[], Any]] = MappingProxyType({
        "task_arithmetic": TaskArithmetic,
        "sum": TaskArithmetic,
        "ties": lambda: Ties(density),
        "dare": lambda: Dare(drop, arguments.draw or 0),
    })  # fmt: skip
    made: Merging = known[name]()
    return made


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r}: give a finite number")
    return value


def _weight(name: str, method: Merging, merge: Merge, arguments: argparse.Namespace) -> float:
    if name == "sum":
        return 1.0
    if arguments.weight is not None:
        return float(arguments.weight)
    return merge.best(method, GRID)


def _told(merge: Merge) -> list[str]:
    """Says how the changes are in each other's way."""
    lines = []
    for (one, other), found in merge.interference.items():
        line = (
            f"overlap  {one} and {other}: {found.both:,} of {found.num:,} weights are changed by "
            f"both, {found.by_chance:,.0f} by chance"
        )
        if found.both:
            line += f"; of these {100 * found.conflict_share:.1f} % in opposite directions"
            line += ", 50 % by chance"
        lines.append(line)
    return lines


def _figures(merge: Merge, values: Sequence[float]) -> list[str]:
    return [one.measure.text(value) for one, value in zip(merge.sources, values, strict=True)]


def _table(header: Sequence[str], body: Sequence[Sequence[str]]) -> None:
    from lth_runner.runs.pages.tables import ruled

    say("\n" + "\n".join(ruled((list(header), [list(line) for line in body]), left=0)) + "\n")


if __name__ == "__main__":
    sys.exit(main())
