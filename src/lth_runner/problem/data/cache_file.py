"""What was read once, as tensors of a file in the cache."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from lth_runner.values.errors import UserError
from lth_runner.values.files import as_umask_says
from lth_runner.values.home import from_home


def cache_folder(given: str | None) -> Path:
    """Returns the folder that is given, or by default $XDG_CACHE_HOME/lth-runner or ~/.cache's.

    Raises UserError for an empty text, which is no folder.
    """
    if given is None:
        return from_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "lth-runner"
    if not given:
        raise UserError(f"dataset.cache={given!r} must be the path of a folder, or null")
    return from_home(given)


def write_cache_file(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], what: str
) -> None:
    """Writes a safetensors file, whole or not at all; ``what`` it holds is told in messages.

    Raises UserError where its folder takes none.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="made-", dir=path.parent) as folder:
            written = Path(folder) / path.name
            save_file(dict(tensors), written, metadata=dict(metadata))
            as_umask_says(written)  # others may read the cache, where it lies in a folder of all
            written.replace(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"cannot write the {what} to {path.parent} ({error}): pass dataset.cache=<a folder "
            "with room>"
        ) from error
