"""What memory trainings take, planned before they start."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from lth_runner.problem.task import Task
from lth_runner.training.recipe import Recipe
from lth_runner.values.errors import UserError
from lth_runner.values.memory import total_memory

LARGE = 2**28  # bytes of weights, from which on a run says what it will take


@dataclass(frozen=True)
class MemoryPlan:
    """The bytes that one training takes, and those that wait for theirs; activations come on top.

    ``starts`` are the weights that the trainings of a round start from. A ``checkpoint`` holds the
    weights once more while it is written. On a GPU these two lie in the machine's own memory, and
    the checkpoint holds the moments too. Of a sharded training a device has to hold the weights and
    gradients once, for what is looked at before it begins. ``num_ranks`` of one training share this
    machine; each has a GPU of its own, or takes what a training takes from the machine's memory.
    """

    weights: int
    gradients: int
    moments: int
    starts: int
    checkpoint: int
    device: torch.device
    is_sharded: bool = False  # no device holds all moments: each rank has a part
    num_ranks: int = 1

    @classmethod
    def of(
        cls, num_bytes: int, recipe: Recipe, num_starts: int, device: torch.device
    ) -> MemoryPlan:
        """Plans trainings of a network with so many bytes of weights."""
        moments = num_bytes * (num_moments(recipe) if num_bytes >= LARGE else 0)
        return cls(
            weights=num_bytes,
            gradients=num_bytes,
            moments=moments,
            starts=num_bytes * num_starts,
            checkpoint=num_bytes + (moments if device.type == "cuda" else 0),
            device=device,
            is_sharded=recipe.engine == "sharded",
        )

    @property
    def is_large(self) -> bool:
        """Whether it is worth a word; of others the moments are not counted."""
        return self.weights >= LARGE

    @property
    def told(self) -> str:
        """The plan in one line."""
        there = total_memory(self.device)
        trained = (
            f"weights {_gb(self.weights)}, gradients {_gb(self.gradients)}, moments "
            f"{_gb(self.moments)}"
        )
        trained += " (in parts on the ranks)" if self.is_sharded else ""
        if self.num_ranks > 1:
            trained = f"each of {self.num_ranks} ranks of this machine: {trained}"
        kept = f"{self._num_starts} to start from {_gb(self.starts)}, a checkpoint "
        kept += _gb(self.checkpoint)
        if self.device.type != "cuda":
            whole = self.num_ranks * self._trained + self._kept
            return f"{trained}; {kept}: {_gb(whole)} of {_gb(there)}, and activations"
        own = f"{trained}: {_gb(self._trained)} of {_gb(there)} on {self.device}, and activations"
        return f"{own}; {kept}: {_gb(self._kept)} of this machine's {_gb(total_memory())}"

    def check(self) -> None:
        """Raises UserError where a large network's plan is more than there is."""
        self.check_whole()
        trained, kept, machine = self._trained, self._kept, total_memory()
        if self.device.type == "cuda":
            fits = trained <= total_memory(self.device) and kept <= machine
        else:
            fits = self.num_ranks * trained + kept <= machine
        if self.is_large and not fits:
            raise UserError(
                f"the trainings do not fit into memory: {self.told}. Take fewer replicates or "
                "controls, an optimizer with fewer moments (train=sgd), "
                f"{'fewer ranks on a machine, ' if self.num_ranks > 1 else ''}or a smaller model"
            )

    def check_whole(self) -> None:
        """Raises UserError where a training is sharded of which a device cannot hold the whole."""
        num_here = 1 if self.device.type == "cuda" else self.num_ranks
        needed, there = num_here * (self.weights + self.gradients), total_memory(self.device)
        if self.is_sharded and needed > there:
            raise UserError(
                "train.engine=sharded lays out trainings, and not what is looked at before the "
                "first of them: that the network takes its data, that it can do a step, and "
                "whether it draws random numbers. That takes the whole network and its gradients "
                f"on the device of each rank, {_gb(needed)}, and {self.device} has {_gb(there)}: "
                "take devices with more memory, or a smaller model"
            )

    @property
    def _trained(self) -> int:
        return self.weights + self.gradients + (0 if self.is_sharded else self.moments)

    @property
    def _kept(self) -> int:
        return self.starts + self.checkpoint

    @property
    def _num_starts(self) -> int:
        return self.starts // self.weights


@runtime_checkable
class TakesWhole(Protocol):
    """A part that puts the whole network on one device, and tensors of its size beside it."""

    def bytes_on_device(self, task: Task) -> int:
        """Counts the bytes that lie there at once, at least."""


def check_on_device(key: str, part: object, task: Task, recipe: Recipe) -> None:
    """Raises UserError where a device cannot hold what a part, or one of its parts, puts there."""
    if isinstance(part, type):  # a class that a part is to make something of
        return
    if isinstance(part, TakesWhole):
        needed, there = part.bytes_on_device(task), total_memory(task.device)
        if needed > there:
            alone = " train.engine=sharded lays out trainings and nothing else." * (
                recipe.engine == "sharded"
            )
            raise UserError(
                f"{key}: {type(part).__name__} looks at the whole network on one device, which "
                f"takes {_gb(needed)} there at least, and {task.device} has {_gb(there)}.{alone} "
                "Leave a probe out (probe=none), take a score without gradients (pruner=imp, "
                "pruner=magnitude_at_init), or a smaller model"
            )
    if is_dataclass(part):
        for field in fields(part):
            check_on_device(key, getattr(part, field.name), task, recipe)


def bytes_of(task: Task) -> int:
    """Counts the bytes of a network's parameters, a shared one once."""
    modules = (module for _, module in task.named_modules())
    found = {id(p): p for module in modules for p in module.parameters(recurse=False)}
    return sum(value.numel() * value.element_size() for value in found.values())


def num_moments(recipe: Recipe) -> int:
    """Counts the tensors that an optimizer keeps for each parameter, by a step on a small one."""
    stand_in = nn.Parameter(torch.ones(2, 3))
    stand_in.grad = torch.ones(2, 3)
    try:
        optimizer = recipe.make_optimizer([{"params": [stand_in]}])
        optimizer.step()
        kept = optimizer.state.get(stand_in, {})
    except Exception:  # of a stranger's: what is wrong with it is told where a step is tried
        return 0
    alike = [value for value in kept.values() if getattr(value, "shape", None) == stand_in.shape]
    return len(alike)


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:,.1f} GB"
