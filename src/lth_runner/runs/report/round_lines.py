"""Rounds of a run as lines of one figure: which are shown, in which shade, by which name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from lth_runner.runs.evidence.means import Points
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.verdict import Verdict
from lth_runner.runs.folder import Row
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages.lines import DASHED, PERCENT, Line
from lth_runner.runs.pages.wording import MARKED

MAX_SHADES = 4  # rounds of one figure
ROUNDS = f"Darker is sparser; dashed: the controls of the sparsest round that is {MARKED}."
Series = Mapping[tuple[str, int], Points]  # by arm and round


def lines_of_rounds(
    run: FinishedRun, verdict: Verdict, points: Callable[[Iterable[Row]], Points]
) -> list[Line]:
    """Draws the points of some rounds' rows, of the controls those of the marked round."""
    series = {
        (arm, round): found
        for arm in run.arms
        for round in run.rounds(arm)
        if (found := points(run.at(arm, round)))
    }
    return shaded_lines(run, verdict, series)


def shaded_lines(run: FinishedRun, verdict: Verdict, series: Series) -> list[Line]:
    """Draws rounds of the ticket, darker is sparser; dashed: the controls of the marked one."""
    rounds = shown_rounds(series, verdict)
    marked, lines = marked_round(rounds, verdict), []
    for place, round in enumerate(rounds):
        line = Line(kept_label(run, round), drawing.shade(place, len(rounds)), marker="")
        lines.append(line.through(series[TICKET, round]))
    for index, arm in enumerate(run.arms):
        if arm != TICKET and marked is not None and (arm, marked) in series:
            name = f"{arm} at {kept_label(run, marked)}"
            line = Line(name, drawing.colour(index), style=DASHED, marker="", width=1.4)
            lines.append(line.through(series[arm, marked]))
    return lines


def kept_label(run: FinishedRun, round: int) -> str:
    """Writes what a round keeps, and whether it is the dense one: '51.2 %'."""
    kept = run.density(TICKET, round)
    text = f"round {round}" if kept is None else f"{PERCENT * kept:.3g} %"
    return f"{text}, dense" if round == run.dense_round else text


def marked_round(rounds: Iterable[int], verdict: Verdict) -> int | None:
    """Picks the sparsest match where it is one of these; else the last; None of none."""
    best, found = verdict.marked(), set(rounds)
    return best.round if best is not None and best.round in found else max(found, default=None)


def shown_rounds(series: Series, verdict: Verdict) -> list[int]:
    """Picks four of the ticket's at most: the first, the last, the marked one, one between."""
    found = sorted(round for arm, round in series if arm == TICKET)
    marked = marked_round(found, verdict)
    if len(found) <= MAX_SHADES or marked is None:
        return found
    return sorted({found[0], found[(len(found) - 1) // 2], found[-1], marked})
