"""Derivatives of the loss by the prunable weights, in float32 at least."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lth_runner.problem.norm_layers import mixes_samples
from lth_runner.problem.task import Task
from lth_runner.values import tree
from lth_runner.values.state import State
from lth_runner.values.tree import Batch

MAX_SAMPLES = 64  # in memory at once, where no option says how many


def on_device_with_float64(task: Task) -> Task:
    """Moves the task to the CPU where its own device has no float64 (MPS)."""
    return replace(task, device="cpu") if torch.device(task.device).type == "mps" else task


def to_device_and_dtype(
    task: Task, weights: State, *, min_dtype: torch.dtype = torch.float32
) -> State:
    """Moves weights to the task's device, detached, and widens their floats to ``min_dtype``."""

    def place(value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value.detach().to(task.device)
        return value.detach().to(task.device, torch.promote_types(value.dtype, min_dtype))

    return {name: place(value) for name, value in weights.items()}


def match_device_and_dtype(batch: Batch, weights: State) -> Batch:
    """Moves a batch to the weights' device, and its float inputs to their precision."""
    some = next(value for value in weights.values() if value.is_floating_point())
    inputs, targets = batch

    def match(value: Tensor) -> Tensor:
        dtype = some.dtype if value.is_floating_point() else value.dtype
        return value.to(some.device, dtype)

    return tree.each(match, inputs), tree.each(match, targets)


def gradient(
    task: Task,
    weights: State,
    names: Sequence[str],
    batch: Batch,
    *,
    batch_statistics: bool,
    temperature: float = 1.0,
) -> State:
    """Computes dL/dtheta of the named tensors on one batch."""
    own = _leaves(weights, names)

    def derive(piece: Batch) -> State:
        with torch.enable_grad():
            loss = _loss(task, weights | own, piece, temperature, batch_statistics=batch_statistics)
        found = torch.autograd.grad(
            loss, list(own.values()), allow_unused=True, materialize_grads=True
        )
        return dict(zip(names, found, strict=True))

    return _by_pieces(derive, task, batch, batch_statistics=batch_statistics)


def hessian_product(
    task: Task,
    weights: State,
    along: State,
    batch: Batch,
    *,
    batch_statistics: bool,
    temperature: float = 1.0,
) -> State:
    """Computes H v for the loss on one batch, in the tensors that ``along`` (v) names."""
    own = _leaves(weights, list(along))
    leaves = list(own.values())

    def derive(piece: Batch) -> State:
        with torch.enable_grad(), twice_differentiable():
            loss = _loss(task, weights | own, piece, temperature, batch_statistics=batch_statistics)
            first = torch.autograd.grad(
                loss, leaves, create_graph=True, allow_unused=True, materialize_grads=True
            )
            products = [(g * along[n]).sum() for n, g in zip(own, first, strict=True)]
            slope = torch.stack(products).sum()
            found = torch.autograd.grad(slope, leaves, allow_unused=True, materialize_grads=True)
        return dict(zip(own, found, strict=True))

    return _by_pieces(derive, task, batch, batch_statistics=batch_statistics)


def mean(states: Iterable[State]) -> State:
    """Averages states, holding one of them in memory beside the sum."""
    total: State = {}
    num = 0
    for num, state in enumerate(states, start=1):  # noqa: B007 (how many there were)
        total = {n: total[n] + v for n, v in state.items()} if total else dict(state)
    return {name: value / num for name, value in total.items()}


def on_cpu(scores: Mapping[str, Tensor]) -> State:
    """Detaches tensors and moves them to the CPU, where scores are handed out."""
    return {name: value.detach().cpu() for name, value in scores.items()}


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Computes attention by plain products, since its fused kernels have no second derivative."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def mixing(task: Task, *, batch_statistics: bool) -> list[nn.Module]:
    """Lists the norms by which a sample's answer may hang on the others of its batch."""
    norms = (module for _, module in task.named_modules())
    return [norm for norm in norms if mixes_samples(norm, batch_statistics=batch_statistics)]


def _by_pieces(
    derive: Callable[[Batch], State], task: Task, batch: Batch, *, batch_statistics: bool
) -> State:
    """Applies ``derive`` to a batch's mean loss, in pieces that memory holds.

    The loss is the pieces' mean by the terms that each is the mean of, up to rounding; not so
    where samples meet in batch statistics: such a batch stays whole.
    """
    by_batch = batch_statistics and bool(task.norm)
    is_mixed = by_batch or bool(mixing(task, batch_statistics=batch_statistics))
    num = task.objective.weight(batch[1])
    if is_mixed or not num or tree.length(batch[1]) <= MAX_SAMPLES:
        return derive(batch)
    total: State = {}
    for inputs, targets in zip(
        tree.split(batch[0], MAX_SAMPLES), tree.split(batch[1], MAX_SAMPLES), strict=True
    ):
        share = task.objective.weight(targets) / num
        piece = derive((inputs, targets))
        total = {n: total[n] + share * v if total else share * v for n, v in piece.items()}
    return total


def _leaves(weights: State, names: Sequence[str]) -> State:
    return {name: weights[name].detach().requires_grad_() for name in names}


def _loss(
    task: Task, weights: State, batch: Batch, temperature: float, *, batch_statistics: bool
) -> Tensor:
    ready = match_device_and_dtype(batch, weights)
    return task.loss(weights, ready, temperature, batch_statistics=batch_statistics)
