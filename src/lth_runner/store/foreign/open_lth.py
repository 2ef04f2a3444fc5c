"""A level of OpenLTH: ``mask.pth`` beside the models that its training began and ended with.

As facebookresearch/open_lth writes them (foundations/paths.py, pruning/mask.py, models/base.py):
``<run>/replicate_R/level_L/main/mask.pth`` maps the names of its own modules to 0 and 1 (int32),
whole also for what was not pruned; ``model_ep<E>_it<I>.pth`` are plain state dictionaries, saved
from within any parallel wrapper, at the first step and at the last.
"""

from __future__ import annotations

import re
from pathlib import Path

from lth_runner.search.given_ticket import Kept
from lth_runner.store.foreign.opened import Opened

MASK = "mask.pth"
_MODEL = re.compile(r"model_ep(\d+)_it(\d+)\.pth")


def models(folder: Path) -> list[Path]:
    """Lists the models of a level by the steps at which they were saved."""
    found = {path: match for path in folder.iterdir() if (match := _MODEL.fullmatch(path.name))}
    return sorted(found, key=lambda path: tuple(map(int, found[path].groups())))


def weights(folder: Path) -> tuple[Kept, Kept]:
    """Finds what a level's training began with and ended with."""
    saved = models(folder)
    missing = Kept.missing(
        f"{folder} holds {len(saved)} files model_ep*_it*.pth, of which the first is where its "
        "training began and the last where it ended: take pruner.weights=own, or copy them there"
    )
    start = _kept(saved[0]) if saved else missing
    return start, _kept(saved[-1]) if len(saved) > 1 else missing


def _kept(path: Path) -> Kept:
    return Kept((path,), lambda: Opened([path], str(path)))
