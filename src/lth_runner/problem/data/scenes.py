"""Scenes of several handwritten digits: the class of every pixel of ink is to be told."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lth_runner.problem.data.augmentation import Augmentation
from lth_runner.problem.data.bundled import digit_images, tested_digits
from lth_runner.problem.data.datasets import assemble
from lth_runner.problem.data.splits import moments
from lth_runner.problem.data.tensors import Data
from lth_runner.values.errors import UserError
from lth_runner.values.ignored import IGNORED
from lth_runner.values.memory import refuse_beyond_memory
from lth_runner.values.seeds import stream as generator

INK = 4  # of 16 grey levels: what is paler may belong to nobody
MOST_DIGITS = 100  # of one scene


def digit_scenes(
    *,
    name: str = "digit_scenes",
    shape: Sequence[int] = (1, 16, 16),
    num_classes: int = 10,
    num_digits: int = 2,
    num_train: int = 4000,
    num_test: int = 500,
    noise: float = 0.1,
    seed: int = 0,
    root: str | None = None,
    validation: float = 0.1,
    split_seed: int = 0,
    subset: float | None = None,
    augment: Augmentation | Sequence[Augmentation] | None = None,
) -> Data:
    """Draws scenes of ``num_digits`` of scikit-learn's digits, each 8x8 pixels at a random place.

    A pixel's target is the class of the digit whose ink it is, int64 [height, width]. Pixels
    without ink and those where two digits lie take no part (-100), so that guessing is right for a
    tenth of the others, and a background that is everywhere cannot be what was learned. ``noise``
    is N(0, noise) on grey levels of 0 to 1. Scenes to test on are of digits that are in no other.
    ``root`` is not used. Raises UserError.
    """
    for key, value, least in (
        ("num_train", num_train, 1), ("num_test", num_test, 1), ("num_digits", num_digits, 1),
    ):  # fmt: skip
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UserError(f"{name}: dataset.{key}={value!r}: give a whole number from {least}")
    if num_digits > MOST_DIGITS:
        raise UserError(f"{name}: dataset.num_digits={num_digits}: give at most {MOST_DIGITS}")
    if len(shape) != 3 or shape[0] != 1 or min(shape[1:]) < 8:
        raise UserError(
            f"{name}: dataset.shape={list(shape)}: give [1, height, width], at least [1, 8, 8]"
        )
    if not 0 <= noise < 1:
        raise UserError(f"{name}: dataset.noise={noise}: give a standard deviation from 0 to 1")
    refuse_beyond_memory(
        20 * (num_train + num_test) * math.prod(shape),
        f"{name}: dataset.num_train={num_train} and num_test={num_test} scenes of "
        f"{shape[1]} x {shape[2]} pixels take images, targets and noise",
    )
    images, labels = digit_images(name)
    tested = tested_digits(labels)

    def draw(split: str, num: int, chosen: Tensor) -> tuple[Tensor, Tensor]:
        rng = generator(seed, "digit_scenes", split)
        return _scenes(images[chosen], labels[chosen], num, num_digits, shape, noise, rng)

    train, targets = draw("train", num_train, ~tested)
    mean, std = moments(train)
    return assemble(
        (train, targets),
        draw("test", num_test, tested),
        name=name,
        shape=shape,
        num_classes=num_classes,
        found_classes=10,
        mean=mean,
        std=std,
        validation=validation,
        split_seed=split_seed,
        subset=subset,
        augment=augment,
    )


def _scenes(
    images: Tensor,
    labels: Tensor,
    num: int,
    num_digits: int,
    shape: Sequence[int],
    noise: float,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Puts digits on ``num`` canvases, later ones over earlier ones where ink is darker."""
    _, height, width = shape
    side = images.shape[-1]
    chosen = torch.randint(len(images), (num, num_digits), generator=rng)
    tops = torch.randint(height - side + 1, (num, num_digits), generator=rng)
    lefts = torch.randint(width - side + 1, (num, num_digits), generator=rng)
    canvas = torch.zeros(num, height, width, dtype=torch.uint8)
    inked = torch.zeros(num, height, width, dtype=torch.uint8)  # by how many digits
    targets = torch.full((num, height, width), IGNORED)
    offset, scene = torch.arange(side), torch.arange(num)[:, None, None]
    for which in range(num_digits):
        picked, digits = chosen[:, which], images[chosen[:, which], 0]
        rows = (tops[:, which, None] + offset)[:, :, None]
        columns = (lefts[:, which, None] + offset)[:, None, :]
        place = (scene, rows, columns)
        ink = digits >= INK
        canvas[place] = torch.maximum(canvas[place], digits)
        inked[place] = inked[place] + ink.to(torch.uint8)
        targets[place] = torch.where(ink, labels[picked][:, None, None], targets[place])
    targets[inked != 1] = IGNORED
    grey = canvas.float() / 16 + noise * torch.randn(num, height, width, generator=rng)
    return (grey.clamp(0, 1) * 255).round().to(torch.uint8)[:, None], targets
