"""The listing of images in folders and archives, made once and kept until a file changes."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from lth_runner.problem.data.picture_files import SPLITS, Pictures, Stamp, members, stamps
from lth_runner.problem.data.streaming.files import EncodedFiles, Texts
from lth_runner.problem.data.token_table import cached_table
from lth_runner.values.errors import UserError

FORMAT = 1  # part of the cached file's name: raise it when a listing is another
PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


@dataclass
class Listing:
    """Images of one split, gathered one by one."""

    files: dict[str, Stamp] = field(default_factory=dict)
    members: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    def add(
        self, stamp: Stamp, label: int, member: str = "", begin: int = 0, length: int = -1
    ) -> None:
        """Adds an image: a whole file, or ``length`` bytes of one from ``begin`` on."""
        name, size, *_ = stamp
        if name not in self.files:
            self.files[name] = stamp
        self.places.append(len(self.files) - 1)  # a file's images come one after the other
        self.begins.append(begin)
        self.lengths.append(size if length < 0 else length)
        self.labels.append(label)
        if member:
            self.members.append(member)

    def encoded(self, root: Path) -> EncodedFiles:
        """Makes images of it that can be read, not yet hashed."""
        known = list(self.files.values())
        return EncodedFiles(
            root=str(root),
            files=Texts.of([name for name, *_ in known]),
            sizes=torch.tensor([size for _, size, *_ in known]),
            times=torch.tensor([time for _, _, time, *_ in known]),
            places=torch.tensor(self.places),
            begins=torch.tensor(self.begins),
            lengths=torch.tensor(self.lengths),
            labels=torch.tensor(self.labels),
            members=Texts.of(self.members) if self.members else None,
        )


def listed(
    root: Path,
    made_of: Sequence[object],
    found: Sequence[Stamp],
    listing: Callable[[], Mapping[str, Listing]],
    cache: str | None,
) -> dict[str, EncodedFiles]:
    """Lists and hashes the images of each split, or reads what was kept of the same files.

    ``found`` says which files there are; a change of one of them, its time alone, has all listed
    and hashed again.
    """
    digest = hashlib.sha256()
    for stamp in found:  # millions, perhaps
        digest.update(repr(stamp).encode(errors="surrogateescape"))

    def make() -> dict[str, torch.Tensor]:
        tables: dict[str, torch.Tensor] = {}
        for split, images in listing().items():
            tables |= images.encoded(root).hashed(f"{root}: {split}").packed(split)
        return tables

    key = ["images", FORMAT, str(root.resolve()), list(made_of), digest.hexdigest()]
    table = cached_table(
        key, make, cache, kind="images", told=f"data     listing the images of {root}"
    )
    splits = dict.fromkeys(name.partition(".")[0] for name in table)
    return {split: EncodedFiles.unpacked(str(root), table, split) for split in splits}


def listed_folder(root: Path, pictures: Pictures, cache: str | None) -> dict[str, EncodedFiles]:
    """Lists what ``picture_files.find`` has found in a folder."""
    found = stamps(root, pictures)

    def listing() -> dict[str, Listing]:
        by_name = {stamp[0]: stamp for stamp in found}
        splits = {split: Listing() for split in SPLITS}
        for split, made in splits.items():
            for label, name in enumerate(sorted(pictures[split])):
                for file in pictures[split][name]:
                    made.add(by_name[file], label)
        return splits

    return listed(root, ["folder"], found, listing, cache)


def listed_archive(root: Path, pictures: Pictures, cache: str | None) -> dict[str, EncodedFiles]:
    """Lists what ``picture_files.find`` has found in a tar that is not compressed."""
    refuse_packed(root)
    [stamp] = stamps(root, None)

    def listing() -> dict[str, Listing]:
        places = {
            member.name: member for _, member in members(root)
        }  # a later one of a name is what tar unpacks
        splits = {split: Listing() for split in SPLITS}
        for split, made in splits.items():
            for label, name in enumerate(sorted(pictures[split])):
                for file in pictures[split][name]:
                    begin, length = piece(root, places[file])
                    made.add(stamp, label, file, begin, length)
        return splits

    return listed(root.parent, ["archive", root.name], [stamp], listing, cache)


def piece(root: Path, member: tarfile.TarInfo) -> tuple[int, int]:
    """Returns where a member's bytes lie in a tar; raises UserError for a sparse one."""
    if member.issparse():
        raise UserError(f"{root} holds {member.name} as a sparse file: pack it without --sparse")
    return member.offset_data, member.size


def is_packed(path: Path) -> str | None:
    """Says how a file is compressed; None where it is not."""
    with path.open("rb") as opened:
        begin = opened.read(8)
    return next((name for mark, name in PACKED if begin.startswith(mark)), None)


def refuse_packed(path: Path) -> None:
    """Raises UserError for a compressed archive: nothing in it can be read by its place."""
    packed = is_packed(path)
    if packed is not None:
        raise UserError(
            f"{path} is compressed ({packed}), so that no image in it can be read by itself: "
            "unpack it to a folder, or to a plain .tar (images are compressed already)"
        )
