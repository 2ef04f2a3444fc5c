"""The first stage of a run checks its config as plain values, before anything is built of it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import (
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from lth_runner.cli.signatures import check_targets, without_what_data_lack
from lth_runner.runs.evidence.published import published
from lth_runner.runs.run_name import check_name
from lth_runner.runs.samples import DRAWN, FIXED
from lth_runner.schedule import rate_to_reach
from lth_runner.search.rewind import Rewind
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.raised import first_line

PARTS = {"dataset", "model", "train", "objective", "covers"}
MAYBE = {"origin", "coordinates"}  # a part, or null
GROUPS = {"control", "probe", "record"}  # several parts by name
SECTIONS = {"paths", "store", "pruner", "rewind", "report"}  # mappings of their own keys
ROOT = PARTS | MAYBE | GROUPS | SECTIONS | {
    "name", "seed", "replicates", "device", "max_samples", "threads",
}  # fmt: skip
KEEP = ("all", "tickets", "last")  # of the Store, once a run is done
MOST_REPLICATES = 1000  # each is a network and its trainings
MOST_THREADS = 64  # beyond the cores: the bits of a run on another machine need its number
OWN_KEYS = {  # of the sections that are read here, and not given to a part whole
    "paths": ("outputs", "data"),
    "store": ("keep",),
    "report": ("tolerance", "paired", "samples", "published"),
    "rewind": tuple(field.name for field in fields(Rewind)),
}
PRUNER_KEYS = {"search", "masking", "budgets", "biases"}  # what is read here
PRUNER_KEYS |= {"rate"}  # +scale=smoke sets it for every pruner, for those too that do not go by it
EXAMPLES = {  # of keys that an option leaves to its user
    "dataset.test._target_": "dataset.test._target_=mine.Samples",
    "dataset.path": "dataset.path=saved",
    "dataset.task": "dataset.task=sst2",
    "dataset.train._target_": "dataset.train._target_=mine.Samples",
    "model._target_": "model._target_=mine.Net",
    "model.name": "model.name=resnet18",
    "model.path": "model.path=a-folder-with-config.json",
    "origin.path": "origin.path=model.safetensors",
    "origin.run": "origin.run=outputs/first",
    "dataset.run": "dataset.run=outputs/population",
    "pruner.ticket": "pruner.ticket=outputs/first",
}
log = logging.getLogger(__name__)


def check(config: DictConfig) -> dict[str, Any]:
    """Returns the config as plain values that fit what they will be given to, but for their sizes.

    Raises UserError for unknown keys, for values of the wrong kind or out of range, and for
    what the signature of a part does not take.
    """
    values = resolve(config)
    values["model"] = without_what_data_lack(values["model"])
    check_targets(values, OmegaConf.to_container(config, resolve=False))
    return values


def resolve(config: DictConfig) -> dict[str, Any]:
    """Returns the config as plain values, interpolations filled in.

    Raises UserError as ``check`` does, without looking at signatures.
    """
    _check_keys(config)
    config = _reaching(config)
    _check_sections(config)
    _check_pruner(config)
    _warn_of_unused_rewinding(config)
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(
            f"{error.full_key} is not set: give it a value on the command line"
            + (f", as {example}" if (example := EXAMPLES.get(str(error.full_key))) else "")
        ) from error
    except OmegaConfBaseException as error:
        raise UserError(_unread(error)) from error
    assert isinstance(plain, dict)
    values = {str(key): value for key, value in plain.items()}
    _check_root(values)
    _check_report(values["report"])
    _check_groups(values)
    return values


def _reaching(config: DictConfig) -> DictConfig:
    """Raises the rate of a small schedule to where its rounds reach the sparsity asked for.

    Small is what ``train.shrink_to`` shrinks: +scale=smoke sets rounds and a rate whatever the
    sparsity. Returns another config where it changes one.
    """
    pruner, train = config.pruner, config.train
    if not isinstance(train, DictConfig) or train.get("shrink_to") is None:
        return config
    raw = {name: pruner.get(name) for name in ("sparsity", "rounds", "rate")}
    sparsity, rounds, rate = raw.values()
    if not (_is_share(sparsity) and _is_share(rate) and _is_whole(rounds) and rounds >= 1):
        return config
    changed = config.copy()
    with read_write(changed), open_dict(changed):
        changed.pruner.rate = rate_to_reach(sparsity, rounds, rate)
    return changed


def _check_keys(config: DictConfig) -> None:
    for key in map(str, config):
        if key not in ROOT:
            raise UserError(f"unknown key {key!r} in the config: {nearest(key, ROOT)}")
    if absent := sorted(ROOT - set(map(str, config))):
        raise UserError(f"the config lacks {', '.join(absent)}: take the ~ away that removes it")
    for key in sorted(GROUPS | SECTIONS):
        if not isinstance(config[key], DictConfig):
            raise UserError(
                f"{key}={config[key]} is no mapping of keys: choose an option of {key}, or set its "
                f"keys one by one, as {key}.<key>=..."
            )
    parts = {key: config[key] for key in PARTS | {"rewind"}}
    parts |= {key: config[key] for key in MAYBE if config[key] is not None}
    parts |= {f"pruner.{key}": config.pruner.get(key) for key in ("search", "masking")}
    for key, node in sorted(parts.items()):
        if not isinstance(node, DictConfig) or "_target_" not in list(node):
            raise UserError(
                f"{key}={node} is no part, which has a _target_: choose an option of "
                f"{key.split('.')[0]}"
            )


def _check_sections(config: DictConfig) -> None:
    """Refuses a key that nothing reads; what another key is interpolated from is read."""
    written = str(OmegaConf.to_container(config, resolve=False))
    for section, known in OWN_KEYS.items():
        for key in map(str, config[section]):
            path = f"{section}.{key}"
            if key not in known and key != "_target_" and f"${{{path}" not in written:
                raise UserError(f"{path} is used by nothing: {nearest(key, known)}")


def _check_root(values: Mapping[str, Any]) -> None:
    for key, least in (("seed", 0), ("replicates", 1)):
        if not _is_whole(value := values[key]) or value < least:
            raise UserError(f"{key}={value!r} must be a whole number of at least {least}")
    if values["replicates"] > MOST_REPLICATES:
        raise UserError(f"replicates={values['replicates']}: give at most {MOST_REPLICATES}")
    most = values["max_samples"]
    if most is not None and (not _is_whole(most) or most < 1):
        raise UserError(f"max_samples={most!r} must be a whole number of at least 1, or null")
    threads, cores = values["threads"], os.cpu_count() or 1
    if threads != "auto" and (not _is_whole(threads) or threads < 1):
        raise UserError(f"threads={threads!r}: give a whole number above 0, or auto")
    if threads != "auto" and threads > max(MOST_THREADS, cores):
        raise UserError(
            f"threads={threads}: this machine has {cores} cores: give at most "
            f"{max(MOST_THREADS, cores)}, or auto"
        )
    for key in ("outputs", "data"):
        if not isinstance(value := values["paths"].get(key), str) or not value:
            raise UserError(f"paths.{key}={value!r} must be the path of a folder")
    if not isinstance(biases := values["pruner"].get("biases", False), bool):
        raise UserError(f"pruner.biases={biases!r}: give true or false")
    check_name(values["name"])
    keep = values["store"].get("keep")
    if keep not in KEEP:
        raise UserError(f"store.keep={keep!r}: {nearest(str(keep), KEEP)}")


def _check_report(report: Mapping[str, Any]) -> None:
    if not isinstance(pairs := report.get("paired"), bool):
        raise UserError(f"report.paired={pairs!r}: give true or false")
    samples = report.get("samples")
    if samples not in (DRAWN, FIXED):
        raise UserError(f"report.samples={samples!r}: {nearest(str(samples), (DRAWN, FIXED))}")
    if (series := report.get("published")) is not None:
        published(str(series))


def _unread(error: OmegaConfBaseException) -> str:
    """What a user is told of a key whose value is to come from one that is not there."""
    found = re.search(
        r"(?:Interpolation key '|Error trying to access )(\w+)\.([\w.]+)(?:' not found|: node)",
        str(error),
    )
    if found is None or error.full_key is None:
        return f"the config cannot be resolved: {first_line(error)}"
    group, key = found.groups()
    reader = error.full_key.split(".")[0]
    return (
        f"{error.full_key} is to be that of {group}.{key}, and the {group} that is chosen has no "
        f"{key}: choose another {reader} or another {group}, or set {error.full_key} itself"
    )


def _check_groups(values: Mapping[str, Any]) -> None:
    for group in sorted(GROUPS):
        for key, node in values[group].items():
            if not isinstance(node, dict) or "_target_" not in list(node):
                raise UserError(
                    f"{group}.{key} belongs to an option of {group} that is not chosen here: "
                    f"choose it, or leave {group}.{key} out"
                )


def _is_share(value: Any) -> bool:
    return isinstance(value, float) and 0 < value < 1


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_pruner(config: DictConfig) -> None:
    pruner = config.pruner
    raw = OmegaConf.to_container(pruner, resolve=False)
    used = set(re.findall(r"\$\{pruner\.(\w+)", str(raw)))
    assert isinstance(raw, dict)
    for key in map(str, raw):
        if key not in PRUNER_KEYS | used:
            raise UserError(f"pruner.{key} is used by nothing: {nearest(key, used | PRUNER_KEYS)}")
    budgets = raw.get("budgets", {})
    if not isinstance(budgets, dict):
        raise UserError(f"pruner.budgets={budgets!r} is no mapping of scopes to budgets")
    for scope, budget in budgets.items():
        if budget is not None and not (isinstance(budget, dict) and "_target_" in budget):
            raise UserError(
                f"pruner.budgets.{scope}={budget!r} is no part, which has a _target_, and not null"
            )
    offered = [str(scope) for scope, budget in budgets.items() if budget is not None]
    if "scope" in raw and raw["scope"] not in offered:
        closed = str(raw["scope"]) in budgets
        raise UserError(
            f"pruner.scope={raw['scope']!r}"
            + (" is not for this pruner, whose masks would not keep to it" if closed else "")
            + f": {nearest(str(raw['scope']), offered)}"
        )
    if raw.get("rates") and raw.get("scope") != "layerwise":
        raise UserError("pruner.rates are rates by layer: they need pruner.scope=layerwise")
    if raw.get("densities") and raw.get("scope") != "given":
        raise UserError("pruner.densities are densities by layer: they need pruner.scope=given")


def _warn_of_unused_rewinding(config: DictConfig) -> None:
    pruner = str(OmegaConf.to_container(config.pruner, resolve=False))
    if "${rewind}" in pruner and config.pruner.get("retrain", True):
        return
    own = {field.name: field.default for field in fields(Rewind)}
    unused = [
        f"rewind.{key}={value}"
        for key, value in config.rewind.items()
        if key in own
        and f"${{rewind.{key}}}" not in pruner
        and (value or None) != (own[str(key)] or None)
    ]
    if unused:
        log.warning(
            "warning: this pruner does not rewind that way: %s changes nothing here",
            ", ".join(unused),
        )
