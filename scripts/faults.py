"""What faults do to results: kill -9 at any moment, damaged files, a full disk at any write.

    python scripts/faults.py                       # all three
    python scripts/faults.py kills --num 300       # so many kill -9 over four workers
    python scripts/faults.py damage disk --seconds 120
    python scripts/faults.py damage --part 1/3     # every third of them, from the first on
    python scripts/faults.py disk --quick          # a pixel in the place of pictures

Each fault is followed by the same commands without one, and what they leave is compared with what
was never disturbed: rows, evaluations, tickets and the ends of all trainings, bit for bit. Nothing
may differ, be missing, or be left over. Ends with status 1 where something does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from small_runs import (
    PRELOADED,
    QUICK,
    SERVER,
    SMALL,
    Tally,
    finished,
    results,
    started,
)

from lth_runner.runs.pages.drawn import stale

NUM_WORKERS = 4
KILLED_TIMES = 5  # that the workers of one sweep are killed
POINTS = tuple(
    (*SMALL, f"seed={seed}", f"control={control}", f"pruner.rounds={rounds}")
    for seed in (0, 1) for control in ("reinit", "[reinit,shuffle]") for rounds in (1, 2)
)  # fmt: skip


def phase(outputs: Path) -> str:
    """What one of the workers was about, as far as the files tell."""
    if any(outputs.glob("**/*.part")):
        return "in the middle of a write"
    if any(outputs.glob("store/drafts/*/end.safetensors")):
        return "publishing"
    folders = list(outputs.glob("small/*/status.json"))
    if any('"done"' in path.read_text() and stale(path.parent) for path in folders):
        return "drawing"
    return "training" if any(outputs.glob("store/drafts/*/*")) else "starting, or between trainings"


def kills(work: Path, whole: Path, *, num: int, until: float) -> Tally:
    """Kills workers over one sweep, at random moments, until so many are dead; then all may end."""
    tally, moments, expected = Tally(), random.Random(0), results(whole)
    began = time.monotonic()
    finished(work / "timed", POINTS[-1])
    longest = time.monotonic() - began
    for attempt in range(num):
        if sum(tally.counts.values()) >= num or time.monotonic() > until:
            break
        outputs = work / f"kills-{attempt}"
        for _ in range(KILLED_TIMES):  # then a fresh sweep: a late phase would be all that is left
            owed = [point for point in POINTS if not _is_done(outputs, point)]
            if not owed or sum(tally.counts.values()) >= num or time.monotonic() > until:
                break
            chosen = moments.sample(owed, min(NUM_WORKERS, len(owed)))
            workers = [started(outputs, point) for point in chosen]
            for worker in workers:  # one after the other, while the others go on
                time.sleep(moments.uniform(0, 2 * longest / NUM_WORKERS))
                if worker.is_alive():
                    told = phase(outputs)
                    worker.kill()
                    worker.join()
                    tally.counts[told] += worker.exitcode == -signal.SIGKILL
        for point in POINTS:
            finished(outputs, point)
        tally.compare(outputs, expected, f"kills, sweep {attempt}")
        shutil.rmtree(outputs)
    return tally


def _is_done(outputs: Path, point: tuple[str, ...]) -> bool:
    own = set(point[len(SMALL) :])
    for path in outputs.glob("small/*/status.json"):
        try:
            status = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if status["state"] == "done" and own <= set(status["command"].replace("'", "").split()):
            return True
    return False


def harms() -> Iterator[tuple[str, Callable[[Path], object]]]:
    """The ways in which a file is damaged."""

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[random.Random(len(content)).randrange(len(content))] ^= 1
        path.write_bytes(content)

    yield "flipped", flip
    yield "truncated", lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    yield "emptied", lambda path: path.write_bytes(b"")
    yield "deleted", Path.unlink


@dataclass(frozen=True)
class Part:
    """Every so many-th of the faults, ``number`` 1 from the first one on."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Part:
        """Reads 2/3; raises ValueError for what is none."""
        number, of = map(int, text.split("/"))
        if not 1 <= number <= of:
            raise ValueError(text)
        return cls(number, of)

    def __call__(self, faults: list[Any]) -> list[Any]:
        return faults[self.number - 1 :: self.of]


def damage(work: Path, *, until: float, part: Part) -> Tally:
    """Damages a file of each kind, of the run and of the Store, and gives the command again."""
    tally, point, whole = Tally(), POINTS[1], work / "whole"
    finished(whole, point)
    expected = results(whole)
    [run] = whole.glob("small/*")
    of_run = [path.relative_to(whole) for path in sorted(run.rglob("*")) if path.is_file()]
    kinds = {
        path.name.split("-0")[0]: path.relative_to(whole) for path in whole.glob("store/**/*.*")
    }
    faults = [(place, *harm) for place in (*of_run, *kinds.values()) for harm in harms()]
    random.Random(0).shuffle(faults)  # so that a part of them is spread over all
    for place, name, harm in part(faults):
        if time.monotonic() > until:
            break
        outputs = work / "harmed"
        shutil.copytree(whole, outputs)
        harm(outputs / place)
        in_store = place.parts[0] == "store"
        if in_store:  # a run that is done looks at none of it
            shutil.rmtree(outputs / "small")
        tally.counts[f"{'the Store' if in_store else 'the run'}: {name}"] += 1
        finished(outputs, point)
        tally.compare(outputs, expected, f"{place} {name}")
        shutil.rmtree(outputs)
    return tally


def full_disk(work: Path, *, until: float, part: Part) -> Tally:
    """Fails every operation from the n-th on, for each n, then gives the command again."""
    point = tuple(word for word in POINTS[0] if "checkpoint_minutes" not in word)
    tally, whole = Tally(), work / "whole"
    finished(whole, point)
    expected, num = results(whole), int(whole.with_suffix(".count").read_text())
    order = random.Random(0).sample(range(num), num)  # so that a part of them is spread over all
    for n in part(order):
        if time.monotonic() > until:
            break
        outputs = work / f"full-{n}"
        process = started(outputs, point, n)
        process.join(600)
        told = outputs.with_suffix(".log").read_text()
        if int(outputs.with_suffix(".count").read_text()) <= n:
            shutil.rmtree(outputs)
            continue  # it took less this time: what is written every other second is not counted
        clear = process.exitcode == 2 and "error: " in told and "bug" not in told
        if not clear:
            tally.wrong.append(f"operation {n}: status {process.exitcode}, {told[-300:]}")
        tally.counts["operations refused, and all after them"] += 1
        finished(outputs, point)
        tally.compare(outputs, expected, f"operation {n}")
        shutil.rmtree(outputs)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    kinds = ("kills", "damage", "disk")
    parser.add_argument("kinds", nargs="*", metavar="|".join(kinds))
    parser.add_argument("--num", type=int, default=300, help="kill -9 in all (300)")
    parser.add_argument("--seconds", type=float, default=1e9, help="of each kind, at most")
    parser.add_argument(
        "--part",
        type=Part.parse,
        default=Part(),
        metavar="N/M",
        help="of damage and disk, one of M",
    )
    parser.add_argument("--quick", action="store_true", help="a pixel in the place of pictures")
    arguments = parser.parse_args()
    if arguments.quick:
        os.environ[QUICK] = "1"
    if unknown := set(arguments.kinds) - set(kinds):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    SERVER.set_forkserver_preload(PRELOADED)
    wrong: list[str] = []
    for kind in arguments.kinds or kinds:
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            work, began = Path(folder), time.monotonic()
            until = began + arguments.seconds
            if kind == "kills":
                for point in POINTS:
                    finished(work / "whole", point)
                tally = kills(work, work / "whole", num=arguments.num, until=until)
            else:
                made = {"damage": damage, "disk": full_disk}[kind]
                tally = made(work, until=until, part=arguments.part)
        total, seconds = sum(tally.counts.values()), time.monotonic() - began
        print(f"{kind}: {total} faults in {seconds:.0f} s, {len(tally.wrong)} with consequences")
        for name, count in tally.counts.most_common():
            print(f"  {count:>4}  {name}")
        wrong += tally.wrong
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
