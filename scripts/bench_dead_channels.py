"""Trainings that leave out dead channels, against the same ones of the whole networks."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from bench_convolution import BATCH, RESNET, SGD
from measuring import Timed, images, in_turns, own_clock, ratios, repeated, say
from torch import nn

from lth_runner.allocate import Refill
from lth_runner.control.coarsened import silenced
from lth_runner.masking import Static
from lth_runner.problem import models
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.recipe import Recipe
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "VGG-11 of half the width": functools.partial(
        models.vgg, depth=11, width=32, shape=(3, 32, 32), num_classes=10
    ),
    "VGG-11": functools.partial(models.vgg, depth=11, shape=(3, 32, 32), num_classes=10),
    "ResNet-20": RESNET,
}
DENSITIES = (0.585, 0.342, 0.2)


def refilled(task: Task, density: float) -> Ticket:
    """Whole channels, as many as a random mask's weights fill; the first layer stays."""
    scores = {n: torch.rand(m.shape, generator=stream(0, n)) for n, m in task.dense().items()}
    first, *_, last = scores
    kept = Mask({n: (v < density) | (n in (first, last)) for n, v in scores.items()})
    mask = Refill()(kept, scores, 0)
    return Ticket(mask, silenced(task, task.init(), mask))


def step(job: Job, *, cut_dead: bool) -> Timed:
    recipe = Recipe("9999it", BATCH, SGD, cut_dead=cut_dead)
    together = Sequential().begin([job], recipe, [None])

    def advance() -> None:
        with recipe.arithmetic(torch.device("cpu")):
            together.advance()

    return repeated(advance, 2)


def norm(num: int) -> Timed:
    """Both passes of a batch norm and a ReLU, channels last."""
    module = nn.BatchNorm2d(num)
    inputs = torch.randn(BATCH, num, 32, 32).to(memory_format=torch.channels_last).requires_grad_()

    def passes() -> None:
        module(inputs).relu().sum().backward()

    return passes


def main() -> None:
    things = {f"batch norm of {num} channels": norm(num) for num in (8, 9, 16)}
    for label, seconds in in_turns(things, clock=own_clock()).items():
        say(label, [1e3 * one for one in seconds], "ms")
    data = images(2_000, (3, 32, 32)).to("cpu")
    for label, factory in NETWORKS.items():
        task = Task(factory, data)
        dense = Job(task, Ticket(task.dense(), task.init()), Static())
        for density in DENSITIES:
            job = replace(dense, ticket=refilled(task, density))
            began = time.process_time()
            things = {"without": step(job, cut_dead=True)}
            seconds = time.process_time() - began
            things["whole"] = step(job, cut_dead=False)
            times = in_turns(things, repeats=5, clock=own_clock())
            print(f"{label}, {100 * job.ticket.mask.density:.1f} % as whole channels:")
            say("a step of the whole network", [1e3 * t / 2 for t in times["whole"]], "ms")
            say("without dead channels, faster", ratios(times["whole"], times["without"]), "x")
            say("finding them, steps of the whole network",
                [seconds / (t / 2) for t in times["whole"]], "")  # fmt: skip


if __name__ == "__main__":
    main()
