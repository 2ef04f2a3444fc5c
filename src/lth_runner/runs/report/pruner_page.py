"""Pruners side by side on one page, with their numbers, and the console's view."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from lth_runner.runs.report.headline import Headline
from lth_runner.runs.report.page import Page, Section, Table, write_page
from lth_runner.runs.report.pruner_figures import effort_figure, layer_figure
from lth_runner.runs.report.pruners import Comparison, Effort
from lth_runner.runs.report.refused import refusals
from lth_runner.runs.report.rows import TICKET
from lth_runner.runs.report.sanity import sanity_section, sentences
from lth_runner.runs.report.sweep_page import Numbers, closing_sections, outcome_sections
from lth_runner.runs.report.sweep_text import cost_sentence, extent, notices, outcome_table, reading
from lth_runner.runs.report.table import WIDTH, named
from lth_runner.runs.report.verdict import gains
from lth_runner.runs.report.wording import gain, label, reached, removed

READING_LAYERS = (
    "Weights that each pruner keeps in each layer (%, mean of the seeds), input layer on the left; "
    "darker is denser. Two pruners with the same row differ only in which weights they keep."
)
READING_EFFORT = (
    "What it took until the mask was there, before the ticket's own training. Trainings count in "
    "full, whoever did them and however many pruners share them; a dense network that is only "
    "compared with does not count. The search is scoring and what is run again for it. "
    "Seconds are those of the machines that the runs had."
)
NO_CHECKS = "No control of the sanity checks was run: control=[shuffle,reinit], or control=sanity."


def write_pruners(comparison: Comparison, folder: Path, stem: str = "pruners") -> tuple[Path, ...]:
    """Writes <stem>.html, and <stem>-*.png each with a .csv of the same name; the page first."""
    sweep = comparison.sweep
    found = [check for one in sweep.settings for check in comparison.checks(one)]
    sections = [
        *outcome_sections(sweep, stem),
        Section("Density of each layer", READING_LAYERS, f"{stem}-layers",
                layer_figure(comparison), _densities(comparison)),
        Section("Finding the masks", READING_EFFORT, f"{stem}-effort", effort_figure(comparison),
                _efforts(comparison), tables=(Table(*effort_table(comparison.efforts)),)),
        sanity_section(found) if found else Section("Sanity checks", NO_CHECKS),
        *closing_sections(sweep, folder),
    ]  # fmt: skip
    page = Page(
        title=f"Pruners, {sweep.name}",
        facts=(str(folder), extent(sweep).partition(": ")[2]),
        headline=best(comparison),
        notices=(*notices(sweep), *refusals(sweep.runs)),
        sections=tuple(sections),
    )
    return write_page(page, folder / f"{stem}.html")


def text(comparison: Comparison) -> str:
    """Writes the console's view: the measure, the effort, the sanity checks, the steps."""
    sweep = comparison.sweep
    parts: list[str] = []
    for sentence in (extent(sweep), best(comparison).text, *notices(sweep), *refusals(sweep.runs)):
        parts += textwrap.wrap(sentence, WIDTH) if sentence else []
    parts += textwrap.wrap(reading(sweep), WIDTH)
    for first in range(0, len(comparison.columns), 4):
        parts += ["", *named(*outcome_table(sweep, comparison.columns[first : first + 4]))]
    parts += ["", *named(*effort_table(comparison.efforts)), ""]
    told = [text for one in sweep.settings for text in sentences(comparison.checks(one))]
    for sentence in [*(told or [NO_CHECKS]), "", cost_sentence(sweep)]:
        parts += textwrap.wrap(sentence, WIDTH) or [""]
    return "\n".join(parts)


def best(comparison: Comparison) -> Headline:
    """Names the best pruner at the largest sparsity that several reached, and at others."""
    told: list[tuple[str, str, str]] = []
    measure = comparison.sweep.measure
    for column in comparison.columns:
        levels = [
            (one, level)
            for one in comparison.sweep.settings
            if (level := one.at(column)) is not None and level.mean is not None
        ]
        if len(levels) > 1:
            sign = -1 if measure.better == "higher" else 1
            (one, top), (other, _) = sorted(levels, key=lambda x: sign * (x[1].mean or 0.0))[:2]
            first, second = (x.run.values(TICKET, top.round, x.run.outcome) for x in (one, other))
            lead = gains(measure, first, second)
            ahead = f" ({gain(measure, lead)} to {other.label})" if lead else ""
            number = reached(measure, top, 1 if measure.unit == "%" else None).split(" ±")[0]
            told.append((f"{number} {measure.unit}".strip(), f"{one.label} at sparsity "
                         f"{removed(top.density)}", ahead))  # fmt: skip
    if not told:
        return Headline("–", "", "No two pruners have a ticket at the same sparsity yet.")
    number, where, ahead = told[-1]
    others = tuple(f"{where}{ahead}." for _, where, ahead in reversed(told[:-1]))
    remarks = (f"Elsewhere: {' '.join(others)}",) if others else ()
    return Headline(number, f"test {label(measure)} of the best pruner",
                    f"Best on average: {where}{ahead}.", remarks)  # fmt: skip


def effort_table(efforts: Sequence[Effort]) -> tuple[list[str], list[list[str]]]:
    """Tabulates by pruner and sparsity where the mask is from, what that took, and the ticket."""
    header = ["pruner", "sparsity", "mask from", "trainings", "steps", "seconds", "+ search s",
              "= seconds", "own steps", "own s"]  # fmt: skip
    return header, [
        [
            effort.label,
            removed(1 - effort.sparsity),
            effort.source,
            f"{effort.trainings:.3g}",
            f"{effort.steps:,.0f}",
            _seconds(effort.seconds),
            _seconds(effort.search),
            _seconds(effort.total),
            f"{effort.own_steps:,.0f}",
            _seconds(effort.own_seconds),
        ]
        for effort in efforts
    ]


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value >= 10 or value == 0 else f"{value:.2g}"


def _densities(comparison: Comparison) -> Numbers:
    table: list[list[object]] = [["pruner", "sparsity", "layer", "density"]]
    for one in comparison.sweep.settings:
        for level in one.verdict.of(TICKET):
            cells = comparison.layers.get((one.label, level.round), {})
            table += [[one.label, level.sparsity, k, v / 100] for k, v in cells.items()]
    return table


def _efforts(comparison: Comparison) -> Numbers:
    header = ["pruner", "sparsity", "mask_from", "n", "trainings", "steps", "training_seconds",
              "search_seconds", "own_steps", "own_seconds"]  # fmt: skip
    return [
        header,
        *(
            [e.label, e.sparsity, e.source, e.n, e.trainings, e.steps, e.seconds, e.search,
             e.own_steps, e.own_seconds]
            for e in comparison.efforts
        ),
    ]  # fmt: skip
