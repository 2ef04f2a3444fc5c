"""The pictures of a data set under their names, in a folder or in a tar of it."""

from __future__ import annotations

import logging
import lzma
import tarfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tarfile import EOFHeaderError, HeaderError, ReadError  # type: ignore[attr-defined]
from typing import Any

from lth_runner.values.errors import UserError
from lth_runner.values.files import not_a_file, read_regular
from lth_runner.values.listed import listed

Pictures = dict[str, dict[str, list[str]]]  # split -> class -> sorted file names under the root
Stamp = tuple[str, int, int, int, int]  # name, size, times of content and of facts, number
SPLITS = ("train", "test")
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
)
LONGEST_HEADER = 2**20  # bytes of the facts of one file in a tar, which it reads at once
_log = logging.getLogger(__name__)


def find(root: Path, most: int) -> Pictures:
    """Finds train/<class>/* and test/<class>/* under a folder, or in a tar, by their suffixes.

    Raises UserError for a missing split, an empty class, classes that differ, and under a
    picture's name what is no file, or is larger than ``most`` bytes.
    """
    if not root.exists():
        where = "" if root.is_absolute() else f", seen from {Path.cwd()}"
        raise UserError(
            f"dataset.root={root}: there is no such folder or archive{where}: give one with "
            "train/<class>/* and test/<class>/* images"
        )
    pictures, left_out = _in_archive(root, most) if root.is_file() else _in_folder(root)
    for split in SPLITS:
        if not pictures.get(split):
            raise UserError(
                f"{root} has no {split}/<class>/ folders: give dataset.root a folder, .tar or"
                " .tar.gz with train/<class>/* and test/<class>/* images"
            )
        for label, names in pictures[split].items():
            if not names:
                raise UserError(
                    f"class folder {split}/{label} in {root} holds no image: add some"
                    f" ({' '.join(sorted(SUFFIXES))}) or remove the folder"
                )
    if only := set(pictures["train"]) ^ set(pictures["test"]):
        raise UserError(
            f"train/ and test/ in {root} do not hold the same classes:"
            f" {listed(sorted(only))} found in one of them only"
        )
    if left_out:
        _log.info("data     left out, no image of a class, in %s: %s", root, listed(left_out))
    return pictures


def stamps(root: Path, pictures: Pictures | None) -> list[Stamp]:
    """Lists what tells each file from another under its name, or the archive where it is one.

    A file that is put in another's place, as old and as large, has another number or another time
    of its facts, which nobody sets. Raises UserError for what is no file.
    """
    if pictures is None:
        return [stamp_of(root.parent, root.name)]
    names = [name for split in SPLITS for group in pictures[split].values() for name in group]
    return [stamp_of(root, name) for name in names]


def stamp_of(root: Path, name: str) -> Stamp:
    """Says what tells a file from another under its name; raises UserError for what is none."""
    try:
        facts = (root / name).stat()
    except OSError as error:
        link = (root / name).is_symlink()
        reason = f"it is a link ({error.strerror})" if link else str(error.strerror)
        raise UserError(_unread(name, root, reason)) from error
    if (found := not_a_file(facts.st_mode)) is not None:
        raise UserError(_unread(name, root, f"it is {found}"))
    return name, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino


def contents(root: Path, names: Collection[str], most: int) -> Iterator[tuple[str, bytes]]:
    """Yields the name and the content of each file; nothing of an archive is written to disk."""
    if not root.is_file():
        for name in names:
            try:
                content = read_regular(root / name, most)
            except OSError as error:
                reason = f"{error.strerror}{_way_out(most)}"
                raise UserError(_unread(name, root, reason)) from error
            yield name, content
        return
    for archive, member in members(root):  # in the archive's order
        with as_archive(root):
            file = archive.extractfile(member) if member.name in names else None
            packed = None if file is None else file.read()
        if packed is not None:
            yield member.name, packed


def _in_folder(root: Path) -> tuple[Pictures, list[str]]:
    pictures: Pictures = {}
    left_out = [f"{path.name}/" for path in root.iterdir()
                if path.is_dir() and path.name not in SPLITS]  # fmt: skip
    for split in SPLITS:
        if not (root / split).is_dir():
            continue
        pictures[split] = {}
        for label in sorted((root / split).iterdir()):
            if not label.is_dir():
                left_out.append(f"{split}/{label.name}")
            elif not _is_hidden(label.name):
                names = [path.name for path in label.iterdir()]
                kept = sorted(filter(_is_picture, names))
                pictures[split][label.name] = [f"{split}/{label.name}/{name}" for name in kept]
                others = set(names).difference(kept)
                left_out += [f"{split}/{label.name}/{name}" for name in sorted(others)]
    return pictures, [one for one in left_out if not _is_hidden(PurePosixPath(one).name)]


def _in_archive(root: Path, most: int) -> tuple[Pictures, list[str]]:
    found: dict[str, dict[str, set[str]]] = {}
    prefixes, left_out = set(), []
    for _, member in members(root):
        path = PurePosixPath(member.name)
        *prefix, split, label = ("", "", *(path if member.isdir() else path.parent).parts)
        if split not in SPLITS or _is_hidden(label):
            left_out += [member.name] * (member.isfile() and not _is_hidden(path.name))
            continue
        prefixes.add("/".join(prefix))
        names = found.setdefault(split, {}).setdefault(label, set())
        if _is_picture(path.name) and not member.isdir():
            _check_member(root, member, most)
            names.add(member.name)
        elif member.isfile() and not _is_hidden(path.name):
            left_out.append(member.name)
    if len(prefixes) > 1:
        raise UserError(
            f"{root} holds train/ or test/ below several folders"
            f" ({', '.join(sorted(prefixes))}): pack one train/ and one test/"
        )
    kept = {s: {c: sorted(names) for c, names in group.items()} for s, group in found.items()}
    return kept, left_out


def _check_member(root: Path, member: tarfile.TarInfo, most: int) -> None:
    if not member.isfile():
        kind = "a link" if member.issym() or member.islnk() else "no file"
        raise UserError(
            f"{_unread(member.name, root, f'it is {kind}')} (tar --dereference "
            "--hard-dereference packs what links lead to)"
        )
    if member.size > most:
        reason = f"it has {member.size:,} bytes, more than {most:,}{_way_out(most)}"
        raise UserError(_unread(member.name, root, reason))


class _Member(tarfile.TarInfo):
    """Facts of a file in a tar, refused where they are damaged."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Member:  # its own name
        try:
            return super().fromtarfile(tarfile)
        except EOFHeaderError:  # the mark of its end
            raise
        except HeaderError as error:  # which a TarFile takes for the end of the archive
            raise ReadError(f"damaged or cut: {error}") from error


class _Archive(tarfile.TarFile):
    """A tar whose headers, among them long names, are refused where they would fill the memory."""

    tarinfo = _Member

    def next(self) -> tarfile.TarInfo | None:
        whole = self.fileobj
        self.fileobj = _Headers(whole)  # type: ignore[assignment]  # it is only read
        try:
            return super().next()
        finally:
            self.fileobj = whole


@dataclass
class _Headers:
    """Reads no more than the headers of one file may have; Python reads long ones in pieces."""

    file: Any
    room: int = LONGEST_HEADER

    def read(self, size: int) -> bytes:
        if size > self.room:
            raise ReadError(f"a header of more than {LONGEST_HEADER:,} bytes")
        found: bytes = self.file.read(size)
        self.room -= len(found)
        return found

    def seek(self, place: int) -> int:
        return int(self.file.seek(place))

    def tell(self) -> int:
        return int(self.file.tell())


def members(root: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Goes through an archive; a member is seen before what it holds is unpacked."""
    with as_archive(root), _Archive.open(root) as archive:
        for member in archive:
            yield archive, member


@contextmanager
def as_archive(root: Path) -> Iterator[None]:
    """Raises UserError for what is wrong with a tar while it is read."""
    try:
        yield
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(
            f"{root} is not a readable tar archive ({error}): give a folder, .tar or .tar.gz"
        ) from error


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES and not _is_hidden(name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _unread(name: str, root: Path, reason: str) -> str:
    return f"cannot read the image {name} in {root}: {reason}; replace or remove it"


def _way_out(most: int) -> str:
    return f" (four for each pixel of dataset.max_pixels={most // 4:,}, which raises it)"
