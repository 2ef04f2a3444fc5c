"""The file of one checkpoint: a training between two steps, in tensors and what counts them."""

from __future__ import annotations

import json
from pathlib import Path

from lth_runner.store.checkpoint import Checkpoint
from lth_runner.store.ended import under
from lth_runner.store.reading import readable, set_aside
from lth_runner.values import state as states
from lth_runner.values.errors import Damaged
from lth_runner.values.state import SealedFile


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint to one sealed file: tensors by kind, the rest as JSON."""
    kinds = {
        "weights.": checkpoint.weights,
        "optimizer.": checkpoint.optimizer,
        "masking.": checkpoint.masking,
        "scale.": checkpoint.scale,
    }
    tensors = {prefix + name: v for prefix, state in kinds.items() for name, v in state.items()}
    facts = {
        "step": checkpoint.step,
        "loss": checkpoint.loss,
        "num_losses": checkpoint.num_losses,
        "history": list(checkpoint.history),
        "seconds": checkpoint.seconds,
    }
    states.save(path, tensors, {"checkpoint": json.dumps(facts)})


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Reads a checkpoint, None where there is none; a damaged one is set aside, as if none."""
    return checkpoint_in(SealedFile(path), path)


def checkpoint_in(file: SealedFile, path: Path) -> Checkpoint | None:
    """Reads the checkpoint of a file that may have been read before, as ``load_checkpoint``."""
    try:
        with readable(path):
            tensors, metadata = file.read()
    except FileNotFoundError:
        return None
    except Damaged as damage:
        set_aside(path, damage)
        return None
    facts = json.loads(metadata["checkpoint"])
    return Checkpoint(
        weights=under(tensors, "weights."),
        optimizer=under(tensors, "optimizer."),
        masking=under(tensors, "masking."),
        scale=under(tensors, "scale."),
        **{**facts, "history": tuple(facts["history"])},
    )
