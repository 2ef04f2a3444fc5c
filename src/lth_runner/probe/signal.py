"""How large the signal is in each layer where the training starts, beside mean-field theory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from lth_runner.probe.probe import Value
from lth_runner.probe.reference import check_count, sample_numbers
from lth_runner.problem.places import moved
from lth_runner.problem.requirements import input_shape
from lth_runner.problem.size import bytes_of_copies
from lth_runner.problem.task import Task
from lth_runner.score import derivatives
from lth_runner.search.ticket import Past, Trained
from lth_runner.values import state as states
from lth_runner.values.mask import Mask
from lth_runner.values.state import State

WHAT = "probe.signal, which predicts the layers' signal from plain inputs,"


@dataclass(frozen=True)
class Signal:
    """Measures the pre-activations' mean square by layer at m * theta, and predicts it.

    Measured: mean of z^2 over units, positions and ``num_inputs`` training inputs, in evaluation
    mode; layers in the order in which they are run. Predicted for a chain of layers with ReLU:
    q_1 = g_1 mean(x^2) + mean(b_1^2), q_l = g_l / 2 q_(l-1) + mean(b_l^2), where
    g_l = (sum of m w^2) / outputs is measured, since a magnitude mask keeps large weights; ``iid``
    puts (1 - s_l) sigma_w^2 in its place, sigma_w^2 = fan_in mean(w^2) over the unmasked weights:
    what a random mask expects. chi_l = g_l / 2; critical is chi = 1, for a random mask
    sigma_w^2 = 2 / (1 - s). Networks with norm layers get no prediction: those reset the scale.
    Poole et al., NeurIPS 2016, arXiv 1606.05340; Schoenholz et al., ICLR 2017, arXiv 1611.01232;
    He et al., ICCV 2015, arXiv 1502.01852.
    """

    num_inputs: int = 256

    def __post_init__(self) -> None:
        check_count("signal.num_inputs", self.num_inputs)

    def check(self, task: Task) -> None:
        """Raises UserError for inputs that are tokens."""
        input_shape(task, WHAT)

    def bytes_on_device(self, task: Task) -> int:
        """Counts the weights, in float64."""
        return bytes_of_copies(task, 1, 0, size=8)

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        ticket = trained.ticket
        mask = ticket.mask.of_weights()
        inputs = sample_numbers(task, self.num_inputs, WHAT)
        measured = preactivation_variance(task, ticket.masked, inputs)
        actual, iid = gains(ticket.masked, mask), iid_gains(ticket.weights, mask)
        yield "preactivation_variance_by_layer", measured
        if not task.norm:
            first = float(inputs.double().square().mean())
            bias = {name: mean_square_bias(ticket.masked, name) for name in measured}
            yield (
                "preactivation_variance_predicted_by_layer",
                predicted_variance(first, {name: actual[name] for name in measured}, bias),
            )
            yield (
                "preactivation_variance_iid_by_layer",
                predicted_variance(first, {name: iid[name] for name in measured}, bias),
            )
        yield "chi_by_layer", {name: gain / 2 for name, gain in actual.items()}
        yield "chi", geometric_mean(actual) / 2
        yield "chi_iid_by_layer", {name: gain / 2 for name, gain in iid.items()}
        yield "chi_iid", geometric_mean(iid) / 2
        yield "critical_weight_variance", 2 / mask.density if mask.density else math.inf


@torch.no_grad()
def preactivation_variance(task: Task, weights: State, inputs: Tensor) -> dict[str, float]:
    """Measures the mean of z^2 of each prunable layer run as a module, in order of running."""
    home = derivatives.on_device_with_float64(task)
    module = moved(home.module(), torch.float64).eval()
    states.write(module, weights)
    found: dict[str, list[Tensor]] = {}  # a shared layer runs more than once
    for name, layers in layers_of(module, home.dense().of_weights()).items():
        for layer in layers:
            layer.register_forward_hook(_recorder(found, name))
    module(inputs.to(home.device, torch.float64))
    return {name: fmean(map(float, values)) for name, values in found.items()}


def _recorder(found: dict[str, list[Tensor]], name: str) -> Callable[..., None]:
    def record(layer: nn.Module, arguments: object, output: Tensor) -> None:
        found.setdefault(name, []).append(output.square().mean())

    return record


def layers_of(module: nn.Module, prunable: Iterable[str]) -> dict[str, list[nn.Module]]:
    """Finds the layers that hold each prunable weight: several where they share it."""
    parameters = dict(module.named_parameters())
    return {
        name: [
            layer
            for layer in module.modules()
            if layer._parameters.get("weight") is parameters[name]
        ]
        for name in prunable
    }


def gains(masked: State, mask: Mask) -> dict[str, float]:
    """Sums m w^2 per output of each layer, by which it multiplies the mean square."""
    return {name: float(masked[name].double().square().sum()) / len(masked[name]) for name in mask}


def iid_gains(weights: State, mask: Mask) -> dict[str, float]:
    """Computes (1 - s) sigma_w^2 of each layer, the gain that a random mask of its density expects.

    s is the layer's sparsity.
    """
    whole, density = gains(weights, mask), mask.layer_density()
    return {name: density[name] * whole[name] for name in mask}


def predicted_variance(
    inputs: float, gain: Mapping[str, float], bias: Mapping[str, float]
) -> dict[str, float]:
    """Predicts each layer's q in a chain with ReLU; ``inputs`` is mean(x^2), ``bias`` mean(b^2)."""
    found: dict[str, float] = {}
    below = inputs
    for name in gain:
        found[name] = gain[name] * below + bias[name]
        below = found[name] / 2  # what ReLU leaves of a symmetric signal
    return found


def mean_square_bias(weights: State, name: str) -> float:
    """Computes mean(b^2) of the layer that a weight belongs to; 0 where it has no bias."""
    bias = weights.get(f"{name.removesuffix('weight')}bias")
    return 0.0 if bias is None else float(bias.double().square().mean())


def geometric_mean(values: Mapping[str, float]) -> float:
    """Computes the geometric mean of the layers' factors; 0 where one layer is empty."""
    if min(values.values()) <= 0:
        return 0.0
    return math.exp(fmean(math.log(value) for value in values.values()))
