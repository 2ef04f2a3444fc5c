"""What a study's config asks for, and whether every point of it can be composed and built."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from lth_runner.cli.check import check
from lth_runner.cli.foresee import foresee
from lth_runner.cli.hydra_config import without_hydra
from lth_runner.cli.messages import dotted
from lth_runner.runs.awaited import AwaitedRun
from lth_runner.study.plan import KEYS, Point, Study
from lth_runner.values.errors import UserError, nearest

_OWN = re.compile(r"\$\{study\.([\w.]+)\}")
_USED = re.compile(r"\$\{study\.([^}.$\[]+)")
DEEPEST = 8  # names of names
LATER = "a-run-of-the-stage"  # stands for a run folder that is not there yet


@dataclass(frozen=True)
class Planned:
    """A point whose words compose: ``further`` are those that it gets where keys are unlike."""

    point: Point
    further: tuple[str, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """Tells the point from others before it is known what it needs."""
        needs = {name: need.label for name, need in self.point.needs.items()}
        return tuple(self.words(needs))

    def words(self, folders: Mapping[str, str]) -> list[str]:
        """Returns the words of a run of its own."""
        return self.point.spelt(folders, self.further)


def set_by_scale(own: Sequence[str], loader: ConfigLoader) -> set[str]:
    """Lists the dotted keys that the options of +scale= among some words set."""
    found: set[str] = set()
    for word in own:
        group, _, option = word.lstrip("+").partition("=")
        folders = [entry.path for entry in loader.get_search_path().get_path() if entry.path]
        for folder in folders if group == "scale" else ():
            file = Path(str(folder).removeprefix("file://"), group, f"{option}.yaml")
            if file.is_file():
                found |= set(dotted(OmegaConf.to_container(OmegaConf.load(file), resolve=False)))
    return {key for key in found if not any(other.startswith(f"{key}.") for other in found)}


def read_study(study: Any) -> Study:
    """Reads the plan out of a config's ``study``, ``${study.x}`` looked up in it."""
    if not isinstance(study, DictConfig):
        raise UserError(f"study={study}: choose a study by +study=<name>")
    written = str(OmegaConf.to_container(study, resolve=False))
    used = {name.partition(".")[0] for name in _USED.findall(written)}
    for key in map(str, study):
        if key not in KEYS and key not in used:
            known = {*KEYS, *map(str, study)} - {key}
            raise UserError(f"study.{key} is used by nothing: {nearest(key, known)}")
    found = _looked_up(OmegaConf.to_container(study, resolve=False), study, 0)
    return Study.read(found)


def _looked_up(value: Any, study: DictConfig, depth: int) -> Any:
    """Puts what ``${study.x}`` names in its place; in a list, the parts of another list."""
    if isinstance(value, dict):
        return {key: _looked_up(one, study, depth) for key, one in value.items()}
    if isinstance(value, list):
        parts = [(one, _looked_up(one, study, depth)) for one in value]
        return [
            part
            for one, found in parts
            for part in (found if isinstance(found, list) and isinstance(one, str) else [found])
        ]
    match = _OWN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    found = OmegaConf.select(study, match[1], throw_on_resolution_failure=False)
    if found is None or depth > DEEPEST:
        raise UserError(f"{value}: study.{match[1]} is not there, or names itself")
    plain = OmegaConf.to_container(found, resolve=False) if OmegaConf.is_config(found) else found
    return _looked_up(plain, study, depth + 1)


def plan_points(points: Sequence[Point], master: DictConfig, loader: ConfigLoader) -> list[Planned]:
    """Composes, checks and tries to build every point; raises what any of them raises."""
    configs: dict[int, DictConfig] = {}
    known: dict[int, AwaitedRun | None] = {}
    tried: dict[tuple[object, ...], tuple[DictConfig, tuple[str, ...], AwaitedRun | None]] = {}
    found = []
    for point in tqdm(points, "plan", unit="point", leave=False, disable=None):
        later = {name: f"{LATER}-{name}" for name in point.needs}
        try:
            words = point.spelt(later)
            # the same words may need other points, to which other keys are unlike
            key = (*words, *(id(need) for need in point.needs.values()))
            if key not in tried:
                composed = loader.load_sweep_config(master, words)
                needed = [configs[id(need)] for need in point.needs.values()]
                if further := _further(point, composed, needed):
                    words = point.spelt(later, further)
                    composed = loader.load_sweep_config(master, words)
                awaited = {later[name]: known[id(need)] for name, need in point.needs.items()}
                tried[key] = composed, further, _try(point, composed, awaited)
            configs[id(point)], further, known[id(point)] = tried[key]
        except UserError as error:
            raise UserError(f"{point.label}: {error}") from error
        found.append(Planned(point, further))
    return found


def _further(point: Point, composed: DictConfig, needed: Sequence[DictConfig]) -> tuple[str, ...]:
    """Lists the words that a point gets where a key's value is another in a point it needs."""
    found: list[str] = []
    for key, words in point.unlike.items():
        values = [OmegaConf.select(one, key) for one in (composed, *needed)]
        if any(value != values[0] for value in values):
            found += words
    return tuple(found)


def _try(
    point: Point, composed: DictConfig, awaited: Mapping[str, AwaitedRun | None]
) -> AwaitedRun | None:
    """Checks a point, and builds its parts but for those that name a run that is not there yet."""
    return foresee(check(without_hydra(composed)), point.label, awaited)
