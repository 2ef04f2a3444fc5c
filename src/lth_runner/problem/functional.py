"""A network as a function of its weights: f(x; theta), whatever the module itself holds."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lth_runner.problem.norm_layers import is_norm
from lth_runner.problem.places import places
from lth_runner.values import state as states
from lth_runner.values.state import State
from lth_runner.values.tree import Tree


class Functional:
    """f(x; theta) by a network that is put into evaluation and keeps its own tensors.

    ``norm`` names the scales, shifts and running statistics of the normalisation layers.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network, self._places = network, places(network)
        self.norm = frozenset(
            f"{path}.{name}" if path else name
            for path, module in network.named_modules()
            if is_norm(module)
            for name, _ in states.named_tensors(module)
        )

    def __call__(self, weights: State, inputs: Tree, *, batch_statistics: bool) -> Tensor:
        """Computes the network's outputs; raises KeyError for weights without a place in it."""
        network = self._network.eval()  # no dropout: a score is a function of the weights
        for module in network.modules():
            if is_norm(module):
                module.train(batch_statistics)
        # functional_call writes updated running statistics into the tensors it is given
        own = {
            n: w.clone() if batch_statistics and n in self.norm else w for n, w in weights.items()
        }
        aside = {n: b for n, b in network.named_buffers() if n not in own}
        if any(w.dtype == torch.float64 for w in own.values()):  # constants go with the weights
            aside = {n: b.double() if b.is_floating_point() else b for n, b in aside.items()}
        positional = (inputs,) if isinstance(inputs, Tensor) else ()
        named = dict(inputs) if isinstance(inputs, Mapping) else None
        values = aside | own
        if unknown := values.keys() - set(self._places.values()):
            raise KeyError(f"the network has no tensors {sorted(unknown)}")
        given = {place: values[name] for place, name in self._places.items()}
        # each place by itself: with a module of two names torch leaves ours in the network
        found: Tensor = functional_call(
            network, given, positional, named, tie_weights=False, strict=False
        )
        return found
