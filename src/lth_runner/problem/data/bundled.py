"""Tables that come with scikit-learn: no download, for first tries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor

from lth_runner.problem.data.augmentation import Augmentation
from lth_runner.problem.data.datasets import assemble
from lth_runner.problem.data.splits import moments, of_classes
from lth_runner.problem.data.tensors import Data
from lth_runner.values import tree
from lth_runner.values.errors import UserError
from lth_runner.values.memory import refuse_beyond_memory
from lth_runner.values.seeds import stream as generator

FOLDER = "datasets/data"  # in scikit-learn's own
TEST = 0.2  # fixed, so that every split_seed is tested on the same samples


def digits(
    *,
    name: str = "digits",
    shape: Sequence[int] = (1, 8, 8),
    num_classes: int = 10,
    size: int = 8,
    root: str | None = None,
    validation: float = 0.1,
    split_seed: int = 0,
    subset: float | None = None,
    augment_flip: bool = False,
    augment_crop: int = 0,
    augment: Augmentation | Sequence[Augmentation] | None = None,
    classes: Sequence[int] | None = None,
) -> Data:
    """Reads scikit-learn's 1797 handwritten digits, 8x8 with grey levels 0..16.

    With another ``size`` they are enlarged to it by bilinear interpolation, and white is 255 then,
    as in MNIST. A fixed fifth of every class is the test set; ``classes`` takes some of the ten.
    ``root`` is not used.
    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
    """
    images, labels = digit_images(name)
    images, tested = _enlarged(images, size, name), tested_digits(labels)
    train, test, num_found = of_classes(
        (images[~tested], labels[~tested]), (images[tested], labels[tested]), classes, 10
    )
    mean, std = moments(tree.tensors(train[0])[0])
    return assemble(
        train,
        test,
        name=name,
        shape=shape,
        num_classes=num_classes,
        found_classes=num_found,
        mean=mean,
        std=std,
        validation=validation,
        split_seed=split_seed,
        subset=subset,
        augment_flip=augment_flip,
        augment_crop=augment_crop,
        augment=augment,
    )


def diabetes(
    *,
    name: str = "diabetes",
    shape: Sequence[int] = (10,),
    num_classes: int | None = None,
    root: str | None = None,
    validation: float = 0.1,
    split_seed: int = 0,
    subset: float | None = None,
) -> Data:
    """Reads scikit-learn's 442 diabetes patients: ten measurements, how far it went in a year.

    Inputs [10] and targets [1] have mean 0 and standard deviation 1 over the samples that are not
    tested on. A fixed fifth is the test set; ``root`` is not used.
    Source: Efron, Hastie, Johnstone and Tibshirani, Annals of Statistics 2004 (arXiv math/0406456).
    """
    measured, progressed = _diabetes(name)
    inputs, targets = torch.from_numpy(measured), torch.from_numpy(progressed)[:, None]
    num = len(inputs)
    tested = torch.zeros(num, dtype=torch.bool)
    tested[torch.randperm(num, generator=generator(0, "diabetes", "test"))[: round(TEST * num)]] = (
        True
    )
    mean, std = _moments(inputs[~tested])
    [centre], [scale] = _moments(targets[~tested])
    standard = ((targets - centre) / scale).float()
    return assemble(
        (inputs[~tested].float(), standard[~tested]),
        (inputs[tested].float(), standard[tested]),
        name=name,
        shape=shape,
        num_classes=num_classes,
        found_classes=None,
        mean=mean,
        std=std,
        validation=validation,
        split_seed=split_seed,
        subset=subset,
    )


def digit_images(name: str) -> tuple[Tensor, Tensor]:
    """Reads the digits' images (num, 1, 8, 8) as bytes 0..16, and their classes."""
    found = _read(name, "digits.csv.gz", ",")
    if found is None:
        from sklearn.datasets import load_digits

        found = numpy.column_stack(load_digits(return_X_y=True))
    table = torch.from_numpy(found)
    return table[:, :-1].to(torch.uint8).reshape(-1, 1, 8, 8), table[:, -1].long()


def tested_digits(labels: Tensor) -> Tensor:
    """Marks the digits that are tested on: a fixed fifth of every class."""
    tested = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(10):
        members = (labels == label).nonzero().squeeze(1)
        drawn = torch.randperm(len(members), generator=generator(0, "digits", "test", label))
        tested[members[drawn[: round(TEST * len(members))]]] = True
    return tested


def _enlarged(images: Tensor, size: int, name: str) -> Tensor:
    smallest = images.shape[-1]
    if isinstance(size, bool) or not isinstance(size, int) or size < smallest:
        raise UserError(
            f"{name}: dataset.size={size!r}: give the images' side in whole pixels, from {smallest}"
        )
    if size == smallest:
        return images
    refuse_beyond_memory(
        9 * len(images) * size**2,
        f"{name}: dataset.size={size}: {len(images)} images of {size} x {size} take tensors",
    )
    grey = images.float() * (255 / 16)
    larger = F.interpolate(grey, size=(size, size), mode="bilinear", align_corners=False)
    return larger.round().to(torch.uint8)


def _diabetes(name: str) -> tuple[numpy.ndarray, numpy.ndarray]:
    inputs = _read(name, "diabetes_data_raw.csv.gz", None)
    targets = _read(name, "diabetes_target.csv.gz", None)
    if inputs is None or targets is None:
        from sklearn.datasets import load_diabetes

        inputs, targets = load_diabetes(return_X_y=True, scaled=False)
    return inputs, targets


def _read(name: str, file: str, delimiter: str | None) -> numpy.ndarray | None:
    """Reads a table out of the installed scikit-learn, in float64; None where it is elsewhere."""
    found = find_spec("sklearn")
    if found is None:
        raise UserError(f"{name} needs scikit-learn: pip install scikit-learn")
    places = [Path(place) / FOLDER / file for place in found.submodule_search_locations or ()]
    path = next((place for place in places if place.is_file()), None)
    # importing scikit-learn takes a hundred times as long as reading the file
    return None if path is None else numpy.loadtxt(path, delimiter=delimiter)


def _moments(table: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Computes each column's mean and standard deviation, rounded once: equal on any machine."""
    mean, std = [], []
    for column in table.T.tolist():
        centre = math.fsum(column) / len(column)
        mean.append(centre)
        std.append(math.sqrt(math.fsum((v - centre) ** 2 for v in column) / len(column)))
    return tuple(mean), tuple(std)
