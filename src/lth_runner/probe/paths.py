"""Which kept weights lie on a path from an input to an output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lth_runner.problem.norm_layers import is_norm
from lth_runner.problem.places import moved
from lth_runner.problem.requirements import ones_input
from lth_runner.problem.task import Task
from lth_runner.score import derivatives
from lth_runner.values import state as states
from lth_runner.values.mask import Mask

WHAT = "probe.effective_density, which follows paths from plain inputs,"

# modules that only move or rescale values: as paths they are the identity, as norms are
_THROUGH = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Softplus,
    nn.Sigmoid,
    nn.Tanh,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Hardtanh,
    nn.Softmax,
    nn.LogSoftmax,
)


def on_paths(task: Task, mask: Mask) -> Mask:
    """Masks the kept weights, not biases, that lie on a path from an input to an output.

    R = sum of f(1) with every kept weight at 1 / sqrt(fan in), biases 0, vectors that scale 1,
    activations and norms left out, and maxima as means, is a sum over paths: dR/dw > 0 exactly
    where one goes through w (the idea of SynFlow: Tanaka et al., NeurIPS 2020, arXiv 2006.05467).
    Float64, one forward and one backward of one input. Modules alone are replaced: a function that
    the network calls by itself must send positive values to positive ones, as relu does.
    """
    home, mask = derivatives.on_device_with_float64(task), mask.of_weights()
    module = moved(home.module(), torch.float64).eval()
    scaling = {name for name, _ in module.named_parameters() if "bias" not in name.split(".")[-1]}
    whole = states.read(module).items()
    state = {name: _as_path(value, scales=name in scaling) for name, value in whole}
    # scaled so that neither all paths together nor a single one leaves the range of float64
    state |= {n: kept.double() / kept[0].numel() ** 0.5 for n, kept in mask.items()}
    states.write(module, state)
    for layer in module.modules():
        if isinstance(layer, _THROUGH) or is_norm(layer):
            vars(layer)["forward"] = _pass_through
        elif isinstance(layer, nn.MaxPool2d) and layer.dilation in (1, (1, 1)):
            vars(layer)["forward"] = _mean_pool(layer)
    parameters = dict(module.named_parameters())
    own = [parameters[name] for name in mask]
    ones = ones_input(home, WHAT, torch.float64)
    with torch.enable_grad():
        flow = module(ones).sum()
    found = torch.autograd.grad(flow, own, allow_unused=True, materialize_grads=True)
    return Mask({n: (g.cpu() > 0) & mask[n] for n, g in zip(mask, found, strict=True)})


def _as_path(value: Tensor, *, scales: bool) -> Tensor:
    """Makes what is no masked weight neutral: biases add no path, other tensors are kept whole.

    ``scales``: a vector is one by which a network multiplies, as it may each channel.
    """
    if not value.is_floating_point():
        return value
    return torch.ones_like(value) if scales or value.dim() > 1 else torch.zeros_like(value)


def _pass_through(value: Tensor, *rest: object) -> Tensor:
    return value


def _mean_pool(layer: nn.MaxPool2d) -> nn.Module:
    """Replaces a maximum, with a slope at one of its inputs, by a mean, with one at all of them."""
    return nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode)
