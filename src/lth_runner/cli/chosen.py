"""The check of options that are chosen together in one group."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from lth_runner.cli.arguments import named_folders
from lth_runner.values.errors import UserError

SEVERAL = ("control", "probe")  # groups of which several options may be chosen


def check_chosen(known: Any) -> None:
    """Raises UserError for an option that is named twice in one place, and for none beside others.

    Composing takes the first once and lets the others add to the second. ``known``: Hydra's own
    config.
    """
    words = list(known.overrides.task)
    if not named_folders(known) and not any(map(_may_be_wrong, words)):  # what ships is right
        return
    loader = GlobalHydra.instance().config_loader()
    where = [word for word in known.overrides.hydra if word.startswith("hydra.searchpath=")]
    root = known.job.config_name or "config"
    found = loader.compute_defaults_list(root, [*where, *words], RunMode.RUN)
    chosen: dict[tuple[str, str], list[str]] = defaultdict(list)
    for default in found.defaults:
        group, _, option = (default.config_path or "").partition("/")
        parent = default.parent or ""
        if group in SEVERAL and not parent.startswith(f"{group}/"):
            chosen[group, parent].append(option)
    for (group, _), options in chosen.items():
        _check_together(group, options)


def _may_be_wrong(word: str) -> bool:
    """Whether a word may name an option twice, or none beside others.

    Names that differ, in the place of those that ship, do not; what Hydra makes of a word is not
    asked where the word itself tells, since that takes as long as composing all.
    """
    found = re.match(rf"(\+*)(?:{'|'.join(SEVERAL)})=(\[.*)", word, re.DOTALL)
    if found is None:
        return False
    names = re.fullmatch(r"\[(\w+(?:,\w+)*)\]", found[2])
    if found[1] or names is None:
        return True
    options = names[1].split(",")
    return len(options) > 1 and ("none" in options or len(set(options)) < len(options))


def _check_together(group: str, options: list[str]) -> None:
    given = f"{group}=[{','.join(options)}]"
    if twice := sorted({option for option in options if options.count(option) > 1}):
        raise UserError(f"{given} names {', '.join(twice)} twice: name each once")
    if "none" in options and len(options) > 1:
        rest = ",".join(option for option in options if option != "none")
        raise UserError(f"{given}: none stands alone: give {group}=none or {group}=[{rest}]")
