"""Which tensors of a network a mask covers."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


def prunable_names(module: nn.Module, *, biases: bool = False) -> tuple[str, ...]:
    """Names of all convolution and linear weights in module order, a shared tensor once.

    Each is a key of `dict(module.named_parameters())`. ``biases``: each weight's bias follows it.
    Left out: norm layers, transposed convolutions, embeddings (also where a linear layer shares
    their tensor), and bare parameters such as the packed projection of `nn.MultiheadAttention`.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for layer in module.modules():
        if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
            names.pop(id(layer.weight), None)
    found: dict[str, None] = {}
    for layer in module.modules():
        prunable = isinstance(layer, (_ConvNd, nn.Linear))
        if prunable and not isinstance(layer, _ConvTransposeNd) and id(layer.weight) in names:
            found[names[id(layer.weight)]] = None
            if biases and id(layer.bias) in names:  # and not None, nor made of other tensors
                found[names[id(layer.bias)]] = None
    return tuple(found)
