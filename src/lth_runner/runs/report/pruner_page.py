"""Pruners side by side on one page, with their figures and numbers, and the console's view."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lth_runner.runs.evidence.pruners import Comparison, Effort, Lead
from lth_runner.runs.evidence.rows import TICKET
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.drawing import MUTED
from lth_runner.runs.pages.page import Headline, Records, Section, Table, write_page
from lth_runner.runs.pages.progress import refusals
from lth_runner.runs.pages.tables import Cells, ruled, wrapped
from lth_runner.runs.report.headline import alone
from lth_runner.runs.report.heat import layer_densities, layers_by_pruner
from lth_runner.runs.report.sanity_text import sanity_section, sentences
from lth_runner.runs.report.sweep_page import sweep_page
from lth_runner.runs.report.sweep_text import cost_sentence, extent, notices, outcome_table, reading

WIDTH = 10.0  # inches
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
    sweep, efforts = comparison.sweep, comparison.efforts
    found = [check for one in sweep.settings for check in comparison.checks(one)]
    own = [
        Section("Density of each layer", READING_LAYERS, f"{stem}-layers",
                layer_figure(comparison), _densities(comparison)),
        Section("Finding the masks", READING_EFFORT, f"{stem}-effort", effort_figure(comparison),
                _records(efforts), tables=(Table(*_effort_table(efforts)),)),
        sanity_section(found) if found else Section("Sanity checks", NO_CHECKS),
    ]  # fmt: skip
    page = sweep_page(sweep, folder, stem, f"Pruners, {sweep.name}", best(comparison), own)
    return write_page(page, folder / f"{stem}.html")


def text(comparison: Comparison) -> str:
    """Writes the console's view: the measure, the effort, the sanity checks, the steps."""
    sweep, columns = comparison.sweep, comparison.columns
    warnings = (*notices(sweep), *refusals(sweep.runs))
    parts = wrapped([extent(sweep), best(comparison).text, *warnings, reading(sweep)])
    for first in range(0, len(columns), 4):
        parts += ["", *ruled(outcome_table(sweep, columns[first : first + 4]), left=0)]
    parts += ["", *ruled(_effort_table(comparison.efforts), left=0), ""]
    told = [text for one in sweep.settings for text in sentences(comparison.checks(one))]
    return "\n".join([*parts, *wrapped(told or [NO_CHECKS]), "", *wrapped([cost_sentence(sweep)])])


def best(comparison: Comparison) -> Headline:
    """Names the best pruner at the largest sparsity that several reached, and at others."""
    measure = comparison.sweep.measure
    leads = [lead for column in comparison.columns if (lead := comparison.lead(column))]
    if not leads:
        seed = " and of the same seed (report.paired)" if comparison.sweep.verdict.is_paired else ""
        return Headline("–", "", f"No two pruners have a ticket at the same sparsity{seed} yet.")
    told = [
        f"{lead.best.label} at sparsity {say.removed(lead.level.density)} "
        f"({say.gain(measure, lead.difference)} to {lead.next.label}, n = {lead.difference.n}: "
        f"{_word(lead)})."
        for lead in leads
    ]
    remarks = (f"Elsewhere: {' '.join(told[-2::-1])}",) if len(told) > 1 else ()
    number = alone(measure, leads[-1].level, 1 if measure.unit == "%" else None)
    about = f"test {say.label(measure)} of the best pruner"
    return Headline(number, about, f"Best on average: {told[-1]}", remarks)


def _word(lead: Lead) -> str:
    """Says whether the best pruner is better than the next, as its verdict on a control would."""
    if lead.level.at_chance:  # and so the next one
        return "at chance, which says nothing"
    diverged = lead.level.num_diverged
    return f"{lead.word}{f', {diverged} of its trainings diverged' if diverged else ''}"


# --- what the masks keep


def layer_figure(comparison: Comparison) -> Figure | None:
    """Draws a heat map of pruner x layer for each sparsity shown."""
    found = [
        (say.removed(1 - column.sparsity),
         {one.label: layer_densities(one.run, column.level or 0)
          for one in comparison.sweep.settings})
        for column in comparison.columns
    ]  # fmt: skip
    return layers_by_pruner(found, WIDTH)


def _densities(comparison: Comparison) -> Records:
    return [
        {"pruner": one.label, "sparsity": level.sparsity, "layer": name, "density": value / 100}
        for one in comparison.sweep.settings
        for level in one.verdict.of(TICKET)
        for name, value in layer_densities(one.run, level.round).items()
    ]


# --- what it took to find them


def effort_figure(comparison: Comparison) -> Figure | None:
    """Draws left the seconds until a mask is there, right the steps; a row per pruner."""
    efforts = comparison.efforts
    if not efforts:
        return None
    labels = [one.label for one in comparison.sweep.settings]
    written, longest, tallest = drawing.folded(labels)
    height = 1.75 + (0.3 + 0.17 * (tallest - 1)) * max(len(labels), 3)
    figure = drawing.new_figure(WIDTH, height)
    left = 0.03 + 0.0085 * longest
    wide, low, high = (0.96 - left - 0.05) / 2, 0.62 / height, 1 - 1.3 / height
    seconds = figure.add_axes((left, low, wide, high))
    steps = figure.add_axes((left + wide + 0.05, low, wide, high))
    drawing.tidy(seconds, xlabel="seconds to find the mask (log scale)", ylabel="")
    drawing.tidy(steps, xlabel="training steps before the ticket's own", ylabel="")
    sparsities = sorted({effort.sparsity for effort in efforts})  # darker is sparser
    colours = {s: drawing.shade(i, len(sparsities)) for i, s in enumerate(sparsities)}
    for effort in efforts:
        y, colour = labels.index(effort.label), colours[effort.sparsity]
        if effort.total > 0:
            _dot(seconds, effort.total, y, colour)
        if effort.search:
            seconds.plot([effort.search], [y], "|", markersize=9, color=colour, zorder=2)
        _dot(steps, effort.steps, y, colour)
    if any(effort.total > 0 for effort in efforts):
        seconds.set_xscale("log")
    steps.set_xlim(left=-0.03 * max([effort.steps for effort in efforts] + [1.0]))
    steps.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    steps.locator_params(axis="x", nbins=5)
    for axes, names in ((seconds, written), (steps, [])):
        axes.set_yticks(range(len(labels)))
        axes.set_yticklabels(names, parse_math=False)
        axes.set_ylim(len(labels) - 0.4, -0.6)
    for sparsity, colour in colours.items():
        seconds.plot([], [], "o", color=colour, label=say.removed(1 - sparsity))
    legend = seconds.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=8, frameon=False,
                            fontsize=9, title="sparsity (line: the search alone)")  # fmt: skip
    legend.get_title().set(fontsize=9, color=MUTED)
    return figure


def _dot(axes: Axes, x: float, y: float, colour: str) -> None:
    axes.plot([x], [y], "o", color=colour, markersize=6.5, markeredgecolor="white",
              markeredgewidth=0.6, zorder=3)  # fmt: skip


def _effort_table(efforts: Sequence[Effort]) -> Cells:
    """Tabulates by pruner and sparsity where the mask is from, what that took, and the ticket."""
    header = ["pruner", "sparsity", "mask from", "trainings", "steps", "seconds", "+ search s",
              "= seconds", "own steps", "own s"]  # fmt: skip
    return header, [
        [one.label, say.removed(1 - one.sparsity), one.source, f"{one.trainings:.3g}",
         f"{one.steps:,.0f}", _seconds(one.seconds), _seconds(one.search), _seconds(one.total),
         f"{one.own_steps:,.0f}", _seconds(one.own_seconds)]
        for one in efforts
    ]  # fmt: skip


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value >= 10 or value == 0 else f"{value:.2g}"


def _records(efforts: Sequence[Effort]) -> Records:
    names = {"label": "pruner", "source": "mask_from", "seconds": "training_seconds",
             "search": "search_seconds"}  # fmt: skip
    return [{names.get(key, key): value for key, value in vars(one).items()} for one in efforts]
