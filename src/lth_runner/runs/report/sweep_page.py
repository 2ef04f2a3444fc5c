"""What a sweep leaves behind: a self-contained page, its figures, and the numbers beside each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lth_runner.runs.report.compare import page_of
from lth_runner.runs.report.overlap import STEPS_READING, overlap_table, step_overlaps
from lth_runner.runs.report.page import Cell, Page, Section, Table, link, write_page
from lth_runner.runs.report.refused import refusals
from lth_runner.runs.report.rows import TICKET, FinishedRun, number
from lth_runner.runs.report.settings import flatten, rewind_step
from lth_runner.runs.report.sweep import Sweep
from lth_runner.runs.report.sweep_figures import difference_figure, matching_figure, outcome_figure
from lth_runner.runs.report.sweep_text import (
    cost_sentence,
    extent,
    feasible_sentence,
    matching,
    matching_table,
    model_sentence,
    notices,
    outcome_table,
    reading,
    seeds_at,
)
from lth_runner.runs.report.sweep_tradeoff import tradeoff_figure
from lth_runner.runs.report.wording import label

Numbers = Sequence[Sequence[object]]

READING_OUTCOME = (
    "Each line is one {by}, through every sparsity its runs passed on the way; where it stays on "
    "the better side of the dotted line, its tickets match the dense network (grey)."
)
READING_DIFFERENCE = (
    "Blue is better than the dense network of the same seeds, red worse, pale within the "
    "tolerance; a bold number matches, a hatched cell was not measured."
)
READING_MATCHING = (
    "Taller is sparser: each bar is the largest sparsity whose mean over the seeds matches, and "
    "a bar that reaches its dashed line may go on beyond what was measured."
)
READING_TRADEOFF = (
    "Left, marks on their lines mean that the model holds; right, filled marks (matching) should "
    "lie above the curve and hollow ones below it or in the hatched region. Standard errors take "
    "trainings as independent; the model knows no chance."
)


def write_sweep(sweep: Sweep, folder: Path, stem: str = "sweep") -> tuple[Path, ...]:
    """Writes <stem>.html, and <stem>-*.png each with a .csv of the same name; the page first."""
    overlaps = step_overlaps(sweep.runs)
    sections = [
        *outcome_sections(sweep, stem),
        Section("Largest matching sparsity", READING_MATCHING, f"{stem}-matching",
                matching_figure(sweep), _matching(sweep), tables=(Table(*matching_table(sweep)),)),
        _model_section(sweep, stem),
        *([Section("Masks of different rewind steps", STEPS_READING,
                   tables=(Table(*overlap_table(overlaps, "rewind steps")),))] if overlaps else []),
        *closing_sections(sweep, folder),
    ]  # fmt: skip
    page = Page(
        title=f"Sweep {sweep.name}",
        facts=(str(folder), extent(sweep).partition(": ")[2]),
        headline=matching(sweep),
        notices=(*notices(sweep), *refusals(sweep.runs)),
        sections=tuple(sections),
    )
    return write_page(page, folder / f"{stem}.html")


def outcome_sections(sweep: Sweep, stem: str) -> list[Section]:
    """Shows the measure by sparsity, and how far it is from the dense network's."""
    what = sweep.measure
    return [
        Section(f"{label(what).capitalize()} against sparsity",
                READING_OUTCOME.format(by=sweep.by), f"{stem}-{what.name}", outcome_figure(sweep),
                outcomes(sweep)),
        Section("Difference to the dense network", f"{READING_DIFFERENCE} {reading(sweep)}",
                f"{stem}-difference", difference_figure(sweep), differences(sweep),
                tables=(Table(*outcome_table(sweep, sweep.shown)),)),
    ]  # fmt: skip


def _model_section(sweep: Sweep, stem: str) -> Section:
    """Shows the model with its figure where it can be trusted; else in words, folded away."""
    fit, heading = sweep.fit, "The trade-off of rewind step and sparsity"
    notes = (model_sentence(sweep), feasible_sentence(fit, sweep.tolerance) if fit else "")
    if fit is None or not fit.trusted:
        return Section(f"{heading}: no model to rely on", notes=notes, key=f"{stem}-tradeoff",
                       numbers=_tradeoff(sweep) if fit else (), folded=True)  # fmt: skip
    return Section(heading, READING_TRADEOFF, f"{stem}-tradeoff", tradeoff_figure(sweep),
                   _tradeoff(sweep), notes)  # fmt: skip


def closing_sections(sweep: Sweep, folder: Path) -> list[Section]:
    """Shows what it cost, and the runs that it was made of."""
    cost, by_pruner = sweep.cost, sweep.by == "pruner"
    body = [
        ["asked for", f"{cost.asked:,}", str(cost.num_trainings)],
        ["run", f"{cost.run:,}", str(cost.num_trainings - cost.num_reused)],
        ["reused", f"{cost.reused:,}", str(cost.num_reused)],
    ]
    if cost.replayed is not None:
        body.append(["replayed (beside these)", f"{cost.replayed:,}", ""])
    runs: list[list[Cell]] = []
    for run in sorted(sweep.runs, key=lambda run: (run.pruner if by_pruner else "", _place(run))):
        flat = flatten(run.config)
        keys = ("rewind.step", "pruner.sparsity", "seed")
        name = ", ".join([run.pruner] * by_pruner + [f"{key}={flat.get(key)}" for key in keys])
        runs.append([link(page_of(run, folder), name), run.state])
    return [
        Section("Steps asked for, run and reused", notes=(cost_sentence(sweep),), folded=True,
                tables=(Table(["", "training steps", "trainings"], body),)),
        Section("Runs", tables=(Table(["run", "state"], runs),)),
    ]  # fmt: skip


def _place(run: FinishedRun) -> tuple[float, ...]:
    sparsity, seed = (number(run.option(*path)) or 0.0 for path in (("pruner", "sparsity"),
                                                                    ("seed",)))  # fmt: skip
    return (rewind_step(run) or 0, sparsity, seed)


def outcomes(sweep: Sweep) -> Numbers:
    """Lists every level of every arm, in the measure's own units."""
    name = sweep.measure.name
    table: list[list[object]] = [
        [sweep.by.split()[0], "rewind_step", "arm", "sparsity", "density", "n", f"{name}_mean",
         f"{name}_std", "minus_dense", "minus_dense_low", "minus_dense_high", "matches",
         "num_diverged", "seeds"]
    ]  # fmt: skip
    dense, sign = sweep.dense, 1 if sweep.measure.better == "higher" else -1
    if dense is not None:
        seeds = seeds_at(sweep.settings[0], dense)
        table.append(["", "", "dense", 0.0, 1.0, dense.n, dense.mean, dense.std, "", "", "", "",
                      dense.num_diverged, seeds])  # fmt: skip
    for one in sweep.settings:
        for level in (level for arm in one.run.arms for level in one.verdict.of(arm)):
            pair = level.against_dense
            ends = (pair.low, pair.high)[::sign] if pair else (None, None)
            low, high = (None if end is None else sign * end for end in ends)
            table.append(
                [one.label, one.step, level.arm, level.sparsity, level.density, level.n,
                 level.mean, level.std, pair and sign * pair.difference, low, high, level.matches,
                 level.num_diverged, seeds_at(one, level)]
            )  # fmt: skip
    return table


def differences(sweep: Sweep) -> Numbers:
    """Lists every cell of setting x measured or asked sparsity, as shown: positive is better."""
    unit = "points" if sweep.measure.unit == "%" else sweep.measure.name
    gain = "minus_dense" if sweep.measure.better == "higher" else "below_dense"
    table: list[list[object]] = [
        [sweep.by.split()[0], "rewind_step", "sparsity", "asked", "n", f"{gain}_{unit}", "matches"]
    ]
    for one in sweep.settings:
        for column in sweep.columns:
            level = one.at(column)
            pair = level.against_dense if level else None
            table.append(
                [one.label, one.step, column.sparsity, column.asked, pair.n if pair else 0,
                 sweep.measure.scale * pair.difference if pair else None,
                 level.matches if level else None]
            )  # fmt: skip
    return table


def _matching(sweep: Sweep) -> Numbers:
    """Lists the largest matching sparsity of the mean (seed empty) and of each seed."""
    table: list[list[object]] = [
        [sweep.by.split()[0], "rewind_step", "seed", "largest_matching_sparsity",
         sweep.measure.name, "num_failed_before", "largest_measured_sparsity"]
    ]  # fmt: skip
    for one in sweep.settings:
        for seed, verdict in [(None, one.verdict), *one.by_seed().items()]:
            best, last = verdict.largest(TICKET), verdict.last()
            table.append(
                [one.label, one.step, seed, best and best.sparsity, best and best.mean,
                 len(verdict.failed_before(TICKET)), last and last.sparsity]
            )  # fmt: skip
    return table


def _tradeoff(sweep: Sweep) -> Numbers:
    """Lists measured means beside the model, and k*(s) of their sparsity (empty: infeasible)."""
    name = sweep.measure.name
    table: list[list[object]] = [
        ["rewind", "rewind_step", "sparsity", "n", f"{name}_mean", f"{name}_model", "residual",
         "fitted", "smallest_rewind_step", "feasible", "tau", "tau_error", "beta", "beta_error"]
    ]  # fmt: skip
    fit = sweep.fit
    for one in sweep.settings if fit is not None else ():
        for level in one.verdict.of(TICKET):
            if fit is None or one.step is None or level.mean is None:
                continue
            modelled = fit.accuracy(one.step, level.sparsity)
            smallest = fit.smallest_step(level.sparsity)
            table.append(
                [one.label, one.step, level.sparsity, level.n, level.mean, modelled,
                 level.mean - modelled, one.step > 0, smallest, smallest is not None, fit.tau,
                 fit.tau_error, fit.beta, fit.beta_error]
            )  # fmt: skip
    return table
