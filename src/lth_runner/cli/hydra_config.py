"""Hydra's own config, which is composed beside a run's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict, read_write


def without_hydra(whole: DictConfig) -> DictConfig:
    """Copies what was composed, but for Hydra's own part."""
    config = whole.copy()
    with read_write(config), open_dict(config):
        del config["hydra"]
    return config


@contextmanager
def looked_into(whole: DictConfig | None) -> Iterator[None]:
    """Lets ``${hydra:...}`` in a config look into Hydra's own, which was composed with it."""
    known = HydraConfig.instance()
    before = known.cfg
    if whole is not None:
        known.set_config(whole)
    try:
        yield
    finally:
        known.cfg = before
