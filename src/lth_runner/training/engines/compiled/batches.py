"""Batches that lie feature by feature in memory, as the compiled loops take them."""

from __future__ import annotations

import torch
from torch import Tensor

from lth_runner.training.engines.compiled.library import SAMPLES, library

# Vectorised kernels treat the last values of a tensor apart, by scalar code that rounds otherwise.
# Replicates padded to whole vectors have no such values, whoever lies beside them.
VECTOR = 64


def padded(num: int, to: int) -> int:
    """Rounds ``num`` up to a multiple of ``to``."""
    return -(-num // to) * to


def by_feature(inputs: Tensor) -> Tensor:
    """Lays a batch [samples, ...] out as [features, samples in whole vectors].

    The first sample stands in for those that are missing: zeros might be divided by.
    """
    num = len(inputs)
    index = torch.arange(padded(num, SAMPLES), device=inputs.device)
    index[num:] = 0
    return inputs.flatten(1)[index].t().contiguous()


def feature_major(batch: Tensor, num_features: int) -> Tensor:
    """Lays a batch [replicates, samples, features] out as [replicates, features, samples].

    Contiguous but for replicates that share their memory. Raises ValueError for what the compiled
    loops would read or write beyond.
    """
    if (
        batch.dim() != 3
        or batch.shape[2] != num_features
        or batch.shape[1] % SAMPLES
        or batch.dtype != torch.float32
        or batch.device.type != "cpu"
    ):
        raise ValueError(
            f"a batch of shape {tuple(batch.shape)}, {batch.dtype} on {batch.device}, is not one "
            f"of {num_features} features of fp32 and a multiple of {SAMPLES} samples on a CPU"
        )
    features = batch.transpose(1, 2)
    if batch.stride(0) == 0 and features[0].is_contiguous():
        return features
    return features.contiguous()


def gather(data: Tensor, index: Tensor, into: Tensor) -> None:
    """Gathers every replicate's batch feature by feature: into[n, :, s] = data[index[n, s]], flat.

    A sample of the batch stands in for those that a whole vector lacks.
    ``data`` is contiguous fp32 [samples, ...], ``index`` int64 [replicates, num], ``into``
    [replicates, features, num in whole vectors].
    """
    num, features, samples = into.shape
    library().lth_gather(
        num, index.shape[1], features, samples, torch.get_num_threads(),
        index.data_ptr(), data.data_ptr(), into.data_ptr(),
    )  # fmt: skip


def pointer(slab: Tensor | None) -> tuple[int | None, int]:
    """Gives a slab's address and how many values lie between two replicates."""
    return (None, 0) if slab is None else (slab.data_ptr(), slab.stride(0))
