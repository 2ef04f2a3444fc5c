"""The network of a training: as it is made, how it computes, what of it is stepped."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lth_runner.problem.gaussian import is_rho
from lth_runner.problem.norm_layers import is_norm
from lth_runner.problem.task import Task
from lth_runner.training.recipe import Recipe
from lth_runner.values.errors import UserError
from lth_runner.values.shards import local

VECTOR = 16  # single-precision numbers of the largest vector registers
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(
    recipe: Recipe, device: torch.device | str, *, cached: bool = True
) -> AbstractContextManager[object]:
    """Makes the cast of a forward pass: to bf16 or fp16 where the recipe says so.

    ``cached``: a weight that is used twice is cast once.
    """
    if recipe.precision not in HALVES:
        return nullcontext()
    kind = torch.device(device).type
    return torch.autocast(kind, HALVES[recipe.precision], cache_enabled=cached)


def fresh_network(task: Task, recipe: Recipe) -> nn.Module:
    """Builds a fresh network, its images channels-last where that is faster.

    It is on CPUs, and on the tensor cores of a GPU. Those do no plain fp32; cuDNN's kernels for
    that are made for channels first. A CPU's kernels for few channels are not safe with it, and
    a forward pass of one's own may view channels as they lie first.
    """
    model = task.module()
    if recipe.recompute:
        recomputing(model)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    kind = torch.device(task.device).type
    plain = kind == "cuda" and recipe.precision == "fp32"
    unsafe = kind == "cpu" and any(map(writes_beyond, convolutions))
    if not plain and not unsafe and task.answers_channels_last:
        return model.to(memory_format=torch.channels_last)
    return model


def optimizer_of(
    model: nn.Module, trainable: Iterable[dict[str, Any]], recipe: Recipe
) -> Optimizer:
    """Makes the optimizer of what is trained of a network; the recipe says what decays of it."""
    norms = [part for part in model.modules() if is_norm(part)]
    scales = [p for part in norms for p in part.parameters(recurse=False)]
    widths = [p for name, p in model.named_parameters() if is_rho(name)]
    return recipe.make_optimizer(trainable, norm=scales, never=widths)


def are_finite_here(model: nn.Module) -> bool:
    """Whether a network's parameters and its norms' statistics are, as far as they lie here.

    Other buffers are not asked: a network may hold infinity on purpose, as in a mask of attention.
    """
    statistics = [value for part in model.modules() if is_norm(part) for value in part.buffers()]
    values = [*model.parameters(), *filter(torch.is_floating_point, statistics)]
    weights = [local(value.detach()) for value in values]
    return all(torch.isfinite(torch.stack(torch._foreach_norm(weights))).tolist())


def writes_beyond(convolution: nn.Conv2d) -> bool:
    """Whether oneDNN's gradient of a weight, channels-last, may write beyond its memory.

    It did for kernels of 1x1 with strides and fewer input channels than a vector register has
    numbers: wrong gradients, or a crash of the process (uxlfoundation/oneDNN, issue 6035; seen
    with torch 2.14.1, oneDNN 3.12.0).
    """
    inputs = convolution.in_channels // convolution.groups
    return set(convolution.kernel_size) == {1} and convolution.stride != (1, 1) and inputs < VECTOR


def recomputing(model: nn.Module) -> nn.Module:
    """Has a network of transformers keep no activations within its layers, but compute them again.

    Raises UserError for another network.
    """
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise UserError(
            f"train.recompute=true: a {type(model).__name__} does not say what it could compute "
            "again: it is for model=hf; a smaller train.micro_batch takes less memory too"
        )
    known: Any = model
    if hasattr(model, "activation_checkpointing_enable"):
        known.activation_checkpointing_enable({"use_reentrant": False})
    else:  # of transformers up to 5.20
        known.gradient_checkpointing_enable({"use_reentrant": False})
    return model
