"""How long threads wait for each other before they leave a core to other work."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lth_runner.values import spinning
from lth_runner.values.spinning import BRIEF, POLICY, SPINS, wait_briefly_beside_others


@pytest.mark.parametrize(("load", "said"), [(0.0, {}), (0.49, {}), (1.0, {SPINS: BRIEF})])
def test_threads_spin_briefly_where_other_work_runs(monkeypatch, load, said) -> None:
    monkeypatch.setattr(spinning, "load", lambda: load)
    environment: dict[str, str] = {}
    wait_briefly_beside_others(environment)
    assert environment == said


@pytest.mark.parametrize("given", [{SPINS: "7"}, {POLICY: "ACTIVE"}])
def test_what_the_environment_says_of_waiting_stays(monkeypatch, given) -> None:
    monkeypatch.setattr(spinning, "load", lambda: 9.0)
    environment = dict(given)
    wait_briefly_beside_others(environment)
    assert environment == given


@pytest.mark.skipif(sys.platform != "linux", reason="the library read here is that of Linux")
def test_the_command_line_has_openmp_read_it() -> None:
    """libgomp prints what it read, as torch loads it, after the command line has begun."""
    environment = {key: value for key, value in os.environ.items() if key not in (SPINS, POLICY)}
    code = "import os, sys; os.getloadavg = lambda: (1.0, 1.0, 1.0); "
    code += "sys.argv[1:] = ['--cfg', 'job']; from lth_runner.cli.main import main; main(); "
    code += "import torch"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"OMP_DISPLAY_ENV": "VERBOSE"}, capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    spins = [line.split("'")[1] for line in found.stderr.splitlines() if SPINS in line]
    assert set(spins) == {BRIEF}
