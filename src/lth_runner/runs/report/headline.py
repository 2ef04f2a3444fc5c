"""The headline of a run: one number, one sentence of verdict, and remarks on it."""

from __future__ import annotations

from collections.abc import Mapping

from lth_runner.runs.evidence.means import FIRST_ROUND
from lth_runner.runs.evidence.rows import TICKET
from lth_runner.runs.evidence.verdict import Level, Verdict, num_judged, sparsest_of
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.page import Headline
from lth_runner.runs.report import remarks as remark
from lth_runner.values.measure import Measure


def headline(verdict: Verdict) -> Headline:
    """Says how sparse a ticket matches, and whether its controls do as well."""
    dense, tickets, measure = verdict.dense, verdict.of(TICKET), verdict.measure
    what = say.label(measure)
    if dense is None and not tickets:
        return Headline("–", "", "No training has finished yet.")
    if dense is None and verdict.at(TICKET, FIRST_ROUND) is not None:
        return _without_dense(verdict)
    if dense is not None and dense.mean is None and dense.num_diverged:
        told = (
            f"The dense network diverged in all of {dense.num_diverged} replicates: its loss "
            "became NaN or infinite, and there is nothing to match."
        )
        return Headline("diverged", "is the dense network", told)
    if dense is None or dense.mean is None:
        told = f"No dense network (round 0) with a test {what}: there is nothing to match."
        return Headline("–", "", told)
    reached = say.reached(measure, dense, remark.decimals(verdict))
    number, level = alone(measure, dense, remark.decimals(verdict)), f"{reached}, n = {dense.n}"
    about = f"test {what} of the dense network"
    if not tickets:
        return Headline(number, about, f"Only the dense network has finished ({level}).")
    if verdict.at_chance:
        return Headline(number, about, at_chance(what, level), remark.diverged(verdict))
    shown, possible = verdict.shown(), verdict.possible()
    if possible is None:  # the densest is refuted
        return _none(verdict, level)
    if verdict.without_spread is not None:
        return _by_mean(verdict, reached, possible)
    best = shown or possible
    number, of = say.gone(verdict, best.density)
    ours = say.reached(measure, best, remark.decimals(verdict), unit=False)
    told = f"{ours} against {reached} {what}, n = {best.n}"
    if shown is None:
        about = f"{of} removed, and whether the ticket matches is undecided"
        sentence = (
            f"No ticket is shown to match the dense network, and up to {number} {of} removed none "
            f"is refuted: {told}."
        )
    else:
        about = f"{of} removed, and the ticket is shown to match"
        sentence = (
            f"A ticket with {number} {of} removed is shown to match the dense network: {told}."
        )
    remarks = (
        *remark.doubts(verdict, best),
        *remark.beyond(verdict),
        *remark.of_these_alone(verdict),
        *remark.separation(verdict, best),
        *remark.diverged(verdict),
    )
    return Headline(number, about, sentence, remarks)


def _none(verdict: Verdict, dense: str) -> Headline:
    """Says that no ticket matches; where not all are refuted, that none is shown to."""
    words = [one.matches for one in verdict.of(TICKET) if one.matches is not None]
    remarks = (
        *remark.beyond(verdict),
        *remark.unknown_spread(verdict),
        *remark.of_these_alone(verdict),
        *remark.controls_alone(verdict),
        *remark.diverged(verdict),
    )
    if set(words) <= {"refuted"}:
        closest = remark.closest(verdict)
        told = f"No ticket matches the dense network ({dense}): {closest}."
        if not closest:
            what = say.label(verdict.measure)
            told = f"No ticket with a test {what} to compare with the dense network ({dense})."
        return Headline("none", "of the tickets matches", told, remarks)
    first = next(one for one in verdict.of(TICKET) if one.matches is not None)
    told = (
        f"No ticket is shown to match the dense network ({dense}): that of sparsity "
        f"{say.removed(first.density)} is refuted, and sparser ones count only in an unbroken row."
    )
    return Headline("none", "of the tickets is shown to match", told, remarks)


def _by_mean(verdict: Verdict, dense: str, possible: Level) -> Headline:
    """Says what there is to say where nothing tells how much seeds differ."""
    best, what = verdict.by_mean(), say.label(verdict.measure)
    remarks = (*remark.unknown_spread(verdict), *remark.beyond(verdict), *remark.diverged(verdict))
    end = say.removed(possible.density)
    if best is None:
        n = verdict.dense.n if verdict.dense else 0
        told = (
            f"No ticket is shown to match the dense network ({dense}, n = {n}) yet, and up to "
            f"sparsity {end} it is undecided: {remark.closest(verdict)}."
        )
        return Headline("none", f"of the tickets is shown to match; undecided to {end}", told,
                        remarks)  # fmt: skip
    number, of = say.gone(verdict, best.density)
    ours = say.reached(verdict.measure, best, remark.decimals(verdict), unit=False)
    sentence = (
        f"Whether a ticket matches is undecided up to sparsity {end}; up to {number} {of} removed "
        f"its {what} is within {say.amount(verdict.measure, verdict.tolerance)} of the dense "
        f"network's: {ours} against {dense}, n = {best.n}."
    )
    return Headline(number, f"{of} removed, within the tolerance, but not shown", sentence, remarks)


def _without_dense(verdict: Verdict) -> Headline:
    """Says how the last ticket and its controls do where the first training was sparse already."""
    last = verdict.of(TICKET)[-1]
    beaten = [
        say.arm_words(control)
        for control in verdict.controls
        if control in verdict.beaten(last.round)
    ]
    number, of = say.gone(verdict, last.density)
    chance = ", which is at chance level" if last.at_chance else ""
    sentence = (
        f"The ticket at sparsity {say.removed(last.density)} reaches "
        f"{say.reached(verdict.measure, last, remark.decimals(verdict))}, n = {last.n}{chance}."
    )
    remarks = ["No dense network was trained here: nothing says whether a ticket matches."]
    remarks += [f"It is better than {say.joined(beaten)}."] if beaten else []
    return Headline(number, f"{of} removed", sentence, tuple(remarks))


def at_chance(what: str, dense: str) -> str:
    """Says what there is to say where the dense network is hardly above guessing."""
    return (
        f"Nothing can be concluded: the {what} of the dense network ({dense}) is at chance "
        "level, so that a ticket which does as well shows nothing."
    )


def picked(verdicts: Mapping[str, Verdict], what: str) -> tuple[str, ...]:
    """Says what the sparsest shown match is with all runs counted in that it was picked from.

    Empty of one run; ``what``: what one of several is called, 'run'.
    """
    num = num_judged(verdicts.values())
    if num < 2 or sparsest_of(verdicts, among=1) is None:
        return ()
    best = sparsest_of(verdicts, among=num)
    told = "none is shown"
    if best is not None:
        told = f"it is {say.removed(best[1].density)}, of {best[0]}"
    return (
        f"It is picked from {num} {what}s, each wrong with a chance of 5 % of its own: with all "
        f"counted in (Bonferroni) {told}.",
    )


def alone(measure: Measure, level: Level, decimals: int | None = None) -> str:
    """Writes what a level reached without its spread: '98.0 %'."""
    number = say.reached(measure, level, decimals, unit=False).partition(" ±")[0]
    return f"{number} {measure.unit}".strip()
