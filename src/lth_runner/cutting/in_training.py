"""What stays dead in a masked network however it is trained."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lth_runner.cutting import norms
from lth_runner.cutting.dead import Dead
from lth_runner.cutting.found import Found, Product
from lth_runner.cutting.labels import Shadow
from lth_runner.cutting.plain import plain_copy
from lth_runner.cutting.rules import rule_of
from lth_runner.cutting.shrinking import Shrinking, Shrunk, traced
from lth_runner.cutting.stays import Stays, stays
from lth_runner.cutting.trace import Call, Rule, Trace

SHARES = (1.0, 0.5, 0.1, 0.0)  # of the values of vectors: weight decay takes them towards 0
SPREAD = 0.3  # of what is drawn for vectors
BY_CHANNEL = (norms.batch_norm, norms.group_norm)  # what takes the mean of a channel off it


@dataclass(frozen=True)
class NeverHeard:
    """A smaller network for the trainings of a masked one, whose own values mean nothing.

    ``stays`` maps parameters and buffers to what of them the smaller network has; those that are
    not named it has whole.
    """

    shrunk: Shrunk
    stays: dict[str, Stays]


def shrink_in_training(
    module: nn.Module,
    mask: Mapping[str, Tensor],
    example: Any,
    loss: Callable[[nn.Module], Tensor],
    *,
    settles: Callable[[Tensor], Tensor],
    multiple: int = 1,
    seed: int = 0,
) -> NeverHeard:
    """Cuts out of a network what is dead for as long as its mask stands.

    That is a channel, unit or head all of whose ways out the mask closes, and one that sends 0 and
    always will: the mask closes all ways in, and behind its bias, or the norm's scale and shift, is
    a ReLU that lets neither them nor their gradient through. A constant that could be learned
    stays, which ``shrink`` would move, and so does what a norm makes of a constant that is not 0:
    in training that is as rounding has it. What goes gets no gradient, and what stays the same.

    What is trained has other values later, so that dead is what is so with values drawn by
    ``seed``: all of them but biases, scales and shifts that no gradient comes to, at their own
    value or, as weight decay may have them, between that and 0. ``settles`` says of which values
    that is so by the optimizer, which may go beyond 0, or begin with moments. Of each axis a
    ``multiple`` of places stays, dead ones among them, or all. ``module`` is written to.
    ``loss`` runs it in training mode on a batch. Raises what ``shrink`` raises, and ``loss``.
    """
    values = _Values(module, mask, seed)
    held = _held(values, {name: settles(own) for name, own in values.own.items()}, loss)
    values.draw(1, held, share=1.0, sign=-1.0)
    found = _later(module, example)
    values.draw(0, held, share=1.0)
    work = Shrinking(
        module, {}, example, seed=seed, seen=lambda own: _for_good(own, found),
        spared=partial(_multiples, multiple),
    )  # fmt: skip
    shrunk = work.result()
    chosen = {name: stays(name, slots, work.found, work.dead)
              for name, slots in work.found.axes.items()}  # fmt: skip
    return NeverHeard(shrunk, {name: one for name, one in chosen.items() if one})


def _multiples(multiple: int, found: Found, dead: Dead) -> set[int]:
    """Chooses classes that stay though they are dead, so that each axis has a multiple of places.

    Kernels take as many places at once: on a CPU the batch norm of 9 channels, channels-last, takes
    longer than that of 16.
    """
    spared: set[int] = set()
    for slots in (slots for axes in found.axes.values() for slots in axes if slots is not None):
        classes = [int(each) for each in dead.classes[slots.numpy()]]
        counts = Counter(each for each in classes if dead.gone[each] and each not in spared)
        num = len(classes) - counts.total()
        for each, count in counts.items():
            if num % multiple:
                spared.add(each)
                num += count
    return spared


def _later(module: nn.Module, example: Any) -> Found:
    """Traces a network as it is once running means are 0 where nothing comes in."""
    other = plain_copy(module, {})
    for name, value in other.named_buffers():
        if name.endswith("running_mean"):
            value.zero_()
    found, _ = traced(other, example, _rounding)
    return found


def _for_good(found: Found, other: Found) -> Found:
    """Keeps what either values let through, and leaves constants that are not 0 where they are."""
    pairs = zip(found.products, other.products, strict=True)
    return replace(found, products=[_immovable(*pair) for pair in pairs])


def _immovable(product: Product, other: Product) -> Product:
    none = torch.zeros_like(product.movable)
    return replace(
        product, varies=product.varies | other.varies, nonzero=product.nonzero | other.nonzero,
        movable=none, carried=none, constants=product.constants[:0],
        sent=None if product.sent is None else product.sent[:, :0],
    )  # fmt: skip


def _rounding(op: Any) -> Rule:
    """Finds an operation's rule; of a constant that is not 0, norms make what varies."""
    rule = rule_of(op)
    if rule not in BY_CHANNEL:
        return rule

    def by_channel(trace: Trace, call: Call) -> list[Shadow]:
        value, shadow = call.args["input"], call.shadow("input")
        varying = replace(shadow, varies=shadow.varies | (value != 0))
        return rule(trace, replace(call, shadows={**call.shadows, id(value): varying}))

    return by_channel


def _held(
    values: _Values, held: dict[str, Tensor], loss: Callable[[nn.Module], Tensor]
) -> dict[str, Tensor]:
    """Finds those of the held entries of biases, scales and shifts that no gradient comes to.

    Those with a gradient are drawn from then on, until there is none with any share of the values.
    """
    module = values.module.train()
    statistics = [(value, value.clone()) for value in module.buffers()]
    alike = 0
    for number in itertools.count():
        values.draw(number, held, share=SHARES[number % len(SHARES)])
        module.zero_grad()
        with _layers_asked(module, number) as sums:
            value = loss(module)
        torch.stack([value, *sums]).sum().backward()
        left = {}
        for name, flags in held.items():
            gradient = module.get_parameter(name).grad
            left[name] = flags if gradient is None else flags & (gradient == 0)
        alike = alike + 1 if all(torch.equal(left[name], held[name]) for name in held) else 0
        held = left
        if alike == len(SHARES):
            break
    module.zero_grad()
    for value, before in statistics:
        value.copy_(before)
    return held


def _is_vector(value: Tensor) -> bool:
    """Whether a tensor is a number for each channel, whatever axes of 1 it has beside them."""
    return value.numel() == max(value.shape, default=1)


@contextmanager
def _layers_asked(module: nn.Module, seed: int) -> Iterator[list[Tensor]]:
    """Sums up, with random factors, what each layer with weights is given, and gathers the sums.

    A gradient by them comes to what a layer hears, though by chance its outputs be behind a ReLU
    that lets none of the few samples through.
    """
    generator, sums = torch.Generator().manual_seed(seed), list[Tensor]()

    def ask(layer: nn.Module, args: Any, named: Any) -> None:
        for value in pytree.tree_leaves((args, named)):
            if isinstance(value, Tensor) and value.requires_grad:
                factors = torch.randn(value.shape, generator=generator).to(value)
                sums.append((factors * value).sum())

    layers = [part for part in module.modules()
              if not all(map(_is_vector, part.parameters(recurse=False)))]  # fmt: skip
    handles = [part.register_forward_pre_hook(ask, with_kwargs=True) for part in layers]
    try:
        yield sums
    finally:
        for handle in handles:
            handle.remove()


class _Values:
    """Draws other values for what is trained in a masked network; ``own``: those of vectors."""

    def __init__(self, module: nn.Module, mask: Mapping[str, Tensor], seed: int) -> None:
        self.module, self._mask, self._seed = module, mask, seed
        self._trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.own = {n: p.detach().clone() for n, p in self._trained.items() if _is_vector(p)}

    @torch.no_grad()
    def draw(
        self, number: int, held: Mapping[str, Tensor], *, share: float, sign: float = 1.0
    ) -> None:
        """Writes values: a share of their own where held, 0 where the mask removes, else drawn.

        Matrices and kernels are normal with a variance of 2 over the inputs; vectors have all the
        same sign.
        """
        generator = torch.Generator().manual_seed(self._seed + number)
        for name, value in self._trained.items():
            noise = torch.randn(value.shape, generator=generator).to(value)
            if name in self.own:
                own = self.own[name]
                drawn = sign * (0.5 + noise.abs() * SPREAD)
                value.copy_(torch.where(held[name], share * own, drawn) if name in held else drawn)
            else:
                value.copy_(noise * math.sqrt(2 / max(1, value[0].numel())))
            if name in self._mask:
                value.masked_fill_(~self._mask[name].to(value.device), 0)
