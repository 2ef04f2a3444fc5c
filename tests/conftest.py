"""What makes the whole suite quick: its order, a heap not looked over, options composed once."""

from __future__ import annotations

import gc
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from composing import composed_once, read_once, unsynced

# those that wait for processes, then by processor time: whichever of two processes is done first
# has short files left to go on with
LONGEST_FIRST = (
    "test_sharing", "test_kill", "test_experiments_smoke", "test_conf", "test_cli",
    "test_signatures", "test_pruners", "test_readme", "test_record", "test_wrong_problems",
    "test_graphed", "test_packed", "test_report", "test_study", "test_hugging_face",
    "test_own_problem", "test_models", "test_unchanged", "test_dynamic", "test_strong",
    "test_results", "test_sweep_report", "test_random_data", "test_moving_masks_end",
    "test_expand_sweep", "test_export", "test_given", "test_shrink", "test_wandb",
    "test_transfer_report", "test_probes_documented", "test_own_parts", "test_retention",
)  # fmt: skip

MANY_FILES = 10

# read as torch is loaded, by the processes of the suite and by those that tests start: two of them
# with as many threads each as there are cores wait most of the time for each other's
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))  # within a file as written


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the collector would look it all over, in every test again."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says which files took longest, where many ran."""
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.nodeid.partition("::")[0]] += report.duration
    if len(seconds) > MANY_FILES:
        told = ", ".join(f"{Path(name).stem} {t:.0f}" for name, t in seconds.most_common(10))
        terminalreporter.write_line(f"longest of {len(seconds)} files, seconds: {told}")


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Started with `&` or nohup, the tests and what they start would ignore Ctrl-C or hang-ups."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler),
                          (signal.SIGHUP, signal.SIG_DFL)):  # fmt: skip
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(scope="session", autouse=True)
def composed_quickly() -> Iterator[None]:
    """The same options are composed thousands of times: each choice of them is, once."""
    with read_once(), composed_once(), unsynced():
        yield
