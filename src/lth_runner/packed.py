"""Several networks trained as one: each layer's products of all of them in one batched product."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.optim import Optimizer

from lth_runner import identity
from lth_runner import state as states
from lth_runner.engine import Together
from lth_runner.loop import RANDOM, Loop, autocast
from lth_runner.masking import Masking
from lth_runner.stacked import slice_of, stack
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
    names = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    if len(names) > len(list(module.parameters())):
        return "two of its layers share a tensor"
    return None if _agrees(task) else "its forward pass does not take a leading axis"


@torch.no_grad()
def _agrees(task: Task) -> bool:
    """Whether the packed network answers what its parts do: a forward of one's own may not."""
    modules = [task.module(), task.module()]
    for seed, module in enumerate(modules):  # other weights in each: a mix-up must show
        states.write(module, task.init(seed))
    inputs = torch.stack([task.data.sample(1, seed)[0] for seed in (0, 1)])
    try:
        together = stack(modules)(inputs)
    except Exception:  # whatever a user's own forward raises where it meets another shape
        return False
    apart = torch.stack([module(x) for module, x in zip(modules, inputs, strict=True)])
    return together.shape == apart.shape and torch.allclose(together, apart, rtol=1e-4, atol=1e-5)


def lanes_that_fit(task: Task, recipe: Recipe, free: float) -> int:
    """How many trainings fit into ``free`` bytes, from 1 to ``max_packed``.

    Each takes weights, gradients, two moments and a mask, and the activations of a batch; all
    together those of an evaluation.
    """
    num_weights = sum(p.numel() for p in task.module().parameters())
    num_units = sum(kept.shape[0] for kept in task.dense().values())
    inputs = torch.Size(task.data.shape).numel()
    lane = 4 * (6 * num_weights + recipe.batch_size * (inputs + 3 * num_units))
    evaluation = 4 * 2000 * (inputs + 2 * num_units)
    return max(1, int(min(recipe.max_packed, (free - evaluation) / lane)))


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
            kept = [lane.optimizer.state.get(v) for lane, v in self._by_lane(views)]
            found = [state for state in kept if state]
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
                    key: slice_of(value, index, view)
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
                    view.grad = slice_of(slab.grad, index, view)

    def update(self) -> None:
        """One step of the optimizer and of every lane's mask; the clocks move on."""
        for lane in self.lanes:
            lane.prepare()
        own = self.lanes[0].optimizer.param_groups
        for group, first in zip(self._optimizer.param_groups, own, strict=True):
            group["lr"] = first["lr"]
        num_before = len(self._optimizer.state)
        self._optimizer.step()
        if len(self._optimizer.state) > num_before:
            self._share(self._optimizer)
        for lane in self.lanes:
            lane.conclude()


def _padded(values: Sequence[Tensor], slab: Tensor) -> Tensor:
    joined = torch.zeros_like(slab)
    for index, value in enumerate(values):
        slice_of(joined, index, value).copy_(value)
    return joined
