"""Telling the end of memory from other errors."""

from __future__ import annotations

import torch


def is_out_of_memory(error: BaseException | None) -> bool:
    """Returns whether memory is what an error is about.

    CUDA has an error of its own for it; the CPU's allocator raises a RuntimeError like any other.
    In the midst of a CUDA graph's recording the error that comes out is the recording's, after it.
    """
    kinds = (MemoryError, torch.OutOfMemoryError)
    if error is None:
        return False
    told = isinstance(error, kinds) or "can't allocate memory" in str(error)
    return told or is_out_of_memory(error.__context__)
