"""Images that are decoded when a batch asks for them: the same bits, whoever decodes them."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tarfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from command import lth_run
from lth_runner.problem import models
from lth_runner.problem.data import (
    ImageTransforms,
    SampledData,
    folder,
    image_shards,
    image_table,
    imagefolder,
)
from lth_runner.problem.data.streaming import encoded, listed
from lth_runner.problem.task import Task
from lth_runner.problem.unlearned import majority
from lth_runner.values.errors import UserError

CLASSES = ("cat", "dog")
MOMENTS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25]}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A tree of 40 + 10 pictures of several sizes; the class is the red of each."""
    rng = np.random.default_rng(0)
    for split, num in (("train", 20), ("test", 5)):
        for label, name in enumerate(CLASSES):
            place = tmp_path / "photos" / split / name
            place.mkdir(parents=True)
            for number in range(num):
                height, width = rng.integers(20, 40, 2)
                values = rng.integers(0, 200, (height, width, 3), dtype=np.uint8)
                values[..., 0] = 60 * label
                Image.fromarray(values).save(place / f"{number:02}.jpg", quality=90)
    return tmp_path / "photos"


def load(root: Path, **options: Any) -> Any:
    known = {"shape": [3, 16, 16], "num_classes": 2, "workers": 0, "validation": 8, **options}
    return imagefolder(root=str(root), cache=str(root.parent / "cache"), **known)


def streamed(root: Path, **options: Any) -> SampledData:
    found = load(root, stream=True, **options)
    assert isinstance(found, SampledData)
    return found


def batches(data: Any, *, steps: tuple[int, ...] = (0, 1, 2, 7, 3, 3)) -> list[torch.Tensor]:
    """Training batches out of order, an evaluation in between, and a draw."""
    stream = data.stream(6, seed=3, order=1)
    found = [part for step in steps[:3] for part in stream[step]]
    found += [
        part for split in ("val", "test") for batch in data.batches(split, 4) for part in batch
    ]
    found += [part for step in steps[3:] for part in stream[step]]
    return [*found, *data.sample(20, 5), *data.unaugmented().stream(6, 0)[2]]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@dataclass(frozen=True)
class Noise:
    """Adds noise from all three global streams."""

    def __call__(self, image: Image.Image) -> torch.Tensor:
        found = v2.functional.pil_to_tensor(image.resize((16, 16))).int()
        drawn = torch.randint(5, (3, 16, 16)) + random.randint(0, 9) + int(np.random.randint(9))
        return (found + drawn).clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class Small:
    """Resizes alone."""

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.resize((16, 16))


NOISY = ImageTransforms(Noise(), Small())


# --- batches


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"augment_flip": True, "augment_crop": 3, "subset": 20, **MOMENTS},
        {"classes": [1], "num_classes": 1, "validation": 0, **MOMENTS},
    ],
    ids=["plain", "augmented", "of-one-class"],
)
def test_streamed_images_are_those_in_memory_to_the_bit(photos: Path, options: Any) -> None:
    in_memory = load(photos, stream=False, **options)
    assert same(batches(in_memory), batches(streamed(photos, **options)))


def test_what_the_most_frequent_class_reaches_is_known_of_streamed_images_too(photos: Path) -> None:
    for number in range(3):
        (photos / "test" / "cat" / f"{number:02}.jpg").unlink()
    found = [
        majority(Task(partial(models.mlp, shape=(3, 16, 16), num_classes=2, widths=()), data))
        for data in (load(photos, stream=False), streamed(photos))
    ]
    assert found[0] == found[1] != {}


def test_workers_change_no_bit(photos: Path) -> None:
    alone = streamed(photos, transforms=NOISY)
    by_two = streamed(photos, transforms=NOISY, workers=2)
    assert alone.fingerprint == by_two.fingerprint
    assert same(batches(alone), batches(by_two))
    few = [[*data.sample(4, 1)] for data in (alone, by_two)]  # read here, what was sent to others
    assert same(*few)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_changes_no_bit(photos: Path, workers: int) -> None:
    alone = streamed(photos, transforms=NOISY)
    assert same(batches(alone), batches(streamed(photos, transforms=NOISY, workers=workers)))


def test_a_batch_is_a_function_of_seed_and_step(photos: Path) -> None:
    data = streamed(photos, transforms=NOISY)
    early = [data.stream(6, 0)[step] for step in (4, 9)]
    torch.manual_seed(9)
    stream = streamed(photos, transforms=NOISY).stream(6, 0)
    before = torch.get_rng_state()
    assert all(same([*stream[step]], [*batch]) for step, batch in zip((4, 9), early, strict=True))
    assert torch.equal(before, torch.get_rng_state())
    others = [data.stream(6, 1)[4], data.stream(6, 0, order=1)[4], data.stream(6, 0)[5]]
    assert not any(torch.equal(early[0][0], other[0]) for other in others)
    again = [data.stream(len(data.train), 0)[step][0].sum() for step in (0, 1)]
    assert again[0] != again[1]  # the same images, noise drawn anew


def test_evaluation_cuts_as_its_own_transform_does(photos: Path) -> None:
    middle = v2.Compose([v2.Resize(20), v2.CenterCrop(16)])
    data = streamed(photos, transforms=ImageTransforms(v2.RandomResizedCrop(16), middle), **MOMENTS)
    names = [photos / "test" / name / f"{n:02}.jpg" for name in CLASSES for n in range(5)]
    raw = torch.stack([v2.functional.pil_to_tensor(middle(Image.open(name))) for name in names])
    mean, std = (torch.tensor(MOMENTS[key])[:, None, None] for key in ("mean", "std"))
    [(images, labels)] = data.batches("test", 10)
    assert torch.allclose(images, (raw / 255 - mean) / std, atol=1e-5)
    assert labels.tolist() == [0] * 5 + [1] * 5


# --- what is streamed


def test_memory_decides_where_nobody_does(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not isinstance(load(photos), SampledData)
    monkeypatch.setattr(folder, "total_memory", lambda: 3.9 * 50 * 3 * 16 * 16)
    data = load(photos)
    assert "more than a quarter of this machine's" in data.told
    assert not isinstance(load(photos, stream=False), SampledData)
    monkeypatch.setattr(folder, "total_memory", lambda: 0.9 * 50 * 3 * 16 * 16)
    with pytest.raises(UserError, match=r"decoded its images take .*stream=false out"):
        load(photos, stream=False, shape=[3, 16, 17])


def test_a_tar_is_streamed_as_its_folder_is(photos: Path) -> None:
    with tarfile.open(photos.parent / "photos.tar", "w") as archive:
        archive.add(photos, ".")
    packed = streamed(photos.parent / "photos.tar")
    assert same(batches(packed), batches(streamed(photos)))
    with tarfile.open(photos.parent / "photos.tgz", "w:gz") as archive:
        archive.add(photos, ".")
    with pytest.raises(UserError, match=r"photos\.tgz is compressed \(gzip\)"):
        streamed(photos.parent / "photos.tgz")


def test_images_are_listed_once_until_one_changes(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = streamed(photos).fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(listed.Listing, "encoded", None)  # not called
        assert streamed(photos).fingerprint == first
    one, other = photos / "train/cat/00.jpg", photos / "train/cat/01.jpg"
    one.write_bytes(other.read_bytes())
    assert streamed(photos).fingerprint != first
    monkeypatch.setattr(encoded, "WHOLE", 0)
    monkeypatch.setattr(encoded, "HASHED", 3)
    (photos / "test/dog/00.jpg").touch()
    sampled = streamed(photos).fingerprint
    assert sampled != first


def test_what_vanishes_or_changes_is_told_by_its_path(photos: Path) -> None:
    data = streamed(photos, **MOMENTS)
    path = photos / "test/cat/03.jpg"
    content = path.read_bytes()
    path.write_bytes(content + b"\0")
    with pytest.raises(UserError, match=r"cat/03\.jpg is not what it was when the data were lis"):
        list(data.batches("test", 10))
    path.unlink()
    with pytest.raises(UserError, match=r"cat/03\.jpg: No such file or directory.*put it back"):
        list(data.batches("test", 10))


def test_a_broken_image_is_named_or_left_out_and_counted(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = (photos / "train/dog/07.jpg").read_bytes()
    (photos / "train/dog/07.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "test/cat/00.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"test/cat/00\.jpg: it is none of PNG.*broken=skip leaves"):
        list(streamed(photos, **MOMENTS).batches("test", 4))
    data = streamed(photos, broken="skip", **MOMENTS)
    assert (len(data.train), len(data.test)) == (39 - 8, 9)
    assert "2 left out as broken" in data.told
    assert "1 of 40 images cannot be decoded and are left out" in caplog.text
    assert "train/dog/07.jpg" in caplog.text
    assert sum(len(labels) for _, labels in data.batches("test", 4)) == 9
    assert same(batches(data), batches(load(photos, broken="skip", **MOMENTS)))


def test_test_images_that_are_the_training_images_are_told(photos: Path, caplog) -> None:
    streamed(photos)
    assert "the test images are" not in caplog.text
    shutil.rmtree(photos / "test")
    shutil.copytree(photos / "train", photos / "test")
    streamed(photos)
    assert "the test images are the training images" in caplog.text


# --- shards


def shard(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            (path.parent / "piece").write_bytes(content)
            archive.add(path.parent / "piece", name)


def shards(photos: Path, *, as_json: bool = False) -> Path:
    place = photos.parent / "shards"
    place.mkdir(exist_ok=True)
    for split in ("train", "test"):
        paths = sorted((photos / split).glob("*/*.jpg"))
        for number in range(2):
            files: dict[str, bytes] = {}
            for path in paths[number * len(paths) // 2 : (number + 1) * len(paths) // 2]:
                key, label = f"{path.parent.name}{path.stem}", CLASSES.index(path.parent.name)
                files[f"{key}.jpg"] = path.read_bytes()
                name = f"{key}.json" if as_json else f"{key}.cls"
                files[name] = json.dumps({"cls": label} if as_json else label).encode()
            shard(place / f"{split}-{number:03}.tar", files)
    return place


def load_shards(place: Path, **options: Any) -> SampledData:
    known = {"shape": [3, 16, 16], "num_classes": 2, "workers": 0, "validation": 8, **options}
    return image_shards(root=str(place), cache=str(place.parent / "cache"), **known)


@pytest.mark.parametrize("as_json", [False, True])
def test_shards_give_what_the_folder_gives(photos: Path, as_json: bool) -> None:
    data = load_shards(shards(photos, as_json=as_json), augment_flip=True, **MOMENTS)
    assert same(batches(data), batches(streamed(photos, augment_flip=True, **MOMENTS)))


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"a.jpg": b"x"}, "a has no class"),
        ({"a.jpg": b"x", "a.json": b'{"y": 1}'}, r"a\.json under dataset\.label_key="),
        ({"a.cls": b"1"}, "a has no image"),
        ({"a.jpg": b"x", "a.cls": b"cat"}, r"a\.cls in .* is no number"),
        ({"a.jpg": b"x", "a.cls": b"-1"}, "says the class is -1"),
        ({"a.jpg": b"x", "a.png": b"x", "a.cls": b"1"}, "a has two images"),
    ],
)
def test_a_shard_that_lacks_something_is_refused(
    tmp_path: Path, files: dict[str, bytes], told: str
) -> None:
    for name in ("train-0.tar", "test-0.tar"):
        shard(tmp_path / name, files)
    with pytest.raises(UserError, match=told):
        load_shards(tmp_path)


def test_a_shard_that_was_cut_is_refused(photos: Path) -> None:
    place = shards(photos)
    os.truncate(place / "train-001.tar", 5000)
    with pytest.raises(UserError, match=r"train-001\.tar is not a readable tar archive"):
        load_shards(place)


# --- tables of the library datasets


class Table:
    """As much of a table of the library as is asked for: two columns, by name or by row."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.columns = columns
        self.column_names = list(columns)

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return self.columns[key]
        return {name: values[key] for name, values in self.columns.items()}

    def select_columns(self, names: list[str]) -> Table:
        return Table({name: self.columns[name] for name in names})

    def cast_column(self, name: str, kind: object) -> Table:
        return self


@pytest.fixture
def saved(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    splits = {}
    for split in ("train", "test"):
        paths = sorted((photos / split).glob("*/*.jpg"))
        images = [{"bytes": path.read_bytes(), "path": None} for path in paths]
        splits[split] = Table(
            {"image": images, "label": [CLASSES.index(path.parent.name) for path in paths]}
        )
    library: Any = ModuleType("datasets")
    library.load_from_disk = lambda folder: splits
    library.Image = lambda decode: None
    monkeypatch.setitem(sys.modules, "datasets", library)
    (photos.parent / "saved").mkdir()
    return photos.parent / "saved"


def load_table(saved: Path, **options: Any) -> SampledData:
    known = {"shape": [3, 16, 16], "num_classes": 2, "workers": 0, "validation": 8, **options}
    return image_table(path=str(saved), val=None, cache=str(saved.parent / "cache"), **known)


def test_a_table_gives_what_the_folder_gives(photos: Path, saved: Path) -> None:
    data = load_table(saved, augment_flip=True, **MOMENTS)
    assert same(batches(data), batches(streamed(photos, augment_flip=True, **MOMENTS)))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"image_column": "img"}, r"train has no column 'img' \(dataset\.image_column\)"),
        ({"label_column": "lbel"}, "did you mean label"),
        ({"label_column": "image"}, r"row 0 of train in .* has the class \{"),
        ({"image_column": "label"}, r"row 0 of train in .* holds no image \(int\)"),
        ({"test": "tset"}, "did you mean test"),
    ],
)
def test_a_table_that_lacks_something_is_refused(
    saved: Path, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        load_table(saved, **options)


# --- mistakes


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"workers": -1}, "workers=-1"),
        ({"workers": True}, "workers=True"),
        ({"broken": "drop"}, "accepted: refuse, skip"),
        ({"mean": [0.5, 0.5, 0.5]}, "give both, or neither"),
        ({"mean": [0.5, 0.5], "std": [1.0, 1.0]}, "give 1 or 3 of each"),
        ({"stream": False, "transforms": NOISY}, "leave dataset.stream=false out"),
        ({"stream": False, "broken": "skip"}, "leave dataset.stream=false out"),
        ({"stream": "yes"}, "accepted: true, false, null"),
        ({"num_classes": 3}, "set dataset.num_classes=2"),
        ({"transforms": ImageTransforms(v2.Identity(), Small())}, r"makes uint8, \(3, \d+, \d+\)"),
        ({"transforms": ImageTransforms(v2.ToImage(), v2.GaussianNoise())}, "cannot take the"),
    ],
)
def test_mistakes_are_told(photos: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        load(photos, **{"stream": True, **options}).fingerprint  # noqa: B018


# --- what needs all samples in memory


@pytest.mark.parametrize("words", [["pruner=grasp"], ["control=random_data"]])
def test_what_needs_all_samples_refuses_them_before_training(
    photos: Path, words: list[str]
) -> None:
    known = [
        "dataset=imagefolder", f"dataset.root={photos}", "dataset.shape=[3,8,8]",
        "dataset.num_classes=2", "dataset.stream=true", "dataset.workers=0", "model=mlp",
        "train=sgd", "train.batch_size=4", "device=cpu", f"dataset.cache={photos.parent}",
    ]  # fmt: skip
    said = lth_run(*known, *words, f"paths.outputs={photos.parent / 'outputs'}")
    assert said.status == 2
    assert "needs samples in memory" in said.err
