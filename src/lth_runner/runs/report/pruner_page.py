"""Pruners side by side: one page, its figures with their numbers, and the console's view."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape
from pathlib import Path

from lth_runner.runs.report.page import document, html_table, replace
from lth_runner.runs.report.pruner_figures import effort_figure, layer_figure
from lth_runner.runs.report.pruners import Comparison, Effort
from lth_runner.runs.report.rows import ACCURACY, TICKET
from lth_runner.runs.report.sanity import HINT, Check, sanity_table, sentences
from lth_runner.runs.report.sweep_figures import accuracy_figure, difference_figure
from lth_runner.runs.report.sweep_page import (
    Section,
    Table,
    accuracies,
    accuracy_part,
    cost_part,
    differences,
    runs_part,
    with_numbers,
)
from lth_runner.runs.report.sweep_text import (
    accuracy_table,
    columns_text,
    cost_sentence,
    headline,
    legend,
    unfinished,
)
from lth_runner.runs.report.table import WIDTH
from lth_runner.runs.report.verdict import paired
from lth_runner.runs.report.wording import joined, points, removed

READING_ACCURACY = (
    "Each line is one pruner, through every sparsity its runs passed on the way; where it stays "
    "above the dotted line, its tickets match the dense network (grey)."
)
READING_DIFFERENCE = (
    "Blue is better than the dense network of the same seeds, red worse, pale within the "
    "tolerance; a bold number matches, a hatched cell was not measured."
)
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
    drawn: list[Section] = [
        ("accuracy", "Accuracy against sparsity", READING_ACCURACY,
         accuracy_figure(sweep), accuracies(sweep), accuracy_part(sweep)),
        ("difference", "Difference to the dense network", READING_DIFFERENCE,
         difference_figure(sweep), differences(sweep), []),
        ("layers", "Density of each layer", READING_LAYERS,
         layer_figure(comparison), _densities(comparison), []),
        ("effort", "Finding the masks", READING_EFFORT,
         effort_figure(comparison), _efforts(comparison),
         [html_table(*effort_table(comparison.efforts))]),
    ]  # fmt: skip
    sections, files = with_numbers(drawn, folder, stem)
    body = [
        f"<h1>Pruners, {escape(sweep.name)}</h1>",
        f'<p class="muted">{escape(str(folder))}</p>',
        f'<p class="verdict">{escape(headline(sweep))} {escape(best_sentence(comparison))}</p>',
    ]
    if note := unfinished(sweep):
        body.append(f'<p class="verdict notice">{escape(note)}</p>')
    body += [*sections, *_checks_part(comparison)]
    body += ["<h2>Steps asked for, run and reused</h2>", *cost_part(sweep)]
    body += ["<h2>Runs</h2>", runs_part(sweep, folder)]
    page = folder / f"{stem}.html"
    replace(page, document(f"Pruners, {sweep.name}", body).encode())
    return (page, *files)


def text(comparison: Comparison) -> str:
    """The console's view: accuracies, the effort, the sanity checks, the steps."""
    sweep = comparison.sweep
    parts: list[str] = []
    for sentence in (headline(sweep), unfinished(sweep), best_sentence(comparison)):
        parts += textwrap.wrap(sentence, WIDTH) if sentence else []
    parts += textwrap.wrap(f"Test accuracy in %, mean ± std (seeds). {legend(sweep)}", WIDTH)
    for first in range(0, len(comparison.columns), 4):
        columns = comparison.columns[first : first + 4]
        parts += ["", *columns_text(*accuracy_table(sweep, columns))]
    parts += ["", *columns_text(*effort_table(comparison.efforts)), ""]
    found = _told(comparison)
    for sentence in [*(found or [NO_CHECKS]), "", cost_sentence(sweep)]:
        parts += textwrap.wrap(sentence, WIDTH) or [""]
    return "\n".join(parts)


def best_sentence(comparison: Comparison) -> str:
    """The most accurate pruner at each sparsity shown, with its lead over the next."""
    told = []
    for column in comparison.columns:
        levels = [
            (line, level)
            for line in comparison.sweep.lines
            if (level := line.at(column)) is not None and level.mean is not None
        ]
        if len(levels) > 1:
            (line, best), (other, _) = sorted(levels, key=lambda x: -(x[1].mean or 0.0))[:2]
            lead = paired(*(one.run.values(TICKET, best.round, ACCURACY) for one in (line, other)))
            ahead = f" ({points(lead)} to {other.label})" if lead else ""
            told.append(f"{line.label} at {removed(best.density)}{ahead}")
    return f"Highest mean accuracy: {joined(told)}." if told else ""


def effort_table(efforts: Sequence[Effort]) -> tuple[list[str], list[list[str]]]:
    """Pruner and sparsity -> where the mask is from, what that took, the ticket's own training."""
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


def _told(comparison: Comparison) -> list[str]:
    return [
        sentence
        for line in comparison.sweep.lines
        for sentence in sentences(comparison.checks(line))
    ]


def _checks_part(comparison: Comparison) -> list[str]:
    found: list[Check] = []
    for line in comparison.sweep.lines:
        found += comparison.checks(line)
    if not found:
        return ["<h2>Sanity checks</h2>", f'<p class="muted">{escape(NO_CHECKS)}</p>']
    return [
        "<h2>Sanity checks</h2>",
        f'<p class="muted">{escape(HINT)}</p>',
        *(f"<p>{escape(sentence)}</p>" for sentence in _told(comparison)),
        html_table(*sanity_table(found)),
    ]


def _densities(comparison: Comparison) -> Table:
    table: list[list[object]] = [["pruner", "sparsity", "layer", "density"]]
    for line in comparison.sweep.lines:
        for level in line.verdict.of(TICKET):
            cells = comparison.layers.get((line.label, level.round), {})
            table += [[line.label, level.sparsity, k, v / 100] for k, v in cells.items()]
    return table


def _efforts(comparison: Comparison) -> Table:
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
