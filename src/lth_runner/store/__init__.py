"""The Store keeps trainings under the hash of all that decides them; tickets are files."""

from lth_runner.store.checkpoint import Checkpoint, Keeper, Outcome
from lth_runner.store.lease import Lease
from lth_runner.store.store import Draft, Entry, Store
from lth_runner.store.ticket_file import TicketFile, load_ticket, read_ticket, save_ticket

__all__ = [
    "Checkpoint", "Draft", "Entry", "Keeper", "Lease", "Outcome", "Store", "TicketFile",
    "load_ticket", "read_ticket", "save_ticket",
]  # fmt: skip
