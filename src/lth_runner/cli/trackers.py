"""The trackers that a config names, beside the files that are always written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lth_runner.parts.make import make
from lth_runner.parts.seams import check_members
from lth_runner.runs.record import NeverFatal, Sink


def trackers(values: Mapping[str, Any]) -> list[Sink]:
    """Builds the sinks of a config's ``record``, of which none ends a training.

    Raises UserError for one that cannot be built, as where its library is not installed.
    """
    found: list[Sink] = []
    for name, node in values["record"].items():
        made = make(node)
        check_members(f"record.{name}", made, Sink)
        found.append(NeverFatal(made, name))
    return found
