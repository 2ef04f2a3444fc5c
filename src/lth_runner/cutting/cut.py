"""Cuts a network's tensors to the slots that stay, and tells its modules of their new sizes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from lth_runner.cutting.dead import Dead
from lth_runner.cutting.double import Exact
from lth_runner.cutting.found import Found, Grouped, Product
from lth_runner.cutting.stays import stays
from lth_runner.problem.covers import is_conv1d


@torch.no_grad()
def cut(module: nn.Module, found: Found, dead: Dead) -> dict[str, Exact]:
    """Cuts a network in place; returns, to more places, the tensors that constants moved into."""
    biases, axes = _moved_constants(module, found, dead)
    exact = _carried_constants(module, found, dead)
    tensors = {**dict(module.named_buffers()), **dict(module.named_parameters())}
    places = _places(module)
    for name, slots in axes.items():
        old = tensors.pop(name)  # one by one, so that few are in memory beside their old selves
        if name in biases:
            exact[name] = Exact(stays(name, slots, found, dead)(biases[name]))
        if chosen := stays(name, slots, found, dead):
            _replace(places[id(old)], old, chosen(old))
    for name, part in module.named_modules():
        _tell(name, part, found, dead)
    return exact


def _places(module: nn.Module) -> dict[int, list[tuple[dict[str, Any], str]]]:
    """Finds where each tensor of a network is held, shared ones several times."""
    found: dict[int, list[tuple[dict[str, Any], str]]] = {}
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for leaf, value in held.items():
                if value is not None:
                    found.setdefault(id(value), []).append((held, leaf))
    return found


def _replace(places: list[tuple[dict[str, Any], str]], old: Tensor, new: Tensor) -> None:
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    for held, leaf in places:
        held[leaf] = new


def _moved_constants(
    module: nn.Module, found: Found, dead: Dead
) -> tuple[dict[str, Tensor], dict[str, list[Tensor | None]]]:
    """Adds to each bias what the inputs that go have sent; one that is missing is made.

    Returns the new biases in float64, and the labels of all tensors.
    """
    exact: dict[str, Tensor] = {}
    axes = dict(found.axes)
    for product in found.products:
        added = _sent(module, product, dead)
        if added is None or product.bias is None:
            continue
        path, _, leaf = product.bias.rpartition(".")
        layer = module.get_submodule(path)
        bias = getattr(layer, leaf)
        if bias is None:
            weight = layer.weight
            assert isinstance(weight, Tensor)
            bias = nn.Parameter(weight.new_zeros(len(added)), requires_grad=weight.requires_grad)
            layer.register_parameter(leaf, bias)
            axes[product.bias] = [product.outputs if len(added) > 1 else None]
        exact[product.bias] = bias.double() + added.to(bias.device)
        bias.copy_(exact[product.bias])
    return exact, axes


def _carried_constants(module: nn.Module, found: Found, dead: Dead) -> dict[str, Exact]:
    """Lets one constant input of a convolution send what those that go have sent.

    An input of v that goes and the carrier's u: its weights grow by those of the other times v / u.
    """
    exact: dict[str, Exact] = {}
    for number, carrier in dead.carriers.items():
        product = found.products[number]
        assert product.weight is not None
        weight = module.get_parameter(product.weight)
        goes = dead.goes(product.inputs)
        lost = (goes & product.carried).nonzero().reshape(-1)
        shares = (product.values[lost] / product.values[carrier]).to(weight.device)
        places = [-1, *[1] * (weight.ndim - 2)]
        added = (weight[:, lost.to(weight.device)].double() * shares.reshape(places)).sum(1)
        column = weight[:, carrier].double() + added
        weight[:, carrier] = column.to(weight.dtype)
        stay = ~dead.goes(product.outputs).to(weight.device)
        exact[product.weight] = Exact(column[stay], int((~goes[:carrier]).sum()))
    return exact


def _sent(module: nn.Module, product: Product, dead: Dead) -> Tensor | None:
    """Sums what the inputs that go have sent to each output, in float64."""
    goes = dead.goes(product.inputs[product.constants])
    if not bool(goes.any()):
        return None
    if product.sent is not None:
        return product.sent[:, goes].sum(1)
    assert product.weight is not None
    weight, which = module.get_parameter(product.weight), product.constants[goes]
    columns = weight[:, which.to(weight.device)].double()
    sent = columns if columns.ndim == 2 else columns.flatten(2).sum(2)
    return sent @ product.values[which].to(weight.device)


def _tell(name: str, part: nn.Module, found: Found, dead: Dead) -> None:
    """Sets the sizes that a module states beside its tensors."""
    weight = getattr(part, "weight", None)
    if isinstance(part, _ConvTransposeNd):
        if f"{name}.weight" in found.grouped:
            part.groups = _groups_left(found.grouped[f"{name}.weight"], dead)
        part.in_channels, part.out_channels = len(part.weight), part.weight.shape[1] * part.groups
    elif isinstance(part, _ConvNd):
        multiple = part.out_channels // part.groups
        part.out_channels = len(part.weight)
        if part.groups > 1 and part.in_channels == part.groups:  # depthwise
            part.groups = part.out_channels // multiple
        elif f"{name}.weight" in found.grouped:
            part.groups = _groups_left(found.grouped[f"{name}.weight"], dead)
        part.in_channels = part.weight.shape[1] * part.groups
    elif isinstance(part, nn.Linear):
        part.out_features, part.in_features = part.weight.shape
    elif is_conv1d(part) and isinstance(weight, Tensor):
        vars(part).update(zip(("nx", "nf"), weight.shape, strict=True))
    elif isinstance(part, _NormBase):
        own = next((v for v in (part.weight, part.running_mean) if v is not None), None)
        if own is not None:
            part.num_features = len(own)
        elif name in found.norm_channels:
            part.num_features = int((~dead.goes(found.norm_channels[name])).sum())
    elif isinstance(part, nn.GroupNorm) and name in found.norm_groups:
        stays = int((~dead.goes(found.norm_groups[name])).sum())
        part.num_channels = part.num_channels // part.num_groups * stays
        part.num_groups = stays
    elif isinstance(part, nn.Embedding):
        part.embedding_dim = part.weight.shape[1]
    elif isinstance(part, nn.RNNBase):
        part.hidden_size = len(part.get_parameter("weight_ih_l0")) // _gates(part)
        part.input_size = part.get_parameter("weight_ih_l0").shape[1]
        part.proj_size = part.get_parameter("weight_hh_l0").shape[1] if part.proj_size else 0
        # torch, which sees that they are others, has cuDNN flatten them when it is called next
        part._flat_weights = [getattr(part, leaf, None) for leaf in part._flat_weights_names]
    elif isinstance(part, nn.RNNCellBase):
        part.input_size, part.hidden_size = part.weight_ih.shape[1], part.weight_hh.shape[1]
    elif isinstance(part, nn.PReLU) and isinstance(weight, Tensor):
        part.num_parameters = len(weight)


def _groups_left(grouped: Grouped, dead: Dead) -> int:
    return sum(not bool(dead.goes(outputs).all()) for outputs in grouped.outputs)


def _gates(part: nn.RNNBase) -> int:
    return 4 if part.mode == "LSTM" else 3 if part.mode == "GRU" else 1
