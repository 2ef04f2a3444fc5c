"""The one run that a path names, and where it keeps what a row of it trained."""

from __future__ import annotations

from pathlib import Path

from lth_runner.runs.folder import ROUNDS, STATUS, TICKETS, Row, read_flat_config
from lth_runner.values.errors import UserError
from lth_runner.values.home import from_home
from lth_runner.values.links import each_once
from lth_runner.values.store_places import end_file

STORE = "store"  # beside the folders of the runs' names
SHOWN = 3  # run folders that a message names


def one_run(path: str | Path, said: str = "") -> Path:
    """Finds the run folder that a path is, or the only one in the folder of a name.

    ``said``: what a message calls the path, ``origin.run=outputs/a``. Raises UserError for none
    and for several.
    """
    place, called = from_home(path), said or str(path)
    if (place / ROUNDS).is_file() or (place / STATUS).is_file():
        return _spelt_out(place)
    inside = _holding(place, ROUNDS) or _holding(place, STATUS)  # one that failed has no rows
    if len(inside) == 1:
        return _spelt_out(inside[0])
    if inside:
        shown = ", ".join(map(str, inside[:SHOWN]))
        raise UserError(f"{called} holds {len(inside)} runs: give one of them, for example {shown}")
    raise UserError(
        f"{called} is no run folder: give outputs/<name>/<run_id>, which the first line "
        "of a run names, or outputs/<name> where there is one run in it"
    )


def _spelt_out(folder: Path) -> Path:
    """Gives a path the names of a run and of the folder above, which ``.`` and ``..`` hide."""
    hidden = ".." in folder.parts or (len(folder.parts) < 2 and not folder.is_absolute())
    return folder.resolve() if hidden else folder


def _holding(place: Path, name: str) -> list[Path]:
    return each_once(sorted(found.parent for found in place.glob(f"*/{name}")))


def ticket_name(row: Row, base_seed: object) -> str:
    """Names the ticket file of a row; ``base_seed``: the first replicate's, the config's seed."""
    suffix = "" if row["seed"] == base_seed else f"-seed-{row['seed']}"
    return f"{TICKETS}/round-{row['round']:02d}{suffix}.safetensors"


def ticket_path(folder: Path, row: Row) -> Path:
    """Finds the ticket file of a row of the ticket arm: its mask and the weights it began with."""
    return folder / ticket_name(row, read_flat_config(folder).get("seed"))


def trained_path(folder: Path, row: Row) -> Path:
    """Finds where the Store keeps what a row trained, its mask and its weights at the end.

    Whether the Store still holds it is for the reader to see.
    """
    return end_file(folder.parent.parent / STORE, str(row["training_key"]))


def not_in_store(folder: Path, what: str) -> str:
    """Says that the Store beside a run has not ``what`` was trained, and what may be the reason."""
    store = folder.parent.parent / STORE
    if not store.is_dir():
        return (
            f"there is no Store beside {folder} to take {what} from ({store}): move the run folder "
            "back, or copy the Store to there as well"
        )
    return (
        f"the Store no longer holds {what} ({store}; store.keep and lth-status --prune let go of "
        f"some, and a run folder that is moved leaves its Store behind): {trained_anew(folder)}, "
        "or choose another round"
    )


def trained_anew(folder: Path) -> str:
    """Says what has a finished run train again what its Store no longer holds, or holds damaged.

    Given the command of a run that is done, ``lth-run`` shows it and asks nothing of the Store.
    """
    return (
        f"remove {folder / STATUS} and give the run's own command again, which then trains what is "
        "missing"
    )
