"""Orders as bytes: what the ranks have in common is named, and tensors go as plain numbers."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy
import torch
from torch import Tensor

from lth_runner.problem.data import Data
from lth_runner.problem.task import Task
from lth_runner.values.errors import UserError


def packed(order: object, known: Sequence[object]) -> bytes:
    """Writes an order; ``known``: objects that the reader has too, each sent as its number.

    Raises UserError for a part that cannot be sent to another process.
    """
    written = io.BytesIO()
    pickler = _Pickler(written, known)
    try:
        pickler.dump(order)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UserError(
            f"train.engine=distributed sends what a training is made of to the other ranks, and a "
            f"part of it cannot be sent: {error}. Define its class at the top of a module, and let "
            "it hold plain values"
        ) from error
    return written.getvalue()


def unpacked(written: bytes, known: Sequence[object], device: torch.device) -> Any:
    """Reads what ``packed`` wrote; tasks and tables of data are made on ``device``."""
    return _Unpickler(io.BytesIO(written), known, device).load()


class _Pickler(pickle.Pickler):
    def __init__(self, written: io.BytesIO, known: Sequence[object]) -> None:
        super().__init__(written, protocol=5)
        self._number = {id(one): number for number, one in enumerate(known)}

    def persistent_id(self, value: Any) -> Any:
        """Names what both ends have, and what is made anew at the other end."""
        if id(value) in self._number:
            return self._number[id(value)]
        if isinstance(value, Task):
            own = {f.name: getattr(value, f.name) for f in fields(Task)}
            return Task, own | {"sharing": None}  # of which this process alone has the lines
        if isinstance(value, Data):
            held = {f.name: getattr(value, f.name) for f in fields(Data)}
            return Data, held, value.fingerprint
        return None

    def reducer_override(self, value: Any) -> Any:
        """Sends a tensor as its bytes: it would take the whole storage of a view with it."""
        if not isinstance(value, Tensor) or type(value) is not Tensor:
            return NotImplemented
        if value.device.type == "meta":  # a shape and a type
            return _shape, (tuple(value.shape), value.dtype)
        plain = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return _tensor, (plain, value.dtype, tuple(value.shape))


class _Unpickler(pickle.Unpickler):
    def __init__(self, written: io.BytesIO, known: Sequence[object], device: torch.device) -> None:
        super().__init__(written)
        self._known, self._device = known, device

    def persistent_load(self, number: Any) -> Any:
        """Finds what is known here, or makes it on this rank's device."""
        if isinstance(number, int):
            return self._known[number]
        kind, own, *fingerprint = number
        if kind is Task:
            return Task(**own | {"device": self._device})
        return _data(own, fingerprint[0], self._device)


def _data(own: Mapping[str, Any], fingerprint: str, device: torch.device) -> Data:
    found = Data(**own)
    found.__dict__["fingerprint"] = fingerprint  # where cached_property looks; of the raw tensors
    return found.to(device)


def _tensor(plain: numpy.ndarray, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    if not plain.size:  # which torch reads as no other type
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(plain.copy()).view(dtype).reshape(shape)


def _shape(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")
