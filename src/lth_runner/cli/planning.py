"""The planning of a sweep, which composes what differs before its first point starts."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, open_dict, read_write
from tqdm import tqdm


def plan(config: DictConfig, points: Sequence[Sequence[str]], loader: ConfigLoader) -> None:
    """Composes one point of each choice of options, and lets Hydra compose the rest as it goes.

    Hydra would compose them all before the first one starts, a fifth of a second each. Points that
    differ in values alone have the same keys, so that what cannot be composed shows in any one of
    them. Raises what composing raises. A launcher that runs points side by side gets them all.
    """
    known = config.hydra
    one_by_one = str(known.launcher.get("_target_", "")).endswith("BasicLauncher")
    if not one_by_one or known.sweeper.get("max_batch_size") is not None:
        return
    chooses = {word: _chooses(word, loader) for word in {w for point in points for w in point}}
    kinds = {tuple(word for word in point if chooses[word]): point for point in points}
    for point in tqdm(kinds.values(), "plan", unit="kind", leave=False, disable=None):
        loader.load_sweep_config(config, list(point))
    with read_write(known), open_dict(known):
        known.sweeper.max_batch_size = 1


def _chooses(word: str, loader: ConfigLoader) -> bool:
    """Whether an override chooses an option of a group, or takes a key away."""
    key = word.lstrip("+~").partition("=")[0]
    return word.startswith("~") or bool(loader.get_group_options(key.partition("@")[0]))
