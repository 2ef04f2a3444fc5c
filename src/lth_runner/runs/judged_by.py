"""What a finished run is judged by, which a later command may change without a training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lth_runner.runs.folder import CONFIG, checked_mapping, read_status, write_config, write_status
from lth_runner.runs.seal import FILES, Seal

REPORT = "report"  # the section of the config that verdicts go by, and nothing else does


def changed(folder: Path, report: Mapping[str, Any]) -> list[str]:
    """Lists how these keys differ from what a run is judged by: 'report.samples: drawn -> fixed'.

    Raises UserError for a config that cannot be read.
    """
    before = _report(checked_mapping(folder / CONFIG))
    return [
        f"{REPORT}.{key}: {_text(before.get(key))} -> {_text(value)}"
        for key, value in report.items()
        if before.get(key) != value
    ]


def is_half_judged(folder: Path) -> bool:
    """Whether ``judge_by`` was killed before its status vouched for the config again."""
    files = read_status(folder).get(FILES)
    return isinstance(files, Mapping) and CONFIG not in files


def judge_by(folder: Path, report: Mapping[str, Any], command: str) -> None:
    """Makes these keys and this command those of a finished run.

    Whenever the process is killed, the run's files are what its status vouches for: while the
    config is replaced, the status vouches for the others alone.
    """
    config, status = checked_mapping(folder / CONFIG), read_status(folder)
    files = status.get(FILES)
    if isinstance(files, Mapping):  # an earlier version vouches for none
        rest = {name: facts for name, facts in files.items() if name != CONFIG}
        write_status(folder, {**status, FILES: rest})
    write_config(folder, {**config, REPORT: {**_report(config), **report}})
    if isinstance(files, Mapping):
        status[FILES] = {**files, CONFIG: Seal.of(folder / CONFIG).facts}
    write_status(folder, {**status, "command": command})


def _report(config: Mapping[str, Any]) -> Mapping[str, Any]:
    found = config.get(REPORT)
    return found if isinstance(found, Mapping) else {}


def _text(value: object) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
