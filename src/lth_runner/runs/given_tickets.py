"""Tickets to be trained here: those of an earlier run's rounds, or one of a file or a folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lth_runner.problem.gaussian import Gaussian, means
from lth_runner.runs.evidence.means import density as density_of
from lth_runner.runs.evidence.means import is_dense
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.folder import ROUNDS, STATUS, Row, read_problem
from lth_runner.runs.one_run import not_in_store, one_run, ticket_path, trained_path
from lth_runner.runs.ticket_choice import choose, finished, tickets
from lth_runner.search.given_ticket import GivenTicket, Kept, Tensors, Weights, check_weights
from lth_runner.search.outside import Outside
from lth_runner.store.ended import read_end
from lth_runner.store.foreign import read_ticket_from
from lth_runner.store.ticket_file import read_ticket
from lth_runner.values import identity
from lth_runner.values.errors import Damaged, UserError
from lth_runner.values.files import regular_hash
from lth_runner.values.home import from_home
from lth_runner.values.listed import numbers_listed
from lth_runner.values.mask import Mask

STATIC = "Static"  # the masking that holds the mask it is given
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GivenTickets:
    """The tickets that a path names, each of them told from others by what its files hold.

    ``ticket``: a run folder (or ``outputs/<name>`` with one run in it), whose rounds follow one
    another, each replicate with those of its own seed; else whatever ``read_ticket_from`` reads,
    one ticket for all replicates. Of a run one round is chosen by ``round``, by ``sparsity`` (to
    one weight) or by ``best_matching``; ``rounds``: at most so many, the first ones. ``seed``: one
    replicate's tickets for all replicates.
    ``weights``: which weights are used of them, so that these tell one from another too.
    Raises UserError for what is not there, and for a run that is not done.
    """

    ticket: str = field(compare=False)
    round: int | None = field(default=None, compare=False)
    sparsity: float | None = field(default=None, compare=False)
    best_matching: bool = field(default=False, compare=False)
    rounds: int | None = field(default=None, compare=False)
    seed: int | None = field(default=None, compare=False)
    weights: Weights = field(default="own", compare=False)
    key: str = field(default="pruner.ticket", compare=False)  # what messages call the path
    content: str = field(init=False, default="")  # hashes of all files that are used

    def __post_init__(self) -> None:
        check_weights(self.weights)
        given = check_choice(
            self.round, self.sparsity, self.rounds, best_matching=self.best_matching
        )
        if self._folder is None and (given or self.seed is not None):
            raise UserError(
                f"{given[0] if given else 'pruner.seed'} chooses among the tickets of a run, and "
                f"{self.key}={self.ticket} is no run folder"
            )
        content = {str(seed): list(map(self._hash, own)) for seed, own in self._found.items()}
        object.__setattr__(self, "content", identity.digest(content))

    @property
    def num(self) -> int:
        return max(map(len, self._found.values()))

    def check_seeds(self, seeds: Sequence[int]) -> None:
        if None in self._found or not (lacking := sorted(set(seeds) - set(self._found))):
            return
        known = sorted(seed for seed in self._found if seed is not None)
        told = f"{self._folder} has no ticket of seed {numbers_listed(lacking)}: it"
        if why := next((self._refused[seed] for seed in lacking if seed in self._refused), None):
            told = f"{why}. It"
        raise UserError(
            f"{told} has seed {numbers_listed(known)}. Set seed and replicates to those, or "
            f"pruner.seed={known[0]} to give one replicate's tickets to all"
        )

    def of(self, seed: int) -> Sequence[GivenTicket]:
        self.check_seeds([seed])
        return self._found[None] if None in self._found else self._found[seed]

    @property
    def _place(self) -> Path:
        return from_home(str(self.ticket))

    @cached_property
    def _folder(self) -> Path | None:
        """The run folder, where it is one."""
        place = self._place
        _refuse_beside_a_run(place, self.key)
        is_run = place.is_dir() and any(
            (place / name).exists() or any(place.glob(f"*/{name}")) for name in (ROUNDS, STATUS)
        )
        return one_run(place, f"{self.key}={self.ticket}") if is_run else None

    @property
    def _found(self) -> Mapping[int | None, tuple[GivenTicket, ...]]:
        """The tickets by the seed of the replicate that they are for; None: for all."""
        return self._looked_up[0]

    @property
    def _refused(self) -> Mapping[int, UserError]:
        """Why there is no ticket for some seeds of the run, where none of them may be asked for."""
        return self._looked_up[1]

    @cached_property
    def _looked_up(
        self,
    ) -> tuple[dict[int | None, tuple[GivenTicket, ...]], dict[int, UserError]]:
        if self._folder is None:
            return {None: (read_ticket_from(self._place, self.key),)}, {}
        run = finished(self._folder)
        if self.seed is not None:
            return {None: self._of_seed(run, self.seed)}, {}
        found: dict[int | None, tuple[GivenTicket, ...]] = {}
        refused: dict[int, UserError] = {}
        for seed in run.seeds:
            try:
                found[seed] = self._of_seed(run, seed)
            except UserError as error:
                refused[seed] = error
        if not found:
            raise next(iter(refused.values()))
        return found, refused

    def _of_seed(self, run: FinishedRun, seed: int) -> tuple[GivenTicket, ...]:
        if self.round is None and self.sparsity is None and not self.best_matching:
            rows = _sparse_rounds(run, seed)[: self.rounds]
        else:
            rows = [
                choose(
                    run.folder, round=self.round, sparsity=self.sparsity,
                    best_matching=self.best_matching, seed=seed,
                )
            ]  # fmt: skip
        return tuple(_given(run, row) for row in rows)

    def _hash(self, one: GivenTicket) -> list[str]:
        used = {"own": (), "ticket": one.start.files, "trained": one.trained.files}
        return [_hashed(path) for path in dict.fromkeys([*one.masks.files, *used[self.weights]])]


def outside(path: str | None) -> Outside | None:
    """Makes the room beside the last ticket of a run, or the one of a file; None where none is."""
    return None if path is None else Outside(GivenTickets(path, key="pruner.outside"))


def check_choice(
    round: int | None, sparsity: float | None, rounds: int | None, *, best_matching: bool
) -> list[str]:
    """Names the keys that choose a ticket; raises UserError for two of them, and for odd values."""
    ways = {"round": round, "sparsity": sparsity, "best_matching": best_matching or None}
    given = [f"pruner.{name}" for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} each choose a ticket: give one of them")
    if sparsity is not None and not 0 < sparsity < 1:
        raise UserError(f"pruner.sparsity={sparsity} is not between 0 and 1")
    if rounds is not None and rounds < 1:
        raise UserError(f"pruner.rounds={rounds}: give a whole number of at least 1")
    return given


def _refuse_beside_a_run(place: Path, key: str) -> None:
    """Raises UserError for the folder of a run's tickets, and for one of runs of several names."""
    if place.is_dir() and (place.parent / ROUNDS).is_file():
        raise UserError(
            f"{key}={place} is a part of a run: give the run folder {place.parent}, and "
            "pruner.round for one of its tickets"
        )
    if place.is_dir() and (deeper := sorted(place.glob(f"*/*/{ROUNDS}"))):
        raise UserError(
            f"{key}={place} holds {len(deeper)} runs below it: give one of them, for "
            f"example {deeper[0].parent}"
        )


def _sparse_rounds(run: FinishedRun, seed: int) -> list[dict[str, Any]]:
    """Lists a replicate's tickets: all rounds but the dense network's, where it has one."""
    rows = [row for row in tickets(run, seed=seed) if not is_dense(row)]
    for row in (row for row in rows if row.get("diverged")):
        log.warning(
            "warning: %s: round %d of seed %d has diverged, and is left out",
            run.folder, row["round"], seed,
        )  # fmt: skip
    found = [r for r in rows if not r.get("diverged") and (density_of(r) or 0.0) < 1]
    if not found:
        raise UserError(
            f"{run.folder} has no ticket of seed {seed}: its trainings are dense, or have diverged"
        )
    return found


def _given(run: FinishedRun, row: Row) -> GivenTicket:
    """Gives a row's ticket, with the mask at the end where the training has moved it."""
    began, end = ticket_path(run.folder, row), trained_path(run.folder, row)
    masking = str(run.option("pruner", "masking", "_target_") or STATIC).rpartition(".")[2]
    masks = Kept((began,), lambda: read_ticket(began).mask)
    start = Kept((began,), lambda: _start(began))
    trained = Kept((end,), lambda: means(_ended(end)[1]))  # of a Bayesian run's weights
    if reason := _obstacle(run.folder, end):
        trained = Kept.missing(reason)
    if masking != STATIC and row["steps"] > 0:  # the mask moved while it was trained
        masks = Kept(trained.files, lambda: _ended_mask(end)) if trained.files else trained
        start = Kept((*trained.files, began), lambda: _start(began, within=_ended_mask(end)))
    return GivenTicket(
        f"{run.folder}, round {row['round']} of seed {row['seed']}",
        masks,
        start,
        trained,
        number=row["round"],
        start_step=row.get("start_step"),
    )


def _ended_mask(end: Path) -> Mask:
    return Mask(means(_ended(end)[0]))


def _obstacle(folder: Path, end: Path) -> str | None:
    """Says why what a training ended with cannot be had; None where it can."""
    coordinates = read_problem(folder).get("coordinates")
    if coordinates and coordinates != Gaussian.__name__:
        return (
            f"{folder} was trained in other coordinates ({coordinates}), and what the Store holds "
            "are no weights of the network: take pruner.weights=own"
        )
    if not end.is_file():
        return not_in_store(folder, f"what {folder} has trained")
    return None


def _start(path: Path, within: Mask | None = None) -> Tensors:
    """Reads the weights that a ticket's training began with.

    ``within``: the mask that it ended with, where it moved. Raises UserError where it kept weights
    in the end that had been removed in the beginning.
    """
    found = read_ticket_from(path)
    if within is not None and not within <= read_ticket(path).mask:
        raise UserError(
            f"the mask of {path} moved while it was trained, and keeps weights in the end that "
            "were removed in the beginning: take pruner.weights=own, or trained"
        )
    return found.start.read()


def _ended(path: Path) -> tuple[Mask, Tensors]:
    """Reads the mask and the weights at the end of a training of the Store."""
    try:
        return read_end(path)
    except (OSError, Damaged) as error:
        raise UserError(
            f"{path} cannot be read, or is damaged: {error}. Remove its run folder's status.json "
            "and give the run's own command again, which then trains it anew"
        ) from error


def _hashed(path: Path) -> str:
    try:
        return regular_hash(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
