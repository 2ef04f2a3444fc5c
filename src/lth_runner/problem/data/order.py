"""Which samples a training step takes."""

from __future__ import annotations

import torch
from torch import Tensor

from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream as generator


class Order:
    """The samples of each step, a function of (seed, order, step): there is nothing to resume.

    ``order[step]`` is int64 [batch_size]. Epoch e covers steps e * ``steps_per_epoch`` onwards in
    a permutation drawn from (seed, order, e); the last, short batch of an epoch is dropped, so
    that every step has the same shape. Raises UserError when one batch does not fit.
    """

    def __init__(self, num: int, batch_size: int, seed: int, order: int) -> None:
        if not 1 <= batch_size <= num:
            raise UserError(
                f"train.batch_size={batch_size} does not fit {num} training samples:"
                f" accepted 1 to {num}"
            )
        self.steps_per_epoch = num // batch_size
        self._num, self._size, self._seed, self._order = num, batch_size, seed, order
        self._epoch = -1
        self._batches: tuple[Tensor, ...] = ()

    def __getitem__(self, step: int) -> Tensor:
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            if epoch < 0:
                raise IndexError("a step counts from 0")
            rng = generator(self._seed, "data", self._order, epoch)
            permutation = torch.randperm(self._num, generator=rng)
            whole = permutation[: self.steps_per_epoch * self._size]
            self._batches = whole.view(-1, self._size).unbind(0)
            self._epoch = epoch
        return self._batches[position]


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Sends values to a device without waiting for what it is at work on."""
    if device.type == "cuda":
        values = values.pin_memory()  # from pageable memory the copy may wait all the same
    return values.to(device, non_blocking=True)
