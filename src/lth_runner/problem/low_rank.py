"""Low-rank adapters: theta = theta_0 + (alpha / rank) B A, of which B and A alone are trained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lth_runner.problem.coordinates import Laid, freeze, layers_with, stock_name
from lth_runner.problem.covers import TRANSPOSED, Covers, kind_by_name
from lth_runner.values.errors import UserError
from lth_runner.values.listed import listed
from lth_runner.values.mask import Mask
from lth_runner.values.name_patterns import as_names, select
from lth_runner.values.own_class import own_class

LINEAR = ("linear", TRANSPOSED)  # the kinds of layers that have a pair
A, B = ".0.A", ".0.B"  # how the names of a pair's two matrices end


@dataclass(frozen=True)
class LowRank:
    """Trains theta = theta_0 + (alpha / rank) B A, with B = 0 at the start; all else stands still.

    A (rank, in) is drawn from U(-1/sqrt(in), 1/sqrt(in)), kaiming_uniform_ with a = sqrt(5), and B
    is (out, rank). ``targets``: patterns of the layers that have such a pair, linear ones alone
    (transformers' Conv1D is one); None for those of ``covers``. Layers that share a weight share
    its pair. ``whole``: patterns of the parameters that are trained as they are, a new head. A mask
    covers the entries of A and of B.
    Hu et al., ICLR 2022, arXiv 2106.09685; for one start it computes what the library peft does.
    Raises UserError for a rank below 1 or above a target's smaller side, for an alpha that is not
    above 0, for patterns that match nothing or no linear layer, and for a parameter named twice.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: Sequence[str] | None = None
    whole: Sequence[str] = ()
    covers: Covers = field(default_factory=Covers)

    def __post_init__(self) -> None:
        object.__setattr__(self, "whole", as_names(self.whole))
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise UserError(f"coordinates.rank={self.rank!r}: give a whole number, at least 1")
        number = isinstance(self.alpha, (int, float)) and not isinstance(self.alpha, bool)
        if not number or not 0 < self.alpha < math.inf:
            raise UserError(f"coordinates.alpha={self.alpha!r}: give a number above 0")
        if self.targets is None:
            return
        object.__setattr__(self, "targets", tuple(map(str, as_names(self.targets))))
        if not self.targets:
            raise UserError(
                "coordinates.targets is empty: name the layers that have a pair, ['*query'], or "
                "null for those that covers names"
            )
        if self.covers != Covers():
            raise UserError(
                f"coordinates.targets={list(self.targets)} says itself what a mask covers: leave "
                "covers at its default, or coordinates.targets at null"
            )

    @property
    def scale(self) -> float:
        """The factor of B A."""
        return self.alpha / self.rank

    def install(self, module: nn.Module) -> tuple[str, ...]:
        names = [name for name, _ in module.named_parameters()]
        kinds = kind_by_name(module)
        chosen = self._chosen(module, names, kinds)
        whole = select(self.whole, names, "coordinates.whole")
        if both := sorted(chosen & whole):
            raise UserError(
                f"{'coordinates.targets' if self.targets else 'covers'} and coordinates.whole both "
                f"name {both[0]}: a parameter has a pair or is whole: leave it out of one"
            )
        self._check_rank(module, [name for name in names if name in chosen])
        freeze(module, {name for name in names if name not in chosen | whole})
        pairs = [name for name in names if name in chosen]
        for name in pairs:
            self._add_pair(module, name, transposed=kinds[name] == TRANSPOSED)
        return tuple(made for name in pairs for made in pair_names(name))

    def _chosen(
        self, module: nn.Module, names: Sequence[str], kinds: Mapping[str, str]
    ) -> frozenset[str]:
        """Names the weights that have a pair; raises UserError where they are of other layers."""
        if self.targets is None:
            chosen = self.covers.names(module)
            if wrong := [name for name in chosen if kinds.get(name) not in LINEAR]:
                raise UserError(
                    f"covers names {listed(wrong)}, and coordinates=low_rank has pairs for the "
                    "weights of linear layers alone: name those in coordinates.targets"
                )
            if not chosen:
                raise UserError(
                    "coordinates=low_rank: covers names no weight of the model, and so none that "
                    "could have a pair: name linear layers in coordinates.targets"
                )
            return frozenset(chosen)
        found: set[str] = set()
        for pattern in self.targets:
            hits = select([pattern], names, "coordinates.targets")
            linear = {name for name in hits if kinds.get(name) in LINEAR}
            if not linear:
                told = [f"{n} ({kinds.get(n) or 'no matrix of a layer'})" for n in sorted(hits)]
                raise UserError(
                    f"coordinates.targets: {pattern!r} matches no weight of a linear layer but "
                    f"{listed(told)}: name linear layers; one that shares its weight with an "
                    "embedding counts as that"
                )
            found |= linear
        return frozenset(found)

    def _check_rank(self, module: nn.Module, names: Sequence[str]) -> None:
        sides = {name: min(module.get_parameter(name).shape) for name in names}
        least = min(sides, key=lambda name: sides[name])
        if self.rank > sides[least]:
            shape = tuple(module.get_parameter(least).shape)
            raise UserError(
                f"coordinates.rank={self.rank} is above the smaller side of {least}, whose shape "
                f"is {shape}: give at most {sides[least]}, or leave it out of the targets"
            )

    def _add_pair(self, module: nn.Module, name: str, *, transposed: bool) -> None:
        """Lays one pair on a weight, in every layer that shares it."""
        weight = module.get_parameter(name)
        # a zero of the origin's may be -0.0, which no sum with +0.0 is
        base = weight.detach() + 0.0
        pair = Pair(base, self.rank, self.scale, transposed=transposed)
        for layer, leaf in list(layers_with(module, {id(weight)})):
            del layer._parameters[leaf]
            layer.register_buffer(leaf, base, persistent=False)
            own_class(layer)
            parametrize.register_parametrization(layer, leaf, pair)
            # no State holds what is not trained
            getattr(layer.parametrizations, leaf).register_buffer("original", base, False)  # noqa: FBT003


class Pair(Laid):
    """Computes base + scale B A of a weight (out, in), or of (in, out) where it is transposed.

    Of a base in half precision A and B are in single, and so is the sum until it is rounded.
    """

    def __init__(self, base: Tensor, rank: int, scale: float, *, transposed: bool) -> None:
        super().__init__()
        self.scale, self.transposed = scale, transposed
        num_out, num_in = base.shape[::-1] if transposed else base.shape
        self.is_half = base.dtype in (torch.float16, torch.bfloat16)
        kind = torch.float32 if self.is_half else base.dtype
        self.A = nn.Parameter(torch.empty(rank, num_in, dtype=kind, device=base.device))
        self.B = nn.Parameter(torch.zeros(num_out, rank, dtype=kind, device=base.device))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, base: Tensor) -> Tensor:
        change = (self.B @ self.A) * self.scale
        change = change.t() if self.transposed else change
        return (base.float() + change).to(base.dtype) if self.is_half else base + change


def pair_names(name: str) -> tuple[str, str]:
    """Names the two matrices, A and B, of the pair of a stock network's weight."""
    path, _, leaf = name.rpartition(".")
    at = f"{path}.parametrizations.{leaf}" if path else f"parametrizations.{leaf}"
    return at + A, at + B


def is_of_a_pair(name: str) -> bool:
    """Whether a parameter is one of the two matrices of a pair."""
    return "parametrizations." in name and name.endswith((A, B))


def pairs(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Maps each weight that has a pair to the names of A and B, in the order of ``names``."""
    weights = dict.fromkeys(stock_name(name) for name in names if is_of_a_pair(name))
    return {weight: pair_names(weight) for weight in weights}


def stock_mask(module: nn.Module, mask: Mask) -> Mask:
    """Says where the stock network's weights may differ from theta_0 under a mask.

    Of a pair: where any product of a kept entry of B with one of A lands.
    """
    found: dict[str, Tensor] = {}
    for name, kept in mask.items():
        weight = stock_name(name)
        if not is_of_a_pair(name):
            found[weight] = kept
        elif weight not in found:
            a, b = (mask[one].float() for one in pair_names(weight))
            pair = module.get_submodule(name.rpartition(".")[0])
            reached = b @ a > 0
            found[weight] = reached.t().contiguous() if pair.transposed else reached
    return Mask(found)
