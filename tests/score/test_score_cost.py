"""What a score holds in memory: ResNet-50 on 224x224 on a CPU, one process for each measurement."""

from __future__ import annotations

import functools
import resource
import subprocess
import sys

import pytest
import torch

from lth_runner.problem import models
from lth_runner.problem.data import Data
from lth_runner.problem.task import Task
from lth_runner.score import Grasp, Score, Snip, Synflow
from lth_runner.score.derivatives import MAX_SAMPLES

SIZES = {"snip": (8, 16), "grasp": (8, 16), "synflow": (2, 2)}


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_memory_cost_on_resnet50_at_224(name: str) -> None:
    """At the largest batch that a score derives at once: extrapolated from two smaller ones."""
    one, other = SIZES[name]
    peaks = [_measured(name, size) for size in (one, other)]
    slope = (peaks[1] - peaks[0]) / (other - one) if other > one else 0.0
    at_most = peaks[1] + slope * (MAX_SAMPLES - other)
    print(
        f"{name}: {peaks} GiB at {(one, other)}, {slope:.2f} a sample, "
        f"{at_most:.1f} at {MAX_SAMPLES}"
    )
    assert at_most < 22  # 24 GB


def _measured(name: str, size: int) -> float:
    command = [sys.executable, __file__, name, str(size)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _peak(name: str, size: int) -> float:
    """Peak resident memory in GiB of a process that scores once."""
    inputs, labels = torch.randn(size, 3, 224, 224), torch.arange(size) % 2
    data = Data.from_tensors((inputs, labels), (inputs[:2], labels[:2]), validation=0)
    model = functools.partial(models.resnet50, shape=(3, 224, 224), num_classes=1000)
    task = Task(model, data)
    choices: dict[str, Score] = {
        "snip": Snip(batch_size=size),
        "grasp": Grasp(samples_per_class=size // 2, num_batches=1),
        "synflow": Synflow(),
    }
    choices[name](task, task.init(), task.dense())
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(kib / 2**20, 2)  # Linux counts in KiB


if __name__ == "__main__":
    print(_peak(sys.argv[1], int(sys.argv[2])))
