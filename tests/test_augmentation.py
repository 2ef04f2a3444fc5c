"""Augmentations: what they draw, what they move, and what tells one from another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

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


# --- what tells one transform from another


class Noise(nn.Module):
    """Whose ``repr`` says nothing of its option."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, image: Tensor) -> Tensor:
        return image


class Plain:
    """No module, and no ``repr`` of its own."""

    def __init__(self, p: float, then: object = None) -> None:
        self.p, self.then = p, then

    def __call__(self, image: Tensor) -> Tensor:
        return image


def scaled(image: Tensor, p: float) -> Tensor:
    return image


MADE: list[Callable[[float], object]] = [
    Noise,
    Plain,
    lambda p: nn.Sequential(nn.Identity(), Noise(p)),
    lambda p: Plain(1, [Noise(p)]),
    lambda p: Plain(1, {"by name": torch.tensor(p)}),
    lambda p: Plain(1, Noise(p).forward),
    lambda p: partial(scaled, p=p),
    lambda p: pytest.importorskip("torchvision.transforms.v2").Compose([Noise(p)]),
    lambda p: pytest.importorskip("torchvision.transforms.v2").RandomErasing(p),
]


@pytest.mark.parametrize("make", MADE)
def test_transforms_of_other_options_are_others_and_equal_ones_are_one(make) -> None:
    assert Transforms(make(0.1)).identity == Transforms(make(0.1)).identity
    assert Transforms(make(0.1)).identity != Transforms(make(0.9)).identity


def within(p: float) -> object:
    class Captures:
        def __call__(self, image: Tensor) -> Tensor:
            return image.roll(round(10 * p))

    return Captures()


@pytest.mark.parametrize(
    ("transform", "says"),
    [
        (lambda image: image, "<lambda> has no identity"),
        (Plain(1, lambda image: image), "<lambda> has no identity"),
        (within(0.1), "captures p: make it a field"),
        (Plain(1, torch.Generator()), "what a Generator holds cannot be seen"),
    ],
)
def test_a_transform_that_cannot_be_told_from_another_is_refused(transform, says: str) -> None:
    with pytest.raises(UserError, match=says):
        data(PIXELS[:, 0, 0], Transforms(transform)).fingerprint  # noqa: B018


def test_lambdas_of_torchvision_are_refused_wherever_they_stand() -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2")
    with pytest.raises(UserError, match="<lambda> has no identity"):
        _ = Transforms(v2.Compose([v2.Lambda(lambda image: image)])).identity
