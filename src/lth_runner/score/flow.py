"""SynFlow scores weights by the network alone, without data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from lth_runner.problem.norm_layers import is_norm
from lth_runner.problem.requirements import input_shape, ones_input
from lth_runner.problem.size import bytes_of_copies
from lth_runner.problem.task import Task
from lth_runner.score import derivatives
from lth_runner.score.checks import KEY, check_one_of
from lth_runner.score.score import Scores
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.state import State

WHAT = f"{KEY}: SynFlow, which feeds the network ones,"


@dataclass(frozen=True)
class Synflow:
    """Scores each weight by the flow through it, |dR/dtheta * theta|, R = sum of f(1; |m * theta|).

    Every tensor of the state, biases and batch norm's statistics too, is replaced by its |.|; one
    input of ones, running statistics, float64 (the authors' float32 under- and overflows in deep
    networks). Without biases the scores of each layer sum to R; ``biases`` says what becomes of
    those of linear layers and convolutions: ``absolute``, as in the authors' code, or ``zero``,
    which restores that sum (a norm's shift stays absolute) and prunes them first, where they are
    prunable. Made to be iterated, 100 steps of exponentially falling density in the paper: in one
    step it removes whole layers.
    Raises UserError for norms without running statistics, which let no flow through, and for an
    infinite R.
    Tanaka et al., NeurIPS 2020, arXiv 2006.05467.
    """

    biases: str = "absolute"

    def __post_init__(self) -> None:
        check_one_of(("absolute", "zero"), biases=self.biases)

    def check(self, task: Task) -> None:
        """Raises UserError for norms without running statistics, and for inputs that are tokens.

        And for Gaussian weights, whose network answers with a mean of probabilities.
        """
        if task.laws is not None:
            raise UserError(
                f"{KEY}: SynFlow adds up what a network of absolute weights answers, and the draws "
                "of coordinates=gaussian answer with a mean of probabilities: take another score "
                "(pruner=magnitude_at_init), or coordinates=weights"
            )
        input_shape(task, WHAT)
        for name, module in task.module().named_modules():
            batch_norm = isinstance(module, nn.modules.batchnorm._NormBase)
            untracked = batch_norm and module.running_var is None
            if untracked or (is_norm(module) and not batch_norm):
                raise UserError(
                    f"{KEY}: SynFlow cannot score a network with {type(module).__name__} ({name}), "
                    "which scales the flow away: use batch norm (norm: batch) or none"
                )

    def bytes_on_device(self, task: Task) -> int:
        """Counts the weights, their |.| and the gradient, in float64."""
        return bytes_of_copies(task, 2, 1, size=8)

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        self.check(task)
        home = derivatives.on_device_with_float64(task)
        start = derivatives.to_device_and_dtype(home, mask(weights), min_dtype=torch.float64)
        positive = {n: v.abs() if v.is_floating_point() else v for n, v in start.items()}
        if self.biases == "zero":
            positive |= {n: torch.zeros_like(positive[n]) for n in _biases(task) & positive.keys()}
        own = {name: positive[name].requires_grad_() for name in mask}
        ones = ones_input(home, WHAT, torch.float64)
        with torch.enable_grad():
            flow = home.outputs(positive, ones).sum()
        if not bool(torch.isfinite(flow)):
            raise UserError(
                f"{KEY}: SynFlow's R is {flow.item()}: the weights are too large for the network's "
                "depth, or not finite"
            )
        found = torch.autograd.grad(
            flow, list(own.values()), allow_unused=True, materialize_grads=True
        )
        return derivatives.on_cpu(
            {name: (g * own[name]).abs() for name, g in zip(own, found, strict=True)}
        )


def _biases(task: Task) -> set[str]:
    """Names the biases of the layers with prunable weights."""
    return {f"{name.removesuffix('weight')}bias" for name in task.dense().of_weights()}
