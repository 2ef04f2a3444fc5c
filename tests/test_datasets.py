"""The sources of data: what they load, check and refuse."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import inspect
import logging
import os
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

import lth_runner.problem.data as sources
from lth_runner.problem.data import (
    Data,
    bundled,
    diabetes,
    digit_scenes,
    digits,
    imagefolder,
    published,
    scenes,
    synthetic,
    torchvision_dataset,
)
from lth_runner.problem.data.idx import read_idx
from lth_runner.values.errors import UserError

REPOSITORY = Path(__file__).parents[1]
CONFIGS = sorted(
    path
    for path in (REPOSITORY / "conf" / "dataset").glob("*.yaml")
    if path.stem != "weight_flow"  # of trained networks: tests/test_weight_flow.py
)
REAL = os.environ.get("LTH_TEST_DATA")


# --- digits and synthetic


def test_digits_are_all_there_with_a_fixed_stratified_test_set() -> None:
    first, second = digits(split_seed=0), digits(split_seed=1)
    assert sum(len(s[1]) for s in (first.train, first.val, first.test)) == 1797
    counts = first.test[1].bincount()
    assert int(counts.min()) >= 34
    assert int(counts.max()) <= 37
    assert torch.equal(first.test[0], second.test[0])
    assert not torch.equal(first.val[0], second.val[0])
    assert first.shape == (1, 8, 8)
    assert int(first.train[0].max()) == 16


def test_some_classes_are_taken_and_numbered_anew_in_the_order_given() -> None:
    whole, some = digits(), digits(classes=[7, 2], num_classes=2)
    for split, number, label in (("test", 0, 7), ("test", 1, 2)):
        taken = getattr(some, split)[0][getattr(some, split)[1] == number]
        assert torch.equal(taken, whole.test[0][whole.test[1] == label])
    assert len(some.test[1]) == int((whole.test[1] == 7).sum() + (whole.test[1] == 2).sum())
    assert some.mean != whole.mean
    with pytest.raises(UserError, match="num_classes=2"):
        digits(classes=[7, 2])
    for wrong in ([10], [], [1, 1], [True], ["7"]):
        with pytest.raises(UserError, match=r"dataset\.classes"):
            digits(classes=wrong, num_classes=len(wrong))


def test_digits_are_those_of_scikit_learn_whether_read_or_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sklearn.datasets import load_digits

    loaded = load_digits()
    read = bundled.digit_images("digits")
    assert read[0].dtype == torch.uint8
    assert torch.equal(read[0][:, 0].double(), torch.from_numpy(loaded.images))
    assert torch.equal(read[1], torch.from_numpy(loaded.target))
    monkeypatch.setattr(bundled, "FOLDER", "elsewhere")  # a scikit-learn to come
    assert all(map(torch.equal, bundled.digit_images("digits"), read))
    monkeypatch.setattr(bundled, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="digits needs scikit-learn: pip install scikit-learn"):
        digits()


def test_digits_come_out_standardised() -> None:
    inputs = digits(validation=0).to("cpu").train[0]
    assert abs(float(inputs.mean())) < 1e-4
    assert float(inputs.std()) == pytest.approx(1, abs=1e-3)


def test_enlarged_digits_are_the_same_ones_and_white_is_white() -> None:
    small, large = digits(), digits(size=28, shape=(1, 28, 28))
    assert torch.equal(small.test[1], large.test[1])
    assert int(large.train[0].max()) == 255
    back = torch.nn.functional.interpolate(large.test[0].float(), size=(8, 8), mode="area")
    both = torch.stack([back.flatten(), small.test[0].flatten().float()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.95


def test_diabetes_is_scikit_learns_standardised_by_what_is_not_tested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sklearn.datasets import load_diabetes

    raw, progressed = load_diabetes(return_X_y=True, scaled=False)
    read = bundled._diabetes("diabetes")
    assert (read[0] == raw).all()
    assert (read[1] == progressed).all()
    data = diabetes(validation=0)
    assert (data.num_train, len(data.test[1]), data.num_classes) == (354, 88, None)
    inputs, targets = data.to("cpu").train
    for values in (inputs, targets):
        torch.testing.assert_close(values.mean(0), torch.zeros(values.shape[1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(
            values.std(0, correction=0), torch.ones(values.shape[1]), atol=1e-5, rtol=0
        )
    assert abs(float(data.test[1].mean())) > 0.05  # a mean of its own would be 0
    assert torch.equal(diabetes(split_seed=1).test[0], data.test[0])
    monkeypatch.setattr(bundled, "FOLDER", "elsewhere")
    assert diabetes(validation=0).fingerprint == data.fingerprint


def test_a_scenes_targets_are_the_classes_of_its_ink(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = torch.zeros(100, 1, 8, 8, dtype=torch.uint8)
    images[:, 0, 2:6, 3:5] = torch.arange(100)[:, None, None] % 8 + 8  # eight pixels of ink
    labels = torch.arange(100) % 10
    monkeypatch.setattr(scenes, "digit_images", lambda name: (images, labels))
    data = digit_scenes(num_digits=1, num_train=50, num_test=50, noise=0.0, validation=0)
    for pixels, targets in (data.train, data.test):
        assert ((targets >= 0).flatten(1).sum(1) == 8).all()
        assert torch.equal(targets >= 0, pixels[:, 0] > 0)
        grey = (pixels.flatten(1).amax(1) * (16 / 255)).round().long()
        assert torch.equal((grey - 8) % 2, targets.flatten(1).amax(1) % 2)  # its own class
    crowded, labelled = digit_scenes(num_digits=9, num_train=50, noise=0.0, validation=0).train
    shown = crowded[:, 0] > 0
    assert (labelled[~shown] == -100).all()
    assert (labelled[shown] == -100).any()  # where two digits lie


def test_digits_that_are_tested_on_are_in_no_training_scene(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, labels = bundled.digit_images("digits")
    tested = bundled.tested_digits(labels)
    calls = []

    drawn = scenes._scenes

    def remember(images: torch.Tensor, *rest: Any) -> Any:
        calls.append(images)
        return drawn(images, *rest)

    monkeypatch.setattr(scenes, "_scenes", remember)
    digit_scenes(num_train=2, num_test=2, validation=0)
    images, _ = bundled.digit_images("digits")
    assert torch.equal(calls[0], images[~tested])
    assert torch.equal(calls[1], images[tested])


def test_synthetic_classes_are_learnable_and_reproducible() -> None:
    options: dict[str, Any] = {"shape": (3, 4, 4), "num_classes": 5, "num_train": 200}
    data = synthetic(**options)
    assert data.fingerprint == synthetic(**options).fingerprint
    assert data.fingerprint != synthetic(seed=1, **options).fingerprint
    inputs, labels = data.train
    centres = torch.stack([inputs[labels == c].mean(0).flatten() for c in range(5)])
    nearest = torch.cdist(data.test[0].flatten(1), centres).argmin(1)
    assert (nearest == data.test[1]).float().mean() > 0.95
    assert data.test[1].bincount().tolist() == [100] * 5


def test_subset_keeps_part_of_train_and_leaves_the_rest() -> None:
    whole, part = synthetic(validation=100), synthetic(validation=100, subset=0.5)
    assert (whole.num_train, part.num_train) == (900, 450)
    assert torch.equal(whole.val[0], part.val[0])
    assert torch.equal(whole.test[0], part.test[0])


def test_augmentation_reaches_the_data() -> None:
    data = digits(augment_flip=True, augment_crop=1)
    assert data.augment.flip
    assert data.augment.crop == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: digits(shape=[1, 28, 28]), r"shape=\[1, 28, 28\] .* \[1, 8, 8\]"),
        (lambda: digits(size=7), "dataset.size=7.*from 8"),
        (lambda: diabetes(num_classes=2), "no classes: set dataset.num_classes=null"),
        (lambda: digit_scenes(shape=[3, 16, 16]), r"shape=\[3, 16, 16\].*\[1, height, width\]"),
        (lambda: digit_scenes(num_digits=0), "num_digits=0.*from 1"),
        (lambda: digit_scenes(noise=2.0), "noise=2.0.*from 0 to 1"),
        (lambda: digits(num_classes=9), "num_classes=9 but the data have 10"),
        (lambda: digits(validation=1438), "validation is 1438"),
        (lambda: digits(subset=0), "subset is 0"),
        (lambda: digits(augment_crop=-1), "whole pixels"),
        (lambda: synthetic(num_test=9), "num_test is 9"),
        (lambda: synthetic(shape=[]), "positive sizes"),
        (lambda: synthetic(shape=[3, 0]), "positive sizes"),
        (lambda: synthetic(noise=float("nan")), "noise is nan"),
        (lambda: synthetic(shape=[20], augment_flip=True), "need images"),
    ],
)
def test_impossible_settings_are_refused(make: Callable[[], Data], says: str) -> None:
    with pytest.raises(UserError, match=says):
        make()


# --- image folders

COLOURS = {"ant": (250, 0, 0), "bee": (0, 250, 0)}


def plant(root: Path, classes: tuple[str, ...] = ("bee", "ant"), size: int = 6) -> Path:
    """A tree of 5 training and 2 test images per class; pixel (0, 0) of image ``i`` has blue i."""
    for split, num in (("train", 5), ("test", 2)):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for i in range(num):
                image = Image.new("RGB", (size, size), COLOURS[name])
                image.putpixel((0, 0), (*COLOURS[name][:2], i))
                image.save(root / split / name / f"{i}.png")
    return root


def load(root: Path, cache: Path, **options: Any) -> Data:
    """The tree as Data with nothing held out."""
    options = {"shape": [3, 6, 6], "num_classes": 2, "validation": 0, **options}
    return imagefolder(root=str(root), cache=str(cache), **options)


def pack(root: Path, archive: Path, prefix: str) -> Path:
    """The tree as a tar.gz, below a folder of the archive."""
    with tarfile.open(archive, "w:gz") as file:
        for split in ("train", "test"):
            file.add(root / split, f"{prefix}{split}")
        if (root / "val").is_dir():
            file.add(root / "val", f"{prefix}val")
    return archive


def test_imagefolder_reads_pixels_and_numbers_sorted_classes(tmp_path: Path) -> None:
    root = plant(tmp_path / "tree")
    (root / "train" / "ant" / "notes.txt").write_text("not an image")
    (root / "train" / "ant" / "._0.png").write_text("another system's leftover")
    (root / "train" / ".hidden").mkdir()
    data = load(root, tmp_path / "cache")
    assert data.train[1].tolist() == [0] * 5 + [1] * 5
    assert data.test[1].tolist() == [0, 0, 1, 1]
    assert data.train[0].shape == (10, 3, 6, 6)
    assert data.train[0][0, :, 5, 5].tolist() == [250, 0, 0]
    assert data.train[0][:, 2, 0, 0].tolist() == [0, 1, 2, 3, 4] * 2
    assert data.mean[:2] == pytest.approx([125 / 255] * 2)


def test_imagefolder_resizes_and_greys_to_the_shape(tmp_path: Path) -> None:
    data = load(plant(tmp_path / "tree"), tmp_path / "cache", shape=[1, 4, 3])
    assert data.shape == (1, 4, 3)
    assert data.train[0][0, 0, 3, 2] == pytest.approx(0.299 * 250, abs=1)


@pytest.mark.parametrize("prefix", ["", "./", "pictures/"])
def test_an_archive_equals_its_folder(tmp_path: Path, prefix: str) -> None:
    root = plant(tmp_path / "tree")
    archive = pack(root, tmp_path / "tree.tar.gz", prefix)
    packed = load(archive, tmp_path / "cache")
    assert packed.fingerprint == load(root, tmp_path / "cache").fingerprint


def test_second_load_reads_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = plant(tmp_path / "tree"), tmp_path / "cache"
    first = load(root, cache)
    assert len(list(cache.iterdir())) == 1

    def fail(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("lth_runner.problem.data.folder._decode", fail)
    assert load(root, cache).fingerprint == first.fingerprint
    with pytest.raises(AssertionError, match="decoded again"):
        load(root, cache, shape=[3, 5, 5])
    os.utime(root / "train" / "ant" / "0.png", (1, 1))
    with pytest.raises(AssertionError, match="decoded again"):
        load(root, cache)


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty"])
def test_a_damaged_cache_is_set_aside_and_rebuilt(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    root, cache = plant(tmp_path / "tree"), tmp_path / "cache"
    first = load(root, cache)
    (file,) = cache.iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 255
    file.write_bytes({"truncated": content[:-9], "changed": content, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert load(root, cache).fingerprint == first.fingerprint
    assert "set aside and rebuilt" in caplog.text
    assert sorted(f.suffix for f in cache.iterdir()) == [".corrupt", ".safetensors"]
    caplog.clear()
    assert load(root, cache).fingerprint == first.fingerprint
    assert not caplog.text


def test_cache_goes_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    root = plant(tmp_path / "tree")
    imagefolder(root=str(root), shape=[3, 6, 6], num_classes=2, validation=0)
    assert len(list((tmp_path / "xdg" / "lth-runner").iterdir())) == 1


def no_test(root: Path) -> None:
    """Leaves no test split."""
    (root / "test").rename(root / "exam")


def empty_class(root: Path) -> None:
    """A class of train without images."""
    for image in (root / "train" / "bee").iterdir():
        image.unlink()


def missing_class(root: Path) -> None:
    """A class of train that test lacks."""
    (root / "test" / "bee").rename(root / "spare")


def broken_image(root: Path) -> None:
    """An image cut in half."""
    image = root / "train" / "ant" / "3.png"
    image.write_bytes(image.read_bytes()[:60])


def no_image(root: Path) -> None:
    """Text under an image's name."""
    (root / "test" / "bee" / "1.png").write_text("hello")


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (no_test, "has no test/<class>/"),
        (empty_class, "train/bee"),
        (missing_class, "same classes: bee"),
        (broken_image, "train/ant/3.png"),
        (no_image, "test/bee/1.png"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_tree_at_fault_is_refused_by_name(
    tmp_path: Path, harm: Callable[[Path], None], says: str, packed: bool
) -> None:
    root = plant(tmp_path / "tree")
    harm(root)
    if packed:
        (root / "test").mkdir(exist_ok=True)
        root = pack(root, tmp_path / "tree.tar.gz", "")
    with pytest.raises(UserError, match=says):
        load(root, tmp_path / "cache")
    assert not list(tmp_path.glob("cache/*"))


def test_other_imagefolder_mistakes_are_refused(tmp_path: Path) -> None:
    root, cache = plant(tmp_path / "tree"), tmp_path / "cache"
    with pytest.raises(UserError, match="there is no such folder"):
        load(tmp_path / "nowhere", cache)
    with pytest.raises(UserError, match="1 or 3, height, width"):
        load(root, cache, shape=[2, 6, 6])
    with pytest.raises(UserError, match="num_classes=3 but the data have 2"):
        load(root, cache, num_classes=3)
    (tmp_path / "some.tar").write_text("not a tar")
    with pytest.raises(UserError, match="not a readable tar"):
        load(tmp_path / "some.tar", cache)
    with pytest.raises(UserError, match=r"dataset\.cache="):
        load(root, tmp_path / "some.tar" / "cache", shape=[3, 5, 5])
    with tarfile.open(tmp_path / "two.tar", "w") as file:
        file.add(root / "train", "a/train")
        file.add(root / "test", "b/test")
    with pytest.raises(UserError, match="several folders"):
        load(tmp_path / "two.tar", cache)


# --- torchvision, with small files of the same formats behind its classes


def idx(array: torch.Tensor) -> bytes:
    """Unsigned bytes in the IDX format of MNIST."""
    head = struct.pack(f">HBB{array.dim()}I", 0, 8, array.dim(), *array.shape)
    return head + array.to(torch.uint8).numpy().tobytes()


def small_mnist(folder: Path) -> dict[str, bytes]:
    """Four IDX files with 30 training and 10 test images, unpacked in a folder."""
    folder.mkdir(parents=True)
    files = {}
    for part, num in (("train", 30), ("t10k", 10)):
        pixels = torch.arange(num).repeat_interleave(784).view(num, 28, 28)
        files[f"{part}-images-idx3-ubyte"] = idx(pixels)
        files[f"{part}-labels-idx1-ubyte"] = idx(torch.arange(num) % 10)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return files


def mnist(root: Path, **options: Any) -> Data:
    """MNIST under a root, five samples held out."""
    options = {"name": "mnist", "shape": [1, 28, 28], "num_classes": 10, "validation": 5, **options}
    return torchvision_dataset(root=str(root), **options)


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_no_image_of_a_class_is_told(tmp_path: Path, caplog, packed: bool) -> None:
    root = plant(tmp_path / "tree")
    for name in ("train/ant/notes.txt", "train/loose.png", "train/.DS_Store", "val/ant/0.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    place = pack(root, tmp_path / "tree.tar", "") if packed else root
    with caplog.at_level("INFO", logger="lth_runner"):
        load(place, tmp_path / "cache")
    [told] = [line for line in caplog.messages if "left out" in line]
    for name in ("train/ant/notes.txt", "train/loose.png", "val/"):
        assert name in told
    assert "DS_Store" not in told


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network: every attempt to open an address fails at once."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def pretend_sums(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The MD5 sums of the archives in a folder, as the published ones."""
    from torchvision.datasets import MNIST

    sums = [(f.name, hashlib.md5(f.read_bytes()).hexdigest()) for f in sorted(folder.glob("*.gz"))]
    monkeypatch.setattr(MNIST, "resources", sums)


def test_unpacked_files_are_read_where_they_are(tmp_path: Path) -> None:
    small_mnist(tmp_path / "MNIST" / "raw")
    data = mnist(tmp_path)
    assert (data.num_train, len(data.val[1]), len(data.test[1])) == (25, 5, 10)
    assert torch.equal(data.train[0][:, 0, 3, 4].long() % 10, data.train[1])


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_is_read_as_torchvision_reads_it_but_without_it(
    packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import MNIST

    raw = tmp_path / "MNIST" / "raw"
    files = small_mnist(raw)
    theirs = [MNIST(tmp_path, train=train) for train in (True, False)]
    if packed:
        for name, content in files.items():
            (raw / f"{name}.gz").write_bytes(gzip.compress(content))
            (raw / name).unlink()
    sums = frozenset(hashlib.md5(content).hexdigest() for content in files.values())
    found = read_idx(raw, sums)
    assert found is not None
    for ours, part in zip(found, theirs, strict=True):
        assert torch.equal(ours[0], part.data)
        assert torch.equal(ours[1], part.targets)
        assert ours[1].dtype == torch.int64
    assert (read_idx(raw, frozenset()) is None) == packed  # what is packed must be known

    file = raw / ("t10k-labels-idx1-ubyte" + ".gz" * packed)
    whole = files["t10k-labels-idx1-ubyte"]
    for damaged in (whole[:-1], whole + b"\0", whole[:3] + b"\3" + whole[4:], whole[:5], b""):
        file.write_bytes(gzip.compress(damaged) if packed else damaged)
        assert read_idx(raw, sums) is None  # torchvision says what is wrong, or fetches it anew
    file.write_bytes(b"no gzip")
    assert read_idx(raw, sums) is None
    file.unlink()
    assert read_idx(raw, sums) is None


@pytest.mark.usefixtures("offline")
def test_packed_files_are_read_without_writing_to_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "MNIST" / "raw"
    for name, content in small_mnist(raw).items():
        (raw / f"{name}.gz").write_bytes(gzip.compress(content))
    expected = mnist(tmp_path).fingerprint
    for name in list(raw.iterdir()):
        if name.suffix != ".gz":
            name.unlink()
    before = sorted(tmp_path.rglob("*"))
    pretend_sums(monkeypatch, raw)
    assert mnist(tmp_path).fingerprint == expected
    assert sorted(tmp_path.rglob("*")) == before

    content = (raw / "train-labels-idx1-ubyte.gz").read_bytes()
    for damaged in (gzip.compress(gzip.decompress(content)[:-1] + b"\0"), content[:-12]):
        (raw / "train-labels-idx1-ubyte.gz").write_bytes(damaged)
        with pytest.raises(UserError, match=r"MD5 sum: .*train-labels|end-of-stream"):
            mnist(tmp_path)


@pytest.mark.usefixtures("offline")
def test_missing_data_offline_say_where_and_how(tmp_path: Path) -> None:
    for name in ("mnist", "cifar10", "svhn"):
        with pytest.raises(UserError) as caught:
            torchvision_dataset(name=name, shape=[3, 32, 32], num_classes=10, root=str(tmp_path))
        for part in (str(tmp_path), f"scripts/fetch_data.py {name}", "dataset.root="):
            assert part in str(caught.value)
        assert not list(tmp_path.iterdir())


def test_a_download_is_published_whole_and_damage_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import MNIST

    def download(self: Any) -> None:
        if not Path(self.raw_folder).exists():
            small_mnist(Path(self.raw_folder))

    monkeypatch.setattr(MNIST, "download", download)
    first = mnist(tmp_path).fingerprint
    assert [f.name for f in tmp_path.iterdir()] == ["MNIST"]
    (tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03torn")
    assert mnist(tmp_path).fingerprint == first
    monkeypatch.undo()
    assert mnist(tmp_path).fingerprint == first
    assert len(list(tmp_path.glob("aside-*/MNIST/raw/*"))) == 4


def test_torchvision_mistakes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_mnist(tmp_path / "MNIST" / "raw")
    with pytest.raises(UserError, match="did you mean"):
        mnist(tmp_path, name="minst")
    with pytest.raises(UserError, match=r"shape=\[3, 32, 32\] .* \[1, 28, 28\]"):
        mnist(tmp_path, shape=[3, 32, 32])

    def broken(name: str) -> ModuleType:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(published.importlib, "import_module", broken)
    with pytest.raises(UserError, match="matches torch"):
        torchvision_dataset(name="svhn", shape=[3, 32, 32], num_classes=10, root=str(tmp_path))


def test_colour_sets_become_channels_first() -> None:
    pixels = torch.arange(2 * 4 * 5 * 3, dtype=torch.uint8).view(2, 4, 5, 3).numpy()
    module = SimpleNamespace(
        CIFAR10=lambda *_, **__: SimpleNamespace(data=pixels, targets=[3, 4]),
        SVHN=lambda *_, **__: SimpleNamespace(data=pixels.transpose(0, 3, 1, 2), labels=[3, 4]),
    )
    for name in ("cifar10", "svhn"):
        train, _ = published._read(
            module,  # type: ignore[arg-type]
            published.PUBLISHED[name],
            Path("unused"),
            download=False,
        )
        assert torch.equal(train[0], torch.from_numpy(pixels).permute(0, 3, 1, 2))
        assert train[1].tolist() == [3, 4]


@pytest.mark.skipif(
    not (REAL and (Path(REAL) / "MNIST" / "raw").is_dir()),
    reason="LTH_TEST_DATA names no folder that holds MNIST/raw",
)
@pytest.mark.usefixtures("offline")
def test_real_mnist_is_complete() -> None:
    data = mnist(Path(str(REAL)), validation=5000)
    assert (data.num_train, len(data.val[1]), len(data.test[1])) == (55000, 5000, 10000)
    counts = data.train[1].bincount() + data.val[1].bincount()
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    inputs = data.to("cpu").train[0]
    assert abs(float(inputs.mean())) < 0.01
    assert float(inputs.std()) == pytest.approx(1, abs=0.01)


# --- the yaml files and the script


# whose own tests are elsewhere
TEXTS = (
    "text", "sst2", "trec", "characters", "masked_characters", "corpus", "masked_corpus", "glue",
    "squad", "hf", "cipher_records", "cipher_answers", "token_files", "tagged",
)  # fmt: skip
STREAMED = ("imagenet", "shards", "hf_images")
NO_DOWNLOAD = ("digits", "digits28", "digit_scenes", "diabetes", "synthetic")


def complete(path: Path) -> dict[str, Any]:
    """An option's keys, those of the option that it changes too."""
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    if "defaults" not in config:
        return config
    bases = [one for one in config.pop("defaults") if isinstance(one, str) and one != "_self_"]
    for base in bases:  # a mapping is a group of its own: the tokenizer
        config = complete(path.with_stem(base)) | config
    return config


@pytest.mark.parametrize(
    "path", [path for path in CONFIGS if path.stem not in TEXTS], ids=lambda path: path.stem
)
def test_config_binds_to_its_source_and_is_complete(path: Path) -> None:
    config = complete(path)
    module, _, function = config.pop("_target_").rpartition(".")
    assert module == "lth_runner.problem.data"
    parameters = inspect.signature(getattr(sources, function)).parameters
    groups = {"augment", "transforms"}  # of their own: +augment=
    assert set(config) - groups == set(parameters) - groups
    no_images = path.stem in ("custom", "diabetes")
    assert "augment" in parameters or no_images
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values())
    assert config["name"] == path.stem
    assert config.get("root") == (None if path.stem in ("custom", "hf_images") else "${paths.data}")
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_a_config_of_texts_has_every_option_but_the_tokenizer(name: str) -> None:
    config = complete(REPOSITORY / f"conf/dataset/{name}.yaml")
    function = config.pop("_target_").rpartition(".")[2]
    parameters = inspect.signature(getattr(sources, function)).parameters
    assert set(config) == set(parameters) - {"tokenizer"}


def test_every_published_set_has_a_config_that_agrees() -> None:
    configs = {path.stem: complete(path) for path in CONFIGS}
    others = (*NO_DOWNLOAD, *TEXTS, *STREAMED, "imagefolder", "custom")
    assert set(configs) == {*published.PUBLISHED, *others}
    for name, entry in published.PUBLISHED.items():
        assert configs[name]["num_classes"] == entry.num_classes
        assert configs[name]["shape"][0] == len(entry.mean) == len(entry.std)


def test_configs_without_download_build() -> None:
    for name in NO_DOWNLOAD:
        config = complete(REPOSITORY / f"conf/dataset/{name}.yaml")
        build = getattr(sources, config.pop("_target_").rpartition(".")[2])
        data = build(**config)
        assert data.name == name
        assert data.shape == tuple(config["shape"])


def test_fetch_script_reports_what_is_there_and_what_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("fetch", REPOSITORY / "scripts/fetch_data.py")
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    small_mnist(tmp_path / "MNIST" / "raw")
    assert script.main(["mnist", "--root", str(tmp_path)]) == 0
    assert "30 training and 10 test images" in capsys.readouterr().out
    assert script.main(["minst", "--root", str(tmp_path)]) == 1
    assert "did you mean" in capsys.readouterr().err
    assert script.main([]) == 2
