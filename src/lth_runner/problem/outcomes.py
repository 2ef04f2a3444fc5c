"""What a network makes of a split, as a whole and of every sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lth_runner.problem.answers import Tally, answered
from lth_runner.problem.objective import BySample, Objective
from lth_runner.problem.task import Task
from lth_runner.values.state import State
from lth_runner.values.tree import Tree


@dataclass(frozen=True)
class Outcomes:
    """A split's totals, and what each sample adds to the headline measure.

    ``by_sample``, in the split's order, has the headline for its mean: float32, or bool where each
    is 0 or 1, as an image is right or not. None where the objective's headline is no mean over
    samples, and for an empty split, whose totals are empty.
    """

    totals: Tensor
    by_sample: Tensor | None

    def figures(self, objective: Objective) -> dict[str, float]:
        """Makes each measure, by its name; none of an empty split."""
        return objective.values(self.totals) if self.totals.numel() else {}

    def packed(self) -> State:
        """Packs them as tensors for a file, eight bits to a byte."""
        found = {"totals": self.totals}
        if self.by_sample is None:
            return found
        if self.by_sample.dtype != torch.bool:
            return found | {"values": self.by_sample}
        bits = torch.from_numpy(np.packbits(self.by_sample.numpy()))
        return found | {"bits": bits, "num_samples": torch.tensor(len(self.by_sample))}

    @classmethod
    def unpacked(cls, state: Mapping[str, Tensor]) -> Outcomes:
        """Unpacks what ``packed`` packs."""
        if "bits" not in state:
            return cls(state["totals"], state.get("values"))
        num = int(state["num_samples"])
        bits = np.unpackbits(state["bits"].numpy(), count=num).astype(bool)
        return cls(state["totals"], torch.from_numpy(bits))


@torch.no_grad()
def measure(task: Task, weights: State, split: str, size: int | None = None) -> Outcomes:
    """Measures the objective on a split in one pass, with one transfer from the device a batch."""
    placed = task.placed(weights)
    tally = Tally(task.objective, by_sample=True)
    batches = task.evaluated(split, size)
    for outputs, targets in answered(lambda inputs: task.outputs(placed, inputs), batches):
        tally.add(outputs, targets)
    totals, parts = tally.totals, tally.parts
    if totals is None:
        return Outcomes(torch.empty(0, dtype=torch.float64), None)
    if not isinstance(task.objective, BySample) or parts is None:
        return Outcomes(totals, None)
    return Outcomes(totals, _compact(task.objective.sample_values(parts, totals)))


def _compact(values: Tensor) -> Tensor | None:
    """Keeps bits of what is 0 or 1, else float32; nothing of what has no finite values."""
    if bool(((values == 0) | (values == 1)).all()):
        return values.bool()
    return values.float() if bool(values.isfinite().all()) else None


def sampled_unit(task: Task) -> str:
    """Names in the plural what is drawn when test samples are: images, sentences, questions.

    Tokens of a text and pixels of an image depend on each other: the unit is what is one sample.
    """
    inputs, targets = task.data.sample(1, 0)
    if isinstance(targets, Mapping) and "question" in targets:
        return "questions"  # several windows are of one
    if isinstance(targets, Mapping) and "tag" in targets:
        return "sentences"
    tensors = _tensors(inputs)
    if any(not one.is_floating_point() and one.ndim == 2 for one in tensors):
        numbers = [one for one in _tensors(targets) if not one.is_floating_point()]
        return "sequences" if any(one.ndim == 2 for one in numbers) else "sentences"
    return "images" if any(one.ndim == 4 for one in tensors) else "samples"


def _tensors(found: Tree) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else list(found.values())
