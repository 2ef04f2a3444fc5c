"""Augmentation of images in memory, in two parts: random numbers, and a function of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lth_runner.values import identity
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import derive
from lth_runner.values.seeds import stream as generator


class Augmentation(Protocol):
    """Changes images, each by random numbers of its own.

    The numbers come first and the images are a function of them, so that a step can be asked for
    again, and recorded.
    """

    @property
    def captures(self) -> bool:
        """Whether ``apply`` runs on the images' device and asks the host nothing."""

    @property
    def moves(self) -> bool:
        """Whether pixels may end up in other places, where targets of pixels would not follow."""

    @property
    def identity(self) -> Any:
        """What tells this augmentation from another, as JSON has it."""

    def __bool__(self) -> bool:
        """Whether it changes anything."""

    def check(self, shape: tuple[int, ...], name: str) -> None:
        """Raises UserError for samples of a shape that it cannot change."""

    def draw(self, num: int, seed: int, order: int, step: int) -> Tensor:
        """Draws all random numbers of a step, int64 [rows, num], by (seed, order, step)."""

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Changes images [n, channels, height, width], not yet normalised, by what was drawn.

        Their shape and type stay.
        """


@dataclass(frozen=True, eq=False)
class FlipCrop:
    """Flips at random, and crops the image at random out of a black border of ``crop`` pixels."""

    captures: ClassVar[bool] = True

    flip: bool = False
    crop: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.crop, bool) or not isinstance(self.crop, int) or self.crop < 0:
            raise UserError(
                f"augment crop is {self.crop!r}: give the border in whole pixels (0 = no crop)"
            )

    @property
    def moves(self) -> bool:
        return bool(self)

    @property
    def identity(self) -> Any:
        return [self.flip, self.crop]

    def __bool__(self) -> bool:
        return self.flip or self.crop > 0

    def check(self, shape: tuple[int, ...], name: str) -> None:
        if self and len(shape) != 3:
            raise UserError(
                f"{name}: flip and crop need images (channels, height, width), but a sample"
                f" has shape {shape}: switch the augmentation off"
            )
        if self.crop and self.crop >= min(shape[1:]):
            raise UserError(
                f"{name}: dataset.augment_crop={self.crop} would crop some images to "
                f"their black border alone: at most {min(shape[1:]) - 1} for images of "
                f"{shape[1]} x {shape[2]}"
            )

    def draw(self, num: int, seed: int, order: int, step: int) -> Tensor:
        """Draws, for each image, row offset, column offset, flip or not: int64 [3, num].

        Both kinds are always drawn, so switching one on leaves the other as it was.
        """
        rng = generator(seed, "augment", order, step)
        offsets = torch.randint(2 * self.crop + 1, (2, num), generator=rng)
        return torch.cat((offsets, torch.randint(2, (1, num), generator=rng)))

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Crops, then flips."""
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


@dataclass(frozen=True)
class Cutout:
    """Blackens a square of ``size`` pixels around a random place of each image.

    The square may lie partly outside. DeVries & Taylor, 2017, arXiv 1708.04552.
    """

    captures: ClassVar[bool] = True
    moves: ClassVar[bool] = False

    size: int = 8

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise UserError(f"dataset.augment: cutout's size={self.size!r}: give whole pixels")

    @property
    def identity(self) -> Any:
        return identity.describe(self)

    def __bool__(self) -> bool:
        return True

    def check(self, shape: tuple[int, ...], name: str) -> None:
        if len(shape) != 3:
            raise UserError(
                f"{name}: cutout needs images (channels, height, width), but a sample has shape "
                f"{shape}: leave it out"
            )
        if self.size >= 2 * min(shape[1:]):
            raise UserError(
                f"{name}: cutout's size={self.size} blackens whole images of {shape[1]} x "
                f"{shape[2]}: give less than {2 * min(shape[1:])}"
            )

    def draw(self, num: int, seed: int, order: int, step: int) -> Tensor:
        """Draws the centres as shares of height and width, in 2^-31: int64 [2, num]."""
        return torch.randint(2**31, (2, num), generator=generator(seed, "cutout", order, step))

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Sets the squares to zero."""
        inside = []
        for axis, drawn in zip((2, 3), draws, strict=True):
            length = images.shape[axis]
            centre = (drawn * length) >> 31
            place = torch.arange(length, device=images.device)
            away = place[None] - centre[:, None]
            inside.append((away >= -(self.size // 2)) & (away < self.size - self.size // 2))
        hidden = inside[0][:, None, :, None] & inside[1][:, None, None, :]
        return images.masked_fill(hidden, 0)


@dataclass(frozen=True, eq=False)
class Chain:
    """Applies several augmentations one after the other."""

    parts: Sequence[Augmentation]

    @property
    def captures(self) -> bool:
        return all(part.captures for part in self.parts)

    @property
    def moves(self) -> bool:
        return any(part.moves for part in self.parts)

    @property
    def identity(self) -> Any:
        return [part.identity for part in self.parts]

    def __bool__(self) -> bool:
        return any(map(bool, self.parts))

    def check(self, shape: tuple[int, ...], name: str) -> None:
        for part in self.parts:
            part.check(shape, name)

    def draw(self, num: int, seed: int, order: int, step: int) -> Tensor:
        """Draws the parts' numbers, one part's rows below the other's.

        A part's place is part of its seed, so that two equal ones draw apart.
        """
        drawn = [
            part.draw(num, derive(seed, "part", place) if place else seed, order, step)
            for place, part in enumerate(self.parts)
        ]
        return torch.cat(drawn)

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Applies the parts in order, each with its own rows."""
        begin = 0
        for part in self.parts:
            num = len(part.draw(1, 0, 0, 0))
            images = part.apply(images, draws[begin : begin + num])
            begin += num
        return images


def chain(first: FlipCrop, others: Augmentation | Sequence[Augmentation] | None) -> Augmentation:
    """Puts further augmentations behind flip and crop; returns those alone where there is none."""
    more = [] if others is None else list(others) if isinstance(others, Sequence) else [others]
    return Chain([first, *more]) if more else first
