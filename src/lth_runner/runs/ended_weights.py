"""What a training of a run ended with, as tensors of the stock network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lth_runner.problem.task import Task
from lth_runner.runs.one_run import not_in_store, trained_anew, trained_path
from lth_runner.store.ended import read_end
from lth_runner.values import state as states
from lth_runner.values.errors import Damaged, UserError
from lth_runner.values.mask import Mask
from lth_runner.values.state import State


def ended(folder: Path, row: Mapping[str, Any], task: Task) -> tuple[Mask, State]:
    """Reads the mask and the weights of a row's training, of the stock network.

    ``task`` is that of its replicate. Raises UserError as ``ended_as_trained``.
    """
    return of_stock(task, *ended_as_trained(folder, row, task))


def of_stock(task: Task, mask: Mask, weights: State) -> tuple[Mask, State]:
    """Gives a mask and weights in a task's own coordinates as the stock network has them.

    What is computed for it lies as what is read from a file: a copy in one answers to the bit.
    """
    if task.coordinates is None:
        return mask, weights
    merged = {name: states.row_major(value) for name, value in task.merged(weights).items()}
    return task.stock_names(mask), merged


def ended_as_trained(folder: Path, row: Mapping[str, Any], task: Task) -> tuple[Mask, State]:
    """Reads the mask and the weights of a row's training in the task's own coordinates.

    Raises UserError where the Store no longer holds them, and where the network is another one.
    """
    path = trained_path(folder, row)
    again = trained_anew(folder)
    try:
        mask, weights = read_end(path)
    except FileNotFoundError as error:
        what = f"the weights of round {row['round']}, seed {row['seed']}"
        start = "of a ticket, lth-export --start takes the starting weights"
        raise UserError(f"{not_in_store(folder, what)} ({start})") from error
    except (Damaged, OSError) as error:
        raise UserError(f"the Store's weights cannot be read: {error}; {again}") from error
    if weights.keys() != (own := set(task.names)):
        differ = ", ".join(sorted(weights.keys() ^ own)[:4])
        raise UserError(
            f"{folder}: the network that its config.yaml builds here has other tensors than the "
            f"one that was trained: {differ}"
        )
    return mask, weights


def ended_weights(folder: Path, row: Mapping[str, Any], task: Task) -> State:
    """Reads the weights alone, of whichever replicate the row is."""
    own = task if task.seed == row["seed"] else task.with_seed(row["seed"])
    return ended(folder, row, own)[1]
