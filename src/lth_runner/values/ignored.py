"""The target that says that a place (a pixel, a token) takes no part."""

from __future__ import annotations

IGNORED = -100  # the number that torch's cross-entropy leaves out
