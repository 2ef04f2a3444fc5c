"""SparseGPT prunes layer after layer and moves the weights that stay, by what layers are given."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from lth_runner.allocate import Allocate, Blocks, Channels, NOfM, Rows
from lth_runner.problem.task import Task
from lth_runner.score import Random, derivatives
from lth_runner.score.checks import check_whole_number
from lth_runner.score.examples import check_draw, draw_batches
from lth_runner.score.input_norms import unpadded_parts
from lth_runner.search.solution import Solution
from lth_runner.search.sparsegpt.columns import (
    BestOfBlock,
    BestOfGroup,
    Choose,
    SingularError,
    prune,
)
from lth_runner.search.sparsegpt.layers import KINDS, Layer
from lth_runner.search.sparsegpt.walk import Part, UncalledError, Walk
from lth_runner.values import state as states
from lth_runner.values import tree
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.name_patterns import select
from lth_runner.values.seeds import derive
from lth_runner.values.state import State
from lth_runner.values.tree import Tree

KEY = "pruner.search.solve"
SCOPES = {Rows: "rows", Channels: "channels", Blocks: "blocks"}  # patterns that it cannot hold
INSTEAD = (
    "name it in pruner.exclude, leave it out of covers, or choose another pruner (pruner=wanda, "
    "magnitude_at_init)"
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SparseGPT:
    """Prunes each layer by its inputs and moves what stays of it, so that it answers as it did.

    X are a layer's inputs at ``num_batches`` seeded batches of training samples, over all samples
    and positions, padding left out: those of a network whose layers before it are pruned, a
    transformer's block at a time. With H = X^T X + d I, d ``damping`` times the mean of its
    diagonal, columns are gone through from the first; of each ``block`` of columns the weights stay
    for which w^2 / [H^-1]_cc is largest, H without the columns before c, and what a removal does to
    the answers is made up for in the columns after it. ``allocate`` says how many weights of each
    layer stay, given magnitudes; of N:M those of a group are chosen when it is reached. Inputs that
    are always 0 cost nothing: their weights go first, and keep their values where they stay.
    Linear layers, transformers' Conv1D, and convolutions without groups. Raises UserError for
    other layers, biases, and budgets of rows, channels and blocks.
    Frantar & Alistarh, ICML 2023, arXiv 2301.00774.
    """

    allocate: Allocate
    num_batches: int = 1
    batch_size: int = 128
    damping: float = 0.01
    block: int = 128
    exclude: Sequence[str] = ()
    reads: ClassVar[Collection[str]] = ("pixels",)

    def __post_init__(self) -> None:
        numbers = {"num_batches": self.num_batches, "batch_size": self.batch_size}
        check_whole_number(1, under=KEY, **numbers, block=self.block)
        if isinstance(self.damping, bool) or not 0 <= self.damping < math.inf:
            raise UserError(f"{KEY}.damping={self.damping!r} must be a number of at least 0")

    def check(self, task: Task, density: float) -> None:
        """Raises UserError for layers and budgets that it cannot serve, and for too few samples.

        The network is run on two samples for it, with weights as they happen to be drawn.
        """
        for kind, scope in SCOPES.items():
            if isinstance(self.allocate, kind):
                raise UserError(
                    f"pruner.scope={scope}: SparseGPT chooses by blocks of columns, and cannot "
                    "keep that pattern: set pruner.scope to layerwise, n_of_m or another of those "
                    "that count weights"
                )
        if isinstance(self.allocate, NOfM) and self.block % self.allocate.group:
            raise UserError(
                f"{KEY}.block={self.block} cuts groups of {self.allocate.group} columns: give a "
                "multiple of pruner.budgets.n_of_m.group"
            )
        if task.biases or task.coordinates is not None:
            what = (
                "pruner.biases=true" if task.biases
                else f"coordinates ({type(task.coordinates).__name__})"
            )  # fmt: skip
            raise UserError(
                f"{what}: SparseGPT gives layers new weights by their inputs, and knows no other "
                "numbers: leave it out, or choose another pruner (pruner=magnitude_at_init)"
            )
        check_draw(task, self.num_batches, self.batch_size, batch_statistics=False, key=KEY)
        self.allocate(Random()(task, {}, task.dense()), density, task.dense(), 0)
        network = task.module().eval()
        self._walk(task, network, self._layers(task, network))

    def __call__(self, task: Task, weights: State, density: float) -> Solution:
        """Prunes a network to a density; the solution has the tensors that a mask covers."""
        home = derivatives.on_device_with_float64(task)
        network = home.module().eval()
        states.write(network, weights)
        num_kept = self._num_kept(task, weights, density)
        layers = [one for one in self._layers(task, network) if one.name in num_kept]
        kept = dict(task.dense())

        def change(layer: Layer, gram: Tensor | None) -> None:
            seed = derive(task.seed, "search", "sparsegpt", layer.name)
            kept[layer.name] = self._pruned(layer, gram, num_kept[layer.name], seed).cpu()

        if layers:
            self._walk(home, network, layers)(self._parts(home), change)
        found = states.read(network)
        return Solution(Mask(kept), {name: found[name].to(weights[name]) for name in kept})

    def _num_kept(self, task: Task, weights: State, density: float) -> dict[str, int]:
        """Counts what stays of each layer that loses weights; of N:M, what stays of a group."""
        budget, dense = self.allocate, task.dense()
        if isinstance(budget, NOfM):
            num = budget.num_kept(density)
            return dict.fromkeys(budget.layers(dense), num) if num < budget.group else {}
        sizes = {name: weights[name].detach().cpu().abs() for name in dense}
        mask = budget(sizes, density, dense, derive(task.seed, "search", 1))
        return {name: int(kept.sum()) for name, kept in mask.items() if not bool(kept.all())}

    def _pruned(self, layer: Layer, gram: Tensor | None, num_kept: int, seed: int) -> Tensor:
        """Prunes a layer where it stands; returns what is kept of its weight."""
        matrix = layer.matrix(layer.weight)
        columns, choose = matrix.shape[1], self._choice(matrix.shape[1], num_kept, seed)
        if gram is None:
            log.warning("warning: no sample met %s: its magnitudes decide", layer.name)
            gram = matrix.new_zeros((columns, columns), dtype=torch.float64)
        try:
            found, kept = prune(matrix, gram, choose, block=self.block, damping=self.damping)
        except SingularError as error:
            raise UserError(
                f"{KEY}.damping={self.damping}: the inputs of {layer.name} depend on each other "
                "too much for their products to be inverted: raise it, or take more samples "
                f"({KEY}.num_batches)"
            ) from error
        layer.weight.copy_(layer.shaped(found))
        return layer.shaped(kept)

    def _choice(self, columns: int, num_kept: int, seed: int) -> Choose:
        if isinstance(self.allocate, NOfM):
            return BestOfGroup(num_kept, self.allocate.group, seed)
        return BestOfBlock(num_kept, columns, self.block, seed)

    def _parts(self, task: Task) -> list[Part]:
        """Draws the samples, in parts that are run at once."""
        batches = draw_batches(task, self.num_batches, self.batch_size)
        return [
            part for inputs, _ in batches for part in unpadded_parts(self._placed(task, inputs))
        ]

    def _walk(self, task: Task, network: nn.Module, layers: Sequence[Layer]) -> Walk:
        """Finds the way through a network; raises UserError for a layer that it does not call."""
        few, _ = task.data.sample(min(2, task.data.num_train), 0)
        try:
            return Walk.through(network, layers, self._placed(task, few))
        except UncalledError as error:
            raise UserError(
                f"{KEY}: SparseGPT goes by what a layer is called with, but the network uses "
                f"{error.name} without calling its layer: {INSTEAD}"
            ) from error

    def _placed(self, task: Task, inputs: Tree) -> Tree:
        return tree.each(lambda value: value.to(task.device), inputs)

    def _layers(self, task: Task, network: nn.Module) -> list[Layer]:
        """Finds the layers of all covered weights but excluded ones; refuses others by name."""
        spared = select(self.exclude, task.prunable, "pruner.exclude")
        return [_layer(task, network, name) for name in task.prunable if name not in spared]


def _layer(task: Task, network: nn.Module, name: str) -> Layer:
    """Finds the layer of a weight; raises UserError for one of which it cannot be told."""
    kind = task.kind(name)
    module = network.get_submodule(name.rpartition(".")[0])
    weight = network.get_parameter(name)
    owners = [m for m in network.modules() if any(p is weight for p in m._parameters.values())]
    grouped = isinstance(module, _ConvNd) and module.groups > 1
    if kind in KINDS and not grouped and len(owners) == 1:
        return Layer(name, module, kind)
    said = f"is of the kind {kind}" if kind else "is no known layer's"
    if kind in KINDS:
        said = "is a convolution in groups" if grouped else "is that of several layers"
    raise UserError(
        f"{KEY}: SparseGPT solves linear layers and convolutions, but {name} {said}: {INSTEAD}"
    )
