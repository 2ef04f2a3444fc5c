"""What stands for networks of runs to come: a flow is checked before they are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from lth_runner.problem.data.sampled import SampledData
from lth_runner.problem.laying import Laying
from lth_runner.runs.awaited import AwaitedRun
from lth_runner.study.flow.pairs import TESTED, TRAINED, Drawing, check_shape, listed_runs
from lth_runner.study.flow.space import check_components
from lth_runner.study.permutation import Symmetries
from lth_runner.values.errors import UserError
from lth_runner.values.tree import Batch

FLOW = "lth_runner.study.flow.weight_flow"
GENERATED = "lth_runner.study.flow.Generated"


@dataclass(frozen=True)
class AwaitedPairs:
    """Samples of the right shapes, of networks that are not there.

    ``tensors``: the type and the shape of each tensor of theirs, ``["float32", 6, 4]``.
    """

    size: int
    num_networks: int
    num_conditions: int
    tensors: Mapping[str, Sequence[Any]]
    draws: int

    @property
    def fingerprint(self) -> str:
        """The same for all: networks that are not trained yet have no hash."""
        return "awaited"

    def __len__(self) -> int:
        return self.num_networks * self.draws

    def take(self, index: Tensor, draw: Generator) -> Batch:
        """Draws samples between noise and noise."""
        inputs, targets = Drawing(1.0, 0.0)(torch.zeros(len(index), self.size), draw)
        if self.num_conditions:
            inputs["conditions"] = index % self.num_conditions
        return inputs, targets

    def lay(self, module: nn.Module, called: str, fresh: Sequence[str]) -> None:
        """Writes zeros over a network in place of a generated one; raises UserError for another."""
        zeros = (
            (name, torch.zeros(tuple(shape), dtype=getattr(torch, dtype)))
            for name, (dtype, *shape) in self.tensors.items()
        )
        Laying(called, fresh, ()).lay(module, zeros)


def awaited_flow(
    *,
    networks: int,
    size: int,
    tensors: Mapping[str, Sequence[Any]],
    num_conditions: int,
    name: str,
) -> SampledData:
    """Makes data of the right shapes in place of a flow's whose networks are not trained yet."""
    train, test = (
        AwaitedPairs(size, networks, num_conditions, tensors, draws) for draws in (TRAINED, TESTED)
    )
    return SampledData(train=train, val=None, test=test, name=name)


def foreseen(node: Mapping[str, Any], later: Mapping[str, AwaitedRun | None]) -> dict[str, Any]:
    """Checks a flow's data against runs to come; returns the config of what stands for them.

    Raises UserError for networks that cannot be permuted or differ, for fewer networks than the
    components need, and for a point of another shape.
    """
    Drawing(node["source_std"], node["noise_std"])
    names = listed_runs(node["run"], node["num_conditions"])
    runs = [one for name in names if (one := later.get(name)) is not None]
    if len(runs) < len(names):
        raise UserError(
            "dataset.run names runs that are there and runs to come, or such in other coordinates: "
            "name either all that are there, or all of stages before"
        )
    shapes = [
        {n: [str(t.dtype).removeprefix("torch."), *t.shape] for n, t in one.tensors.items()}
        for one in runs
    ]
    for one, of_one in zip(runs, shapes, strict=True):
        one.check("dataset", round=node["round"], seed=None)
        if of_one != shapes[0]:
            raise UserError(f"{runs[0].called} and {one.called} have networks of other tensors")
    wanted = node["num"]
    networks = sum(min(wanted or len(one.seeds), len(one.seeds)) for one in runs)
    task = runs[0].task
    size = sum(v.numel() for v in task.module().parameters() if v.is_floating_point())
    if node["round"] and node["canonicalize"]:
        raise UserError(
            "dataset.canonicalize=true permutes units and with them masks, and tickets of one run "
            "are to share theirs: set dataset.canonicalize=false, or dataset.round=0"
        )
    if node["canonicalize"]:
        Symmetries.of(task)
    check_components(node["components"], networks, size)
    if node["components"] or not node["round"]:  # how many weights survive is not known yet
        check_shape(node["shape"], node["components"] or size)
    return {
        "_target_": "lth_runner.study.flow.awaited.awaited_flow",
        "networks": networks, "size": node["shape"][0], "tensors": shapes[0],
        "num_conditions": node["num_conditions"], "name": node["name"],
    }  # fmt: skip
