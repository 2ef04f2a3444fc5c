"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def aligned(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """Returns rows as lines of equal columns, two spaces between them, numbers to the ``right``.

    Columns without any text are left out.
    """
    used = [i for i in range(len(rows[0])) if any(row[i] for row in rows)] if rows else []
    widths = {i: max(len(row[i]) for row in rows) for i in used}
    return [
        "  ".join(
            row[i].rjust(widths[i]) if i in right else row[i].ljust(widths[i]) for i in used
        ).rstrip()
        for row in rows
    ]
