"""How much memory a machine has, what cannot fit, how it is given back, and running out of it."""

from __future__ import annotations

import ctypes
import errno
import gc
import math
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from lth_runner.values.errors import UserError

LARGE = 2**24  # values of a network whose copies are felt
PAGEOUT = 21  # Linux's MADV_PAGEOUT, which Python's own mmap has no name for
ASKED = re.compile(r"(?:tried|unable) to allocate ([\d.]+ \w+)", re.IGNORECASE)
LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container, or of a job on a cluster


def give_back(num_values: int) -> None:
    """Gives the system what was freed of a large network, of ``num_values``, and its copies.

    glibc keeps the pages of freed tensors for itself, where smaller blocks lie among them. Does
    nothing for a small network.
    """
    if num_values < LARGE:
        return
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def page_out(tensors: Iterable[Tensor]) -> None:
    """Takes the pages of tensors that lie in a file out of memory, until they are read again.

    For tensors that a file was mapped into: others go to the swap space where there is some. No
    value changes, also where the tensor was written to. Does nothing where the system cannot.
    """
    advise = getattr(ctypes.CDLL(None), "madvise", None) if sys.platform == "linux" else None
    if advise is None:
        return
    page = os.sysconf("SC_PAGE_SIZE")
    for value in tensors:
        begin = value.data_ptr() // page * page
        length = value.data_ptr() + value.nbytes - begin
        advise(ctypes.c_void_p(begin), ctypes.c_size_t(length), PAGEOUT)


def total_memory(device: torch.device | str = "cpu") -> float:
    """Returns the bytes that a device has in all, infinity where the system does not say."""
    on = torch.device(device)
    if on.type == "cuda":
        return float(torch.cuda.get_device_properties(on).total_memory)
    try:
        whole = float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        whole = math.inf
    try:
        return min(whole, float(LIMIT.read_text()))
    except (OSError, ValueError):  # there is none, or it says "max"
        return whole


def refuse_beyond_memory(num_bytes: float, what: str, device: torch.device | str = "cpu") -> None:
    """Raises UserError where ``what``, told with its size, is more than a device has in all."""
    there = total_memory(device)
    if num_bytes > there:
        where = "this machine" if torch.device(device).type == "cpu" else f"the device {device}"
        raise UserError(
            f"{what} of {num_bytes / 1e9:,.1f} GB of memory, and {where} has {there / 1e9:,.1f} "
            "GB: give less"
        )


def is_out_of_memory(error: BaseException | None) -> bool:
    """Returns whether memory is what an error is about.

    CUDA has an error of its own for it; the CPU's allocator raises a RuntimeError like any other.
    In the midst of a CUDA graph's recording the error that comes out is the recording's, after it.
    """
    kinds = (MemoryError, torch.OutOfMemoryError)
    if error is None:
        return False
    told = isinstance(error, kinds) or "can't allocate memory" in str(error)
    told = told or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    return told or is_out_of_memory(error.__context__)


def out_of_memory(error: BaseException | None) -> str:
    """Says, of an error that memory is what it is about, how much was asked for at last."""
    while error is not None:
        if match := ASKED.search(str(error)):
            return f"out of memory: {match[1]} more were asked for"
        error = error.__context__
    return "out of memory"
