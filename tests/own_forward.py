"""Networks whose forward passes do what a recorded step cannot do again."""

from __future__ import annotations

import torch
from torch import nn


class Own(nn.Module):
    """A network whose forward pass has a habit."""

    def __init__(self, habit) -> None:
        super().__init__()
        self.flatten, self.output, self.count = nn.Flatten(), nn.Linear(192, 3), 0
        self.habit = habit

    def forward(self, inputs):
        self.count += 1
        return self.output(self.flatten(inputs)) * self.habit(self, inputs)


HABITS = {
    "none": (lambda net, inputs: inputs.mean().exp(), None),
    "draws": (lambda net, inputs: torch.rand(()), "the network draws random numbers"),
    "counts": (lambda net, inputs: net.count, "something else"),
    "asks": (lambda net, inputs: 1.0 if inputs.mean().item() > 9 else 2.0, "cannot be recorded"),
    "brings": (lambda net, x: torch.tensor([2.0], device=x.device), "cannot be recorded"),
}
