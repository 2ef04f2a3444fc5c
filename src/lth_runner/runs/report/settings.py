"""The settings in which several runs differ, how runs are named by them, and in which order."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lth_runner.runs.report.rows import FIRST_ROUND, TICKET, FinishedRun, is_dense, number

MAX_NAMED_KEYS = 4
MAX_LABEL = 30  # letters: beyond, keys are told by their last part alone
SEARCH_OF_CONTROL = re.compile(r"control\.[^.]+\.search\.")
SEEDS = re.compile(r"seed|replicates")
DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(it|ep|%)\s*")

Order = tuple[object, ...]


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested mappings to dotted keys: {'rewind': {'step': 0}} -> {'rewind.step': 0}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(runs: Sequence[FinishedRun]) -> dict[str, list[Any]]:
    """Maps each dotted key in which runs differ to its value in each run (None where absent).

    Where a config repeats `rewind.step` deeper, as in `pruner.search.rewind.step`, once is enough.
    """
    flat = [_settings(run) for run in runs]
    keys = dict.fromkeys(key for config in flat for key in config)
    values = {key: [config.get(key) for config in flat] for key in keys}
    differing = {k: found for k, found in values.items() if any(x != found[0] for x in found)}
    differing = {k: v for k, v in differing.items() if not _is_told(k, differing)}
    return {key: v for key, v in differing.items() if not _is_copy(key, differing)}


def _settings(run: FinishedRun) -> dict[str, Any]:
    """Lists the options chosen of the sections, and all keys but a control's pruner anew."""
    chosen = {k: v for k, v in run.choices.items() if isinstance(v, str) and k in run.config}
    flat = flatten(run.config)
    return chosen | {key: value for key, value in flat.items() if not _repeats_pruner(key, flat)}


def _repeats_pruner(key: str, flat: Mapping[str, Any]) -> bool:
    """Returns whether control.invert.search.x, say, only says again what pruner.search.x says."""
    pruner = SEARCH_OF_CONTROL.sub("pruner.search.", key)
    return pruner != key and pruner in flat and flat[pruner] == flat[key]


def _is_told(key: str, values: Mapping[str, list[Any]]) -> bool:
    """Returns whether a key's group says its value: pruner=snip, not its parts."""
    group = key.split(".")[0]
    if group == key or group not in values or None in values[group]:
        return False
    pairs = {(option, str(value)) for option, value in zip(values[group], values[key], strict=True)}
    return len(pairs) == len(set(values[group]))


def _is_copy(key: str, values: Mapping[str, list[Any]]) -> bool:
    """Returns whether a key of fewer parts ends alike and has the same values."""
    leaf, depth = key.rsplit(".", 1)[-1], key.count(".")
    return any(
        other.count(".") < depth and other.rsplit(".", 1)[-1] == leaf and found == values[key]
        for other, found in values.items()
    )


def labels(runs: Sequence[FinishedRun]) -> list[str]:
    """Writes 'key=value, ...' of the keys in which runs differ; the folder's name breaks ties.

    More than four such keys: only as many, in their order, as tell the runs apart. A run is not
    named by a key that it does not have. Where this is long, 'train.optimizer.lr' is 'lr'.
    """
    found = differences(runs)
    keys = list(found)
    if len(keys) > MAX_NAMED_KEYS:
        counts = range(1, len(keys) + 1)
        keys = next((keys[:n] for n in counts if _distinct(found, keys[:n], len(runs))), keys[:4])
    settings = [_settings(run) for run in runs]
    names = [_named(own, {key: key for key in keys}) for own in settings]
    if max(map(len, names), default=0) > MAX_LABEL:
        names = [_named(own, _short(keys)) for own in settings]
    if len(set(names)) == len(names) and all(names):
        return names
    return [f"{name} {run.folder.name}".strip() for name, run in zip(names, runs, strict=True)]


def _named(own: Mapping[str, Any], names: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={plain(own[key])}" for key, name in names.items() if key in own)


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Cuts keys to their last part, but for those of which two end alike."""
    leaves = [key.rsplit(".", 1)[-1] for key in keys]
    return {k: leaf if leaves.count(leaf) == 1 else k for k, leaf in zip(keys, leaves, strict=True)}


def _distinct(found: Mapping[str, list[Any]], keys: Sequence[str], num_runs: int) -> bool:
    return len({tuple(str(found[key][i]) for key in keys) for i in range(num_runs)}) == num_runs


def plain(value: object) -> str:
    """Writes a value of the config, numbers without needless digits."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def sorted_by_settings(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """Sorts runs by the settings in which they differ, seeds last, numbers by their size."""
    found = differences(runs)
    keys = sorted(found, key=lambda key: bool(SEEDS.fullmatch(key)))
    order = sorted(range(len(runs)), key=lambda i: [natural(found[key][i]) for key in keys])
    return [runs[i] for i in order]


def natural(value: object) -> Order:
    """Makes a sort key: nothing, then numbers and durations, then texts with numbers in them."""
    if value is None:
        return (0,)
    if isinstance(value, (bool, int, float)):
        return (1, "", float(value))
    if isinstance(value, str) and (match := DURATION.fullmatch(value)):
        return (1, match[2], float(match[1]))
    parts = re.split(r"(\d+(?:\.\d+)?)", str(value))
    return (2, *(float(x) if i % 2 else x for i, x in enumerate(parts)))


def asked_sparsity(run: FinishedRun) -> float | None:
    """Reads the sparsity that the config asks for; None where it names none."""
    return number(run.option("pruner", "sparsity"))


def step_text(run: FinishedRun) -> str:
    """Writes a rewind step as durations are written."""
    value = run.option("rewind", "step")
    return "" if value is None else str(value) if isinstance(value, str) else f"{value}it"


def rewind_step(run: FinishedRun) -> int | None:
    """Finds the optimizer step that the run's tickets are rewound to; None where nothing tells.

    Whole steps (500it) stand in the config; of epochs and shares, and where a training was shrunk,
    the start of the tickets tells, unless their clock starts over.
    """
    match = DURATION.fullmatch(step_text(run))
    if match and (float(match[1]) == 0
                  or (match[2] == "it" and not run.option("train", "shrink_to"))):  # fmt: skip
        return int(float(match[1]))
    if run.option("rewind", "lr_clock") != "restart":
        tickets = [row for row in run.rows if row["arm"] == TICKET and not is_dense(row)]
        starts = {row["start_step"] for row in tickets if isinstance(row.get("start_step"), int)}
        if len(starts) == 1:
            return int(starts.pop())
    lengths = {number(row.get("steps")) for row in run.rows if row["round"] == FIRST_ROUND}
    total = next(iter(lengths), None)
    if match is None or total is None:
        return None
    if match[2] == "%":
        return round(float(match[1]) / 100 * total)
    whole = DURATION.fullmatch(str(run.option("train", "length")))
    same_unit = whole is not None and whole[2] == match[2] and float(whole[1]) > 0
    return round(float(match[1]) / float(whole[1]) * total) if whole and same_unit else None


def common_parent(runs: Sequence[FinishedRun]) -> Path:
    """Finds the folder that all run folders lie in."""
    return Path(os.path.commonpath([run.folder.resolve().parent for run in runs]))


def seed_groups(runs: Sequence[FinishedRun]) -> list[tuple[FinishedRun, ...]]:
    """Runs that are the same but for their seeds, together; of the same seeds each alone."""
    found = differences(runs)
    keys = [key for key in found if not SEEDS.fullmatch(key)]
    groups: dict[tuple[str, ...], list[FinishedRun]] = {}
    for i, run in enumerate(runs):
        groups.setdefault(tuple(str(found[key][i]) for key in keys), []).append(run)
    return [
        part
        for group in groups.values()
        for part in ([tuple(group)] if _is_disjoint(group) else [(run,) for run in group])
    ]


def _is_disjoint(runs: Sequence[FinishedRun]) -> bool:
    return len({seed for run in runs for seed in run.seeds}) == sum(len(run.seeds) for run in runs)
