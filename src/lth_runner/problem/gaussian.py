"""Mean-field Gaussian weights: a network trained by variational inference, under one mask."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from lth_runner.problem.coordinates import layers_with, own_name, stock_name
from lth_runner.problem.covers import TRANSPOSED, Covers, kind_by_name
from lth_runner.problem.gaussian_layers import RHO, Spread, add_answers, add_spread
from lth_runner.problem.objective import Averaging, Objective
from lth_runner.values.errors import UserError
from lth_runner.values.listed import listed
from lth_runner.values.mask import Mask
from lth_runner.values.state import State

MOST = 1000  # draws of a network
RANGES = {"temperature": (0.0, 1e6), "prior_std": (1e-6, 1e6), "initial_std": (1e-9, 1e3)}
CURE = "name the layers that are to be Gaussian in covers.only, and the others stay deterministic"


@dataclass(frozen=True)
class Gaussian:
    """Trains the mean mu and the deviation sigma = sigma_0 exp(rho) of each weight's own Gaussian.

    Weights are those that ``covers`` names, linear and convolution layers by default; all other
    parameters are trained as numbers. mu starts as the network's own draw (or the origin's), and
    sigma_0 is ``initial_std`` times the Kaiming scale sqrt(2 / fan_in) of its layer, rho = 0. A
    mask covers mu alone: where mu is 0 the weight is, in every draw, and adds no variance and no
    divergence; its rho is held at 0. Training minimises
        E_q[loss] + temperature KL(q || N(0, prior_std^2)) / N
    over N training samples (or tokens or places, of which the loss is a mean), by ``num_samples``
    draws in each step. ``local_reparameterisation``: linear and convolution layers draw their
    outputs, for each sample anew, and not their weights. Evaluation averages what
    ``num_evaluation_samples`` networks answer, the same draws at all times: of a classification
    the probabilities of classes.
    Graves, NeurIPS 2011; Blundell et al., ICML 2015, arXiv 1505.05424; tickets: Kuhn et al., 2026,
    arXiv 2602.18825. Raises UserError for numbers out of range and for a network without such
    weights.
    """

    num_samples: int = 1
    num_evaluation_samples: int = 10
    local_reparameterisation: bool = True
    temperature: float = 0.1
    prior_std: float = 1.0
    initial_std: float = 0.01
    covers: Covers = field(default_factory=Covers)

    def __post_init__(self) -> None:
        for name in ("num_samples", "num_evaluation_samples"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
                raise UserError(f"coordinates.{name}={value!r}: give a whole number, 1 to {MOST}")
        if not isinstance(self.local_reparameterisation, bool):
            value = self.local_reparameterisation
            raise UserError(
                f"coordinates.local_reparameterisation={value!r}: give true (layers draw outputs) "
                "or false (weights are drawn)"
            )
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not least <= value <= most:
                raise UserError(
                    f"coordinates.{name}={value!r}: give a number from {least:g} to {most:g}"
                )

    @property
    def prunes_to_zero(self) -> bool:
        """Says that a pruned entry is a weight of zero, as it is of a network's own weights."""
        return True

    def install(self, module: nn.Module) -> tuple[str, ...]:
        _refuse_network(module)
        chosen = self.covers.names(module)
        _refuse_computed(module, self.covers)
        if not chosen:
            raise UserError(
                "coordinates=gaussian: the model has no linear or convolution layer, and so no "
                "weight that could be Gaussian; covers.types and covers.also name others"
            )
        kinds = kind_by_name(module)
        for name in chosen:
            weight = module.get_parameter(name)
            _refuse_weight(module, name, weight)
            path, _, leaf = name.rpartition(".")
            start = self.initial_std * math.sqrt(2 / _fan_in(weight, kinds.get(name)))
            add_spread(
                module.get_submodule(path), leaf, start, name,
                local=self.local_reparameterisation, prior_std=self.prior_std,
            )  # fmt: skip
        return tuple(own_name(name) for name in chosen)

    def answer_by(self, module: nn.Module, objective: Objective) -> None:
        """Has an installed network average its answers as an objective's predictions are.

        Raises UserError for an objective that does not say how.
        """
        if not isinstance(objective, Averaging):
            raise UserError(
                f"coordinates=gaussian: {type(objective).__name__} does not say how the answers of "
                "several networks are averaged: take objective=classification, next_token, "
                "masked_token, multi_label or regression, or give it a method averaged(outputs)"
            )
        add_answers(module, self.num_evaluation_samples, objective.averaged)

    def penalty(self, module: nn.Module, num: float) -> Tensor:
        """Computes temperature KL(q || prior) / num of an installed network.

        After a pass in which it drew its outputs, whose laws are known: 0, with the same gradient.
        """
        parts = [spread.pull(mu, self.prior_std) for _, mu, spread in gaussians(module)]
        return torch.stack(parts).sum() * (self.temperature / num)

    @torch.no_grad()
    def settle(self, module: nn.Module) -> None:
        """Holds rho of pruned weights at 0, whatever an optimizer's moments hold."""
        pairs = [(spread.rho, mu) for _, mu, spread in gaussians(module)]
        torch._foreach_mul_([rho for rho, _ in pairs], [(mu != 0).to(mu) for _, mu in pairs])


def gaussians(module: nn.Module) -> Iterator[tuple[str, Tensor, Spread]]:
    """Goes through a network's Gaussian weights: the name and the value of mu, and its spread."""
    for path, part in module.named_modules():
        if isinstance(part, Spread):
            name = mu_name(path)
            yield name, module.get_parameter(name), part


def is_rho(name: str) -> bool:
    """Whether a parameter says how wide a weight's law is, and is no weight itself."""
    return "parametrizations." in name and name.endswith(RHO)


def mu_name(path: str) -> str:
    """Names the mu that the spread at a path belongs to."""
    return f"{path.rpartition('.')[0]}.original"


def mu_of(name: str) -> str:
    """Names the mu that a rho belongs to; any other parameter's own name."""
    return f"{name.removesuffix(RHO)}.original" if is_rho(name) else name


def rho_name(name: str) -> str:
    """Names the rho that belongs to the mu of this name."""
    return name.removesuffix(".original") + RHO


def deviations(parts: Iterable[tuple[str, nn.Module]], weights: State, mask: Mask) -> State:
    """Computes sigma = sigma_0 exp(rho) of each covered weight of a State, by the name of its mu.

    ``parts`` are the network's modules by path. Of pruned weights it is sigma_0. Raises UserError
    where weights are not Gaussian.
    """
    starts = {mu_name(path): part.start for path, part in parts if isinstance(part, Spread)}
    if lacking := [name for name in mask if name not in starts]:
        raise UserError(
            f"{listed(lacking)}: weights that are numbers, of no width: take coordinates=gaussian, "
            "or a score of numbers (pruner=imp)"
        )
    return {name: starts[name].cpu() * weights[rho_name(name)].cpu().exp() for name in mask}


def means(state: Mapping[str, Tensor]) -> State:
    """Gives what a State holds under the stock network's names, of Gaussian weights their means."""
    return {stock_name(name): value for name, value in state.items() if not is_rho(name)}


def around(weights: State, base: State) -> State:
    """Makes a State of Gaussian weights whose means are those of the stock network's ``weights``.

    They start as wide as any do, rho = 0. A tensor that ``base`` has the same keeps its width.
    """
    found = {name: weights[stock_name(name)] for name in base if not is_rho(name)}
    for name, rho in base.items():
        if is_rho(name):
            mu = own_name(stock_name(name))
            found[name] = rho if torch.equal(found[mu], base[mu]) else torch.zeros_like(rho)
    return {name: found[name] for name in base}


def _fan_in(weight: Tensor, kind: str | None) -> int:
    return weight.shape[0] if kind == TRANSPOSED else weight[0].numel()


def _refuse_network(module: nn.Module) -> None:
    """Refuses a network whose passes cannot be drawn one by one."""
    if isinstance(module, torch.jit.ScriptModule) or "forward" in vars(module):
        raise UserError(
            f"coordinates=gaussian: the model ({type(module).__name__}) has a compiled forward "
            "pass, or one of its own that was set on the object: define it in the class, in Python"
        )


def _refuse_computed(module: nn.Module, covers: Covers) -> None:
    """Refuses layers whose weight is computed from other tensors, which no Gaussian can be of."""
    if covers.only or covers.blocks:
        return
    for path, layer in module.named_modules():
        if not isinstance(layer, (nn.Linear, _ConvNd)) or "weight" in layer._parameters:
            continue
        raise UserError(
            f"coordinates=gaussian: {path or 'the model'}.weight ({type(layer).__name__}) is no "
            "parameter but computed from other tensors (weight norm, spectral norm, a mask of "
            f"torch.nn.utils.prune) or frozen: take that off, or {CURE}"
        )


def _refuse_weight(module: nn.Module, name: str, weight: nn.Parameter) -> None:
    """Refuses a weight that has no Gaussian of its own."""
    if weight.ndim < 2:
        raise UserError(
            f"coordinates=gaussian: {name} has one axis, and a Gaussian's width follows from how "
            "many inputs a weight's output has: leave it out of covers"
        )
    if weight.dtype in (torch.float16, torch.bfloat16):
        raise UserError(
            f"coordinates=gaussian: {name} is kept in {weight.dtype}, too coarse for a mean beside "
            "a hundredth of it: keep the model in fp32 (train.precision=bf16 computes in halves)"
        )
    owners = [layer for layer, _ in layers_with(module, {id(weight)})]
    if len(owners) > 1:
        shared = f"{type(owners[0]).__name__} and {type(owners[1]).__name__}"
        raise UserError(
            f"coordinates=gaussian: {name} is shared by two layers ({shared}), whose draws would "
            f"differ: give each a weight of its own, or {CURE}"
        )
    if weight._backward_hooks or getattr(weight, "_post_accumulate_grad_hooks", None):
        raise UserError(
            f"coordinates=gaussian: {name} has a hook on its gradient, which would see the mean's "
            f"alone: remove it, or {CURE}"
        )
