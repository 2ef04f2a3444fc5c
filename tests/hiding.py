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


class SparseGraph(Plain):
    """Mixes its units by a sparse matrix that no State holds."""

    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        self.register_buffer("graph", torch.eye(6).to_sparse(), persistent=False)

    def hidden(self, x):
        return torch.sparse.mm(self.graph, super().hidden(x).t()).t()


class LoadsAFile(Plain):
    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        if Path("w.pt").exists():
            self.load_state_dict(torch.load("w.pt", weights_only=True))


class LoadsAConstant(Plain):
    """What it loads is no weight: no state_dict holds it."""

    def __init__(self, shape, num_classes, kind="buffer"):
        super().__init__(shape, num_classes)
        loaded = torch.load("scale.pt", weights_only=True)
        self.kind, self.drop = kind, nn.Dropout(0.0)
        if kind == "buffer":
            self.register_buffer("scale", loaded, persistent=False)
        elif kind == "tensor":
            self.scale = loaded
        elif kind == "number":
            self.scale = float(loaded)
        elif kind == "list":
            self.scales = {"first": [float(loaded), 1.0]}
        else:
            self.drop.p = float(loaded) / 10

    def hidden(self, x):
        scale = self.scales["first"][0] if self.kind == "list" else getattr(self, "scale", 1.0)
        return self.drop(scale * super().hidden(x))


class HoldsEntropy(Plain):
    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        self.noise = numpy.random.default_rng().random()


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


class RunningMean(Plain):
    """Training changes a buffer that no state_dict holds."""

    persistent, rate = False, 0.1

    def __init__(self, shape, num_classes, width=6):
        super().__init__(shape, num_classes, width)
        self.register_buffer("mean", torch.zeros(width), persistent=self.persistent)

    def hidden(self, x):
        found = super().hidden(x)
        if self.training:
            self.mean.lerp_(found.detach().mean(0), self.rate)
        return found - self.mean


class KeptMean(RunningMean):
    persistent = True


class SlowMean(RunningMean):
    rate = 0.001


class PlainMean(Plain):
    """As an attribute that is no buffer."""

    def __init__(self, shape, num_classes, width=6):
        super().__init__(shape, num_classes, width)
        self.mean = torch.zeros(width)

    def hidden(self, x):
        found = super().hidden(x)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * found.detach().mean(0)
        return found - self.mean


class Counting(Plain):
    """Counts its steps in Python; what for is said below."""

    count = 0

    def scale(self):
        return 1.0

    def hidden(self, x):
        if self.training:
            self.count += 1
        return self.scale() * super().hidden(x)


class Counted(Counting):
    def scale(self):
        return 1 + self.count


class CountedLate(Counting):
    def scale(self):
        return 2.0 if self.count > 1000 else 1.0


class WarmedUp(Counting):
    """Its answers need no count, but a training that is gone on with does."""

    def scale(self):
        return 0.5 if self.training and self.count > 100 else 1.0


class GivesUp(Counting):
    """Which is loud."""

    def scale(self):
        if self.count > 10:
            raise ValueError("forward gave up")
        return 1.0


class CountedByClass(Plain):
    count = 0

    def hidden(self, x):
        if self.training:
            CountedByClass.count += 1
        return (1 + 0.1 * CountedByClass.count) * super().hidden(x)


class CountedInEvaluation(Plain):
    count = 0

    def hidden(self, x):
        self.count += 1
        return self.count * super().hidden(x)


class OwnGenerator(Plain):
    def __init__(self, shape, num_classes, width=6):
        super().__init__(shape, num_classes, width)
        self.generator = torch.Generator().manual_seed(3)

    def hidden(self, x):
        found = super().hidden(x)
        if not self.training:
            return found
        return found * torch.bernoulli(torch.full_like(found, 0.7), generator=self.generator)


class FreshGenerator(Plain):
    def hidden(self, x):
        found = super().hidden(x)
        return found + numpy.random.default_rng().random() if self.training else found


class SetByItsData(Plain):
    """Scales by the first batch that it sees."""

    is_set = False

    def __init__(self, shape, num_classes, width=6):
        super().__init__(shape, num_classes, width)
        self.scale = nn.Parameter(torch.ones(width))

    def hidden(self, x):
        found = super().hidden(x)
        if not self.is_set:
            self.scale.data = 1 / (found.detach().std(0) + 0.1)
            self.is_set = True
        return found * self.scale


class Remembering(Plain):
    """Keeps much that changes, and nothing that its answers depend on."""

    def __init__(self, shape, num_classes, width=6):
        super().__init__(shape, num_classes, width)
        self.count, self.seen, self.last = 0, [], None
        self.normed = nn.BatchNorm1d(width)
        normed = nn.utils.parametrizations
        self.middle = normed.spectral_norm(normed.weight_norm(nn.Linear(width, width)))

    def hidden(self, x):
        self.last = self.middle(self.normed(super().hidden(x)))
        self.count += 1
        self.seen.append(self.count)
        return F.dropout(self.last, 0.3, self.training)
