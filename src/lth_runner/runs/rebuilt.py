"""The problem of a finished run, built again from its folder and held against what it recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lth_runner.parts.task import building, make_task
from lth_runner.problem.task import Task
from lth_runner.runs.folder import CONFIG, checked_mapping, read_problem
from lth_runner.values.errors import UserError
from lth_runner.values.identity import SOURCE, VERSION
from lth_runner.values.listed import listed
from lth_runner.values.raised import first_line

NEEDED = ("dataset", "model", "seed", "objective", "max_samples", "pruner", "covers")


def rebuilt(folder: Path) -> Task:
    """Builds the problem of a run's first replicate on the CPU, from its ``config.yaml``.

    What the config names is imported and called, as the run's own command does. Raises UserError
    where it cannot be built, and where the network, its code or the data are not those of the run,
    with what differs. A run of a version that recorded no identity is held to its figures alone.
    """
    config = folder / CONFIG
    if not config.exists():
        raise UserError(
            f"{config} is missing, of which the run's network and data are built: give the run's "
            "own command again, which writes the file and trains nothing anew"
        )
    values = checked_mapping(config)
    if absent := [key for key in NEEDED if key not in values]:
        raise UserError(
            f"{config} lacks {', '.join(absent)}: it is of parts made by hand (their "
            "tickets: load_ticket), of an earlier version, or was edited; run the experiment again"
        )
    maybe = {"origin": None, "coordinates": None}
    try:
        task = make_task({**maybe, **values, "device": "cpu"})
    except UserError as error:
        raise UserError(
            f"{folder}: what its config.yaml names cannot be built here: {error} (paths in it are "
            "of the folder where lth-run was called: call from there)"
        ) from error
    except Exception as error:  # of what the config names, which may be anyone's
        raise UserError(
            f"{folder}: what its config.yaml names cannot be built here: "
            f"{first_line(error.__cause__ or error)}: call from the folder where lth-run was "
            "called, with the same packages"
        ) from error
    with building():
        found = task.identity
    recorded = read_problem(folder).get("identity")
    if isinstance(recorded, Mapping):
        _refuse_other(folder, recorded, found)
    return task


def _refuse_other(folder: Path, recorded: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    changed = list(differences(recorded, found))
    if not changed:
        return
    raise UserError(
        f"{folder}: what its config.yaml builds here is not what the run had; changed since: "
        f"{listed([*map(_said, changed)])}. Put it back as it was, or train again: "
        "the run's own command makes a run of it as it is now"
    )


def differences(recorded: Any, found: Any, path: str = "") -> Iterator[str]:
    """Names what differs between two descriptions, by dotted paths."""
    if isinstance(recorded, Mapping) and isinstance(found, Mapping):
        for name in sorted(recorded.keys() | found.keys()):
            below = f"{path}/{name}" if path else str(name)
            if name not in recorded or name not in found:
                yield below
            else:
                yield from differences(recorded[name], found[name], below)
    elif recorded != found:
        yield path


def _said(path: str) -> str:
    """Calls a difference by what a user knows it as."""
    part, _, rest = path.partition("/")
    if part == "code":
        if rest.endswith(VERSION):
            return f"the version of the library of {rest.removesuffix(f'/{VERSION}')}"
        name = rest.removesuffix(f"/{SOURCE}")
        return f"the code of {name}" if name else "the code of the network's modules"
    if rest.endswith(SOURCE):
        return f"the code that builds the {part}"
    if part == "held":
        return "what the network holds besides its weights"
    if part == "constants":
        return "the weights that the deltas are added to"
    return f"the {part}" + (f" ({rest.replace('/', '.')})" if rest.strip("/") else "")
