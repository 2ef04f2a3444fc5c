"""Bytes and durations as people write them."""

from __future__ import annotations

UNITS = ("B", "kB", "MB", "GB", "TB")


def size(num_bytes: float) -> str:
    """Writes bytes as people do: 1.5 MB."""
    for unit in UNITS:
        if round(num_bytes, 0 if unit == "B" else 1) < 1000 or unit == UNITS[-1]:
            break
        num_bytes /= 1000
    return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"


def duration(seconds: float) -> str:
    """Writes seconds as people say them: 2 h 5 min."""
    minutes = round(seconds / 60)
    if round(seconds) < 100:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
