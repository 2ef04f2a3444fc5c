"""Lottery Ticket Hypothesis experiments: train, prune, rewind, compare."""

__version__ = "0.2.0"
