"""The rounds of a run as aligned plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from lth_runner.runs.report.correlations import READING, correlation_lines, correlations
from lth_runner.runs.report.overlap import overlap_sentence, seed_overlaps
from lth_runner.runs.report.rows import TICKET, Run, aggregate
from lth_runner.runs.report.sanity import checks, sentences
from lth_runner.runs.report.verdict import Level, Verdict, judge
from lth_runner.runs.report.wording import learning_sentence, method, progress, sentence

WIDTH = 100
NAME_WIDTH = 10


def table(run: Run) -> str:
    """Rounds with means ± standard deviations in %, marks, and the verdict in words."""
    verdict = judge(run)
    lines = [f"{run.name}  ({run.folder})", "", *aligned(*round_table(run, verdict)), ""]
    notes = [sentence(verdict), learning_sentence(run, verdict)]
    notes += [*sentences(checks(run, verdict)), overlap_sentence(seed_overlaps(run))]
    notes += [progress(run), method(verdict), _legend(verdict)]
    for note in filter(None, notes):
        lines += textwrap.wrap(note, WIDTH)
    if found := correlations(run):
        header, body = correlation_lines(found)
        more = len(found) - len(body)
        lines += ["", *aligned(header, body), *([f"and {more} more on the page"] if more else [])]
        lines += ["", *textwrap.wrap(READING, WIDTH)]
    return "\n".join(lines)


def round_table(run: Run, verdict: Verdict) -> tuple[list[str], list[list[str]]]:
    """Header and cells: round, sparsity, each arm, same sign, Jaccard (chance), mark."""
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
                *(_cell(level) for level in levels),
                _fraction(means.get("sign_preservation")),
                jaccard,
                "dense" if dense else _mark(verdict, round),
            ]
        )
    return header, body


def aligned(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Lines of equal columns: numbers to the right, the last column to the left."""
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i == len(widths) - 1 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [header, ["-" * width for width in widths], *body]
    ]


def _cell(level: Level | None) -> str:
    if level is None:
        return ""
    if level.mean is None:
        return "diverged" if level.num_diverged else "-"
    spread = "" if level.std is None else f"±{100 * level.std:.2f}"
    return f"{100 * level.mean:.2f}{spread}{'!' if level.num_diverged else ''}"


def _mark(verdict: Verdict, round: int) -> str:
    ticket = verdict.at(TICKET, round)
    if verdict.at_chance:
        return "at chance"
    if ticket is None or (verdict.dense and ticket.matches is None):
        return "?"
    mark = "no dense" if not verdict.dense else "matches" if ticket.matches else "below"
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
