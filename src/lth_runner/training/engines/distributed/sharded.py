"""A network of which each rank holds a part, by torch's fully sharded data parallel (FSDP2).

Weights, gradients, moments and masks lie on the ranks in parts; a block of the network is put
together for as long as its forward or backward pass takes. Sources: Zhao et al., VLDB 2023,
arXiv 2304.11277; torch.distributed.fsdp.fully_shard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from lth_runner.problem.answers import Tally, answer
from lth_runner.problem.objective import Objective
from lth_runner.problem.task import Task
from lth_runner.training.engines.distributed.collectives import severed, summed_number
from lth_runner.training.network import recomputing
from lth_runner.training.recipe import Recipe
from lth_runner.values.errors import UserError
from lth_runner.values.raised import first_line
from lth_runner.values.ranks import Rank
from lth_runner.values.state import State, named_tensors, write
from lth_runner.values.tree import Batch

# never called themselves, but what is in them
LISTS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def network(task: Task, recipe: Recipe) -> nn.Module:
    """Builds a network in the host's memory, from where it goes to the devices part by part.

    Raises UserError for hooks on parameters, of which each rank has a part in their stead.
    """
    model = replace(task, device="cpu").module()
    for name, parameter in model.named_parameters():
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
            raise UserError(
                f"train.engine=sharded: the model has a hook on its parameter {name}, where a rank "
                "has a part of it: leave the hook out, or set train.engine=distributed"
            )
    for _, value in named_tensors(model):
        value.data = value.data.contiguous()  # torch shards no other
    return recomputing(model) if recipe.recompute else model


@dataclass(frozen=True)
class OverRanks:
    """Lays a network out over all ranks; what rank 0 has goes to the others tensor by tensor."""

    rank: Rank
    device: torch.device | str

    @torch.no_grad()
    def lay(self, model: nn.Module, weights: State) -> None:
        """Writes rank 0's weights into the networks of all ranks, and shards them."""
        if self.rank.is_first:
            write(model, weights)
        for _, value in named_tensors(model):
            value.copy_(self._sent(value.detach()))
        shard(model, self.device)

    def sent(self, state: State) -> Iterator[tuple[str, Tensor]]:
        """Gives all ranks the tensors of rank 0's state, on the CPU."""
        for name, value in state.items():
            room = value if self.rank.is_first else torch.empty_like(value, device="cpu")
            yield name, self._sent(room).cpu()

    def _sent(self, value: Tensor) -> Tensor:
        placed = value.to(self.device).contiguous()
        if placed.numel():
            with severed():  # as bytes: gloo and NCCL do not know all types
                dist.broadcast(placed.view(-1).view(torch.uint8), 0)
        return placed


def shard(model: nn.Module, device: torch.device | str) -> None:
    """Lays a network out over all ranks, block by block, in place; gradients are summed."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(torch.device(device).type, (dist.get_world_size(),))
    for part in (*blocks(model), model):
        part.register_forward_hook(_without_views)  # before torch's own hook
        kind = type(part)
        made: Any = fully_shard(part, mesh=mesh, reshard_after_forward=True)
        type(part).__module__ = kind.__module__  # norms of a user's own are known by theirs
        made.set_gradient_divide_factor(1.0)  # losses are shares of the whole batch's already
        made.set_force_sum_reduction_for_comms(True)


@torch.no_grad()
def check_runs(model: nn.Module, batch: Batch) -> None:
    """Raises UserError where a network uses weights of a block while the block is not at work."""
    training = model.training
    try:
        answer(model.eval(), batch[0])
    except RuntimeError as error:
        if "DTensor" not in str(error):
            raise
        raise UserError(
            "train.engine=sharded: the model uses a weight outside of the forward of the block "
            "that holds it, where a rank has a part of it only "
            f"({first_line(error)}). Blocks are the elements of its ModuleLists and Sequentials: "
            "call them, or set train.engine=distributed"
        ) from error
    model.train(training)


def _without_views(module: nn.Module, inputs: Any, outputs: Any) -> Any:
    """Copies what is a view: an in-place operation on it would lose torch's hook unheard.

    The hook puts a block's weights together for its backward pass, which else has wrong gradients.
    """
    return tree_map_only(Tensor, lambda one: one.clone() if one._is_view() else one, outputs)


def blocks(model: nn.Module) -> list[nn.Module]:
    """Finds the parts of a network to be put together one at a time: of lists and sequences.

    The outermost with parameters of their own: one that shares a parameter, as a head does with an
    embedding, is left to the whole.
    """
    uses = Counter(
        id(parameter)
        for module in model.modules()
        for parameter in module._parameters.values()
        if parameter is not None
    )
    return list(_blocks(model, {one for one, num in uses.items() if num > 1}))


def _blocks(module: nn.Module, shared: set[int]) -> Iterator[nn.Module]:
    for child in module.children():
        own = [id(parameter) for parameter in child.parameters()]
        is_listed = isinstance(module, nn.ModuleList | nn.Sequential)
        if is_listed and own and not isinstance(child, LISTS) and not shared.intersection(own):
            yield child
        else:
            yield from _blocks(child, shared)


class Scattered:
    """Leaves the gradients as they are: each rank's part comes summed out of the backward pass.

    Ranks that go through other blocks, or come to gradients of other weights, would send each
    other parts of what the others do not ask for. So each hashes its ``way``.
    """

    def __init__(self, model: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self.way = 0
        self._handles = [
            part.register_forward_pre_hook(self._noting(number))
            for number, part in enumerate(blocks(model))
        ]

    def _noting(self, number: int) -> Callable[[nn.Module, Any], None]:
        def note(part: nn.Module, inputs: Any) -> None:
            if part.training:
                self._note(number)

        return note

    def _note(self, what: object) -> None:
        self.way = crc32(repr(what).encode(), self.way)

    def expect(self) -> None:
        """Does nothing."""

    def finish(self) -> None:
        """Notes of which weights there are gradients."""
        self._note([parameter.grad is not None for parameter in self._parameters])

    def remove(self) -> None:
        """Takes its hooks off the network."""
        for handle in self._handles:
            handle.remove()


@dataclass(frozen=True)
class InStep:
    """Measures a rank's batches while all others do theirs.

    The network answers on all ranks at once or on none. So each says before a batch that it has
    one, and who has none left answers for a ``spare`` one, for as long as another has. A batch that
    does not fit into memory is an error: halves of it would be others than those awaited.
    """

    spare: Batch
    device: torch.device | str

    @torch.no_grad()
    def __call__(
        self, model: nn.Module, batches: Iterable[Iterable[Batch]], objective: Objective
    ) -> list[list[Tensor]]:
        training, found = model.training, []
        model.eval()
        for parts in batches:
            tally = Tally(objective)
            for inputs, targets in parts:
                self._num_that_have(1.0)
                tally.add(answer(model, inputs).float(), targets)
            found.append(tally.pieces)
        while self._num_that_have(0.0):
            answer(model, self.spare[0])
        model.train(training)
        return found

    def _num_that_have(self, own: float) -> float:
        return summed_number(own, torch.device(self.device))
