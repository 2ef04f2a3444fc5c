"""Cutting dead channels, units and heads out of a network."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.weight_norm import WeightNorm

from lth_runner.export.shrink.answers import (
    Answers,
    ask,
    call,
    difference,
    plain_attention,
    random_like,
    tensors,
)
from lth_runner.export.shrink.cut import cut, tell_heads
from lth_runner.export.shrink.dead import Dead, find_dead, producers
from lth_runner.export.shrink.double import Exact
from lth_runner.export.shrink.rules import rule_of
from lth_runner.export.shrink.trace import Found, Trace
from lth_runner.values.errors import UserError, nearest

# which whole numbers of modules of one's own are tried to change with what they split, in turn
TELLINGS = (("counts", "whole"), ("counts",), ("counts", "sizes"), ())


@dataclass(frozen=True)
class Shrunk:
    """A network without its dead parts.

    ``widths``: layer -> outputs before and after, where they differ, and ``<module>.<number>`` for
    a number of heads or the like. ``num_parameters`` before and after. ``blocked``: layer -> why
    some of its dead outputs stay.
    """

    module: nn.Module
    widths: dict[str, tuple[int, int]]
    num_parameters: tuple[int, int]
    blocked: dict[str, str]


def shrink(module: nn.Module, mask: Mapping[str, Tensor], example: Any, *, seed: int = 0) -> Shrunk:
    """Cuts out of a masked network what is dead, and checks that it answers as before.

    Dead is a channel, unit or head that nobody hears, all weights that lead out of it being 0, and
    one that sends a constant, all weights that lead into it (or a norm's scale) being 0. What a
    constant sends moves into the next bias where that is the same everywhere. A convolution with
    zero padding sends less at the borders: there one of the constants stays, and its weights grow
    by those of the others, so that it sends what all have sent. Residual connections, batch norm,
    grouped and depthwise convolutions, concatenations, flattening, pixel shuffles and attention
    are followed. What LayerNorm or another mean is taken over stays, as do one unit of each layer
    and the heads of nn.MultiheadAttention, whose size is fixed.

    ``mask``: bool tensors by parameter name. ``example``: inputs as the network is called, a
    tensor, a tuple of them or a mapping of them by name; a batch of two will do. Networks are
    compared in evaluation: a network that is in training has other constants. The given module is
    not changed. The new one is a plain module of its kind, without hooks and parametrisations, in
    training or evaluation as that was; where a layer without bias takes up a constant, it has one.

    The answers to the example and to random inputs must agree to 1e-9 in float64, and to 1e-5 of
    the largest in the network's own precision (or to eight times the masked network's own error of
    rounding, where that is more). A part that does not stand this test, because a module of one's
    own counts on its size, stays whole and is named in ``blocked``.

    One run in float64 finds what goes together, by labels that pass through each operation of ATen
    as the values do. Torch-Pruning's dependency graph (Fang et al., CVPR 2023, arXiv:2301.12900)
    groups layers too, and finds the same groups in plain networks; but it knows no constants, which
    must move here, nor which inputs a layer hears, and it takes the reshapes of attention for
    elementwise operations.

    Raises UserError for a mask that does not fit, for a network that answers at random, and for
    answers that differ although every part passes alone.
    """
    return _Shrinking(module, mask, example, seed).result()


class _Shrinking:
    def __init__(
        self, module: nn.Module, mask: Mapping[str, Tensor], example: Any, seed: int
    ) -> None:
        check_mask(module, mask)
        self._module, self._mask = module, mask
        self._inputs = [example, random_like(example, seed)]

    def result(self) -> Shrunk:
        masked = plain_copy(self._module, self._mask)
        self._before = _widths(masked), _num_parameters(masked)
        self._expected = [ask(masked, inputs, {}) for inputs in self._inputs]
        self._found = self._traced(masked)
        dead = find_dead(self._found)
        shrunk, failure = self._attempt(masked, dead)
        blocked: dict[str, str] = {}
        if shrunk is None:
            del masked
            blocked, dead = self._without_failures(dead)
            shrunk, failure = self._attempt(plain_copy(self._module, self._mask), dead)
        if shrunk is None:
            names = ", ".join(sorted(_layers(self._found, dead.gone, dead))) or "nothing cut"
            raise UserError(
                f"the network cannot be shrunk: {failure} when {names} are cut together; export "
                "it as a checkpoint, or leave these layers out of the mask"
            )
        return self._told(shrunk, dead, blocked)

    def _traced(self, masked: nn.Module) -> Found:
        trace = Trace(masked, rule_of)
        with plain_attention(), trace.watching(tensors(self._inputs[0])):
            answers = tensors(call(masked, self._inputs[0]))
        trace.answered(answers)
        if difference(self._expected[0], Answers(self._expected[0].own, answers)):
            raise UserError(
                "the network cannot be shrunk: in evaluation it answers the same input differently "
                "each time, so nothing can be compared; switch off what is random in it"
            )
        return trace.found

    def _attempt(self, masked: nn.Module, dead: Dead) -> tuple[nn.Module | None, str]:
        """Cuts a masked network and compares it; returns None and why where it fails."""
        exact = cut(masked, self._found, dead)
        failure = ""
        for told in TELLINGS:
            self._heads = tell_heads(masked, self._found, dead, told)
            failure = self._failure(masked, exact)
            if not failure or not self._heads:
                break
            for full, (before, _) in self._heads.items():
                path, _, leaf = full.rpartition(".")
                setattr(masked.get_submodule(path), leaf, before)
        return (None, failure) if failure else (masked, "")

    def _failure(self, module: nn.Module, exact: Mapping[str, Exact]) -> str:
        for inputs, expected in zip(self._inputs, self._expected, strict=True):
            try:
                given = ask(module, inputs, exact)
            except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
                return f"the smaller network fails ({str(error).splitlines()[0]})"
            if differs := difference(expected, given):
                return differs
        return ""

    def _without_failures(self, dead: Dead) -> tuple[dict[str, str], Dead]:
        """Tries each part that goes together by itself, and leaves whole what fails."""
        blocked: dict[str, str] = {}
        spared: set[int] = set()
        parts = list(_parts(self._found, dead))
        for part in parts:
            others = {each for other in parts if other is not part for each in other}
            alone = find_dead(self._found, others)
            _, failure = self._attempt(plain_copy(self._module, self._mask), alone)
            if failure:
                spared |= part
                for layer in _layers(self._found, list(part), dead):
                    blocked[layer] = failure
        return blocked, find_dead(self._found, spared)

    def _told(self, shrunk: nn.Module, dead: Dead, blocked: dict[str, str]) -> Shrunk:
        (old, num), new = self._before, _widths(shrunk)
        widths = {name: (old[name], new[name]) for name in old if old[name] != new[name]}
        training = {name: part.training for name, part in self._module.named_modules()}
        for name, part in shrunk.named_modules():
            part.training = training[name]
        return Shrunk(shrunk, widths | self._heads, (num, _num_parameters(shrunk)),
                      _reasons(self._found, dead) | blocked)  # fmt: skip


def check_mask(module: nn.Module, mask: Mapping[str, Tensor]) -> None:
    """Raises UserError for a mask that names no parameter, or has another shape."""
    known = dict(module.named_parameters())
    for name in mask:
        if name not in known:
            raise UserError(f"the mask names {name}, which the network lacks: "
                            f"{nearest(name, known)}")  # fmt: skip
        if mask[name].shape != known[name].shape:
            raise UserError(
                f"the mask of {name} has shape {tuple(mask[name].shape)}, but the network has "
                f"{tuple(known[name].shape)}: give a mask of this network"
            )


@torch.no_grad()
def plain_copy(module: nn.Module, mask: Mapping[str, Tensor]) -> nn.Module:
    """Copies a network under its mask, in evaluation, without parametrisations and hooks."""
    copied = copy.deepcopy(module).eval()
    for name, parameter in copied.named_parameters():
        if name in mask:
            parameter.masked_fill_(~mask[name].to(parameter.device), 0)
    for part in copied.modules():
        for leaf in list(getattr(part, "parametrizations", {})):
            with torch.enable_grad():  # what is left is to be trained as its originals were
                parametrize.remove_parametrizations(part, leaf)
        for hook in list(part._forward_pre_hooks.values()):
            if isinstance(hook, prune.BasePruningMethod):
                prune.remove(part, hook._tensor_name)
            elif isinstance(hook, WeightNorm):
                nn.utils.remove_weight_norm(part, hook.name)
        for hooks in (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks):
            hooks.clear()
    return copied


def _num_parameters(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def _widths(module: nn.Module) -> dict[str, int]:
    """Reads the number of outputs of each layer that has weights for them."""
    found = {}
    for name, part in module.named_modules():
        for attribute in ("out_features", "out_channels"):
            if isinstance(getattr(part, attribute, None), int):
                found[name] = getattr(part, attribute)
    return found


def _parts(found: Found, dead: Dead) -> Iterator[set[int]]:
    """Groups the classes that go by the axes that they lie on."""
    waiting = [
        {int(each) for each in dead.classes[slots.numpy()] if dead.gone[each]}
        for own in found.axes.values()
        for slots in own
        if slots is not None
    ]
    parts: list[set[int]] = []
    for classes in filter(None, waiting):
        for part in [part for part in parts if part & classes]:
            classes |= part
            parts.remove(part)
        parts.append(classes)
    yield from parts


def _layers(found: Found, classes: Any, dead: Dead) -> set[str]:
    """Names the layers that have some of these classes (a list, or flags) among their outputs."""
    wanted = torch.zeros(len(dead.gone), dtype=torch.bool)
    wanted[torch.as_tensor(classes)] = True
    return {
        layer
        for layer, slots in producers(found)
        if bool(wanted[torch.from_numpy(dead.classes[slots.numpy()])].any())
    }


def _reasons(found: Found, dead: Dead) -> dict[str, str]:
    """Says for each layer how many of its outputs stay though dead, and why."""
    told: dict[str, dict[str, int]] = {}
    for layer, slots in producers(found):
        for each in dead.classes[slots.numpy()]:
            if why := dead.why.get(int(each)):
                counts = told.setdefault(layer, {})
                counts[why] = counts.get(why, 0) + 1
    return {
        layer: "; ".join(f"{num} dead stay: {why}" for why, num in counts.items())
        for layer, counts in told.items()
    }
