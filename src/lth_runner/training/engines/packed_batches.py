"""The batches of several networks that are trained as one, put together for each step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lth_runner.problem.data import Data, Stream
from lth_runner.training.engines.compiled import SAMPLES, by_feature, gather, padded
from lth_runner.training.engines.packed_evaluation import plain
from lth_runner.training.loop import Loop


class Stacked:
    """Gives a step's inputs [replicates, samples, ...] and targets, lane after lane.

    One buffer for all steps: a fresh one of this size is a page fault a page.
    """

    def __init__(self, lanes: Sequence[Loop]) -> None:
        self._lanes = lanes
        self._buffer: Tensor | None = None

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Puts together what the lanes' next step is of."""
        inputs, targets = zip(*(plain(lane.batch()) for lane in self._lanes), strict=True)
        self._buffer = torch.stack(inputs, out=self._buffer)
        return self._buffer, torch.cat(targets)


class ByFeature:
    """Gives the same for compiled loops: in memory inputs lie feature by feature.

    They are padded to whole vectors of samples, in one buffer too.
    """

    def __init__(self, lanes: Sequence[Loop], data: Data, batch_size: int) -> None:
        self._lanes, self._data = lanes, data
        size = len(lanes), torch.Size(data.shape).numel(), padded(batch_size, SAMPLES)
        self._buffer = torch.zeros(size)

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Puts together what the lanes' next step is of."""
        data = self._data
        whole, wanted = plain(data.train)
        as_it_is = whole.is_contiguous() and whole.dtype == torch.float32
        if data.normalised and as_it_is:  # nothing is to be done to a sample but to lay it there
            index = torch.stack([_drawn(lane) for lane in self._lanes])
            gather(whole, index, self._buffer)
            together = wanted.index_select(0, index.view(-1))
        else:
            inputs, targets = zip(*(plain(lane.batch()) for lane in self._lanes), strict=True)
            torch.stack([by_feature(batch) for batch in inputs], out=self._buffer)
            together = torch.cat(targets)
        return self._buffer.transpose(1, 2).unflatten(2, data.shape), together


def _drawn(lane: Loop) -> Tensor:
    """Draws the numbers of the samples of a lane's step."""
    assert isinstance(lane.stream, Stream)
    return lane.stream.draw(lane.step)[0]
