"""The page of merged networks: what each way to merge keeps of every task, and what meets."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lth_runner.runs.evidence.forgetting import mean
from lth_runner.runs.evidence.merges import Meeting, Merged, Merges
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.page import Headline, Page, Records, Section, Table, write_page
from lth_runner.runs.pages.progress import refusals
from lth_runner.runs.pages.tables import Cells, ruled, wrapped
from lth_runner.runs.study_pages.forgetting import level_text, run_table

WIDTH, ROW, ROOM = 10.0, 0.5, 1.5  # inches
READING = (
    "Each mark is what a task loses in the merged network: what its own training reached, less the "
    "merged network with the task's head, of the same seeds, with its 95 % t interval where there "
    "are two seeds or more. Further left is better. A loss is shown where anything is lost, "
    "refuted where something is gained, all ways and tasks together wrong with a chance of 2.5 % "
    "(Holm)."
)
MEETING = (
    "Weights that two changes both touch, on average over the seeds, beside as many as of places "
    "drawn at random; and how many of them are pulled in opposite directions, by chance half."
)
WAYS = (
    "full: all that has a delta is trained. LoTA: the mask of the largest deltas alone. LoTTO: as "
    "LoTA, outside another task's mask. w: the weight of every change, given or the best of a grid "
    "by validation."
)


def write_merges(found: Merges, folder: Path, stem: str = "merges") -> tuple[Path, ...]:
    """Writes <stem>.html, and <stem>-lost.png with a .csv of the same name; the page first."""
    sections = (
        Section("What is lost", READING, f"{stem}-lost", _figure(found), _records(found),
                notes=tuple(sentence(found, one) for one in found.merged),
                tables=(Table(*table(found)),), fine_print=WAYS),
        Section("How the changes are in each other's way", MEETING,
                notes=tuple(meeting_sentence(one) for one in found.meetings),
                tables=(_meetings(found),)),
        Section("Runs", tables=(run_table(found.runs, folder),)),
    )  # fmt: skip
    facts = (str(folder), say.counted(len(found.merged), "way to merge", "ways to merge"))
    page = Page(title(found), facts, best(found), refusals(found.runs), sections)
    return write_page(page, folder / f"{stem}.html")


def text(found: Merges) -> str:
    """Writes what a console shows."""
    told = [sentence(found, one) for one in found.merged]
    told += [meeting_sentence(one) for one in found.meetings]
    return "\n".join([title(found), *ruled(table(found), left=0), "", *wrapped(told)])


def title(found: Merges) -> str:
    """Names the tasks, and how their changes were trained."""
    parts = [f"{one.task} ({one.way}{_kept(one.density)})" for one in found.parts]
    return f"Merged: {say.joined(parts)}"


def best(found: Merges) -> Headline:
    """Names the way that loses least on average over the tasks."""
    one, first = found.by_loss[0], found.parts[0]
    return Headline(
        say.amount(first.measure, found.mean_loss(one)),
        "is the least that is lost on average over the tasks",
        sentence(found, one),
    )


def sentence(found: Merges, one: Merged) -> str:
    """Says in one sentence what a way keeps of each task."""
    told, words = [], found.words
    for place, part in enumerate(found.parts):
        reached = level_text(part.measure, one.values[place])
        alone = {seed: found.alone[place][seed] for seed in one.values[place]}
        told.append(
            f"{reached} of {level_text(part.measure, alone)} on {part.task}, a loss of "
            f"{say.gain(part.measure, found.lost(one, place))} "
            f"({words[one.told, place]})"
        )
    return f"{one.told} (n = {one.num_seeds}): {'; '.join(told)}."


def meeting_sentence(one: Meeting) -> str:
    """Says in one sentence where two changes meet and where they pull apart."""
    told = (
        f"{one.first} and {one.second}: {mean(one.both):,.0f} of {mean(one.num):,.0f} weights are "
        f"changed by both, {mean(one.by_chance):,.0f} by chance"
    )
    if not one.conflicts:
        return f"{told}."
    return (
        f"{told}; {100 * mean(one.conflicts):.1f} % of them in opposite directions, 50 % by chance."
    )


def table(found: Merges) -> Cells:
    """Tabulates each way: what every task reaches and loses."""
    header, words = ["merged by", "n", "w"], found.words
    for part in found.parts:
        header += [part.task, "lost", "whether it is"]
    own = [level_text(p.measure, v) for p, v in zip(found.parts, found.alone, strict=True)]
    body = [["nothing: each by itself", str(len(found.alone[0])), "",
             *(cell for one in own for cell in (one, "", ""))]]  # fmt: skip
    for one in found.merged:
        line = [one.told, str(one.num_seeds), f"{mean(one.weights):.2g}"]
        for place, part in enumerate(found.parts):
            line += [level_text(part.measure, one.values[place]),
                     say.gain(part.measure, found.lost(one, place)),
                     words[one.told, place]]  # fmt: skip
        body.append(line)
    return header, body


def _kept(density: float) -> str:
    return "" if density == 1.0 else f" at {100 * density:.3g} %"


def _meetings(found: Merges) -> Table:
    body = [
        [f"{one.first} and {one.second}", f"{mean(one.both):,.0f}",
         f"{mean(one.by_chance):,.0f}",
         f"{100 * mean(one.conflicts):.1f} %" if one.conflicts else ""]
        for one in found.meetings
    ]  # fmt: skip
    return Table(["changes", "both change", "by chance", "in opposite directions"], body)


def _figure(found: Merges) -> Figure:
    height = ROOM + ROW * len(found.merged)
    figure = drawing.new_figure(WIDTH, height)
    axes = figure.add_axes((0.32, 0.9 / height, 0.5, 1 - 1.3 / height))
    draw_losses(axes, found)
    drawing.tidy(axes, xlabel=lost(found), ylabel="")
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, fontsize=9)
    return figure


def lost(found: Merges) -> str:
    """Labels the axis of losses: 'lost, points'."""
    return f"lost,{say.difference_unit(found.parts[0].measure)}".rstrip(",")


def draw_losses(axes: Axes, found: Merges) -> None:
    """Draws what each task loses with its interval: a line for each way, a colour for each task."""
    shift = 0.5 / len(found.parts)
    for place, part in enumerate(found.parts):
        for line, one in enumerate(found.merged):
            lost = found.lost(one, place)
            scale, y = part.measure.scale, line + shift * (place - (len(found.parts) - 1) / 2)
            known = lost.low is not None and lost.high is not None
            axes.errorbar(
                [scale * lost.difference], [y],
                xerr=scale * (lost.high - lost.difference) if known else None,  # type: ignore[operator]
                color=drawing.colour(place), marker=drawing.marker(place), markersize=6,
                linewidth=0.9, label=part.task if line == 0 else None,
            )  # fmt: skip
    axes.axvline(0.0, color=drawing.MUTED, linestyle=":", linewidth=0.9)
    axes.set_yticks(range(len(found.merged)), [one.told for one in found.merged])
    axes.set_ylim(len(found.merged) - 0.4, -0.6)


def _records(found: Merges) -> Records:
    return [
        {"merged_by": one.told, "seed": seed, "weight": one.weights[seed], "task": part.task,
         "alone": found.alone[place][seed], "merged": one.values[place][seed]}
        for one in found.merged for seed in sorted(one.weights)
        for place, part in enumerate(found.parts)
    ]  # fmt: skip
