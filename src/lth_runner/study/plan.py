"""The plan of a study: its stages in order, and the words of ``lth-run`` that each point is.

Nothing here composes or runs: a point is a list of words, in which ``${over:target}`` stands for
one of its values and ``${stage:source}`` for the run folder of the point of an earlier stage that
has the same values.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lth_runner.values.errors import UserError, nearest

_VALUE = re.compile(r"\$\{over:([^}]*)\}")
_STAGE = re.compile(r"\$\{stage:([^}]*)\}")
_PLAIN = re.compile(r"[\w./+-]+", re.ASCII)  # Hydra knows no other letters without quotes
KEYS = ("name", "group", "overrides", "settings", "stages")  # read here; others are the yaml's own
STAGE_KEYS = ("over", "overrides", "unlike", "distinct")
MOST_POINTS = 10_000

Words = tuple[str, ...]


@dataclass(frozen=True)
class Point:
    """One run of a study; ``needs`` maps each stage that its words name to the point meant.

    ``unlike`` maps a key of the config to words that it gets where the key has another value here
    than in a point that it needs.
    """

    stage: str
    values: Mapping[str, str]
    words: Words
    own: Words = ()  # typed on the command line: they hold over all others
    unlike: Mapping[str, Words] = field(default_factory=dict)
    needs: Mapping[str, Point] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Names the point in messages: 'transfer (source=mnist, target=digits)'."""
        told = ", ".join(f"{key}={value}" for key, value in self.values.items())
        return f"{self.stage} ({told})" if told else self.stage

    def spelt(self, folders: Mapping[str, str], further: Sequence[str] = ()) -> list[str]:
        """Returns the words with the folder of each stage in its place, no key twice."""
        words = (*self.words, *further, *self.own)
        return merged(_STAGE.sub(lambda match: quoted(folders[match[1]]), one) for one in words)


@dataclass(frozen=True)
class Stage:
    """Runs of a study that differ in the values of ``over``: one of each combination.

    ``distinct`` leaves out combinations that have a value twice.
    """

    name: str
    over: Mapping[str, Words]
    overrides: Words
    unlike: Mapping[str, Words]
    distinct: bool = False

    def combinations(self) -> Iterator[dict[str, str]]:
        """Yields the values of each point."""
        for chosen in itertools.product(*self.over.values()):
            if not self.distinct or len(set(chosen)) == len(chosen):
                yield dict(zip(self.over, chosen, strict=True))

    def why_none(self) -> str:
        """Says, of a stage without a point, what to change."""
        told = ", ".join(f"{key}=[{','.join(values)}]" for key, values in self.over.items())
        if all(self.over.values()):
            return f"each combination of {told} has a value twice (distinct): name another value"
        return f"give its over some values ({told})"


@dataclass(frozen=True)
class Study:
    """Stages in order; ``overrides`` are the words of every point, ``settings`` those of a value.

    A value without a setting stands for itself where it is a word ``key=value``, else for the
    option of that name of ``group``.
    """

    name: str
    overrides: Words
    settings: Mapping[str, Words]
    stages: tuple[Stage, ...]
    group: str | None = None

    @classmethod
    def read(cls, node: Mapping[str, Any]) -> Study:
        """Reads a plan out of the mapping ``study`` of a config; raises UserError."""
        stages = node.get("stages")
        if not isinstance(stages, Mapping) or not stages:
            raise UserError(f"study.stages={stages!r}: name at least one stage, with its overrides")
        return cls(
            name=_text(node.get("name"), "study.name"),
            overrides=_words(node.get("overrides"), "study.overrides"),
            settings=_words_by_name(node.get("settings"), "study.settings"),
            stages=tuple(_stage(str(name), one) for name, one in stages.items()),
            group=None if node.get("group") is None else _text(node["group"], "study.group"),
        )

    def points(self, own: Sequence[str] = (), held: Collection[str] = ()) -> list[Point]:
        """Lists all points, a stage after the other; ``own`` words hold over those of the yaml.

        ``held``: keys that an option among the ``own`` words sets, as +scale=smoke does; words of
        the yaml that set one of them are left out.
        Raises UserError for a word that names a value or a stage that is not there.
        """
        found: list[Point] = []
        for stage in self.stages:
            values = stage.combinations()
            new = [self._point(stage, one, own, held, found) for one in values]
            if not new:
                raise UserError(f"study.stages.{stage.name} has no point: {stage.why_none()}")
            found += new
            if len(found) > MOST_POINTS:
                raise UserError(f"study={self.name} has more than {MOST_POINTS} points: name fewer")
        return found

    def _point(
        self,
        stage: Stage,
        values: Mapping[str, str],
        own: Sequence[str],
        held: Collection[str],
        before: Sequence[Point],
    ) -> Point:
        words = (f"name={self.name}", *self._filled(self.overrides, stage, values))
        words += self._filled(stage.overrides, stage, values)
        words = tuple(word for word in words if _key(word) not in held)
        unlike = {
            key: self._filled(further, stage, values) for key, further in stage.unlike.items()
        }
        every = (*words, *itertools.chain(*unlike.values()), *own)
        named = dict.fromkeys(name for word in every for name in _STAGE.findall(word))
        needs = {name: _meant(name, stage, values, before) for name in named}
        return Point(stage.name, values, words, tuple(own), unlike, needs)

    def _filled(self, words: Words, stage: Stage, values: Mapping[str, str]) -> Words:
        """Puts values in their places: as a word of its own, all words of its setting."""
        found: list[str] = []
        for word in words:
            for name in _VALUE.findall(word):
                if name not in values:
                    raise UserError(
                        f"study.stages.{stage.name}: {word} names no value of its over: "
                        f"{nearest(name, values)}"
                    )
            if (whole := _VALUE.fullmatch(word)) is not None:
                found += self._setting(
                    values[whole[1]], f"study.stages.{stage.name}.over.{whole[1]}"
                )
            else:
                found.append(_VALUE.sub(lambda match: values[match[1]], word))
        return tuple(found)

    def _setting(self, value: str, where: str) -> Words:
        """Finds the words that a value stands for; raises UserError where there are none."""
        if value in self.settings:
            return self.settings[value]
        if "=" in value:
            return (value,)
        if self.group is not None:
            return (f"{self.group}={value}",)
        known = f": {nearest(value, self.settings)}" if self.settings else ""
        key = self._key_of_others(value)
        group = "or whose options such names are, +study.group=dataset; " * (key == "dataset")
        raise UserError(
            f"{where}: {value} has no setting{known}. Say what it stands for, "
            f"'+study.settings.{value}=[\"{key}={value}\"]' for example; {group}or write words, "
            f"{key}={'digits' if group else value}"
        )

    def _key_of_others(self, value: str) -> str:
        """Finds the key that a name like this one is the value of in the settings: 9 of seed."""
        for name, words in self.settings.items():
            key, _, its_value = words[0].partition("=") if len(words) == 1 else ("", "", "")
            if its_value == name and name.isdecimal() == value.isdecimal():
                return key
        return "dataset"


def _meant(name: str, stage: Stage, values: Mapping[str, str], before: Sequence[Point]) -> Point:
    """Finds the point of an earlier stage that shares all values of the keys that both have."""
    of_stage = [point for point in before if point.stage == name]
    if not of_stage:
        earlier = list(dict.fromkeys(point.stage for point in before))
        raise UserError(
            f"study.stages.{stage.name}: ${{stage:{name}}} is no earlier stage: "
            + (nearest(name, earlier) if earlier else "it is the first")
        )
    found = [p for p in of_stage if all(values.get(k, v) == v for k, v in p.values.items())]
    if len(found) != 1:
        told = " ".join(f"{key}={value}" for key, value in values.items()) or "no value"
        keys = " and ".join(of_stage[0].values)
        raise UserError(
            f"study.stages.{stage.name}: ${{stage:{name}}} stands for {len(found)} points at "
            f"{told}: stage {name} goes over {keys}; name in {stage.name}.over the same keys, and "
            "values of theirs"
        )
    return found[0]


def merged(words: Any) -> list[str]:
    """Leaves out words whose key a later word sets again."""
    last: dict[str, str] = {}
    for word in words:
        key = _key(word)
        last.pop(key, None)
        last[key] = word
    return list(last.values())


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+")


def quoted(text: str) -> str:
    """Writes a text as the value of a word, in quotes where it has other than plain letters.

    As Hydra reads quotes, a backslash stands for itself but before a quote or at the end.
    """
    if _PLAIN.fullmatch(text):
        return text
    escaped = re.sub(r"(\\+)(?='|\Z)", r"\1\1", text).replace("'", r"\'")
    return f"'{escaped}'"


def own_words(words: Sequence[str]) -> list[str]:
    """Returns the words of a command but for those that choose or change the study."""
    keys = [word.lstrip("+~").partition("=")[0].partition("@")[0] for word in words]
    return [
        word
        for word, key in zip(words, keys, strict=True)
        if key != "study" and not key.startswith("study.")
    ]


def _stage(name: str, node: Any) -> Stage:
    where = f"study.stages.{name}"
    if not re.fullmatch(r"[\w-]+", name):
        raise UserError(f"{where}: name a stage by letters, digits, _ and -")
    if not isinstance(node, Mapping):
        raise UserError(f"{where}={node!r} is no mapping of {', '.join(STAGE_KEYS)}")
    for key in map(str, node):
        if key not in STAGE_KEYS:
            raise UserError(f"{where}.{key} is used by nothing: {nearest(key, STAGE_KEYS)}")
    over = {}
    for key, found in _mapping(node.get("over"), f"{where}.over").items():
        chosen = _words(found, f"{where}.over.{key}")
        if twice := sorted({value for value in chosen if chosen.count(value) > 1}):
            raise UserError(f"{where}.over.{key} names {', '.join(twice)} twice: name each once")
        over[key] = chosen
    if not isinstance(distinct := node.get("distinct", False), bool):
        raise UserError(f"{where}.distinct={distinct!r}: give true or false")
    return Stage(
        name,
        over,
        _words(node.get("overrides"), f"{where}.overrides"),
        _words_by_name(node.get("unlike"), f"{where}.unlike"),
        distinct,
    )


def _mapping(node: Any, where: str) -> dict[str, Any]:
    if node is None:
        return {}
    if not isinstance(node, Mapping):
        raise UserError(f"{where}={node!r} is no mapping of names")
    return {str(key): value for key, value in node.items()}


def _words_by_name(node: Any, where: str) -> dict[str, Words]:
    return {key: _words(one, f"{where}.{key}") for key, one in _mapping(node, where).items()}


def _words(node: Any, where: str) -> Words:
    """Reads a word or a list of them; raises UserError for anything else."""
    if node is None:
        return ()
    listed = node if isinstance(node, (list, tuple)) else [node]
    if any(isinstance(one, (Mapping, list, tuple, bool)) or one is None for one in listed):
        raise UserError(
            f"{where}={node!r}: give a word as it stands behind lth-run, or a list of them, each "
            "in quotes"
        )
    return tuple(map(str, listed))


def _text(node: Any, where: str) -> str:
    if not isinstance(node, str) or not node:
        raise UserError(f"{where}={node!r}: give a name")
    return node
