"""Named tensors, read from a module, hashed, and kept in safetensors files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from lth_runner.values.files import write_whole

State = dict[str, Tensor]  # parameter or buffer name -> value; BatchNorm statistics travel along


def _persistent(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    kept = module.state_dict(keep_vars=True)
    yield from module.named_parameters()  # a shared parameter once, under its first name
    for name, value in module.named_buffers():
        if name in kept:
            yield name, value


def read(module: nn.Module) -> State:
    """Copies every parameter and persistent buffer to the CPU, under its stock name."""
    return {name: value.detach().cpu().clone() for name, value in _persistent(module)}


@torch.no_grad()
def write(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copies a state into a module; raises KeyError where the two do not name the same tensors."""
    own = dict(_persistent(module))
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
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()


class Damaged(Exception):
    """Says that a file is not what was written: truncated, flipped bits, or no file of ours."""


def save(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file, whole or not at all, sealed with a hash of all it holds."""
    tensors = _unshared(state)
    sealed = {**metadata, "seal": _seal(tensors, metadata)}
    write_whole(path, _in_order(serialize(tensors, sealed)))


def load(path: Path) -> tuple[State, dict[str, str]]:
    """Reads the tensors and the metadata of a sealed file; such a file cannot run code.

    Raises Damaged where the seal does not fit, FileNotFoundError where there is no file.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
            metadata = dict(opened.metadata() or {})
    except SafetensorError as error:
        raise Damaged(f"{path}: {error}") from error
    if metadata.pop("seal", None) != _seal(tensors, metadata):
        raise Damaged(f"{path}: its contents do not fit the hash they were written with")
    return tensors, metadata


def _in_order(content: bytes) -> bytes:
    """Sorts a file's metadata, whose order the library leaves to chance."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    metadata = dict(sorted(header.pop("__metadata__").items()))
    text = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":"))
    encoded = text.encode()
    encoded += b" " * (-len(encoded) % 8)  # tensors are aligned to eight bytes
    return len(encoded).to_bytes(8, "little") + encoded + content[8 + length :]


def _unshared(state: Mapping[str, Tensor]) -> State:
    """Gives contiguous CPU tensors memory of their own: the format holds no two views of one."""
    seen: set[int] = set()
    own: State = {}
    for name, value in state.items():
        tensor = value.detach().cpu().contiguous()
        address = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone() if address in seen else tensor
        seen.add(address)
    return own


def _seal(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    text = json.dumps(sorted(metadata.items()))
    return hashlib.sha256((fingerprint(tensors) + text).encode()).hexdigest()
