"""Content-addressed trainings on disk, each kept under the hash of all that decides it.

``entries/<key>/training.json`` and ``end.safetensors`` are a finished training;
``step-N.safetensors`` its snapshots, ``derived-*.safetensors`` what was computed from it.
``drafts/<key>/`` is one under way, ``leases/<key>`` says whose. Every file is written whole and
carries a hash of its contents; publishing is one rename. What was read and does not fit its hash is
set aside under ``damaged/`` and done again; what cannot be read is told of and left alone.
"""

from __future__ import annotations

import logging
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lth_runner.store.checkpoint import Checkpoint, Outcome
from lth_runner.store.checkpoint_file import checkpoint_in, load_checkpoint, save_checkpoint
from lth_runner.store.ended import MASK, WEIGHTS, packed_end, under
from lth_runner.store.lease import Lease
from lth_runner.store.reading import (
    is_sealed,
    is_there,
    read_json,
    readable,
    set_aside,
    write_json,
)
from lth_runner.values import state as states
from lth_runner.values.errors import Damaged, UserError
from lth_runner.values.mask import Mask
from lth_runner.values.pieces import clear_pieces
from lth_runner.values.state import SealedFile, State
from lth_runner.values.steps import Step
from lth_runner.values.store_places import END, ENTRIES, FACTS, entry_folder

FORMAT = 1
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """The folder of a finished training.

    A file is checked against its hash when it is first asked for, then only mapped: what is handed
    out is the caller's own to write to, and no other caller sees it. Where the folder is another
    user's, nothing is added to it. Raises Damaged for an end that the disk has changed since it was
    found, UserError for a file that cannot be read.
    """

    folder: Path
    facts: Mapping[str, Any]  # seconds, diverged, history, run, ...
    _files: dict[tuple[Path, int], SealedFile] = field(
        default_factory=dict, compare=False, repr=False
    )  # by time of writing: a damaged one is written again

    @property
    def mask(self) -> Mask:
        """The hard mask at the end."""
        weights, packed = self.weights, under(self._read("end", MASK), MASK)
        return Mask.unpacked(packed, {name: weights[name].shape for name in packed})

    @property
    def weights(self) -> State:
        """The weights at the end."""
        return under(self._read("end", WEIGHTS), WEIGHTS)

    def nearest_snapshot(self, step: Step) -> Checkpoint | None:
        """Returns the latest intact snapshot at or before a step."""
        for path in sorted(self.folder.glob("step-*.safetensors"), reverse=True):
            if int(path.stem.removeprefix("step-")) <= step:
                checkpoint = checkpoint_in(self._file(path), path)
                if checkpoint is not None:
                    return checkpoint
        return None

    def keep_snapshot(self, checkpoint: Checkpoint) -> None:
        """Adds a snapshot that was not asked for at the time."""
        with self._adding():
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
        with self._adding():
            states.save(self.folder / f"derived-{name}.safetensors", value, {})
        return value

    def check(self) -> None:
        """Raises Damaged or FileNotFoundError where the end is not what was written."""
        self._read("end")

    @contextmanager
    def _adding(self) -> Iterator[None]:
        clear_pieces(self.folder)
        try:
            yield
        except PermissionError as error:  # it is made anew when it is asked for again
            log.warning("%s is not yours to write to, nothing is added (%s)", self.folder, error)

    def _read(self, name: str, prefix: str = "") -> State:
        path = self.folder / f"{name}.safetensors"
        with readable(path):
            return self._file(path).read(prefix)[0]

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
        with self._writable():
            if not path.exists():
                above = next((one for one in self.root.parents if one.exists()), None)
                self.root.mkdir(parents=True, exist_ok=True)
                write_json(path, {"format": FORMAT})
                self._warn_if_closed(above or self.root.parent)
        for folder in (self.root, self.root / "leases"):
            clear_pieces(folder)
        try:
            with readable(path):
                found = read_json(path).get("format")
        except Damaged as damage:
            found = self._written_again(path, damage)
        if found != FORMAT:
            raise UserError(
                f"the Store {self.root} has format {found}, this version writes {FORMAT}: use the "
                "version that made it, or another folder with paths.outputs=..."
            )

    def _warn_if_closed(self, above: Path) -> None:
        """Says that a new Store is its maker's alone where others write beside it."""
        shared, mode = above.stat().st_mode, self.root.stat().st_mode
        among_strangers = bool(shared & stat.S_ISVTX)  # as in /tmp
        if shared & 0o022 and not among_strangers and mode & 0o050 != 0o050:
            log.warning(
                "warning: others write to %s, and none of them can read %s, which was made under "
                "the umask %03o: run under umask 002 where they are to share trainings, after "
                "chmod -R g+rwX %s", above, self.root, ~mode & 0o777, self.root,
            )  # fmt: skip

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"the Store {self.root} cannot be written: {error.strerror}; "
                "choose another folder with paths.outputs=..."
            ) from error

    def _written_again(self, path: Path, damage: Damaged) -> int:
        """Writes a damaged format.json again where a training in it is whole, or there is none."""
        entries = sorted((self.root / ENTRIES).glob(f"*/{FACTS}"))
        if entries and not any(map(is_sealed, entries)):
            raise UserError(
                f"{damage}; and no training in {self.root} is one of format {FORMAT}. Remove that "
                "file if this version wrote the Store, or choose another folder with "
                "paths.outputs=..."
            ) from damage
        with self._writable():
            write_json(path, {"format": FORMAT})
        log.warning("damaged, written again: %s", damage)
        return FORMAT

    def find(self, key: str) -> Entry | None:
        """Finds a finished training; a damaged one is set aside and counts as not done.

        Raises UserError for one that cannot be read: that says nothing of what it holds.
        """
        folder = entry_folder(self.root, key)
        path = folder / FACTS
        try:
            with readable(path):
                if not is_there(folder):
                    return None
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
        target = entry_folder(self.root, key)
        target.parent.mkdir(parents=True, exist_ok=True)
        whole = {
            **facts,
            "history": list(outcome.history),
            "seconds": outcome.seconds,
            "diverged": outcome.diverged,
        }
        try:
            draft.mkdir(parents=True, exist_ok=True)
            states.save(draft / END, packed_end(outcome.mask, outcome.weights), {})
            write_json(draft / FACTS, whole)
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


def whole_entry(root: Path, key: str) -> Entry | None:
    """Finds a finished training and touches nothing: None for a damaged one, and for none at all.

    Raises UserError for one that cannot be read.
    """
    folder = entry_folder(Path(root), key)
    with readable(folder / FACTS):
        try:
            entry = Entry(folder, read_json(folder / FACTS))
            entry.check()
        except (Damaged, FileNotFoundError, NotADirectoryError):
            return None
    return entry
