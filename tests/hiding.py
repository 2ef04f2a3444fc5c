"""Networks that hide something: where they start from, what they draw, what they remember."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from torch import nn


class Plain(nn.Module):
    """Hides nothing."""

    def __init__(self, shape, num_classes, width=6):
        super().__init__()
        self.inp = nn.Linear(math.prod(shape), width)
        self.output = nn.Linear(width, num_classes)

    def hidden(self, x):
        return self.inp(x.flatten(1)).relu()

    def forward(self, x):
        return self.output(self.hidden(x))


class LoadsAFile(Plain):
    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        if Path("w.pt").exists():
            self.load_state_dict(torch.load("w.pt", weights_only=True))


class LoadsAPart(Plain):
    """A backbone of somebody's, and a head of its own."""

    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        nn.init.constant_(self.inp.bias, 0.5)
        with torch.no_grad():
            self.inp.weight.copy_(
                torch.linspace(-1, 1, self.inp.weight.numel()).view_as(self.inp.weight)
            )


class SeedsItself(Plain):
    def __init__(self, shape, num_classes):
        torch.manual_seed(0)
        super().__init__(shape, num_classes)


class StartsAtZero(Plain):
    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


class ByNumpy(Plain):
    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        drawn = numpy.random.randn(*self.inp.weight.shape).astype("float32")
        self.inp.weight.data.copy_(torch.from_numpy(drawn))


class ByPython(Plain):
    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        self.inp.weight.data.mul_(random.random() + 0.5)


class ByEntropy(Plain):
    """By a generator that nobody seeds."""

    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        drawn = numpy.random.default_rng().standard_normal(self.inp.weight.shape)
        self.inp.weight.data.copy_(torch.from_numpy(drawn))


class FunctionalDropout(Plain):
    def forward(self, x):
        return self.output(F.dropout(self.hidden(x), 0.3, self.training))


class RecurrentDropout(nn.Module):
    def __init__(self, shape, num_classes):
        super().__init__()
        self.inner = nn.LSTM(shape[-1], 6, 2, batch_first=True, dropout=0.3)
        self.output = nn.Linear(6, num_classes)

    def forward(self, x):
        return self.output(self.inner(x.flatten(1, 2))[0][:, -1])


class AttentionDropout(nn.Module):
    def __init__(self, shape, num_classes):
        super().__init__()
        self.inner = nn.TransformerEncoderLayer(shape[-1], 2, 6, dropout=0.3, batch_first=True)
        self.output = nn.Linear(shape[-1], num_classes)

    def forward(self, x):
        return self.output(self.inner(x.flatten(1, 2)).mean(1))


class StochasticDepth(Plain):
    """Leaves a layer out at random; by torch's stream here, by others' below."""

    def __init__(self, shape, num_classes, width=6):
        super().__init__(shape, num_classes, width)
        self.middle = nn.Linear(width, width)

    def coin(self):
        return float(torch.rand(()))

    def hidden(self, x):
        found = super().hidden(x)
        if self.training and self.coin() < 0.5:
            return found
        return found + self.middle(found).relu()


class DepthByNumpy(StochasticDepth):
    def coin(self):
        return numpy.random.rand()


class DepthByPython(StochasticDepth):
    def coin(self):
        return random.random()


class NoisyNorm(nn.BatchNorm1d):
    def forward(self, x):
        found = super().forward(x)
        return found + 0.1 * torch.randn_like(found) if self.training else found


class NormThatDraws(Plain):
    def __init__(self, shape, num_classes, width=6):
        super().__init__(shape, num_classes, width)
        self.norm = NoisyNorm(width)

    def hidden(self, x):
        return self.norm(super().hidden(x))


class GradientNoise(Plain):
    """Draws on the way back."""

    def __init__(self, shape, num_classes, width=6):
        super().__init__(shape, num_classes, width)
        self.inp.weight.register_hook(lambda gradient: gradient + 0.1 * torch.randn_like(gradient))


class DrawsInEvaluation(Plain):
    def forward(self, x):
        return self.output(F.dropout(self.hidden(x), 0.3))


class NumpyInEvaluation(Plain):
    def forward(self, x):
        return self.output(self.hidden(x)) + numpy.random.rand()
