"""Training batches as a function of the step: no loader, no worker, nothing to resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream as generator


@dataclass(frozen=True, eq=False)
class Augment:
    """Random horizontal flip, and random crop of the image in a black border of ``crop`` pixels."""

    flip: bool = False
    crop: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.crop, bool) or not isinstance(self.crop, int) or self.crop < 0:
            raise UserError(
                f"augment crop is {self.crop!r}: give the border in whole pixels (0 = no crop)"
            )

    def __bool__(self) -> bool:
        return self.flip or self.crop > 0

    def draw(self, num: int, seed: int, order: int, step: int) -> Tensor:
        """The random numbers of one step, int64 [3, num]: row offset, column offset, flip or not.

        Both kinds are always drawn, so switching one on leaves the other as it was.
        """
        rng = generator(seed, "augment", order, step)
        offsets = torch.randint(2 * self.crop + 1, (2, num), generator=rng)
        return torch.cat((offsets, torch.randint(2, (1, num), generator=rng)))

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Crop, then flip, images [n, channels, height, width] that are not yet normalised."""
        rows, columns, flips = draws
        if self.crop:
            images = _crop(images, rows, columns, border=self.crop)
        if self.flip:
            images = torch.where(flips.bool()[:, None, None, None], images.flip(3), images)
        return images


def _crop(images: Tensor, rows: Tensor, columns: Tensor, *, border: int) -> Tensor:
    height, width = images.shape[2:]
    padded = F.pad(images, (border,) * 4)
    # every window of every image, as a view: [n, channels, 2*border+1, 2*border+1, height, width]
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(len(images), device=images.device), :, rows, columns]


class Stream:
    """Endless training batches: ``stream[step]`` depends on (seed, order, step) and nothing else.

    Epoch ``e`` covers steps ``e * steps_per_epoch`` onwards in an order that is a permutation drawn
    from (seed, order, e). The last, short batch of an epoch is dropped, so that every step has the
    same shape. Raises UserError when one batch does not fit the training set.
    """

    def __init__(
        self,
        inputs: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        seed: int,
        order: int = 0,
        augment: Augment | None = None,
        normalise: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if not 1 <= batch_size <= len(labels):
            raise UserError(
                f"train.batch_size={batch_size} does not fit {len(labels)} training samples:"
                f" accepted 1 to {len(labels)}"
            )
        self.batch_size = batch_size
        self.steps_per_epoch = len(labels) // batch_size
        self._inputs, self._labels = inputs, labels
        self._seed, self._order = seed, order
        self._augment = augment if augment else None
        self._normalise = normalise
        self._epoch = -1
        self._batches: tuple[Tensor, ...] = ()

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """(inputs float32 [batch_size, *shape], labels int64 [batch_size]) of one training step."""
        return self.take(*(_sent(drawn, self._labels.device) for drawn in self.draw(step)))

    def draw(self, step: int) -> tuple[Tensor, ...]:
        """All that varies from step to step, on the CPU: the samples' numbers, int64 [batch_size],

        and where images are augmented the random numbers of that, int64 [3, batch_size].
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._shuffle(epoch)
        index = self._batches[position]
        if self._augment is None:
            return (index,)
        return index, self._augment.draw(self.batch_size, self._seed, self._order, step)

    def take(self, index: Tensor, draws: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The batch of what was drawn, both on the data's device: nothing is asked of the host."""
        inputs = self._inputs.index_select(0, index)
        if self._augment is not None and draws is not None:
            inputs = self._augment.apply(inputs, draws)
        if self._normalise is not None:
            inputs = self._normalise(inputs)
        return inputs, self._labels.index_select(0, index)

    def _shuffle(self, epoch: int) -> None:
        if epoch < 0:
            raise IndexError("a step counts from 0")
        rng = generator(self._seed, "data", self._order, epoch)
        permutation = torch.randperm(len(self._labels), generator=rng)
        whole = permutation[: self.steps_per_epoch * self.batch_size]
        self._batches = whole.view(-1, self.batch_size).unbind(0)
        self._epoch = epoch


def _sent(values: Tensor, device: torch.device) -> Tensor:
    """The values on a device, sent without waiting for what it is at work on."""
    if device.type == "cuda":
        values = values.pin_memory()  # from pageable memory the copy may wait all the same
    return values.to(device, non_blocking=True)
