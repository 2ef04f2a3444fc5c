"""Where the Store keeps a finished training."""

from __future__ import annotations

from pathlib import Path

ENTRIES, END, FACTS = "entries", "end.safetensors", "training.json"


def entry_folder(root: Path, key: str) -> Path:
    """Finds the folder of a training, there or not."""
    return root / ENTRIES / key


def end_file(root: Path, key: str) -> Path:
    """Finds the file of the mask and the weights that a training ended with, there or not."""
    return entry_folder(root, key) / END
