"""What a kill -9 of one of several ranks does: how soon the others end, and to what results.

    python scripts/faults_ranks.py --num 30 --ranks 2

A rank drawn at random is killed at a random moment of the run's life, starting, training,
publishing and drawing; the others must end by themselves with one message at most, and the same
command, on fresh ranks, with the rows, tickets and trainings of a run that nothing disturbed, bit
for bit. Ends with status 1 where that is not so.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

from small_runs import PRELOADED, QUICK, SERVER, SMALL, left_over, lth_run, results

WORDS = (*SMALL, "train.engine=distributed", "replicates=1", "train.shrink_to=200it")
LATEST = 60.0  # seconds in which the others have to end


def ranks(outputs: Path, num: int) -> list[BaseProcess]:
    """Starts all ranks, as torchrun would, each with a log of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    processes = []
    for number in range(num):
        numbers = {"RANK": number, "WORLD_SIZE": num, "LOCAL_RANK": number, "MASTER_PORT": port}
        log = outputs.with_suffix(f".{number}.log")
        words = [*WORDS, f"paths.outputs={outputs}"]
        process = SERVER.Process(target=_rank, args=(words, log, numbers), daemon=True)
        process.start()
        processes.append(process)
    return processes


def _rank(words: list[str], log: Path, numbers: dict[str, int]) -> None:
    os.environ.update({key: str(value) for key, value in numbers.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    lth_run(words, log, None)


def told(outputs: Path, num: int) -> str:
    logs = [outputs.with_suffix(f".{number}.log") for number in range(num)]
    return "".join(log.read_text() for log in logs if log.exists())


def finished(outputs: Path, num: int) -> float:
    """Runs to the end; the seconds that it took."""
    began, processes = time.monotonic(), ranks(outputs, num)
    for process in processes:
        process.join(600)
    if any(process.exitcode for process in processes):
        raise RuntimeError(f"ended with {[p.exitcode for p in processes]}: {told(outputs, num)}")
    return time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num", type=int, default=30, help="kills")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a pixel in the place of pictures")
    given = parser.parse_args()
    if given.quick:
        os.environ[QUICK] = "1"
    SERVER.set_forkserver_preload(PRELOADED)
    rng, wrong, times = random.Random(given.seed), 0, []
    seen: Counter[str] = Counter()
    place = Path(tempfile.mkdtemp(prefix="ranks"))
    whole = place / "whole"
    finished(whole, given.ranks)  # which loads what is loaded once
    shutil.rmtree(whole)
    seconds, expected = finished(whole, given.ranks), results(whole)
    for number in range(given.num):
        outputs = place / f"run{number}"
        processes = ranks(outputs, given.ranks)
        time.sleep(rng.uniform(0, 1.1 * seconds))
        victim = rng.randrange(given.ranks)
        processes[victim].kill()
        began = time.monotonic()
        for process in processes:
            process.join(max(0.0, began + LATEST - time.monotonic()))
        late = [process for process in processes if process.exitcode is None]
        for process in late:
            process.kill()
        was_killed = processes[victim].exitcode == -9
        seen[f"rank {victim}" if was_killed else "at the end: none"] += 1
        messages = told(outputs, given.ranks).count("error: ")
        if was_killed:
            times.append(time.monotonic() - began)
        finished(outputs, given.ranks)
        same = results(outputs) == expected
        left = left_over(outputs)
        if late or messages > 1 or not same or left:
            wrong += 1
            print(f"{number}: late {len(late)}, messages {messages}, same {same}, left {left}:\n"
                  f"{told(outputs, given.ranks)}")  # fmt: skip
        shutil.rmtree(outputs)
    first, middle, third = statistics.quantiles(times, n=4)
    print(f"killed {dict(seen)}; {wrong} of {given.num} wrong; the others ended after "
          f"{middle:.1f} s ({first:.1f} to {third:.1f}, at most {max(times):.1f})")  # fmt: skip
    shutil.rmtree(place)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
