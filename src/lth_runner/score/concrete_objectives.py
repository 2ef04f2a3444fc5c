"""Objectives that say, on one batch, what a relaxed mask loses of the dense network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from lth_runner.problem.task import Task
from lth_runner.values.state import State
from lth_runner.values.tree import Batch

# (task, dense weights, relaxed mask by name, batch) -> a scalar, differentiable by the mask
Objective = Callable[[Task, State, State, Batch], Tensor]


def loss(task: Task, weights: State, soft: State, batch: Batch) -> Tensor:
    """Returns 100 * the loss of the sparse network."""
    return 100 * _loss(task, weights, soft, batch)


def delta_loss(task: Task, weights: State, soft: State, batch: Batch) -> Tensor:
    """Returns 10^4 * |L(sparse) / L(dense) - 1|."""
    with torch.no_grad():
        dense = _loss(task, weights, {}, batch)
    return 1e4 * (_loss(task, weights, soft, batch) / dense - 1).abs()


def reverse_kl(task: Task, weights: State, soft: State, batch: Batch) -> Tensor:
    """Returns 100 * mean KL(p_sparse || p_dense)."""
    sparse, dense = _log_probabilities(task, weights, soft, batch)
    return 100 * F.kl_div(dense, sparse, reduction="batchmean", log_target=True)


def forward_kl(task: Task, weights: State, soft: State, batch: Batch) -> Tensor:
    """Returns 100 * mean KL(p_dense || p_sparse)."""
    sparse, dense = _log_probabilities(task, weights, soft, batch)
    return 100 * F.kl_div(sparse, dense, reduction="batchmean", log_target=True)


def gradient_norm(task: Task, weights: State, soft: State, batch: Batch) -> Tensor:
    """Returns -|dL/dw| at the sparse network, the 2-norm over the masked tensors."""
    found = _gradients(task, weights, soft, list(soft), batch)
    return -torch.stack([value.square().sum() for value in found]).sum().sqrt()


def gradient_match(task: Task, weights: State, soft: State, batch: Batch) -> Tensor:
    """Returns 100 * the mean square difference of dL/dw at the sparse and at the dense network.

    Each tensor's gradient is standardised first (mean 0, deviation 1), and tensors count alike.
    """
    sparse = _gradients(task, weights, soft, list(soft), batch)
    dense = _gradients(task, weights, {}, list(soft), batch)
    differences = [
        F.mse_loss(_standard(one), _standard(other.detach()))
        for one, other in zip(sparse, dense, strict=True)
    ]
    return 100 * torch.stack(differences).mean()


OBJECTIVES: Mapping[str, Objective] = MappingProxyType(
    {
        "reverse_kl": reverse_kl,
        "forward_kl": forward_kl,
        "loss": loss,
        "delta_loss": delta_loss,
        "gradient_norm": gradient_norm,
        "gradient_match": gradient_match,
    }
)


OF_PROBABILITIES = ("reverse_kl", "forward_kl")  # of classes, on axis 1


def _masked(weights: State, soft: State) -> State:
    return {name: w * soft[name] if name in soft else w for name, w in weights.items()}


def _loss(task: Task, weights: State, soft: State, batch: Batch) -> Tensor:
    return task.loss(_masked(weights, soft), batch, batch_statistics=True)


def _log_probabilities(
    task: Task, weights: State, soft: State, batch: Batch
) -> tuple[Tensor, Tensor]:
    """Computes log p of the sparse network and of the dense one."""
    with torch.no_grad():
        dense = task.outputs(weights, batch[0], batch_statistics=True)
    sparse = task.outputs(_masked(weights, soft), batch[0], batch_statistics=True)
    return sparse.log_softmax(1), dense.log_softmax(1)


def _gradients(
    task: Task, weights: State, soft: State, names: Sequence[str], batch: Batch
) -> tuple[Tensor, ...]:
    """Derives the loss by the named dense weights: dL/dw = z * dL/d(z * w)."""
    leaves = {name: weights[name].detach().requires_grad_() for name in names}
    value = _loss(task, {**weights, **leaves}, soft, batch)
    return torch.autograd.grad(value, list(leaves.values()), create_graph=bool(soft))


def _standard(value: Tensor) -> Tensor:
    centred = value - value.mean()
    return centred / (centred.square().mean() + 1e-16).sqrt()
