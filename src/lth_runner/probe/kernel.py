"""The neural tangent kernel of the kept weights where the training starts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap

from lth_runner.probe.probe import Value
from lth_runner.probe.reference import (
    check_count,
    dense_training,
    sample,
    sample_numbers,
)
from lth_runner.problem.requirements import input_shape, num_classes_of
from lth_runner.problem.size import bytes_of_copies
from lth_runner.problem.task import Task
from lth_runner.score import derivatives
from lth_runner.search.ticket import Past, Ticket, Trained
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.state import State

WHAT = "probe.kernel, which aligns a kernel with the labels,"
LIMIT = 2**25  # numbers of one block of derivatives: 256 MiB
OUTPUTS = ("sum", "full")
POINTS = ("masked", "dense")


@dataclass(frozen=True)
class TangentKernel:
    """Computes K_m = J_m J_m^T, J_m the derivative of the logits by the kept prunable weights.

    In float64.
    ``outputs=sum``: J is the derivative of sum over classes of f_c / sqrt(classes), K is
    [inputs, inputs] (Mohamadi et al., ICML 2023, arXiv 2206.12543); ``full``: of every logit, K is
    [inputs * classes] squared. ``at=masked`` takes J at m * theta, ``dense`` at theta. Evaluation
    mode; the same ``num_inputs`` training inputs throughout a replicate.

    Effective rank: exp(entropy of the eigenvalues' shares) (Roy & Vetterli, EUSIPCO 2007).
    Alignment: y^T K y / (||K||_F ||y||^2), y the one-hot labels less 1 / classes (with two classes
    half of +-1), summed over classes for ``sum``. Distance: ||lambda - lambda_dense|| /
    ||lambda_dense||, eigenvalues in order, against the start of the dense training.
    Jacot et al., NeurIPS 2018, arXiv 1806.07572; for masks Liu & Zenke, ICML 2020,
    arXiv 2006.08228. Raises UserError for options it does not know.
    """

    num_inputs: int = 64
    outputs: str = "sum"
    at: str = "masked"
    num_eigenvalues: int = 16

    def __post_init__(self) -> None:
        check_count("kernel.num_inputs", self.num_inputs)
        check_count("kernel.num_eigenvalues", self.num_eigenvalues)
        for key, value, known in (("outputs", self.outputs, OUTPUTS), ("at", self.at, POINTS)):
            if value not in known:
                raise UserError(f"probe.kernel.{key}={value!r}: give {' or '.join(known)}")

    def check(self, task: Task) -> None:
        """Raises UserError for a problem without classes, and for inputs that are tokens."""
        num_classes_of(task, WHAT)
        input_shape(task, WHAT)

    def bytes_on_device(self, task: Task) -> int:
        """Counts the weights, in float64."""
        return bytes_of_copies(task, 1, 0, size=8)

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        num = num_classes_of(task, WHAT)
        labels = sample(task, self.num_inputs)[1]
        assert isinstance(labels, Tensor)
        kernel = self.kernel(task, trained.ticket)
        values = eigenvalues(kernel)
        yield "ntk_eigenvalues_curve", values[: self.num_eigenvalues].tolist()
        yield "ntk_trace", float(values.sum())
        yield "ntk_effective_rank", effective_rank(values)
        yield "ntk_label_alignment", label_alignment(kernel, labels, num)
        dense = dense_training(past, trained)
        if dense is None:
            return
        whole = dense.derived(
            f"ntk-{self.outputs}-{self.num_inputs}",
            lambda: {
                "eigenvalues": eigenvalues(self.kernel(task, dense.ticket)) if past else values
            },
        )["eigenvalues"]
        yield "ntk_spectrum_distance", float((values - whole).norm() / whole.norm())

    def kernel(self, task: Task, ticket: Ticket) -> Tensor:
        """Computes K_m of a ticket, float64 on the CPU."""
        weights = ticket.masked if self.at == "masked" else ticket.weights
        num = num_classes_of(task, WHAT)
        inputs = sample_numbers(task, self.num_inputs, WHAT)
        along = torch.eye(num) if self.outputs == "full" else torch.full((1, num), num**-0.5)
        return tangent_kernel(task, weights, ticket.mask, inputs, along)


def tangent_kernel(task: Task, weights: State, mask: Mask, inputs: Tensor, along: Tensor) -> Tensor:
    """Computes J J^T, where J has a row for every input and, within it, every direction of logits.

    Directions are the rows of ``along`` [directions, classes]. The derivatives are held for some of
    the kept weights at a time, so that memory is bounded by blocks of LIMIT numbers and by K.
    """
    home = derivatives.on_device_with_float64(task)
    # asking builds the network, which draws numbers and must not happen inside of vmap
    if unknown := mask.keys() - set(home.prunable):
        raise KeyError(f"no prunable weights: {sorted(unknown)}")
    placed = derivatives.to_device_and_dtype(home, weights, min_dtype=torch.float64)
    x = inputs.to(home.device, torch.float64).repeat_interleave(len(along), dim=0)
    e = along.to(home.device, torch.float64).repeat(len(inputs), 1)

    def slope(own: State, one: Tensor, direction: Tensor) -> Tensor:
        return (home.outputs(placed | own, one[None])[0] * direction).sum()

    each = vmap(grad(slope), in_dims=(None, 0, 0))
    kernel = torch.zeros(len(x), len(x), dtype=torch.float64, device=home.device)
    for part in parts(mask, max(1, LIMIT // len(x))):
        own = {name: placed[name] for name in part}
        widths = [len(index) for index in part.values()]
        jacobian = torch.empty(len(x), sum(widths), dtype=x.dtype, device=x.device)
        size = max(1, LIMIT // sum(value.numel() for value in own.values()))
        for rows, *block in zip(jacobian.split(size), x.split(size), e.split(size), strict=True):
            found = each(own, *block)
            for (name, index), columns in zip(part.items(), rows.split(widths, 1), strict=True):
                columns.copy_(found[name].flatten(1)[:, index.to(x.device)])
        kernel += jacobian @ jacobian.T
    return kernel.cpu()


def parts(mask: Mask, size: int) -> Iterator[dict[str, Tensor]]:
    """Splits the positions of the kept weights, by name, into parts of ``size`` and a rest."""
    part: dict[str, Tensor] = {}
    room = size
    for name, kept in mask.items():
        left = kept.flatten().nonzero().squeeze(1)
        while len(left):
            part[name], left = left[:room], left[room:]
            room -= len(part[name])
            if not room:
                yield part
                part, room = {}, size
    if part:
        yield part


def eigenvalues(kernel: Tensor) -> Tensor:
    """Computes the eigenvalues of a positive semi-definite matrix, largest first.

    What rounding made negative is 0.
    """
    return torch.linalg.eigvalsh(kernel).flip(0).clamp(min=0)


def effective_rank(values: Tensor) -> float:
    """Computes exp of the entropy of the eigenvalues' shares: k for k equal ones, 0 for all 0."""
    total = float(values.sum())
    if not total:
        return 0.0
    shares = values[values > 0] / total
    return math.exp(-float((shares * shares.log()).sum()))


def label_alignment(kernel: Tensor, labels: Tensor, num_classes: int) -> float:
    """Computes y^T K y / (||K||_F ||y||^2), in [0, 1]; NaN for K = 0.

    K has a row by input, or by logit.
    """
    y = F.one_hot(labels.cpu(), num_classes).double() - 1 / num_classes
    if len(kernel) > len(y):
        y = y.reshape(-1, 1)  # input by input, as the rows of K
    scale = float(kernel.norm() * y.square().sum())
    return float((y * (kernel @ y)).sum()) / scale if scale else math.nan
