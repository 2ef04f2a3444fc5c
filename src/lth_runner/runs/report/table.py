"""Tables of runs: rounds, arms, correlations and overlaps of masks."""

from __future__ import annotations

from collections.abc import Sequence

from lth_runner.runs.evidence.correlations import Quantity, Within
from lth_runner.runs.evidence.means import aggregate
from lth_runner.runs.evidence.overlap import MaskOverlap
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.verdict import Verdict
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.tables import Cells

NAME_WIDTH = 10
CORRELATIONS = (
    "Spearman's rank correlation with the test figure, over all rows that have both (n: rounds, "
    "arms and seeds pooled) and within. Nearly everything follows density and the arm, and so does "
    "the figure: the first is confounded by them. 'Within' ranks the seeds of one round and arm, "
    "takes one correlation of each seed over its rounds and arms, and their t interval; *: told "
    "from 0, at most one in twenty such marks by chance (Benjamini and Hochberg). The bounds hold "
    "the training error. No correlation is a cause."
)

CHANCE = (
    "beside what chance gives masks that keep as many weights at every input and output of each "
    "layer (mean ± standard deviation), in each layer, or in all."
)  # of a table of overlaps


# --- the rounds and the arms of a run


def round_table(run: FinishedRun, verdict: Verdict) -> Cells:
    """Makes header and cells: round, sparsity, each arm, same sign, Jaccard (null), mark."""
    summaries = aggregate(run.rows)
    controls = [say.shortened(control, NAME_WIDTH) for control in run.controls]
    header = ["round", "sparsity", TICKET, *controls, "sign", "Jaccard", "match"]
    body = []
    for round in sorted({row["round"] for row in run.rows}):
        dense = round == run.dense_round
        levels = [verdict.dense if dense else verdict.at(TICKET, round)]
        levels += [verdict.at(control, round) for control in run.controls]
        known = next((level for level in levels if level), None)
        summary = summaries.get((TICKET, round))
        means = summary.mean if summary else {}
        jaccard = _fraction(means.get("jaccard_early_gradient"))
        null = means.get("jaccard_null", means.get("jaccard_chance"))
        if jaccard and null is not None:
            jaccard += f" ({_fraction(null)})"
        body.append([
            str(round),
            f"{100 * known.sparsity:.2f}" if known else "",
            *(say.cell(verdict.measure, level, "±") if level else "" for level in levels),
            _fraction(means.get("sign_preservation")),
            jaccard,
            "dense" if dense else _mark(verdict, round),
        ])  # fmt: skip
    return header, body


def arms_table(verdict: Verdict) -> Cells:
    """Tabulates each arm at its sparsest shown match, else at the sparsest not refuted."""
    measure = verdict.measure
    header = ["arm", "shown to match", "not refuted", measure.name, "against dense", "p"]
    body = []
    for arm in (TICKET, *verdict.controls):
        best = verdict.shown(arm) or verdict.possible(arm)
        pair = best.against_dense if best else None
        if best is None or pair is None:
            body.append([arm, *say.matches(verdict, arm), "", "", ""])
            continue
        p = say.p_value(pair.p_above(-verdict.tolerance)).removeprefix("p ").removeprefix("= ")
        body.append([arm, *say.matches(verdict, arm), say.reached(measure, best),
                     say.gain(measure, pair),
                     "" if pair.error is None else p])  # fmt: skip
    if verdict.dense is not None:
        body.append(["dense", "", "", say.reached(measure, verdict.dense), "", ""])
    return header, body


def _mark(verdict: Verdict, round: int) -> str:
    ticket = verdict.at(TICKET, round)
    if verdict.at_chance:
        return "at chance"
    if ticket is None or (verdict.dense and ticket.matches is None):
        return "?"
    mark = "no dense" if not verdict.dense else say.word(verdict, ticket)
    if verdict.dense and ticket.n < verdict.dense.n and not ticket.num_diverged:
        mark += f" n={ticket.n}"
    beaten = [c for c in verdict.controls if (x := verdict.at(c, round)) and x.ticket_is_better]
    if not beaten:
        return mark
    if len(beaten) == len(verdict.controls):
        return f"{mark} > all" if len(beaten) > 1 else f"{mark} > control"
    if len(beaten) > 1:
        return f"{mark} > {len(beaten)} arms"
    return f"{mark} > {say.shortened(beaten[0], NAME_WIDTH)}"


def legend(verdict: Verdict) -> str:
    """Explains the marks that the table of rounds has."""
    better = (
        "'>': shown to be better than that control, all marks of the table together wrong with a "
        "chance of 2.5 % (Holm)."
    )
    diverged = any(level.num_diverged for level in verdict.levels)
    told = [better] * bool(verdict.controls) + ["'!': a replicate diverged."] * diverged
    if not all(verdict.counts(level) for level in verdict.of(TICKET)):
        told = [say.out_of_row(), *told]
    return " ".join(told)


def _fraction(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}".replace("0.", ".", 1)


# --- what was found beside the verdict


def correlation_table(found: Sequence[Quantity]) -> Cells:
    """Tabulates quantity, n, and both correlations; '*': told from 0."""
    header = ["quantity", "n", "over all rows", "within round and arm", "seeds"]
    return header, [
        [one.field, str(one.n), say.signed(one.raw, ".2f"), _within(one.within),
         str(one.within.n) if one.within else "-"]
        for one in found
    ]  # fmt: skip


def _within(one: Within | None) -> str:
    if one is None:
        return "-"
    told = "" if one.low is None else "*" if one.is_told else " "
    return f"{say.with_interval(one.r, (one.low, one.high), '+.2f')}{told}"


def overlap_table(found: Sequence[MaskOverlap], of: str = "round") -> Cells:
    """Tabulates overlaps beside what chance gives: by inputs and outputs, layers, density."""
    header = [of, "weights kept", "seeds", "overlap", "chance: same inputs and outputs",
              "same layers", "same density"]  # fmt: skip
    return header, [
        [one.of, say.kept(one.density), str(one.num_seeds),
         f"{one.jaccard:.4f}", f"{one.by_units:.4f} ± {one.by_units_std:.4f}",
         f"{one.shuffled:.4f}", f"{one.random:.4f}"]
        for one in found
    ]  # fmt: skip


def overlap_sentence(last: MaskOverlap) -> str:
    """Says how far the masks of different seeds agree in a round."""
    return (
        f"Masks of different seeds at {say.kept(last.density)} of the weights overlap by "
        f"{last.jaccard:.4f} (Jaccard, {last.num_seeds} seeds). Chance gives masks with as many "
        f"weights at every input and output {last.by_units:.4f} ± {last.by_units_std:.4f}, of the "
        f"same layer densities {last.shuffled:.4f}, of the same density {last.random:.4f}."
    )
