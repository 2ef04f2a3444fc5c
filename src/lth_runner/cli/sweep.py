"""A sweep, whose points are written down before the first one starts, so that none goes missing."""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import re
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lth_runner.cli.arguments import named_folders
from lth_runner.cli.ending import EXIT_DIVERGED, EXIT_USER
from lth_runner.cli.planning import plan
from lth_runner.runs.folder import DIVERGED, STATUS, read_status
from lth_runner.runs.status.sweeps import meaning
from lth_runner.runs.sweep_folder import (
    LEASE,
    add_failure,
    read_failures,
    read_owner,
    read_points,
    write_points,
)
from lth_runner.values.errors import UserError
from lth_runner.values.terminal import show

if TYPE_CHECKING:
    from lth_runner.store.lease import Lease

ROOT_NAME = "digits_imp"  # conf/config.yaml's, and what it chooses
ROOT_CHOICES = MappingProxyType({"model": "lenet300", "dataset": "digits", "pruner": "imp"})


def points(
    arguments: Sequence[str], parameters: Mapping[str, Any], loader: ConfigLoader | None = None
) -> list[list[str]]:
    """Lists the overrides of each point, in the order in which Hydra's sweeper takes them.

    They are the product of all that is swept over, on the command line or in a yaml's
    ``hydra.sweeper.params``. ``loader`` knows the options that glob(*) stands for. Raises
    UserError for a range without steps, as ``interval`` is, of which there is no product.
    """
    described = [f"{key}={value}" for key, value in parameters.items()]
    values: dict[str, list[str]] = {}
    for one in OverridesParser.create(loader).parse_overrides([*described, *arguments]):
        if one.is_sweep_override() and not one.is_discrete_sweep():
            raise UserError(f"{one.input_line} has no list of values: a sweep takes a,b or range()")
        found = (
            list(one.sweep_string_iterator())
            if one.is_sweep_override()
            else [one.get_value_element_as_str()]
        )
        values[one.get_key_element()] = found
    return [
        [f"{key}={value}" for key, value in zip(values, chosen, strict=True)]
        for chosen in itertools.product(*values.values())
    ]


def with_snapshots(described: Sequence[Sequence[str]], kept: Sequence[str]) -> list[list[str]]:
    """Gives points that rewind to different steps all of these among ``train.snapshots``.

    The dense training that the points share then keeps what they all go back to, and nothing is
    run again for it. Snapshots change no result and no run's name. ``kept``: what the config
    names already; a sweep whose words say themselves what is kept is left as it is.
    """
    steps = dict.fromkeys(
        word.partition("=")[2]
        for point in described
        for word in point
        if word.lstrip("+").startswith("rewind.step=")
    )
    asked = any(_is_snapshots(word) for point in described for word in point)
    if asked or len(steps) < 2:
        return [list(point) for point in described]
    word = f"train.snapshots=[{','.join(dict.fromkeys([*map(str, kept), *steps]))}]"
    return [[*point, word] for point in described]


def snapshots(known: Any, kept: Sequence[str]) -> list[str]:
    """Lists a point's snapshots of the dense training: as written down, or else its config's."""
    described = _commands(known)
    number = int(known.job.num)
    words = shlex.split(described[number]) if number < len(described) else []
    for parsed in OverridesParser.create().parse_overrides([w for w in words if _is_snapshots(w)]):
        steps = parsed.value()
        return [str(step) for step in (steps if isinstance(steps, list) else [steps])]
    return list(kept)


def _is_snapshots(word: str) -> bool:
    return word.lstrip("+").startswith("train.snapshots=")


class Describe(Callback):
    """Holds the sweep's folder against others, and writes down in it what is to be run.

    That is ``points.jsonl`` and ``sweep.json``, before the first point starts.
    """

    def __init__(self) -> None:
        self._lease: Lease | None = None

    def __reduce__(self) -> tuple[type[Describe], tuple[()]]:
        return Describe, ()  # a launcher takes it to other processes, which hold nothing

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Takes the sweep's folder and writes its points down; exits where another sweep is in it.

        Hydra turns exceptions of a callback into warnings.
        """
        folder = _folder(config.hydra)
        self._lease = hold(folder)
        if self._lease is None or not has_grid(config.hydra):
            return
        sweeper = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
        assert isinstance(sweeper, dict)
        typed = config.hydra.overrides
        loader = GlobalHydra.instance().config_loader()
        try:
            described = points(typed.task, sweeper.get("params") or {}, loader)
        except (UserError, HydraException):
            return  # which the sweeper tells, too
        described = with_snapshots(described, config.train.snapshots)
        commands = [command(config.hydra, point) for point in described]
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        owner = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": started,
            "command": command(config.hydra, as_typed(typed.hydra, typed.task)),
        }
        with suppress(OSError):  # likewise
            write_points(folder, commands, owner)
        with suppress(HydraException, OmegaConfBaseException):  # which Hydra meets again and tells
            plan(config, described, loader)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Names what reports on the sweep; exits where points failed, which have said why."""
        if self._lease is not None:
            self._lease.release()
        conclude(_folder(config.hydra), Path(config.paths.outputs))


def hold(folder: Path) -> Lease | None:
    """Takes a sweep's folder until the process ends; exits where another sweep is in it.

    None for one that cannot be written, which the points tell.
    """
    from lth_runner.store.lease import Lease  # with torch, which listing a sweep needs not

    try:
        lease = Lease.take(folder / LEASE)
    except UserError as error:
        _exit(str(error))
    except OSError:
        return None
    if lease is None:
        _exit(
            f"{folder} is the folder of a sweep that is under way: wait for it, or give this one "
            "another hydra.sweep.dir"
        )
    atexit.register(lease.release)  # however it ends
    return lease


def conclude(folder: Path, outputs: Path) -> None:
    """Names what reports on a sweep; exits where points failed, which have said why."""
    commands = [line["command"] for line in read_points(folder)]
    asked = set(map(meaning, commands))
    found = [read_status(path.parent) for path in outputs.glob(f"*/*/{STATUS}")]
    ours = [run for run in found if meaning(str(run.get("command") or "")) in asked]
    names = {str(run["name"]) for run in ours if "name" in run}
    if names:
        folders = [str(outputs / name) for name in sorted(names)]
        show(f"report   {shlex.join(['lth-report', *folders])}")
    if failed := [line["status"] for line in read_failures(folder)]:
        show(f"error: {len(failed)} of {len(commands)} points failed", sys.stderr)
        sys.exit(min(failed))  # a bug's, 1, before a mistake's
    if num := sum(run.get("state") == DIVERGED for run in ours):
        show(f"warning: {num} of {len(commands)} points diverged", sys.stderr)
        sys.exit(EXIT_DIVERGED)


def _exit(message: str) -> NoReturn:
    show(f"error: {message}", sys.stderr)
    sys.exit(EXIT_USER)


def has_grid(known: Any) -> bool:
    """Whether a sweep's points are known before it starts, as Hydra's own sweeper has them."""
    return str(known.sweeper.get("_target_", "")).endswith("BasicSweeper")


def as_typed(options: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Returns a sweep's words before Hydra added its own."""
    mode = "hydra.mode=MULTIRUN"
    return [*["-m"] * (mode in options), *[word for word in options if word != mode], *overrides]


def _folder(known: Any) -> Path:
    return Path(known.sweep.dir)


def _commands(known: Any) -> tuple[str, ...]:
    """Lists the commands of a sweep's points as they were written down, if they were."""
    return tuple(line["command"] for line in read_points(_folder(known)))


@functools.lru_cache(maxsize=1)  # every point of a sweep asks
def _shared(commands: tuple[str, ...]) -> frozenset[str]:
    """Finds the words that all commands have."""
    first, *others = (shlex.split(line) for line in commands)
    return frozenset(first).intersection(*others)


def place(known: Any) -> str | None:
    """Says which point of a sweep this is and what it differs from others in, as written down."""
    described = _commands(known)
    if not described:
        return None
    shared = _shared(described)
    own = [word for word in known.overrides.task if word not in shared]
    number, total = int(known.job.num) + 1, len(described)
    return f"point    {number:>{len(str(total))}} of {total}  {shlex.join(own)}".rstrip()


def whole_command(known: Any) -> str | None:
    """Finds the command of the sweep that this point is of, where it was written down."""
    return read_owner(_folder(known)).get("command")


def note_failure(known: Any, overrides: Sequence[str], error: Exception, status: int) -> bool:
    """Adds to the sweep's failures what ended a point; False where that could not be written."""
    folder, told = _folder(known), str(error) or type(error).__name__
    try:
        folder.mkdir(parents=True, exist_ok=True)
        add_failure(folder, command(known, overrides), told, status)
    except OSError:  # the error itself is told on the terminal
        return False
    return True


def choices(known: Any) -> dict[str, Any]:
    """Maps each config group to the option chosen, or the list of them, by Hydra's own config."""
    found = OmegaConf.to_container(known.runtime.choices)
    assert isinstance(found, dict)
    return {str(k): v for k, v in sorted(found.items()) if not str(k).startswith("hydra/") and v}


def run_name(given: str, known: Any) -> str:
    """Names the folder of a run: as given, else after what was chosen.

    The root config's name stands for its own choices: with another dataset, model or pruner and
    neither an experiment nor a name, the run is <model>_<dataset>_<pruner>. What a yaml sweeps
    over is left out for the yaml's name, so that its points are in one folder.
    """
    chosen = choices(known)
    is_named = any(re.match(r"\+{0,2}name=", word) for word in known.overrides.task)
    if is_named or given != ROOT_NAME or "experiment" in chosen:
        return given
    swept = set(ROOT_CHOICES) & set(known.sweeper.get("params") or {})
    if not swept and all(chosen.get(key) == value for key, value in ROOT_CHOICES.items()):
        return given
    parts = [str(chosen.get(key)) for key in ROOT_CHOICES if key not in swept]
    parts += [str(chosen.get("sweep", "sweep"))] if swept else []
    return re.sub(r"[^\w.+-]+", "-", "_".join(parts))


def command(known: Any, overrides: Sequence[str]) -> str:
    """Writes the command line of one point, given Hydra's own config."""
    return command_line(named_folders(known), known.job.config_name or "config", overrides)


def command_line(folders: Sequence[Path], root: str, overrides: Sequence[str]) -> str:
    """Writes ``lth-run`` with folders of yaml, another root than config.yaml, and overrides."""
    own = [word for folder in folders for word in ("--config-dir", str(folder))]
    name = ["--config-name", root] if root != "config" else []
    return shlex.join(["lth-run", *own, *name, *overrides])
