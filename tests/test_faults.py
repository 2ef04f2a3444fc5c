"""The campaign of faults finds what it is made to find, and nothing in the program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from command import environ

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
from full_disk import Disk  # noqa: E402 (a script's own module)


def test_a_disk_is_full_from_the_operation_on_that_it_is_told(tmp_path):
    from lth_runner.values.files import write_whole

    with Disk(tmp_path, 1000) as counting:
        write_whole(tmp_path / "whole", b"content")
    assert counting.count == 4  # made, written, waited for, renamed
    for number in range(counting.count):
        with Disk(tmp_path, number), pytest.raises(OSError, match="No space left"):
            write_whole(tmp_path / f"file-{number}", b"content")
        assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    with Disk(tmp_path / "elsewhere", 0):
        write_whole(tmp_path / "whole", b"other")
    assert (tmp_path / "whole").read_bytes() == b"other"


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [("kills", "--num", "40"), ("damage", "--seconds", "120"), ("disk", "--seconds", "120")],
)
def test_faults_change_lose_and_leave_nothing(tmp_path, words):
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "faults.py"), *words],
        cwd=tmp_path,
        env=environ(),
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 with consequences" in done.stdout
