"""Measuring several networks by one pass of all of them over a split."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lth_runner.problem.data import Data
from lth_runner.problem.objective import Objective, Separable
from lth_runner.training.engines.compiled import by_feature
from lth_runner.values.tree import Batch

EVALUATED = 256  # samples at once, feature by feature: such a batch stays in the cache


class Evaluation:
    """Passes of ``num`` networks, packed in compiled loops, over splits laid out once for all."""

    def __init__(self, network: nn.Module, data: Data, objective: Objective, num: int) -> None:
        assert isinstance(objective, Separable)
        self._network, self._data, self._objective, self._num = network, data, objective, num
        self._splits: dict[str, Sequence[tuple[Tensor, Tensor]]] = {}

    @torch.no_grad()
    def __call__(self, split: str) -> list[dict[str, float]]:
        """Measures each network on a split, a figure by name; empty where the split is."""
        num, totals = self._num, []
        self._network.eval()
        for inputs, targets in self._laid_out(split):
            outputs = self._network(inputs.expand(num, *inputs.shape))[:, : len(targets)]
            repeated = targets.repeat(num, *[1] * (targets.ndim - 1))
            added = self._objective.totals_by_sample(outputs.flatten(0, 1), repeated)
            totals.append(added.view(len(added), num, -1).sum(2))
        self._network.train()
        if not totals:
            return [{} for _ in range(num)]
        return [self._objective.values(lane) for lane in torch.stack(totals).sum(0).t()]

    def _laid_out(self, split: str) -> Sequence[tuple[Tensor, Tensor]]:
        """Lays a split out feature by feature, when it is first asked for."""
        if split not in self._splits:
            batches = map(plain, self._data.batches(split, EVALUATED))
            shape = self._data.shape
            self._splits[split] = [
                (by_feature(inputs).t().unflatten(1, shape), targets) for inputs, targets in batches
            ]
        return self._splits[split]


def plain(batch: Batch) -> tuple[Tensor, Tensor]:
    """Gives the tensors of a batch that can be packed."""
    inputs, targets = batch
    assert isinstance(inputs, Tensor)  # what cannot be packed has been told before
    assert isinstance(targets, Tensor)
    return inputs, targets
