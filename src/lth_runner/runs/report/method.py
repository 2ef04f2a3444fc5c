"""How a page's verdicts were judged, in words."""

from __future__ import annotations

from lth_runner.runs.evidence.verdict import Verdict
from lth_runner.runs.pages import wording as say


def method(verdict: Verdict) -> str:
    """Says what the words, the brackets and p mean."""
    measure = verdict.measure
    paired = "of the differences of equal seeds" if verdict.is_paired else "of two samples"
    return (
        f"'Matches': test {say.label(measure)} at the last step at most "
        f"{say.amount(measure, verdict.tolerance)} worse than dense. Shown: a loss beyond that has "
        "p < 0.05 (t test, one-sided); refuted: a smaller one has; else undecided. The sparsest "
        "match is the end of an unbroken row of them from the dense network on. Brackets: 95 % t "
        f"interval, positive where better, {paired}, whose variance takes in that of neighbouring "
        f"rounds. {_varying(verdict)}"
    )


def _varying(verdict: Verdict) -> str:
    """Says whether seeds alone vary in the intervals, or test samples too."""
    if all(x.against_dense is None and x.ticket_lead is None for x in verdict.levels):
        return ""  # nothing was compared
    if verdict.without_spread is not None:
        return f"Here there is no interval: {say.unknown_spread(verdict.without_spread)}."
    if not verdict.are_drawn:
        return f"Seeds vary in it; the test {verdict.sampled} are all that is asked about."
    if verdict.num_samples:
        return (
            f"Seeds vary in it and the {verdict.num_samples} test {verdict.sampled}, as a draw of "
            "what else there is; report.samples=fixed asks about these alone."
        )
    if verdict.num_kept > 1:
        return (
            f"Seeds vary in it; the test {verdict.sampled} would too, had all trainings that are "
            "compared kept what each said."
        )
    return (
        f"Seeds vary in it; the test {verdict.sampled} are taken as fixed, for what each said was "
        "not kept, or the measure is no mean over them."
    )
