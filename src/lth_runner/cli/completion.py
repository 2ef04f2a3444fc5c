"""What a shell asks for when Tab is pressed, where Hydra, which completes, cannot answer."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from lth_runner.cli.arguments import DRY_RUN, LONG


def completes_option(words: Sequence[str]) -> bool:
    """Answers a shell that asks for an option; else leaves Hydra a line that it knows.

    A shell asks by ``query=`` among the words. ``COMP_LINE`` is the line, ``COMP_POINT`` where its
    cursor is; a command that is run where another line is completed has them too.
    """
    if not any(word.startswith("query=") for word in words):
        return False
    line = os.environ.get("COMP_LINE", "")
    before = line[: int(os.environ.get("COMP_POINT", len(line)))]
    word = before.rpartition(" ")[2]
    if word.startswith("-"):
        print(" ".join(sorted(option for option in LONG if option.startswith(word))))
        return True
    if line:
        point = len(_without_dry_run(before))
        os.environ |= {"COMP_LINE": _without_dry_run(line), "COMP_POINT": str(point)}
    return False


def _without_dry_run(line: str) -> str:
    """Takes out the one option that is not Hydra's."""
    return re.sub(rf"(?<=\s){DRY_RUN}(\s+|$)", "", line)
