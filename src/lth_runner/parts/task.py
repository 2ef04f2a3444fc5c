"""The problem that a config stands for: what is to be learned, on which device."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from lth_runner.parts.make import make, model_factory, part
from lth_runner.parts.seams import check_members
from lth_runner.problem.coordinates import Coordinates
from lth_runner.problem.covers import Covers
from lth_runner.problem.data import Dataset
from lth_runner.problem.objective import Objective
from lth_runner.problem.origin import Origin
from lth_runner.problem.size import check_size
from lth_runner.problem.task import Task
from lth_runner.values.errors import UserError
from lth_runner.values.raised import first_line, raised_at

Weigh = Callable[[int, torch.device], None]  # of the bytes of a network's parameters


def build_task(values: Mapping[str, Any], weigh: Weigh | None = None) -> Task:
    """Builds what is to be learned, from where and in which numbers, for the first replicate.

    ``weigh`` is told how large the network is before it is built, where that is known.
    """
    task = make_task(values, weigh)
    with building():
        task.init()
    return task


def make_task(values: Mapping[str, Any], weigh: Weigh | None = None) -> Task:
    """Makes the same of the data and the parts; the network is built when it is asked for."""
    device = pick_device(values["device"])
    # a published model first: its folder is where a tokenizer is looked for too
    model = model_factory(values["model"])
    found: Dataset = make(values["dataset"])
    check_members("dataset", found, Dataset)
    num_bytes = check_size(model, device)
    if weigh is not None and num_bytes is not None:
        weigh(num_bytes, device)
    data = found.limited(values["max_samples"]).to(device)
    return Task(
        model=model,
        data=data,
        seed=values["seed"],
        device=device,
        biases=values["pruner"].get("biases", False),
        objective=part(values, "objective", Objective),
        origin=part(values, "origin", Origin) if values["origin"] else None,
        coordinates=part(values, "coordinates", Coordinates) if values["coordinates"] else None,
        covers=part(values, "covers", Covers),
    )


@contextmanager
def building() -> Iterator[None]:
    """Raises UserError for whatever a network of a user's own raises while it is built."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"the model cannot be built: {first_line(error)}{raised_at(error)}"
        ) from error


def pick_device(name: str) -> torch.device:
    """Picks the device: ``auto`` takes CUDA, then MPS, then the CPU.

    Raises UserError where one that is asked for by name is not there.
    """
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        return torch.device(next(k for k in ("cuda", "mps", "cpu") if available[k]))
    found = re.fullmatch(r"(cpu|cuda|mps)|(cuda):\d{1,3}", str(name), re.ASCII)
    if found is None:
        raise UserError(
            f"device={name!r}: accepted: auto, cpu, cuda (a GPU; cuda:1 is the second), mps"
        )
    kind = found[1] or found[2]
    if not available[kind]:
        raise UserError(
            f"device={name} was asked for, but this machine (or its torch {torch.__version__}) "
            f"has no {kind}: use device=auto or device=cpu"
        )
    device = torch.device(name)
    if kind == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise UserError(f"device={name}: there are {torch.cuda.device_count()} CUDA devices")
    return device
