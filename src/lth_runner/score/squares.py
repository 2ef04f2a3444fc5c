"""Means over samples of squared per-sample gradients."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad, vmap

from lth_runner.problem.places import moved
from lth_runner.problem.task import Task
from lth_runner.score import derivatives, sums
from lth_runner.values import state as states
from lth_runner.values import tree
from lth_runner.values.state import State
from lth_runner.values.tree import Batch

Plain = tuple[Tensor, Tensor]  # a batch of inputs and class numbers
Derived = Callable[[Tensor, Tensor], Tensor]  # (logits, labels) -> what is derived, by sample

_NUMBERS = 2**25  # in memory at once: 256 MB of float64
_TRIED = 2  # samples by which it is found out whether the fast way answers as the plain one does


def mean_squares(
    task: Task, start: State, batches: Sequence[Batch], derived: Sequence[Derived]
) -> State:
    """Averages (dd/dtheta_j)^2 over samples and sums it over the functions d of ``derived``.

    Norms use their running statistics. A layer's gradient of one sample is its input times the
    gradient of its output, summed over positions: one forward pass and one backward pass of a
    batch for each d give those of all samples. Networks whose layers do something else with their
    weights have each sample derived by itself.
    """
    names = task.prunable
    inputs, labels = _plain(derivatives.match_device_and_dtype(batches[0], start))
    few = inputs[:_TRIED], labels[:_TRIED]
    by_sample = _sums_by_sample(task, start, names, few, derived[:1])
    by_layer = _sums_by_layer(task, start, names, few, derived[:1])
    if by_layer is not None and _alike(by_layer[0], by_sample):
        chunk = max(1, _NUMBERS * len(few[1]) // by_layer[1])
        squares = _Squares(start, names, derived, chunk, by_layer=True)
    else:
        chunk = max(1, _NUMBERS // sum(start[name].numel() for name in names))
        squares = _Squares(start, names, derived, chunk, by_layer=False)
    num = sum(tree.length(labels) for _, labels in batches)
    total = sums.total(task, squares, batches)
    return {name: value / num for name, value in total.items()}


@dataclass(frozen=True)
class _Squares:
    """The squares of the samples of a batch, ``chunk`` of them at a time."""

    start: State
    names: Sequence[str]
    derived: Sequence[Derived]
    chunk: int
    by_layer: bool = field(kw_only=True)

    def __call__(self, task: Task, batch: Batch) -> Iterator[State]:
        start = derivatives.to_device_and_dtype(task, self.start)
        inputs, labels = _plain(derivatives.match_device_and_dtype(batch, start))
        for part in zip(inputs.split(self.chunk), labels.split(self.chunk), strict=True):
            if not self.by_layer:
                yield _sums_by_sample(task, start, self.names, part, self.derived)
                continue
            found = _sums_by_layer(task, start, self.names, part, self.derived)
            assert found is not None
            yield found[0]

    def zeros(self) -> State:
        return {name: torch.zeros_like(self.start[name]) for name in self.names}


def _plain(batch: Batch) -> Plain:
    inputs, labels = batch
    assert isinstance(inputs, Tensor)  # a score that comes here has asked for classes
    assert isinstance(labels, Tensor)
    return inputs, labels


def _alike(one: State, other: State) -> bool:
    """Whether two states are equal but for the rounding of sums that run in another order."""
    return all(
        torch.allclose(one[n], other[n], rtol=1e-4, atol=1e-6 * float(other[n].abs().max()))
        for n in other
    )


def _sums_by_sample(
    task: Task, start: State, names: Sequence[str], batch: Plain, derived: Sequence[Derived]
) -> State:
    own = {name: start[name] for name in names}
    total = {name: torch.zeros_like(value) for name, value in own.items()}
    for d in derived:

        def value(own: State, one: Tensor, label: Tensor, d: Derived = d) -> Tensor:
            return d(task.outputs(start | own, one[None]), label[None])[0]

        with derivatives.twice_differentiable():
            found = vmap(grad(value), in_dims=(None, 0, 0))(own, *batch)
        for name, g in found.items():
            total[name] += g.square().sum(0)
    return total


def _sums_by_layer(
    task: Task, start: State, names: Sequence[str], batch: Plain, derived: Sequence[Derived]
) -> tuple[State, int] | None:
    """Sums the squares layer by layer; None where a layer is not a plain one.

    The second answer is how many numbers were held in memory for it.
    """
    module = moved(task.module(), next(iter(start.values())).dtype).eval()
    states.write(module, start)
    layers = _layers(module, names)
    if layers is None:
        return None
    uses: Counter[nn.Module] = Counter()
    came: dict[nn.Module, Tensor] = {}
    went: dict[nn.Module, Tensor] = {}

    def record(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        uses[layer] += 1
        came[layer], went[layer] = _inputs_by_position(layer, arguments[0].detach()), output
        return output.clone()  # an activation in place would make it what goes out of itself

    for layer in layers:
        layer.register_forward_hook(record)
    with torch.enable_grad(), derivatives.twice_differentiable():
        logits = module(batch[0])
        if any(uses[layer] != 1 for layer in layers):
            return None
        total = {name: torch.zeros_like(start[name]) for name in names}
        for d in derived:
            slopes = torch.autograd.grad(
                d(logits, batch[1]).sum(), [went[layer] for layer in layers],
                retain_graph=True, allow_unused=True, materialize_grads=True,
            )  # fmt: skip
            for (layer, own), slope in zip(layers.items(), slopes, strict=True):
                out = _gradient_by_position(layer, slope)
                for name, part in own.items():
                    if part == "bias":
                        total[name] += out.sum(1).square().sum(0)
                        continue
                    found = _squares(out, came[layer])
                    total[name] += found.view_as(total[name])
    held = sum(value.numel() for value in (*came.values(), *went.values()))
    return total, held + len(batch[1]) * max(start[name].numel() for name in names)


def _squares(out: Tensor, came: Tensor) -> Tensor:
    """Computes sum_n (sum_p out[n, p, :] came[n, p, :]^T)^2."""
    if out.shape[1] == 1:
        return out[:, 0].square().t() @ came[:, 0].square()
    return torch.bmm(out.transpose(1, 2), came).square().sum(0)


def _layers(module: nn.Module, names: Sequence[str]) -> dict[nn.Module, dict[str, str]] | None:
    """Maps each layer to its tensors' names and those to ``weight`` or ``bias``.

    None where one of the names belongs to no plain layer.
    """
    found: dict[nn.Module, dict[str, str]] = {}
    for name in names:
        path, _, part = name.rpartition(".")
        layer = module.get_submodule(path)
        plain = type(layer) is nn.Linear or (
            type(layer) is nn.Conv2d
            and layer.groups == 1
            and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
        )
        if not plain:
            return None
        found.setdefault(layer, {})[name] = part
    return found


def _inputs_by_position(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Copies a layer's inputs as [samples, positions, columns of the weight]."""
    if isinstance(layer, nn.Conv2d):
        columns = F.unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
        return columns.transpose(1, 2)
    return inputs.reshape(len(inputs), math.prod(inputs.shape[1:-1]), -1).clone()


def _gradient_by_position(layer: nn.Module, slope: Tensor) -> Tensor:
    """Lays a layer's output gradient out as [samples, positions, rows of the weight]."""
    if isinstance(layer, nn.Conv2d):
        return slope.flatten(2).transpose(1, 2)
    return slope.reshape(len(slope), math.prod(slope.shape[1:-1]), -1)
