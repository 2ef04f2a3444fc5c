"""What a sweep leaves behind: a self-contained page, its figures, and the numbers beside each."""

from __future__ import annotations

from pathlib import Path

from lth_runner.runs.evidence.means import number
from lth_runner.runs.evidence.overlap import step_overlaps
from lth_runner.runs.evidence.rows import TICKET, FinishedRun, rewind_step
from lth_runner.runs.evidence.settings import flatten
from lth_runner.runs.evidence.sweep import Setting, Sweep
from lth_runner.runs.evidence.tradeoff import Range
from lth_runner.runs.evidence.verdict import Level
from lth_runner.runs.pages.page import (
    Cell,
    Headline,
    Page,
    Records,
    Section,
    Table,
    run_link,
    write_page,
)
from lth_runner.runs.pages.progress import refusals
from lth_runner.runs.pages.wording import label
from lth_runner.runs.report.sweep_figures import (
    difference_figure,
    matching_figure,
    outcome_figure,
    tradeoff_figure,
)
from lth_runner.runs.report.sweep_matching import matching, matching_table
from lth_runner.runs.report.sweep_text import (
    cost_sentence,
    facts,
    feasible_sentence,
    model_sentence,
    model_tables,
    notices,
    outcome_table,
    reading,
)
from lth_runner.runs.report.table import CHANCE, overlap_table

READING_OUTCOME = (
    "Each line is one {by}, through every sparsity its runs passed on the way; where it stays on "
    "the better side of the dotted line, its means are within the tolerance of the dense network "
    "(grey), which alone shows no match."
)
READING_DIFFERENCE = (
    "Blue is better than the dense network, red worse, pale within the "
    "tolerance; a bold number is shown to match, a hatched cell was not measured."
)
READING_MATCHING = (
    "Taller is sparser: each bar goes up to the sparsest match that is shown, its pale part to the "
    "sparsest that is not refuted; one that reaches its dashed line may go on beyond what was "
    "measured. Dots are what each seed's value alone is within, which shows nothing."
)
READING_TRADEOFF = (
    "Left, marks on their lines mean that the model holds; right, s_max(k) with its 95 % interval, "
    "the sparsest ticket that loses no more than the tolerance: filled marks (shown to match) "
    "should lie below it. k*(s) is the same curve read the other way. Seeds are resampled with all "
    "their trainings; the model knows no chance level."
)
READING_OVERLAPS = (
    "Jaccard index of the masks that two rewind steps lead to from the same seed, at the largest "
    f"sparsity that several steps reached, mean over seeds, {CHANCE}"
)


def write_sweep(sweep: Sweep, folder: Path, stem: str = "sweep") -> tuple[Path, ...]:
    """Writes <stem>.html, and <stem>-*.png each with a .csv of the same name; the page first."""
    overlaps = step_overlaps(sweep.runs)
    sections = [
        Section("Sparsest match", READING_MATCHING, f"{stem}-matching",
                matching_figure(sweep), _matching(sweep), tables=(Table(*matching_table(sweep)),)),
        _model_section(sweep, stem),
        *([Section("Masks of different rewind steps", READING_OVERLAPS,
                   tables=(Table(*overlap_table(overlaps, "rewind steps")),))] if overlaps else []),
    ]  # fmt: skip
    page = sweep_page(sweep, folder, stem, f"Sweep {sweep.name}", matching(sweep), sections)
    return write_page(page, folder / f"{stem}.html")


def sweep_page(
    sweep: Sweep, folder: Path, stem: str, title: str, top: Headline, own: list[Section]
) -> Page:
    """Makes a page of what all sweeps show, and of sections of its own between."""
    what = sweep.measure
    sections = [
        Section(f"{label(what).capitalize()} against sparsity",
                READING_OUTCOME.format(by=sweep.by), f"{stem}-{what.name}", outcome_figure(sweep),
                _outcomes(sweep)),
        Section("Difference to the dense network", f"{READING_DIFFERENCE} {reading(sweep)}",
                f"{stem}-difference", difference_figure(sweep), _differences(sweep),
                tables=(Table(*outcome_table(sweep, sweep.shown)),)),
        *own,
        Section("Steps asked for, run and reused", notes=(cost_sentence(sweep),), folded=True,
                tables=(_costs(sweep),)),
        Section("Runs", tables=(_runs(sweep, folder),)),
    ]  # fmt: skip
    warnings = (*notices(sweep), *refusals(sweep.runs))
    return Page(title, (str(folder), facts(sweep)), top, warnings, tuple(sections))


def _model_section(sweep: Sweep, stem: str) -> Section:
    """Shows the model with its figure where it can be trusted; else in words, folded away."""
    fit, heading = sweep.fit, "The trade-off of rewind step and sparsity"
    notes = (model_sentence(sweep),)
    if fit is None or not fit.trusted:
        return Section(f"{heading}: no model to rely on", notes=notes, key=f"{stem}-tradeoff",
                       numbers=_tradeoff(sweep), folded=True)  # fmt: skip
    return Section(heading, READING_TRADEOFF, f"{stem}-tradeoff", tradeoff_figure(sweep, fit),
                   _tradeoff(sweep), (*notes, feasible_sentence(fit)),
                   tuple(Table(*one) for one in model_tables(sweep, fit)))  # fmt: skip


def _costs(sweep: Sweep) -> Table:
    cost = sweep.cost
    body = [
        ["asked for", f"{cost.asked:,}", str(cost.num_trainings)],
        ["run", f"{cost.run:,}", str(cost.num_trainings - cost.num_reused)],
        ["reused", f"{cost.reused:,}", str(cost.num_reused)],
    ]
    if cost.replayed is not None:
        body.append(["replayed (beside these)", f"{cost.replayed:,}", ""])
    return Table(["", "training steps", "trainings"], body)


def _runs(sweep: Sweep, folder: Path) -> Table:
    """Links every run by what it was asked for."""
    by_pruner = sweep.by == "pruner"
    body: list[list[Cell]] = []
    for run in sorted(sweep.runs, key=lambda run: (run.pruner if by_pruner else "", _place(run))):
        flat = flatten(run.config)
        keys = ("rewind.step", "pruner.sparsity", "seed")
        name = ", ".join([run.pruner] * by_pruner + [f"{key}={flat.get(key)}" for key in keys])
        body.append([run_link(run, folder, name), run.state])
    return Table(["run", "state"], body)


def _place(run: FinishedRun) -> tuple[float, ...]:
    sparsity, seed = number(run.option("pruner", "sparsity")), number(run.option("seed"))
    return (rewind_step(run) or 0, sparsity or 0.0, seed or 0.0)


# --- the numbers beside the figures


def _outcomes(sweep: Sweep) -> Records:
    """Lists every level of every arm, in the measure's own units; the dense network's first."""
    found = [(one, level) for one in sweep.settings for arm in one.run.arms
             for level in one.verdict.of(arm)]  # fmt: skip
    dense = [_outcome(sweep, sweep.settings[0], sweep.dense)] if sweep.dense else []
    return [*dense, *(_outcome(sweep, one, level) for one, level in found)]


def _outcome(sweep: Sweep, one: Setting, level: Level) -> dict[str, object]:
    name, is_dense = sweep.measure.name, level is sweep.dense
    pair, sign = level.against_dense, 1 if sweep.measure.better == "higher" else -1
    ends = (pair.low, pair.high)[::sign] if pair else (None, None)
    low, high = (None if end is None else sign * end for end in ends)
    seeds = sorted(one.run.values(level.arm, level.round, one.run.outcome))
    return {
        sweep.by.split()[0]: "" if is_dense else one.label,
        "rewind_step": "" if is_dense else one.step,
        "arm": "dense" if is_dense else level.arm,
        "sparsity": level.sparsity,
        "density": level.density,
        "n": level.n,
        f"{name}_mean": level.mean,
        f"{name}_std": level.std,
        "minus_dense": pair and sign * pair.difference,
        "minus_dense_low": low,
        "minus_dense_high": high,
        "matches": level.matches,
        "num_diverged": level.num_diverged,
        "seeds": " ".join(map(str, seeds)),
    }


def _differences(sweep: Sweep) -> Records:
    """Lists every cell of setting x measured or asked sparsity, as shown: positive is better."""
    unit = "points" if sweep.measure.unit == "%" else sweep.measure.name
    gain = "minus_dense" if sweep.measure.better == "higher" else "below_dense"
    found = [(one, column, one.at(column)) for one in sweep.settings for column in sweep.columns]
    return [
        {
            sweep.by.split()[0]: one.label,
            "rewind_step": one.step,
            "sparsity": column.sparsity,
            "asked": column.asked,
            "n": pair.n if pair else 0,
            f"{gain}_{unit}": sweep.measure.scale * pair.difference if pair else None,
            "matches": level.matches if level else None,
        }
        for one, column, level in found
        for pair in [level.against_dense if level else None]
    ]


def _matching(sweep: Sweep) -> Records:
    """Lists the sparsest match over the seeds (seed empty), and of each seed alone by its value."""
    return [
        {
            sweep.by.split()[0]: one.label,
            "rewind_step": one.step,
            "seed": seed,
            "sparsest_shown_match": shown and shown.sparsity,
            "sparsest_not_refuted": possible and possible.sparsity,
            "sparsest_within_tolerance": within and within.sparsity,
            "largest_measured_sparsity": last and last.sparsity,
        }
        for one in sweep.settings
        for seed, verdict in [(None, one.verdict), *one.by_seed().items()]
        for shown, possible in [(verdict.shown(), verdict.possible())]
        for within, last in [(verdict.by_mean(), verdict.last())]
    ]


def _tradeoff(sweep: Sweep) -> Records:
    """Lists measured means beside the model, s_max(k) of their step and k*(s) of their sparsity."""
    fit, name = sweep.fit, sweep.measure.name
    return [
        {
            "rewind": one.label,
            "rewind_step": one.step,
            "sparsity": level.sparsity,
            "n": level.n,
            f"{name}_mean": level.mean,
            f"{name}_model": modelled,
            "residual": level.mean - modelled,
            **_ends("largest_sparsity", fit.largest_sparsity(one.step)),
            **_ends("smallest_step", fit.smallest_step(level.sparsity)),
            **{key: value for parameter in ("dense", "b_inf", "b_0", "tau")
               for key, value in _ends(parameter, fit.parameter(parameter)).items()},
            "trusted": fit.trusted,
        }
        for one in sweep.settings
        for level in one.verdict.of(TICKET)
        if fit is not None and one.step is not None and level.mean is not None and level.density > 0
        for modelled in [fit.model.accuracy(one.step, level.sparsity)]
    ]  # fmt: skip


def _ends(name: str, found: Range) -> dict[str, float | None]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
