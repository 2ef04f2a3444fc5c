"""A network of which each rank holds a part, by torch's fully sharded data parallel (FSDP2).

Weights, gradients, moments and masks lie on the ranks in parts; a block of the network is put
together for as long as its forward or backward pass takes. Sources: Zhao et al., VLDB 2023,
arXiv 2304.11277; torch.distributed.fsdp.fully_shard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lth_runner.masking import Masking
from lth_runner.problem.answers import answer, answered_in_pieces
from lth_runner.problem.objective import Objective
from lth_runner.problem.task import Task
from lth_runner.training.engines.distributed.collectives import summed_number
from lth_runner.training.network import recomputing
from lth_runner.training.recipe import Recipe
from lth_runner.values.errors import UserError
from lth_runner.values.raised import first_line
from lth_runner.values.state import named_tensors
from lth_runner.values.tree import Batch


def obstacle(task: Task, masking: Masking, recipe: Recipe) -> str | None:
    """Says what keeps a training from being sharded; None where nothing does."""
    if not getattr(masking, "shards", False):
        return (
            f"{type(masking).__name__} chooses weights while it trains and looks at whole layers, "
            "of which a rank has a part: pruners between trainings, gradual, rigl and set are "
            "sharded"
        )
    if task.laws is not None:
        return "weights that are drawn (coordinates=gaussian) add a loss of whole layers"
    if recipe.precision == "fp16":
        return "train.precision=fp16 scales losses by what one process sees: give bf16 or fp32"
    return None


def network(task: Task, recipe: Recipe) -> nn.Module:
    """Builds a network in the host's memory, from where it goes to the devices part by part."""
    model = replace(task, device="cpu").module()
    for _, value in named_tensors(model):
        value.data = value.data.contiguous()  # torch shards no other
    return recomputing(model) if recipe.recompute else model


def shard(model: nn.Module, device: torch.device | str) -> None:
    """Lays a network out over all ranks, block by block, in place; gradients are summed."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(torch.device(device).type, (dist.get_world_size(),))
    for part in (*blocks(model), model):
        part.register_forward_hook(_without_views)  # before torch's own hook
        made: Any = fully_shard(part, mesh=mesh, reshard_after_forward=True)
        made.set_gradient_divide_factor(1.0)  # losses are shares of the whole batch's already
        made.set_force_sum_reduction_for_comms(True)


@torch.no_grad()
def check_runs(model: nn.Module, batch: Batch) -> None:
    """Raises UserError where a network uses weights of a block while the block is not at work."""
    training = model.training
    try:
        answer(model.eval(), batch[0])
    except (RuntimeError, NotImplementedError) as error:
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
    if isinstance(outputs, Tensor):
        return outputs.clone() if outputs._is_view() else outputs
    if type(outputs) in (tuple, list):
        return type(outputs)(_without_views(module, inputs, one) for one in outputs)
    return outputs


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
        is_list = isinstance(child, nn.ModuleList | nn.ModuleDict)
        if is_listed and own and not is_list and not shared.intersection(own):
            yield child
        else:
            yield from _blocks(child, shared)


@dataclass(frozen=True)
class Scattered:
    """Leaves the gradients as they are: each rank's part comes summed out of the backward pass."""

    def expect(self) -> None:
        """Does nothing."""

    def finish(self) -> None:
        """Does nothing."""

    def remove(self) -> None:
        """Does nothing."""


@dataclass(frozen=True)
class InStep:
    """Measures a rank's batches while all others do theirs.

    The network answers on all ranks at once or on none. So each says before a batch that it has
    one, and who has none left answers for a ``spare`` one, for as long as another has.
    """

    spare: Batch
    device: torch.device | str

    @torch.no_grad()
    def __call__(
        self, model: nn.Module, batches: Iterable[Iterable[Batch]], objective: Objective
    ) -> list[list[Tensor]]:
        def tell(module: nn.Module, inputs: Any) -> None:
            self._num_that_have(1.0)

        # before the network asks the others for their parts of its weights
        hook = model.register_forward_pre_hook(tell, prepend=True)
        try:
            found = answered_in_pieces(model, batches, objective)
        finally:
            hook.remove()
        training = model.training
        model.eval()
        while self._num_that_have(0.0):
            answer(model, self.spare[0])
        model.train(training)
        return found

    def _num_that_have(self, own: float) -> float:
        return summed_number(own, torch.device(self.device))
