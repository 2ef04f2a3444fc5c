"""Weights that are drawn from N(mu, sigma^2) whenever their network is run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from lth_runner.problem.coordinates import Laid
from lth_runner.problem.gaussian_law import divergence, drawn, law
from lth_runner.values.own_class import own_class
from lth_runner.values.seeds import derive

RHO = ".0.rho"  # how the names of the numbers end that say how wide a weight's law is
TRAINING = -1  # the number of a draw that is another one in every step
PLAIN = {nn.Linear.forward, nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward}
Average = Callable[[Tensor], Tensor]  # the answers of several networks [networks, ...] -> one


class _Left:
    """What a forward pass leaves for the penalty that follows; copies of a network have none."""

    __slots__ = ("pull",)

    def __init__(self) -> None:
        self.pull: Tensor | None = None

    def __reduce__(self) -> tuple[type[_Left], tuple[()]]:
        return _Left, ()


class Spread(Laid):
    """Computes weights N(mu, sigma^2), sigma = start exp(rho); where mu is zero, sigma is too.

    So a pruned weight is zero in every draw. Outside of a pass of the network, whose ``draw`` says
    which draw it is, a weight is its mean. In one pass it is drawn once, however often it is used.
    """

    def __init__(self, mu: Tensor, start: float, path: str) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.zeros_like(mu), requires_grad=mu.requires_grad)
        self.start: Tensor
        kept = torch.tensor(start, dtype=mu.dtype, device=mu.device)
        self.register_buffer("start", kept, persistent=False)
        self._path, self._start = path, start
        self._draw: int | None = None
        self._drawn: Tensor | None = None
        self._left = _Left()

    def sigma(self, mu: Tensor) -> Tensor:
        """Computes each weight's standard deviation, 0 where it is pruned."""
        return torch.where(mu != 0, self.start * self.rho.exp(), 0.0)

    def law(
        self, mu: Tensor, prior_std: float = 1.0, into: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gives mu, each weight's variance, and a zero with the gradient of ``divergence``."""
        return law(mu, self.rho, self._start, prior_std, into)

    def law_and_pull(self, mu: Tensor, prior_std: float) -> tuple[Tensor, Tensor]:
        """Gives mu and each weight's variance; the divergence's gradient is left for ``pull``.

        To the bit the gradients are those of a law and of a divergence beside it.
        """
        mu, variance, self._left.pull = law(mu, self.rho, self._start, prior_std, summed=False)
        return mu, variance

    def pull(self, mu: Tensor, prior_std: float) -> Tensor:
        """Gives a zero with the gradient of the divergence, of the pass before where it left one.

        In a pass that draws outputs the law is known, and so is not computed again.
        """
        found, self._left.pull = self._left.pull, None
        return self.divergence(mu, prior_std) if found is None else found

    def divergence(self, mu: Tensor, prior_std: float) -> Tensor:
        """Computes KL(N(mu, sigma^2) || N(0, prior_std^2)), summed over weights not pruned."""
        return divergence(mu, self.rho, self._start, prior_std)

    @property
    def is_training(self) -> bool:
        """Whether the network runs to be trained, so that its noise is the step's."""
        return self._draw == TRAINING

    @contextmanager
    def drawing(self, draw: int) -> Iterator[None]:
        """Has the weight be one draw, until the pass is over."""
        self._draw, self._drawn, self._left.pull = draw, None, None
        try:
            yield
        finally:
            self._draw = self._drawn = None

    def forward(self, mu: Tensor) -> Tensor:
        if self._draw is None:
            return mu
        if self._drawn is None:
            self._drawn = mu + self.sigma(mu) * self._noise(mu)
        return self._drawn

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight

    def _noise(self, mu: Tensor) -> Tensor:
        """Draws N(0, 1): by torch's stream in training, else a fixed function of place and draw.

        Of numpy, since torch refuses draws within its maps over samples (vmap).
        """
        if self.is_training:
            return torch.randn_like(mu)
        seed = derive(0, "evaluation", self._path, int(self._draw or 0))
        drawn = numpy.random.Generator(numpy.random.PCG64(seed))
        values = drawn.standard_normal(tuple(mu.shape), dtype=numpy.float32)
        return torch.from_numpy(values).to(mu)


def add_spread(
    layer: nn.Module, leaf: str, start: float, path: str, *, local: bool, prior_std: float
) -> None:
    """Makes a layer's weight Gaussian, its own value the mean.

    ``local``: a linear or convolution layer draws its outputs in training, not its weights.
    ``prior_std``: of the prior that its divergence is from.
    """
    mu = layer.get_parameter(leaf)
    own_class(layer)
    parametrize.register_parametrization(layer, leaf, Spread(mu, start, path))
    is_plain = type(layer).forward in PLAIN and "forward" not in vars(layer)
    if local and leaf == "weight" and is_plain:
        stock = type(layer)
        made = _linear if isinstance(layer, nn.Linear) else _convolution
        layer.__class__ = type(
            stock.__name__, (stock,), {"forward": made(stock, prior_std), "draws_outputs": True}
        )


def is_drawn(layer: nn.Module) -> bool:
    """Whether a linear layer draws its outputs, and does nothing else than that."""
    return isinstance(layer, nn.Linear) and "draws_outputs" in vars(type(layer))


def _linear(stock: type[nn.Module], prior_std: float) -> Callable[..., Tensor]:
    def outputs(layer: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(inputs, weight, bias)

    return _drawing_outputs(stock, outputs, prior_std)


def _convolution(stock: type[nn.Module], prior_std: float) -> Callable[..., Tensor]:
    def outputs(layer: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        assert isinstance(layer, _ConvNd)
        found: Tensor = layer._conv_forward(inputs, weight, bias)
        return found

    return _drawing_outputs(stock, outputs, prior_std)


def _drawing_outputs(
    stock: type[nn.Module],
    outputs: Callable[[Any, Tensor, Tensor, Tensor | None], Tensor],
    prior_std: float,
) -> Callable[..., Tensor]:
    """Makes the forward pass that draws a layer's outputs in training.

    They are N(mu x + b, sigma^2 x^2), by the variance that the weights give each of them (local
    reparameterisation: Kingma, Salimans & Welling, NeurIPS 2015, arXiv 1506.02557).
    """

    @functools.wraps(stock.forward)
    def forward(self: Any, inputs: Tensor) -> Tensor:
        spread = self.parametrizations.weight[0]
        if not spread.is_training:
            found: Tensor = stock.forward(self, inputs)
            return found
        mu, variances = spread.law_and_pull(self.parametrizations.weight.original, prior_std)
        mean = outputs(self, inputs, mu, self.bias)
        with torch.autocast(inputs.device.type, enabled=False):  # squares leave a half's range
            squares = outputs(self, inputs.to(mu).square(), variances, None)
            return drawn(mean, squares, torch.randn_like(squares))

    return forward


def add_answers(module: nn.Module, num: int, average: Average) -> None:
    """Has a network draw its weights: anew in training, else of ``num`` fixed draws the average."""
    stock = type(module)

    @functools.wraps(stock.forward)
    def forward(self: nn.Module, *inputs: Any, **named: Any) -> Any:
        spreads = [part for part in self.modules() if isinstance(part, Spread)]
        if self.training:
            with _all_drawing(spreads, TRAINING):
                return stock.forward(self, *inputs, **named)
        answers = []
        for draw in range(num):
            with _all_drawing(spreads, draw):
                answers.append(stock.forward(self, *inputs, **named))
            if not isinstance(answers[-1], Tensor):
                return answers[-1]  # no objective takes it, and each says so
        return average(torch.stack(answers))

    module.__class__ = type(stock.__name__, (stock,), {"forward": forward})


@contextmanager
def _all_drawing(spreads: Sequence[Spread], draw: int) -> Iterator[None]:
    began = [spread.drawing(draw) for spread in spreads]
    for one in began:
        one.__enter__()
    try:
        yield
    finally:
        for one in began:
            one.__exit__(None, None, None)
