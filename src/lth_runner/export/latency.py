"""How long a network takes to answer, several forms of it timed side by side."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from lth_runner.export import layouts
from lth_runner.export.agreement import Answer
from lth_runner.export.taken_ticket import Taken
from lth_runner.export.tensor_files import thinned
from lth_runner.values.tree import Tree

WARM = 3  # answers before any is timed


@dataclass(frozen=True)
class Latency:
    """One form's time for a batch, in milliseconds: the median, and the quartiles beside it."""

    form: str
    batch: int
    median: float
    lower: float
    upper: float


@torch.inference_mode()
def latencies(
    forms: Mapping[str, Answer], inputs: Mapping[int, Tree], repetitions: int
) -> list[Latency]:
    """Times forms by batch size, all of them in each repetition, in an order drawn anew.

    So all share the machine's noise, and none always runs after the same other.
    """
    found, order = [], random.Random(0)
    for batch, given in inputs.items():
        times: dict[str, list[float]] = {name: [] for name in forms}
        for _ in range(WARM):
            for answers in forms.values():
                answers(given)
        for _ in tqdm(range(repetitions), f"batch {batch}", leave=False, disable=None):
            for name in order.sample(list(forms), len(forms)):
                started = time.perf_counter()
                forms[name](given)
                times[name].append(1000 * (time.perf_counter() - started))
        found += [_summary(name, batch, values) for name, values in times.items()]
    return found


def _summary(form: str, batch: int, times: Sequence[float]) -> Latency:
    lower, median, upper = statistics.quantiles(times, n=4, method="inclusive")
    return Latency(form, batch, median, lower, upper)


def with_csr(ticket: Taken) -> nn.Module | None:
    """Computes with torch's sparse matrices what the mask thins out; None where there is none.

    Linear layers, and plain convolutions of pictures as products with unfolded pictures; others
    stay as they are.
    """
    module = ticket.module()
    tensors, masked = dict(module.named_parameters()), set(thinned(ticket))
    names = {id(value): name for name, value in tensors.items() if name in masked}
    made: dict[int, nn.Module] = {}
    for path, layer in list(module.named_modules(remove_duplicate=False)):
        if not path or not _is_plain(layer) or id(layer.weight) not in names:
            continue
        if id(layer) not in made:  # a layer may have several names, and a weight several layers
            made[id(layer)] = _sparse(ticket, names[id(layer.weight)], layer)
        owner, _, leaf = path.rpartition(".")
        setattr(module.get_submodule(owner), leaf, made[id(layer)])
    return module.eval() if made else None


def _sparse(ticket: Taken, name: str, layer: nn.Module) -> nn.Module:
    """Makes a layer that multiplies with a weight as a sparse matrix."""
    packed = layouts.to_csr(ticket.weights[name], ticket.mask[name])
    weight = layouts.as_csr(packed, tuple(ticket.weights[name].shape))
    if isinstance(layer, nn.Conv2d):
        return _SparseConvolution(weight, layer)
    bias = layer.bias
    return _SparseLinear(weight, bias if isinstance(bias, Tensor) else None)


def _is_plain(layer: nn.Module) -> bool:
    if type(layer) is nn.Linear:
        return True
    return (
        type(layer) is nn.Conv2d
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


class _SparseLinear(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, inputs: Tensor) -> Tensor:
        found = (self.weight @ inputs.flatten(0, -2).t()).t()
        found = found if self.bias is None else found + self.bias
        return found.unflatten(0, inputs.shape[:-1])


class _SparseConvolution(nn.Module):
    def __init__(self, weight: Tensor, like: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias, self.like = weight, like.bias, like

    def forward(self, inputs: Tensor) -> Tensor:
        like = self.like
        size, step, apart = like.kernel_size, like.stride, like.dilation
        pad = tuple(int(number) for number in like.padding)
        # [batch, in * kernel, places]
        columns = F.unfold(inputs, size, apart, pad, step)
        found = self.weight @ columns.transpose(0, 1).flatten(1)
        found = found.unflatten(1, (len(inputs), -1)).transpose(0, 1)
        found = found if self.bias is None else found + self.bias[:, None]
        height = (inputs.shape[2] + 2 * pad[0] - apart[0] * (size[0] - 1) - 1) // step[0] + 1
        return found.unflatten(2, (height, -1)).contiguous()
