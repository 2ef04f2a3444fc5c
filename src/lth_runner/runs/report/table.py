"""The rounds of a run as aligned plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from lth_runner.runs.report.correlations import READING, correlation_table, correlations
from lth_runner.runs.report.headline import headline, learning_sentence, method, progress
from lth_runner.runs.report.overlap import overlap_sentence, seed_overlaps
from lth_runner.runs.report.rows import TICKET, FinishedRun, aggregate
from lth_runner.runs.report.sanity import checks, sentences
from lth_runner.runs.report.verdict import Level, Verdict, judge
from lth_runner.runs.report.wording import (
    capital,
    coverage,
    gain,
    kept,
    none_of,
    p_value,
    reached,
    removed,
)

WIDTH = 100
NAME_WIDTH = 10
MAX_CORRELATIONS = 15

Cells = tuple[list[str], list[list[str]]]  # header, and the lines below it


def table(run: FinishedRun) -> str:
    """Rounds with means ± standard deviations, marks, and the verdict in words."""
    verdict = judge(run)
    lines = [f"{run.name}  ({run.folder})", "", *aligned(*round_table(run, verdict)), ""]
    last = verdict.last()
    covers = coverage(run, last.density if last else None)
    notes = [headline(verdict).text, learning_sentence(run, verdict)]
    notes += [*sentences(checks(run, verdict)), overlap_sentence(seed_overlaps(run))]
    notes += [capital(f"{covers}.") if covers else "", progress(run)]
    notes += [method(verdict), _legend(verdict)]
    for note in filter(None, notes):
        lines += textwrap.wrap(note, WIDTH)
    if verdict.controls and verdict.dense:
        lines += ["", *aligned(*arms_table(verdict))]
    if found := correlations(run):
        header, body = correlation_table(found[:MAX_CORRELATIONS])
        more = len(found) - len(body)  # the name last, where a long one pushes nothing aside
        lines += ["", *aligned([*header[1:], header[0]], [[*one[1:], one[0]] for one in body])]
        lines += [f"and {more} more on the page"] if more else []
        lines += ["", *textwrap.wrap(READING, WIDTH)]
    return "\n".join(lines)


def round_table(run: FinishedRun, verdict: Verdict) -> Cells:
    """Makes header and cells: round, sparsity, each arm, same sign, Jaccard (chance), mark."""
    summaries = aggregate(run.rows)
    header = ["round", "sparsity", TICKET, *(_short(arm) for arm in run.controls)]
    header += ["same sign", "Jaccard", "verdict"]
    body = []
    for round in sorted({row["round"] for row in run.rows}):
        dense = round == run.dense_round
        levels = [verdict.dense if dense else verdict.at(TICKET, round)]
        levels += [verdict.at(control, round) for control in run.controls]
        known = next((level for level in levels if level), None)
        summary = summaries.get((TICKET, round))
        means = summary.mean if summary else {}
        jaccard = _fraction(means.get("jaccard_early_gradient"))
        if jaccard and "jaccard_chance" in means:
            jaccard += f" ({_fraction(means['jaccard_chance'])})"
        body.append(
            [
                str(round),
                f"{100 * known.sparsity:.2f}" if known else "",
                *(cell(verdict, level) for level in levels),
                _fraction(means.get("sign_preservation")),
                jaccard,
                "dense" if dense else _mark(verdict, round),
            ]
        )
    return header, body


def arms_table(verdict: Verdict) -> Cells:
    """Tabulates each arm where it matches the dense network at its sparsest."""
    measure = verdict.measure
    header = ["arm", "sparsest match", "weights kept", measure.name, "against dense", "p"]
    body = []
    for arm in (TICKET, *verdict.controls):
        best = verdict.largest(arm)
        if best is None or best.against_dense is None:
            body.append([arm, none_of(verdict), "", "", "", ""])
            continue
        pair = best.against_dense
        failed = len(verdict.failed_before(arm))
        match = removed(best.density) + (f" ({failed} below earlier)" if failed else "")
        p = "" if pair.p is None else p_value(pair).removeprefix("p ").removeprefix("= ")
        body.append(
            [arm, match, kept(best.density), reached(measure, best), gain(measure, pair), p]
        )
    if verdict.dense is not None:
        body.append(["dense", "", "100 %", reached(measure, verdict.dense), "", ""])
    return header, body


def aligned(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Lines of equal columns: numbers to the right, the last column to the left."""
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if i == len(widths) - 1 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [header, ["-" * width for width in widths], *body]
    ]


def named(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Aligns a table, the first column to the left and all others to the right."""
    lines = [header, *body]
    first, last = (max(len(line[i]) for line in lines) for i in (0, -1))
    head, *rest = ([line[0].ljust(first), *line[1:-1], line[-1].rjust(last)] for line in lines)
    return aligned(head, rest)


def cell(verdict: Verdict, level: Level | None) -> str:
    """Writes a level in a narrow column: '97.96±0.16', with '!' where a replicate diverged."""
    if level is None:
        return ""
    if level.mean is None:
        return "diverged" if level.num_diverged else "-"
    text = reached(verdict.measure, level, unit=False, joint="±")
    return f"{text}{'!' if level.num_diverged else ''}"


def _mark(verdict: Verdict, round: int) -> str:
    ticket = verdict.at(TICKET, round)
    if verdict.at_chance:
        return "at chance"
    if ticket is None or (verdict.dense and ticket.matches is None):
        return "?"
    mark = "no dense" if not verdict.dense else "matches" if ticket.matches else "below"
    if mark == "below" and verdict.measure.better == "lower":
        mark = "worse"
    if verdict.dense and ticket.n < verdict.dense.n and not ticket.num_diverged:
        mark += f" n={ticket.n}"
    beaten = [c for c in verdict.controls if (x := verdict.at(c, round)) and x.ticket_is_better]
    if not beaten:
        return mark
    if len(beaten) == len(verdict.controls):
        return f"{mark} > all" if len(beaten) > 1 else f"{mark} > control"
    return f"{mark} > {_short(beaten[0]) if len(beaten) == 1 else f'{len(beaten)} arms'}"


def _legend(verdict: Verdict) -> str:
    text = ""
    if verdict.controls:
        text = "'>': better than that control, the interval of the paired difference above 0."
    if any(level.num_diverged for level in verdict.levels):
        text += " '!': a replicate diverged."
    return text.strip()


def _fraction(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}".replace("0.", ".", 1)


def _short(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}…"
