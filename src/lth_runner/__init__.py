"""Lottery Ticket Hypothesis experiments, which train, prune, rewind and compare."""

__version__ = "0.2.0"
