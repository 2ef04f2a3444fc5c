"""Composing without repetitions: files read once, each choice of options composed once."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.defaults_list import DefaultsList, Overrides

from lth_runner.cli.conf_dir import conf_dir

SHIPPED = {"", "hydra.conf", str(conf_dir())}


@contextmanager
def read_once() -> Iterator[None]:
    """Reads each yaml file that ships once, and what lists it needs first.

    Where a folder of one's own takes part its files are read anew, and which file a name means is
    asked anew.
    """
    read, read_file, kept = ConfigRepository.load_config, FileConfigSource.load_config, {}

    def read_one(self: ConfigRepository, config_path: str) -> Any:
        sources = tuple(source.path for source in self.get_sources())
        return once(read, self, config_path, sources)

    def read_one_file(self: FileConfigSource, config_path: str) -> Any:
        return once(read_file, self, config_path, (self.path,))

    def once(by: Callable[..., Any], self: Any, config_path: str, sources: tuple[str, ...]) -> Any:
        if not SHIPPED.issuperset(sources):
            return by(self, config_path)
        key = by, sources, config_path
        if key not in kept:
            kept[key] = pickle.dumps(by(self, config_path))
        return pickle.loads(kept[key])

    with (
        mock.patch.object(ConfigRepository, "load_config", read_one),
        mock.patch.object(FileConfigSource, "load_config", read_one_file),
    ):
        yield


@contextmanager
def unsynced() -> Iterator[None]:
    """Waits for no disk: no test cuts the power, and what is written outlives a killed process."""
    with mock.patch.object(os, "fsync", return_value=None):
        yield


@contextmanager
def composed_once() -> Iterator[None]:
    """Composes each choice of options once; values are set on a copy, by Hydra as ever.

    Which files a config is made of follows from the options alone, and so does what they hold
    together. Where a folder of one's own takes part, all is composed anew.
    """
    choose = config_loader_impl.create_defaults_list
    put_together = ConfigLoaderImpl._compose_config_from_defaults_list
    chosen: dict[tuple[Any, ...], DefaultsList] = {}
    configs: dict[tuple[Any, ...], bytes] = {}

    def choose_once(*, repo: Any, overrides_list: list[Any], **rest: Any) -> DefaultsList:
        sources = {source.path for source in repo.get_sources()}
        values = Overrides(repo=repo, overrides_list=overrides_list).config_overrides
        options = [word for word in overrides_list if not any(word is value for value in values)]
        key = (*sorted(sources), *(word.input_line for word in options), *rest.items())
        if key not in chosen or not sources <= SHIPPED:
            chosen[key] = choose(repo=repo, overrides_list=overrides_list, **rest)
        return replace(chosen[key], config_overrides=values)

    def put_together_once(self: Any, *, defaults: list[Any], repo: Any) -> Any:
        sources = {source.path for source in repo.get_sources()}
        key = (*sorted(sources), *map(repr, defaults))
        if not sources <= SHIPPED:
            return put_together(self, defaults=defaults, repo=repo)
        if key not in configs:
            configs[key] = pickle.dumps(put_together(self, defaults=defaults, repo=repo))
        return pickle.loads(configs[key])  # a third of the time of a deep copy

    with (
        mock.patch.object(config_loader_impl, "create_defaults_list", choose_once),
        mock.patch.object(
            ConfigLoaderImpl, "_compose_config_from_defaults_list", put_together_once
        ),
    ):
        yield
