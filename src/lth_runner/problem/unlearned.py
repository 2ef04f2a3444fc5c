"""What an answer reaches that does not look at its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lth_runner.problem.answers import figures
from lth_runner.problem.data import Dataset, Sequences, Subset
from lth_runner.problem.data.streaming import Decoded
from lth_runner.problem.objective import CrossEntropy, Tagging
from lth_runner.problem.task import Task
from lth_runner.values.tree import Tree

PIECE = 4096  # samples that are measured at once


def majority(task: Task) -> dict[str, float]:
    """Measures on the test split the answer that is always the training set's most frequent class.

    Of words that are tagged their most frequent tag; of several such classes the first. A figure by
    its name, the loss left out; none where samples have not one class each, or where these are not
    at hand: those of a data set of one's own may be drawn anew whenever they are asked for.
    """
    num = task.data.num_classes
    if isinstance(task.objective, Tagging) and num:
        return _without_loss(_of_tags(task, task.objective, num))
    trained, tested = (_classes(task.data, split) for split in ("train", "test"))
    if not isinstance(task.objective, CrossEntropy) or not num or trained is None or tested is None:
        return {}
    answer = torch.zeros(1, num)
    answer[0, trained[trained >= 0].bincount(minlength=num).argmax()] = 1.0
    totals = [
        task.objective.totals(answer.expand(len(piece), num), piece).double()
        for piece in tested.split(PIECE)
    ]
    return _without_loss(task.objective.values(torch.stack(totals).sum(0)))


def _without_loss(found: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in found.items() if name != "loss" and value == value}


def _of_tags(task: Task, objective: Tagging, num: int) -> dict[str, float]:
    """Measures one tag for all words; nothing where the targets are no tags."""
    counts = torch.zeros(num, dtype=torch.int64)
    for _, targets in task.data.batches("train", PIECE):
        if isinstance(targets, Tensor) or "tag" not in targets:
            return {}
        tags = targets["tag"].cpu()
        counts += tags[tags >= 0].bincount(minlength=num)
    answer = torch.zeros(num)
    answer[counts.argmax()] = 1.0
    tested = task.data.batches("test", PIECE)
    return figures(((_always(answer, targets), targets) for _, targets in tested), objective)


def _always(answer: Tensor, targets: Tree) -> Tensor:
    assert not isinstance(targets, Tensor)
    tags = targets["tag"]
    return answer.to(tags.device).expand(*tags.shape, len(answer))


def _classes(data: Dataset, split: str) -> Tensor | None:
    """The classes of a split's samples, where each has one."""
    found = _targets(getattr(data, split, None))
    return found.cpu() if isinstance(found, Tensor) and found.ndim == 1 and len(found) else None


def _targets(samples: Any) -> Any:
    if isinstance(samples, tuple):
        return samples[1]
    if isinstance(samples, Subset):
        whole = _targets(samples.samples)
        return whole[samples.index] if isinstance(whole, Tensor) else None
    return samples.targets if isinstance(samples, Sequences | Decoded) else None
