"""ResNet-20 on a CUDA device: images a second by the number of trainings in one graph.

make bench ARGS=gpu
"""

from __future__ import annotations

import functools
import math
import statistics

import torch
from measuring import Timed, in_turns, jobs, repeated, say
from torch import Tensor

from lth_runner.problem import models
from lth_runner.problem.data import Data, FlipCrop
from lth_runner.problem.task import Task
from lth_runner.training.engines.graphed import Graphed
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.recipe import Recipe
from lth_runner.values.seeds import stream

RESNET20 = functools.partial(
    models.resnet_cifar, depth=20, width=16, norm="batch", shape=(3, 32, 32), num_classes=10
)
LANES = (1, 2, 4, 8, 16)


def main() -> None:
    """ResNet-20, batch 128, flipped and cropped, on CUDA, in each precision."""
    if not torch.cuda.is_available():
        print("  not measured: there is no CUDA device here", flush=True)
        return
    device = torch.device("cuda")
    print(f"  {torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}, "
          f"cuDNN {torch.backends.cudnn.version()}", flush=True)  # fmt: skip
    data = coloured(10_000).to(device)
    for precision in ("fp32", "tf32", "bf16"):
        sgd = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, fused=True)
        recipe = Recipe("999999it", 128, sgd, precision=precision)
        with recipe.arithmetic(device):
            graphs(Task(RESNET20, data, device=device), recipe)


def graphs(task: Task, recipe: Recipe) -> None:
    """Images a second, and the time in which the device is busy, by the number of lanes."""
    alone, label = Sequential().begin(jobs(task, 1), recipe, [None]).advance, recipe.precision
    say(f"{label}: one by one, busy", [busy(alone, 50)], "of time")
    least = traffic(recipe) / bandwidth()
    for num in LANES:
        try:
            together = Graphed(num).begin(jobs(task, num), recipe, [None] * num)
            times = in_turns({
                "alone": on_device(alone, 50),
                "graphed": on_device(together.advance, 50),
            })  # fmt: skip
        except torch.OutOfMemoryError:
            print(f"  {label}: {num} lanes do not fit into memory", flush=True)
            return
        if num == 1:
            images = [128 * 50 / t for t in times["alone"]]
            say(f"{label}: one by one", images, "images/s")
        images = [128 * 50 * num / t for t in times["graphed"]]
        say(f"{label}: {num} in a graph", images, "images/s")
        gained = [num * a / t for a, t in zip(times["alone"], times["graphed"], strict=True)]
        say(f"{label}: {num} in a graph / one by one", gained, "x")
        floor = [t / 50 / num / least for t in times["graphed"]]
        say(f"{label}: {num} in a graph / the layers' memory traffic", floor, "x")
        say(f"{label}: {num} in a graph, busy", [busy(together.advance, 50)], "of time")


def coloured(num: int) -> Data:
    """Images in bytes, augmented as CIFAR-10's are."""
    images = torch.randint(256, (num, 3, 32, 32), generator=stream(0, "i"), dtype=torch.uint8)
    labels, channels = torch.arange(num) % 10, {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    augment = FlipCrop(flip=True, crop=4)
    return Data.from_tensors(
        (images, labels), (images[:100], labels[:100]), validation=100, augment=augment, **channels
    )


def on_device(work: Timed, num: int) -> Timed:
    """So many times, until the device is done."""

    def done() -> None:
        repeated(work, num)()
        torch.cuda.synchronize()

    return done


def busy(work: Timed, num: int) -> float:
    """The share of the time in which at least one kernel or copy is at work on the device."""
    kinds = [torch.profiler.ProfilerActivity.CUDA]
    on_device(work, num)()
    with torch.profiler.profile(activities=kinds) as profile:
        on_device(work, num)()
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation
    )
    if not spans:  # the profiler has none where another one is at work, or without rights
        return math.nan
    at_work, until = 0.0, spans[0][0]
    for begin, end in spans:
        at_work += max(0.0, end - max(begin, until))
        until = max(until, end)
    return at_work / (until - spans[0][0])


def bandwidth() -> float:
    """Bytes a second that a copy reads and writes."""
    source = torch.empty(2**28, device="cuda")
    target = torch.empty_like(source)
    times = in_turns({"copy": on_device(lambda: target.copy_(source), 5)})["copy"]
    say("memory", [2e-9 * source.nbytes * 5 / t for t in times], "GB/s")
    return 2 * source.nbytes * 5 / statistics.median(times)


def traffic(recipe: Recipe) -> float:
    """Bytes that the layers of a training step move at the least, each by itself: forward it reads

    its inputs and writes its outputs, backward it reads both gradient and inputs and writes one.
    """
    network, moved = RESNET20(), []

    def note(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        moved.append(3 * inputs[0].numel() + 2 * output.numel())

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(note)
    network(torch.zeros(2, 3, 32, 32))
    return sum(moved) / 2 * recipe.batch_size * (2 if recipe.precision == "bf16" else 4)
