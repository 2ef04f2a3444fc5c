"""What differs between two runs before any result: config, code, data, start and machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.settings import comparable_differences, flatten, plain
from lth_runner.runs.folder import CONFIG, Row, read_engine
from lth_runner.runs.incidental import is_incidental
from lth_runner.runs.one_run import ticket_path

SHORT = 12  # letters of a hash
MACHINE = ("device", "device_name", "threads", "torch", "python", "platform", "host")
ABSENT = "-"
EQUAL_CODE = "#source"  # ends the key of a hash of code


@dataclass(frozen=True)
class Line:
    """One thing that differs: where, what, and what it is in either run."""

    section: str
    what: str
    first: str
    second: str


def config_lines(a: FinishedRun, b: FinishedRun, *, everything: bool) -> Iterator[Line]:
    """Yields the keys whose values differ; of those that change no result only with everything."""
    if bool(a.config) != bool(b.config):
        yield Line("config", CONFIG, *("there" if run.config else "missing" for run in (a, b)))
        return
    if everything:
        flat = [flatten(run.config) for run in (a, b)]
        keys = dict.fromkeys([*flat[0], *flat[1]])
        found = {key: [one.get(key) for one in flat] for key in keys}
        found = {key: pair for key, pair in found.items() if pair[0] != pair[1]}
    else:
        found = {k: v for k, v in comparable_differences([a, b]).items() if not is_incidental(k)}
        found.pop("name", None)
    for key, (first, second) in found.items():
        yield Line("config", key, *_values(first, second))


def code_lines(a: FinishedRun, b: FinishedRun) -> Iterator[Line]:
    """Yields versions of this program, and the user's own code, by its hashes."""
    yield from _pairs("code", "lth_runner", *(run.environment.get("lth_runner") for run in (a, b)))
    yield from _pairs("code", "git", *(_git(run) for run in (a, b)))
    known = [flatten(_identity(run)) for run in (a, b)]
    for key in dict.fromkeys([*known[0], *known[1]]):
        pair = [one.get(key) for one in known]
        if key.endswith(EQUAL_CODE) and not key.startswith("code."):
            if any(pair == [o.get(k) for o in known] for k in known[0] if k.startswith("code.")):
                continue  # the class is told by its own name
            yield from _pairs("code", f"of the {key.split('.')[0]}", *pair)
        elif key.startswith("code."):
            name = key.removeprefix("code.").removesuffix(f".{EQUAL_CODE}")
            yield from _pairs("code", f"of {name}", *pair)
        elif key in ("held", "constants"):
            told = "what the network holds besides its weights"
            yield from _pairs("code", told, *pair)


def data_lines(a: FinishedRun, b: FinishedRun) -> Iterator[Line]:
    """Yields the hash over all samples, and what the problem makes of them."""
    first, second = (_identity(run).get("data") for run in (a, b))
    yield from _pairs("data", "hash of all samples", first, second)
    for key, what in (("majority", "share of the most frequent class"), ("sampled", "a sample")):
        yield from _pairs("data", what, a.problem.get(key), b.problem.get(key))


def start_lines(a: FinishedRun, b: FinishedRun) -> Iterator[Line]:
    """Yields what training starts from: the origin, and the weights of each common replicate."""
    for key, what in (("origin", "origin"), ("drawn", "drawn by the seed")):
        yield from _pairs("start", what, *(run.problem.get(key) or None for run in (a, b)))
    both = set(a.seeds) & set(b.seeds)
    if not both:
        yield Line("start", "seeds", *(_value(list(run.seeds) or None) for run in (a, b)))
    for seed in sorted(both):
        rows = [_first(run, seed) for run in (a, b)]
        if rows[0] is None or rows[1] is None:
            continue
        if told := _weights_differ(a, rows[0], b, rows[1]):
            yield Line("start", f"weights of seed {seed}", *told)


def machine_lines(a: FinishedRun, b: FinishedRun) -> Iterator[Line]:
    """Yields processor, threads, versions of what computes, and the engine."""
    for key in MACHINE:
        yield from _pairs("machine", key, a.environment.get(key), b.environment.get(key))
    engines = (read_engine(run.folder).get("engine") for run in (a, b))
    yield from _pairs("machine", "engine", *engines)


def _pairs(section: str, what: str, first: Any, second: Any) -> Iterator[Line]:
    if first != second:
        yield Line(section, what, *_values(first, second))


def _values(first: Any, second: Any) -> tuple[str, str]:
    """Writes two unlike values; in full where they would look alike: 1 and '1', [] and nothing."""
    told = _value(first), _value(second)
    if told[0] != told[1]:
        return told
    return (ABSENT if first is None else repr(first), ABSENT if second is None else repr(second))


def _value(value: Any) -> str:
    if value is None:
        return ABSENT
    if value == []:
        return "[]"
    if isinstance(value, Mapping):
        value = [f"{name} {plain(one)}" for name, one in value.items()]
    text = ", ".join(map(plain, value)) if isinstance(value, (list, tuple)) else plain(value)
    is_hash = len(text) >= 16 and all(letter in "0123456789abcdef" for letter in text)
    return text[:SHORT] if is_hash else text


def _git(run: FinishedRun) -> str | None:
    found = run.environment.get("git")
    if not isinstance(found, Mapping) or not found.get("commit"):
        return None
    return str(found["commit"])[:SHORT] + (" and changes" if found.get("dirty") else "")


def _identity(run: FinishedRun) -> Mapping[str, Any]:
    found = run.problem.get("identity")
    return found if isinstance(found, Mapping) else {}


def _first(run: FinishedRun, seed: int) -> Row | None:
    rows = [row for row in run.rows if row["arm"] == TICKET and row["seed"] == seed]
    return min(rows, key=lambda row: row["round"], default=None)


def _weights_differ(a: FinishedRun, of_a: Row, b: FinishedRun, of_b: Row) -> tuple[str, str] | None:
    """Says by how much the weights that two first trainings start from differ; None: not at all."""
    paths = ticket_path(a.folder, of_a), ticket_path(b.folder, of_b)
    try:
        with safe_open(paths[0], "numpy") as one, safe_open(paths[1], "numpy") as other:
            names, others = ({*filter(_is_weight, file.keys())} for file in (one, other))
            if names != others:
                return f"{len(names)} tensors", f"{len(others)} tensors, of other names"
            apart = size = 0.0
            for name in sorted(names):
                mine, theirs = one.get_tensor(name), other.get_tensor(name)
                if mine.shape != theirs.shape:
                    return f"{name} {mine.shape}", f"{theirs.shape}"
                apart += float(np.square(mine.astype(np.float64) - theirs).sum())
                size += float(np.square(mine.astype(np.float64)).sum())
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        return "cannot be compared", str(error).splitlines()[0] if str(error) else ABSENT
    if apart == 0.0:
        return None
    share = f"{np.sqrt(apart / size):.3g}" if size else "all"
    return f"2-norm {np.sqrt(size):.4g}", f"apart by {share} of it"


def _is_weight(name: str) -> bool:
    return name.startswith("weights.")
