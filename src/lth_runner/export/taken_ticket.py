"""One ticket taken out of a finished run: the stock network, its weights, its mask, its figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lth_runner.problem.coordinates import prunes_to_zero
from lth_runner.problem.task import Task
from lth_runner.runs.ended_weights import ended_as_trained, of_stock
from lth_runner.runs.folder import read_flat_config
from lth_runner.runs.measure import headline
from lth_runner.runs.one_run import one_run, ticket_path
from lth_runner.runs.rebuilt import rebuilt
from lth_runner.runs.ticket_choice import choose
from lth_runner.store.ticket_file import read_ticket
from lth_runner.values import state as states
from lth_runner.values import tree
from lth_runner.values.errors import UserError
from lth_runner.values.export_forms import MADE_BY
from lth_runner.values.mask import Mask
from lth_runner.values.measure import ACCURACY
from lth_runner.values.memory import LARGE, page_out
from lth_runner.values.state import State
from lth_runner.values.tree import Batch, Tree

SPLITS = ("test", "val", "train")  # the first that has samples is what answers are compared on
TRAINED, START = "trained", "start"


@dataclass(frozen=True, eq=False)
class Taken:
    """A ticket on its way out, in the stock network's names whatever it was trained in.

    ``facts`` are what every file says of it: the run, the round, the replicate, the sparsity and
    whether its weights are ``trained`` or those that training started from. ``expected`` is a test
    figure of the run's own, by the name of the measure; nothing where there is none to expect.
    Raises UserError for a mask that fits no tensor.
    """

    task: Task
    mask: Mask
    weights: State
    facts: Mapping[str, Any]
    expected: Mapping[str, float]
    own: State | None = None  # in the task's own coordinates, of trained weights that have others

    def __post_init__(self) -> None:
        for name, kept in self.mask.items():
            if name not in self.weights:
                raise UserError(f"the mask of {name} fits no tensor of the network")
            if kept.shape != (shape := self.weights[name].shape):
                raise UserError(
                    f"the mask of {name} has the shape {tuple(kept.shape)}, and the network's "
                    f"tensor {tuple(shape)}"
                )

    def module(self) -> nn.Module:
        """Builds the stock network with a copy of the ticket's weights, in evaluation mode."""
        module = self.stock()
        for name, value in states.named_tensors(module):
            value.data = self._fitting(name, value).clone()
        return module

    @cached_property
    def lent(self) -> nn.Module:
        """The stock network over the ticket's own memory, built once: to be run, never written to.

        ``module()`` is a copy that is the caller's own.
        """
        module = self.stock()
        for name, value in states.named_tensors(module):
            value.data = self._fitting(name, value)
        return module

    def stock(self) -> nn.Module:
        """Builds the stock network with tensors that take no memory and hold nothing.

        Whoever asks for it assigns each of them (``tensor.data = ...``), as a file is read back.
        """
        return self._stock_task.hollow().eval()

    def fresh(self) -> nn.Module:
        """Builds the stock network with weights as they are drawn, in evaluation mode.

        Stock is the network as its class builds it, without coordinates on its weights.
        """
        return self._stock_task.module().eval()

    @cached_property
    def _stock_task(self) -> Task:
        task = self.task
        return task if task.coordinates is None else replace(task, coordinates=None)

    def _fitting(self, name: str, value: Tensor) -> Tensor:
        if name not in self.weights:
            raise UserError(f"the ticket has no tensor {name}, which the network needs")
        found = self.weights[name]
        if value.shape != found.shape:
            raise UserError(
                f"the ticket's {name} has the shape {tuple(found.shape)}, and the network's "
                f"{tuple(value.shape)}: it is a ticket of another network"
            )
        return found.to(value.dtype)

    def put_away(self) -> None:
        """Lets the weights of a large network lie in the Store's file alone, until they are read.

        Those of other coordinates were computed, and lie in no file.
        """
        if self.task.coordinates is None and self.task.num_parameters >= LARGE:
            page_out(self.weights.values())

    @property
    def split(self) -> str:
        """The split that answers are compared on: the test split where it has samples."""
        for split in SPLITS:
            if next(iter(self.task.data.batches(split, 1)), None) is not None:
                return split
        raise UserError("the data have no sample to compare answers on")

    def batches(self, size: int, most: int | None = None) -> Iterator[Batch]:
        """Goes through that split, through ``most`` samples of it where that is given.

        In batches of ``size`` samples, or of fewer where a network makes much of each token.
        """
        left = most
        for inputs, targets in self.task.evaluated(self.split, size):
            if left is not None and left < tree.length(targets):
                if left:
                    yield first(inputs, left), first(targets, left)
                return
            left = None if left is None else left - tree.length(targets)
            yield inputs, targets

    def inputs(self, num: int) -> Tree:
        """Takes the first inputs of that split, from the start again where it has fewer."""
        found = [inputs for inputs, _ in islice(self.task.data.batches(self.split, num), 1)]
        while sum(map(tree.length, found)) < num:
            found.append(found[0])
        return first(tree.cat(found), num)

    @cached_property
    def lengths_differ(self) -> bool:
        """Whether samples of that split, given by name, are not all of one length (axis 1)."""
        known: set[tuple[int, ...]] = set()
        for inputs, _ in self.task.data.batches(self.split, 1):
            if isinstance(inputs, Tensor):
                return False
            known.add(tuple(value.shape[1] for value in tree.tensors(inputs) if value.ndim > 1))
            if len(known) > 1:
                return True
        return False

    def check_zeros(self, form: str) -> None:
        """Raises UserError where a weight that the mask removes is not zero, for what drops it."""
        for name in self.not_zero():
            plain = prunes_to_zero(self.task.coordinates)
            why = "" if plain else " (coordinates: what is pruned has the origin's weight)"
            raise UserError(
                f"{form} leaves out what the mask removes, and in {name} that is not zero"
                f"{why}: take checkpoint or onnx"
            )

    def not_zero(self) -> Iterator[str]:
        """Names the tensors in which a weight that the mask removes is not zero."""
        for name, kept in self.mask.items():
            if bool(self.weights[name].masked_fill(kept, 0).any()):
                yield name


def first(values: Tree, num: int) -> Tree:
    """Takes the first samples."""
    return tree.each(lambda value: value[:num], values)


def ticket(
    run: str | Path,
    *,
    round: int | None = None,
    sparsity: float | None = None,
    density: float | None = None,
    best_matching: bool = False,
    seed: int | None = None,
    arm: str = "ticket",
    start: bool = False,
    keep_zeros: bool = False,
) -> Taken:
    """Takes one ticket of a finished run, a run folder or ``outputs/<name>`` with one run in it.

    Which one is for ``lth_runner.runs.ticket_choice.choose``: by ``round``, by ``sparsity`` or
    ``density``, the sparsest that is shown to match, else the last round, of the first replicate
    or of ``seed``.
    Its weights are those at the end of training, with ``start`` those that it started from.
    ``keep_zeros``, of other coordinates than weights: where the weights that a change was added to
    are 0 the merged ones are 0 too, a sparse base stays sparse, and no figure is expected. Of
    Gaussian weights it has the means, of which none is expected either. The problem is built again
    from the folder's ``config.yaml``: call it from where `lth-run` was called. Raises UserError for
    what is not there, is not done or has changed since.
    """
    folder = one_run(run)
    row = choose(
        folder,
        round=round,
        sparsity=sparsity,
        density=density,
        best_matching=best_matching,
        arm=arm,
        seed=seed,
    )
    task = rebuilt(folder)
    task = task if task.seed == row["seed"] else task.with_seed(row["seed"])
    own = None
    if start:
        mask, weights = _start(folder, row)
    else:
        mask, trained = ended_as_trained(folder, row, task)
        own = trained if task.coordinates is not None else None
        mask, weights = of_stock(task, mask, trained)
    facts = {
        "weights": START if start else TRAINED,
        "run": folder.name,
        "name": folder.parent.name,
        **{key: row[key] for key in ("round", "arm", "seed", "sparsity", "training_key")},
        "model": read_flat_config(folder).get("model._target_"),
    }
    expected = {} if start and row["steps"] else _expected(folder, row)
    if task.laws is not None:  # the run's figure is of several draws
        facts, expected = {**facts, "means": True}, {}
    if keep_zeros:
        weights, own, expected = _as_sparse(task, mask, weights, start=start), None, {}
        facts |= {"kept_zeros": True}
    return Taken(task, mask, weights, facts, expected, own)


def _as_sparse(task: Task, mask: Mask, weights: State, *, start: bool) -> State:
    """Takes out of merged weights what a change has put where its base is 0."""
    if start or prunes_to_zero(task.coordinates):
        raise UserError(
            "--keep-zeros keeps the zeros of the weights that a change was added to: it is for the "
            "trained weights of runs in coordinates=delta or coordinates=low_rank"
        )
    base = task.merged(task.init())
    return weights | {n: weights[n].masked_fill(base[n] == 0, 0.0) for n in mask}


def _expected(folder: Path, row: Mapping[str, Any]) -> dict[str, float]:
    """Finds the figure that the network must reach again: the accuracy, or else the headline.

    What one sample adds to an accuracy is known, unlike to Matthews' correlation or to F1.
    """
    measure = headline(folder)
    if measure.better == "higher" and f"test_{ACCURACY.name}" in row:
        measure = ACCURACY
    known = row.get(f"test_{measure.name}")
    return {f"test_{measure.name}": float(known)} if isinstance(known, (int, float)) else {}


def _start(folder: Path, row: Mapping[str, Any]) -> tuple[Mask, State]:
    if row["arm"] != "ticket":
        raise UserError(
            f"the starting weights of arm {row['arm']} are not kept, those of tickets alone are: "
            "leave --start away"
        )
    found = read_ticket(ticket_path(folder, row))
    return found.mask, dict(found.weights)


def of_file(facts: Mapping[str, Any], form: str) -> dict[str, Any]:
    """Adds to what is known of a ticket which form a file of it has, and what wrote it."""
    return {**facts, "form": form, "made_by": MADE_BY}


def said(facts: Mapping[str, Any], form: str) -> dict[str, str]:
    """Writes a file's metadata: text by name, as safetensors and ONNX have it."""
    told = of_file(facts, form)
    return {name: v if isinstance(v, str) else json.dumps(v) for name, v in told.items()}
