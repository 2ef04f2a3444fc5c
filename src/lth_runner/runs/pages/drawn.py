"""Whether the pictures of a run are what was drawn, and of its present rows and config."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path

from lth_runner.runs.folder import CONFIG, CURVE, PAGE, ROUNDS
from lth_runner.values.json_files import read_bytes

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MARK, _END = b"<!-- SHA-256 of what is above: ", b" -->\n"


def sealed(page: str) -> bytes:
    """Returns a page as its file holds it: with a hash of itself in a comment at its end.

    What is no character, as half of a pair in somebody's status file, is a question mark.
    """
    content = page.rstrip("\n").encode(errors="replace") + b"\n"
    seal = hashlib.sha256(content).hexdigest()
    return content + _MARK + seal.encode() + _END


def is_whole_page(content: bytes) -> bool:
    """Whether a page is what was written."""
    above, mark, rest = content.rpartition(_MARK)
    seal = hashlib.sha256(above).hexdigest().encode()
    return bool(mark) and rest == seal + _END


def is_whole_png(content: bytes) -> bool:
    """Whether every chunk of a PNG fits its checksum, from the signature to the end."""
    place = len(SIGNATURE)
    if content[:place] != SIGNATURE:
        return False
    while len(content) - place >= 12:
        end = place + 8 + int.from_bytes(content[place : place + 4], "big")
        kind = content[place + 4 : place + 8]
        if content[end : end + 4] != zlib.crc32(content[place + 4 : end]).to_bytes(4, "big"):
            return False
        place = end + 4
        if kind == b"IEND":
            return place == len(content)
    return False


def stale(folder: Path) -> list[str]:
    """Lists the pictures of a run that are missing, damaged, or older than its rows or config."""
    checks: dict[str, Callable[[bytes], bool]] = {CURVE: is_whole_png, PAGE: is_whole_page}
    files = [folder / ROUNDS, *(path for path in [folder / CONFIG] if path.exists())]
    drawn_of = max(path.stat().st_mtime for path in files)
    return [
        name
        for name, is_whole in checks.items()
        if not is_whole(read_bytes(folder / name)) or (folder / name).stat().st_mtime < drawn_of
    ]
