"""Named tensors, read from a module, hashed, and kept in safetensors files."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lth_runner.values.errors import Damaged
from lth_runner.values.files import open_regular, whole_file
from lth_runner.values.shards import local, whole

SEAL = "seal"  # a text of a file's metadata: the hash of all that it was written with
LONGEST = 100_000_000  # bytes of a safetensors header
ALIGNMENT = 64  # bytes, as torch allocates: of other places a product may have other last bits
State = dict[str, Tensor]  # parameter or buffer name -> value; BatchNorm statistics travel along

_DTYPES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fn: "F8_E4M3", torch.int16: "I16", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.int32: "I32", torch.float32: "F32", torch.complex64: "C64",
    torch.float64: "F64", torch.int64: "I64", torch.uint16: "U16", torch.uint32: "U32",
    torch.uint64: "U64",
}  # fmt: skip


def named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Goes through the tensors that a State holds: parameters, and buffers that are persistent."""
    kept = module.state_dict(keep_vars=True)
    parameters = dict(module.named_parameters())  # a shared one once, under its first name
    yield from parameters.items()
    known = {id(value) for value in parameters.values()}
    for name, value in module.named_buffers():
        if name in kept and id(value) not in known:
            yield name, value


def read(module: nn.Module) -> State:
    """Copies every parameter and persistent buffer to the CPU, under its stock name.

    Of a network that lies on several processes, all of which must read it, in whole.
    """
    return {name: _copied(value.detach()) for name, value in named_tensors(module)}


def _copied(value: Tensor) -> Tensor:
    found = whole(value).cpu()  # of one process alone it may be the process's own part
    if found.layout is not torch.strided:
        return found.clone()
    return found.clone() if found.data_ptr() == local(value).data_ptr() else found


@torch.no_grad()
def write(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copies a state into a module; raises KeyError where the two do not name the same tensors."""
    own = dict(named_tensors(module))
    if own.keys() != state.keys():
        raise KeyError(f"tensors differ: {sorted(own.keys() ^ state.keys())}")
    for name, value in own.items():
        if value.shape != state[name].shape:  # copy_ would stretch the one to the other
            raise KeyError(f"{name} has shape {tuple(value.shape)}, not {tuple(state[name].shape)}")
        value.copy_(state[name])


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """Hashes names, types, shapes and bytes (SHA-256), independent of order and device."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)};".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def is_storable(value: Tensor) -> bool:
    """Whether ``save`` can write a tensor: one that is dense, of a type that its files know."""
    return value.layout is torch.strided and value.dtype in _DTYPES


def copied(state: Mapping[str, Tensor]) -> State:
    """Returns a state with tensors of its own: nobody sees what is written to them."""
    return {name: value.clone() for name, value in state.items()}


def aligned(value: Tensor) -> Tensor:
    """Returns a tensor that lies as torch allocates one, a copy of what lies otherwise.

    Matrix products of MKL have other last bits on some processors where an operand does not begin
    at a multiple of 16 or 64 bytes. What is read from a file is to compute what was written to it.
    """
    return value.clone() if value.data_ptr() % ALIGNMENT else value


def row_major(value: Tensor) -> Tensor:
    """Returns a tensor with its last axis innermost, as a file has it, a copy of one of another.

    Products and convolutions choose a kernel by the strides, of axes of 1 too, which
    ``contiguous()`` leaves, and another kernel has other last bits.
    """
    plain = torch.empty(value.shape, device="meta").stride()
    if value.stride() == plain:
        return value
    return value.clone(memory_format=torch.contiguous_format)


def _bytes(value: Tensor) -> memoryview | bytes:
    """The bytes of a contiguous tensor on the CPU, without a copy."""
    return value.reshape(-1).view(torch.uint8).numpy().data if value.numel() else b""


def save(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file, whole or not at all, sealed with a hash of all it holds.

    The tensors go to the disk one by one: the file is never in memory beside them.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    # those that keep the ones behind them aligned first; the format allows no gaps
    names = sorted(
        tensors, key=lambda n: (tensors[n].nbytes % ALIGNMENT > 0, -tensors[n].itemsize, n)
    )
    described: dict[str, Any] = {}
    end = 0
    for name in names:
        value, begin = tensors[name], end
        end += value.nbytes
        described[name] = {
            "dtype": _DTYPES[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [begin, end],
        }
    sealed = dict(sorted({**metadata, SEAL: _seal(tensors, metadata)}.items()))
    header = json.dumps({"__metadata__": sealed, **described}, separators=(",", ":")).encode()
    header += b" " * (-(8 + len(header)) % ALIGNMENT)
    with whole_file(path) as opened:
        opened.write(len(header).to_bytes(8, "little") + header)
        for name in names:
            opened.write(_bytes(tensors[name]))


class SealedFile:
    """A file that ``save`` wrote, read as often as one likes and checked against its seal once."""

    def __init__(self, path: Path) -> None:
        self._path, self._is_checked = path, False

    def read(self, prefix: str = "") -> tuple[State, dict[str, str]]:
        """Returns the tensors whose names begin with ``prefix``, and the metadata.

        The tensors are the reader's own, and lie as torch allocates them; memory is taken only by
        what is written to and by what lies otherwise in the file. Such a file cannot run code.
        Raises Damaged where the seal does not fit, FileNotFoundError where there is no file,
        another OSError where it cannot be read.
        """
        if not self._is_checked:
            _read_through(self._path)
        tensors, metadata = _read(self._path, prefix if self._is_checked else "")
        seal = metadata.pop(SEAL, None)
        if not self._is_checked:
            if seal != _seal(tensors, metadata):
                raise Damaged(
                    f"{self._path}: its contents do not fit the hash they were written with"
                )
            self._is_checked = True
        # behind the seal, which is of the file's bytes: a copy makes any true byte a 1
        chosen = {n: aligned(value) for n, value in tensors.items() if n.startswith(prefix)}
        return chosen, metadata


def load(path: Path) -> tuple[State, dict[str, str]]:
    """Returns the tensors and the metadata of a sealed file; such a file cannot run code.

    Raises Damaged where the seal does not fit, FileNotFoundError where there is no file, another
    OSError where it cannot be read.
    """
    return SealedFile(path).read()


def metadata_of(path: Path) -> dict[str, str]:
    """Reads the texts that a safetensors file says of itself, whatever becomes of its tensors.

    Nothing where it is no such file; raises OSError where it cannot be read.
    """
    with io.BufferedReader(open_regular(path)) as opened:
        length = int.from_bytes(opened.read(8), "little")
        text = opened.read(length) if length <= LONGEST else b""
    try:
        found = json.loads(text)["__metadata__"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
    return {str(name): str(value) for name, value in found.items()} if type(found) is dict else {}


def _read_through(path: Path) -> None:
    """Reads a file to its end, before it is mapped.

    What the system refuses or the disk cannot give is an OSError here: the library that maps it
    calls all of that a missing file, and a page that cannot be had ends the process.
    """
    with open_regular(path) as opened:  # a named pipe would wait for a writer
        block = bytearray(1 << 16)
        while opened.readinto(block):
            pass


def _read(path: Path, prefix: str) -> tuple[State, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as opened:  # maps the file: pages, copied on writing
            names = [name for name in opened.keys() if name.startswith(prefix)]  # noqa: SIM118 (not a dict)
            tensors = {name: opened.get_tensor(name) for name in names}
            return tensors, dict(opened.metadata() or {})
    except SafetensorError as error:
        raise Damaged(f"{path} is no safetensors file, or was cut short") from error


def _seal(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    text = json.dumps(sorted(metadata.items()))
    return hashlib.sha256((fingerprint(tensors) + text).encode()).hexdigest()
