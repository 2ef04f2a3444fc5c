"""The C files of this folder, compiled by the machine's own compiler on first use.

What was compiled is kept in the user's cache under a name that holds a hash of its contents, and is
loaded only where they fit it: a library that a full disk cut short or that lost a bit would end the
process, or compute something else.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from lth_runner.values.errors import UserError
from lth_runner.values.files import regular_hash
from lth_runner.values.pieces import clear_pieces, piece

log = logging.getLogger(__name__)
SAMPLES = 16  # in a vector: a batch is padded to a multiple
SOURCES = [Path(__file__).with_name(f"{name}.c") for name in ("batches", "surviving", "whole")]
HEADERS = [Path(__file__).with_name("samples.h")]
FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno", "-fPIC", "-shared", f"-DLANES={SAMPLES}")
# the best first: a compiler may know no -march=native (some on ARM) or no OpenMP (Apple's)
OPTIONAL = (("-march=native", "-fopenmp"), ("-march=native",), ("-fopenmp",), ())

# arguments of its functions: i a whole number, p an address (None for NULL)
SIGNATURES = {
    "lth_combine": "iiiii pppp i pi pi pi",
    "lth_correlate": "iiiii ppp i pi pi pi",
    "lth_fused_step": "iiiii pp pppp i pi pi",
    "lth_gather": "iiiii ppp",
    "lth_multiply": "iiiii ii pi pi pi pi",
    "lth_relate": "iiiii p pi pi pi",
    "lth_total": "iii pi pi",
}
KINDS = {"i": ctypes.c_int64, "p": ctypes.c_void_p}


@functools.cache
def library() -> ctypes.CDLL:
    """Loads the functions of the C files here, compiled once and kept in the user's cache.

    What is kept serves every machine with the same processor, libraries and home, one without a
    compiler too; what is damaged is compiled again. Raises
    UserError, with the compiler's own words, where they cannot be had.
    """
    seal = hashlib.sha256()
    text = [file.read_text() for file in (*SOURCES, *HEADERS)]
    machine = (platform.machine(), *platform.libc_ver(), _processor())
    for part in (*text, repr((FLAGS, OPTIONAL)), *machine):
        seal.update(part.encode() + b"\0")
    reasons = []
    for place in (_cache, _temporary):
        try:
            folder, name = _own(place()), f"layers-{seal.hexdigest()[:16]}"
            return _declared(ctypes.CDLL(str(_kept(folder, name) or _compiled(folder, name))))
        except (OSError, RuntimeError) as error:  # no home, a full or read-only disk, no compiler
            reasons.append(str(error))
    raise UserError("; ".join(dict.fromkeys(reasons)))


def _declared(loaded: ctypes.CDLL) -> ctypes.CDLL:
    for name, kinds in SIGNATURES.items():
        function = getattr(loaded, name)
        function.argtypes = [KINDS[kind] for kind in kinds.replace(" ", "")]
        function.restype = None
    return loaded


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "lth-runner" / "compiled"


def _temporary() -> Path:
    return Path(tempfile.gettempdir()) / f"lth-runner-{os.getuid()}"


def _own(folder: Path) -> Path:
    """Makes a folder that nobody else may write to, since its code is run."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    facts = folder.lstat()
    private = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid()
    if not private or facts.st_mode & 0o022:
        raise PermissionError(f"{folder} is not a folder that you alone can write to")
    return folder


def _processor() -> str:
    """Describes what -march=native answers to: a home may be shared by unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    told = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(told)))


def _kept(folder: Path, name: str) -> Path | None:
    """Finds what was compiled before and still is what was written; removes what is not.

    Raises OSError for what is no file: a named pipe would be waited for.
    """
    for path in sorted(folder.glob(f"{name}-*.so")):
        if path.stem == f"{name}-{regular_hash(path)}":
            return path
        path.unlink(missing_ok=True)
        log.warning("%s was damaged: removed, and compiled again", path)
    return None


def _compiled(folder: Path, name: str) -> Path:
    """Compiles the library by the best flags that work here, onto the disk."""
    clear_pieces(folder)
    compiler, said = _compiler(), ""
    fresh = piece(folder / f"{name}.so")
    for extra in OPTIONAL:
        command = [*compiler, *FLAGS, *extra, "-o", str(fresh), *map(str, SOURCES)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            said = done.stderr
            if done.returncode == 0:
                ctypes.CDLL(str(fresh))  # what links may still lack a library when it runs
                with fresh.open("rb") as opened:
                    os.fsync(opened.fileno())
                path = folder / f"{name}-{regular_hash(fresh)}.so"
                fresh.replace(path)  # whole or not at all, whoever else compiles it now
                return path
        except OSError as error:
            said = str(error)
        finally:
            fresh.unlink(missing_ok=True)
    lines = [line for line in said.strip().splitlines() if "error" in line] or [said.strip()]
    raise OSError(f"{' '.join(compiler)} cannot compile {SOURCES[0].parent}: {lines[0]}")


def _compiler() -> list[str]:
    named = os.environ.get("CC", "cc")
    try:
        words = shlex.split(named)
    except ValueError:  # an open quote
        words = []
    if not words or shutil.which(words[0]) is None:
        raise OSError(f"there is no C compiler {named!r} here: install one or name it in CC")
    return words
