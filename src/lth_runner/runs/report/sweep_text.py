"""A sweep in words and as plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from lth_runner.runs.report.rows import ACCURACY, FIRST_ROUND, TICKET
from lth_runner.runs.report.sweep import Column, Line, Sweep, thinned
from lth_runner.runs.report.table import WIDTH, aligned
from lth_runner.runs.report.tradeoff import MIN_R_SQUARED, Fit, r_squared_words
from lth_runner.runs.report.verdict import Level
from lth_runner.runs.report.wording import accuracy, at_chance, joined, none_of, removed

TABLE_COLUMNS, MAX_TABLE_COLUMNS = 5, 10
MODEL = "A(k, s) = A_dense · (1 − exp(−k/τ)) · (1 − s)^β"


def text(sweep: Sweep) -> str:
    """The console's view: accuracies, largest matching sparsities, the model, the steps."""
    parts: list[str] = []
    for sentence in (headline(sweep), unfinished(sweep)):
        parts += textwrap.wrap(sentence, WIDTH) if sentence else []
    parts += textwrap.wrap(f"Test accuracy in %, mean ± std (seeds). {legend(sweep)}", WIDTH)
    columns = thinned(sweep.shown, MAX_TABLE_COLUMNS)
    for first in range(0, len(columns), TABLE_COLUMNS):
        part = columns[first : first + TABLE_COLUMNS]
        parts += ["", *columns_text(*accuracy_table(sweep, part))]
    parts += ["", *columns_text(*matching_table(sweep)), ""]
    fit = sweep.fit
    model = model_sentence(sweep) if fit is None or fit.trusted else model_in_short(fit)
    for sentence in (model, cost_sentence(sweep)):
        parts += textwrap.wrap(sentence, WIDTH)
    return "\n".join(parts)


def columns_text(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Aligned, with the first column to the left and all others to the right."""
    lines = [header, *body]
    first, last = (max(len(line[i]) for line in lines) for i in (0, -1))
    head, *rest = ([line[0].ljust(first), *line[1:-1], line[-1].rjust(last)] for line in lines)
    return aligned(head, rest)


def headline(sweep: Sweep) -> str:
    found = [f"{_kind(sweep)} {sweep.name}: {_count(len(sweep.runs), 'run')}"]
    found.append(_count(len(sweep.lines), sweep.by))
    found.append(f"{_count(len(sweep.columns), 'sparsity', 'sparsities')} on the way")
    found.append(f"{'seed' if len(sweep.seeds) == 1 else 'seeds'} {_listed(sweep.seeds)}")
    dense = sweep.dense
    chance = ", at chance level" if dense and dense.at_chance else ""
    found.append(
        f"dense {accuracy(dense, 2)} ({dense.n}){chance}"
        if dense and dense.mean
        else "no dense network"
    )
    return ", ".join(found) + "."


def _kind(sweep: Sweep) -> str:
    return "Pruners," if sweep.by == "pruner" else "Sweep"


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or f'{one}s'}"


def _listed(seeds: Sequence[int]) -> str:
    if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]} to {seeds[-1]}"
    return joined([str(seed) for seed in seeds]) if seeds else "none"


def unfinished(sweep: Sweep) -> str:
    """What is missing so far; empty when every run is done."""
    states: dict[str, int] = {}
    for run in sweep.unfinished:
        states[run.state] = states.get(run.state, 0) + 1
    if not states:
        return ""
    named = ", ".join(f"{count} {state}" for state, count in states.items())
    return f"Not all runs are done ({named}): shown is what they have so far."


def legend(sweep: Sweep) -> str:
    sentences = [
        f"*: matches, that is, at most {100 * sweep.tolerance:g} points below the dense network "
        "of the same seeds."
    ]
    levels = [level for line in sweep.lines for level in line.verdict.of(TICKET)]
    if any(level.num_diverged for level in levels):
        sentences.append("!: a training diverged, so that it does not match.")
    return " ".join(sentences)


def accuracy_table(sweep: Sweep, columns: Sequence[Column]) -> tuple[list[str], list[list[str]]]:
    """Rewind step x sparsity: mean ± standard deviation (seeds)."""
    header = [sweep.by.split()[0], *(removed(1 - column.sparsity) for column in columns)]
    return header, [
        [line.label, *(_cell(line.at(column)) for column in columns)] for line in sweep.lines
    ]


def _cell(level: Level | None) -> str:
    if level is None or (level.mean is None and not level.num_diverged):
        return "-"
    if level.mean is None:
        return "diverged"
    spread = "" if level.std is None else f"±{100 * level.std:.2f}"
    mark = "!" if level.num_diverged else "*" if level.matches else " "
    return f"{100 * level.mean:.2f}{spread} ({level.n}){mark}"


def matching_table(sweep: Sweep) -> tuple[list[str], list[list[str]]]:
    """The largest matching sparsity of each rewind step: of the mean, and of each seed."""
    header = ["rewind", "largest matching sparsity", "accuracy", "measured up to", "each seed"]
    body = []
    for line in sweep.lines:
        best, last = line.verdict.largest(TICKET), line.last
        seeds = [(verdict, verdict.largest(TICKET)) for verdict in line.by_seed().values()]
        failed = len(line.verdict.failed_before(TICKET))
        body.append(
            [
                line.label,
                (removed(best.density) if best else none_of(line.verdict))
                + (f" ({failed} below earlier)" if failed else ""),
                accuracy(best, 2) if best else "",
                removed(last.density) if last else "-",
                ", ".join(removed(x.density) if x else none_of(v) for v, x in seeds) or "-",
            ]
        )
    return header, body


def steps(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def model_sentence(sweep: Sweep) -> str:
    """The fit, how well it describes the tickets, and whether to trust it."""
    fit = sweep.fit
    if fit is None:
        reason = "no ticket with a rewind step above 0 was measured, and at k = 0 it says nothing"
        if sweep.dense is None or sweep.dense.mean is None:
            reason = "no dense network was measured"
        elif sweep.dense.at_chance:
            reason = "the dense network's accuracy is at chance level"
        return f"The model {MODEL} was not fitted: {reason}."
    spread = "unknown from one seed" if fit.spread is None else f"{100 * fit.spread:.2f} points"
    r_squared = r_squared_words(fit.r_squared)
    sentences = [
        f"The model {MODEL}, fitted to {fit.num_points} tickets with k > 0: "
        f"τ = {_with_error(fit.tau, fit.tau_error)} steps, "
        f"β = {_with_error(fit.beta, fit.beta_error)} (± standard error, A_dense = "
        f"{100 * fit.dense:.2f} % as measured); R² = {r_squared}, "
        f"residual {100 * fit.residual:.2f} points, spread over seeds {spread}.",
        trust(fit),
    ]
    return " ".join(filter(None, [*sentences, at_zero(fit)]))


def model_in_short(fit: Fit) -> str:
    """A fit that is not to be trusted, by its first reason alone."""
    more = f" (and {len(fit.doubts) - 1} reasons more)" if len(fit.doubts) > 1 else ""
    return f"The model {MODEL} is not to be trusted here: {fit.doubts[0]}{more}; see the page."


def trust(fit: Fit) -> str:
    if fit.trusted:
        return "No reason was found to distrust the fit within the range measured, k > 0."
    return f"Do not trust this fit: {'; '.join(fit.doubts)}."


def at_zero(fit: Fit) -> str:
    """What became of the tickets that start at k = 0."""
    if not fit.num_at_zero or fit.accuracy_at_zero is None:
        return ""
    r_squared = fit.r_squared_with_zero
    fails = r_squared is None or r_squared < MIN_R_SQUARED
    return (
        f"At k = 0 the model says 0 % for every τ and β; the {fit.num_at_zero} tickets there reach "
        f"{100 * fit.accuracy_at_zero:.2f} % on average. They are left out, as they cannot move "
        f"the fit; counted in, R² = {r_squared_words(r_squared)}"
        + (f", below {MIN_R_SQUARED:g}: the model does not hold at k = 0." if fails else ".")
    )


def _with_error(value: float, error: float) -> str:
    if not error < 1e3 * value:
        return f"{value:.3g} (error unbounded)"
    return f"{value:.3g} ± {error:.2g}"


def feasible_sentence(fit: Fit, tolerance: float) -> str:
    """What k*(s) says: where it is finite."""
    return (
        f"Smallest rewind step that loses {100 * tolerance:g} points: "
        "k*(s) = −τ ln(1 − (1 − ε/A_dense)/(1 − s)^β); by the model, from sparsity "
        f"{removed(1 - fit.largest_sparsity)} on no rewind step suffices."
    )


def cost_sentence(sweep: Sweep) -> str:
    cost = sweep.cost
    if not cost.num_trainings:
        return "Steps: none recorded."
    share = f" ({100 * cost.reused / cost.asked:.0f} %)" if cost.asked else ""
    sentence = (
        f"Training steps: {cost.asked:,} asked for in {_count(cost.num_trainings, 'training')}, "
        f"{cost.run:,} run in {cost.num_trainings - cost.num_reused}, "
        f"{cost.reused:,}{share} reused from the Store in {cost.num_reused}"
    )
    if cost.replayed is not None:
        sentence += f"; {cost.replayed:,} more replayed for snapshots and probes"
    return f"{sentence}."


def seeds_at(line: Line, level: Level) -> str:
    """The seeds of a level, as '0 1 2'."""
    return " ".join(map(str, sorted(line.run.values(level.arm, level.round, ACCURACY))))


def matching_sentence(sweep: Sweep) -> str:
    """Whether a later rewind step matches at a larger sparsity."""
    dense = sweep.dense
    if dense is not None and dense.at_chance:
        return at_chance(f"{accuracy(dense, 2)}, n = {dense.n}")
    found = [(line.label, line.verdict.largest(TICKET)) for line in sweep.lines]
    matching = [(label, level) for label, level in found if level is not None]
    if not matching:
        measured = any(line.run.rounds(TICKET)[-1:] > (FIRST_ROUND,) for line in sweep.lines)
        return "No ticket matches the dense network." if measured else "No ticket measured yet."
    label, level = max(matching, key=lambda pair: pair[1].sparsity)
    without = [name for name, best in found if best is None]
    sentence = (
        f"The sparsest matching ticket, {removed(level.density)} removed at {accuracy(level, 2)}, "
        f"is rewound to {label}"
    )
    return f"{sentence}; none matches at {joined(without)}." if without else f"{sentence}."
