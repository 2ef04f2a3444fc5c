"""Any transform of images as an augmentation, one of torchvision's or of a user's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lth_runner.values.errors import UserError
from lth_runner.values.global_streams import all_seeded
from lth_runner.values.object_identity import describe_object
from lth_runner.values.raised import reason_of
from lth_runner.values.seeds import stream as generator

LOOKS = 8  # at one image under one seed: a coin of its own shows in all but 1 of 128 cases


@dataclass(frozen=True, eq=False)
class Transforms:
    """Applies any transform, such as a pipeline of ``torchvision.transforms.v2``, image by image.

    Its random numbers, from torch's, numpy's or Python's global streams, are seeded for every
    image of every step. It keeps an image's shape and type, uint8 or float: normalisation comes
    after it. Raises UserError, before any training, for one that does not, and for one that gives
    another image under the same seed.
    """

    captures: ClassVar[bool] = False
    moves: ClassVar[bool] = True  # nothing says that one does not

    transform: Any

    @property
    def identity(self) -> Any:
        try:
            return describe_object(self.transform)
        except TypeError as error:
            raise UserError(
                f"dataset.augment: {type(self.transform).__name__} cannot be told from another of "
                f"its kind, so its trainings could not be either: {error}"
            ) from error

    def __bool__(self) -> bool:
        return True

    def check(self, shape: tuple[int, ...], name: str) -> None:
        drawn = torch.rand(shape, generator=generator(0, "look"))  # flipped, black is black
        refused = [self._tried_on(image, name) for image in ((255 * drawn).byte(), drawn)]
        if all(refused):
            raise UserError(
                f"{name}: dataset.augment {type(self.transform).__name__} cannot take an image: "
                f"{refused[0]}"
            )

    def _tried_on(self, image: Tensor, name: str) -> str | None:
        """Says why an image of this type is not taken; raises UserError for what comes of it."""
        said = type(self.transform).__name__
        try:
            found, *others = (self._changed(image, 1) for _ in range(LOOKS))
        except Exception as error:  # a stranger's may raise anything
            return reason_of(error)  # it may be for the other type alone
        if (
            not isinstance(found, Tensor)
            or found.shape != image.shape
            or found.dtype != image.dtype
        ):
            got = (
                f"{found.dtype}, {tuple(found.shape)}" if isinstance(found, Tensor) else type(found)
            )
            raise UserError(
                f"{name}: dataset.augment {said} makes {got} of an image of {image.dtype}, "
                f"{tuple(image.shape)}: it must keep shape and type (normalisation comes after it)"
            )
        if not all(torch.equal(found, other) for other in others):
            raise UserError(
                f"{name}: dataset.augment {said} gives another image under the same seed: a killed "
                "run could not go on; draw its random numbers from torch, numpy or random"
            )
        return None

    def _changed(self, image: Tensor, seed: int) -> Any:
        with all_seeded(seed):
            return self.transform(image)

    def draw(self, num: int, seed: int, order: int, step: int) -> Tensor:
        """Draws a seed for each image: int64 [1, num]."""
        return torch.randint(2**31, (1, num), generator=generator(seed, "transforms", order, step))

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Applies the transform to each image under its seed."""
        pairs = zip(images, draws[0].tolist(), strict=True)
        return torch.stack([self._changed(image, seed) for image, seed in pairs])
