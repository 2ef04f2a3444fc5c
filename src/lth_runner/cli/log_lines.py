"""Log records as the plain lines that a run prints."""

from __future__ import annotations

import logging
import sys

from lth_runner.values.terminal import visible_lines


class Lines(logging.Handler):
    """Prints log records as plain lines on stdout, above the live bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(visible_lines(self.format(record)), file=sys.stdout)
        sys.stdout.flush()


def set_up_logging() -> None:
    """Logs plain lines: ours from INFO on, the libraries' warnings; a worker starts without."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[Lines()])
    logging.getLogger("lth_runner").setLevel(logging.INFO)
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # says again what errors say
