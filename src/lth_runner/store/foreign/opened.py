"""Files of tensors by name, told from their first bytes: safetensors, or what torch.save writes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lth_runner.values.errors import UserError
from lth_runner.values.files import open_regular
from lth_runner.values.state import LONGEST

ZIP, PICKLE = b"PK\x03\x04", b"\x80"  # how a file of torch.save begins, since 1.6 and before
DEPTH = 3  # of dictionaries in dictionaries that are looked into
SHOWN = 3
ACCEPTED = (
    "accepted: a ticket file or a run folder of lth-run; tensors of 0 and 1 named after the "
    "weights, with or without mask. before or _mask behind (.safetensors, or .pt of torch.save); a "
    "checkpoint of torch.nn.utils.prune (weight_orig and weight_mask); a level of OpenLTH "
    "(mask.pth, beside its model_ep*_it*.pth); a sparse checkpoint whose zeros are the mask "
    "(.safetensors, .pt, or the folder of a model)"
)


class Opened(Mapping[str, Tensor]):
    """The tensors of one file, or of the shards of one model; each read when it is looked up.

    ``called``: what a message calls them; ``metadata``: the texts that a safetensors file holds
    besides. Raises UserError for what is no such file; nothing in one is run.
    """

    def __init__(self, files: Sequence[Path], called: str) -> None:
        self.called = called
        self.metadata: dict[str, str] = {}
        self._holders: dict[str, Any] = {}
        for file in files:
            holder = _holder(file)
            self.metadata |= holder.metadata
            if twice := sorted(self._holders.keys() & set(holder.names)):
                raise UserError(
                    f"{called}: {twice[0]} is in {file.name} and in another shard, and which one "
                    "is meant cannot be told: save the model again, in an empty folder"
                )
            self._holders |= dict.fromkeys(holder.names, holder)

    def __getitem__(self, name: str) -> Tensor:
        value: Tensor = self._holders[name].tensor(name)
        return value if value.layout == torch.strided else value.to_dense()

    def __iter__(self) -> Iterator[str]:
        return iter(self._holders)

    def __len__(self) -> int:
        return len(self._holders)


class _Safetensors:
    """A safetensors file, mapped: what is not looked up is not read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._opened = safe_open(path, framework="pt")
            self.names = list(self._opened.keys())
            self.metadata = dict(self._opened.metadata() or {})
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is a damaged safetensors file: {error}") from error

    def tensor(self, name: str) -> Tensor:
        try:
            found: Tensor = self._opened.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{self._path}: {name} cannot be read: {error}") from error
        return found


class _Pickled:
    """A file of torch.save, mapped where it is of today's format; it may hold tensors alone."""

    def __init__(self, path: Path, *, is_zip: bool) -> None:
        self.metadata: dict[str, str] = {}
        if is_zip:
            _refuse_other_zip(path)
        try:
            found = _loaded(path, mapped=is_zip)
        except UnpicklingError as error:
            raise UserError(
                f"{path} is damaged, or holds more than tensors, which would run code when it is "
                "opened, and so it is not: write its state_dict alone, "
                "torch.save(model.state_dict(), ...), or a .safetensors file"
            ) from error
        except (RuntimeError, EOFError, ValueError, LookupError, TypeError, OSError) as error:
            reason = str(error).strip().partition("\n")[0].partition(". This is an internal")[0]
            raise UserError(f"{path} is no whole file of torch.save: {reason}") from error
        self._tensors = _one_of(path, list(_dictionaries(found, "", DEPTH)))
        self.names = list(self._tensors)

    def tensor(self, name: str) -> Tensor:
        return self._tensors[name].detach()


def _refuse_other_zip(path: Path) -> None:
    """Raises UserError for a whole zip file that torch.save has not written, such as a program."""
    try:
        with zipfile.ZipFile(path) as opened:
            names = opened.namelist()
    except (OSError, zipfile.BadZipFile):
        return
    leaves = {name.rpartition("/")[2] for name in names}
    script = "constants.pkl" in leaves  # which runs, beside data.pkl
    if script or "data.pkl" not in leaves:
        program = "archive_format" in leaves
        what = "a program of torch.export (.pt2)" if program else "a zip file of something else"
        what = "a program of TorchScript" if script else what
        raise UserError(
            f"{path} is {what} and no file of torch.save: give the tensors themselves, as a "
            "state_dict (of lth-export: --as checkpoint)"
        )


def _loaded(path: Path, *, mapped: bool) -> object:
    if mapped and path.suffix != ".safetensors":  # of a path torch.load goes by the name
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    with io.BufferedReader(open_regular(path)) as opened:
        return torch.load(opened, map_location="cpu", weights_only=True)


def _holder(path: Path) -> _Safetensors | _Pickled:
    try:
        with open_regular(path) as opened:
            begin = opened.read(9)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if not begin:
        raise UserError(f"{path} is empty; {ACCEPTED}")
    # safetensors first: the length that it begins with may be any bytes
    if begin[8:] == b"{" and int.from_bytes(begin[:8], "little") <= LONGEST:
        return _Safetensors(path)
    if begin.startswith((ZIP, PICKLE)):
        return _Pickled(path, is_zip=begin.startswith(ZIP))
    raise UserError(f"{path} is neither a safetensors file nor one of torch.save; {ACCEPTED}")


def _dictionaries(value: object, path: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Goes through the dictionaries of tensors by name in what was saved, with where they lie."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        return
    tensors = {key: item for key, item in value.items() if isinstance(item, Tensor)}
    if tensors:
        yield path, tensors
    for key, item in value.items() if depth else ():
        yield from _dictionaries(item, f"{path}.{key}" if path else key, depth - 1)


def _one_of(path: Path, found: Sequence[tuple[str, dict[str, Tensor]]]) -> dict[str, Tensor]:
    if len(found) == 1:
        return found[0][1]
    if not found:
        raise UserError(
            f"{path} holds no dictionary of tensors by name: save one, as a state_dict is"
        )
    places = ", ".join(place or "the outermost" for place, _ in found[:SHOWN])
    raise UserError(
        f"{path} holds {len(found)} dictionaries of tensors ({places}), and which one is meant "
        "cannot be told: save one of them alone"
    )
