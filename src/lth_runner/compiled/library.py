"""The C files of this folder, compiled by the machine's own compiler on first use."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from lth_runner.errors import UserError

SOURCES = [Path(__file__).with_name(f"{name}.c") for name in ("batches", "surviving", "whole")]
FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-shared")
# the best first: a compiler may know no -march=native (some on ARM) or no OpenMP (Apple's)
OPTIONAL = (("-march=native", "-fopenmp"), ("-march=native",), ("-fopenmp",), ())

# arguments of its functions: i a whole number, p an address (None for NULL)
SIGNATURES = {
    "lth_combine": "iiii pppp i pi pi pi",
    "lth_correlate": "iiii ppp i pi pi pi",
    "lth_gather": "iiiii ppp",
    "lth_multiply": "iiiii ii pi pi pi pi",
    "lth_relate": "iiiii p pi pi pi pi",
}
KINDS = {"i": ctypes.c_int64, "p": ctypes.c_void_p}


@functools.cache
def library() -> ctypes.CDLL:
    """The functions of the C files here; compiled once a machine and kept in the user's cache.

    Raises UserError, with the compiler's own words, where they cannot be had.
    """
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if not compiler or shutil.which(compiler[0]) is None:
        raise UserError(
            f"there is no C compiler {' '.join(compiler)!r} here: install one or name it in CC"
        )
    seal = hashlib.sha256()
    text = [source.read_text() for source in (*SOURCES, SOURCES[0].with_name("samples.h"))]
    for part in (*text, " ".join(compiler), platform.platform(), _processor()):
        seal.update(part.encode() + b"\0")
    for folder in (_cache(), Path(tempfile.gettempdir()) / f"lth-runner-{os.getuid()}"):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if folder.stat().st_uid != os.getuid():  # what it holds would be run
                raise PermissionError(f"{folder} is not yours")
            path = folder / f"layers-{seal.hexdigest()[:16]}.so"
            if not path.exists():
                _compile(compiler, path)
            return _declared(ctypes.CDLL(str(path)))
        except OSError as error:  # no home, a full or read-only disk, one that runs nothing
            reason = error
    raise UserError(f"compiled code cannot be kept or loaded here: {reason}; set XDG_CACHE_HOME")


def _declared(loaded: ctypes.CDLL) -> ctypes.CDLL:
    for name, kinds in SIGNATURES.items():
        function = getattr(loaded, name)
        function.argtypes = [KINDS[kind] for kind in kinds.replace(" ", "")]
        function.restype = None
    return loaded


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "lth-runner"


def _processor() -> str:
    """What -march=native answers to: a home may be shared by machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    told = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(told)))


def _compile(compiler: list[str], path: Path) -> None:
    for extra in OPTIONAL:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            fresh = Path(folder) / path.name
            command = [*compiler, *FLAGS, *extra, "-o", str(fresh), *map(str, SOURCES)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                fresh.replace(path)  # whole or not at all, whoever else compiles it now
                return
    raise UserError(
        f"{' '.join(compiler)} cannot compile {SOURCES[0].parent}: {done.stderr.strip()}"
    )
