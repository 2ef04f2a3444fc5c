"""What a console shows of one run: its table, and of a flow what it has generated."""

from __future__ import annotations

from lth_runner.runs.evidence.generated import find_generated
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.report.table import table


def run_text(run: FinishedRun) -> str:
    """Writes both."""
    told = [table(run)]
    for found in find_generated([run]):
        from lth_runner.runs.report.generated_networks import text  # loads matplotlib

        told.append(text(found))
    return "\n\n".join(told)
