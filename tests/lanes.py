"""Small residual networks on coloured pictures, and their trainings by any engine."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from lth_runner.masking import Static
from lth_runner.problem import models
from lth_runner.problem.data import Data, FlipCrop
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.store.checkpoint import Checkpoint, Outcome
from lth_runner.training import train as engine
from lth_runner.training.engines.engine import Engine
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.learning_rate import MultiStep
from lth_runner.training.pace import Pace
from lth_runner.training.recipe import Recipe
from lth_runner.values import state as states
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream

SGD = functools.partial(torch.optim.SGD, lr=2**-3, momentum=0.9, weight_decay=1e-3, fused=True)
# rates that float32 holds exactly: a record reads them in that type
ADAM = functools.partial(torch.optim.Adam, lr=2**-7, fused=True)
ADAMW = functools.partial(torch.optim.AdamW, lr=2**-7, fused=True)
DROPS = MultiStep(["30%", "75%"], factor=0.25)


def pictures(device: str = "cpu", num: int = 80) -> Data:
    """Coloured 8x8 images of three prototypes in bytes, flipped and cropped anew in every step."""
    rng = stream(0, "pictures")
    prototypes = torch.randint(60, 196, (3, 3, 8, 8), generator=rng)

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(count) % 3
        noise = torch.randint(-60, 60, (count, 3, 8, 8), generator=rng)
        return (prototypes[labels] + noise).to(torch.uint8), labels

    channels = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    augment = FlipCrop(flip=True, crop=1)
    data = Data.from_tensors(draw(num), draw(30), validation=20, augment=augment, **channels)
    return data.to(device)


def resnet() -> nn.Module:
    return models.resnet_cifar(shape=(3, 8, 8), num_classes=3, depth=8, width=4)


def resnet20() -> nn.Module:
    return models.resnet_cifar(shape=(3, 8, 8), num_classes=3, depth=20, width=4)


def lenet() -> nn.Module:
    return models.lenet300(shape=(3, 8, 8), num_classes=3)


def jobs(
    num: int, model=resnet, masking=None, *, full: bool = False, device: str = "cpu"
) -> list[Job]:
    """Replicates of other weights, batches and masks."""
    first, found = Task(model, pictures(device), device=device), []
    for seed in range(num):
        task = first.with_seed(seed)
        drawn = {n: torch.rand(k.shape, generator=stream(seed, n)) for n, k in task.dense().items()}
        mask = task.dense() if full else Mask({n: v < 0.5 for n, v in drawn.items()})
        found.append(Job(task, Ticket(mask, task.init()), masking or Static()))
    return found


def recipe(**changes: object) -> Recipe:
    plain = {"length": "20it", "batch_size": 10, "optimizer": SGD, "learning_rate": DROPS}
    return Recipe(**{**plain, "eval_every": "25%", **changes})  # type: ignore[arg-type]


@dataclass
class Memory:
    checkpoint: Checkpoint | None = None
    snapshots: dict[int, Checkpoint] = field(default_factory=dict)

    def load(self) -> Checkpoint | None:
        return self.checkpoint

    def save(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = held(checkpoint)

    def snapshot(self, checkpoint: Checkpoint) -> None:
        self.snapshots[checkpoint.step] = held(checkpoint)


def held(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint whose tensors the training that it is of does not write into."""
    return replace(checkpoint, optimizer=states.copied(checkpoint.optimizer))


def trained(
    chosen: list[Job], how: Recipe, *, by: Engine, keepers=None, pace=None
) -> list[Outcome]:
    keepers = keepers or [Memory() for _ in chosen]
    outcomes = dict(engine.train(by, chosen, how, keepers, pace or Pace()))
    return [outcomes[index] for index in range(len(chosen))]


def alone(chosen: list[Job], how: Recipe) -> list[Outcome]:
    return [trained([job], how, by=Sequential())[0] for job in chosen]


def prints(outcomes: list[Outcome]) -> list[str]:
    return [states.fingerprint(outcome.weights) for outcome in outcomes]


def whole_state(checkpoint: Checkpoint) -> tuple[object, ...]:
    """All of a training between two steps, but for the time it took."""
    parts = checkpoint.weights, checkpoint.optimizer, checkpoint.masking
    found = [states.fingerprint(part) for part in parts]
    return *found, checkpoint.step, checkpoint.loss, checkpoint.num_losses
