"""What a sweep leaves behind: a self-contained page, its figures, and the numbers beside each."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from lth_runner.runs.report import drawing
from lth_runner.runs.report.compare import flatten
from lth_runner.runs.report.page import document, html_table, replace
from lth_runner.runs.report.rows import TICKET, Run, number
from lth_runner.runs.report.sweep import Line, Sweep, rewind_step
from lth_runner.runs.report.sweep_figures import accuracy_figure, difference_figure, matching_figure
from lth_runner.runs.report.sweep_overlap import READING as READING_OVERLAP
from lth_runner.runs.report.sweep_overlap import step_overlap_table, step_overlaps
from lth_runner.runs.report.sweep_text import (
    accuracy_table,
    cost_sentence,
    feasible_sentence,
    headline,
    legend,
    matching_sentence,
    matching_table,
    model_sentence,
    seeds_at,
    unfinished,
)
from lth_runner.runs.report.sweep_tradeoff import tradeoff_figure
from lth_runner.runs.report.verdict import Level

Table = Sequence[Sequence[object]]
# key, heading, how to read it, figure, its numbers, what stands below
Section = tuple[str, str, str, Figure | None, Table, list[str]]

READING_ACCURACY = (
    "Each line is one rewind step, through every sparsity its runs passed on the way; where it "
    "stays above the dotted line, its tickets match the dense network (grey)."
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
    "lie above the curve and hollow ones below it or in the hatched region."
)


def write_sweep(sweep: Sweep, folder: Path, stem: str = "sweep") -> tuple[Path, ...]:
    """Writes <stem>.html, and <stem>-*.png each with a .csv of the same name; the page first."""
    tradeoff = tradeoff_figure(sweep)
    drawn: list[Section] = [
        ("accuracy", "Accuracy against sparsity", READING_ACCURACY,
         accuracy_figure(sweep), accuracies(sweep), []),
        ("difference", "Difference to the dense network", READING_DIFFERENCE,
         difference_figure(sweep), differences(sweep), accuracy_part(sweep)),
        ("matching", "Largest matching sparsity", READING_MATCHING,
         matching_figure(sweep), _matching(sweep), [html_table(*matching_table(sweep))]),
        ("tradeoff", "The trade-off of rewind step and sparsity",
         READING_TRADEOFF if tradeoff else "", tradeoff, _tradeoff(sweep), _model_part(sweep)),
    ]  # fmt: skip
    sections, files = with_numbers(drawn, folder, stem)
    body = [
        *_opening(sweep, folder),
        *sections,
        *_overlap_part(sweep),
        "<h2>Steps asked for, run and reused</h2>",
        *cost_part(sweep),
        "<h2>Runs</h2>",
        runs_part(sweep, folder),
    ]
    page = folder / f"{stem}.html"
    replace(page, document(f"Sweep {sweep.name}", body).encode())
    return (page, *files)


def with_numbers(
    drawn: Sequence[Section], folder: Path, stem: str
) -> tuple[list[str], tuple[Path, ...]]:
    """The page's sections; each figure also goes to <stem>-<key>.png, its numbers to a .csv."""
    files: list[Path] = []
    body: list[str] = []
    for key, heading, reading, figure, table, more in drawn:
        body.append(f"<h2>{escape(heading)}</h2>")
        if figure is not None:
            picture, numbers = (folder / f"{stem}-{key}.{kind}" for kind in ("png", "csv"))
            replace(picture, drawing.png(figure))
            replace(numbers, _csv(table).encode())
            files += [picture, numbers]
            body += [
                f'<p class="muted">{escape(reading)} Numbers: '
                f'<a href="{numbers.name}">{numbers.name}</a>.</p>',
                f'<div class="figure">{drawing.svg(figure, f"{stem}-{key}")}</div>',
            ]
        body += more
    return body, tuple(files)


def _overlap_part(sweep: Sweep) -> list[str]:
    found = step_overlaps(sweep)
    if not found:
        return []
    return ["<h2>Masks of different rewind steps</h2>", f'<p class="muted">{READING_OVERLAP}</p>',
            html_table(*step_overlap_table(found))]  # fmt: skip


def cost_part(sweep: Sweep) -> list[str]:
    """What the runs asked for, and what of it was reused."""
    return [f"<p>{escape(cost_sentence(sweep))}</p>", html_table(*_cost_table(sweep))]


def _opening(sweep: Sweep, folder: Path) -> list[str]:
    found = [
        f"<h1>Sweep {escape(sweep.name)}</h1>",
        f'<p class="muted">{escape(str(folder))}</p>',
        f'<p class="verdict">{escape(headline(sweep))} {escape(matching_sentence(sweep))}</p>',
    ]
    if note := unfinished(sweep):
        found.append(f'<p class="verdict notice">{escape(note)}</p>')
    return found


def accuracy_part(sweep: Sweep) -> list[str]:
    reading = f"Test accuracy in %, mean ± standard deviation (seeds). {legend(sweep)}"
    return [f'<p class="muted">{escape(reading)}</p>',
            html_table(*accuracy_table(sweep, sweep.shown))]  # fmt: skip


def _model_part(sweep: Sweep) -> list[str]:
    fit = sweep.fit
    style = "verdict" if fit is not None and fit.trusted else "verdict notice"
    found = [f'<p class="{style}">{escape(model_sentence(sweep))}</p>']
    if fit is not None:
        found.append(f'<p class="muted">{escape(feasible_sentence(fit, sweep.tolerance))} '
                     "Standard errors take trainings as independent; the model knows no accuracy "
                     "of chance.</p>")  # fmt: skip
    return found


def _cost_table(sweep: Sweep) -> tuple[list[str], list[list[str]]]:
    cost = sweep.cost
    body = [
        ["asked for", f"{cost.asked:,}", str(cost.num_trainings)],
        ["run", f"{cost.run:,}", str(cost.num_trainings - cost.num_reused)],
        ["reused", f"{cost.reused:,}", str(cost.num_reused)],
    ]
    if cost.replayed is not None:
        body.append(["replayed (beside these)", f"{cost.replayed:,}", ""])
    return ["", "training steps", "trainings"], body


def runs_part(sweep: Sweep, folder: Path) -> str:
    items = []
    by_pruner = sweep.by == "pruner"
    for run in sorted(sweep.runs, key=lambda run: (run.pruner if by_pruner else "", _place(run))):
        relative = Path(os.path.relpath(run.folder.resolve(), folder.resolve())) / "report.html"
        flat = flatten(run.config)
        name = ", ".join(
            f"{key}={flat.get(key)}" for key in ("rewind.step", "pruner.sparsity", "seed")
        )
        name = f"{run.pruner}, {name}" if by_pruner else name
        link = f'<a href="{escape(relative.as_posix())}">{escape(name)}</a>'
        items.append(f"<tr><td>{link}</td><td>{escape(run.state)}</td></tr>")
    return f'<div class="box"><table><tbody>{"".join(items)}</tbody></table></div>'


def _place(run: Run) -> tuple[float, ...]:
    flat = flatten(run.config)
    sparsity, seed = (number(flat.get(key)) or 0.0 for key in ("pruner.sparsity", "seed"))
    return (rewind_step(run) or 0, sparsity, seed)


def _csv(table: Table) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()


def _levels(line: Line) -> Iterable[Level]:
    return (level for arm in line.run.arms for level in line.verdict.of(arm))


def accuracies(sweep: Sweep) -> Table:
    """Every level of every arm, accuracies as fractions."""
    table: list[list[object]] = [
        [sweep.by.split()[0], "rewind_step", "arm", "sparsity", "density", "n", "accuracy_mean",
         "accuracy_std", "minus_dense", "minus_dense_low", "minus_dense_high", "matches",
         "num_diverged", "seeds"]
    ]  # fmt: skip
    dense = sweep.dense
    if dense is not None:
        seeds = seeds_at(sweep.lines[0], dense)
        table.append(["", "", "dense", 0.0, 1.0, dense.n, dense.mean, dense.std, "", "", "", "",
                      dense.num_diverged, seeds])  # fmt: skip
    for line in sweep.lines:
        for level in _levels(line):
            pair = level.against_dense
            table.append(
                [line.label, line.step, level.arm, level.sparsity, level.density, level.n,
                 level.mean, level.std, pair and pair.difference, pair and pair.low,
                 pair and pair.high, level.matches, level.num_diverged, seeds_at(line, level)]
            )  # fmt: skip
    return table


def differences(sweep: Sweep) -> Table:
    """Every cell of rewind step x measured or asked sparsity, in points."""
    table: list[list[object]] = [
        [
            sweep.by.split()[0],
            "rewind_step",
            "sparsity",
            "asked",
            "n",
            "minus_dense_points",
            "matches",
        ]
    ]
    for line in sweep.lines:
        for column in sweep.columns:
            level = line.at(column)
            pair = level.against_dense if level else None
            table.append(
                [line.label, line.step, column.sparsity, column.asked, pair.n if pair else 0,
                 100 * pair.difference if pair else None, level.matches if level else None]
            )  # fmt: skip
    return table


def _matching(sweep: Sweep) -> Table:
    """The largest matching sparsity of the mean (seed empty) and of each seed."""
    table: list[list[object]] = [
        ["rewind", "rewind_step", "seed", "largest_matching_sparsity", "accuracy",
         "num_failed_before", "largest_measured_sparsity"]
    ]  # fmt: skip
    for line in sweep.lines:
        for seed, verdict in [(None, line.verdict), *line.by_seed().items()]:
            best, levels = verdict.largest(TICKET), verdict.of(TICKET)
            measured = [level.sparsity for level in levels if level.mean is not None]
            table.append(
                [line.label, line.step, seed, best and best.sparsity, best and best.mean,
                 len(verdict.failed_before(TICKET)), max(measured, default=None)]
            )  # fmt: skip
    return table


def _tradeoff(sweep: Sweep) -> Table:
    """Measured means beside the model, and k*(s) of their sparsity (empty: infeasible)."""
    table: list[list[object]] = [
        ["rewind", "rewind_step", "sparsity", "n", "accuracy_mean", "accuracy_model", "residual",
         "fitted", "smallest_rewind_step", "feasible", "tau", "tau_error", "beta", "beta_error"]
    ]  # fmt: skip
    fit = sweep.fit
    for line in sweep.lines if fit is not None else ():
        for level in line.verdict.of(TICKET):
            if fit is None or line.step is None or level.mean is None:
                continue
            modelled = fit.accuracy(line.step, level.sparsity)
            smallest = fit.smallest_step(level.sparsity)
            table.append(
                [line.label, line.step, level.sparsity, level.n, level.mean, modelled,
                 level.mean - modelled, line.step > 0, smallest, smallest is not None, fit.tau,
                 fit.tau_error, fit.beta, fit.beta_error]
            )  # fmt: skip
    return table
