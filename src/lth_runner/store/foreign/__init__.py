"""Tickets as other programs write them, read without running anything that is in them."""

from lth_runner.store.foreign.read import read_ticket_from

__all__ = ["read_ticket_from"]
