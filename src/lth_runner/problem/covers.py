"""Which tensors of a network a mask covers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

from lth_runner.values.errors import UserError, nearest
from lth_runner.values.name_patterns import as_names, select

# kind of layer -> its classes, and the names of its weights
KINDS: Mapping[str, tuple[tuple[type[nn.Module], ...], str]] = MappingProxyType(
    {
        "linear": ((nn.Linear,), r"weight"),
        "convolution": ((_ConvNd,), r"weight"),
        "transposed_convolution": ((_ConvTransposeNd,), r"weight"),
        "embedding": ((nn.Embedding, nn.EmbeddingBag), r"weight"),
        "recurrent": ((nn.RNNBase, nn.RNNCellBase), r"weight_(ih|hh|hr)(_l\d+)?(_reverse)?"),
        "attention_projection": ((nn.MultiheadAttention,), r"(in|q|k|v)_proj_weight"),
    }
)
TRANSPOSED = "transposed_linear"  # transformers' Conv1D: a linear layer, its inputs on axis 0
DEFAULT = ("linear", "convolution")
WITH_BIASES = (nn.Linear, _ConvNd)


@dataclass(frozen=True)
class Covers:
    """Names the tensors that a mask covers, by kinds of layers and by patterns of names.

    ``types``: linear, convolution, transposed_convolution, embedding, recurrent (the matrices of
    LSTM, GRU and RNN), attention_projection (the packed matrices of nn.MultiheadAttention).
    ``also`` adds parameters by pattern (``head``, ``*.embed*``); ``only`` takes exactly those that
    its patterns match, whatever their kind. A tensor that two layers share is one, and where one
    of them is an embedding it counts as that. Norm layers are covered by a pattern alone.
    ``blocks``: of these kinds the layers of a transformer's blocks alone, which are those members
    of a list of layers that have an attention in them, whatever the architecture: attention and
    feed-forward matrices, no heads; ``pooler`` adds that of a BERT and its kin.
    Raises UserError for kinds that are not known.
    """

    types: Sequence[str] = DEFAULT
    also: Sequence[str] = ()
    only: Sequence[str] = ()
    blocks: bool = field(default=False, kw_only=True)
    pooler: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("types", "also", "only"):
            object.__setattr__(self, name, as_names(getattr(self, name)))
        for kind in self.types:
            if kind not in KINDS:
                raise UserError(f"covers.types: {kind!r}: {nearest(str(kind), KINDS)}")
        if self.only and self.also:
            raise UserError(
                f"covers.only={list(self.only)} names all that is covered, and covers.also="
                f"{list(self.also)} adds to the kinds of covers.types: give one of them"
            )
        if (self.only and self.blocks) or (self.pooler and not self.blocks):
            raise UserError(
                "covers.blocks and covers.pooler say which layers of covers.types are meant: give "
                "covers.only without them, and covers.pooler with covers.blocks=true"
            )

    def names(self, module: nn.Module, *, biases: bool = False) -> tuple[str, ...]:
        """Lists the covered parameters in the network's order, a shared tensor once.

        ``biases``: the bias of each linear or convolution layer with a covered weight follows it.
        Raises UserError for a pattern that matches nothing, or only a tensor that the network
        computes (a parametrised one): a mask can lie on what it is computed from.
        """
        known = [name for name, _ in module.named_parameters()]
        patterns, key = (self.only, "only") if self.only else (self.also, "also")
        _refuse_computed(module, patterns, known, f"covers.{key}")
        named = select(patterns, known, f"covers.{key}")
        if self.only:
            covered = set(named)
        else:
            kinds = kind_by_name(module)
            wanted = {*self.types, TRANSPOSED} if "linear" in self.types else {*self.types}
            covered = {n for n in known if kinds.get(n) in wanted}
            covered = (covered & self._meant(module) if self.blocks else covered) | named
        return tuple(dict.fromkeys(_in_order(module, covered, biases=biases)))

    def _meant(self, module: nn.Module) -> set[str]:
        """Names the parameters of a transformer's blocks, and of its pooler where that is meant."""
        known = [name for name, _ in module.named_parameters()]
        blocks = tuple(f"{path}." for path in attending_blocks(module))
        meant = {name for name in known if name.startswith(blocks)}
        if not meant:
            raise UserError(
                "covers.blocks=true: the model has no list of layers with an attention in them, "
                "and so none that a mask could cover: choose covers=default, or name parameters in "
                "covers.only"
            )
        pooler = {name for name in known if "pooler" in name.split(".")}
        if self.pooler and not pooler:
            raise UserError("covers.pooler=true: the model has no pooler: leave it out")
        return meant | pooler if self.pooler else meant


def attending_blocks(module: nn.Module) -> list[str]:
    """Finds the paths of a transformer's blocks: members of a list of layers that attend.

    A member of an ``nn.Sequential`` is one where there are several of its class.
    """
    found: list[str] = []
    for path, part in module.named_modules():
        if not isinstance(part, (nn.ModuleList, nn.Sequential)):
            continue
        attending = {name: child for name, child in part.named_children() if _attends(child)}
        kinds = [type(child) for child in attending.values()]
        alone = isinstance(part, nn.ModuleList)
        found += [
            f"{path}.{name}" if path else name
            for name, child in attending.items()
            if alone or kinds.count(type(child)) > 1
        ]
    return found


def _attends(block: nn.Module) -> bool:
    return any("attention" in type(part).__name__.lower() for part in block.modules())


def is_conv1d(layer: nn.Module) -> bool:
    """Whether a layer is transformers' Conv1D, told without loading that library."""
    named = [(one.__module__, one.__name__) for one in type(layer).__mro__]
    return ("transformers.pytorch_utils", "Conv1D") in named


def kind_by_name(module: nn.Module) -> dict[str, str]:
    """Maps each parameter that is the weight of a known kind of layer to that kind.

    Where layers of two kinds share a tensor, an embedding goes before the others.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found: dict[str, str] = {}
    for kind, (classes, pattern) in KINDS.items():
        for layer in module.modules():
            if not isinstance(layer, classes):
                continue
            if kind == "convolution" and isinstance(layer, _ConvTransposeNd):
                continue
            for leaf, parameter in layer._parameters.items():
                if parameter is not None and re.fullmatch(pattern, leaf) and id(parameter) in names:
                    name = names[id(parameter)]
                    found[name] = kind if kind == "embedding" else found.get(name, kind)
    for layer in filter(is_conv1d, module.modules()):
        if id(layer._parameters.get("weight")) in names:
            name = names[id(layer._parameters["weight"])]
            found[name] = found.get(name, TRANSPOSED)
    return found


def _in_order(module: nn.Module, covered: Collection[str], *, biases: bool) -> Iterator[str]:
    """Goes through the covered parameters layer by layer, each weight with its bias behind it."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for layer in module.modules():
        for parameter in layer._parameters.values():
            name = names.get(id(parameter))
            if parameter is not None and parameter.numel() and name in covered:
                yield str(name)
        biased = biases and (isinstance(layer, WITH_BIASES) or is_conv1d(layer))
        if biased and id(layer.bias) in names and names.get(id(layer.weight)) in covered:
            yield names[id(layer.bias)]


def _refuse_computed(
    module: nn.Module, patterns: Sequence[str], known: Sequence[str], key: str
) -> None:
    computed = dict(_computed(module))
    for pattern in patterns:
        if not _matches(pattern, known) and (hits := _matches(pattern, list(computed))):
            raise UserError(
                f"{key}: {pattern!r} names {hits[0]}, which the network computes from other "
                f"tensors, and a mask lies on parameters: name {', '.join(computed[hits[0]])}"
            )


def _matches(pattern: str, names: Sequence[str]) -> list[str]:
    try:
        return sorted(select([pattern], names, ""))
    except UserError:
        return []


def _computed(module: nn.Module) -> Iterator[tuple[str, list[str]]]:
    """Goes through parametrised tensors, each with the parameters that it is computed from."""
    for path, layer in module.named_modules():
        if not parametrize.is_parametrized(layer):
            continue
        parts = layer.parametrizations
        assert isinstance(parts, nn.ModuleDict)
        for leaf, part in parts.items():
            at = f"{path}." if path else ""
            inner = [name for name, _ in part.named_parameters()]
            yield f"{at}{leaf}", [f"{at}parametrizations.{leaf}.{name}" for name in inner]
