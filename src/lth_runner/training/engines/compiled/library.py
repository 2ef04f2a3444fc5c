"""The C files of this folder, compiled by the machine's own compiler on first use."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from lth_runner.values.errors import UserError

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
    compiler too. Raises UserError, with the compiler's own words, where they cannot be had.
    """
    seal = hashlib.sha256()
    text = [file.read_text() for file in (*SOURCES, *HEADERS)]
    machine = (platform.machine(), *platform.libc_ver(), _processor())
    for part in (*text, repr((FLAGS, OPTIONAL)), *machine):
        seal.update(part.encode() + b"\0")
    reasons = []
    for place in (_cache, _temporary):
        try:
            path = _own(place()) / f"layers-{seal.hexdigest()[:16]}.so"
            if not path.exists():
                _compile(path)
            return _declared(ctypes.CDLL(str(path)))
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


def _compile(path: Path) -> None:
    named = os.environ.get("CC", "cc")
    try:
        compiler = shlex.split(named)
    except ValueError:  # an open quote
        compiler = []
    if not compiler or shutil.which(compiler[0]) is None:
        raise OSError(f"there is no C compiler {named!r} here: install one or name it in CC")
    said = ""
    for extra in OPTIONAL:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            fresh = Path(folder) / path.name
            command = [*compiler, *FLAGS, *extra, "-o", str(fresh), *map(str, SOURCES)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            try:
                if done.returncode == 0:
                    ctypes.CDLL(str(fresh))  # what links may still lack a library when it runs
                    fresh.replace(path)  # whole or not at all, whoever else compiles it now
                    return
                said = done.stderr
            except OSError as error:
                said = str(error)
    lines = [line for line in said.strip().splitlines() if "error" in line] or [said.strip()]
    raise OSError(f"{' '.join(compiler)} cannot compile {SOURCES[0].parent}: {lines[0]}")
