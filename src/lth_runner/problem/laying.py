"""How tensors from elsewhere are written over a network that was drawn, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lth_runner.problem.lying import first_names, lying_in
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.listed import listed
from lth_runner.values.name_patterns import select


@dataclass(frozen=True)
class Laying:
    """Writes what an origin holds; ``called`` is what messages call it.

    ``fresh``: patterns of parameters that stay as they were drawn. ``unused``: patterns of tensors
    that have no place in the network. Raises UserError for tensors that are lacking or are there
    besides, for other shapes and kinds of numbers, and for values that are not finite.
    """

    called: str
    fresh: Sequence[str] = ()
    unused: Sequence[str] = ()

    @torch.no_grad()
    def lay(self, module: nn.Module, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Writes tensors over a network's own, of which one is in memory at a time."""
        own, first = lying_in(module), first_names(module)
        spared = select(self.fresh, own, "origin.fresh")
        held: set[str] = set()
        besides, shapes = [], []
        for name, value in tensors:
            place = first.get(name, name)
            if place in spared:
                continue
            if place not in own:
                besides.append(name)
                continue
            if value.shape != own[place].shape:
                shapes.append((place, tuple(value.shape), tuple(own[place].shape)))
                continue
            self._refuse_values(name, value, own[place])
            if place in held and not torch.equal(own[place], value.to(own[place])):
                raise UserError(
                    f"{self.called}: {name} and another tensor have "
                    f"different values, and the network shares one parameter ({place}) between "
                    "them: leave them apart in the model (model.tied=false for example), or name "
                    "the parameter in origin.fresh"
                )
            own[place].copy_(value)
            held.add(place)
        refuse_shapes(self.called, shapes, len(own))
        self._refuse_besides(besides, own)
        if own and not own.keys() - spared:
            raise UserError(
                f"origin.fresh={list(self.fresh)} leaves nothing of {self.called}: name "
                "fewer parameters, or set origin=none"
            )
        if lacking := sorted(own.keys() - held - spared):
            raise UserError(
                f"{self.called} lacks {listed(lacking)}: name them in origin.fresh to "
                "draw them anew" + self._hint(held)
            )

    def _refuse_values(self, name: str, value: Tensor, own: Tensor) -> None:
        if value.dtype != own.dtype and not (value.is_floating_point() and own.is_floating_point()):
            raise UserError(
                f"{self.called}: {name} is {str(value.dtype).removeprefix('torch.')}, "
                f"the network's is {str(own.dtype).removeprefix('torch.')}: save it as the network "
                "has it"
            )
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise UserError(
                f"{self.called}: {name} has values that are not finite: the training "
                "that it comes from has diverged, so take an earlier checkpoint of it"
            )

    def _refuse_besides(self, besides: Sequence[str], own: Mapping[str, Tensor]) -> None:
        unused = select(self.unused, besides, "origin.unused")
        if left := sorted(set(besides) - unused):
            raise UserError(
                f"{self.called} has {listed(left)}, which the network has not: "
                f"{nearest(left[0], own)}. Name them in origin.unused to leave them out, or set "
                "origin.under or origin.into where only their prefix differs"
            )

    def _hint(self, held: set[str]) -> str:
        return "" if held else " (nothing in it fits: set origin.under or origin.into?)"


def refuse_shapes(
    called: str, found: Sequence[tuple[str, Sequence[int], Sequence[int]]], num: int
) -> None:
    """Raises UserError for tensors of other shapes: of one layer, a head, or of the whole network.

    ``found``: name, the shape that is given and the network's; ``num``: how many tensors it has.
    """
    if not found:
        return
    name, given, own = found[0]
    layers = {each.rpartition(".")[0] for each, *_ in found}
    if len(layers) == 1:
        (layer,) = layers
        raise UserError(
            f"{called}: {name} has shape {tuple(given)}, the network's has {tuple(own)}: to draw "
            f"the layer anew name it in origin.fresh (origin.fresh=[{layer or name}])"
        )
    raise UserError(
        f"{called} is of another network: {len(found)} of its {num} tensors, in {len(layers)} "
        f"layers, have other shapes, as {name} with {tuple(given)} where this one has "
        f"{tuple(own)}. Set model and dataset as its own training had them"
    )
