"""What the benchmarks time by name is there, and a stretched run has the evaluations it says."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def shares(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    import shares

    return shares


def test_every_part_of_a_run_that_is_timed_is_there(shares):
    assert all(callable(getattr(owner, name)) for owner, name, _ in shares.PARTS)


def test_what_is_timed_within_another_part_belongs_to_that(shares):
    times = iter([0.0, 5.0, 7.0, 8.0])
    found = shares.Shares(lambda: next(times))
    inner = found.timed("inner", lambda: None)
    found.timed("outer", inner)()
    inner()
    assert found.seconds == {"outer": 5.0, "inner": 1.0}


def test_the_last_step_is_an_evaluation_too(shares):
    assert shares.num_looks("100it", 1000) == 10
    assert shares.num_looks("300it", 1000) == 4
    assert shares.num_looks("100it+50%", 1000) == 6  # 100, 200, 300, 450, 675 and 1000
