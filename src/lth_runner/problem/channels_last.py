"""Convolutions whose images lie channels-last, as a CPU is quickest with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from lth_runner.problem.answers import answer
from lth_runner.values.global_streams import all_seeded
from lth_runner.values.state import State
from lth_runner.values.tree import Tree


def answers_channels_last(
    make: Callable[[], nn.Module], inputs: Tree, device: torch.device | str
) -> bool:
    """Whether a network answers where its images come channels-last, which ``view`` may not take.

    Tried by a network of its own, as nobody knows what a forward pass leaves behind.
    """
    trial = make().eval()
    try:
        trial.to(memory_format=torch.channels_last)  # not of tensors of five axes (Conv3d)
        with torch.no_grad(), all_seeded(0, device):
            answer(trial, inputs)
    except RuntimeError:  # torch's: one of another cause comes again, channels first, and is told
        return False
    return True


def has_convolutions(network: nn.Module) -> bool:
    """Whether a network convolves images."""
    return any(isinstance(module, nn.Conv2d) for module in network.modules())


def channels_last_weights(network: nn.Module, weights: State) -> State:
    """Lays the weights of a network's convolutions channels-last, from which images take it."""
    found = dict(weights)
    for path, module in network.named_modules():
        name = f"{path}.weight" if path else "weight"
        if isinstance(module, nn.Conv2d) and name in found:
            found[name] = found[name].to(memory_format=torch.channels_last)
    return found
