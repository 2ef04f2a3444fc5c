"""Augmentations: what they draw, what they move, and what tells one from another."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lth_runner.problem.data import Chain, Cutout, Data, FlipCrop, Transforms
from lth_runner.values.errors import UserError


def data(targets: Tensor, augment: object, **options: object) -> Data:
    split = torch.zeros(len(targets), 1, 16, 16, dtype=torch.uint8), targets
    return Data.from_tensors(split, split, augment=augment, validation=0, **options)  # type: ignore[arg-type]


def identity(image: Tensor) -> Tensor:
    return image


# --- draws


def test_equal_parts_of_a_chain_draw_apart_and_the_first_as_it_does_alone() -> None:
    alone = Cutout(2).draw(64, 3, 0, 5)
    first, second = Chain([Cutout(2), Cutout(2)]).draw(64, 3, 0, 5).chunk(2)
    assert torch.equal(first, alone)
    assert not torch.equal(second, alone)


# --- targets of places


MOVING = [
    FlipCrop(flip=True), FlipCrop(crop=1), Transforms(identity),
    Chain([FlipCrop(), Transforms(identity)]),
]  # fmt: skip
PIXELS = torch.zeros(4, 16, 16, dtype=torch.int64)


@pytest.mark.parametrize("augment", MOVING)
@pytest.mark.parametrize("targets", [PIXELS, PIXELS[:, None].float(), PIXELS[:, 0]])
def test_what_moves_pixels_is_refused_where_targets_are_of_pixels(augment, targets) -> None:
    with pytest.raises(UserError, match=r"moves pixels, but targets of shape .* would not follow"):
        data(targets, augment)


@pytest.mark.parametrize("augment", MOVING)
@pytest.mark.parametrize("targets", [PIXELS[:, 0, 0], PIXELS[:, 0].float(), PIXELS[:, :1, :1]])
def test_classes_labels_and_numbers_of_a_whole_image_go_with_any_augmentation(
    augment, targets
) -> None:
    assert data(targets, augment).augment is augment


def test_what_moves_no_pixel_goes_with_targets_of_pixels() -> None:
    assert data(PIXELS, Chain([FlipCrop(), Cutout(4)])).augment
