"""Which runs there are to judge by, best first: those under outputs/ and those of an archive.

The archive is a file per name, `docs/runs/<name>.jsonl.gz`: one line of JSON per run, with what the
page reads of it (config, state, machine, rows) and nothing that says where it lay.
"""

from __future__ import annotations

import gzip
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.samples import KeptSamples
from lth_runner.values.errors import UserError

# where a run lay and how it was shown, but not what it was
ELSEWHERE = ("paths.", "dataset.root=", "dataset.cache=", "record", "hydra")
ORIGIN, ID = "origin.run=", re.compile(r"[0-9a-f]{12}")  # of one run, which no command can know
EXPERIMENT, DEFAULT = "+experiment=", "digits_imp"  # what names a run that is given no name
LEFT_OUT = {
    "config": ("paths", "record"),
    "status": ("host", "pid", "probes", "error"),
    "environment": ("host", "platform"),
}
DIGITS = 7  # significant ones, of a number in an archived row
SUFFIX = ".jsonl.gz"
IMAGES = {"cifar10-jpeg": "CIFAR-10 (JPEG)"}  # what an archive of images is called on the page


def load(outputs: Path, archive: Path) -> list[FinishedRun]:
    """Every run of both, each once, by its id: the copy that is better evidence.

    What networks got right by sample, and where things lay, is not kept in the archive, and so not
    looked at in outputs: the page says the same by either.
    """
    there = [FinishedRun.load(file.parent) for file in sorted(outputs.rglob("rounds.jsonl"))]
    found = [
        replace(run, kept_samples=KeptSamples(), config=_kept("config", run.config))
        for run in there
    ]
    best: dict[tuple[str, str], FinishedRun] = {}
    for run in ordered([*found, *archived(archive)]):
        best.setdefault((run.name, run.folder.name), run)
    return list(best.values())


def readable(runs: Iterable[FinishedRun]) -> list[FinishedRun]:
    """Runs at full scale, best evidence first."""
    return ordered(run for run in runs if not section(run, "train").get("shrink_to"))


def ordered(runs: Iterable[FinishedRun]) -> list[FinishedRun]:
    """Best evidence first: done, more replicates, rows and merges, the latest."""
    return sorted(
        runs,
        key=lambda run: (
            run.state == "done", len(run.seeds), len(run.rows), len(run.merges),
            str(run.status.get("updated")),
        ),
        reverse=True,
    )  # fmt: skip


def section(run: FinishedRun, key: str) -> Mapping[str, Any]:
    found = run.config.get(key)
    return found if isinstance(found, Mapping) else {}


def extent(run: FinishedRun) -> str:
    """How far an unfinished run is."""
    rounds = run.rounds(TICKET)
    so_far = "no round yet" if not rounds else f"rounds {rounds[0]} to {rounds[-1]} so far"
    return f"{run.name} is {run.state}: {so_far}"


def command(run: FinishedRun) -> str:
    """The run's own command, without where things lie on the machine it ran on.

    With the name that rows find it by, where its experiment has another one, and the name of the
    runs that it starts from.
    """
    told = shlex.split(str(run.status.get("command") or f"lth-run +experiment={run.name}"))
    words = [
        word for word in told if not word.startswith((*ELSEWHERE, "name=")) and "=/" not in word
    ]
    named = [word.removeprefix(EXPERIMENT) for word in words if word.startswith(EXPERIMENT)]
    own = [] if run.name in (named or [DEFAULT]) else [f"name={run.name}"]
    origin = PurePosixPath(str(run.option("origin", "run") or "")).name
    if origin and not ID.fullmatch(origin) and not any(w.startswith(ORIGIN) for w in words):
        own.append(f"{ORIGIN}outputs/{origin}")
    return shlex.join(words + own)


def hardware(run: FinishedRun) -> str:
    of = run.environment
    threads = of.get("threads")
    parts = [of.get("device_name") or of.get("device") or "not recorded"]
    parts += [f"torch {of['torch']}"] if of.get("torch") else []
    parts += [f"{threads} thread{'s' * (threads != 1)}"] if threads else []
    return ", ".join(map(str, parts))


def images(run: FinishedRun) -> str | None:
    """The images that a run had in place of its experiment's dataset; None for no others."""
    dataset = section(run, "dataset")
    if not str(dataset.get("_target_", "")).endswith(".imagefolder"):
        return None
    name = PurePosixPath(str(dataset.get("root", ""))).name.partition(".")[0]
    return IMAGES.get(name, name or "images of a folder")


def archived(archive: Path) -> list[FinishedRun]:
    """The archive's runs; raises `UserError` for a file that cannot be read."""
    return [run for file in sorted(archive.glob(f"*{SUFFIX}")) for run in _read(file)]


def keep(runs: Sequence[FinishedRun], archive: Path) -> list[Path]:
    """Puts runs into the archive, in place of older copies of theirs; the files it wrote.

    The same runs give the same bytes: lines are sorted by run id, no times are in the file.
    """
    written = []
    for name in dict.fromkeys(run.name for run in runs):
        file = archive / f"{name}{SUFFIX}"
        before = {run.folder.name: run for run in (_read(file) if file.is_file() else [])}
        now = before | {run.folder.name: run for run in runs if run.name == name}
        lines = [json.dumps(_copy(run), separators=(",", ":")) for _, run in sorted(now.items())]
        archive.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress("".join(f"{x}\n" for x in lines).encode(), mtime=0))
        written.append(file)
    return written


def _read(file: Path) -> list[FinishedRun]:
    try:
        lines = gzip.decompress(file.read_bytes()).decode().splitlines()
        found = [json.loads(line) for line in lines]
        return [
            FinishedRun(
                folder=file.with_name(one["id"]),
                config=one["config"],
                status=one["status"],
                environment=one["environment"],
                rows=tuple(one["rows"]),
                problem=one.get("problem", {}),
                merges=tuple(one.get("merges", ())),
            )
            for one in found
        ]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is not an archive of runs ({error}): remove it, and write it anew from runs "
            "under outputs/ with --keep"
        ) from error


def _copy(run: FinishedRun) -> dict[str, Any]:
    parts = {"config": run.config, "status": run.status, "environment": run.environment}
    found = {part: _kept(part, values) for part, values in parts.items()}
    found["status"]["command"] = command(run)
    found |= {"problem": dict(run.problem)} if run.problem else {}
    found |= {"merges": [_short(row) for row in run.merges]} if run.merges else {}
    return {"id": run.folder.name, **found, "rows": [_short(row) for row in run.rows]}


def _kept(part: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What the archive has of a part, without where things lay."""
    kept: dict[str, Any] = _placeless(
        {key: value for key, value in values.items() if key not in LEFT_OUT[part]}
    )
    return kept


def _placeless(value: Any) -> Any:
    """Of every path its last part."""
    if isinstance(value, Mapping):
        return {key: _placeless(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_placeless(one) for one in value]
    if isinstance(value, str) and value.startswith(("/", "~")):
        return PurePosixPath(value).name
    return value


def _short(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _short(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_short(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
