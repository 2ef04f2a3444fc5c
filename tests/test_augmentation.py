"""Augmentations: what they draw, what they move, and what tells one from another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import small
from lth_runner.masking import Static
from lth_runner.problem.data import Chain, Cutout, Data, FlipCrop, Transforms
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.store.checkpoint_file import load_checkpoint, save_checkpoint
from lth_runner.training import train as engine
from lth_runner.training.job import Job
from lth_runner.values import state as states
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
        (Plain(1, Random(3)), "what a Random holds cannot be seen"),
        (Plain(1, [1].append), "what list.append is bound to cannot be seen"),
    ],
)
def test_a_transform_that_cannot_be_told_from_another_is_refused(transform, says: str) -> None:
    with pytest.raises(UserError, match=says):
        data(PIXELS[:, 0, 0], Transforms(transform)).fingerprint  # noqa: B018


def test_lambdas_of_torchvision_are_refused_wherever_they_stand() -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2")
    with pytest.raises(UserError, match="<lambda> has no identity"):
        _ = Transforms(v2.Compose([v2.Lambda(lambda image: image)])).identity


# --- values


@pytest.mark.parametrize(("size", "shape"), [(1, (5, 7)), (4, (8, 6)), (5, (6, 6)), (9, (5, 9))])
def test_cutout_blackens_the_square_of_the_slow_reference(size: int, shape: tuple) -> None:
    images, part = torch.rand(40, 2, *shape) + 1, Cutout(size)
    draws = part.draw(40, 1, 0, 7)
    expected = images.clone()
    for image, draw in zip(expected, draws.T.tolist(), strict=True):
        row, column = (int(d / 2**31 * n) for d, n in zip(draw, shape, strict=True))
        for i in range(row - size // 2, row - size // 2 + size):
            for j in range(column - size // 2, column - size // 2 + size):
                if 0 <= i < shape[0] and 0 <= j < shape[1]:
                    image[:, i, j] = 0
    found = part.apply(images, draws)
    assert torch.equal(found, expected)
    hidden = (found == 0).flatten(1).any(1)
    assert hidden.all()  # the centre is always inside


def test_cutout_reaches_every_place() -> None:
    found = Cutout(1).apply(torch.ones(2000, 1, 4, 4), Cutout(1).draw(2000, 0, 0, 0))
    assert ((found == 0).sum(0) > 70).all()  # 125 each are expected


def noise(image: Tensor) -> Tensor:
    return image + torch.randint(0, 50, image.shape, dtype=torch.uint8)


def test_each_image_of_each_step_has_its_own_seed() -> None:
    part = Transforms(noise)
    images = torch.zeros(6, 1, 4, 4, dtype=torch.uint8)
    found = part.apply(images, part.draw(6, 0, 0, 3))
    assert len(found.unique(dim=0)) == 6
    again = part.apply(images[4:], part.draw(6, 0, 0, 3)[:, 4:])
    assert torch.equal(found[4:], again)  # whatever stands before it in the batch
    assert not torch.equal(found, part.apply(images, part.draw(6, 0, 0, 4)))


def test_a_training_with_randaugment_is_continued_bit_for_bit(tmp_path: Path) -> None:
    randaugment = pytest.importorskip("torchvision.transforms.v2").RandAugment
    images = torch.randint(0, 256, (40, 3, 4, 4), dtype=torch.uint8)
    images[:, :, 0, 0] = (torch.arange(40) % 3 * 100).to(torch.uint8)[:, None]
    split = images, torch.arange(40) % 3

    def job(augment: object) -> Job:
        own = Data.from_tensors(split, split, validation=0, augment=augment)  # type: ignore[arg-type]
        task = Task(colours, own)
        return Job(task, Ticket(task.dense(), task.init()), Static())

    one, recipe = job(Transforms(randaugment(num_ops=2, magnitude=9))), small.recipe()
    whole = engine.replay(one, recipe, None, 15)
    save_checkpoint(tmp_path / "at", engine.replay(one, recipe, None, 7))
    continued = engine.replay(one, recipe, load_checkpoint(tmp_path / "at"), 15)
    assert states.fingerprint(continued.weights) == states.fingerprint(whole.weights)
    plain = engine.replay(job(None), recipe, None, 15)
    assert states.fingerprint(plain.weights) != states.fingerprint(whole.weights)


def colours() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 12), nn.ReLU(), nn.Linear(12, 3))


def noisy(image: Tensor) -> Tensor:
    if not image.is_floating_point():
        raise TypeError("floats alone")
    return image + torch.randn(image.shape)


def test_a_transform_may_be_for_floats_alone() -> None:
    part = Transforms(noisy)
    floats = torch.rand(4, 1, 16, 16), torch.arange(4)
    found = Data.from_tensors(floats, floats, validation=0, augment=part).stream(4, 0)[0][0]
    assert found.shape == floats[0].shape
    assert not torch.equal(found, floats[0])
    with pytest.raises(UserError, match="cannot take an image of uint8: floats alone"):
        data(torch.arange(4), part)


# --- refused


class Looked:
    """Another image at the last of eight looks, whatever the seed."""

    looks = 0

    def __call__(self, image: Tensor) -> Tensor:
        self.looks += 1
        return image if self.looks % 8 else image + 1

    def __repr__(self) -> str:
        return "Looked()"


class Flipped:
    """Takes bytes alone, and flips by a coin of its own: a black image does not show it."""

    coin = Random(0)

    def __call__(self, image: Tensor) -> Tensor:
        if image.dtype != torch.uint8:
            raise TypeError("bytes alone")
        return image.flip(2) if self.coin.random() < 0.5 else image


def of_pillow(image: Any) -> Any:
    return image.convert("L")


def halved(image: Tensor) -> Tensor:
    return image[:, ::2]


def floated(image: Tensor) -> Tensor:
    return image.float() / 255


def failing(image: Tensor) -> Tensor:
    raise ValueError("only for palms")


@pytest.mark.parametrize(
    ("transform", "says"),
    [
        (Looked(), "Looked gives another image under the same seed"),
        (Flipped(), "Flipped gives another image under the same seed"),
        (of_pillow, "cannot take an image: 'Tensor' object has no attribute 'convert'"),
        (halved, r"makes torch.uint8, \(1, 8, 16\) of an image of torch.uint8, \(1, 16, 16\)"),
        (floated, "makes torch.float32.*must keep shape and type"),
        (failing, "cannot take an image: only for palms"),
        (lambda image: None, "makes <class 'NoneType'> of an image"),
    ],
)
def test_a_transform_that_a_run_could_not_go_on_with_is_refused(transform, says: str) -> None:
    with pytest.raises(UserError, match=says):
        data(torch.arange(4), Transforms(transform))
