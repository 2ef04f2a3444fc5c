"""The page of a second task after a first: what each way of training kept and what it forgot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from lth_runner.runs.evidence.forgetting import Forgetting, Kept, mean, spread, task_of
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.page import (
    Headline,
    Page,
    Records,
    Section,
    Table,
    run_cells,
    write_page,
)
from lth_runner.runs.pages.progress import refusals
from lth_runner.runs.pages.tables import Cells, ruled, wrapped
from lth_runner.values.measure import Measure

WIDTH, TALL = 10.0, 4.2  # inches
READING = (
    "Each arrow falls from what the first task's own training reached to what is left of it once "
    "the second task is trained, with the first task's head; it stands over what the second task "
    "reached. Up and right is better. Bars are one standard deviation over the seeds; the dotted "
    "line is chance. Forgotten: before less after, of the same networks, with its 95 % t interval "
    "over seeds; shown where anything is, refuted where something is gained, all ways of the page "
    "together wrong with a chance of 2.5 % (Holm)."
)
WAYS = (
    "full: all that has a delta is trained. LoTA: the mask of the largest deltas alone. LoTTO: as "
    "LoTA, outside the first task's mask. random: as many deltas, drawn at random."
)


def write_forgetting(found: Forgetting, folder: Path, stem: str = "forgetting") -> tuple[Path, ...]:
    """Writes <stem>.html, and <stem>-kept.png with a .csv of the same name; the page first."""
    sections = (
        Section("What was kept", READING, f"{stem}-kept", _figure(found), _records(found),
                notes=tuple(sentence(found, one) for one in found.kept),
                tables=(Table(*table(found)),), fine_print=WAYS),
        Section("Runs", tables=(run_table(found.runs, folder),)),
    )  # fmt: skip
    title = f"{found.second} after {found.first}"
    facts = (str(folder), say.counted(len(found.kept), "way"))
    page = Page(title, facts, best(found), refusals(found.runs), sections)
    return write_page(page, folder / f"{stem}.html")


def text(found: Forgetting) -> str:
    """Writes what a console shows."""
    told = [sentence(found, one) for one in found.kept]
    return "\n".join([*ruled(table(found), left=0), "", *wrapped(told)])


def best(found: Forgetting) -> Headline:
    """Names the way that kept most on average, and whether it is shown to keep more."""
    one, lead, remarks = found.by_kept[0], found.lead, tuple[str, ...]()
    if lead is not None:
        other, more, word = lead
        told = f"{say.gain(found.of_first, more)} to {other.way.told}, n = {more.n}"
        remarks = (f"That it keeps more than the next is {word}: {told}.",)
    return Headline(
        found.of_first.text(mean(one.retained)),
        f"on {found.first} is the most that is kept on average",
        sentence(found, one),
        remarks,
    )


def sentence(found: Forgetting, one: Kept) -> str:
    """Says in one sentence what a way kept, what it forgot, and what it reached."""
    return (
        f"{one.way.told} (n = {one.num_seeds}): kept {level_text(found.of_first, one.retained)} of "
        f"{level_text(found.of_first, one.before)} on {found.first}, a loss of "
        f"{say.gain(found.of_first, found.lost(one))} ({found.forgotten[one.way]}), and reached "
        f"{level_text(found.of_second, one.reached)} on {found.second}."
    )


def table(found: Forgetting) -> Cells:
    """Tabulates each way: the first task before and after the second, and the second."""
    header = ["way", "n", f"{found.first} before", f"{found.first} after", "forgotten",
              "whether it is", f"{found.second} after"]  # fmt: skip
    return header, [
        [one.way.told, str(one.num_seeds), level_text(found.of_first, one.before),
         level_text(found.of_first, one.retained), say.gain(found.of_first, found.lost(one)),
         found.forgotten[one.way], level_text(found.of_second, one.reached)]
        for one in found.kept
    ]  # fmt: skip


def level_text(measure: Measure, values: Mapping[int, float]) -> str:
    """Writes a mean over seeds with its standard deviation."""
    return say.averaged(measure, mean(values), spread(values))


def _figure(found: Forgetting) -> Figure:
    figure = drawing.new_figure(WIDTH, TALL)
    axes = figure.add_axes((0.08, 0.14, 0.58, 0.8))
    first, second = found.of_first, found.of_second
    for index, one in enumerate(found.kept):
        colour = drawing.colour(index)
        x, y = second.scale * mean(one.reached), first.scale * mean(one.retained)
        top = first.scale * mean(one.before)
        arrow = {"arrowstyle": "->", "color": colour, "linewidth": 1.2}
        axes.annotate("", xy=(x, y), xytext=(x, top), arrowprops=arrow)
        axes.plot([x], [top], marker="_", color=colour, markersize=10)
        axes.errorbar(
            [x], [y], xerr=second.scale * (spread(one.reached) or 0.0),
            yerr=first.scale * (spread(one.retained) or 0.0), color=colour,
            marker=drawing.marker(index), markersize=6, linewidth=0.9, label=one.way.told,
            markerfacecolor=colour if index < len(drawing.COLOURS) else "white",
        )  # fmt: skip
    if first.chance is not None:
        axes.axhline(first.scale * first.chance, color=drawing.MUTED, linestyle=":", linewidth=0.9)
    drawing.tidy(axes, xlabel=f"{found.second}: {say.axis(second)}",
                 ylabel=f"{found.first}: {say.axis(first)}")  # fmt: skip
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, fontsize=9)
    return figure


def _records(found: Forgetting) -> Records:
    return [
        {"first": one.way.first, "second": one.way.second, "seed": seed,
         "first_before": one.before[seed], "first_after": one.retained[seed],
         "second_after": one.reached[seed]}
        for one in found.kept for seed in sorted(one.retained)
    ]  # fmt: skip


def run_table(runs: Sequence[FinishedRun], folder: Path) -> Table:
    """Lists the runs that a page goes by, with their commands."""
    body = [[task_of(run), *run_cells(run, folder)] for run in runs]
    return Table(["trained on", "run", "state", "command"], body)
