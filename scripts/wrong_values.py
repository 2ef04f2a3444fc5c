"""Every key of every option, given values of every kind: taken, or refused in one message.

    PYTHONPATH=tests python scripts/wrong_values.py                       # all: an hour
    PYTHONPATH=tests python scripts/wrong_values.py pruner/rigl dataset
    PYTHONPATH=tests python scripts/wrong_values.py pruner --whole        # runs what is taken
    PYTHONPATH=tests python scripts/wrong_values.py pruner --messages     # lists what was told

A run is followed to its first training. What is taken there may still go wrong: ``--whole`` tells.
Ends with status 1 where a value ended in anything else than a message. Settings are those of tests.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from wrong_settings import CONF, SETTINGS, files

from command import without_pictures
from composing import composed_once, read_once, unsynced
from lth_runner.cli.launch import execute
from lth_runner.cli.messages import MISTAKES

VALUES = (
    None, True, -1, 0, 1, 0.5, 1e-300, 1e300, float("inf"), float("nan"), 10**30, "", "x", "10it",
    [], [1], [-1], ["x"], {}, {"a": 1},
)  # fmt: skip
LONGEST = 60  # seconds that a run may take to its end


def keys(node: Any, path: str = "") -> Iterator[str]:
    """The dotted keys of a config, those of parts and mappings too."""
    for key, value in node.items():
        here = f"{path}.{key}" if path else str(key)
        yield here
        if isinstance(value, dict):
            yield from keys(value, here)


def composed(setting: str, folder: Path) -> DictConfig:
    words = [word.replace("{files}", str(folder)) for word in SETTINGS[setting]]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [*words, f"paths.outputs={folder}/wrong"])
    OmegaConf.set_struct(config, value=False)
    return config


def under(setting: str, config: DictConfig) -> list[str]:
    """The keys that a setting is about."""
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    if setting == "root":
        groups = {path.name for path in CONF.iterdir() if path.is_dir()}
        return list(keys({key: value for key, value in plain.items() if key not in groups}))
    group = setting.rpartition("/")[0].replace("/", ".").replace("augment", "dataset.augment")
    return [key for key in keys(plain) if key.startswith(f"{group}.")]


class _Begun(Exception):
    """The first training."""


class _Endless(Exception):
    """A run that takes too long."""


def told(config: DictConfig, *, whole: bool = False) -> tuple[str, str]:
    """Follows a run: taken, refused, or neither, and what was said."""

    def late(*_: object) -> None:
        raise _Endless

    said = io.StringIO()
    handler, before = logging.StreamHandler(said), signal.signal(signal.SIGALRM, late)
    logging.getLogger("lth_runner").addHandler(handler)
    signal.alarm(LONGEST)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(without_pictures())
            for to in (contextlib.redirect_stdout, contextlib.redirect_stderr):
                stack.enter_context(to(said))
            if not whole:
                begun = mock.patch("lth_runner.training.train.train", side_effect=_Begun)
                stack.enter_context(begun)
            execute(config, "lth-run")
    except _Begun:
        return "taken", said.getvalue()
    except MISTAKES as error:
        return "refused", str(error)
    except Exception as error:
        return "neither", f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        logging.getLogger("lth_runner").removeHandler(handler)
        shutil.rmtree(str(config.paths.outputs), ignore_errors=True)
    return "taken", said.getvalue()


def tried(setting: str, folder: Path, known: set[object]) -> Iterator[tuple[str, DictConfig]]:
    """Configs with one key each of another value; keys of parts that are ``known`` are left out."""
    config = composed(setting, folder)
    for key in under(setting, config):
        place, _, leaf = key.rpartition(".")
        part = OmegaConf.select(config, f"{place}._target_") if place else None
        what = (part or place, leaf)
        if what in known or key.startswith(("paths", "hydra")):
            continue
        known.add(what)
        for value in VALUES:
            changed = config.copy()
            OmegaConf.update(changed, key, value, merge=False)
            yield f"{key}={value!r}", changed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("settings", nargs="*", help="pruner, pruner/rigl: all by default")
    parser.add_argument("--whole", action="store_true", help="run what is taken to its end")
    parser.add_argument("--messages", action="store_true", help="list what was told")
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name, read_once(), composed_once(), unsynced():
        folder, known = Path(name), set[object]()
        files(folder)
        os.chdir(folder)  # where a cache named x comes to lie
        for setting in SETTINGS:
            chosen = {setting, setting.rpartition("/")[0], setting.split("/")[0]}
            if arguments.settings and not chosen & set(arguments.settings):
                continue
            kind, said = told(composed(setting, folder), whole=arguments.whole)
            print(f"{setting}: {kind} {said if kind != 'taken' else ''}", flush=True)
            for what, config in tried(setting, folder, known):
                kind, said = told(config)
                if kind == "taken" and arguments.whole:
                    kind, said = told(config, whole=True)
                    kind = {"refused": "refused late"}.get(kind, kind)
                counts[kind] += 1
                if kind != "refused" or arguments.messages:
                    last = "" if kind == "taken" else " ".join(said.split())
                    print(f"{setting}  {kind}  {what}  {last[:400]}", flush=True)
    print(dict(counts))
    return 1 if counts["neither"] or counts["refused late"] else 0


if __name__ == "__main__":
    sys.exit(main())
