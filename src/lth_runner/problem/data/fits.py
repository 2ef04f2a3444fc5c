"""Whether the splits of a table fit together, and what is laid on them fits them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lth_runner.problem.data.augmentation import Augmentation
from lth_runner.problem.data.splits import Split, check_split
from lth_runner.values import tree
from lth_runner.values.errors import UserError
from lth_runner.values.ignored import IGNORED
from lth_runner.values.raised import reason_of


def check_samples(
    split: Split, train: Split, num_classes: int | None, where: str, *, empty: bool
) -> None:
    """Raises UserError for a split whose samples are not as train's, or whose labels are none.

    ``empty``: whether it may have no sample.
    """
    inputs, targets = split
    check_split(split, where)
    if tree.describe(inputs) != tree.describe(train[0]):
        raise UserError(
            f"{where} samples are {tree.describe(inputs)}, train's are"
            f" {tree.describe(train[0])}: give the same in every split"
        )
    if not tree.length(targets):
        if not empty:
            raise UserError(f"{where} is empty: it needs at least one sample")
    elif num_classes is not None and isinstance(targets, Tensor):
        _check_classes(num_classes, targets, where)


def _check_classes(num_classes: int, targets: Tensor, where: str) -> None:
    if targets.dtype != torch.int64:
        raise UserError(
            f"{where} targets are {targets.dtype} of shape {tuple(targets.shape)}: with"
            f" num_classes={num_classes} give integer class numbers; set num_classes=null for other"
            " targets"
        )
    known = targets[targets != IGNORED]
    low, high = (int(known.min()), int(known.max())) if known.numel() else (0, 0)
    if low < 0 or high >= num_classes:
        raise UserError(
            f"{where} labels run from {low} to {high}:"
            f" accepted 0 to {num_classes - 1} (num_classes={num_classes})"
        )


def check_finite(split: Split, where: str) -> None:
    """Raises UserError for inputs or targets that are NaN or infinite."""
    for values in (*tree.tensors(split[0]), *tree.tensors(split[1])):
        if values.is_floating_point() and not values.isfinite().all():
            raise UserError(f"{where} holds NaN or infinite values: clean the data first")


def check_moments(
    mean: tuple[float, ...], std: tuple[float, ...], channels: int, name: str
) -> None:
    """Raises UserError for a mean and a deviation that no channels have."""
    accepted = sorted({1, channels})
    if len(mean) != len(std) or len(mean) not in accepted:
        raise UserError(
            f"{name}: mean has {len(mean)} and std {len(std)} values:"
            f" give {' or '.join(map(str, accepted))} of each (all, or one per channel)"
        )
    if not all(math.isfinite(value) for value in mean):
        raise UserError(f"{name}: mean is {mean}: give finite numbers")
    if not all(math.isfinite(value) and value > 0 for value in std):
        raise UserError(f"{name}: std is {std}: give positive numbers")


def check_applies(augment: Augmentation, images: Tensor, name: str) -> None:
    """Raises UserError where images of this type cannot be augmented."""
    try:
        augment.apply(images, augment.draw(len(images), 0, 0, 0).to(images.device))
    except UserError:
        raise
    except Exception as error:  # a stranger's may raise anything
        kind = str(images.dtype).removeprefix("torch.")
        raise UserError(
            f"{name}: dataset.augment cannot take an image of {kind}: {reason_of(error)}"
        ) from error


def check_augmented(augment: Augmentation, train: Split, name: str) -> None:
    """Raises UserError where samples cannot be augmented, or their targets would not follow."""
    inputs, targets = train
    if not isinstance(inputs, Tensor):
        raise UserError(f"{name}: inputs by name cannot be augmented: leave the augmentation out")
    augment.check(tuple(inputs.shape[1:]), name)
    check_applies(augment, inputs[:1], name)
    if not augment.moves:
        return
    for values in tree.tensors(targets):
        per_sample = 1 if values.dtype == torch.int64 else 2  # a class, or a vector
        if math.prod(values.shape[per_sample:]) > 1:
            raise UserError(
                f"{name}: the augmentation moves pixels, but targets of shape "
                f"{tuple(values.shape[1:])} belong to places and would not follow: leave "
                "dataset.augment_flip, dataset.augment_crop and dataset.augment out, or take "
                "cutout, which moves none"
            )
