"""Steps on two ranks of this machine (gloo) beside those of one process, each of one thread.

    python scripts/bench_ranks.py           # steps of trainings
    python scripts/bench_ranks.py scores    # scores of a pruner
    python scripts/bench_ranks.py masks     # memory and time of moving a mask, sharded
    python scripts/bench_ranks.py start     # memory of each rank as a sharded training begins
    python scripts/bench_ranks.py overlap   # gradients sent within the backward pass, or after it

In turns: milliseconds of a step, and of processor time, that of both ranks together, each with the
whole network (distributed) or a part of it (sharded). Where two processors are free two ranks take
half the time at best, and as much processor time as one process; what they take more is orders,
sums and batches that are half as large. Then what a rank holds between two steps: weights and
moments. Scores: by rank 0 alone, and by both.
Masks: what rank 0's memory grows by, beyond that before the step, in a step with and without an
update of RigL's mask (Linux). Starts: what each rank's memory grows by at most, and what it has
grown by once the training has begun, in copies of the weights in float32 (Linux).
Overlap: steps that send a bucket of gradients while the backward pass makes others, and such that
send all after it; and how long rank 0 waits for sums once its backward pass is done.
"""

from __future__ import annotations

import functools
import gc
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from bench_ranks_memory import SGD, held, masks, start
from torch import nn
from two_ranks import TURNS, Keep, processor_times, told, two_ranks, wide

from lth_runner.masking import Static
from lth_runner.problem import models
from lth_runner.problem.data import synthetic
from lth_runner.problem.task import Task
from lth_runner.score import Force, Grasp, Obd, Score, Snip
from lth_runner.search.ticket import Ticket
from lth_runner.training.engines.distributed.engine import Distributed
from lth_runner.training.engines.distributed.gradients import SummedGradients
from lth_runner.training.engines.distributed.lines import Leader
from lth_runner.training.engines.distributed.orders import Served
from lth_runner.training.engines.distributed.shared_sums import ByRanks
from lth_runner.training.engines.engine import Engine
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.loop import Loop
from lth_runner.training.recipe import Recipe

ADAM = functools.partial(torch.optim.Adam, lr=1e-4, fused=True)


def lenet() -> nn.Module:
    return models.lenet300(shape=(1, 28, 28), num_classes=10)


def resnet() -> nn.Module:
    return models.resnet_cifar(shape=(3, 32, 32), num_classes=10, depth=20)


def transformer() -> nn.Module:
    return models.vision_transformer(
        shape=(3, 32, 32), num_classes=10, patch=4, width=256, depth=6, heads=4
    )


CASES: Mapping[str, tuple[Callable[[], nn.Module], list[int], int, int]] = {
    "LeNet-300-100, batch 60": (lenet, [1, 28, 28], 60, 200),
    "LeNet-300-100, batch 1000": (lenet, [1, 28, 28], 1000, 40),
    "ResNet-20, batch 128": (resnet, [3, 32, 32], 128, 6),
    "transformer, 6 layers of 256, batch 64": (transformer, [3, 32, 32], 64, 3),
}

SCORES: Mapping[str, tuple[Score, Callable[[], nn.Module], list[int]]] = {
    "SNIP, ResNet-20, 4 batches of 128": (Snip(4, 128), resnet, [3, 32, 32]),
    "FORCE, ResNet-20, a batch of 128": (Force(), resnet, [3, 32, 32]),
    "GraSP, ResNet-20, 100 samples in 2 batches": (Grasp(), resnet, [3, 32, 32]),
    "OBD, LeNet-300-100, 8 batches of 128": (Obd(), lenet, [1, 28, 28]),
}


def step_times(engine: Engine, job: Job, recipe: Recipe, num: int, leader: Leader) -> list[float]:
    """Seconds of a step, and of processor time of all processes in it."""
    together = engine.begin([job], recipe, [None])
    for _ in range(2):
        together.advance()
    spent, began = sum(processor_times(leader)), time.perf_counter()
    for _ in range(num):
        together.advance()
    took = time.perf_counter() - began
    return [took / num, (sum(processor_times(leader)) - spent) / num]


def scores(leader: Leader) -> None:
    """Compares scores that rank 0 computes alone with those that both ranks share."""
    for name, (score, model, shape) in SCORES.items():
        task = Task(model, synthetic(shape=shape, num_train=2500, num_test=100))
        tasks = {"rank 0 alone": task, "both ranks": replace(task, sharing=ByRanks(leader))}
        leader.known = ()
        leader.tell(Keep(task))
        leader.known = (tasks["both ranks"],)
        weights, mask = task.init(), task.dense()
        turns: list[dict[str, list[float]]] = []
        for _ in range(TURNS + 1):  # the first to warm up
            turns.append({})
            for which, one in tasks.items():
                before, began = processor_times(leader), time.perf_counter()
                score(one, weights, mask)
                took = time.perf_counter() - began
                spent = [b - a for a, b in zip(before, processor_times(leader), strict=True)]
                turns[-1][which] = [took, sum(spent), max(spent)]
        print(name)
        for index, what in enumerate(("time", "processor time", "that of the busier rank")):
            alone, both = ([turn[which][index] for turn in turns[1:]] for which in tasks)
            for which, values in zip(tasks, (alone, both), strict=True):
                told([1000 * value for value in values], f"{which}, {what}", "ms")
            told([b / a for a, b in zip(alone, both, strict=True)], f"both / alone, {what}", "")


class SendLate:
    """An order: to send the gradients of all trainings after their backward passes."""

    def __call__(self, served: Served) -> None:
        for training in served.trainings.values():
            send_late(training.loop)


def send_late(loop: Loop) -> None:
    for parameter in loop.parameters:
        hooks: dict[int, object] = parameter._post_accumulate_grad_hooks or {}
        hooks.clear()


def deep() -> nn.Module:
    return models.vision_transformer(
        shape=(3, 32, 32), num_classes=10, patch=4, width=512, depth=8, heads=8
    )


def overlap(leader: Leader) -> None:
    """Compares steps that send gradients within the backward pass with those that do so after."""
    waited = [0.0]
    finish = SummedGradients.finish

    def timed(gradients: SummedGradients) -> None:
        began = time.perf_counter()
        finish(gradients)
        waited[0] += time.perf_counter() - began

    SummedGradients.finish = timed  # type: ignore[method-assign]
    cases = {
        "perceptron, 40.2 M weights, batch 256": (wide, [1, 28, 28], 256, 4),
        "transformer, 25.3 M weights, batch 16": (deep, [3, 32, 32], 16, 2),
    }
    for name, (model, shape, batch_size, num) in cases.items():
        task = Task(model, synthetic(shape=shape, num_train=2500, num_test=100))
        job = Job(task, Ticket(task.dense(), task.init()), Static())
        recipe = Recipe(length="1000000it", batch_size=batch_size, optimizer=SGD)
        turns: list[dict[str, list[float]]] = []
        for _ in range(TURNS):
            turns.append({})
            for which in ("within", "after"):
                together = Distributed(leader).begin([job], recipe, [None])
                if which == "after":
                    leader.tell(SendLate())
                    send_late(together.lanes[0])
                together.advance()
                waited[0], spent, began = 0.0, sum(processor_times(leader)), time.perf_counter()
                for _ in range(num):
                    together.advance()
                took = time.perf_counter() - began
                spent = sum(processor_times(leader)) - spent
                turns[-1][which] = [took / num, spent / num, waited[0] / num]
                del together
                gc.collect()
        print(name, f"({task.num_parameters / 1e6:.1f} M weights)")
        for index, what in enumerate(("time", "processor time", "waiting for sums")):
            for which in turns[0]:
                told([1000 * turn[which][index] for turn in turns], f"{which}, {what}", "ms")
            ratios = [turn["within"][index] / turn["after"][index] for turn in turns]
            told(ratios, f"within / after, {what}", "")


def main() -> None:
    torch.set_num_threads(1)
    with two_ranks() as leader:
        measured = {"scores": scores, "masks": masks, "start": start, "overlap": overlap}
        measured.get(sys.argv[-1], steps)(leader)


def steps(leader: Leader) -> None:
    """Compares steps of trainings by one process and by both ranks."""
    engines = {
        "one process": Sequential(),
        "distributed": Distributed(leader),
        "sharded": Distributed(leader, is_sharded=True),
    }
    for name, (model, shape, batch_size, num) in CASES.items():
        data = synthetic(shape=shape, num_train=2500, num_test=100)
        task = Task(model, data)
        job = Job(task, Ticket(task.dense(), task.init()), Static())
        recipe = Recipe(length="1000000it", batch_size=batch_size, optimizer=ADAM)
        turns = [
            {which: step_times(engine, job, recipe, num, leader)
             for which, engine in engines.items()} for _ in range(TURNS)
        ]  # fmt: skip
        print(name)
        for index, what in enumerate(("time", "processor time")):
            for which in engines:
                told([1000 * turn[which][index] for turn in turns], f"{which}, {what}", "ms")
            one, *others = ([turn[which][index] for turn in turns] for which in engines)
            for which, both in zip(list(engines)[1:], others, strict=True):
                ratios = [b / a for a, b in zip(one, both, strict=True)]
                told(ratios, f"{which} / one process, {what}", "")
        for which, engine in engines.items():
            print(f"  {which + ', held':<40} {held(engine, job, recipe) / 1e6:8.2f} MB")


if __name__ == "__main__":
    main()
