"""Samples that are decoded images, each transformed under a seed of its own."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy
import torch
from torch import Tensor

from lth_runner.problem.data.pictures import MAX_PIXELS, as_bytes, picture, pixels
from lth_runner.problem.data.streaming.encoded import Encoded
from lth_runner.values import identity
from lth_runner.values.errors import UserError
from lth_runner.values.global_streams import all_seeded
from lth_runner.values.object_identity import describe_object
from lth_runner.values.raised import reason_of
from lth_runner.values.seeds import stream as generator
from lth_runner.values.tree import Batch

Pixels = numpy.ndarray[Any, Any]
FORMAT = 1  # part of the fingerprint: raise it when other pixels come of the same bytes
LOOKED_AT = 8  # images by which a decoder, and a transform, are told from others
LOOKS = 4  # at one image under one seed: a coin of its own shows in all but 1 of 8 cases


@dataclass(frozen=True, eq=False)
class Decoded:
    """Images of bytes, uint8 [channels, height, width], with the number of a class each.

    ``transform``, such as a pipeline of ``torchvision.transforms.v2``, takes an image of Pillow and
    returns one, or a tensor of bytes, of ``shape``; what it draws from the global streams of torch,
    numpy and Python is seeded for each sample of each step. Without one an image is resized to
    ``shape``, not cropped. Raises UserError, naming the image, for what cannot be decoded, and for
    a transform that returns something else.
    """

    encoded: Encoded
    shape: tuple[int, ...]
    transform: Any = None
    max_pixels: int = MAX_PIXELS
    key: str = "transform"  # what messages call the transform

    @cached_property
    def fingerprint(self) -> str:
        """Hashes the encoded images, the transform, and what comes of some under one seed.

        Another version of a decoder may round otherwise.
        """
        number = torch.linspace(0, len(self) - 1, min(LOOKED_AT, len(self)), dtype=torch.float64)
        images, _ = self.take(number.long(), generator(0, "look"))
        assert isinstance(images, Tensor)
        seen = images.numpy().tobytes()
        described = [FORMAT, list(self.shape), self.encoded.fingerprint, self._described]
        return identity.digest([*described, identity.digest(seen.hex())])

    @property
    def _described(self) -> Any:
        if self.transform is None:
            return None
        try:
            return describe_object(self.transform)
        except TypeError as error:
            raise UserError(
                f"dataset.{self.key}: {type(self.transform).__name__} cannot be told from another "
                f"of its kind, so its trainings could not be either: {error}"
            ) from error

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def targets(self) -> Tensor:
        """The class of each image, for which none is decoded."""
        return self.encoded.labels

    def take(self, index: Tensor, draw: torch.Generator) -> Batch:
        images = numpy.empty((len(index), *self.shape), dtype=numpy.uint8)
        seeds = torch.randint(2**63 - 1, (len(index),), generator=draw).tolist()
        with all_seeded(0):  # puts back what each image seeds anew, once for a batch
            for place, number in enumerate(index.tolist()):
                images[place] = self._image(number, seeds[place])
        return torch.from_numpy(images), self.encoded.labels[index]

    def check(self) -> None:
        """Raises UserError for a transform that gives another image under the same seed."""
        if self.transform is None or not len(self):
            return
        with all_seeded(0):
            first, *others = (self._image(0, 1) for _ in range(LOOKS))
        if not all((first == other).all() for other in others):
            raise UserError(
                f"dataset.{self.key}: {type(self.transform).__name__} gives another image under "
                "the same seed: a killed run could not go on; draw its random numbers from torch, "
                "numpy or random"
            )

    def _image(self, number: int, seed: int) -> Pixels:
        content, where = self.encoded.read(number), _Where(self.encoded, number)
        try:
            if self.transform is None:
                return pixels(content, self.shape, max_pixels=self.max_pixels, where=where)
            image = picture(content, self.shape[0], max_pixels=self.max_pixels, where=where)
        except UserError as error:
            raise UserError(f"{error}; dataset.broken=skip leaves out what is broken") from error
        torch.default_generator.manual_seed(seed)
        numpy.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            changed = self.transform(image)
        except Exception as error:  # a stranger's may raise anything
            reason = reason_of(error)
            raise UserError(
                f"dataset.{self.key} cannot take the image {where}: {reason}"
            ) from error
        found = changed.numpy() if isinstance(changed, Tensor) else self._bytes_of(changed)
        if found.dtype != numpy.uint8 or found.shape != self.shape:
            raise UserError(
                f"dataset.{self.key} makes {found.dtype}, {found.shape}, of the image {where}, and "
                f"dataset.shape={list(self.shape)}: it must return bytes of that shape "
                "(normalisation comes after it: dataset.mean, dataset.std)"
            )
        return found

    def _bytes_of(self, changed: Any) -> Pixels:
        try:
            return as_bytes(changed)
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(
                f"dataset.{self.key} returns a {type(changed).__name__}: return an image of "
                "Pillow, or a tensor of bytes"
            ) from error


@dataclass(frozen=True)
class _Where:
    """Names an image in a message, which mostly nobody asks for."""

    encoded: Encoded
    number: int

    def __str__(self) -> str:
        return self.encoded.where(self.number)
