"""The files of a run folder, which every program reads and writes through this module.

``read_...`` takes a folder as it is: what is missing or torn is no error. ``checked_...`` raises
UserError for a file that somebody has edited or a failing disk has damaged. Rows are appended;
every other file is replaced whole or not at all.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from lth_runner.values import identity, json_files, yaml_files
from lth_runner.values.errors import UserError
from lth_runner.values.files import append, open_regular, read_regular, write_whole
from lth_runner.values.json_files import (
    MOST_ROWS,
    decoded,
    objects_from_end,
    read_bytes,
    read_object,
    whole_objects,
)

Row = Mapping[str, Any]

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
PROBLEM = "problem.json"
ENGINE = "engine.json"
STATUS = "status.json"
SEAL = "seal"  # in it
ROUNDS = "rounds.jsonl"
METRICS = "metrics.jsonl"
SAMPLES = "samples.jsonl"
MERGES = "merges.jsonl"
TICKETS = "tickets"
CURVE = "curve.png"
PAGE = "report.html"

MOST_FACTS = 2**24  # bytes of a file of facts: a status names every ticket's
MOST_CONFIG = 2**20  # bytes; YAML takes seconds for more
DONE, DIVERGED = "done", "diverged"
REFUSAL = "UserError:"  # begins the error of a mistake that the user can mend
ENDED = (DONE, DIVERGED)  # states of a run that the same command finds finished

_BLOCK = re.compile(r"^(?=[^\s#-])", re.MULTILINE)  # where a top-level key begins
_KEY = re.compile(rb'"training_key":\s*"([^"]*)"')


# --- reading a folder as it is


def read_status(folder: Path) -> dict[str, Any]:
    """Returns what ``status.json`` says, nothing where it is missing, torn or not what was written.

    One of a version that sealed none is taken as it is.
    """
    found = read_object(folder / STATUS, MOST_FACTS) or {}
    seal = found.pop(SEAL, None)
    if seal is None:
        return {} if "files" in found else found
    return found if seal == identity.digest(found) else {}


def unfinished(folder: Path) -> str | None:
    """Says why a run is not done, and what to do; None where it has ended."""
    status = read_status(folder)
    state, command = status.get("state"), status.get("command")
    if state in ENDED:
        return None
    if state == "failed":
        cure = f". Mend that; its command then goes on with it: {command}" if command else ""
        return f"{folder} has failed: {failure(status).rstrip('.')}{cure}"
    cure = f"the same command goes on with it: {command}" if command else ""
    if state == "running":
        cure = f"wait for its end{cure and f', or, where its process is gone, {cure}'}"
    cure = f": {cure}" if cure else ""
    return f"{folder} is not done, its status is {state or 'unknown'}{cure}"


def failure(status: Mapping[str, Any]) -> str:
    """Returns the first line of what ended a failed run."""
    lines = str(status.get("error") or "").removeprefix(REFUSAL).strip().splitlines()
    return lines[0] if lines else "it does not say why"


def read_environment(folder: Path) -> dict[str, Any]:
    """Returns what ``environment.json`` says, nothing where it is missing or torn."""
    return read_object(folder / ENVIRONMENT, MOST_FACTS) or {}


def read_problem(folder: Path) -> dict[str, Any]:
    """Returns what ``problem.json`` says, nothing where it is torn or the run is an older one."""
    return read_object(folder / PROBLEM, MOST_FACTS) or {}


def read_engine(folder: Path) -> dict[str, Any]:
    """Returns which engine a run was begun with and why, nothing where none was chosen yet."""
    return read_object(folder / ENGINE, MOST_FACTS) or {}


def read_rounds(folder: Path) -> list[dict[str, Any]]:
    """Returns the rows of finished trainings, up to the first that is torn or no such row."""
    return list(takewhile(_is_of_a_training("steps"), whole_objects(folder / ROUNDS)))


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Returns the evaluations within trainings, up to the first that is torn or none."""
    return list(takewhile(_is_of_a_training("step"), whole_objects(folder / METRICS)))


def _is_of_a_training(count: str) -> Callable[[Row], bool]:
    numbers = ("round", "seed", count)
    return lambda row: (
        all(type(row.get(name)) is int for name in numbers) and isinstance(row.get("arm"), str)
    )


def last_tickets(folder: Path) -> list[dict[str, Any]]:
    """Returns the rows of the last round's tickets: rows are written round by round."""
    found: list[dict[str, Any]] = []
    for row in objects_from_end(folder / ROUNDS):
        if row.get("arm") == "ticket":
            if found and row.get("round") != found[0].get("round"):
                break
            found.append(row)
    return found


def training_keys(rounds: Path) -> set[str]:
    """Returns every training that a ``rounds.jsonl`` names, in torn lines as well."""
    return {key.decode(errors="replace") for key in _KEY.findall(read_bytes(rounds))}


def read_flat_config(folder: Path) -> dict[str, Any]:
    """Returns the config as ``{"pruner.sparsity": 0.9}``, empty where there is none to be read.

    A key that holds others has their names for its value: ``{"control": ("reinit",)}``.
    """
    text = read_bytes(folder / CONFIG, MOST_CONFIG).decode(errors="replace")
    blocks = [text] if "&id" in text else _BLOCK.split(text)  # an alias reaches beyond its block
    found: dict[str, Any] = {}
    for block in blocks:
        found |= _flat_block(block)
    return found


@functools.lru_cache(maxsize=4096)  # the points of a sweep share most of their config
def _flat_block(text: str) -> Mapping[str, Any]:
    try:
        found = yaml_files.loaded(text)
    except ValueError:
        return {}
    return dict(_flat(found, "")) if isinstance(found, dict) else {}


def _flat(value: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield f"{prefix}{key}", tuple(map(str, item))
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def flaw(folder: Path, names: Iterable[str]) -> str | None:
    """Says why one of a folder's files cannot be read at all; None where each can, or is absent."""
    for name in names:
        try:
            open_regular(folder / name, _most(name)).close()
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"its {name} cannot be read: {error.strerror}"
    return None


def _most(name: str) -> int:
    kinds = {".jsonl": MOST_ROWS, ".yaml": MOST_CONFIG}
    return kinds.get(Path(name).suffix, MOST_FACTS)


# --- reading what must be right


def checked_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yields (line number, row) of a file of rows, without a last line that is torn.

    Raises UserError for a file that cannot be read, and for any other line that is no row.
    """
    content = _checked_bytes(path).split(b"\n")
    lines = [(number, line) for number, line in enumerate(content, 1) if line.strip()]
    for position, (number, line) in enumerate(lines, 1):
        try:
            row = decoded(line)
        except ValueError as error:
            if position == len(lines):  # the writer was killed in the middle of it
                return
            raise UserError(
                f"{path}, line {number} is not JSON: {error}. Only the last line may be torn: "
                "remove this line, or run the experiment again to rewrite the file."
            ) from error
        if not isinstance(row, dict):
            raise UserError(
                f"{path}, line {number} holds {repr(row)[:80]}, not a JSON object: remove this "
                "line, or run the experiment again to rewrite the file."
            )
        yield number, row


def checked_mapping(path: Path) -> dict[str, Any]:
    """Returns what a JSON or YAML file holds, nothing where there is no such file.

    Raises UserError where it cannot be read or holds something else.
    """
    if not path.is_file():
        return {}
    try:
        text = _checked_bytes(path).decode()
        if path.suffix == ".json" and not text.strip():
            raise ValueError("it is empty")
        read = json_files.loaded if path.suffix == ".json" else yaml_files.loaded
        found = read(text)
    except ValueError as error:
        raise UserError(
            f"{path} cannot be read: {error}. The run's command writes it again from the Store."
        ) from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UserError(
            f"{path} holds a {type(found).__name__}, not a mapping of keys to values. The run's "
            "command writes it again from the Store."
        )
    return found


def _checked_bytes(path: Path) -> bytes:
    try:
        return read_regular(path, _most(path.name))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


# --- writing


def plain(row: Row) -> dict[str, Any]:
    """Returns a row as JSON has it: NaN and infinity become null, at any depth."""
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Adds rows at the end of a file, each on a line."""
    append(path, lines(rows).encode())


def replace_rows(path: Path, rows: Iterable[Row]) -> None:
    """Writes a file of rows anew."""
    write_whole(path, lines(rows).encode())


def lines(rows: Iterable[Row]) -> str:
    """Writes rows as JSON, each on a line."""
    return "".join(json.dumps(plain(row)) + "\n" for row in rows)


def write_status(folder: Path, status: Mapping[str, Any], *, synced: bool = True) -> None:
    """Writes ``status.json``, sealed by a hash of all that it says."""
    sealed = {**status, SEAL: identity.digest(status)}
    write_facts(folder / STATUS, sealed, synced=synced)


def write_facts(path: Path, facts: Mapping[str, Any], *, synced: bool = True) -> None:
    """Writes a small JSON file for people and programs to read: status, environment, problem."""
    write_whole(path, (json.dumps(facts, indent=2) + "\n").encode(), synced=synced)


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Writes the resolved config in its own order."""
    write_whole(folder / CONFIG, yaml.safe_dump(dict(config), sort_keys=False).encode())
