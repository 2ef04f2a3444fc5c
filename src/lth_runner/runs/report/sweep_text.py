"""A sweep in words and as plain text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.sweep import Column, Sweep, thinned
from lth_runner.runs.evidence.tradeoff import Fit, Range, r_squared_words
from lth_runner.runs.evidence.verdict import Level, Verdict
from lth_runner.runs.folder import ENDED
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.progress import states
from lth_runner.runs.pages.tables import Cells, ruled, wrapped
from lth_runner.runs.report.sweep_matching import matching, matching_table
from lth_runner.runs.samples import DRAWN, FIXED

TABLE_COLUMNS, MAX_TABLE_COLUMNS = 5, 10
MODEL = "A(k, s) = D · (1 − s)^(b∞ + b₀ · exp(−k/τ))"


def text(sweep: Sweep) -> str:
    """Writes the console's view: the measure, sparsest matches, the model, the steps."""
    fit, columns = sweep.fit, thinned(sweep.shown, MAX_TABLE_COLUMNS)
    model = [model_sentence(sweep)] if fit is None or fit.trusted else [model_in_short(fit)]
    model += [feasible_sentence(fit)] if fit is not None and fit.trusted else []
    parts = wrapped([extent(sweep), matching(sweep).text, *notices(sweep), reading(sweep)])
    for first in range(0, len(columns), TABLE_COLUMNS):
        own = columns[first : first + TABLE_COLUMNS]
        parts += ["", *ruled(outcome_table(sweep, own), left=0)]
    parts += ["", *ruled(matching_table(sweep), left=0), ""]
    return "\n".join(parts + wrapped([*model, cost_sentence(sweep)]))


def extent(sweep: Sweep) -> str:
    """Says what was run, in a sentence."""
    return f"{'Pruners,' if sweep.by == 'pruner' else 'Sweep'} {sweep.name}: {facts(sweep)}"


def facts(sweep: Sweep) -> str:
    """Says how many runs, settings, sparsities and seeds there are, and what the dense one does."""
    dense, seeds = sweep.dense, [str(seed) for seed in sweep.seeds]
    if len(seeds) > 2 and sweep.seeds[-1] - sweep.seeds[0] == len(seeds) - 1:
        seeds = [f"{seeds[0]} to {seeds[-1]}"]
    told = "no dense network"
    if dense is not None and dense.mean is not None:
        chance = ", at chance level" if dense.at_chance else ""
        told = f"dense {say.reached(sweep.measure, dense)} ({dense.n}){chance}"
    measured = [1 - column.sparsity for column in sweep.columns if column.level is not None]
    found = [
        say.counted(len(sweep.runs), "run"),
        say.counted(len(sweep.settings), sweep.by),
        f"{say.counted(len(sweep.columns), 'sparsity', 'sparsities')} on the way",
        f"seed{'' if len(sweep.seeds) == 1 else 's'} {say.joined(seeds or ['none'])}",
        told,
        say.coverage(sweep.runs[0], min(measured, default=None)),
    ]
    return ", ".join(filter(None, found)) + "."


def notices(sweep: Sweep) -> tuple[str, ...]:
    """Says what is missing so far, and which points say little about each other."""
    found = []
    if told := states([run for run in sweep.runs if run.state not in ENDED]):
        found.append(f"Not all runs are done ({told}): shown is what they have so far.")
    if told := _judged_apart(sweep.runs):
        alike = ", ".join(
            f"{key}={value}" for key, value in _judged_by(sweep.settings[0].run).items()
        )
        found.append(f"Their own pages judge the runs by other keys ({told}): here by {alike}.")
    if apart := [one.label for one in sweep.settings if not one.is_chain]:
        found.append(
            f"The runs of {say.joined(apart)} share no tickets on the way: each sparsity was "
            "reached by rounds of its own (pruner.rate=null with several rounds), so that their "
            "points are not joined, little was reused, and only last tickets are shown here. With "
            "pruner.rate all are one chain."
        )
    return tuple(found)


def _judged_apart(runs: Sequence[FinishedRun]) -> str:
    """Says in which keys runs are judged differently; empty where in none."""
    keys = [_judged_by(run) for run in runs]
    values = {key: sorted({one[key] for one in keys}) for key in keys[0]}
    return "; ".join(f"{key}: {', '.join(own)}" for key, own in values.items() if len(own) > 1)


def _judged_by(run: FinishedRun) -> dict[str, str]:
    tolerance, paired = run.option("report", "tolerance"), run.option("report", "paired") is True
    return {
        "report.tolerance": "default" if tolerance is None else str(tolerance),
        "report.samples": DRAWN if run.draws_samples else FIXED,
        "report.paired": str(paired).lower(),
    }


def reading(sweep: Sweep) -> str:
    """Says how the cells of the table are written."""
    what = sweep.measure
    unit = f" in {what.unit}" if what.unit else ""
    side = "below" if what.better == "higher" else "above"
    told = (
        f"Test {say.label(what)}{unit}, mean ± standard deviation (seeds). *: shown to match, that "
        f"is, at most {say.amount(what, sweep.tolerance)} {side} the dense network; ?: undecided."
    )
    levels = [level for one in sweep.settings for level in one.verdict.of(TICKET)]
    if any(level.num_diverged for level in levels):
        told += " !: a training diverged, so that it does not match."
    cells = [(one, level) for one in sweep.settings for column in sweep.shown
             if (level := one.at(column)) is not None]  # fmt: skip
    if not all(one.verdict.counts(level) for one, level in cells):
        told += f" {say.out_of_row('(*), (?)')}"
    return told


def outcome_table(sweep: Sweep, columns: Sequence[Column]) -> Cells:
    """Tabulates setting x sparsity: mean ± standard deviation (seeds)."""
    header = [sweep.by.split()[0], *(say.removed(1 - column.sparsity) for column in columns)]
    return header, [
        [one.label, *(_cell(sweep, one.verdict, one.at(column)) for column in columns)]
        for one in sweep.settings
    ]


def _cell(sweep: Sweep, verdict: Verdict, level: Level | None) -> str:
    if level is None or level.mean is None:
        return say.cell(sweep.measure, level)
    marks = {"shown": "*", "undecided": "?", "refuted": " ", None: " "}
    mark = "!" if level.num_diverged else marks[level.matches]
    mark = mark if verdict.counts(level) else f" ({mark})"
    return f"{say.reached(sweep.measure, level, unit=False, joint='±')} ({level.n}){mark}"


# --- the model


def model_sentence(sweep: Sweep) -> str:
    """Says the fit with its intervals, how well it describes the tickets, and whether to trust."""
    fit, what = sweep.fit, sweep.measure
    if fit is None:
        reason = "no ticket with a rewind step k above 0 was measured, so that nothing tells τ"
        if sweep.dense is None or sweep.dense.mean is None:
            reason = "no dense network was measured"
        elif what.better == "lower":
            reason = f"it is one of a measure that grows from 0, which {say.label(what)} does not"
        elif sweep.dense.at_chance:
            reason = f"the dense network's {say.label(what)} is at chance level"
        return f"The model {MODEL} was not fitted: {reason}."
    spread = "unknown from one seed" if fit.spread is None else say.amount(what, fit.spread)
    trust = "No reason was found to distrust the fit within the range measured."
    if fit.doubts:
        trust = f"Do not trust this fit: {'; '.join(fit.doubts)}."
    dense, late, early, tau = (fit.parameter(one) for one in ("dense", "b_inf", "b_0", "tau"))
    unit = f" {what.unit}" if what.unit else ""
    return (
        f"The model {MODEL}, fitted to {fit.num_points} trainings of "
        f"{say.counted(fit.num_seeds, 'seed')}: "
        f"D = {ranged(dense, '.4g', scale=what.scale)}{unit}, b∞ = {ranged(late, '.2g')}, "
        f"b₀ = {ranged(early, '.2g')}, τ = {ranged(tau, '.3g')} steps (brackets: 95 % t interval "
        f"over resampled seeds); R² = {r_squared_words(fit.r_squared)}, residual "
        f"{say.amount(what, fit.residual)}, spread over seeds {spread}. {trust}"
    )


def model_in_short(fit: Fit) -> str:
    """Says of a fit that is not to be trusted its first reason alone."""
    more = (
        f" (and {say.counted(len(fit.doubts) - 1, 'reason')} more)" if len(fit.doubts) > 1 else ""
    )
    return f"The model {MODEL} is not to be trusted here: {fit.doubts[0]}{more}; see the page."


def ranged(found: Range, form: str, *, scale: float = 1.0) -> str:
    """Writes a value with its interval, as far as there is one: '400 [320, 500]'."""
    if found.value is None:
        return ""
    return say.with_interval(found.value, (found.low, found.high), form, scale=scale)


def largest(fit: Fit, step: int) -> str:
    """Writes s_max(k) with its interval; what lies beyond the sparsest ticket is '> 98 %'."""
    found, last = fit.largest_sparsity(step), fit.sparsities[-1]

    def told(sparsity: float | None) -> str:
        if sparsity is None:
            return ""
        return say.removed(1 - sparsity) if sparsity <= last else f"> {say.removed(1 - last)}"

    return _in_words(found, told)


def smallest(fit: Fit, sparsity: float) -> str:
    """Writes k*(s) with its interval; what lies beyond the last step is '> 2,000'."""
    found, last = fit.smallest_step(sparsity), fit.steps[-1]

    def told(step: float | None) -> str:
        return f"> {last:,}" if step is None else f"{step:,.0f}"

    return _in_words(found, told)


def _in_words(found: Range, told: Callable[[float | None], str]) -> str:
    value, low, high = (told(x) for x in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]" if low and low != high else value


def feasible_sentence(fit: Fit) -> str:
    """Says how much sparser the latest rewinding may go than the earliest, by the model."""
    first, last = fit.steps[0], fit.steps[-1]
    return (
        f"By the model a ticket loses no more than the tolerance up to s_max = "
        f"{largest(fit, first)} rewound to step {first:,}, and up to {largest(fit, last)} rewound "
        f"to step {last:,}."
    )


def model_tables(sweep: Sweep, fit: Fit) -> tuple[Cells, Cells]:
    """Tabulates s_max(k) beside what was shown, and k*(s), each with its interval."""
    known = [one for one in sweep.settings if one.step is not None]
    sparsest = [
        [one.label, largest(fit, one.step or 0), *say.matches(one.verdict)] for one in known
    ]
    columns = [column for column in sweep.shown if column.level is not None]
    steps = [
        [say.removed(1 - column.sparsity), smallest(fit, column.sparsity)] for column in columns
    ]
    return (
        ["rewind", "s_max by the model", "shown to match", "not refuted"], sparsest
    ), (["sparsity", "k* by the model (step)"], steps)  # fmt: skip


def cost_sentence(sweep: Sweep) -> str:
    """Says how many steps were asked for, run, reused and replayed."""
    cost = sweep.cost
    if not cost.num_trainings:
        return "Steps: none recorded."
    share = f" ({100 * cost.reused / cost.asked:.0f} %)" if cost.asked else ""
    more = ""
    if cost.replayed is not None:
        more = f"; {cost.replayed:,} more replayed for snapshots and probes"
    return (
        f"Training steps: {cost.asked:,} asked for in "
        f"{say.counted(cost.num_trainings, 'training')}, "
        f"{cost.run:,} run in {cost.num_trainings - cost.num_reused}, "
        f"{cost.reused:,}{share} reused from the Store in {cost.num_reused}{more}."
    )
