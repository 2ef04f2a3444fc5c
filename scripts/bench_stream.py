"""Images decoded by worker processes: our data beside PyTorch's own DataLoader, in turns.

The same files, transforms, batches and numbers of workers, in one process. Images are made here:
smooth ones with some noise, as JPEGs of a photograph's size and of CIFAR's.
"""

from __future__ import annotations

import functools
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import in_turns, ratios, repeated, say
from PIL import Image
from torch.utils.data import DataLoader, default_collate
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from lth_runner.masking import Static
from lth_runner.problem import models
from lth_runner.problem.data import ImageTransforms, imagefolder
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.recipe import Recipe

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = {  # height and width, of images and of a network's input; how many; a batch, batches a turn
    "500x375": ((375, 500), 224, 480, 32, 12),
    "32x32": ((32, 32), 32, 4000, 128, 24),
}
WORKERS = (1, 2)
ALONE = 16  # batches made in one process, the first thrown away


def make_images(root: Path, size: tuple[int, int], num: int) -> None:
    """Writes ``num`` images of two classes to train/, and a few to test/."""
    rng = np.random.default_rng(0)
    for number in range(num + 8):
        split = "test" if number >= num else "train"
        place = root / split / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC)).astype(int)
        noisy = smooth + rng.normal(0, 6, smooth.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(
            place / f"{number}.jpg", quality=90
        )


def transform(side: int) -> Any:
    return v2.Compose([v2.RandomResizedCrop(side), v2.RandomHorizontalFlip()])


def of_torch(root: Path, side: int, batch: int, workers: int) -> Iterator[tuple[Any, Any]]:
    """The batches that a script of one's own would have, normalised, epoch after epoch."""
    whole = v2.Compose([transform(side), v2.PILToTensor()])
    loader = DataLoader(
        ImageFolder(root / "train", whole), batch, shuffle=True, num_workers=workers,
        persistent_workers=True, drop_last=True, prefetch_factor=2,
        multiprocessing_context=multiprocessing.get_context("forkserver"),
    )  # fmt: skip
    shift, scale = (255 * torch.tensor(part)[:, None, None] for part in (MEAN, STD))
    while True:
        for images, labels in loader:
            yield (images - shift) / scale, labels


def ours(root: Path, side: int, batch: int, workers: int) -> Any:
    chosen = ImageTransforms(transform(side), v2.Compose([v2.Resize(side), v2.CenterCrop(side)]))
    return imagefolder(
        root=str(root), shape=[3, side, side], num_classes=2, stream=True, transforms=chosen,
        mean=MEAN, std=STD, workers=workers, validation=0, cache=str(root / "cache"),
    )  # fmt: skip


def bench(name: str, root: Path, workers: int) -> None:
    _, side, _, batch, turn = SIZES[name]
    theirs = of_torch(root, side, batch, workers)
    stream, steps = ours(root, side, batch, workers).stream(batch, 0), iter(range(10**9))
    times = in_turns({
        "torch": repeated(lambda: next(theirs), turn),
        "ours": repeated(lambda: stream[next(steps)], turn),
    }, repeats=7)  # fmt: skip
    label = f"{name}, {workers} worker{'s' * (workers > 1)}"
    for who, told in (("torch", "torch's DataLoader"), ("ours", "streamed")):
        say(f"{label}: {told}", [turn * batch / t for t in times[who]], "images/s")
    say(f"{label}: streamed / torch's DataLoader", ratios(times["torch"], times["ours"]), "x")


def bench_alone(name: str, root: Path) -> None:
    """Processor time of the same batches in this process, which other programs disturb less."""
    _, side, num, batch, _ = SIZES[name]
    stream = ours(root, side, batch, 0).stream(batch, 0)
    files = ImageFolder(root / "train", v2.Compose([transform(side), v2.PILToTensor()]))
    shift, scale = (255 * torch.tensor(part)[:, None, None] for part in (MEAN, STD))
    spent: dict[str, list[float]] = {"torch": [], "ours": []}
    for step in range(ALONE):
        index = torch.randperm(num)[:batch].tolist()
        began = time.process_time()
        _ = stream[step]
        between = time.process_time()
        images, _ = default_collate([files[number] for number in index])
        _ = (images - shift) / scale
        if step:
            spent["ours"].append(between - began)
            spent["torch"].append(time.process_time() - between)
    say(f"{name}, alone: streamed", [1e6 * t / batch for t in spent["ours"]], "us/image")
    say(f"{name}, alone: streamed / torch's", ratios(spent["torch"], spent["ours"]), "x")


def bench_waiting(root: Path, workers: int) -> None:
    """The share of its time that a training waits for data, for networks of several costs."""
    data = ours(root, 224, 16, workers)
    for name, network, steps in (
        ("LeNet-300-100", models.lenet300, 24),
        ("ResNet-18", functools.partial(models.resnet18, stem="imagenet"), 6),
    ):
        task = Task(functools.partial(network, shape=(3, 224, 224), num_classes=2), data)
        recipe = Recipe("1000it", 16, functools.partial(torch.optim.SGD, lr=0.01))
        job = Job(task, Ticket(task.dense(), task.init()), Static())
        together = Sequential().begin([job], recipe, [None])
        together.advance()
        loop: Any = together.lanes[0]
        waited, began = loop.stream.waited, time.perf_counter()
        for _ in range(steps):
            together.advance()
        seconds = time.perf_counter() - began
        say(f"500x375, {workers} worker: a step of {name}, batch 16", [1e3 * seconds / steps], "ms")
        say("of which it waits for data", [100 * (loop.stream.waited - waited) / seconds], "%")


def main() -> None:
    torch.set_num_threads(1)  # else workers and the step fight for the same cores
    for name, (size, _, num, _, _) in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            make_images(Path(folder), size, num)
            bench_alone(name, Path(folder))
            for workers in WORKERS:
                bench(name, Path(folder), workers)
            if name == "500x375":
                bench_waiting(Path(folder), 1)


if __name__ == "__main__":
    main()
