"""The problem as pure functions of the weights: a network's shape, data, and a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from lth_runner.problem.data import Data
from lth_runner.problem.models import prunable_names
from lth_runner.values import identity
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import derive
from lth_runner.values.state import State

Batch = tuple[Tensor, Tensor]
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True, eq=False)
class Task:
    """One replicate's problem: ``model`` builds the network, ``seed`` names its random streams.

    ``biases``: those of layers with prunable weights may be pruned as well; a norm's shift never.
    Scores, rewinding and probes see weights as values and never a live module:
    ``task.logits(weights, inputs)`` is f(x; theta).
    """

    model: Callable[[], nn.Module]
    data: Data
    seed: int = 0
    device: torch.device | str = "cpu"
    biases: bool = False

    def with_seed(self, seed: int) -> Task:
        """The same problem with other random streams: a replicate."""
        return replace(self, seed=seed)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the problem is, apart from its seed: the network's description and the data's."""
        classes = {type(module) for module in self._template.modules()}
        own = {f"{c.__module__}.{c.__qualname__}": identity.source(c) for c in classes}
        code = {name: found for name, found in sorted(own.items()) if found}  # the user's alone
        described = {"model": identity.describe(self.model), "data": self.data.fingerprint}
        described |= {"biases": True} if self.biases else {}
        return described | ({"code": code} if code else {})

    @cached_property
    def _template(self) -> nn.Module:
        with _global_seed(0):
            return self.model().to(self.device)

    @cached_property
    def prunable(self) -> tuple[str, ...]:
        """Tensors that a mask covers: weights of convolutions and linear layers, in the network's

        order, each with its bias behind it where ``biases`` may be pruned.
        """
        return prunable_names(self._template, biases=self.biases)

    @cached_property
    def passed_over(self) -> tuple[str, ...]:
        """Parameters of two axes or more that no mask covers: recurrent layers', embeddings."""
        named = self._template.named_parameters()
        return tuple(n for n, value in named if value.ndim > 1 and n not in self.prunable)

    @cached_property
    def num_parameters(self) -> int:
        """All values that a training may change, a shared one once."""
        return sum(value.numel() for value in self._template.parameters())

    @cached_property
    def norm(self) -> frozenset[str]:
        """Scales, shifts and running statistics of the normalisation layers."""
        return frozenset(
            f"{path}.{name}" if path else name
            for path, module in self._template.named_modules()
            if isinstance(module, _NORMS)
            for name in states.read(module)
        )

    def init(self, seed: int | None = None) -> State:
        """Fresh weights, a function of the seed (the task's own where none is given)."""
        with _global_seed(derive(self.seed if seed is None else seed, "init")):
            return states.read(self.model())

    def module(self) -> nn.Module:
        """A fresh network on the task's device; its weights are to be written over."""
        with _global_seed(0):
            return self.model().to(self.device)

    def dense(self) -> Mask:
        """The mask that keeps every prunable weight."""
        parameters = dict(self._template.named_parameters())
        return Mask({n: torch.ones(parameters[n].shape, dtype=torch.bool) for n in self.prunable})

    def logits(self, weights: State, inputs: Tensor, *, batch_statistics: bool = False) -> Tensor:
        """f(x; theta), normalised by running or by the batch's statistics; changes nothing."""
        self._template.eval()  # no dropout: a score is a function of the weights
        for module in self._template.modules():
            if isinstance(module, _NORMS):
                module.train(batch_statistics)
        # functional_call writes updated running statistics into the tensors it is given
        own = {
            n: w.clone() if batch_statistics and n in self.norm else w for n, w in weights.items()
        }
        aside = {n: b for n, b in self._template.named_buffers() if n not in own}
        return functional_call(self._template, aside | own, (inputs,), strict=True)

    def loss(
        self,
        weights: State,
        batch: Batch,
        temperature: float = 1.0,
        *,
        batch_statistics: bool = False,
    ) -> Tensor:
        """Mean cross-entropy of softmax(f(x; theta) / temperature)."""
        logits = self.logits(weights, batch[0], batch_statistics=batch_statistics)
        return F.cross_entropy(logits / temperature, batch[1])

    def batches(self, num: int, stream: int, size: int = 128) -> list[Batch]:
        """``num`` seeded batches of training samples, normalised and not augmented."""
        drawn = self.data.sample(min(num * size, self.data.num_train), derive(self.seed, stream))
        return list(zip(drawn[0].split(size), drawn[1].split(size), strict=True))[:num]

    def grad(self, weights: State, num_batches: int, *, batch_statistics: bool = False) -> State:
        """Mean gradient of the loss over ``num_batches`` seeded batches, by parameter name."""
        total: State = {}
        batches = self.batches(num_batches, 0)
        for batch in batches:
            gradient = self.gradient(weights, batch, batch_statistics=batch_statistics)
            total = {n: total[n] + g if n in total else g for n, g in gradient.items()}
        return {name: value / len(batches) for name, value in total.items()}

    def gradient(self, weights: State, batch: Batch, *, batch_statistics: bool = False) -> State:
        """Gradient of the loss on one batch with respect to every parameter, pruned ones too."""
        placed = {name: value.to(self.device).detach() for name, value in weights.items()}
        leaves = [placed[name].requires_grad_() for name, _ in self._template.named_parameters()]
        loss = self.loss(placed, batch, batch_statistics=batch_statistics)
        found = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        names = [name for name, _ in self._template.named_parameters()]
        return {name: value.cpu() for name, value in zip(names, found, strict=True)}

    def evaluate(self, weights: State, split: str, size: int = 2000) -> dict[str, float]:
        """``accuracy`` (0..1) and mean ``loss`` on a split; empty when the split is."""
        placed = {name: w.to(self.device) for name, w in weights.items()}
        self._template.eval()
        states.write(self._template, placed)
        return evaluate(self._template, self.data.batches(split, size))


@torch.no_grad()
def evaluate(module: nn.Module, batches: Iterator[Batch]) -> dict[str, float]:
    """Accuracy and mean cross-entropy of a network in evaluation mode, one transfer at the end."""
    totals, count = [], 0
    training = module.training
    module.eval()
    for inputs, labels in batches:
        logits = module(inputs).float()
        right = (logits.argmax(1) == labels).sum()
        totals.append(torch.stack([right, F.cross_entropy(logits, labels, reduction="sum")]))
        count += len(labels)
    module.train(training)
    if not count:
        return {}
    accuracy, loss = (torch.stack(totals).cpu().double().sum(0) / count).tolist()
    return {"accuracy": accuracy, "loss": loss}


def check_fits(task: Task) -> None:
    """Raises UserError where the network cannot take the data, before any training."""
    shape, classes = (2, *task.data.shape), task.data.num_classes
    try:
        weights = {name: value.to(task.device) for name, value in task.init(0).items()}
        out = task.logits(weights, torch.zeros(shape, device=task.device))
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the model cannot take inputs of shape {shape[1:]}: {reason}") from error
    if not isinstance(out, Tensor):
        raise UserError(f"the model answers with a {type(out).__name__}, not a tensor of logits")
    if out.shape != (2, classes):
        raise UserError(
            f"the model answers with shape {tuple(out.shape[1:])} for one input, but the data have "
            f"{classes} classes: its last layer must have {classes} outputs"
        )
    if not task.prunable:
        raise UserError("the model has no convolution or linear weights: nothing can be pruned")
    if task.biases and not task.dense().biases:
        raise UserError(
            "pruner.biases=true, but no convolution or linear layer of the model has a bias: leave "
            "it out"
        )


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seeds torch's global stream for code that can only draw from it, and puts it back."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


@contextmanager
def seeded(seed: int, device: torch.device | str) -> Iterator[None]:
    """Seeds the global streams of the CPU and of a CUDA device, and puts them back."""
    cuda = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        yield
