"""Everything behind docs/results.md trained anew: its commands with their hours, or all of them.

    make anew                                  # the commands, what each took, and the total
    make anew ARGS="--train"                   # all of them, one after another, into outputs/
    make anew ARGS="--train --only lenet300_mnist_signs digits_strong"
    make anew ARGS="--train --for imagefolder dataset.root=/data/cifar10 \
        --for smollm2 model.path=/models/smollm2 -- paths.data=/data record=local"

A command that was stopped goes on where it was, and one that is done returns at once, so the same
call goes on after it was killed. ``--for TEXT WORDS`` adds words to the commands that hold a text,
those after ``--`` to every run; ``--outputs FOLDER`` is where all of them write, and where their
scripts read. What a command lacks (where images lie, the folder of a pretrained
model) is told, and it is left out. Then `make results`.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from claim import STUDY
from claims import CLAIMS
from costs import hours, made
from evidence import images, load, readable
from judged import decided

from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.values.errors import UserError

RUNNER = (sys.executable, "-m", "lth_runner")
OUTPUTS = Path("outputs")  # as the commands of the page have it
THERE = re.compile(rf"(?<![^=]){OUTPUTS}/")  # a word, or its value, that begins with it
ROOT, PATH = "dataset.root=", "model.path="  # what no command of the page says
ASKED = re.compile(r"\+?dataset(?:@(.+))?=imagefolder")  # images, for the run or a part of it
NAMED = re.compile(r"\+(experiment|study)=(\w+)")


@dataclass(frozen=True)
class Command:
    """One command of the page with the runs that it made; `added`: words that it does not say."""

    text: str
    runs: tuple[FinishedRun, ...]
    added: tuple[str, ...] = ()

    @property
    def lacks(self) -> str:
        """What it cannot do without: where its images lie, or its pretrained model."""
        said = shlex.split(self.text)
        wanted = {f"{asked[1] or 'dataset'}.root=": "the images"
                  for word in said if (asked := ASKED.fullmatch(word))}  # fmt: skip
        if STUDY not in self.text and any(map(images, self.runs)):  # a study says where they lie
            wanted[ROOT] = "the images"
        models = {str(path) for run in self.runs if (path := run.option("model", "path"))}
        models |= {word.removeprefix(PATH) for word in said if word.startswith(PATH)}
        if models:
            found = filter(None, map(NAMED.fullmatch, said))
            named = [f"conf/{one[1]}/{one[2]}.yaml" for one in found]
            told = f" ({', '.join(named)} says which)" if named else ""
            wanted[PATH] = f"the pretrained model {', '.join(sorted(models))}{told}"
        return " and ".join(f"{start}FOLDER, {what}" for start, what in wanted.items()
                            if start not in self._starts)  # fmt: skip

    @property
    def _starts(self) -> set[str]:
        return {f"{word.partition('=')[0]}=" for word in self.added}

    def words(self, everywhere: Sequence[str], outputs: Path = OUTPUTS) -> list[str]:
        """What is executed, by this Python; ``everywhere``: words of every run."""
        program, *own = shlex.split(self.text)
        own = [THERE.sub(lambda _: f"{outputs}/", word) for word in own]
        if program != "lth-run":  # reads what a run before it wrote
            return [sys.executable, *own]
        said = [word for word in own if f"{word.partition('=')[0]}=" not in self._starts]
        return [*RUNNER, *said, *self.added, *everywhere, f"paths.outputs={outputs}"]


def commands(
    every: Sequence[FinishedRun], added: Sequence[Sequence[str]], only: Sequence[str]
) -> list[Command]:
    """The page's commands that hold any of the texts of `only`, in its order.

    ``added``: a text, and the words for the commands that hold it; raises `UserError` where a text
    is in none, or has no words.
    """
    if bare := [text for text, *words in added if not words]:
        raise UserError(f"--for {bare[0]} says no words to add: give some, or leave it out")
    rows = [row for group in CLAIMS.values() for row in decided(group, every)]
    found = made(rows, every)
    for text in [*only, *(text for text, *_ in added)]:
        if not any(text in command for command in found):
            raise UserError(f"no command holds {text!r}: see all of them with `make anew`")
    return [
        Command(command, tuple(runs), tuple(w for text, *words in added if text in command
                                            for w in words))
        for command, runs in found.items()
        if not only or any(text in command for text in only)
    ]  # fmt: skip


def check_words(words: Sequence[str]) -> None:
    """Raises `UserError` for what is no word of a run, or says where runs lie."""
    for word in words:
        if not ("=" in word or word.startswith(("-", "~"))):
            raise UserError(f"{word!r} is no word for runs: accepted are key=value and options of "
                            "lth-run; texts that choose commands stand after --only")  # fmt: skip
        if word.lstrip("+").startswith("paths.outputs="):
            raise UserError(f"{word}: where all commands write, and scripts read, is said by "
                            f"--outputs {word.partition('=')[2]}")  # fmt: skip


def check_folders(outputs: Path, archive: Path) -> None:
    """Raises `UserError` where there is no archive, whose commands are those of the page."""
    if not archive.is_dir():
        raise UserError(f"{archive} is no folder: call this from the folder of the source, or say "
                        "by --archive where the runs of docs/runs/ lie")  # fmt: skip
    if outputs.exists() and not outputs.is_dir():
        raise UserError(f"--outputs {outputs} is no folder: give one, or a new name")


def plan(found: Sequence[Command]) -> str:
    """A line for each command, and the total, in which trainings that several share count once.

    Commands without runs share those of one above.
    """
    lines = [
        (f"{hours(one.runs):7.2f} h  " if one.runs else f"{'above':>9}  ")
        + one.text + (f"   (lacks {one.lacks})" if one.lacks else "")
        for one in found
    ]  # fmt: skip
    ready = [one for one in found if not one.lacks]
    lines += [f"{_hours_of(found):7.2f} h  in all: {len(found)} commands"]
    if len(ready) < len(found):
        lines += [f"{_hours_of(ready):7.2f} h  of the {len(ready)} of them that lack nothing"]
    return "\n".join(lines)


def _hours_of(found: Sequence[Command]) -> float:
    return hours(run for one in found for run in one.runs)


def train(
    found: Sequence[Command],
    everywhere: Sequence[str],
    execute: Callable[[list[str]], int],
    outputs: Path = OUTPUTS,
) -> list[str]:
    """Runs those that lack nothing, one after another; says which failed or were left out."""
    wrong = []
    for place, one in enumerate(found, 1):
        if one.lacks:
            wrong += [f"left out, lacks {one.lacks}: {one.text}"]
            continue
        print(f"[{place}/{len(found)}] {one.text}", flush=True)
        started = time.monotonic()
        status = execute(one.words(everywhere, outputs))
        seconds = time.monotonic() - started
        print(f"[{place}/{len(found)}] exit {status} after {seconds:,.0f} s", flush=True)
        wrong += [f"failed with exit {status}: {one.text}"] if status else []
    return wrong


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", action="store_true", help="run them; else they are listed")
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT",
                        help="the commands that hold such a text")  # fmt: skip
    parser.add_argument("--for", nargs="+", action="append", default=[], metavar=("TEXT", "WORD"),
                        dest="added", help="words for those that hold a text")  # fmt: skip
    parser.add_argument("--outputs", type=Path, default=OUTPUTS)
    parser.add_argument("--archive", type=Path, default=Path("docs/runs"))
    parser.add_argument("everywhere", nargs="*", help="after --: words for every run")
    arguments = parser.parse_args(argv)
    try:
        check_folders(arguments.outputs, arguments.archive)
        check_words([*arguments.everywhere, *(w for _, *words in arguments.added for w in words)])
        every = readable(load(arguments.outputs, arguments.archive))
        found = commands(every, arguments.added, arguments.only)
    except UserError as error:
        print(f"anew: {error}", file=sys.stderr)
        return 2
    print(plan(found), flush=True)
    if not arguments.train:
        return 0
    try:
        wrong = train(found, arguments.everywhere, _execute, arguments.outputs)
    except KeyboardInterrupt:
        print("anew: interrupted; the same call goes on", file=sys.stderr)
        return 130
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def _execute(words: list[str]) -> int:
    """Runs a command; one that is interrupted, together with this, is waited for."""
    process = subprocess.Popen(words)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise


if __name__ == "__main__":
    sys.exit(main())
