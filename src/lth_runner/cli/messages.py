"""Messages, a clear one for each way in which a command can be wrong."""

from __future__ import annotations

import errno
import os
import re
import traceback
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from lth_runner.values.errors import Damaged, RankLost, UserError, nearest
from lth_runner.values.raised import OURS, innermost, raised_at

MISTAKES = (
    UserError, RankLost, HydraException, OmegaConfBaseException, OSError, Damaged, yaml.YAMLError,
)  # fmt: skip
ENTRY = str(Path("cli", "main.py"))
LESS = (
    ". A smaller train.micro_batch or model takes less; what was finished is kept, the same "
    "command goes on from there"
)
LONGEST = 400  # characters of an unforeseen exception's text


def explain(error: Exception, conf: Path, words: Sequence[str] = ()) -> str:
    """Says what was wrong, the value, what is accepted and what to do.

    ``words``: the command line, where it is known, for a cure that goes by it.
    """
    text = str(error)
    if isinstance(error, MissingConfigException):  # an OSError by descent
        return _missing(error, text, conf)
    if isinstance(error, OSError):
        return _explain_os(error.errno, error.strerror or text, error.filename)
    if isinstance(error, OverrideParseException):
        return _unparsed(error, text)
    if isinstance(error, yaml.YAMLError):
        return f"a yaml file cannot be read: {' '.join(text.split())}"
    if isinstance(error, UnicodeDecodeError):
        return f"a yaml file is not written in UTF-8: {text}"
    if match := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return _ambiguous(match[1])
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(match[1], conf, words)
    if match := re.search(r"Could not delete from config\. '([^']+)' does not exist", text):
        return f"~{match[1]} takes out a key that is not there, or that is null here: leave it away"
    if match := re.search(r"Could not append to config\. An item is already at '([^']+)'", text):
        return f"{match[1]} exists already: leave the + away to set it"
    if "Config group override must be a string or a list" in text:
        return "a group cannot be null: choose one of its options (group=option), none among them"
    if re.search("Could not (find|load)", text):
        return _missing(error, text, conf)
    if match := re.match(r"Error merging override (.+)", text):
        return (
            f"{match[1]}: a list cannot take the place of a mapping of keys, nor a mapping that "
            "of a list: set keys one by one (key.name=...), or give what docs/configuration.md says"
        )
    if isinstance(error, HydraException):
        return _first(text)
    if isinstance(error, Damaged):  # since it was looked at, earlier in this run
        return f"{text}. Give the same command again: it is set aside and made anew"
    return text


def _unparsed(error: OverrideParseException, text: str) -> str:
    if "=" not in error.override:
        return f"{error.override!r} is no key=value (with no space around the =)"
    key, _, value = error.override.partition("=")
    if value.isprintable() and not value.isascii() and not set(value) & set("\\'\"$()[]{}"):
        return f"{error.override}: letters beyond a to z stand in quotes: '{key}=\"{value}\"'"
    return (
        f"{' '.join(text.split())} (quote lists and patterns for your shell: "
        "'pruner.exclude=[output]')"
    )


def _ambiguous(override: str) -> str:
    """Says what a comma between values may have been meant as."""
    key, _, value = override.partition("=")
    point = value.replace(",", ".") if re.fullmatch(r"\d+,\d+", value) else None
    number = f"a point for a comma in a number ({key}={point}), " if point else ""
    return (
        f"{override}: values with commas between them are a sweep. Write {number}-m for a run of "
        f"each (lth-run -m {override}), or brackets for a list ('{key}=[{value}]')"
    )


def explain_bug(error: Exception) -> str:
    """Tells of an exception that nobody foresaw: its type, its text, where it was raised."""
    from lth_runner.values.memory import is_out_of_memory, out_of_memory  # loads torch

    text = " ".join(str(error).split())
    if match := re.search(r"\(os error (\d+)\)", text):  # safetensors wraps what the system says
        return _explain_os(int(match[1]), os.strerror(int(match[1])), None)
    if is_out_of_memory(error):
        return f"{out_of_memory(error)}{LESS}"
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    where = innermost(error)
    own = where is not None and not where.filename.startswith(OURS)
    whose = "in a part of your own" if own else "not foreseen: a bug of lth-runner"
    return (
        f"{type(error).__name__}: {text}{raised_at(error)} ({whose}; LTH_TRACEBACK=1 before the "
        "same command shows the traceback)"
    )


def is_ours(error: BaseException) -> bool:
    """Whether an exception passed through the program itself, beyond its first call of Hydra."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(f.filename.startswith(OURS) and not f.filename.endswith(ENTRY) for f in frames)


def _unknown_key(key: str, conf: Path, words: Sequence[str]) -> str:
    group = key.split("@")[0]
    if (conf / group).is_dir():
        return (
            f"{group} cannot be chosen here: write +{group}=... to add it (an experiment's yaml "
            "needs '# @package _global_' as its very first line)"
        )
    if key.startswith("study.") and (chosen := _chosen("study", words)):
        own = {f"study.{name}" for name in _study_keys(chosen, conf, words)}
        own = {name for name in own if name.count(".") == key.count(".")} or own
        return f"unknown key {key!r} of +study={chosen}: {nearest(key, own)}"
    known = {**_keys(conf), **{name: [] for name in _groups(conf)}}
    if known.get(key):
        first = key.split(".")[0]
        swept = any(re.match(rf"{first}=.*,", word) for word in words)
        if swept or any(word.startswith("+sweep=") for word in words):
            return (
                f"{key} is a key of {', '.join(known[key])}, and a sweep over {first} composes its "
                f"default first, which has none: write ++{key}=..., for the options that have it"
            )
        if study := _chosen("study", words):
            typed = [word for word in words if word.startswith((f"{first}=", f"{first}@"))]
            if typed and not any(word.lstrip("+").startswith(f"{key}=") for word in words):
                return (
                    f"{typed[-1]} leaves out {', '.join(known[key])}, of which +study={study} sets "
                    f"{key}: leave {typed[-1]} away, or change a copy of the study's yaml"
                )
            return (
                f"{key} is a key of {', '.join(known[key])}, and a study's words meet the default "
                f"of {first} first, which has none: write ++{key}=..., where all stages have it"
            )
        return (
            f"{key} is a key of {', '.join(known[key])}, not of the option chosen here (a new key "
            f"of your own part: +{key}=...)"
        )
    if _takes_own_keys(key.rpartition(".")[0], known, conf):
        return f"{key} is a key of your own, which needs a +: +{key}=..."
    group, _, last = key.rpartition(".")  # train.lr is looked for as train.*.lr
    within = [name for name in known if name.startswith(f"{group}.")] if group else known
    if deeper := sorted((name for name in within if name.endswith(f".{last}")), key=len):
        return f"unknown key {key!r}: did you mean {' or '.join(deeper[:3])}?"
    around = [name for name in known if name.startswith(f"{key.split('.')[0]}.")] or list(known)
    alike = [name for name in around if name.count(".") == key.count(".")] or around
    return f"unknown key {key!r}: {nearest(key, alike)} (a new key of your own part needs a +)"


def _takes_own_keys(key: str, known: Mapping[str, Sequence[str]], conf: Path) -> bool:
    """Whether a key is an empty mapping in an option that has it, to be filled by the user."""
    for owner in known.get(key, ()):
        group, _, option = owner.partition("=")
        node = yaml.safe_load((conf / group / f"{option}.yaml").read_text())
        if node.get(key.removeprefix(f"{group.replace('/', '.')}.")) == {}:
            return True
    return False


def _chosen(group: str, words: Sequence[str]) -> str | None:
    """Finds the option of a group that a command line adds."""
    found = [w.partition("=")[2] for w in words if w.lstrip("+").startswith(f"{group}=")]
    return found[-1] if found else None


def _study_keys(name: str, conf: Path, words: Sequence[str]) -> set[str]:
    """Lists the keys of a study, of the user's own folder too, and of those that it builds on."""
    own = [b for a, b in pairwise(words) if a in ("-cd", "--config-dir")]
    own += [word.partition("=")[2] for word in words if word.startswith("--config-dir=")]
    found: set[str] = set()
    names = [name]
    for one in names:
        files = [folder / "study" / f"{one}.yaml" for folder in (*map(Path, own), conf)]
        for file in [file for file in files if file.is_file()][:1]:
            found |= _own_keys(file, conf)
            loaded = yaml.safe_load(file.read_text())
            below = loaded.get("defaults") if isinstance(loaded, dict) else None
            names += [str(b) for b in below or [] if str(b) not in ("_self_", *names)]
    return found


def _missing(error: Exception, text: str, conf: Path) -> str:
    if "hydra/launcher" in text:
        return (
            f"{_first(text)}: the launchers local_parallel and slurm need their plugins: "
            "pip install 'lth-runner[cluster]'"
        )
    missing = getattr(error, "missing_cfg_file", None) or ""
    if match := re.search(r"Could not (?:find|load) '([^']+)'", text):
        missing = match[1]
    group, _, option = str(missing).removesuffix(".yaml").rpartition("/")
    options = list(getattr(error, "options", None) or [])
    if not options and group and (conf / group).is_dir():
        options = [path.stem for path in sorted((conf / group).glob("*.yaml"))]
    if not options:
        return _first(text)
    close = nearest(option, options)
    rest = "" if "accepted" in close else f" (accepted: {', '.join(sorted(options))})"
    return f"there is no {group}={option}: {close}{rest}"


def _explain_os(number: int | None, reason: str, path: str | bytes | None) -> str:
    where = os.fsdecode(path) if isinstance(path, (str, bytes)) else "a file of the run"
    if number in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"no space left to write {where}: free some, or choose another disk with "
            "paths.outputs=...; what was finished is kept, the same command goes on from there"
        )
    if number == errno.ENOMEM:
        return f"out of memory, for {where}{LESS}"
    if number in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
        return f"{where} cannot be written ({reason}): choose a folder with paths.outputs=..."
    return reason if path is None else f"{where}: {reason}"


def _groups(conf: Path) -> list[str]:
    folders = (path for path in conf.rglob("*") if path.is_dir())
    return [path.relative_to(conf).as_posix() for path in folders]


def _keys(conf: Path) -> dict[str, list[str]]:
    """Maps every dotted key of the default config and its groups to the options that have it."""
    keys: dict[str, list[str]] = {}
    for path in sorted(conf.rglob("*.yaml")):
        group = path.relative_to(conf).parent.as_posix()
        if group == "skeleton":
            continue  # what options are made of
        prefix = (
            ""
            if group in (".", "experiment", "scale", "study", "sweep")
            else group.replace("/", ".")
        )
        for key in _own_keys(path, conf):
            owners = keys.setdefault(f"{prefix}.{key}" if prefix else key, [])
            owners += [f"{group}={path.stem}"] if prefix else []
    return {k: v for k, v in keys.items() if not k.startswith(("defaults", "hydra"))}


def _own_keys(path: Path, conf: Path) -> set[str]:
    """Lists the dotted keys of a yaml and of those that its defaults put into the same place."""
    # 150 files: libyaml reads them ten times as fast where PyYAML was built with it
    loaded = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    if not isinstance(loaded, dict):
        return set()
    keys = set(dotted(loaded))
    for entry in loaded.get("defaults") or []:
        if isinstance(entry, str) and entry != "_self_":
            name = entry.removesuffix("@_here_")
            base = conf if name.startswith("/") else path.parent
            if (below := base / f"{name.lstrip('/')}.yaml").exists():
                keys |= _own_keys(below, conf)
    return keys


def dotted(node: object, prefix: str = "") -> list[str]:
    """Lists the keys of nested mappings, those within others by their path."""
    if not isinstance(node, dict):
        return []
    found = []
    for key, value in node.items():
        if str(key).startswith("_"):
            continue
        path = f"{prefix}.{key}" if prefix else str(key)
        found += [path, *dotted(value, path)]
    return found


def _first(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[0] if lines else text
