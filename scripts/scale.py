"""A Store of very many trainings, and very many workers on one Store: what each operation takes.

    python scripts/scale.py entries 100000     # operations on a small and on a large Store
    python scripts/scale.py workers 200        # a sweep of 1,000 points whose trainings only wait

Both work in a folder of their own below --folder, which they remove. The trainings of the second
are of two networks of some weights and sleep for --seconds; whose turn it is, leases, waiting and
publishing are the program's own. Figures of both are in docs/scale.md.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from lth_runner.masking import Static
from lth_runner.problem import models
from lth_runner.problem.data import synthetic
from lth_runner.problem.task import Task
from lth_runner.runs.status.store_care import survey
from lth_runner.search.ticket import Ticket
from lth_runner.store.checkpoint import Outcome
from lth_runner.store.store import Store
from lth_runner.training.engines.engine import Together
from lth_runner.training.job import Job, Slot
from lth_runner.training.recipe import Recipe
from lth_runner.training.trainer import Trainer
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.steps import Clock

SEEDS, REWINDS, ROUNDS = 10, 5, 20  # 1,000 points: each seed, rewind step and sparsity
TRIES = 300  # of each operation
SEVERAL = 2000  # trainings that are published for a time of it


def network() -> torch.nn.Module:
    return models.mlp(shape=(1, 4, 4), num_classes=2, widths=(64,))


@contextmanager
def folder(below: str | None) -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="scale", dir=below))
    try:
        yield made
    finally:
        shutil.rmtree(made)


def timed(operation: Callable[[int], object], num: int = TRIES) -> str:
    """Milliseconds: the median, and the quartiles."""
    times = []
    for number in range(num):
        began = time.perf_counter()
        operation(number)
        times.append(1000 * (time.perf_counter() - began))
    first, middle, third = statistics.quantiles(times, n=4)
    return f"{middle:.2f} ms ({first:.2f} to {third:.2f})"


def entries(num: int, below: str | None) -> None:
    """Times what runs do with a Store, while it is small and once it has ``num`` trainings."""
    task = Task(network, synthetic(shape=[1, 4, 4], num_classes=2, num_train=40, num_test=10))
    outcome = Outcome(task.init(), task.dense(), ({"step": 1, "train_loss": 0.1},), 1.0)
    with folder(below) as place:
        store = Store(place / "store")
        keys = [secrets.token_hex(16) for _ in range(num)]
        for key in keys[:SEVERAL]:
            store.publish(key, outcome, {"run": "scale", "steps": 1})
        operations(store, keys[:SEVERAL], outcome)
        [*files] = (store.root / "entries" / keys[0]).iterdir()
        contents = {file.name: file.read_bytes() for file in files}
        for key in keys[SEVERAL:]:  # as publishing leaves them; without waiting for the disk
            made = store.root / "entries" / key
            made.mkdir()
            for name, content in contents.items():
                (made / name).write_bytes(content)
        operations(store, keys, outcome)
        took = timed(lambda _: survey(place, [], datetime.now(timezone.utc)), 3)
        print("  survey, as lth-status --store   ", took)


def operations(store: Store, keys: Sequence[str], outcome: Outcome) -> None:
    print(f"{len(keys):,} trainings, {3 * len(keys):,} files and folders")
    rng = stream(0, "scale", len(keys))
    some = [keys[int(n)] for n in torch.randint(len(keys), (TRIES,), generator=rng)]
    new = [secrets.token_hex(16) for _ in range(TRIES)]
    print("  find one that is there          ", timed(lambda n: store.find(some[n])))
    print("  find one that is not            ", timed(lambda n: store.find(new[n])))
    print("  claim and release               ", timed(lambda n: claimed(store, new[n])))
    facts = {"run": "scale", "steps": 1}
    print("  publish                         ",
          timed(lambda n: store.publish(new[n], outcome, facts)))  # fmt: skip
    print("  open the Store                  ", timed(lambda _: Store(store.root), 20))
    print("  list all trainings              ",
          timed(lambda _: len([*os.scandir(store.root / "entries")]), 20))  # fmt: skip


def claimed(store: Store, key: str) -> None:
    lease = store.claim(key)
    assert lease is not None
    lease.release()


@dataclass
class Sleeping:
    """A training that does nothing but take its time, in the place of a ``Loop``."""

    job: Job
    clock: Clock
    step: int = 0
    diverged: bool = False
    awaited: object = None

    def evaluate(self) -> dict[str, Any]:
        return {"step": self.step, "train_loss": 0.0}

    def outcome(self) -> Outcome:
        ticket = self.job.ticket
        return Outcome(ticket.masked, ticket.mask, (self.evaluate(),), 0.0)


@dataclass(frozen=True)
class Waiting:
    """An engine whose trainings of one step sleep for so many seconds."""

    seconds: float
    trained: list[float] = field(default_factory=list)
    name: str = "waiting"

    def pick(self, jobs: Sequence[Job]) -> Sequence[int]:
        return [0]

    def begin(self, jobs: Sequence[Job], recipe: Recipe, checkpoints: Sequence[Any]) -> Together:
        lane = Sleeping(jobs[0], Clock(1, 1))

        def advance() -> None:
            time.sleep(self.seconds)
            self.trained.append(time.time())
            lane.step += 1

        return Together([lane], advance)  # type: ignore[list-item]


def job_of(tasks: Sequence[Task], seed: int, rewind: int, number: int) -> Job:
    """One round; the dense one is the same whatever it is rewound to later."""
    task = tasks[seed]
    full = task.dense()
    name = [seed, rewind, number] if number else [seed]
    drawn = {n: torch.rand(k.shape, generator=stream(*name, n)) for n, k in full.items()}
    mask = Mask({n: v < 0.8**number for n, v in drawn.items()}) if number else full
    return Job(task, Ticket(mask, task.init()), Static(), Slot(number))


def workers(num: int, seconds: float, below: str | None) -> None:
    """Has ``num`` processes take the points of a sweep, one after the other, and adds up."""
    first = Task(network, synthetic(shape=[1, 4, 4], num_classes=2, num_train=40, num_test=10))
    tasks = [first.with_seed(seed) for seed in range(SEEDS)]
    jobs = {(s, w, r): job_of(tasks, s, w if r else 0, r)
            for s in range(SEEDS) for w in range(REWINDS) for r in range(ROUNDS + 1)}  # fmt: skip
    points = [(s, w, last) for last in range(1, ROUNDS + 1)
              for s in range(SEEDS) for w in range(REWINDS)]  # fmt: skip
    recipe = Recipe(length="1it", batch_size=4, optimizer=torch.optim.SGD)
    for job in jobs.values():  # what a run computes once, here before the processes part
        job.identity(recipe, "waiting")
    distinct = len({(s, w if r else 0, r) for s, w, r in jobs})
    alone = sum(last + 1 for _, _, last in points)
    print(f"{len(points):,} points: {alone:,} trainings each by itself, {distinct:,} shared")
    with folder(below) as place:
        Store(place / "store")
        queue = place / "next"
        queue.write_text("")
        began, children = time.time(), []
        for number in range(num):
            if not (child := os.fork()):
                work(number, points, jobs, recipe, seconds, place)
            children.append(child)
        failed = sum(os.waitpid(child, 0)[1] != 0 for child in children)
        told = [json.loads(path.read_text()) for path in place.glob("*.json")]
        whole = time.time() - began
    trained = sum(len(one["trained"]) for one in told)
    ends = sorted(time for one in told for time in one["trained"])
    least = (ROUNDS + 1) * seconds
    print(f"{num} workers, trainings of {seconds:g} s: {whole:.0f} s, of which no number of "
          f"workers saves {least:.0f} ({ROUNDS + 1} rounds one after the other)")  # fmt: skip
    print(f"trained {trained:,}, {trained - distinct:,} twice; {failed} workers failed; "
          f"processor time {sum(one['processor'] for one in told):.0f} s")  # fmt: skip
    busy = trained * seconds / max(1e-9, ends[-1] - began)
    print(f"at work on average: {busy:.0f} of {num}; chains: {SEEDS * REWINDS}")


def work(
    number: int,
    points: Sequence[tuple[int, int, int]],
    jobs: dict[tuple[int, int, int], Job],
    recipe: Recipe,
    seconds: float,
    place: Path,
) -> None:
    """One worker: the points that nobody has begun, each round of one after the other."""
    engine, status = Waiting(seconds), 1
    try:
        torch.set_num_threads(1)
        trainer = Trainer(recipe, Store(place / "store"), engine, run=str(number))
        for index, (seed, rewind, last) in enumerate(points):
            try:
                os.close(os.open(place / f"taken-{index}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            for at in range(last + 1):
                next(trainer.fit([jobs[seed, rewind, at]]))
        facts = {"trained": engine.trained, "processor": time.process_time()}
        (place / f"{number}.json").write_text(json.dumps(facts))
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("entries", "workers"))
    parser.add_argument("num", type=int)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a training (workers)")
    parser.add_argument("--folder", help="on the file system that is to be measured")
    given = parser.parse_args()
    if given.what == "entries":
        entries(given.num, given.folder)
    else:
        workers(given.num, given.seconds, given.folder)


if __name__ == "__main__":
    main()
