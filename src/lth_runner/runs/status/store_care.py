"""What the Store holds, what of it no run needs, and its removal.

Links are not followed: what they lead to is not the Store's, and they themselves stay.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lth_runner.runs.folder import ROUNDS, read_status, training_keys
from lth_runner.runs.seal import seals
from lth_runner.runs.status.liveness import age
from lth_runner.runs.status.point import SETTLED, Point
from lth_runner.runs.status.removal import (
    files_below,
    folders_in,
    remove_below,
    remove_folder,
)
from lth_runner.runs.status.runs import run_folders
from lth_runner.values.errors import UserError
from lth_runner.values.files import open_regular
from lth_runner.values.json_files import MOST_ROWS, objects_from_end, read_object
from lth_runner.values.store_places import ENTRIES, FACTS

KINDS = ("ends", "snapshots", "derived", "drafts", "damaged", "other")
LEVELS = ("", "tickets", "last")  # of --keep, from what takes least to what takes most
FORMAT = 1
DRAFT_SECONDS = 24 * 3600.0
LOCK_SECONDS = 600.0

UNNAMED = "trainings that no run names"
DRAFT = "drafts not touched for a day"
KILLED = "pieces of files that a kill left"
DAMAGED = "damaged files, set aside"
SNAPSHOT = "snapshots: trained again from the start when asked for"
DERIVED = "derived files: computed again when asked for"
EARLIER = "trainings before the last round of a run"


@dataclass(frozen=True)
class Item:
    """A file of the Store; it may go at a ``level`` of --keep, or at none (None)."""

    path: Path
    kind: str
    size: int  # bytes
    reason: str = ""
    level: str | None = None


@dataclass(frozen=True)
class Holdings:
    """All files of a Store; ``stays`` says why more cannot go."""

    root: Path
    items: Sequence[Item]
    num_trainings: int
    stays: str | None

    def going(self, keep: str) -> list[Item]:
        """Lists what a prune at a level takes; each level takes what those before it take."""
        taken = LEVELS[: LEVELS.index(keep) + 1]
        return [item for item in self.items if item.level in taken]


def survey(outputs: Path, points: Sequence[Point], now: datetime) -> Holdings:
    """Lists every file of a Store and whether it may go.

    While a run is neither done nor refused, all trainings, snapshots and drafts stay: only the run
    itself can tell which of them it still needs. They also stay while a folder or the rows of a run
    cannot be read. Raises UserError where there is no Store of this version.
    """
    root = outputs / "store"
    found = (read_object(root / "format.json") or {}).get("format")
    if found != FORMAT:
        what = "is no Store" if found is None else f"has format {found}, not {FORMAT}"
        raise UserError(f"{root} {what}: give the folder that runs write to (paths.outputs)")
    rounds, unread = _rounds(outputs)
    stays = unread or _stays(root, points, now)
    named: set[str] = set()
    last: set[str] = set()
    for path in rounds:
        named |= training_keys(path)
        last |= _last_keys(path)
    keys = {path.name for path in folders_in(root / ENTRIES)}
    items = [
        *_damaged(root),
        *_drafts(root, now, may_go=stays is None),
        *_entries(root, now, named, last, may_go=stays is None),
    ]
    seen = {item.path for item in items}
    items += [Item(path, "other", size) for path, size, _ in _files(root) if path not in seen]
    return Holdings(root, items, len(keys), stays)


def _rounds(outputs: Path) -> tuple[set[Path], str | None]:
    """Finds the rows of all runs, those behind links too, and says what could not be read."""
    failures: list[OSError] = []
    found = {folder / ROUNDS for folder in run_folders(outputs)}
    for above, folders, names in os.walk(outputs, onerror=failures.append):
        if ROUNDS in names:
            found.add(Path(above, ROUNDS))
        if Path(above) == outputs:
            folders[:] = [name for name in folders if name != "store"]
    found = {path for path in found if os.path.lexists(path)}
    for path in found:
        try:
            open_regular(path, MOST_ROWS).close()
        except OSError as error:
            failures.append(error)
    told = [f"{one.filename} cannot be read ({one.strerror})" for one in failures]
    told += [f"{path} is not what was written" for path in found if not told and _is_harmed(path)]
    if not told:
        return found, None
    return found, (
        f"{told[0]}: which trainings it names is not known, so trainings, snapshots and drafts stay"
    )


def _is_harmed(path: Path) -> bool:
    seal = (seals(read_status(path.parent)) or {}).get(ROUNDS)
    return seal is not None and not seal.fits(path, may_have_grown=True)


def _stays(root: Path, points: Iterable[Point], now: datetime) -> str | None:
    num_unfinished = sum(point.state not in SETTLED for point in points)
    if num_unfinished:
        runs = "1 run is" if num_unfinished == 1 else f"{num_unfinished} runs are"
        return (
            f"{runs} not done, so trainings, snapshots and drafts stay: finish what is left over "
            "(--retry prints the commands), or delete its run folder or its sweep"
        )
    leases = [*(root / "leases").glob("*"), *(root / "drafts").glob("*/lock")]
    if any(age(path, now) < LOCK_SECONDS for path in leases):
        return "a training is under way, so trainings, snapshots and drafts stay"
    return None


def _last_keys(path: Path) -> set[str]:
    """Finds the trainings of the last round of each replicate and arm in a rounds.jsonl."""
    last: dict[tuple[object, object], tuple[int, str]] = {}
    for row in objects_from_end(path):
        number, key = row.get("round"), row.get("training_key")
        if isinstance(number, int) and isinstance(key, str):
            place = str(row.get("arm")), str(row.get("seed"))
            last[place] = max(last.get(place, (number, key)), (number, key))
    return {key for _, key in last.values()}


def _damaged(root: Path) -> Iterator[Item]:
    for path, size, _ in _files(root / "damaged"):
        yield Item(path, "damaged", size, DAMAGED, "")


def _drafts(root: Path, now: datetime, *, may_go: bool) -> Iterator[Item]:
    for folder in folders_in(root / "drafts"):
        files = list(_files(folder))
        locks = (folder / "lock", root / "leases" / folder.name)
        locked = any(age(path, now) < LOCK_SECONDS for path in locks)
        untouched = min([age(folder, now), *(now.timestamp() - mtime for *_, mtime in files)])
        goes = may_go and not locked and untouched > DRAFT_SECONDS
        for path, size, _ in files:
            yield Item(path, "drafts", size, DRAFT, "" if goes else None)


def _entries(
    root: Path, now: datetime, named: Collection[str], last: Collection[str], *, may_go: bool
) -> Iterator[Item]:
    for folder in folders_in(root / ENTRIES):
        key = folder.name
        for path, size, mtime in _files(folder):
            if path.name.endswith(".part"):
                kind, reason, level = (
                    "other",
                    KILLED,
                    "" if now.timestamp() - mtime > DRAFT_SECONDS else None,
                )
            elif path.name.startswith("step-"):
                kind, reason, level = "snapshots", SNAPSHOT, "tickets"
            elif path.name.startswith("derived-"):
                kind, reason, level = "derived", DERIVED, "tickets"
            else:
                kind, reason, level = "ends", EARLIER, None if key in last else "last"
            if key not in named:
                reason, level = UNNAMED, ""
            yield Item(path, kind, size, reason, level if may_go else None)


def _files(folder: Path) -> Iterator[tuple[Path, int, float]]:
    """Yields path, bytes and time of change of every file below."""
    for path, facts in files_below(folder):
        if stat.S_ISREG(facts.st_mode):
            yield path, facts.st_size, facts.st_mtime


def remove(found: Holdings, going: Sequence[Item]) -> None:
    """Deletes files; a folder that loses what makes it one goes whole.

    Raises UserError where the disk refuses.
    """
    entries, drafts = found.root / ENTRIES, found.root / "drafts"
    whole = {item.path.parent for item in going if item.path.name == FACTS}
    whole |= {
        drafts / item.path.relative_to(drafts).parts[0] for item in going if item.kind == "drafts"
    }
    whole = {path for path in whole if path.parent in (entries, drafts)}
    try:
        for folder in sorted(whole):
            remove_folder(found.root, folder, found.root / "damaged")
        for item in going:
            remove_below(found.root, item.path)
        for folder in _emptied(found.root / "damaged"):
            remove_below(found.root, folder)
    except OSError as error:
        raise UserError(f"the Store {found.root} cannot be pruned: {error}") from error


def _emptied(folder: Path) -> Iterator[Path]:
    """Yields the empty folders below a folder, inner ones first."""
    for inner in folders_in(folder):
        yield from _emptied(inner)
        if not any(inner.iterdir()):
            yield inner
