"""Splits of images that are decoded when asked for, beside what their config says of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from lth_runner.problem.data.augmentation import Augmentation, FlipCrop, chain
from lth_runner.problem.data.finish import Finish
from lth_runner.problem.data.fits import check_applies, check_moments
from lth_runner.problem.data.pictures import MODES
from lth_runner.problem.data.sampled import EVALUATED, PLAIN, InOrder, SampledData
from lth_runner.problem.data.samples import Subset
from lth_runner.problem.data.splits import moments, numbers_held_out, numbers_kept, of_classes
from lth_runner.problem.data.streaming.broken import Broken, readable
from lth_runner.problem.data.streaming.decoded import Decoded
from lth_runner.problem.data.streaming.encoded import Encoded, Picked
from lth_runner.problem.data.token_table import cached_table
from lth_runner.problem.data.workers import num_workers
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream as generator

MEASURED = 2048  # images by which mean and deviation are measured, where there are more
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ImageTransforms:
    """What becomes of images in training and in evaluation, before they are normalised.

    Each is called with an image of Pillow, as any of ``torchvision.transforms.v2`` is.
    """

    train: Any
    evaluation: Any

    def __post_init__(self) -> None:
        for name in ("train", "evaluation"):
            if not callable(getattr(self, name)):
                raise UserError(
                    f"dataset.transforms.{name} is a {type(getattr(self, name)).__name__}: give a "
                    "part that is called with an image, as torchvision.transforms.v2.Compose is"
                )


@dataclass(frozen=True)
class Decoding:
    """How images are decoded, and what of them is a network's input.

    ``transforms`` take an image as it was decoded (see ``Decoded``); without them images are
    resized to ``shape``. ``mean`` and ``std`` of each channel, in units of 255, are measured where
    they are not given, by at most ``MEASURED`` images. ``broken`` images are refused when one is
    met, or all are tried once and those left out. Raises UserError.
    """

    shape: tuple[int, ...]
    max_pixels: int
    transforms: ImageTransforms | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    broken: Broken = "refuse"
    workers: int | None = None
    cache: str | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or self.shape[0] not in MODES or min(self.shape) < 1:
            raise UserError(
                f"dataset.shape={list(self.shape)}: give [1 or 3, height, width] of the images"
            )
        if isinstance(self.max_pixels, bool) or self.max_pixels < 1:
            raise UserError(f"dataset.max_pixels={self.max_pixels!r}: give a whole number above 0")
        if self.broken not in get_args(Broken):
            raise UserError(f"dataset.broken={self.broken!r}: accepted: refuse, skip")
        if (self.mean is None) != (self.std is None):
            raise UserError(
                f"dataset.mean={self.mean} and dataset.std={self.std}: give both, or neither to "
                "have them measured"
            )
        if self.mean is not None and self.std is not None:
            check_moments(tuple(self.mean), tuple(self.std), self.shape[0], "dataset")
        num_workers(self.workers)

    @property
    def num_workers(self) -> int:
        """How many processes decode."""
        return num_workers(self.workers)

    def readable(self, encoded: Encoded, what: str) -> tuple[Encoded, int]:
        """Leaves out broken images where that is asked for; says how many they are."""
        if self.broken == "refuse":
            return encoded, 0
        return readable(
            encoded, what, channels=self.shape[0], max_pixels=self.max_pixels,
            workers=self.num_workers, cache=self.cache,
        )  # fmt: skip

    def decoded(self, encoded: Encoded, *, training: bool = False) -> Decoded:
        """Makes samples of images, transformed as in training or as in evaluation."""
        name = "train" if training else "evaluation"
        chosen = None if self.transforms is None else getattr(self.transforms, name)
        made = Decoded(encoded, self.shape, chosen, self.max_pixels, f"transforms.{name}")
        made.check()
        return made

    def moments(self, plain: Decoded) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Returns mean and deviation of each channel, given or measured."""
        if self.mean is not None and self.std is not None:
            return tuple(map(float, self.mean)), tuple(map(float, self.std))
        num = min(MEASURED, len(plain))

        def make() -> dict[str, Tensor]:
            index = torch.randperm(len(plain), generator=generator(0, "moments"))[:num]
            made_by = SampledData(
                train=plain, val=None, test=plain, plain=plain, workers=self.num_workers
            )
            requests = InOrder(PLAIN, num, EVALUATED, index)
            pieces = [made_by.made(requests, place)[0] for place in range(-(-num // EVALUATED))]
            images = torch.cat([piece for piece in pieces if isinstance(piece, Tensor)])
            mean, std = moments(images)
            return {"moments": torch.tensor([mean, std], dtype=torch.float64)}

        found = cached_table(
            ["moments", MEASURED, plain.fingerprint], make, self.cache, kind="images",
            told=f"data     measuring dataset.mean and std by {num:,} of {len(plain):,} images",
        )["moments"]  # fmt: skip
        mean, std = found.tolist()
        return tuple(mean), tuple(std)


def streamed(
    train: Encoded,
    test: Encoded,
    val: Encoded | None,
    *,
    decoding: Decoding,
    name: str,
    num_classes: int,
    validation: float,
    split_seed: int,
    subset: float | None,
    classes: Sequence[int] | None = None,
    found_classes: int | None = None,
    augment_flip: bool = False,
    augment_crop: int = 0,
    augment: Augmentation | Sequence[Augmentation] | None = None,
    told: str = "",
) -> SampledData:
    """Makes data of encoded images, as ``assemble`` does of images in memory.

    Without ``val``, ``validation`` samples are held out of train, and are transformed as in
    evaluation; then ``subset`` of the rest is kept. ``told`` says where the images are from.
    Without transforms the batches are those of images in memory, to the bit. Raises UserError.
    """
    if train.fingerprint == test.fingerprint:
        _log.warning("data     %s: the test images are the training images", name)
    named = {"train": train, "test": test} | ({} if val is None else {"val": val})
    broken = 0
    for split, encoded in named.items():
        named[split], num = decoding.readable(encoded, f"{name}: {split}")
        broken += num
    num_found = found_classes if found_classes is not None else _num_classes(named.values())
    if classes is not None:
        named = {
            split: _of_classes(encoded, classes, num_found) for split, encoded in named.items()
        }
        num_found = len(classes)
    if num_found != num_classes and (found_classes is not None or num_found > num_classes):
        raise UserError(
            f"{name}: the config says num_classes={num_classes} but the data have {num_found} "
            f"classes: set dataset.num_classes={num_found}"
        )
    augmenting = chain(FlipCrop(flip=augment_flip, crop=augment_crop), augment)
    if augmenting:
        augmenting.check(decoding.shape, name)
        check_applies(augmenting, torch.zeros(1, *decoding.shape, dtype=torch.uint8), name)
    plain = decoding.decoded(named["train"])
    mean, std = decoding.moments(plain)
    changed = plain
    if decoding.transforms is not None:
        changed = decoding.decoded(named["train"], training=True)
    rest, held = numbers_held_out(len(plain), 0 if val is not None else validation, seed=split_seed)
    if subset is not None:
        rest = rest[numbers_kept(len(rest), subset, seed=split_seed)]
    held_out = Subset(plain, held) if len(held) else None
    total = sum(len(encoded) for encoded in named.values())
    workers = decoding.num_workers
    by = f"ahead of time (dataset.workers={workers})" if workers else "by no worker"
    left_out = f", {broken:,} left out as broken" if broken else ""
    return SampledData(
        train=Subset(changed, rest),
        val=decoding.decoded(named["val"]) if val is not None else held_out,
        test=decoding.decoded(named["test"]),
        plain=Subset(plain, rest),
        num_classes=num_classes,
        name=name,
        finish=Finish(mean, std, augmenting),
        workers=workers,
        told=f"streamed: {total:,} images of {told}{left_out}, decoded {by}",
    )


def _num_classes(splits: Iterable[Encoded]) -> int:
    """Counts classes by the largest number of all splits."""
    return max(int(encoded.labels.max()) for encoded in splits) + 1


def _of_classes(encoded: Encoded, classes: Sequence[int], num_found: int) -> Encoded:
    """Takes the images of some classes, numbered anew in this order."""
    index = torch.arange(len(encoded))[:, None]
    (kept, labels), _, _ = of_classes((index, encoded.labels), (index, encoded.labels), classes,
                                      num_found)  # fmt: skip
    assert isinstance(kept, Tensor)
    assert isinstance(labels, Tensor)
    return Picked(encoded, kept.squeeze(1), labels)
