"""Test samples that a network was trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from lth_runner.problem.data.tensors import Data
from lth_runner.values import tree
from lth_runner.values.seeds import stream
from lth_runner.values.tree import Tree

ROWS = 4096  # of a tensor that are hashed at once
WORD = 4  # bytes


def repeated(data: Data) -> float:
    """Returns the share of the test samples whose inputs are those of a training sample."""
    tested, trained = hashes(data.test[0]), hashes(data.train[0])
    return float(torch.isin(tested, trained).double().mean()) if len(tested) else 0.0


def hashes(inputs: Tree) -> Tensor:
    """Hashes each sample, where it lies: [samples], int64.

    The sum of its words of 32 bits, each times a random number of 64, modulo 2^64: two samples that
    differ have equal ones with a chance of 2^-32 at most.
    """
    device = tree.tensors(inputs)[0].device
    total = torch.zeros(tree.length(inputs), dtype=torch.int64, device=device)
    for place, tensor in enumerate(tree.tensors(inputs)):
        size = tensor[:1].numel() * tensor.element_size()
        num_words = -(-size // WORD)
        weights = torch.empty(num_words, dtype=torch.int64)
        weights.random_(-(2**63), None, generator=stream(place, "hashes"))  # on a CPU, as ever
        weights = weights.to(device)
        for begin in range(0, len(tensor), ROWS):
            rows = tensor[begin : begin + ROWS].contiguous()
            bytes = rows.view(len(rows), -1).view(torch.uint8).view(len(rows), size)
            padded = torch.nn.functional.pad(bytes, (0, num_words * WORD - size)).contiguous()
            words = padded.view(torch.int32).long()
            total[begin : begin + ROWS] += (words * weights).sum(1)
    return total
