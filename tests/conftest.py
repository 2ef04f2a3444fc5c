"""The order of the files, those that take longest first, and a heap that is not looked over."""

from __future__ import annotations

import gc

import pytest

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
