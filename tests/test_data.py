"""The data value: order, augmentation, normalisation, identity, and what is refused."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lth_runner.problem.data import Data, FlipCrop
from lth_runner.problem.data.splits import as_split, keep_subset, moments
from lth_runner.values.errors import UserError

NUM = 50
MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)


def images(num: int = NUM, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random uint8 images whose labels are their own row number modulo 10."""
    rng = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (num, 3, 6, 5), generator=rng, dtype=torch.uint8)
    return pixels, torch.arange(num) % 10


def make(augment: FlipCrop | None = None, **options: object) -> Data:
    options = {"mean": MEAN, "std": STD, "validation": 0, **options}
    return Data.from_tensors(images(), images(20, seed=1), augment=augment, **options)  # type: ignore[arg-type]


def numbered(num: int = 23) -> Data:
    """Sample ``i`` is the number ``i``, so that batches show which samples they hold."""
    rows = torch.arange(num, dtype=torch.float32)[:, None]
    return Data.from_tensors(
        (rows, torch.zeros(num)[:].long()), (rows, torch.zeros(num).long()), validation=0
    )


# --- order


def test_every_epoch_is_a_permutation_without_its_short_batch() -> None:
    stream = numbered(23).stream(5, seed=1)
    assert stream.steps_per_epoch == 4
    epochs = [
        torch.cat([stream[epoch * 4 + i][0] for i in range(4)]).flatten().tolist()
        for epoch in range(3)
    ]
    for epoch in epochs:
        assert len(set(epoch)) == 20
        assert set(epoch) <= set(range(23))
    assert epochs[0] != epochs[1] != epochs[2]


def test_one_batch_may_be_the_whole_set() -> None:
    inputs, _ = numbered(23).stream(23, seed=0)[0]
    assert sorted(inputs.flatten().tolist()) == list(range(23))


@pytest.mark.parametrize("augment", [None, FlipCrop(flip=True, crop=2)])
def test_any_order_of_steps_gives_the_batches_of_the_sequence(augment: FlipCrop | None) -> None:
    data = make(augment)
    stream = data.stream(8, seed=3, order=1)
    sequence = [stream[step] for step in range(20)]
    fresh = data.stream(8, seed=3, order=1)
    for step in (19, 0, 7, 6, 6, 13, 1):
        for expected, got in zip(sequence[step], fresh[step], strict=True):
            assert torch.equal(expected, got)


def test_inputs_keep_their_labels_through_shuffling() -> None:
    rows = torch.arange(40, dtype=torch.float32)[:, None]
    data = Data.from_tensors((rows, torch.arange(40) % 7), (rows, torch.arange(40) % 7))
    inputs, labels = data.stream(10, seed=0)[5]
    assert torch.equal(inputs.flatten().long() % 7, labels)


def test_seed_and_order_each_change_the_batches() -> None:
    data = numbered()
    first = data.stream(10, seed=0)[0][0]
    assert not torch.equal(first, data.stream(10, seed=1)[0][0])
    assert not torch.equal(first, data.stream(10, seed=0, order=1)[0][0])


def test_a_step_before_the_first_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        numbered().stream(5, seed=0)[-1]


# --- augmentation


def reference(pixels: Tensor, draws: Tensor, augment: FlipCrop) -> Tensor:
    """One image at a time: paste in a black frame, cut out, mirror by reversing the columns."""
    out = torch.zeros_like(pixels)
    border, (height, width) = augment.crop, pixels.shape[2:]
    for n, (top, left, flip) in enumerate(draws.T.tolist()):
        for i in range(height):
            for j in range(width):
                source_j = width - 1 - j if augment.flip and flip else j
                row, column = i + top - border, source_j + left - border
                if 0 <= row < height and 0 <= column < width:
                    out[n, :, i, j] = pixels[n, :, row, column]
    return out


@pytest.mark.parametrize(
    "augment", [FlipCrop(flip=True, crop=2), FlipCrop(flip=True), FlipCrop(crop=3)]
)
def test_augmented_batch_equals_the_slow_reference(augment: FlipCrop) -> None:
    data, plain = make(augment), make()
    step, seed = 4, 5
    draws = augment.draw(16, seed, 0, step)
    raw = replace(plain, mean=(0.0,), std=(1.0 / 255,)).stream(16, seed)[step][0]
    expected = reference(raw.round().to(torch.uint8), draws, augment)
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    torch.testing.assert_close(data.stream(16, seed)[step][0], (expected / 255 - mean) / std)


def test_draws_cover_every_offset_and_both_flips() -> None:
    rows, columns, flips = FlipCrop(flip=True, crop=2).draw(500, 0, 0, 0)
    assert set(rows.tolist()) == set(columns.tolist()) == {0, 1, 2, 3, 4}
    assert 200 < int(flips.sum()) < 300
    assert not torch.equal(rows, columns)


def test_crop_leaves_the_flips_as_they_were() -> None:
    flips = FlipCrop(flip=True).draw(64, 0, 0, 9)[2]
    assert torch.equal(flips, FlipCrop(flip=True, crop=4).draw(64, 0, 0, 9)[2])


def test_each_step_draws_anew() -> None:
    augment = FlipCrop(crop=4)
    assert not torch.equal(augment.draw(64, 0, 0, 0), augment.draw(64, 0, 0, 1))


def test_evaluation_and_samples_are_never_augmented() -> None:
    augmented, plain = make(FlipCrop(flip=True, crop=2)), make()
    for split in ("train", "test"):
        for a, b in zip(augmented.batches(split, 7), plain.batches(split, 7), strict=True):
            assert torch.equal(a[0], b[0])
    assert torch.equal(augmented.sample(9, seed=2)[0], plain.sample(9, seed=2)[0])


# --- normalisation and devices


def test_normalisation_is_the_formula() -> None:
    (inputs, _), *_ = make().batches("train", NUM)
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    torch.testing.assert_close(inputs, (images()[0] / 255 - mean) / std)
    assert inputs.dtype == torch.float32


def test_normalising_at_once_and_by_batch_give_equal_bits() -> None:
    raw = make()
    ready = raw.to("cpu")
    assert ready.normalised
    assert ready.train[0].dtype == torch.float32
    for step in (0, 3, 8):
        assert torch.equal(raw.stream(16, 0)[step][0], ready.stream(16, 0)[step][0])
    assert torch.equal(raw.sample(5, 0)[0], ready.sample(5, 0)[0])
    for split in ("train", "test"):
        for a, b in zip(raw.batches(split, 7), ready.batches(split, 7), strict=True):
            assert torch.equal(a[0], b[0])
    again = ready.to("cpu")
    assert torch.equal(again.train[0], ready.train[0])


def test_augmented_and_large_data_stay_raw_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make(FlipCrop(flip=True)).to("cpu").train[0].dtype == torch.uint8
    monkeypatch.setattr("lth_runner.problem.data.tensors.FLOAT_LIMIT", 100)
    assert make().to("cpu").train[0].dtype == torch.uint8


def test_evaluation_is_in_order_with_a_short_last_batch() -> None:
    batches = list(numbered(23).batches("test", 10))
    assert [len(labels) for _, labels in batches] == [10, 10, 3]
    assert torch.cat([x for x, _ in batches]).flatten().tolist() == list(range(23))
    assert list(make().batches("val", 10)) == []


def test_sample_draws_without_replacement() -> None:
    data = numbered(23)
    drawn = data.sample(23, seed=0)[0].flatten().tolist()
    assert sorted(drawn) == list(range(23)) != drawn
    assert torch.equal(data.sample(5, seed=4)[0], data.sample(5, seed=4)[0])
    assert not torch.equal(data.sample(5, seed=4)[0], data.sample(5, seed=5)[0])


def test_moments_are_those_of_numpy() -> None:
    pixels = images()[0]
    pixels[:, 2] = 7
    mean, std = moments(pixels)
    expected = pixels.numpy() / 255
    np.testing.assert_allclose(mean, expected.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std[:2], expected.std((0, 2, 3))[:2], rtol=1e-12)
    assert std[2] == pytest.approx(1.0)


# --- identity


def test_fingerprint_is_of_the_raw_data_on_any_device_and_after_pickling() -> None:
    data = make()
    assert data.fingerprint == make().fingerprint == data.to("cpu").fingerprint
    assert data.to("cpu").to("cpu").fingerprint == data.fingerprint
    assert pickle.loads(pickle.dumps(data.to("cpu"))).fingerprint == data.fingerprint


def test_fingerprint_sees_every_part() -> None:
    train, test = images(), images(20, seed=1)
    pixel, label = train[0].clone(), train[1].clone()
    pixel[3, 1, 2, 2] ^= 1
    label[0] = 9
    different = [
        make(),
        make(mean=(0.1, 0.2, 0.4)),
        make(std=(0.5, 0.6, 0.8)),
        make(FlipCrop(flip=True)),
        make(FlipCrop(crop=1)),
        make(validation=1),
        make(validation=1, split_seed=1),
        make(num_classes=11),
        Data.from_tensors((pixel, train[1]), test, validation=0, mean=MEAN, std=STD),
        Data.from_tensors((train[0], label), test, validation=0, mean=MEAN, std=STD),
        Data.from_tensors(
            (train[0].permute(0, 1, 3, 2).reshape(train[0].shape), train[1]),
            test, validation=0, mean=MEAN, std=STD,
        ),
        Data.from_tensors(
            (train[0].view(NUM, 3, 5, 6), train[1]), (test[0].view(20, 3, 5, 6), test[1]),
            validation=0, mean=MEAN, std=STD,
        ),
    ]  # fmt: skip
    assert len({data.fingerprint for data in different}) == len(different)
    assert make(name="other").fingerprint == make().fingerprint


# --- splitting


@pytest.mark.parametrize(
    ("validation", "num"), [(0, 0), (0.0, 0), (1, 1), (7, 7), (0.1, 2), (0.5, 12)]
)
def test_held_out_split_is_disjoint_and_complete(validation: float, num: int) -> None:
    rows = torch.arange(23.0)[:, None]
    pair = (rows, torch.zeros(23, dtype=torch.int64))
    data = Data.from_tensors(pair, pair, validation=validation, split_seed=3)
    held, kept = (s[0].flatten().tolist() for s in (data.val, data.train))
    assert len(held) == num
    assert sorted(held + kept) == list(range(23))


def test_split_seed_changes_what_is_held_out() -> None:
    rows = (torch.arange(50.0)[:, None], torch.zeros(50).long())
    first, second = (
        Data.from_tensors(rows, rows, validation=5, split_seed=seed).val[0].tolist()
        for seed in (0, 1)
    )
    assert first != second


def test_a_smaller_subset_is_part_of_a_larger_one() -> None:
    pair = (torch.arange(100)[:, None].float(), torch.arange(100))
    small, large = (set(keep_subset(pair, amount, seed=0)[1].tolist()) for amount in (10, 0.5))
    assert (len(small), len(large)) == (10, 50)
    assert small < large
    assert keep_subset(pair, None, seed=0) is pair


def test_loaders_are_read_once_and_equal_tensors() -> None:
    def batches(pair: tuple[Tensor, Tensor]):  # type: ignore[no-untyped-def]
        yield from ([pair[0][i : i + 8], pair[1][i : i + 8]] for i in range(0, len(pair[1]), 8))

    loaded = Data.from_loaders(
        batches(images()), batches(images(20, seed=1)), validation=0, mean=MEAN, std=STD
    )
    assert loaded.fingerprint == make().fingerprint
    assert loaded.shape == (3, 6, 5)
    assert loaded.num_train == NUM
    assert loaded.num_classes == 10


def test_arrays_and_lists_are_accepted() -> None:
    data = Data.from_tensors(
        (np.eye(4), np.array([0, 1, 2, 2], dtype=np.int32)), ([[1.0] * 4], [1]), validation=0
    )
    assert data.train[0].dtype == torch.float32
    assert data.train[1].dtype == torch.int64
    assert data.num_classes == 3


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.uint32, np.uint64])
def test_whole_numbers_of_any_width_are_tokens_and_class_numbers(kind: type) -> None:
    pair = np.eye(4, dtype=kind), np.array([0, 1, 2, 2], dtype=kind)
    inputs, targets = as_split(pair, "train")
    assert inputs.dtype == targets.dtype == torch.int64
    assert targets.tolist() == [0, 1, 2, 2]


# --- what is refused

X, Y = torch.zeros(4, 3), torch.tensor([0, 1, 2, 1])
NAN = X.clone()
NAN[2, 1] = math.nan


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"train": (NAN, Y)}, "train holds NaN"),
        ({"test": (X + math.inf, Y)}, "test holds NaN or inf"),
        ({"num_classes": 2}, "labels run from 0 to 2: accepted 0 to 1"),
        ({"test": (X, Y - 1)}, "test labels run from -1"),
        ({"train": (X, Y[:3])}, "4 inputs but 3 targets"),
        ({"train": (X[:0], Y[:0])}, "train is empty"),
        ({"test": (X[:0], Y[:0])}, "test is empty"),
        ({"test": (X[:, :2], Y)}, "test samples are float32 of shape (2,)"),
        ({"test": (X.byte(), Y)}, "test samples are uint8"),
        ({"train": (X.long(), Y)}, "train's are int64"),
        ({"train": (X, Y.float()), "num_classes": 3}, "targets are torch.float32"),
        ({"train": (X[:, 0], Y)}, "[samples, features...]"),
        ({"train": (X[:1], Y[0])}, "train targets are a single number"),
        ({"train": ({"x": X[0, 0]}, Y[:1])}, "train inputs are a single number"),
        ({"train": ({}, Y)}, "train inputs are no tensors"),
        ({"train": X}, "give a pair"),
        ({"train": (["a"], [0])}, "does not convert"),
        ({"validation": 4}, "validation is 4"),
        ({"validation": 1.0}, "validation is 1.0"),
        ({"validation": -1}, "0..3 of the 4 samples"),
        ({"validation": math.nan}, "validation is nan"),
        ({"validation": True}, "validation is True"),
        ({"validation": 1.5}, "validation is 1.5"),
        ({"mean": (0.0, 0.0)}, "mean has 2 and std 1"),
        ({"mean": (0.0, 0.0), "std": (1.0, 1.0)}, "give 1 or 3 of each"),
        ({"std": (0.0,)}, "positive"),
        ({"mean": (math.nan,)}, "finite"),
        ({"augment": FlipCrop(flip=True)}, "flip and crop need images"),
    ],
)  # fmt: skip
def test_unfit_tensors_are_refused_with_a_reason(options: dict[str, object], says: str) -> None:
    arguments: dict[str, object] = {"train": (X, Y), "test": (X, Y), "validation": 0, **options}
    with pytest.raises(UserError) as caught:
        Data.from_tensors(**arguments)  # type: ignore[arg-type]
    assert says in str(caught.value)


@pytest.mark.parametrize("batch_size", [0, -1, NUM + 1])
def test_a_batch_that_does_not_fit_is_refused(batch_size: int) -> None:
    with pytest.raises(UserError, match=f"train.batch_size={batch_size} does not fit {NUM}"):
        make().stream(batch_size, seed=0)


@pytest.mark.parametrize("crop", [-1, 1.5, True])
def test_a_border_that_is_no_count_of_pixels_is_refused(crop: object) -> None:
    with pytest.raises(UserError, match="whole pixels"):
        FlipCrop(crop=crop)  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", [0, 101, 0.0, 1.01, "all"])
def test_an_impossible_subset_is_refused(amount: object) -> None:
    pair = (torch.zeros(100, 1), torch.arange(100))
    with pytest.raises(UserError, match="subset is"):
        keep_subset(pair, amount, seed=0)  # type: ignore[arg-type]


def test_other_misuse_is_refused() -> None:
    with pytest.raises(UserError, match="did you mean val"):
        next(make().batches("vall", 4))
    with pytest.raises(UserError, match="at least 1"):
        next(make().batches("val", 0))
    with pytest.raises(UserError, match="cannot draw 51 of 50"):
        make().sample(51, seed=0)
    with pytest.raises(UserError, match="before normalisation"):
        replace(make().to("cpu"), augment=FlipCrop(flip=True))
    for other in ((X[:, :2], Y), (X, Y[:, None]), (X, Y.float())):
        with pytest.raises(UserError, match=r"several kinds: float32.*; float32"):
            Data.from_loaders([(X, Y), other], [(X, Y)])
    with pytest.raises(UserError, match="no batch"):
        Data.from_loaders([], [(X, Y)])
