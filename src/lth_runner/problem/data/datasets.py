"""Made-up data, and the last step that all sources of tables share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from lth_runner.problem.data.augmentation import Augmentation, FlipCrop, chain
from lth_runner.problem.data.splits import Split, hold_out, keep_subset
from lth_runner.problem.data.tensors import Data
from lth_runner.values import tree
from lth_runner.values.errors import UserError
from lth_runner.values.memory import refuse_beyond_memory
from lth_runner.values.seeds import stream as generator


def assemble(
    train: Split,
    test: Split,
    *,
    name: str,
    shape: Sequence[int],
    num_classes: int | None,
    found_classes: int | None,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    validation: float,
    split_seed: int,
    subset: float | None,
    augment_flip: bool = False,
    augment_crop: int = 0,
    augment: Augmentation | Sequence[Augmentation] | None = None,
) -> Data:
    """Makes data of what a source loaded: checked against the config, then split.

    ``validation`` samples are held out of train first, then ``subset`` of the rest is kept; both
    are counts when whole numbers and fractions otherwise. Raises UserError.
    """
    found_shape = tuple(tree.tensors(train[0])[0].shape[1:])
    if tuple(shape) != found_shape:
        raise UserError(
            f"{name}: the config says shape={list(shape)} but the samples have shape"
            f" {list(found_shape)}: set dataset.shape to [{','.join(map(str, found_shape))}]"
        )
    if num_classes != found_classes:
        has = "no classes" if found_classes is None else f"{found_classes} classes"
        wanted = "null" if found_classes is None else found_classes
        raise UserError(
            f"{name}: the config says num_classes={num_classes} but the data have"
            f" {has}: set dataset.num_classes={wanted}"
        )
    kept, val = hold_out(train, validation, seed=split_seed)
    return Data(
        train=keep_subset(kept, subset, seed=split_seed),
        val=val,
        test=test,
        num_classes=num_classes,
        mean=mean,
        std=std,
        augment=chain(FlipCrop(flip=augment_flip, crop=augment_crop), augment),
        name=name,
    )


def synthetic(
    *,
    name: str = "synthetic",
    shape: Sequence[int] = (1, 8, 8),
    num_classes: int = 10,
    num_train: int = 1000,
    num_test: int = 500,
    noise: float = 1.0,
    seed: int = 0,
    root: str | None = None,
    validation: float = 0.1,
    split_seed: int = 0,
    subset: float | None = None,
    augment_flip: bool = False,
    augment_crop: int = 0,
    augment: Augmentation | Sequence[Augmentation] | None = None,
) -> Data:
    """Draws Gaussian classes of any shape: x = prototype[label] + noise * N(0, 1).

    Prototypes are N(0, 1) per value, labels as balanced as the counts allow. float32; ``root`` is
    not used.
    """
    for key, value in (("num_train", num_train), ("num_test", num_test)):
        if value < num_classes:
            raise UserError(f"{name}: {key} is {value}: give at least num_classes={num_classes}")
    if not shape or min(shape) < 1 or num_classes < 1:
        raise UserError(
            f"{name}: shape is {list(shape)} and num_classes {num_classes}: give positive sizes"
        )
    if not (math.isfinite(noise) and noise >= 0):
        raise UserError(f"{name}: noise is {noise}: give a standard deviation of 0 or more")
    sizes = f"[{', '.join(map(str, shape))}]"
    refuse_beyond_memory(
        12 * (num_train + num_test) * math.prod(shape),
        f"{name}: dataset.num_train={num_train} and num_test={num_test} samples of {sizes} take, "
        "while they are drawn, three tensors",
    )
    prototypes = torch.randn(num_classes, *shape, generator=generator(seed, "synthetic"))

    def draw(split: str, num: int) -> Split:
        labels = torch.arange(num) % num_classes
        rng = generator(seed, "synthetic", split)
        return prototypes[labels] + noise * torch.randn(num, *shape, generator=rng), labels

    return assemble(
        draw("train", num_train),
        draw("test", num_test),
        name=name,
        shape=shape,
        num_classes=num_classes,
        found_classes=num_classes,
        mean=(0.0,),
        std=(math.sqrt(1 + noise**2),),
        validation=validation,
        split_seed=split_seed,
        subset=subset,
        augment_flip=augment_flip,
        augment_crop=augment_crop,
        augment=augment,
    )
