"""What the benchmarks share: timing in turns, what is printed of it, and a problem to time."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Mapping

import torch

from lth_runner.masking import Static
from lth_runner.problem import models
from lth_runner.problem.data import Data
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.training.job import Job
from lth_runner.training.recipe import Recipe
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream

Timed = Callable[[], object]
Now = Callable[[], float]


def own_clock() -> Now:
    """The processor's time with one thread, which other work leaves alone; the wall's with more."""
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def in_turns(
    things: Mapping[str, Timed], *, repeats: int = 9, clock: Now = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each, one after the other, over and over; the first round is thrown away."""
    times: dict[str, list[float]] = {name: [] for name in things}
    for repeat in range(repeats + 1):
        for name, thing in things.items():
            began = clock()
            thing()
            if repeat:
                times[name].append(clock() - began)
    return times


def say(label: str, values: list[float], unit: str) -> None:
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    print(f"  {label:<52} {middle:8.3f} {unit:<8} ({low:.3f} to {high:.3f})", flush=True)


def ratios(above: list[float], below: list[float]) -> list[float]:
    """Turn by turn."""
    return [one / other for one, other in zip(above, below, strict=True)]


def product(dtype: torch.dtype) -> Timed:
    left, right = (torch.randn(1024, 1024, generator=stream(0, n)).to(dtype) for n in "lr")
    return lambda: left @ right


PRODUCT = 2 * 1024**3


def repeated(thing: Timed, num: int) -> Timed:
    def many() -> None:
        for _ in range(num):
            thing()

    return many


def images(num: int, shape: tuple[int, ...]) -> Data:
    inputs = torch.randn(num, *shape, generator=stream(0, "images"))
    labels = torch.arange(num) % 10
    return Data.from_tensors((inputs, labels), (inputs[:100], labels[:100]), validation=100)


def kept(task: Task, density: float) -> Mask:
    """A random mask of about that density."""
    return Mask({n: torch.rand(m.shape, generator=stream(task.seed, n)) < density
                 for n, m in task.dense().items()})  # fmt: skip


def jobs(task: Task, num: int, density: float = 0.5) -> list[Job]:
    """As many replicates of a task, each with a mask of its own."""
    tasks = [task.with_seed(seed) for seed in range(num)]
    return [Job(t, Ticket(kept(t, density), t.init()), Static()) for t in tasks]


LENET = functools.partial(models.lenet300, shape=(1, 28, 28), num_classes=10)
ADAM = Recipe("50000it", 60, functools.partial(torch.optim.Adam, lr=1.2e-3, fused=True))
# products of weights and activations in a step: forward and the weights' gradients take one each,
# the activations' gradients one but for the first layer
LENET_STEP = 2 * 60 * (2 * 235_200 + 3 * 31_000)
