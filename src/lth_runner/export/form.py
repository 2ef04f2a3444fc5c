"""A form that a ticket is taken away in, written, read back and held against the ticket."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from lth_runner.export.agreement import Agreement, Answer, Disagreement, compared, tolerated
from lth_runner.export.taken_ticket import Taken
from lth_runner.export.whole_file import check_target, files_of, finished
from lth_runner.values.errors import UserError
from lth_runner.values.memory import give_back


class Form(Protocol):
    """Writes a ticket to a file, and reads such a file as something that answers."""

    @property
    def name(self) -> str:
        """What messages and files call the form."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """How the names of such files end; empty: it is a folder, of any name."""

    @property
    def tolerance(self) -> float:
        """How far answers may be off, as a share of the largest: what single precision leaves."""

    def check(self, ticket: Taken) -> None:
        """Raises UserError for a ticket that the form cannot take, naming what blocks it."""

    def write(self, ticket: Taken, path: Path) -> tuple[str, ...]:
        """Writes the ticket; returns what whoever takes it should be told, a line each."""

    def read(self, path: Path, ticket: Taken) -> Answer:
        """Reads a file back, into a network of the ticket's kind where the form needs one."""


@dataclass(frozen=True)
class Exported:
    """What was written: where, how many bytes, how near its answers are, and what to know of it."""

    path: Path
    num_bytes: int
    agreement: Agreement
    notes: tuple[str, ...]


def exported(
    ticket: Taken, path: str | Path, form: Form, *, samples: int | None = None
) -> Exported:
    """Writes a ticket in a form; the file is there in the end, whole and tested, or it is not.

    ``samples``: on how many samples of the test split the answers are compared, all by default;
    with fewer the run's own figure is not recomputed. Raises UserError for what cannot be
    exported, Disagreement for a file that does not answer as the ticket does.
    """
    if samples is not None and samples < 1:
        raise UserError(f"samples={samples}: answers are compared on at least 1 (None: on all)")
    target = check_target(path, form.suffixes, form.name)
    form.check(ticket)
    large = ticket.task.num_parameters
    with finished(target) as scratch:
        give_back(large)  # of the network that was drawn to be rebuilt
        notes = form.write(ticket, scratch)
        give_back(large)
        found = compared(ticket, partial(form.read, scratch, ticket), samples)
        tolerance = tolerated(ticket, form.tolerance)
        if not found.within(tolerance):
            raise Disagreement(
                f"the file in the form {form.name} does not answer as the ticket does: {found.off} "
                f"(accepted: {tolerance:g} of the largest). Nothing was written"
            )
        num_bytes = sum(file.stat().st_size for file in files_of(scratch))
    return Exported(target, num_bytes, found, notes)
