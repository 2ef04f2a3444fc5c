"""Convolutions whose images lie channels-last, as a CPU is quickest with."""

from __future__ import annotations

import torch
from torch import nn

from lth_runner.problem.answers import answer
from lth_runner.values.global_streams import all_seeded
from lth_runner.values.state import State
from lth_runner.values.tree import Tree


def has_convolutions(network: nn.Module) -> bool:
    """Whether a network convolves images."""
    return any(isinstance(module, nn.Conv2d) for module in network.modules())


def lay_channels_last(network: nn.Module, inputs: Tree) -> bool:
    """Lays a network's weights channels-last, and returns whether it answers inputs so.

    What follows a convolution comes in the same order, and pooling of few channels takes several
    times as long in the other. Inputs may lie as they like. A network whose forward pass takes
    channels first alone (by ``view``) lies so again, and so does one with weights of five axes
    (Conv3d). Its evaluation mode is the caller's to set.
    """
    device = next(network.parameters()).device
    try:
        network.to(memory_format=torch.channels_last)
        with torch.no_grad(), all_seeded(0, device):
            answer(network, inputs)
    except RuntimeError:  # torch's: one of another cause comes again, channels first, and is told
        network.to(memory_format=torch.contiguous_format)
        return False
    return True


def channels_last_weights(network: nn.Module, weights: State) -> State:
    """Lays the weights of a network's convolutions channels-last, from which images take it."""
    found = dict(weights)
    for path, module in network.named_modules():
        name = f"{path}.weight" if path else "weight"
        if isinstance(module, nn.Conv2d) and name in found:
            found[name] = found[name].to(memory_format=torch.channels_last)
    return found
