"""The variance and the divergence of Gaussian weights in a few passes over memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

LEAST = 1e-18  # of a root that is divided by
PIECE = 2**16  # values at once: what is made of them stays in a core's cache


def divergence(mu: Tensor, rho: Tensor, start: float, prior_std: float) -> Tensor:
    """Computes KL(N(mu, sigma^2) || N(0, prior_std^2)), summed over weights that are not pruned.

    sigma = start exp(rho); a weight whose mu is 0 is pruned. Each adds log(prior_std / sigma) +
    (sigma^2 + mu^2) / (2 prior_std^2) - 1/2.
    """
    _, variance, pull = law(mu, rho, start, prior_std)
    with torch.no_grad():
        kept = (mu != 0).to(mu)
        squares = (variance.sum() + mu.square().sum()) / (2 * prior_std**2)
        logs = (rho * kept).sum() + kept.sum() * (math.log(start / prior_std) + 0.5)
    return pull + (squares - logs)


def law(
    mu: Tensor,
    rho: Tensor,
    start: float,
    prior_std: float = 1.0,
    into: Tensor | None = None,
    *,
    summed: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gives mu, sigma^2 of each weight, and a zero whose gradient is that of the divergence.

    sigma = start exp(rho), and 0 where mu is 0. Compute with the mu that is returned: all three are
    differentiated in one pass. Use mu and sigma^2 in one product each, since their gradients are
    changed in place. ``into``: where sigma^2 is written, until the step is over. Without
    ``summed`` the divergence's gradient is rounded before it is added, as a second call's would be.
    """
    found: tuple[Tensor, Tensor, Tensor] = _Law.apply(mu, rho, start, prior_std, into, summed)
    return found


class _Law(torch.autograd.Function):
    """All at once: autograd's own steps would go through memory three times as often.

    d sigma^2 / d rho = 2 sigma^2; of the divergence d / d rho = sigma^2 / prior_std^2 - 1 and
    d / d mu = mu / prior_std^2.
    """

    @staticmethod
    def forward(
        ctx: Any,
        mu: Tensor,
        rho: Tensor,
        start: float,
        prior_std: float,
        into: Tensor | None,
        summed: bool,  # noqa: FBT001 (apply takes no names)
    ) -> tuple[Tensor, Tensor, Tensor]:
        variance = torch.empty_like(mu) if into is None else into.view_as(mu)
        for own, wide, var in _pieces(mu, rho, variance):
            torch.mul(wide, 2, out=var).exp_().mul_(start**2).mul_(_kept(own))
        ctx.save_for_backward(mu, variance)
        ctx.prior_std, ctx.summed = prior_std, summed
        return mu.view_as(mu), variance, mu.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        mu, variance = ctx.saved_tensors
        of_mu, of_variance, of_divergence = upstream
        pull = of_divergence / ctx.prior_std**2
        for own, var, mean, wide in _pieces(mu, variance, of_mu, of_variance):
            if ctx.summed:
                mean.addcmul_(own, pull)
                wide.mul_(2).add_(pull).mul_(var).sub_(_kept(own).mul_(of_divergence))
            else:
                mean.add_(own * pull)
                wide.mul_(2).mul_(var)
                wide.add_(torch.mul(var, pull).sub_(_kept(own).mul_(of_divergence)))
        return of_mu, of_variance, None, None, None, None


def drawn(mean: Tensor, variance: Tensor, noise: Tensor) -> Tensor:
    """Computes mean + sqrt(variance) noise; where there is no variance its gradient is none."""
    found: Tensor = _Drawn.apply(mean, variance, noise)
    return found


class _Drawn(torch.autograd.Function):
    """d / d variance = noise / (2 sqrt(variance)), and 0 where that has no value."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, variance: Tensor, noise: Tensor) -> Tensor:
        root = variance.clamp(min=0).sqrt_()
        ctx.save_for_backward(root, noise)
        return torch.addcmul(mean, root, noise)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        [outer] = upstream
        root, noise = ctx.saved_tensors
        half = torch.mul(outer, noise).mul_(0.5).div_(root.clamp(min=LEAST)).mul_(_kept(root))
        return outer, half, None


def _kept(values: Tensor) -> Tensor:
    """Gives 1 where a value is not zero, as the numbers that they are: faster than as bits."""
    return torch.ne(values, 0, out=torch.empty_like(values))


def _pieces(*values: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cuts tensors that lie alike in memory into pieces; others stay whole."""
    if values[0].device.type != "cpu" or not all(value.is_contiguous() for value in values):
        yield values
        return
    flat = [value.view(-1) for value in values]
    for begin in range(0, flat[0].numel(), PIECE):
        yield tuple(value[begin : begin + PIECE] for value in flat)
