"""How a program that reads run folders ends, whatever happens on the way."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lth_runner.cli.ending import EXIT_INTERRUPTED, EXIT_USER, traceback_wanted
from lth_runner.cli.stopping import hush, interruption_told
from lth_runner.values.errors import UserError
from lth_runner.values.raised import reason_of
from lth_runner.values.terminal import show, show_traceback


def exit_status(
    program: str,
    run: Callable[[], int],
    *,
    unread: int = 0,
    written: Sequence[Path] | None = None,
    less: str = "a machine with more",
) -> int:
    """Runs a program; returns its status, 2 after a message on what to mend, 130 for Ctrl-C.

    ``unread``: the status where whoever reads what it prints, such as ``head``, has seen enough.
    ``written``: the files of a program that writes some, to which it adds each that is there; what
    is broken off tells them. ``less``: what takes less memory.
    """
    sys.excepthook = show_traceback
    if isinstance(sys.stdout, io.TextIOWrapper):  # a console without '±' must not end it
        sys.stdout.reconfigure(errors="replace")
    try:
        with interruption_told():
            return run()
    except UserError as error:
        show(f"{program}: {error}", sys.stderr)
    except BrokenPipeError:
        hush()
        return unread
    except OSError as error:  # of a disk that is full, a folder of somebody else's
        if traceback_wanted():
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        show(f"{program}: {where}{error.strerror or reason_of(error)}", sys.stderr)
    except KeyboardInterrupt:
        show(f"{program}: interrupted{_left(written)}", sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        from lth_runner.values.memory import is_out_of_memory, out_of_memory  # loads torch

        if traceback_wanted() or not is_out_of_memory(error):
            raise
        show(f"{program}: {out_of_memory(error)}{_left(written)}: take {less}", sys.stderr)
    return EXIT_USER


def _left(written: Sequence[Path] | None) -> str:
    """Says which files are there, of a program that writes some."""
    if written is None:
        return ""
    return f"; nothing was written{''.join(f' besides {path}' for path in written)}"
