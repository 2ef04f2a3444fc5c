"""Content-addressed trainings on disk, each kept under the hash of all that decides it.

``entries/<key>/training.json`` and ``end.safetensors`` are a finished training;
``step-N.safetensors`` its snapshots, ``derived-*.safetensors`` what was computed from it.
``drafts/<key>/`` is one under way, ``leases/<key>`` says whose. Every file is written whole and
carries a hash of its contents; publishing is one rename. What does not fit its hash is set aside
under ``damaged/`` and done again.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lth_runner.store.checkpoint import Checkpoint, Outcome
from lth_runner.store.lease import Lease
from lth_runner.values import identity
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.files import write_whole
from lth_runner.values.mask import Mask
from lth_runner.values.state import Damaged, SealedFile, State
from lth_runner.values.steps import Step

FORMAT = 1
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """The folder of a finished training.

    A file is checked against its hash when it is first asked for, then only mapped: what is handed
    out is the caller's own to write to, and no other caller sees it. Raises Damaged for an end that
    the disk has changed since it was found.
    """

    folder: Path
    facts: Mapping[str, Any]  # seconds, diverged, history, run, ...
    _files: dict[tuple[Path, int], SealedFile] = field(
        default_factory=dict, compare=False, repr=False
    )  # by time of writing: a damaged one is written again

    @property
    def mask(self) -> Mask:
        """The hard mask at the end."""
        weights, packed = self.weights, _under(self._read("end", "mask."), "mask.")
        return Mask.unpacked(packed, {name: weights[name].shape for name in packed})

    @property
    def weights(self) -> State:
        """The weights at the end."""
        return _under(self._read("end", "weights."), "weights.")

    def nearest_snapshot(self, step: Step) -> Checkpoint | None:
        """Returns the latest intact snapshot at or before a step."""
        for path in sorted(self.folder.glob("step-*.safetensors"), reverse=True):
            if int(path.stem.removeprefix("step-")) <= step:
                checkpoint = _checkpoint_in(self._file(path), path)
                if checkpoint is not None:
                    return checkpoint
        return None

    def keep_snapshot(self, checkpoint: Checkpoint) -> None:
        """Adds a snapshot that was not asked for at the time."""
        save_checkpoint(self.folder / f"step-{checkpoint.step:08d}.safetensors", checkpoint)

    def derived(self, name: str, compute: Callable[[], State]) -> State:
        """Returns what was computed from this training, by a probe for example, computed once."""
        try:
            return self._read(f"derived-{name}")
        except FileNotFoundError:
            pass
        except Damaged as damage:
            set_aside(self.folder / f"derived-{name}.safetensors", damage)
        value = compute()
        states.save(self.folder / f"derived-{name}.safetensors", value, {})
        return value

    def check(self) -> None:
        """Raises Damaged or FileNotFoundError where the end is not what was written."""
        self._read("end")

    def _read(self, name: str, prefix: str = "") -> State:
        return self._file(self.folder / f"{name}.safetensors").read(prefix)[0]

    def _file(self, path: Path) -> SealedFile:
        return self._files.setdefault((path, path.stat().st_mtime_ns), SealedFile(path))


@dataclass(frozen=True)
class Draft:
    """The folder of a training under way (a ``Keeper``)."""

    folder: Path

    def load(self) -> Checkpoint | None:
        return load_checkpoint(self.folder / "checkpoint.safetensors")

    def save(self, checkpoint: Checkpoint) -> None:
        self._write("checkpoint.safetensors", checkpoint)

    def snapshot(self, checkpoint: Checkpoint) -> None:
        self._write(f"step-{checkpoint.step:08d}.safetensors", checkpoint)

    def _write(self, name: str, checkpoint: Checkpoint) -> None:
        for attempt in (1, 2):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                return save_checkpoint(self.folder / name, checkpoint)
            except FileNotFoundError:  # another process took over, and published meanwhile
                if attempt == 2:
                    raise


@dataclass(frozen=True)
class Store:
    """A folder of trainings, shared by all runs under it."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))  # text will do
        path = self.root / "format.json"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                write_json(path, {"format": FORMAT})
        except OSError as error:
            raise UserError(
                f"the Store {self.root} cannot be written: {error.strerror}; "
                "choose another folder with paths.outputs=..."
            ) from error
        found = read_json(path).get("format")
        if found != FORMAT:
            raise UserError(
                f"the Store {self.root} has format {found}, this version writes {FORMAT}: use the "
                "version that made it, or another folder with paths.outputs=..."
            )

    def find(self, key: str) -> Entry | None:
        """Finds a finished training; a damaged one is set aside and counts as not done."""
        folder = self.root / "entries" / key
        path = folder / "training.json"
        if not folder.exists():
            return None
        try:
            entry = Entry(folder, read_json(path))
            entry.check()
        except (Damaged, FileNotFoundError) as damage:
            set_aside(folder, damage)
            return None
        return entry

    def draft(self, key: str) -> Draft:
        """Gives the folder where a training keeps its checkpoints until it is published."""
        return Draft(self.root / "drafts" / key)

    def claim(self, key: str) -> Lease | None:
        """Takes the right to train; None while another living process has it."""
        return Lease.take(self.root / "leases" / key)

    def publish(self, key: str, outcome: Outcome, facts: Mapping[str, Any]) -> Entry:
        """Makes a finished training visible to all, whole or not at all."""
        draft = self.draft(key).folder
        target = self.root / "entries" / key
        target.parent.mkdir(parents=True, exist_ok=True)
        whole = {
            **facts,
            "history": list(outcome.history),
            "seconds": outcome.seconds,
            "diverged": outcome.diverged,
        }
        try:
            draft.mkdir(parents=True, exist_ok=True)
            states.save(draft / "end.safetensors", _pack(outcome), {})
            write_json(draft / "training.json", whole)
            draft.rename(target)
            published: Entry | None = Entry(target, whole)
        except OSError:
            # another process that took this training over may have published it meanwhile, and
            # the draft with it
            if not target.exists():
                raise
            shutil.rmtree(draft, ignore_errors=True)
            published = self.find(key)
        # after the rename: a kill before it must find the checkpoint
        for leftover in (target / "checkpoint.safetensors", *target.glob(".*.part")):
            leftover.unlink(missing_ok=True)  # a killed owner's half-written files too
        if published is None:
            raise OSError(f"{target} is not what was just written to it: is the disk failing?")
        return published


def _pack(outcome: Outcome) -> State:
    mask = {f"mask.{name}": bits for name, bits in outcome.mask.packed().items()}
    return mask | {f"weights.{name}": value for name, value in outcome.weights.items()}


def _under(tensors: State, prefix: str) -> State:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint to one sealed file: tensors by kind, the rest as JSON."""
    kinds = {
        "weights.": checkpoint.weights,
        "optimizer.": checkpoint.optimizer,
        "masking.": checkpoint.masking,
    }
    tensors = {prefix + name: v for prefix, state in kinds.items() for name, v in state.items()}
    facts = {
        "step": checkpoint.step,
        "loss": checkpoint.loss,
        "num_losses": checkpoint.num_losses,
        "history": list(checkpoint.history),
        "seconds": checkpoint.seconds,
    }
    states.save(path, tensors, {"checkpoint": json.dumps(facts)})


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Reads a checkpoint, None where there is none; a damaged one is set aside, as if none."""
    return _checkpoint_in(SealedFile(path), path)


def _checkpoint_in(file: SealedFile, path: Path) -> Checkpoint | None:
    try:
        tensors, metadata = file.read()
    except FileNotFoundError:
        return None
    except Damaged as damage:
        set_aside(path, damage)
        return None
    facts = json.loads(metadata["checkpoint"])
    return Checkpoint(
        weights=_under(tensors, "weights."),
        optimizer=_under(tensors, "optimizer."),
        masking=_under(tensors, "masking."),
        **{**facts, "history": tuple(facts["history"])},
    )


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes sealed JSON whole or not at all."""
    sealed = {**value, "seal": identity.digest(value)}
    write_whole(path, json.dumps(sealed).encode())


def read_json(path: Path) -> dict[str, Any]:
    """Reads sealed JSON; raises Damaged where the seal does not fit."""
    try:
        value = json.loads(path.read_bytes())
        if value.pop("seal") != identity.digest(value):
            raise Damaged(f"{path}: its contents do not fit the hash they were written with")
        return value
    except (ValueError, KeyError, AttributeError) as error:
        raise Damaged(f"{path}: not the JSON that was written ({error})") from error


def set_aside(path: Path, damage: Exception) -> None:
    """Moves a damaged file or folder out of the way, keeping it, and says so."""
    store = next(p for p in path.parents if (p / "format.json").exists())
    target = store / "damaged" / f"{path.parent.name}-{path.name}-{time.time_ns()}"
    target.parent.mkdir(exist_ok=True)
    try:
        path.rename(target)
    except FileNotFoundError:  # another process found the same damage first
        return
    log.warning("damaged, set aside as %s and done again: %s", target, damage)
