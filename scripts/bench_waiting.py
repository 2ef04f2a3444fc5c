"""Steps by how often a thread spins before it sleeps, alone and beside busy processes.

    make bench ARGS=waiting

OpenMP's library reads the count once, as torch is loaded: each is timed in a process of its own,
one after the other. Without a count it spins as long as it does by itself.
"""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from measuring import ADAM, LENET, Timed, images, jobs, say
from torch import nn

from lth_runner.problem import models
from lth_runner.problem.task import Task
from lth_runner.training.engines.packed import Sparse
from lth_runner.values.seeds import stream
from lth_runner.values.spinning import BRIEF, SPINS

TURNS, SECONDS = 3, 2.0
BUSY = "import sys; print(flush=True)\nwhile True: pass"


def lenet() -> Timed:
    """LeNet-300-100, batch 60."""
    return _step(LENET(), torch.randn(60, 1, 28, 28, generator=stream(0, "inputs")))


def packed() -> Timed:
    """Eight LeNet-300-100 in the compiled loops, batch 60."""
    together = Sparse(16, below=0.0).begin(
        jobs(Task(LENET, images(20_000, (1, 28, 28))), 8), ADAM, [None] * 8
    )
    return together.advance


def resnet() -> Timed:
    """ResNet-20, batch 128, channels last."""
    model = models.resnet_cifar(depth=20, width=16, norm="batch", shape=(3, 32, 32), num_classes=10)
    inputs = torch.randn(128, 3, 32, 32, generator=stream(0, "inputs"))
    return _step(
        model.to(memory_format=torch.channels_last),
        inputs.to(memory_format=torch.channels_last),
    )


def transformer() -> Timed:
    """A transformer of two layers of width 64, 32 texts of 32 tokens."""
    model = models.transformer_classifier(vocabulary=4000, length=32, num_classes=10)
    tokens = torch.randint(0, 4000, (32, 32), generator=stream(0, "inputs"))
    network = functools.partial(model, attention_mask=torch.ones_like(tokens))
    return _step(model, tokens, network)


NETWORKS = {"lenet": lenet, "packed": packed, "resnet": resnet, "transformer": transformer}


def main() -> None:
    """Each network with each count, in turns; every figure is of a process of two threads."""
    counts = {"as by default": None, BRIEF: BRIEF}
    for name, num_busy in itertools.product(NETWORKS, (0, 1, 2)):
        times: dict[str, list[float]] = {label: [] for label in counts}
        for _ in range(TURNS):
            for label, spins in counts.items():
                with _other_work(num_busy):
                    times[label].append(_in_process(name, spins))
        for label, found in times.items():
            where = f"{name}, beside {num_busy} busy processes, spins {label}"
            say(where, [1e3 * seconds for seconds in found], "ms")


def _in_process(name: str, spins: str | None) -> float:
    environment = {key: value for key, value in os.environ.items() if key != SPINS}
    environment |= {"OMP_NUM_THREADS": "2"} | ({SPINS: spins} if spins else {})
    command = [sys.executable, __file__, name]
    found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(found.stdout)


@contextmanager
def _other_work(num: int) -> Iterator[None]:
    command = [sys.executable, "-c", BUSY]
    busy = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(num)]
    try:
        for process in busy:
            assert process.stdout
            process.stdout.readline()
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def _step(model: nn.Module, inputs: torch.Tensor, network: Timed | None = None) -> Timed:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    targets = torch.arange(len(inputs)) % 10
    forward = network or model

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(forward(inputs), targets).backward()
        optimizer.step()

    return step


def _mean(step: Timed) -> float:
    """Seconds of a step over two seconds, at least three steps, after two to begin with."""
    for _ in range(2):
        step()
    num, began = 0, time.perf_counter()
    while num < 3 or time.perf_counter() - began < SECONDS:
        step()
        num += 1
    return (time.perf_counter() - began) / num


if __name__ == "__main__":
    print(_mean(NETWORKS[sys.argv[1]]()))
