"""The planning of a sweep, which composes what differs before its first point starts."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Iterator, Sequence
from itertools import islice

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, open_dict, read_write
from tqdm import tqdm

from lth_runner.cli.hydra_config import looked_into, without_hydra
from lth_runner.values.errors import UserError
from lth_runner.values.terminal import show

MOST_TRIED = 16  # points whose values are looked at, a fifth of a second each


def plan(config: DictConfig, points: Sequence[Sequence[str]], loader: ConfigLoader) -> None:
    """Composes one point of each choice of options, and lets Hydra compose the rest as it goes.

    Hydra would compose them all before the first one starts, a fifth of a second each. Points that
    differ in values alone have the same keys, so that what cannot be composed shows in any one of
    them. Raises what composing raises. Warns of points whose values are refused, seen in as few as
    have each value once, up to ``MOST_TRIED``: the first trainings may take hours. A launcher that
    runs points side by side gets them all.
    """
    known = config.hydra
    one_by_one = str(known.launcher.get("_target_", "")).endswith("BasicLauncher")
    if not one_by_one or known.sweeper.get("max_batch_size") is not None:
        return
    chooses = {word: _chooses(word, loader) for word in {w for point in points for w in point}}
    kinds = {tuple(word for word in point if chooses[word]): point for point in points}
    first = list(kinds.values())
    tried = [*first, *islice(_covering(points, first), max(0, MOST_TRIED - len(first)))]
    refused = dict[int, str]()
    for point in tqdm(tried, "plan", unit="point", leave=False, disable=None):
        if told := _refusal(loader.load_sweep_config(config, list(point))):
            refused[points.index(point)] = told
    shared = set(points[0]).intersection(*points)
    for index, told in sorted(refused.items()):
        own = shlex.join(word for word in points[index] if word not in shared)
        place = f"point {index + 1} of {len(points)} ({own})"
        show(f"warning: {place} will be refused: {told}", sys.stderr)
    with read_write(known), open_dict(known):
        known.sweeper.max_batch_size = 1


def _chooses(word: str, loader: ConfigLoader) -> bool:
    """Whether an override chooses an option of a group, or takes a key away."""
    key = word.lstrip("+~").partition("=")[0]
    return word.startswith("~") or bool(loader.get_group_options(key.partition("@")[0]))


def _covering(
    points: Sequence[Sequence[str]], taken: Sequence[Sequence[str]]
) -> Iterator[Sequence[str]]:
    """Goes through few points that have each word which no point of ``taken`` has."""
    left = {word for point in points for word in point}.difference(*taken)
    while left:
        best = max(points, key=lambda point: len(left.intersection(point)))
        yield best
        left.difference_update(best)


def _refusal(whole: DictConfig) -> str:
    """Says why a point is refused for its values, before data are read; empty where it is not."""
    from lth_runner.cli.build import try_parts  # with torch
    from lth_runner.cli.check import check
    from lth_runner.cli.loading import untold

    try:
        with looked_into(whole), untold(logging.ERROR):  # a point that runs tells its warnings
            try_parts(check(without_hydra(whole)))
    except UserError as error:
        return str(error)
    return ""
