"""Layers of Gaussian weights of several networks in one, each with its own step's noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lth_runner.problem.gaussian import Gaussian
from lth_runner.problem.gaussian_law import drawn
from lth_runner.problem.gaussian_layers import Spread, is_drawn
from lth_runner.problem.task import Task
from lth_runner.training.engines.packed_layers import Linear, new_slab, pack_networks


class Noise:
    """The streams that the lanes draw from, in the order of their layers, as each does alone.

    ``prior_std``: of the prior that the layers' divergences are from.
    """

    def __init__(self, num: int, prior_std: float = 1.0) -> None:
        self.prior_std = prior_std
        self._streams = [torch.Generator() for _ in range(num)]

    def seed(self, seeds: Sequence[int]) -> None:
        """Begins a step of all lanes."""
        for stream, seed in zip(self._streams, seeds, strict=True):
            stream.manual_seed(seed)

    def like(self, outputs: Tensor) -> Tensor:
        """Draws N(0, 1) of the shape [replicates, samples, features], lane by lane."""
        drawn = torch.empty_like(outputs)
        for stream, own in zip(self._streams, drawn, strict=True):
            own.normal_(generator=stream)
        return drawn


def pack_gaussians(modules: Sequence[nn.Module], noise: Noise) -> nn.Module:
    """Makes one network of several with layers of Gaussian weights, which draw by ``noise``."""

    def pack(layer: nn.Linear, num: int) -> nn.Module:
        return GaussianLinear(layer, num, noise) if is_drawn(layer) else Linear(layer, num)

    return pack_networks(modules, pack)


class GaussianLinear(nn.Module):
    """Draws y[r] from N(x[r] mu[r]^T + b[r], x[r]^2 (sigma[r]^2)^T).

    Its parameters have the names that they have in a single network.
    """

    def __init__(self, like: nn.Linear, num: int, noise: Noise) -> None:
        super().__init__()
        own: Any = like.parametrizations
        spread: Spread = own.weight[0]
        self._shape = like.out_features, like.in_features
        self._noise = noise
        self._divergence: Tensor | None = None
        self._room: Tensor | None = None  # a fresh one of this size is a page fault a page
        self.bias = None if like.bias is None else new_slab(like.bias, num)
        held = nn.Module()
        held.original = new_slab(own.weight.original, num)
        held.add_module("0", _packed(spread, num))
        self.parametrizations = nn.ModuleDict({"weight": held})

    @property
    def mu(self) -> Tensor:
        """The means of all networks; zeros where they are pruned, and in the padding."""
        found: Tensor = self.parametrizations["weight"].original  # type: ignore[assignment]
        return found

    @property
    def spread(self) -> Spread:
        """What tells how wide they are."""
        found = self.parametrizations["weight"].get_submodule("0")
        assert isinstance(found, Spread)
        return found

    def forward(self, inputs: Tensor) -> Tensor:
        if self._room is None:
            self._room = torch.empty_like(self.mu)
        law = self.spread.law(self.mu, self._noise.prior_std, self._room)
        mu, variances, self._divergence = law
        mean = Linear.products(inputs, mu, self.bias, self._shape)
        with torch.autocast(inputs.device.type, enabled=False):
            squares = inputs.to(mu).square()
            variance = Linear.products(squares, variances, None, self._shape)
            return drawn(mean, variance, self._noise.like(variance))

    def divergence(self) -> Tensor:
        """Gives a zero with the gradient of all networks' divergence in the last pass."""
        found, self._divergence = self._divergence, None
        assert found is not None  # the penalty follows the pass
        return found


def _packed(like: Spread, num: int) -> Spread:
    """Makes the spread of the weights of ``num`` networks."""
    made = Spread(new_slab(like.rho, num), float(like.start), "")
    made.requires_grad_(requires_grad=like.rho.requires_grad)
    return made


def divergences(network: nn.Module) -> Tensor:
    """Gives a zero with the gradient of all layers' divergences, of the pass before."""
    layers = [part for part in network.modules() if isinstance(part, GaussianLinear)]
    return torch.stack([one.divergence() for one in layers]).sum()


def gaussian_obstacle(task: Task) -> str | None:
    """Says why a network of Gaussian weights cannot be packed; None where it can."""
    laws = task.laws
    if type(laws) is not Gaussian:
        return f"{type(laws).__name__} has weights of other laws"
    if not laws.local_reparameterisation:
        return "its weights are drawn, and not its outputs (coordinates.local_reparameterisation)"
    if laws.num_samples > 1:
        return "a step has several draws (coordinates.num_samples)"
    if torch.device(task.device).type != "cpu":
        return "the draws of its lanes are those of a CPU"
    return None
