"""How long OpenMP's threads wait at a core for each other before they leave it to other work."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

SPINS, POLICY = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"
# A thread that spins keeps the core which the thread it waits for may need. GNU's library, which
# torch is built with, spins 300,000 times (docs/benchmarks.md has both counts measured).
BRIEF = "1000"
HALF_BUSY = 0.5  # of a core: what starting takes of the last minute


def wait_briefly_beside_others(environment: MutableMapping[str, str]) -> None:
    """Has threads spin briefly before they sleep where other work runs on this machine.

    Not where the environment says how long. The library reads this once, as torch is loaded: call
    it before. Results do not depend on it.
    """
    if POLICY not in environment and load() >= HALF_BUSY:
        environment.setdefault(SPINS, BRIEF)


def load() -> float:
    """Returns how many processes ran or waited for a core in the last minute, 0 where unknown."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
