"""Files are written whole, by many at once, through no link; what a kill left is cleared."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from pathlib import Path

import pytest
import torch

from lth_runner.problem.data.cache_file import write_cache_file
from lth_runner.runs.status.removal import remove_below
from lth_runner.values import pieces
from lth_runner.values.files import append, regular_hash, whole_file, write_whole
from lth_runner.values.pieces import clear_pieces, piece
from lth_runner.values.processes import is_alive

GONE = 2**22 + 1  # a number that Linux gives to no process


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_many_writers_of_one_file_never_tear_it(tmp_path):
    target, failures = tmp_path / "page", []
    contents = [bytes([n]) * 50_000 for n in range(4)]
    write_whole(target, contents[0])

    def write(content: bytes) -> None:
        try:
            for _ in range(50):
                write_whole(target, content, synced=False)
        except OSError as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=[content]) for content in contents]
    for writer in writers:
        writer.start()
    read = [target.read_bytes() for _ in range(200)]
    for writer in writers:
        writer.join()
    assert not failures
    assert set(read) <= set(contents)
    assert names(tmp_path) == ["page"]


def test_a_planted_link_is_not_followed_by_any_writer(tmp_path, monkeypatch):
    victim, target = tmp_path / "victim", tmp_path / "inside" / "file"
    victim.write_text("precious")
    target.parent.mkdir()
    target.symlink_to(victim)
    with pytest.raises(OSError) as refused:
        append(target, b"more")
    assert refused.value.errno == errno.ELOOP
    write_whole(target, b"new")
    assert (victim.read_text(), target.read_bytes(), target.is_symlink()) == (
        "precious", b"new", False,
    )  # fmt: skip
    # somebody has guessed the piece's name
    monkeypatch.setattr(pieces.secrets, "token_hex", lambda _: "00000000")
    piece(target).symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_whole(target, b"newer")
    assert victim.read_text() == "precious"


def test_a_write_that_fails_leaves_the_old_file_and_no_piece(tmp_path):
    target = tmp_path / "file"
    write_whole(target, b"old")

    def write() -> None:
        with whole_file(target) as opened:
            opened.write(b"ne")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write()
    assert (names(tmp_path), target.read_bytes()) == (["file"], b"old")


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_files_have_the_mode_that_the_umask_leaves(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "whole", b"")
        append(tmp_path / "added", b"")
        write_cache_file(tmp_path / "cached", {"a": torch.zeros(2)}, {}, "images")  # by a library
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("whole", "added", "cached"), 0o666 & ~umask)


def test_pieces_of_the_killed_are_cleared_and_those_of_the_living_stay(tmp_path, monkeypatch):
    file = tmp_path / "status.json"
    mine = piece(file)
    monkeypatch.setattr(pieces.os, "getpid", lambda: GONE)
    dead = piece(file)
    monkeypatch.undo()
    monkeypatch.setattr(pieces, "place", lambda: "elsewhere")
    theirs, old = piece(file), piece(file)
    monkeypatch.undo()
    others = [tmp_path / name for name in (".hidden", "a.part", ".a.part", "status.json")]
    for path in (mine, dead, theirs, old, *others):
        path.write_text("")
    os.utime(old, (0, 0))
    clear_pieces(tmp_path)
    assert names(tmp_path) == sorted(path.name for path in (mine, theirs, *others))
    clear_pieces(tmp_path / "no such folder")


def test_what_is_removed_lies_below_and_is_reached_through_no_link(tmp_path):
    root, outside = tmp_path / "store", tmp_path / "outside"
    for folder in (root / "a" / "empty", outside):
        folder.mkdir(parents=True)
    (outside / "precious").write_text("")
    (root / "a" / "file").write_text("")
    (root / "a" / "link").symlink_to(outside)
    (root / "linked").symlink_to(outside)
    remove_below(root, root / "a" / "file")
    remove_below(root, root / "a" / "empty")
    remove_below(root, root / "a" / "link")
    remove_below(root, root / "a" / "gone already")
    with pytest.raises(OSError):
        remove_below(root, root / "linked" / "precious")
    with pytest.raises(ValueError):
        remove_below(root, outside / "precious")
    assert (names(root / "a"), names(outside)) == ([], ["precious"])


def test_a_file_is_hashed_by_its_contents(tmp_path):
    content = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(content)
    assert regular_hash(tmp_path / "file") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("pid", [0, -1, GONE, 2**31, 10**30])
def test_a_number_that_no_process_has_is_of_none(pid):
    assert not is_alive(pid)
