"""Merges what +study=merge has trained, seed by seed: what the rows of docs/results.md go by.

    lth-run +study=merge 'study.second=[trec,subj]' model=hf model.path=<folder> paths.data=<folder>
    python scripts/merged.py outputs/merge
    lth-run +study=digits_merge 'study.seeds=["0","1","2","3","4"]'
    python scripts/merged.py outputs/digits_merge --head output --tasks digits_low digits_high

Two tasks by every method, trained in full and by LoTA; the second outside the first one's mask by
the sum; three tasks by TIES with a weight of 1, the sum and task arithmetic. Trains nothing:
each call of lth-merge adds its lines to merges.jsonl beside the first run's rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from lth_runner.cli.merge import main as lth_merge
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.values.errors import UserError


def calls(
    runs: Sequence[FinishedRun], tasks: Sequence[str], head: str = "classifier"
) -> Iterator[list[str]]:
    """The words of each call, of seeds that have all the runs it takes; the shortest first."""
    place = {
        (str(run.option("dataset", "name")), bool(run.option("pruner", "outside")), seed): run
        for run in runs
        for seed in run.seeds
    }

    def of(*wanted: tuple[str, bool]) -> Iterator[list[str]]:
        for seed in sorted({seed for _, _, seed in place}):
            found = [place.get((*one, seed)) for one in wanted]
            if all(found):
                yield [*(str(run.folder) for run in found if run is not None), "--head", head]

    two, three = ([(task, False) for task in tasks[:num]] for num in (2, 3))
    for words in of((tasks[0], False), (tasks[1], True)):
        yield [*words, "--method", "sum"]
    for words in of(*two):
        yield words
    for words in of(*three) if len(tasks) > 2 else ():
        yield [*words, "--method", "ties", "--weight", "1"]
        yield [*words, "--method", "sum", "--method", "task_arithmetic"]
    for words in of(*two):
        yield [*words, "--round", "0"]


def asked(folder: Path, tasks: Sequence[str], head: str) -> list[list[str]]:
    """The calls for the runs of a study; raises `UserError` where there is nothing to merge."""
    runs = [FinishedRun.load(file.parent) for file in sorted(folder.glob("*/rounds.jsonl"))]
    if not runs:
        raise UserError(f"{folder} holds no runs: give the folder of +study=merge, outputs/merge")
    if not (found := list(calls(runs, tasks, head))):
        there = sorted({str(run.option("dataset", "name")) for run in runs})
        raise UserError(
            f"no seed of {folder} has runs of the tasks {', '.join(tasks)}: its runs "
            f"are of {', '.join(there)}; name two or three of them by --tasks"
        )
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="outputs/merge")
    parser.add_argument("--tasks", nargs="+", default=["sst2", "trec", "subj"])
    parser.add_argument("--head", default="classifier")
    arguments = parser.parse_args(argv)
    try:
        found = asked(arguments.folder, arguments.tasks, arguments.head)
    except UserError as error:
        print(f"merged: {error}", file=sys.stderr)
        return 2
    for words in found:
        print("lth-merge", *words, flush=True)
        if status := lth_merge(words):
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
