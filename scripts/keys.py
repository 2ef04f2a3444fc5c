"""The keys of the options in conf/, as their yaml files have and explain them.

Lines ``#: accepted -- meaning`` above a key explain it, in one file for all that inherit it and for
other options of its group that have a key of that name. From them, and from the values, come the
tables of docs/configuration.md. A file that others inherit may say what these are called:
``# Called: before training``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

CONF = Path(__file__).parents[1] / "conf"
HEAD = "| key | default | accepted | meaning |\n|---|---|---|---|"
PARTS = {"pruner": ("search", "masking", "budgets", "choices")}  # parts, not keys of a user's
MAX_NAMES, MAX_VALUES = 16, 7  # more are not listed one by one


@dataclass(frozen=True)
class Key:
    """A key's value as written, what its ``#:`` lines say of it, and where each comes from."""

    value: str
    valued_in: Path
    accepted: str = ""
    meaning: str = ""
    said_in: Path | None = None


def field(path: Path, name: str) -> str:
    """A field of a file's head, ``# Name: text``, with the lines indented by two that go on."""
    head = "".join(line for line in _head(path))
    found = re.search(rf"^# {name}: ?(.*(?:\n#   .*)*)", head, re.MULTILINE)
    return re.sub(r"\s*\n#\s+", " ", found[1]) if found else ""


def _head(path: Path) -> Iterator[str]:
    for line in path.read_text().splitlines(keepends=True):
        if not line.startswith("#") or line.startswith("#:"):
            return
        yield line


def inherited(path: Path) -> Iterator[Path]:
    """Yields the files that one takes its keys from, the furthest first and itself last."""
    for entry in _defaults(path):
        if isinstance(entry, str) and entry != "_self_":
            name = entry.partition("@")[0]
            folder = CONF if name.startswith("/") else path.parent
            yield from inherited(folder / f"{name.lstrip('/')}.yaml")
    yield path


def keys(path: Path) -> dict[str, Key]:
    """Reads an option's keys by their dotted names, with those that it inherits."""
    found: dict[str, Key] = {}
    for file in inherited(path):
        for name, key in _own(file):
            before = found.get(name)
            if before is not None and key.said_in is None:
                key = replace(before, value=key.value, valued_in=file)
            found[name] = key
        for chosen in _defaults(file):  # an option of a group within this one stands for its key
            if isinstance(chosen, dict):
                found.pop(next(iter(chosen)), None)
    return found


def value(path: Path, name: str) -> Any:
    """Reads the value of any key of an option, a part's too."""
    found = None
    for file in inherited(path):
        node: Any = _read(file)
        for part in name.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        found = found if node is None else node
    return found


def _defaults(path: Path) -> list[Any]:
    return _read(path).get("defaults", [])


@functools.cache
def _read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) or {}


@functools.cache  # a file that others inherit is asked for often
def _own(path: Path) -> tuple[tuple[str, Key], ...]:
    text = path.read_text()
    root = yaml.compose(text)
    return tuple(_leaves(root, text, path, "")) if isinstance(root, yaml.MappingNode) else ()


def _leaves(node: yaml.MappingNode, text: str, path: Path, above: str) -> Iterator[tuple[str, Key]]:
    lines = text.splitlines()
    for name, value in node.value:
        if name.value.startswith("_") or (not above and name.value == "defaults"):
            continue
        here = f"{above}{name.value}"
        if isinstance(value, yaml.MappingNode) and value.value and not _is_left_to_the_user(value):
            yield from _leaves(value, text, path, f"{here}.")
            continue
        said = _said(lines, name.start_mark.line)
        accepted, _, meaning = said.partition(" -- ")
        written = text[value.start_mark.index : value.end_mark.index].strip()
        key = Key(_shown(value, written), path, accepted, meaning, path if said else None)
        yield here, key


def _is_left_to_the_user(node: yaml.MappingNode) -> bool:
    return [(name.value, value.value) for name, value in node.value] == [("_target_", "???")]


def _said(lines: list[str], number: int) -> str:
    above = number
    while above and lines[above - 1].strip().startswith("#:"):
        above -= 1
    return " ".join(line.strip().removeprefix("#:").strip() for line in lines[above:number])


def _shown(node: yaml.Node, written: str) -> str:
    """Returns a value as a cell shows it; empty for a list of parts, which has no short form."""
    follows = re.fullmatch(r"\$\{(?:oc\.select:)?([\w.]+)(?:,\w+)?\}", written)
    if follows:
        return f"follows `{follows[1]}`"
    if "???" in written or (isinstance(node, yaml.MappingNode) and node.value):
        return "must be given"
    return "" if "\n" in written else f"`{written}`"


@dataclass(frozen=True)
class Row:
    """A line of a table: a key as some options of a group have it, by option.

    ``having`` are all options with a key of this name, ``lacking`` those without.
    """

    name: str
    accepted: str
    meaning: str
    keys: Mapping[str, Key]
    having: Sequence[str]
    lacking: Sequence[str]


def rows(group: str, default: str | None) -> list[Row]:
    """Lists the keys of a group's options, one explained in several ways as often."""
    there = [file for file in (CONF / group).glob("*.yaml") if "# @package" not in file.read_text()]
    files = sorted(there, key=lambda one: (one.stem != default, one.stem))
    of = {file.stem: keys(file) for file in files}
    made_by = {file.stem: value(file, "_target_") for file in files}
    explained: dict[tuple[str, str | None], Key] = {}  # by name, and what the option makes
    for option, own in of.items():
        for name, key in own.items():
            if key.said_in is not None:
                explained.setdefault((name, made_by[option]), key)
                explained.setdefault((name, None), key)
    found: dict[tuple[str, str, str], dict[str, Key]] = {}
    for option, own in of.items():
        for name, key in own.items():
            if name.split(".")[0] in PARTS.get(group, ()) or key.value == f"follows `{name}`":
                continue
            by = key
            if key.said_in is None:
                alike = explained.get((name, None), key)
                by = explained.get((name, made_by[option]), alike)
            found.setdefault((name, by.accepted, by.meaning), {})[option] = key
    first = {name: number for number, (name, *_) in reversed(list(enumerate(found)))}
    ordered = sorted(found.items(), key=lambda one: first[one[0][0]])  # of one name side by side
    having = {name: [option for option, own in of.items() if name in own] for name in first}
    lacking = {name: [option for option, own in of.items() if name not in own] for name in first}
    return [Row(*at, keys, having[at[0]], lacking[at[0]]) for at, keys in ordered]


def default_cell(row: Row, default: str | None) -> str:
    """Says which options have a key, and with which values."""
    groups: dict[str, list[str]] = {}
    for option, key in row.keys.items():
        groups.setdefault(key.value, []).append(option)
    if default in row.keys:
        first = row.keys[default].value
        del groups[first]
        num = sum(len(names) for names in groups.values())
        few = num <= MAX_NAMES and len(groups) <= MAX_VALUES
        others = _listed(groups, row) if few else ["others have their own"]
        return "; ".join([first, *others, *_limits(row)])
    if len(groups) > MAX_VALUES:
        return _names(list(row.keys), row)
    return "; ".join(_listed(groups, row))


def _limits(row: Row) -> Iterator[str]:
    """Says which options have a key that the default one has, or which have not: the fewer."""
    if len(row.having) < len(row.lacking):
        yield "only in " + ", ".join(f"`{option}`" for option in sorted(row.having))
    elif row.lacking:
        yield "not in " + ", ".join(f"`{option}`" for option in sorted(row.lacking))


def _listed(groups: Mapping[str, list[str]], row: Row) -> list[str]:
    return [
        f"{_names(names, row)}: {value}" if value else _names(names, row)
        for value, names in groups.items()
    ]


def _names(options: list[str], row: Row) -> str:
    """Names options; those that have a value from a file of many by what these are called."""
    called = {option: field(row.keys[option].valued_in, "Called") for option in options}
    many = sorted({name for name in called.values() if name})
    return ", ".join([*many, *(f"`{option}`" for option, name in called.items() if not name)])


def table(group: str, default: str | None) -> str:
    """The table of a group's keys, or for an empty name that of the root's own."""
    if not group:
        return "\n".join([HEAD, *(_line(name, *cells) for name, *cells in _root())])
    prefix = group.replace("/", ".")
    return "\n".join(
        [
            HEAD,
            *(
                _line(f"{prefix}.{row.name}", default_cell(row, default), row.accepted, row.meaning)
                for row in rows(group, default)
            ),
        ]
    )


def _root() -> Iterator[tuple[str, str, str, str]]:
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    for name, key in _own(CONF / "config.yaml"):
        if name.partition(".")[0] not in groups:
            yield name, key.value, key.accepted, key.meaning


def _line(*cells: str) -> str:
    name, *others = cells
    return f"| `{name}` | " + " | ".join(cell.replace("|", "\\|") for cell in others) + " |"
