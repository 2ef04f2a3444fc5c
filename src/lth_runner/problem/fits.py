"""The check, before any training, that a network, its data and its objective fit together."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lth_runner.problem.answers import answer
from lth_runner.problem.coordinates import Covering, Delta
from lth_runner.problem.covers import Covers
from lth_runner.problem.data import Data, MapStyle, Passages, Sequences, Subset, Tags
from lth_runner.problem.data.streaming import Decoded
from lth_runner.problem.places import moved, overlapping
from lth_runner.problem.task import Task
from lth_runner.values import state as states
from lth_runner.values import tree
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.global_streams import all_seeded, drawn_between, positions
from lth_runner.values.raised import first_line, innermost, reason_of
from lth_runner.values.seeds import stream
from lth_runner.values.tree import Tree

SPLITS = ("train", "val", "test")
PIECE = 4096  # targets that an objective is shown at once
SOME = 64  # samples of a kind of their own, which are not looked at one by one


def check_fits(task: Task) -> None:
    """Raises UserError where network, data and objective do not fit, naming what to change."""
    inputs, targets = task.data.sample(min(2, task.data.num_train), 0)
    if task.origin is not None:
        task.init()  # which refuses one that does not fit
    _check_tensors(task)
    _check_classes(task)
    _check_names(task, inputs)
    outputs = _answered(task, inputs)
    task.objective.check(outputs, targets, task.data.num_classes)
    _check_all_targets(task, outputs)
    for largest in _largest(task):
        _answered(task, largest, "cpu")  # on CUDA a number beyond an embedding ends the process
    _check_coordinates(task)
    if not task.prunable:
        raise UserError(
            "the model has no weights that a mask covers, linear and convolution layers by "
            "default: nothing can be pruned; covers.types and covers.also add others"
        )
    if task.biases and not task.dense().biases:
        raise UserError(
            "pruner.biases=true, but no convolution or linear layer of the model has a bias: leave "
            "it out"
        )


def _check_tensors(task: Task) -> None:
    """Refuses tensors that no file holds, and two that lie in one memory.

    Each of the two would be masked and stepped by itself.
    """
    if task.is_shipped:
        return
    module = task.module()
    for name, value in states.named_tensors(module):
        if not states.is_storable(value):
            kind = str(value.dtype if value.layout is torch.strided else value.layout)
            raise UserError(
                f"the model's {name} is a tensor of {kind}, which the files of trainings cannot "
                "hold: keep it as dense floats or whole numbers, or in no state_dict "
                "(register_buffer(name, tensor, persistent=False)) where training does not change "
                "it"
            )
    if (found := overlapping(module)) is not None:
        one, other = found
        raise UserError(
            f"the model's {one} and {other} are two tensors over the same memory: each would be "
            "pruned and trained by itself. To tie them share the parameter, as in "
            "self.second.weight = self.first.weight, or give each a memory of its own (.clone())"
        )


def _check_classes(task: Task) -> None:
    """Refuses a pretrained head that numbers the data's classes otherwise than the data do."""
    own = getattr(task.data, "class_names", ())  # a user's own data may have none
    theirs = task.remainders.classes
    plain, others = ([name.casefold() for name in names] for names in (own, theirs))
    if plain != others and sorted(plain) == sorted(others):
        raise UserError(
            f"the pretrained head's classes are {', '.join(theirs)} in this order, and those of "
            f"{task.data.name} {', '.join(own)}: its answers would be taken for others. Have it "
            f"drawn anew ({task.remainders.fresh_head}), or number the data's classes as it does"
        )


def _check_all_targets(task: Task, outputs: Any) -> None:
    """Has the objective look at the targets of all splits, beside answers of the shape of one."""
    if not isinstance(outputs, Tensor) or not outputs.dim():
        return  # an objective of a user's own: what fits its answers is not known
    for split in SPLITS:
        for targets in _targets(getattr(task.data, split)):
            answers = outputs[:1].expand(tree.length(targets), *outputs.shape[1:])
            placed = tree.each(lambda value: value.to(outputs.device), targets)
            try:
                task.objective.check(answers, placed, task.data.num_classes)
            except UserError as error:
                raise UserError(f"{task.data.name}: {split}: {error}") from error


def _targets(samples: Any) -> list[Tree]:
    """The targets of a split, in pieces; of samples of a user's own those of some."""
    if samples is None:
        return []
    if isinstance(samples, tuple):
        return tree.split(samples[1], PIECE)
    samples = _whole(samples)
    if isinstance(samples, Tags):
        return []  # looked at when they were read; each batch has its own length
    if isinstance(samples, Sequences | Decoded):
        return tree.split(samples.targets, PIECE)
    if isinstance(samples, MapStyle):
        return tree.split(tree.cat(samples.targets), PIECE)
    index = torch.arange(min(SOME, len(samples)))
    return [samples.take(index, stream(0, "check"))[1]]


def _whole(samples: Any) -> Any:
    """Returns what a subset is of."""
    while isinstance(samples, Subset):
        samples = samples.samples
    return samples


def _check_coordinates(task: Task) -> None:
    """Refuses a choice of what a mask covers where the coordinates say it."""
    if task.coordinates is None:
        return
    said = f"coordinates={type(task.coordinates).__name__} says itself what a mask covers"
    told = isinstance(task.coordinates, Covering) and task.coordinates.covers == task.covers
    if task.covers != Covers() and not told:
        raise UserError(f"{said}: leave covers at its default")
    if task.biases:
        named = ", and name biases in coordinates.only" * isinstance(task.coordinates, Delta)
        raise UserError(f"{said}: leave pruner.biases out{named}")


def _check_names(task: Task, inputs: Tree) -> None:
    """Refuses a batch by name without the names that the network takes."""
    if not isinstance(inputs, Mapping):
        return
    parameters = inspect.signature(task.module().forward).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in inputs:
        if name not in parameters:
            raise UserError(
                f"the data give the model {', '.join(sorted(inputs))}, but its forward takes no "
                f"{name!r}: {_without(name) or nearest(name, parameters)}"
            )
    empty = inspect.Parameter.empty
    needed = [
        n for n, p in parameters.items() if p.default is empty and p.kind is not p.VAR_POSITIONAL
    ]
    if lacking := [name for name in needed if name not in inputs]:
        raise UserError(
            f"the model's forward needs {', '.join(lacking)}, but the data give "
            f"{', '.join(sorted(inputs))}: name the inputs as the model does"
        )


def _without(name: str) -> str:
    """Says how the data leave out what a network does not take; empty where they cannot."""
    if name != "token_type_ids":
        return ""
    return "dataset.token_types=false leaves out which of two texts a token is of"


def _largest(task: Task) -> list[Tree]:
    """Picks the samples of a table with the largest token number of each split and input.

    Of texts of different lengths the longest ones too.
    """
    if not isinstance(task.data, Data):
        splits = map(_whole, (getattr(task.data, split) for split in SPLITS))
        chosen = [(s, s.extremes()) for s in splits if isinstance(s, Sequences | Passages | Tags)]
        return [samples.take(index, stream(0, "check"))[0] for samples, index in chosen]
    found = []
    for inputs, _ in (task.data.train, task.data.val, task.data.test):
        numbers = [v for v in tree.tensors(inputs) if v.dtype == torch.int64 and v.numel()]
        places = [int(value.reshape(len(value), -1).amax(1).argmax()) for value in numbers]
        if places:
            rows = tree.rows(inputs, torch.tensor(places))
            found.append(tree.each(lambda value: value.cpu(), rows))
    return found


@torch.no_grad()
def _answered(task: Task, inputs: Tree, device: torch.device | str | None = None) -> Any:
    """Runs the network in evaluation; refuses inputs it cannot take, and random draws."""
    device = device or task.device
    module = moved(task.module(), device).eval()
    try:
        with all_seeded(0, device):
            before = positions(device)
            outputs = answer(module, inputs)
            drawn = drawn_between(before, positions(device))
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = reason_of(error)
        raise UserError(
            f"the model cannot take inputs {_shown(inputs)}: {reason}{_beyond(module, inputs)}"
        ) from error
    except Exception as error:  # whatever a library's network raises; one's own says where it did
        where = innermost(error)
        if isinstance(error, UserError) or where is None or where.name != answer.__name__:
            raise
        raise UserError(
            f"the model cannot take inputs {_shown(inputs)}: {first_line(error)}"
        ) from error
    if drawn:
        raise UserError(
            f"the model draws random numbers (from {', '.join(sorted(drawn))}) in evaluation, so "
            "that the same weights answer differently: draw in training alone, as "
            "F.dropout(x, p, self.training) does"
        )
    return outputs


def _shown(inputs: Tree) -> str:
    if isinstance(inputs, Tensor):
        return f"of shape {tuple(inputs.shape[1:])}"
    return f"({tree.describe(inputs)})"


def _beyond(module: torch.nn.Module, inputs: Tree) -> str:
    """Says where token numbers lie beyond an embedding: torch's own error does not."""
    rows = [m.num_embeddings for m in module.modules() if isinstance(m, torch.nn.Embedding)]
    numbers = [t for t in tree.tensors(inputs) if t.dtype == torch.int64 and t.numel()]
    if not rows or not numbers:
        return ""
    largest = max(int(value.max()) for value in numbers)
    return f" (the largest token number is {largest}, the largest embedding has {max(rows)} rows)"
