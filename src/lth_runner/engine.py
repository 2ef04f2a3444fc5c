"""The training loop. It asks nothing about the method it serves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from lth_runner import state as states
from lth_runner.seeds import derive
from lth_runner.state import State
from lth_runner.step import Clock, Step
from lth_runner.task import Batch, evaluate, seeded
from lth_runner.train import Checkpoint, Interrupted, Job, Keeper, Outcome, Recipe

Row = dict[str, Any]
_RANDOM = (nn.modules.dropout._DropoutNd, nn.MultiheadAttention, nn.RReLU)
Watch = Callable[[Job, Step, Clock, Row | None], None]


@dataclass(frozen=True)
class Pace:
    """When a training looks up: whether to stop, how often to checkpoint, whom to tell."""

    stop: Callable[[], bool] = lambda: False
    checkpoint_seconds: float = 120.0
    watch: Watch = lambda job, step, clock, row: None
    replayed: Callable[[Step], None] = lambda steps: None  # run again for a snapshot or a probe


class Engine(Protocol):
    """Trains jobs, in any order and packing; yields (index, outcome) as each is finished."""

    @property
    def name(self) -> str: ...
    def pick(self, jobs: Sequence[Job]) -> Sequence[int]: ...  # which to train together first
    def train(
        self, jobs: Sequence[Job], recipe: Recipe, keepers: Sequence[Keeper], pace: Pace
    ) -> Iterator[tuple[int, Outcome]]: ...


@dataclass(frozen=True)
class Sequential:
    """One training after the other."""

    name: str = "sequential"

    def pick(self, jobs: Sequence[Job]) -> Sequence[int]:
        return [0]

    def train(
        self, jobs: Sequence[Job], recipe: Recipe, keepers: Sequence[Keeper], pace: Pace
    ) -> Iterator[tuple[int, Outcome]]:
        for index, (job, keeper) in enumerate(zip(jobs, keepers, strict=True)):
            with recipe.arithmetic(torch.device(job.task.device)):
                yield index, _train(job, recipe, keeper, pace)


def replay(
    job: Job,
    recipe: Recipe,
    checkpoint: Checkpoint | None,
    until: Step,
    stop: Callable[[], bool] = lambda: False,
) -> Checkpoint:
    """A training's checkpoint at ``until``, from an earlier one: the steps in between, again."""
    with recipe.arithmetic(torch.device(job.task.device)):
        loop = Loop(job, recipe, checkpoint)
        while loop.step < until:
            if stop():
                raise Interrupted
            loop.backward()
            loop.update()
        return loop.checkpoint()


def gradients(job: Job, recipe: Recipe, num_steps: int) -> Iterator[State]:
    """Gradients along a training's first steps, for every weight of the network.

    Those of the plain loss in fp32 on each step's batch, at the network's weights under their
    stock names, whatever a masking trains in their stead: no weight decay, no label smoothing, no
    dropout.
    """
    with recipe.arithmetic(torch.device(job.task.device)):
        loop = Loop(job, recipe, None)
        for _ in range(min(num_steps, loop.clock.total - loop.step)):
            yield job.task.gradient(loop.weights(), loop.batch(), batch_statistics=True)
            loop.backward()
            loop.update()


def _train(job: Job, recipe: Recipe, keeper: Keeper, pace: Pace) -> Outcome:
    loop = Loop(job, recipe, keeper.load())
    period = recipe.evaluation_period(loop.clock)
    snapshots = {step for step in job.snapshots if step >= loop.step}
    last_checkpoint = last_look = time.monotonic()
    if loop.step in snapshots:
        keeper.snapshot(loop.checkpoint())
    while loop.step < loop.clock.total and not loop.diverged:
        loop.backward()
        loop.update()
        if loop.step % period == 0 or loop.step == loop.clock.total:
            pace.watch(job, loop.step, loop.clock, loop.evaluate())
        if loop.step in snapshots:
            keeper.snapshot(loop.checkpoint())
        now = time.monotonic()
        if pace.stop():
            keeper.save(loop.checkpoint())
            raise Interrupted
        if now - last_checkpoint > pace.checkpoint_seconds:
            keeper.save(loop.checkpoint())
            last_checkpoint = now
        if now - last_look > 0.2:
            pace.watch(job, loop.step, loop.clock, None)
            last_look = now
    return loop.outcome()


class Loop:
    """One network in training: its state between steps is exactly a Checkpoint."""

    def __init__(self, job: Job, recipe: Recipe, checkpoint: Checkpoint | None) -> None:
        task, ticket = job.task, job.ticket
        self._job, self._recipe = job, recipe
        self._stream = task.data.stream(recipe.batch_size, task.seed, ticket.start.order)
        self.clock = recipe.clock(task.data.epoch(recipe.batch_size))
        self._began = time.monotonic() - (checkpoint.seconds if checkpoint else 0.0)
        self.step = checkpoint.step if checkpoint else ticket.start.step
        self.model = _laid_out(task.module()).train()
        states.write(self.model, checkpoint.weights if checkpoint else ticket.masked)
        self._live = job.masking.install(self.model, ticket.mask, task.seed)
        self._optimizer = recipe.make_optimizer(self._live.trainable())
        self._base_rates = [group["lr"] for group in self._optimizer.param_groups]
        restored = checkpoint.optimizer if checkpoint else ticket.start.optimizer
        if restored:
            _restore(self._optimizer, restored)
        if checkpoint:
            self._live.load_state_dict(checkpoint.masking)
        self._loss = torch.tensor(checkpoint.loss if checkpoint else 0.0, device=task.device)
        self._num_losses = checkpoint.num_losses if checkpoint else 0
        self._history = list(checkpoint.history) if checkpoint else []
        self._parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        self._is_random = any(isinstance(m, _RANDOM) for m in self.model.modules())
        bf16 = recipe.precision == "bf16"
        self._cast = (
            torch.autocast(torch.device(task.device).type, torch.bfloat16)
            if bf16
            else nullcontext()
        )

    def batch(self) -> Batch:
        """This step's training batch."""
        return self._stream[self.step]

    def weights(self) -> State:
        """The network's weights as they stand, masked, under their stock names."""
        return self._live.weights()

    def backward(self) -> None:
        """The dense gradients of the loss on this step's batch."""
        inputs, labels = self.batch()
        for parameter in self.model.parameters():  # frozen ones too: they must not add up
            parameter.grad = None
        for parameter in self._parameters:
            parameter.grad = None
        with self._cast, self._draws():
            logits = self.model(inputs)
            loss = F.cross_entropy(logits, labels, label_smoothing=self._recipe.label_smoothing)
        self._loss += loss.detach()
        self._num_losses += 1
        penalty = self._live.penalty()
        (loss if penalty is None else loss + penalty).backward()

    def _draws(self) -> AbstractContextManager[None]:
        """Dropout and the like draw from torch's global stream: give it this step's seed."""
        if not self._is_random:
            return nullcontext()
        start, seed = self._job.ticket.start, self._job.task.seed
        return seeded(derive(seed, "forward", start.order, self.step), self._job.task.device)

    def update(self) -> None:
        """One step of the optimizer and of the mask; the clock moves on."""
        if self._live.after_backward(self.step, self.clock.total, self._optimizer):
            if self._recipe.clip_norm is not None:
                self._live.clip(self._recipe.clip_norm)
            factor = self._rate()
            for group, base in zip(self._optimizer.param_groups, self._base_rates, strict=True):
                group["lr"] = base * factor
            self._optimizer.step()
        self._live.after_step(self.step, self.clock.total)
        self.step += 1

    def _rate(self) -> float:
        frozen = self._job.ticket.start.final_rate
        return self._recipe.rate(self.clock.total - 1 if frozen else self.step, self.clock)

    def evaluate(self) -> Row:
        """One row of history: training loss since the last one, validation and test."""
        row: Row = {
            "step": self.step,
            "train_loss": self._loss.item() / max(1, self._num_losses),
            "learning_rate": self._optimizer.param_groups[0]["lr"],
        }
        self._loss.zero_()
        self._num_losses = 0
        for split in ("val", "test"):
            measured = evaluate(self.model, self._job.task.data.batches(split, 2000))
            row |= {f"{split}_{name}": value for name, value in measured.items()}
        self._history.append({k: v if math.isfinite(v) else None for k, v in row.items()})
        weights = [w for w in self.model.state_dict().values() if w.is_floating_point()]
        if not all(torch.isfinite(torch.stack(torch._foreach_norm(weights))).tolist()):
            self._history[-1]["train_loss"] = None
        return self._history[-1]

    @property
    def diverged(self) -> bool:
        """Whether the loss or a weight was NaN or infinite when last looked at."""
        last = self._history[-1] if self._history else {}
        return any(last.get(name, 0.0) is None for name in ("train_loss", "val_loss", "test_loss"))

    def checkpoint(self) -> Checkpoint:
        """The training as it stands between two steps."""
        return Checkpoint(
            step=self.step,
            weights=self._live.weights(),
            optimizer=_flatten(self._optimizer),
            masking=self._live.state_dict(),
            loss=self._loss.item(),
            num_losses=self._num_losses,
            history=tuple(self._history),
            seconds=time.monotonic() - self._began,
        )

    def outcome(self) -> Outcome:
        """The finished training's weights, masked, and its hard mask."""
        return Outcome(
            weights=self._live.weights(),
            mask=self._live.mask(),
            history=tuple(self._history),
            seconds=time.monotonic() - self._began,
            diverged=self.diverged,
        )


def _laid_out(model: nn.Module) -> nn.Module:
    """Images channels-last where there are convolutions: the faster layout on CPUs and GPUs."""
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        return model.to(memory_format=torch.channels_last)
    return model


def _flatten(optimizer: Optimizer) -> State:
    """An optimizer's state as named tensors, ``<index>.<name>``."""
    kept = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value.detach().cpu().clone()
        if isinstance(value, Tensor)
        else torch.tensor(value)
        for index, entries in kept.items()
        for name, value in entries.items()
        if value is not None
    }


def _restore(optimizer: Optimizer, flat: Mapping[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    entries: dict[int, dict[str, Tensor]] = {}
    for path, value in flat.items():
        index, name = path.split(".", 1)
        like = parameters[int(index)]
        if value.shape == like.shape:  # fused kernels need the parameter's own memory layout
            value = torch.empty_like(like, dtype=value.dtype).copy_(value)
        else:
            value = value.clone()  # a step counter: the optimizer counts in place
        entries.setdefault(int(index), {})[name] = value
    whole = optimizer.state_dict()
    optimizer.load_state_dict({**whole, "state": entries})
