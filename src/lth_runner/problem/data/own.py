"""A user's own data sets as the splits of a problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from lth_runner.problem.data.map_style import MapStyle
from lth_runner.problem.data.sampled import SampledData
from lth_runner.problem.data.workers import num_workers
from lth_runner.values.errors import UserError
from lth_runner.values.tree import describe


def map_style(
    *,
    train: Any,
    test: Any,
    val: Any = None,
    name: str = "custom",
    shape: Sequence[int] = (),
    num_classes: int | None = None,
    validation: float = 0.1,
    split_seed: int = 0,
    given: str | None = None,
    workers: int | None = 0,
) -> SampledData:
    """Makes data of ``torch.utils.data.Dataset``s with a length, which stay where they are.

    ``train``, ``test`` and ``val`` are such sets (in a config each is a part with ``_target_``);
    without ``val``, ``validation`` samples of train are held out: a count, or a fraction below 1.
    ``shape`` is that of one input, for models that ask for it, and is checked where it is given.
    ``given`` names the contents where a look at every sample takes too long: change it with them.
    ``workers`` processes fetch batches ahead of time, which decides no result (None: one fewer than
    there are cores). See ``MapStyle``.
    Raises UserError.
    """
    named = {"train": train, "test": test} | ({} if val is None else {"val": val})
    splits = {
        split: MapStyle(dataset, f"{name}: {split}", given and f"{given}: {split}")
        for split, dataset in named.items()
    }
    if shape:
        for samples in splits.values():
            _check_shape(samples, shape)
    if val is not None:
        return SampledData(
            train=splits["train"],
            val=splits["val"],
            test=splits["test"],
            num_classes=num_classes,
            name=name,
            workers=num_workers(workers),
        )
    held_out = SampledData.held_out(
        splits["train"],
        splits["test"],
        validation=validation,
        split_seed=split_seed,
        num_classes=num_classes,
        name=name,
    )
    return replace(held_out, workers=num_workers(workers))


def _check_shape(samples: MapStyle, shape: Sequence[int]) -> None:
    inputs, _ = samples.take(torch.tensor([0]), torch.Generator().manual_seed(0))
    if not isinstance(inputs, torch.Tensor):
        raise UserError(
            f"{samples.name}: dataset.shape={list(shape)}, but inputs are by name "
            f"({describe(inputs)}): leave it at [], and model.shape out with ~model.shape"
        )
    if tuple(shape) != tuple(inputs.shape[1:]):
        found = ",".join(map(str, inputs.shape[1:]))
        raise UserError(
            f"{samples.name}: dataset.shape={list(shape)}, but an input has the shape [{found}]: "
            f"set dataset.shape=[{found}]"
        )
