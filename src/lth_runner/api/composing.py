"""``lth_runner.compose``: words as behind ``lth-run``, to a config that is ready to be run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra import compose as compose_by_hydra
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf

from lth_runner.api.borrowed import COMPOSING, known_to_hydra
from lth_runner.cli.arguments import OWN_FOLDER, refuse_misplaced, searched
from lth_runner.cli.composed import Composed, composed
from lth_runner.cli.conf_dir import conf_dir
from lth_runner.cli.hydra_config import without_hydra
from lth_runner.cli.messages import explain
from lth_runner.values.errors import UserError


def compose(*words: str, config_dir: str | Path | None = None, **keys: Any) -> Composed:
    """Composes the config of one run from the words that ``lth-run`` would be given.

    ``compose("dataset=digits28", "seed=1")`` is what ``lth-run dataset=digits28 seed=1`` would run;
    ``config_dir`` is its ``--config-dir``. Nothing is built or trained: ``run`` takes the result.
    Its ``config`` can be read and not changed, since the words are what names and continues a run.
    Raises UserError for what the command line refuses with one message, for its options, and for
    a sweep or a study, which are several runs.
    """
    refuse_keys("compose", keys)
    _refuse_options(words)
    refuse_misplaced(words)
    _refuse_sweep(words)
    folder = None if config_dir is None else _existing(config_dir)
    with COMPOSING, _own_hydra():
        try:
            whole = compose_by_hydra(
                "config", [*searched(folder), *words], return_hydra_config=True
            )
            return _taken(whole, words)
        except UserError:
            raise
        except Exception as error:  # what Hydra cannot compose is the words' or a yaml's
            raise UserError(explain(error, conf_dir(), _as_command(words, folder))) from error


def _taken(whole: DictConfig, words: Sequence[str]) -> Composed:
    known = whole.hydra
    if known.mode == RunMode.MULTIRUN:
        raise _several("a sweep", words)
    if "study" in whole:
        raise _several("a study", words)
    config = without_hydra(whole)
    with known_to_hydra(whole):
        one = composed(config, known)
    OmegaConf.set_readonly(config, True)  # noqa: FBT003 (OmegaConf's own signature)
    return replace(one, whole=whole)


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Lends Hydra's global state to one composition, and puts back what was there before."""
    Plugins.instance()
    held, base, runtime = GlobalHydra.instance(), VersionBase.instance(), JobRuntime.instance()
    before = held.hydra, base.version_base, runtime.get("name")
    held.clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
            yield
    finally:
        GlobalHydra.set_instance(held)
        held.hydra, base.version_base = before[:2]
        runtime.set("name", before[2])


def refuse_keys(call: str, keys: Mapping[str, Any]) -> None:
    """Raises UserError for keys of a config that are given as Python's own, with the call meant."""
    if keys:
        words = ", ".join(repr(f"{key}={value}") for key, value in keys.items())
        raise UserError(
            f"{call}({', '.join(f'{key}=...' for key in keys)}): keys of the config are words, as "
            f"behind lth-run: {call}({words})"
        )


def _existing(folder: str | Path) -> Path:
    if not isinstance(folder, (str, Path)):
        raise UserError(f"config_dir={folder!r}: give the path of a folder with yaml of your own")
    found = Path(folder).absolute()
    if not found.is_dir():
        raise UserError(f"config_dir={str(folder)!r} is no folder: give one with yaml of your own")
    return found


def _refuse_options(words: Sequence[str]) -> None:
    for word in words:
        if not isinstance(word, str):
            raise UserError(
                f"{word!r} is no word: give text as behind lth-run, such as 'pruner.sparsity=0.9'"
            )
        parts = word.split()
        if len(parts) > 1 and all("=" in part for part in parts):
            raise UserError(
                f"{word!r} is several words in one text: give each by itself, "
                f"run({', '.join(map(repr, parts))})"
            )
        if word in ("-m", "--multirun"):
            raise _several("a sweep", words)
        if word.partition("=")[0] in OWN_FOLDER:
            raise UserError(f"{word}: a folder of yaml is config_dir=... here, beside the words")
        if word.startswith("-"):
            raise UserError(f"{word} is an option of the command line, which takes no part here")


def _refuse_sweep(words: Sequence[str]) -> None:
    try:
        parsed = OverridesParser.create().parse_overrides(list(words))
    except HydraException:
        return  # which composing meets again and tells
    if swept := [one.input_line for one in parsed if one.is_sweep_override()]:
        raise _several(f"{', '.join(map(str, swept))}: a sweep", words)


def _several(what: str, words: Sequence[str]) -> UserError:
    options = [] if "study" in what or "-m" in words else ["-m"]
    line = shlex.join(["lth-run", *options, *words])
    return UserError(
        f"{what} is several runs, and a call is one: call run(...) for each in a loop, which "
        f"shares trainings as a sweep does, or give the command line {line}; a list has "
        "brackets, key=[a,b]"
    )


def _as_command(words: Sequence[str], folder: Path | None) -> list[str]:
    return [*words, *([f"--config-dir={folder}"] if folder is not None else [])]
