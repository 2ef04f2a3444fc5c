"""The settings in which several runs differ, how runs are named by them, and in which order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lth_runner.runs.evidence.rows import FinishedRun, duration_of
from lth_runner.values.terminal import visible

MAX_NAMED_KEYS = 4
MAX_LABEL = 30  # letters: beyond, keys are told by their last part alone
SEARCH_OF_CONTROL = re.compile(r"control\.[^.]+\.search\.")
TRACKERS = "record"  # where a run is shown besides says nothing of it
SEEDS = re.compile(r"seed|replicates")

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
    differing = _differing(runs)
    return _first_copies({k: v for k, v in differing.items() if not _is_told(k, differing)})


def comparable_differences(runs: Sequence[FinishedRun]) -> dict[str, list[Any]]:
    """As ``differences``, and keys that every run has though the options chosen may say them.

    pruner=imp and pruner=snip say what only one of them has, and not that their sparsity differs.
    """
    differing, flat = _differing(runs), [_settings(run) for run in runs]
    has = {key for key in differing if all(key in one for one in flat)}
    has = {key for key in has if not key.endswith("_target_")}
    return _first_copies(
        {k: v for k, v in differing.items() if k in has or not _is_told(k, differing)}
    )


def _differing(runs: Sequence[FinishedRun]) -> dict[str, list[Any]]:
    flat = [_settings(run) for run in runs]
    keys = dict.fromkeys(key for config in flat for key in config)
    values = {key: [config.get(key) for config in flat] for key in keys}
    return {k: found for k, found in values.items() if any(x != found[0] for x in found)}


def _first_copies(differing: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {key: v for key, v in differing.items() if not _is_copy(key, differing)}


def _settings(run: FinishedRun) -> dict[str, Any]:
    """Lists the options chosen of the sections, and all keys but a control's pruner anew."""
    config = {key: value for key, value in run.config.items() if key != TRACKERS}
    chosen = {k: v for k, v in run.choices.items() if isinstance(v, str) and k in config}
    flat = flatten(config)
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

    More than four such keys: only those, in their order, that tell more runs apart than the ones
    before. A run is not named by a key that it does not have. Where this is long,
    'train.optimizer.lr' is 'lr'.
    """
    found = differences(runs)
    keys = list(found)
    if len(keys) > MAX_NAMED_KEYS:
        keys = _telling(found, len(runs))
    settings = [_settings(run) for run in runs]
    names = [_named(own, {key: key for key in keys}) for own in settings]
    if max(map(len, names), default=0) > MAX_LABEL:
        names = [_named(own, _short(keys)) for own in settings]
    if len(set(names)) == len(names) and all(names):
        return names
    return [f"{name} {run.folder.name}".strip() for name, run in zip(names, runs, strict=True)]


def _named(own: Mapping[str, Any], names: Mapping[str, str]) -> str:
    found = (f"{name}={plain(own[key])}" for key, name in names.items() if key in own)
    return visible(", ".join(found))


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Cuts keys to their last part, but for those of which two end alike."""
    leaves = [key.rsplit(".", 1)[-1] for key in keys]
    return {k: leaf if leaves.count(leaf) == 1 else k for k, leaf in zip(keys, leaves, strict=True)}


def _telling(found: Mapping[str, list[Any]], num_runs: int) -> list[str]:
    """Picks keys in their order, each because it tells more runs apart than those before it."""
    keys: list[str] = []
    names: list[tuple[str, ...]] = [()] * num_runs
    for key, values in found.items():
        further = [(*name, str(value)) for name, value in zip(names, values, strict=True)]
        if len(set(further)) > len(set(names)):
            keys, names = [*keys, key], further
    return keys


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
    if isinstance(value, str) and (duration := duration_of(value)):
        return (1, duration.unit, duration.amount)
    parts = re.split(r"(\d+(?:\.\d+)?)", str(value))
    return (2, *(float(x) if i % 2 else x for i, x in enumerate(parts)))


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
