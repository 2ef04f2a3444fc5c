"""What is done to a batch of images on its device: augmentation, and then normalisation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lth_runner.problem.data.augmentation import Augmentation, FlipCrop
from lth_runner.values.tree import Batch


@dataclass(frozen=True, eq=False)
class Finish:
    """Augments images of bytes as a batch, and normalises them by channel.

    A batch becomes ``(inputs / 255 - mean) / std``, rounded as images in memory are.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augmentation = field(default_factory=FlipCrop)

    @property
    def identity(self) -> Any:
        return [list(self.mean), list(self.std), self.augment.identity]

    def unaugmented(self) -> Finish:
        """Returns what normalises alone."""
        return replace(self, augment=FlipCrop())

    def plain(self, batch: Batch) -> Batch:
        """Normalises a batch, which is not augmented."""
        images, targets = batch
        assert isinstance(images, Tensor)
        return self._normalised(images), targets

    def augmented(
        self, batch: Batch, seed: int, order: int, step: int, part: tuple[int, int] = (0, 0)
    ) -> Batch:
        """Augments a training batch by what (seed, order, step) draw, and normalises it.

        ``part``: its first sample's place in the whole batch, and how many samples that has,
        where it is a part of one.
        """
        images, targets = batch
        assert isinstance(images, Tensor)
        if self.augment:
            first, whole = part
            draws = self.augment.draw(whole or len(images), seed, order, step)
            draws = draws[:, first : first + len(images)]
            images = self.augment.apply(images, draws.to(images.device))
        return self._normalised(images), targets

    def _normalised(self, images: Tensor) -> Tensor:
        shift = torch.tensor([255.0 * mean for mean in self.mean])
        scale = torch.tensor([1.0 / (255.0 * std) for std in self.std])
        view = (-1, 1, 1) if len(self.mean) > 1 else (-1,)
        shift, scale = (part.view(view).to(images.device) for part in (shift, scale))
        return (images - shift).mul_(scale)
