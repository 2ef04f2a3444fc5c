"""Memory of ranks that each hold a part of a network; ``bench_ranks.py`` says what is measured."""

from __future__ import annotations

import functools
import gc
import time
from pathlib import Path

import torch
from two_ranks import TURNS, Keep, told, wide

from lth_runner.masking import Rigl, Static
from lth_runner.masking.updates import Updates
from lth_runner.problem.data import synthetic
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.training.engines.distributed.engine import Distributed
from lth_runner.training.engines.distributed.lines import Leader
from lth_runner.training.engines.distributed.orders import Served
from lth_runner.training.engines.engine import Engine
from lth_runner.training.job import Job
from lth_runner.training.recipe import Recipe
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.shards import local

SGD = functools.partial(torch.optim.SGD, lr=1e-4)


def held(engine: Engine, job: Job, recipe: Recipe) -> float:
    """Bytes of weights and moments that rank 0 holds between two steps."""
    together = engine.begin([job], recipe, [None])
    together.advance()
    [loop] = together.lanes
    moments = [value for entries in loop.optimizer.state.values() for value in entries.values()]
    tensors = {id(value): local(value) for value in (*loop.model.parameters(), *moments)}
    return sum(value.nbytes for value in tensors.values())


def masks(leader: Leader) -> None:
    """Compares steps of a sharded training in which RigL moves connections with those between."""
    task = Task(wide, synthetic(shape=[1, 28, 28], num_train=2500, num_test=100))
    every = task.dense()
    mask = Mask({n: torch.rand(k.shape, generator=stream(0, n)) < 0.2 for n, k in every.items()})
    job = Job(task, Ticket(mask, task.init()), Rigl(Updates(every="2it")))
    recipe = Recipe(length="1000it", batch_size=8, optimizer=SGD)
    together = Distributed(leader, is_sharded=True).begin([job], recipe, [None])
    [loop] = together.lanes
    for _ in range(4):
        together.advance()
    found: dict[str, list[list[float]]] = {"with an update": [], "without": []}
    for _ in range(2 * TURNS):
        is_due = loop.step % 2 == 0
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before, began = memory("VmRSS"), time.perf_counter()
        together.advance()
        taken = [memory("VmHWM") - before, time.perf_counter() - began]
        found["with an update" if is_due else "without"].append(taken)
    print(f"RigL, {every.num_prunable / 1e6:.1f} M weights")
    for which, taken in found.items():
        told([one[0] / 1e6 for one in taken], f"{which}, memory", "MB")
        told([1000 * one[1] for one in taken], f"{which}, time", "ms")


class Grown:
    """An order: to say what memory has grown by since this was asked last, at most and now."""

    def __call__(self, served: Served) -> tuple[float, float]:
        return grown(served.lasting.__dict__)


def grown(kept: dict[str, float]) -> tuple[float, float]:
    now, most = memory("VmRSS"), memory("VmHWM")
    before, kept["before"] = kept.get("before", now), now
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    return most - before, now - before


def start(leader: Leader) -> None:
    """Measures the memory in which a sharded training begins."""
    task = Task(wide, synthetic(shape=[1, 28, 28], num_train=2500, num_test=100))
    job = Job(task, Ticket(task.dense(), task.init()), Static())
    recipe = Recipe(length="1000it", batch_size=8, optimizer=SGD)
    engine, own = Distributed(leader, is_sharded=True), dict[str, float]()
    size = 4 * task.num_parameters
    leader.tell(Keep(task))  # as in a run, whose ranks look at a problem once
    leader.known = (task,)
    turns: list[list[tuple[float, float]]] = []
    for _ in range(TURNS + 1):
        leader.tell(Grown())
        grown(own), leader.answers()
        together = engine.begin([job], recipe, [None])
        leader.tell(Grown())
        turns.append([grown(own), *leader.answers()])
        del together
        gc.collect()
    print(f"{task.num_parameters / 1e6:.1f} M weights")
    for rank in range(2):
        for index, what in enumerate(("at most", "in the end")):
            told([turn[rank][index] / size for turn in turns[1:]], f"rank {rank}, {what}", "copies")


def memory(what: str) -> float:
    """Bytes that Linux says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * float(next(line.split()[1] for line in lines if line.startswith(what)))
