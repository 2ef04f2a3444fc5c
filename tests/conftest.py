"""What makes the whole suite quick: its order, a heap that is not looked over, files read once."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from omegaconf import OmegaConf

LONGEST_FIRST = (
    "test_sharing", "test_kill", "test_experiments_smoke", "test_cli", "test_readme", "test_conf",
    "test_pruners", "test_wandb", "test_report", "test_signatures", "test_probes_documented",
    "test_dynamic", "test_sweep_report",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))  # within a file as written


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the collector would look it all over, in every test again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def read_once() -> Iterator[None]:
    """The same yaml files are composed thousands of times: each is parsed once."""
    load, parsed = OmegaConf.load, {}

    def load_once(source: Any) -> Any:
        if not isinstance(source, str | os.PathLike):
            return load(source)
        facts = Path(source).stat()
        key = str(source), facts.st_ino, facts.st_mtime_ns, facts.st_size
        if key not in parsed:
            parsed[key] = OmegaConf.to_container(load(source))
        return OmegaConf.create(parsed[key])

    with mock.patch.object(OmegaConf, "load", load_once):
        yield
