"""Several networks trained as one: each layer's products of all of them in one batched product."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.optim import Optimizer

from lth_runner import identity
from lth_runner.engine import Together
from lth_runner.loop import RANDOM, Loop, autocast
from lth_runner.masking import Masking
from lth_runner.task import Task
from lth_runner.train import Checkpoint, Job, Recipe

# activations that see every value by itself
ELEMENTWISE = (
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU,
    nn.Mish, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish,
)  # fmt: skip
# optimizers that do so too: the update of a weight needs no other weight
OPTIMIZERS = (
    optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad, optim.Adadelta, optim.Adamax,
    optim.NAdam, optim.RAdam,
)  # fmt: skip


@dataclass(frozen=True)
class Packed:
    """Up to ``max_packed`` trainings in step, as one network with a leading axis of replicates.

    Every lane's own network is a view of its slice, so that masks, evaluation and checkpoints see
    a plain module. A lane's result does not depend on which others it was packed with.
    """

    max_packed: int = 8
    name: str = "packed"

    def pick(self, jobs: Sequence[Job]) -> Sequence[int]:
        """The first and those after it that can go in step with it."""
        first = _kind(jobs[0])
        return [index for index, job in enumerate(jobs) if _kind(job) == first][: self.max_packed]

    def begin(
        self, jobs: Sequence[Job], recipe: Recipe, checkpoints: Sequence[Checkpoint | None]
    ) -> Together:
        pack = Pack(jobs, recipe, checkpoints)

        def advance() -> None:
            pack.backward()
            pack.update()

        return Together(pack.lanes, advance)


def _kind(job: Job) -> tuple[object, ...]:
    """What must be alike for two trainings to go in step."""
    start = job.ticket.start
    return (
        id(job.task.data), job.task.device, identity.digest(job.task.identity), job.masking,
        start.step, start.final_rate, bool(start.optimizer),
    )  # fmt: skip


def obstacle(task: Task, masking: Masking, recipe: Recipe) -> str | None:
    """Why trainings of this kind cannot be packed; None where they can."""
    if not masking.packs:
        return f"{type(masking).__name__} cannot share a network's memory"
    module = task.module()
    if any(isinstance(part, RANDOM) for part in module.modules()):
        return "the network draws random numbers"
    optimizer = recipe.make_optimizer([{"params": list(module.parameters())}])
    if type(optimizer) not in OPTIMIZERS:
        return f"{type(optimizer).__name__} may look at a whole tensor"
    for part in module.modules():
        own = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        if own and type(part) is not nn.Linear:
            return f"it has a {type(part).__name__} layer"
        known = isinstance(part, (nn.Linear, nn.Flatten, *ELEMENTWISE))
        if not known and not list(part.children()):
            return f"it has a {type(part).__name__} layer"
    return None if _agrees(task) else "its forward pass does not take a leading axis"


@torch.no_grad()
def _agrees(task: Task) -> bool:
    """Whether the packed network answers what its parts do: a forward of one's own may not."""
    modules = [task.module(), task.module()]
    network = stack(modules)
    inputs = torch.stack([task.data.sample(2, seed)[0] for seed in (0, 1)])
    try:
        together = network(inputs)
    except (RuntimeError, ValueError, IndexError, TypeError):
        return False
    apart = torch.stack([module(x) for module, x in zip(modules, inputs, strict=True)])
    return together.shape == apart.shape and torch.allclose(together, apart, rtol=1e-4, atol=1e-5)


def lanes_that_fit(task: Task, recipe: Recipe, free: float) -> int:
    """How many trainings fit into ``free`` bytes: weights, gradients, two moments and a mask each,

    the activations of a batch and of an evaluation. At least one.
    """
    num_weights = sum(p.numel() for p in task.module().parameters())
    num_units = sum(kept.shape[0] for kept in task.dense().values())
    inputs = torch.Size(task.data.shape).numel()
    lane = 4 * (6 * num_weights + recipe.batch_size * (inputs + 3 * num_units))
    evaluation = 4 * 2000 * (inputs + 2 * num_units)
    return max(1, int((free - evaluation) / lane))


class Pack:
    """Loops in step over one packed network and one optimizer."""

    def __init__(
        self, jobs: Sequence[Job], recipe: Recipe, checkpoints: Sequence[Checkpoint | None]
    ) -> None:
        modules = [job.task.module() for job in jobs]
        self._network = stack(modules).train()
        self._recipe = recipe
        self.lanes = [
            Loop(job, recipe, checkpoint, model=module, num_lanes=len(jobs))
            for job, checkpoint, module in zip(jobs, checkpoints, modules, strict=True)
        ]
        slabs = dict(self._network.named_parameters())
        own = [dict(module.named_parameters()) for module in modules]
        # (slab, one view a lane) of every parameter
        self._shared = [(slabs[name], [lane[name] for lane in own]) for name in slabs]
        self._optimizer = self._joined()
        device = jobs[0].task.device
        self._losses = torch.stack([lane.loss for lane in self.lanes])
        for lane, loss in zip(self.lanes, self._losses.unbind(), strict=True):
            lane.loss = loss  # a view: added to by all, read and reset by each
        self._cast = autocast(recipe, device)
        self._inputs: Tensor | None = None

    def _joined(self) -> Optimizer:
        """One optimizer over the slabs, in the groups of a lane's; it takes over their state."""
        whole = {id(views[0]): slab for slab, views in self._shared}
        groups = [
            {**group, "params": [whole[id(p)] for p in group["params"]]}
            for group in self.lanes[0].optimizer.param_groups
        ]
        optimizer = self._recipe.optimizer(groups)
        for slab, views in self._shared:
            states = [lane.optimizer.state.get(v) for lane, v in self._by_lane(views)]
            found = [state for state in states if state]
            if found:
                optimizer.state[slab] = {
                    key: _padded([state[key] for state in found], slab)
                    if isinstance(value, Tensor) and value.shape == views[0].shape
                    else copy.deepcopy(value)  # a counter, the same in all lanes
                    for key, value in found[0].items()
                }
        self._share(optimizer)
        return optimizer

    def _by_lane(self, views: Sequence[Tensor]) -> Iterable[tuple[Loop, Tensor]]:
        return zip(self.lanes, views, strict=True)

    def _share(self, optimizer: Optimizer) -> None:
        """Each lane's optimizer sees its slices of the packed state, which moves in place."""
        for slab, views in self._shared:
            state = optimizer.state.get(slab, {})
            for index, (lane, view) in enumerate(self._by_lane(views) if state else ()):
                lane.optimizer.state[view] = {
                    key: _slice(value, index, view)
                    if isinstance(value, Tensor) and value.shape == slab.shape
                    else value
                    for key, value in state.items()
                }

    def backward(self) -> None:
        """The dense gradients of every lane's loss on its own batch of this step."""
        inputs, labels = zip(*(lane.batch() for lane in self.lanes), strict=True)
        # one buffer for all steps: a fresh one of this size is a page fault a page
        self._inputs = torch.stack(inputs, out=self._inputs)
        for slab, _ in self._shared:
            slab.grad = None
        with self._cast:
            logits = self._network(self._inputs).flatten(0, 1)
            losses = F.cross_entropy(
                logits,
                torch.cat(labels),
                reduction="none",
                label_smoothing=self._recipe.label_smoothing,
            )
            loss = losses.view(len(self.lanes), -1).mean(1)
        self._losses += loss.detach()
        for lane in self.lanes:
            lane.num_losses += 1
        loss.sum().backward()
        for slab, views in self._shared:
            if slab.grad is not None:
                for index, view in enumerate(views):
                    view.grad = _slice(slab.grad, index, view)

    def update(self) -> None:
        """One step of the optimizer and of every lane's mask; the clocks move on."""
        for lane in self.lanes:
            lane.prepare()
        own = self.lanes[0].optimizer.param_groups
        for group, first in zip(self._optimizer.param_groups, own, strict=True):
            group["lr"] = first["lr"]
        fresh = not self._optimizer.state
        self._optimizer.step()
        if fresh:
            self._share(self._optimizer)
        for lane in self.lanes:
            lane.conclude()


def _slice(slab: Tensor, index: int, like: Tensor) -> Tensor:
    return slab[index, : like.numel()].view(like.shape)


def _padded(values: Sequence[Tensor], slab: Tensor) -> Tensor:
    joined = torch.zeros_like(slab)
    for index, value in enumerate(values):
        _slice(joined, index, value).copy_(value)
    return joined


def stack(modules: Sequence[nn.Module]) -> nn.Module:
    """One network over inputs [replicates, batch, ...] with the weights of all ``modules``,

    whose own parameters become views of it.
    """
    network = _widened(copy.deepcopy(modules[0]), len(modules))
    slabs = dict(network.named_parameters())
    for index, module in enumerate(modules):
        for name, parameter in module.named_parameters():
            view = _slice(slabs[name].data, index, parameter)
            parameter.data = view.copy_(parameter.data)
    return network


def _widened(module: nn.Module, num: int) -> nn.Module:
    if type(module) is nn.Linear:
        return _Linear(module, num)
    if isinstance(module, nn.Flatten):
        return nn.Flatten(*(d if d < 0 else d + 1 for d in (module.start_dim, module.end_dim)))
    for name, child in module.named_children():
        setattr(module, name, _widened(child, num))
    return module


# Vectorised kernels treat the last values of a tensor apart, by scalar code that rounds otherwise.
# Replicates padded to whole vectors have no such values, whoever lies beside them.
VECTOR = 64


def _slab(like: Tensor, num: int) -> nn.Parameter:
    """[num, like's values, padded with zeros to whole vectors]."""
    padded = -(-like.numel() // VECTOR) * VECTOR
    return nn.Parameter(like.new_zeros((num, padded)), requires_grad=like.requires_grad)


class _Linear(nn.Module):
    """y[r] = x[r] W[r]^T + b[r]."""

    def __init__(self, like: nn.Linear, num: int) -> None:
        super().__init__()
        self._shape = like.out_features, like.in_features
        self.weight = _slab(like.weight, num)
        self.bias = None if like.bias is None else _slab(like.bias, num)

    def forward(self, inputs: Tensor) -> Tensor:
        if torch.is_autocast_enabled(inputs.device.type):
            products = torch.bmm(inputs, _matrices(self.weight, self._shape).transpose(1, 2))
            if self.bias is None:
                return products
            return products + self.bias[:, : self._shape[0]].unsqueeze(1)
        found: Tensor = _Products.apply(inputs, self.weight, self.bias, self._shape)
        return found


def _matrices(slab: Tensor, shape: tuple[int, int]) -> Tensor:
    return slab[:, : shape[0] * shape[1]].view(len(slab), *shape)


class _Products(torch.autograd.Function):
    """A batched linear layer whose weight gradient comes in the weight's own layout: autograd's

    comes transposed, and copying it costs half as much as computing it.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, shape: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight, bias)
        ctx.shape = shape
        matrices = _matrices(weight, shape).transpose(1, 2)
        if bias is None:
            return torch.bmm(inputs, matrices)
        return torch.baddbmm(bias[:, : shape[0]].unsqueeze(1), inputs, matrices)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        [outer] = upstream
        inputs, weight, bias = ctx.saved_tensors
        to_inputs, to_weight, to_bias, _ = ctx.needs_input_grad
        found: list[Tensor | None] = [None] * 4
        if to_inputs:
            found[0] = torch.bmm(outer, _matrices(weight, ctx.shape))
        if to_weight:
            found[1] = fresh = _empty_but_padding(weight, ctx.shape[0] * ctx.shape[1])
            torch.bmm(outer.transpose(1, 2), inputs, out=_matrices(fresh, ctx.shape))
        if to_bias:
            found[2] = fresh = _empty_but_padding(bias, ctx.shape[0])
            torch.sum(outer, 1, out=fresh[:, : ctx.shape[0]])
        return tuple(found)


def _empty_but_padding(slab: Tensor, used: int) -> Tensor:
    fresh = torch.empty_like(slab)
    fresh[:, used:] = 0
    return fresh
