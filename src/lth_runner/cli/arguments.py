"""The words behind ``lth-run``, of which options must stand in one place."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lth_runner.study.plan import quoted
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.terminal import visible

# options whose value is the next word
VALUED = {
    *("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp"),
    *("--cfg", "-c", "--package", "-p", "--experimental-rerun"),
}
OPTIONS = ("cfg", "package", "info", "run", "multirun", "resolve", "help", "version")  # of one word
DRY_RUN = "--dry-run"
LONG = {
    *(word for word in VALUED if word.startswith("--")),
    *(f"--{name}" for name in OPTIONS),
    *(DRY_RUN, "--hydra-help", "--shell-completion"),
}
OWN_FOLDER = ("--config-dir", "-cd")
# by Hydra's names: of that option, and of a folder that compose(config_dir=...) or a word names
OWN_PROVIDERS = ("command-line", "hydra.searchpath in command-line")


def refuse_misplaced(words: Sequence[str]) -> None:
    """Raises UserError for options between overrides, and for a scale before its experiment.

    And for an option that there is not, or that a terminal would act on.

    argparse, by which Hydra reads the words, takes the overrides from one place alone. What an
    experiment sets would hold over a scale that stands before it.
    """
    for is_option, (word, *_) in parted(words):
        if is_option and not word.isprintable():  # argparse would print it as it is
            raise UserError(f"there is no option {visible(word)}: lth-run --help lists them")
        if is_option and word.startswith("--"):
            _refuse_unknown(word.partition("=")[0])
    places = [is_option for is_option, _ in parted(words)]
    if True in places and False in places:
        first, last = places.index(False), len(places) - 1 - places[::-1].index(False)
        if any(places[first:last]):
            raise _misplaced("options stand before all overrides or behind them", words)
    overrides = [word for is_option, (word, *_) in parted(words) if not is_option]
    scales = [i for i, word in enumerate(overrides) if word.startswith("+scale=")]
    experiments = [i for i, word in enumerate(overrides) if word.startswith("+experiment=")]
    if scales and experiments and min(scales) < max(experiments):
        raise _misplaced(
            f"{overrides[experiments[-1]]} would hold over the {overrides[scales[0]]} before it",
            words,
        )


def _refuse_unknown(option: str) -> None:
    if any(name.startswith(option) for name in LONG):  # argparse takes the beginning of a name
        return
    if "." in option:
        key = option.removeprefix("--")
        raise UserError(f"there is no option {option}: a key is set by {key}=<value>, in one word")
    said = nearest(option, LONG)
    raise UserError(f"there is no option {option}: {said} (lth-run --help says what they do)")


def as_overrides(words: Sequence[str]) -> list[str]:
    """Takes ``--key=value`` for ``key=value``: so W&B's agent calls the program of a sweep.

    A key has no dash in it, which tells it from an option of more than one word.
    """
    return [word[2:] if _is_dashed_key(word) else word for word in words]


def _is_dashed_key(word: str) -> bool:
    found = re.fullmatch(r"--([\w./@]+)=.*", word, re.DOTALL)
    return found is not None and found[1] not in OPTIONS


def own_folders(words: Sequence[str]) -> list[Path]:
    """Lists the folders of yaml that are named on the command line."""
    found = []
    for _, (word, *value) in parted(words):
        name, _, joined = word.partition("=")
        if name in OWN_FOLDER and (value or joined):
            found.append(Path(value[0] if value else joined))
    return found


def named_folders(known: Any) -> list[Path]:
    """Lists the folders of yaml that a config was composed of besides those that ship.

    ``known``: Hydra's own config.
    """
    sources = known.runtime.config_sources
    return [Path(source.path) for source in sources if source.provider in OWN_PROVIDERS]


def in_order(words: Sequence[str]) -> list[str]:
    """Orders the words as they must stand: options, overrides, the scale."""

    def rank(part: tuple[bool, list[str]]) -> int:
        is_option, (word, *_) = part
        return 0 if is_option else 2 if word.startswith("+scale=") else 1

    return [word for _, part in sorted(parted(words), key=rank) for word in part]


def _misplaced(why: str, words: Sequence[str]) -> UserError:
    return UserError(f"{why}: write {shlex.join(['lth-run', *in_order(words)])}")


def searched(folder: str | Path | None) -> list[str]:
    """Writes a folder of the user's own yaml as an override, for ``--config-dir``."""
    if folder is None:
        return []
    return [f"hydra.searchpath=[{quoted(f'file://{Path(folder).absolute()}')}]"]


def parted(words: Sequence[str]) -> Iterator[tuple[bool, list[str]]]:
    """Yields each option, with its value, and each override; and whether it is an option."""
    left = list(words)
    while left:
        word = left.pop(0)
        is_option = word.startswith("-")
        yield is_option, [word, *([left.pop(0)] if word in VALUED and left else [])]
