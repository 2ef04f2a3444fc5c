"""Batches feature by feature in memory, as the compiled loops take them."""

from __future__ import annotations

import torch
from torch import Tensor

from lth_runner.compiled.library import library

SAMPLES = 16  # a batch is padded to a multiple: whole vectors


def padded(num: int, to: int) -> int:
    """``num`` rounded up to a multiple of ``to``."""
    return -(-num // to) * to


def by_feature(inputs: Tensor) -> Tensor:
    """[features, samples in whole vectors] of a batch [samples, ...], zeros behind it."""
    num = len(inputs)
    features = inputs.new_zeros(inputs[0].numel(), padded(num, SAMPLES))
    features[:, :num] = inputs.flatten(1).t()
    return features


def feature_major(batch: Tensor) -> Tensor:
    """[replicates, features, samples], contiguous but for replicates that share their memory."""
    features = batch.transpose(1, 2)
    if batch.stride(0) == 0 and features[0].is_contiguous():
        return features
    return features.contiguous()


def gather(data: Tensor, index: Tensor, into: Tensor) -> None:
    """into[n, :, s] = data[index[n, s]], flat: every replicate's batch, feature by feature.

    ``data`` is contiguous fp32 [samples, ...], ``index`` int64 [replicates, num], ``into``
    [replicates, features, at least num].
    """
    num, features, samples = into.shape
    library().lth_gather(
        num, index.shape[1], features, samples, torch.get_num_threads(),
        index.data_ptr(), data.data_ptr(), into.data_ptr(),
    )  # fmt: skip


def placed(slab: Tensor | None) -> tuple[int | None, int]:
    """Its address, and how many values lie between two replicates."""
    return (None, 0) if slab is None else (slab.data_ptr(), slab.stride(0))
