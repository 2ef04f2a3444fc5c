"""How long a sweep will still take goes by the points that it has trained itself."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from lth_runner.runs.sweep_folder import write_points
from lth_runner.runs.sweep_time import sweep_line

NOW = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def told(tmp_path, number, written_before):
    """What a sweep of eight points says that began ten minutes ago, its runs written so then."""
    folder = tmp_path / "sweeps" / "one"
    folder.mkdir(parents=True)
    began = (NOW - timedelta(minutes=10)).isoformat()
    write_points(folder, [f"lth-run seed={n}" for n in range(8)], {"started": began})
    for index, minutes in enumerate(written_before):
        run = tmp_path / "small" / str(index)
        run.mkdir(parents=True)
        (run / "status.json").write_text("{}")
        when = (NOW - timedelta(minutes=minutes)).timestamp()
        os.utime(run / "status.json", (when, when))
    return sweep_line(folder, tmp_path, number, NOW)


def test_points_of_before_do_not_make_the_others_look_quick(tmp_path):
    expected = "sweep    4 of 8 points passed, about 20 min left"
    assert told(tmp_path, 4, [90, 90, 6, 1]) == expected


def test_nothing_is_told_before_there_is_something_to_go_by(tmp_path):
    assert told(tmp_path / "first", 0, []) is None
    assert told(tmp_path / "none", 3, [90, 90, 90]) is None
