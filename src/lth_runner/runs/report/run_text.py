"""What a console shows of one run: its tables with the verdict, and what a flow has generated."""

from __future__ import annotations

from lth_runner.runs.evidence.correlations import correlations
from lth_runner.runs.evidence.generated import find_generated
from lth_runner.runs.evidence.judge import judge
from lth_runner.runs.evidence.overlap import seed_overlaps
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.evidence.sanity import checks
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.progress import progress
from lth_runner.runs.pages.tables import ruled, wrapped
from lth_runner.runs.report.generated_networks import text as generated_text
from lth_runner.runs.report.headline import headline
from lth_runner.runs.report.learning import learning_sentence
from lth_runner.runs.report.method import method
from lth_runner.runs.report.sanity_text import sentences
from lth_runner.runs.report.table import (
    CORRELATIONS,
    arms_table,
    correlation_table,
    legend,
    overlap_sentence,
    round_table,
)

MAX_CORRELATIONS = 15


def run_text(run: FinishedRun) -> str:
    """Writes the tables of a run with its verdict, and what a flow has generated."""
    return "\n\n".join([table(run), *(generated_text(one) for one in find_generated([run]))])


def table(run: FinishedRun) -> str:
    """Rounds with means ± standard deviations, marks, and the verdict in words."""
    verdict = judge(run)
    last, overlaps = verdict.last(), seed_overlaps(run)
    least = say.unlearned(run)
    covers = say.coverage(run, last.density if last else None)
    notes = [
        headline(verdict).text,
        learning_sentence(run, verdict),
        *sentences(checks(run, verdict)),
        overlap_sentence(overlaps[-1]) if overlaps else "",
        f"{say.capital(covers)}." if covers else "",
        f"{say.capital(least)}." if least else "",
        progress(run),
        method(verdict),
        legend(verdict),
    ]
    lines = [f"{run.name}  ({run.folder})", "", *ruled(round_table(run, verdict)), ""]
    lines += wrapped(notes)
    if verdict.controls and verdict.dense:
        lines += ["", *ruled(arms_table(verdict))]
    if found := correlations(run):
        header, body = correlation_table(found[:MAX_CORRELATIONS])
        more = len(found) - len(body)  # the name last, where a long one pushes nothing aside
        lines += ["", *ruled(([*header[1:], header[0]], [[*one[1:], one[0]] for one in body]))]
        lines += [f"and {more} more on the page"] if more else []
        lines += ["", *wrapped([CORRELATIONS])]
    return "\n".join(lines)
