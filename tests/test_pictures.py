"""Pictures of all kinds are decoded to what they show, or refused by name."""

from __future__ import annotations

import io
import os
import socket
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lth_runner.problem.data import imagefolder
from lth_runner.problem.data.pictures import FORMATS, MAX_PIXELS, pixels
from lth_runner.values.errors import UserError

RAMP = np.arange(24).reshape(4, 6)  # height 4, width 6


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8))


def shown(content: bytes, channels: int = 1, max_pixels: int = MAX_PIXELS) -> Any:
    """What a picture of 4 x 6 becomes, (channels, 4, 6)."""
    return pixels(content, (channels, 4, 6), max_pixels=max_pixels, where="cat.png")


def chunk(name: bytes, content: bytes) -> bytes:
    sum_ = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + sum_


def png(width: int, height: int, bits: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + extra + body


# --- what is decoded


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_eight_bits_stay_as_they_are(kind: str) -> None:
    image = grey(RAMP * 10)
    assert (shown(encoded(image, kind))[0] == RAMP * 10).all()
    colours = np.stack([RAMP * 10, RAMP * 3, 255 - RAMP], axis=-1).astype(np.uint8)
    assert (shown(encoded(Image.fromarray(colours), kind), 3) == np.moveaxis(colours, 2, 0)).all()
    plain = np.asarray(Image.fromarray(colours).convert("L"))
    assert (shown(encoded(Image.fromarray(colours), kind))[0] == plain).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "content",
    [
        encoded(Image.fromarray((RAMP * 2849).astype(np.uint16)), "PNG"),
        encoded(Image.fromarray((RAMP * 2849).astype(np.uint16)), "TIFF"),
        b"P5 6 4 65535\n" + (RAMP * 2849).astype(">u2").tobytes(),
        b"P5 6 4 1023\n" + np.rint(RAMP * 1023 / 23).astype(">u2").tobytes(),
    ],
    ids=["png", "tiff", "pgm", "pgm-of-10-bits"],
)
def test_sixteen_bits_are_scaled_by_their_range(content: bytes, channels: int) -> None:
    found = shown(content, channels).astype(int)
    assert abs(found - np.rint(RAMP * 255 / 23)).max() <= 1
    assert found.max() == 255
    assert len(np.unique(found)) == 24


def test_few_bits_are_scaled_by_their_range() -> None:
    stripes = RAMP % 2 * 255
    for kind in ("PNG", "BMP", "TIFF"):
        assert (shown(encoded(grey(stripes).convert("1"), kind))[0] == stripes).all()
    two_bits = png(6, 4, 2, 0, b"\0\x1b\x10" * 4)
    assert shown(two_bits)[0, 0].tolist() == [0, 85, 170, 255, 0, 85]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_hidden_plays_no_part(mode: str) -> None:
    alpha = np.where(RAMP % 2, 255, 0)

    def made(hidden: int) -> bytes:
        level = np.where(alpha == 255, RAMP * 10, hidden)
        bands = [level] * (len(mode) - 1) + [alpha]
        return encoded(Image.fromarray(np.stack(bands, -1).astype(np.uint8)), "PNG")

    for channels in (1, 3):
        found = shown(made(0), channels)
        assert (found == shown(made(77), channels)).all()
        assert (found == np.where(alpha == 255, RAMP * 10, 255)).all()  # the rest is white


def test_opaque_alpha_changes_nothing() -> None:
    image = grey(RAMP * 10)
    for mode in ("RGBA", "LA"):
        assert (shown(encoded(image.convert(mode), "PNG")) == shown(encoded(image, "PNG"))).all()


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
@pytest.mark.parametrize("hidden", [1, bytes([255, 0, 255, 255])])
def test_a_palette_shows_its_colours_and_hides_what_is_transparent(
    kind: str, hidden: int | bytes
) -> None:
    image = grey(RAMP % 4).convert("P")
    image.putpalette([250, 0, 0, 0, 250, 0, 0, 0, 250, 9, 9, 9])
    assert shown(encoded(image, kind), 3)[:, 0, :4].T.tolist() == [
        [250, 0, 0], [0, 250, 0], [0, 0, 250], [9, 9, 9],
    ]  # fmt: skip
    if kind == "GIF" and isinstance(hidden, bytes):
        return  # which GIF cannot say
    seen = shown(encoded(image, kind, transparency=hidden), 3)
    assert seen[:, 0, :3].T.tolist() == [[250, 0, 0], [255, 255, 255], [0, 0, 250]]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_ink(kind: str) -> None:
    red = shown(encoded(Image.new("CMYK", (6, 4), (0, 255, 255, 0)), kind), 3)
    assert red[0].min() > 250
    assert red[1:].max() < 5


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(kind: str, orientation: int) -> None:
    as_seen = RAMP * 10
    as_kept = {
        1: as_seen, 2: as_seen[:, ::-1], 3: as_seen[::-1, ::-1], 4: as_seen[::-1],
        5: as_seen.T, 6: as_seen.T[::-1], 7: as_seen[::-1, ::-1].T, 8: as_seen.T[:, ::-1],
    }[orientation]  # fmt: skip
    facts = Image.Exif()
    facts[0x0112] = orientation
    options = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}.get(kind, {})
    found = shown(encoded(grey(as_kept.copy()).convert("RGB"), kind, exif=facts, **options))
    assert abs(found[0].astype(int) - as_seen).max() <= 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_facts_that_cannot_be_read_turn_nothing() -> None:
    content = encoded(grey(RAMP * 10), "PNG")
    torn = content[:33] + chunk(b"eXIf", b"MM\0*garbage") + content[33:]
    assert (shown(torn)[0] == RAMP * 10).all()


def test_a_cameras_further_views_are_left_out() -> None:
    first, second = grey(RAMP * 10), grey(RAMP)
    content = encoded(first, "MPO", save_all=True, append_images=[second], quality=100)
    assert abs(shown(content)[0].astype(int) - RAMP * 10).max() <= 4


# --- what is refused


def test_only_formats_that_are_named_are_opened() -> None:
    assert "EPS" not in FORMATS
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 4\n%%EndComments\nshowpage\n"
    pictures = [page, encoded(grey(RAMP), "ICO"), encoded(grey(RAMP), "PDF"), b"", b"GIF89a"]
    for content in pictures:
        with pytest.raises(UserError, match=r"image cat\.png: it is none of PNG, JPEG"):
            shown(content)


def animation(kind: str) -> bytes:
    return encoded(grey(RAMP * 9), kind, save_all=True, append_images=[grey(RAMP * 3)])


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_pictures_in_one_file_are_refused(kind: str) -> None:
    with pytest.raises(UserError, match=r"cat\.png holds several pictures"):
        shown(animation(kind))


@pytest.mark.parametrize("values", [RAMP.astype(np.int32), RAMP.astype(np.float32)])
def test_numbers_without_a_range_are_refused(values: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"cat\.png has numbers of 32 bits .*save it with 8 or 16"):
        shown(encoded(Image.fromarray(values), "TIFF"))


def test_a_grey_tiff_of_another_range_is_refused() -> None:
    def tiff(bits: int, photometric: int) -> bytes:
        tags = [(256, 4, 6), (257, 4, 4), (258, 3, bits), (259, 3, 1), (262, 3, photometric),
                (273, 4, 110), (277, 3, 1), (278, 4, 4)]  # fmt: skip
        head = b"II*\0" + struct.pack("<IH", 8, len(tags))
        for tag, kind, value in tags:
            head += struct.pack("<HHII", tag, kind, 1, value)
        return head + b"\0" * (110 - len(head)) + b"\x55" * 48

    assert shown(tiff(16, 1)).tolist() == [[[85] * 6] * 4]
    for bits, photometric in ((12, 1), (16, 0)):
        with pytest.raises(UserError, match=r"cat\.png is a grey TIFF .*save it with 16 bits"):
            shown(tiff(bits, photometric))


@pytest.mark.parametrize(
    ("bits", "colour", "key"),
    [(1, 0, b"\0\1"), (2, 0, b"\0\1"), (16, 0, b"\1\1"), (16, 2, b"\1\1" * 3)],
)
def test_a_transparent_colour_of_other_than_eight_bits_is_refused(
    bits: int, colour: int, key: bytes
) -> None:
    row = b"\0" + b"\1" * (6 * bits * (3 if colour else 1) // 8 or 1) + b"\1" * (bits == 2)
    with pytest.raises(UserError, match=r"cat\.png has a transparent colour at \d+ bits"):
        shown(png(6, 4, bits, colour, row * 4, chunk(b"tRNS", key)))


def test_a_bomb_is_refused_before_it_is_unpacked_and_the_limit_can_be_raised() -> None:
    bomb = png(13000, 13000, 8, 0, b"\0" * (13001 * 13000))
    with pytest.raises(UserError, match=r"169,000,000 in all: .*dataset\.max_pixels=67,108,864"):
        shown(bomb)
    image = encoded(grey(RAMP), "PNG")
    with pytest.raises(UserError, match=r"24 in all: at most dataset\.max_pixels=23 are"):
        shown(image, max_pixels=23)
    assert (shown(image, max_pixels=24)[0] == RAMP).all()
    # beyond what Pillow takes for an attack by itself: nothing is in it, so that it is damaged
    with pytest.raises(UserError, match=r"cannot read the image cat\.png: image file is truncated"):
        shown(png(20000, 20000, 1, 0, b""), max_pixels=2**30)


# --- the files of a data set


def plant(root: Path) -> Path:
    for split in ("train", "test"):
        for label in ("ant", "bee"):
            (root / split / label).mkdir(parents=True)
            for number in range(2):
                grey(RAMP + number).save(root / split / label / f"{number}.png")
    return root


def load(root: Path, cache: Path, **options: Any) -> Any:
    return imagefolder(
        root=str(root), cache=str(cache), shape=[1, 4, 6], num_classes=2, validation=0, **options
    )


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path is short
        try:
            opened.bind(path.name)
        finally:
            os.chdir(here)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere.png")


def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("plant_one", "says"),
    [
        (a_pipe, "it is a named pipe"),
        (a_socket, "it is a socket"),
        (a_device, "it is a device"),
        (a_folder, "it is a folder"),
        (a_link_to_nothing, r"it is a link \(No such file"),
        (a_link_to_itself, r"it is a link \(Too many levels"),
    ],
)
def test_what_is_no_file_is_refused_by_name(tmp_path: Path, plant_one: Any, says: str) -> None:
    root = plant(tmp_path / "tree")
    plant_one(root / "train" / "ant" / "x.png")
    wanted = rf"^cannot read the image train/ant/x\.png in .*tree: {says}.*replace or remove it$"
    with pytest.raises(UserError, match=wanted):
        load(root, tmp_path / "cache")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_what_is_no_file_in_an_archive_is_refused_by_name(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "tree.tar", "w") as archive:
        archive.add(plant(tmp_path / "tree"), "")
        member = tarfile.TarInfo("train/ant/x.png")
        member.type, member.linkname = kind, "train/ant/0.png"
        archive.addfile(member)
    with pytest.raises(UserError, match=r"image train/ant/x\.png in .*: it is (a link|no file)"):
        load(tmp_path / "tree.tar", tmp_path / "cache")


class Zeros(io.RawIOBase):
    """Nothing but zeros, as many as are asked for."""

    def read(self, size: int = -1) -> bytes:
        return bytes(size)


def test_a_bomb_in_an_archive_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    root = plant(tmp_path / "tree")
    with tarfile.open(tmp_path / "tree.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(root / "test", "test")
        archive.add(root / "train", "train")
        member = tarfile.TarInfo("train/ant/x.png")
        member.size = 2**24
        archive.addfile(member, Zeros())
    assert (tmp_path / "tree.tar.gz").stat().st_size < 2**18
    wanted = r"x\.png in .*: it has 16,777,216 bytes, more than 4,194,304 .*max_pixels=1,048,576"
    with pytest.raises(UserError, match=wanted):
        load(tmp_path / "tree.tar.gz", tmp_path / "cache", max_pixels=2**20)
    with pytest.raises(UserError, match=r"x\.png in .*: it is none of PNG"):
        load(tmp_path / "tree.tar.gz", tmp_path / "cache", max_pixels=2**22)


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    root = plant(tmp_path / "tree")
    with (root / "test" / "bee" / "x.png").open("wb") as opened:
        opened.truncate(2**40)  # takes no room
    with pytest.raises(UserError, match=r"test/bee/x\.png in .*1,099,511,627,776 bytes, more than"):
        load(root, tmp_path / "cache")


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 2**35
    (tmp_path / "tree.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    with pytest.raises(UserError, match=r"a header of more than|damaged or cut"):
        load(tmp_path / "tree.tar", tmp_path / "cache")


@pytest.mark.parametrize("suffix", ["gz", "xz", "bz2"])
def test_a_damaged_archive_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tree.tar.{suffix}"
    with tarfile.open(path, f"w:{suffix}") as archive:
        archive.add(plant(tmp_path / "tree"), "")
    whole = path.read_bytes()
    middle = len(whole) // 2
    for content in (whole[:middle], whole[:middle] + bytes(40) + whole[middle + 40 :]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is not a readable tar archive"):
            load(path, tmp_path / "cache")


def test_an_archive_that_is_cut_or_damaged_anywhere_is_no_smaller_data_set(tmp_path: Path) -> None:
    path = tmp_path / "tree.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(plant(tmp_path / "tree"), "")
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    for at in range(512, end, 512):  # headers and contents
        for content in (whole[:at], whole[: at + 100], whole[:at] + b"?" * 9 + whole[at + 9 :]):
            path.write_bytes(content)
            with pytest.raises(UserError, match=r"not a readable tar|cannot read the image"):
                load(path, tmp_path / "cache")


# --- the cache


def alike(root: Path, level: int) -> None:
    """Repaints a data set in one colour, with sizes and times that never change."""
    for path in root.rglob("*.png"):
        path.write_bytes(png(6, 4, 8, 0, (b"\0" + bytes([level]) * 6) * 4))
        os.utime(path, (1, 1))


def facts(root: Path) -> list[tuple[str, int, int]]:
    found = [(str(p.relative_to(root)), p.stat()) for p in sorted(root.rglob("*.png"))]
    return [(name, one.st_size, one.st_mtime_ns) for name, one in found]


def test_data_sets_of_equal_names_sizes_and_times_share_nothing(tmp_path: Path) -> None:
    roots = plant(tmp_path / "a" / "tree"), plant(tmp_path / "b" / "tree")
    for root, level in zip(roots, (10, 20), strict=True):
        alike(root, level)
    assert facts(roots[0]) == facts(roots[1])
    one, other = (load(root, tmp_path / "cache") for root in roots)
    assert one.train[0].unique().tolist() == [10]
    assert other.train[0].unique().tolist() == [20]
    assert one.fingerprint != other.fingerprint


def test_a_data_set_put_in_the_place_of_another_is_read_anew(tmp_path: Path) -> None:
    root = plant(tmp_path / "tree")
    alike(root, 10)
    before = facts(root)
    load(root, tmp_path / "cache")
    alike(root, 20)  # the same place, names, sizes and times
    assert facts(root) == before
    assert load(root, tmp_path / "cache").train[0].unique().tolist() == [20]
    spare = plant(tmp_path / "spare")
    alike(spare, 30)
    root.rename(tmp_path / "old")
    spare.rename(root)
    assert load(root, tmp_path / "cache").train[0].unique().tolist() == [30]


def test_archives_of_equal_names_sizes_and_times_share_nothing(tmp_path: Path) -> None:
    found = []
    for level in (10, 20):
        root = plant(tmp_path / str(level) / "tree")
        alike(root, level)
        with tarfile.open(root.parent / "tree.tar", "w") as archive:
            archive.add(root, "")
        os.utime(root.parent / "tree.tar", (1, 1))
        found.append(load(root.parent / "tree.tar", tmp_path / "cache").train[0])
    assert [one.unique().tolist() for one in found] == [[10], [20]]


def test_a_data_set_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = plant(tmp_path / "tree")

    def change(content: bytes, *arguments: Any, **options: Any) -> Any:
        alike(root, 20)
        return pixels(content, *arguments, **options)

    monkeypatch.setattr("lth_runner.problem.data.folder.pixels", change)
    with pytest.raises(UserError, match="was changed while it was read"):
        load(root, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
