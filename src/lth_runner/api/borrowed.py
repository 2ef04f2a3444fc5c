"""The state of a process that a run sets for itself, and that its caller gets back."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from omegaconf import DictConfig

from lth_runner.cli.hydra_config import looked_into
from lth_runner.cli.log_lines import Lines
from lth_runner.values.cublas import WORKSPACE, fix_workspace
from lth_runner.values.search_path import user_code_last

PROGRAM = "lth_runner"  # whose log records a run's lines are
_RUNNING = threading.RLock()  # threads, arithmetic and environment are one for the whole process
COMPOSING = threading.RLock()  # and so is what Hydra composes by
log = logging.getLogger(__name__)


@contextmanager
def alone_in_process() -> Iterator[None]:
    """Holds this process against other runs in it, which wait: they would share its settings."""
    if not _RUNNING.acquire(blocking=False):
        log.info("waits    for another run in this process")
        _RUNNING.acquire()
    try:
        yield
    finally:
        _RUNNING.release()


@contextmanager
def as_before() -> Iterator[None]:
    """Puts back, at the end, what ``lth-run`` sets for its process.

    That is Torch's threads and arithmetic, the environment, and where modules are found.
    """
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        with _environment(), importable():
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warns_only)
        torch.set_num_threads(threads)


@contextmanager
def known_to_hydra(whole: DictConfig | None) -> Iterator[None]:
    """Lets ``${hydra:...}`` in a config look into Hydra's own, which was composed with it."""
    with COMPOSING, looked_into(whole):
        yield


@contextmanager
def importable() -> Iterator[None]:
    """Lets modules of the working folder be imported, as ``lth-run`` does, until the block ends."""
    path = list(sys.path)
    user_code_last()
    try:
        yield
    finally:
        sys.path[:] = path


@contextmanager
def _environment() -> Iterator[None]:
    before = os.environ.get(WORKSPACE)
    fix_workspace()
    if before is None and torch.cuda.is_initialized():
        log.warning(
            "warning: CUDA is in use by this process already: set %s=%s before its first product "
            "there, or figures may differ in their last digits from one run to the next",
            WORKSPACE, os.environ[WORKSPACE],
        )  # fmt: skip
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(WORKSPACE, None)


@contextmanager
def lines_shown() -> Iterator[None]:
    """Prints the program's log records as ``lth-run`` does, whatever the caller's logging is."""
    logger = logging.getLogger(PROGRAM)
    before = logger.level, logger.propagate
    lines = Lines()
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # else a caller who logs to the screen reads each twice
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.setLevel(before[0])
        logger.propagate = before[1]
