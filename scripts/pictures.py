"""The pictures of docs/results.md: as small as they can be told apart, drawn from the same runs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from lth_runner.runs.evidence.means import aggregate
from lth_runner.runs.evidence.rows import TICKET, FinishedRun, rewind_step
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages.drawing import INK, MUTED
from lth_runner.runs.pages.lines import PERCENT, Frame, Line, Reference, by_density, paint
from lth_runner.runs.report.curve import curve_figure
from lth_runner.runs.report.instrument_lines import means_by_density

# names of runs whose curve is committed, once they are done
CURVES = ("lenet300_mnist_imp", "resnet20_imp", "resnet20_rewind_init", "resnet20_lrr")
TICKETS = "lenet300_mnist_imp"
PRETRAINED = "minilm_tickets"
SMALL = 110  # dots an inch, of pictures that are many
COLOURS = 80  # of a palette: lines and letters look the same, a third of the bytes
PUBLISHED = (0.513, 0.211, 0.070, 0.036, 0.019)  # weights kept: Frankle & Carbin, arXiv:1803.03635
SAID = """Dashed: the dense network. Dotted: the shares of
the weights that Frankle & Carbin name (51.3, 21.1,
7.0, 3.6 and 1.9 %).

They say, of figures 3 and 4:
· tickets as good as dense down to 3.6 %, below it
  at 1.9 %;
· at 21.1 % lowest validation loss earlier than dense;
· new weights under the same mask: worse, and
  slower the sparser they are.
Signs and overlap with early gradients are not of
these figures."""


@dataclass(frozen=True)
class Field:
    """One panel: what of the rows it shows, for which arms, and under which heading."""

    heading: str
    names: tuple[tuple[str, str], ...]  # field of the rows -> its label; "" for the arm's own
    factor: float = 1.0
    arms: bool = True


FIELDS = (
    Field("test accuracy at lowest validation loss (%)", (("best_val_test_accuracy", ""),), 100.0),
    Field("test accuracy at the last step (%)", (("test_accuracy", ""),), 100.0),
    Field("step of lowest validation loss", (("best_val_step", ""),)),
    Field("share of survivors that keep their first sign", (("sign_preservation", ""),)),
    Field(
        "Jaccard index: mask and largest early gradients",
        (("jaccard_early_gradient", TICKET), ("jaccard_null", "shuffled in layers"),
         ("jaccard_chance", "random mask")),
        arms=False,
    ),
)  # fmt: skip


def curves(runs: Sequence[FinishedRun]) -> dict[str, tuple[Figure, str]]:
    """File stem -> figure and what it shows, of the finished runs that have a picture."""
    found: dict[str, tuple[Figure, str]] = {}
    for name in CURVES:
        run = next((one for one in runs if one.name == name and one.state == "done"), None)
        if run is not None:
            text = f"Test accuracy against weights remaining: {name}"
            found[f"{name}_curve"] = (curve_figure([run]), text)
        if run is not None and name == TICKETS:
            found[f"{name}_panels"] = (panels(run), "The same run: accuracy at early stopping and "
                                       "at the end, step of lowest validation loss, signs, "
                                       "overlap with early gradients")  # fmt: skip
    return found | pretrained(runs)


def pretrained(runs: Sequence[FinishedRun]) -> dict[str, tuple[Figure, str]]:
    """The rounds of +study=minilm_tickets on TREC, with the arms beside its last ticket."""
    done = [run for run in runs if run.name == PRETRAINED and run.state == "done"]
    done = [run for run in done if run.option("dataset", "name") == "trec"]
    rounds = next(
        (run for run in done if run.pruner == "imp_linear" and not rewind_step(run)), None
    )
    beside = next((run for run in done if len(run.controls) > 1), None)
    if rounds is None or beside is None:
        return {}
    last = max(rounds.rounds(TICKET))
    arms = tuple({**row, "round": last} for row in beside.rows if row["arm"] != TICKET)
    config = {**beside.config, "pruner": rounds.config["pruner"]}
    whole = replace(rounds, rows=(*rounds.rows, *arms), config=config)
    text = "TREC from a pretrained start: test accuracy against weights remaining"
    return {f"{PRETRAINED}_curve": (curve_figure([whole]), text)}


def panels(run: FinishedRun) -> Figure:
    """Five fields against weights remaining, mean and standard deviation of the seeds."""
    figure = drawing.new_figure(11.5, 6.6)
    for place, field in enumerate(FIELDS):
        axes = figure.add_subplot(2, 3, place + 1)
        _draw(axes, run, field)
    words = figure.add_subplot(2, 3, len(FIELDS) + 1)
    words.axis("off")
    words.text(0.0, 1.0, SAID, va="top", fontsize=9, color=INK, linespacing=1.3,
               transform=words.transAxes)  # fmt: skip
    for index, arm in enumerate(run.arms):
        words.plot([], [], color=drawing.colour(index), marker=drawing.marker(index), label=arm)
    words.legend(loc="lower left", frameon=False, fontsize=9.5, ncols=3, borderaxespad=0)
    figure.subplots_adjust(left=0.05, right=0.985, top=0.94, bottom=0.075, wspace=0.2, hspace=0.32)
    return figure


def _draw(axes: Axes, run: FinishedRun, field: Field) -> None:
    axes.set_title(field.heading, loc="left", fontsize=9.5, color=INK)
    for kept in PUBLISHED:
        axes.axvline(PERCENT * kept, color=MUTED, linewidth=0.9, linestyle=":", zorder=0.5)
    lines = [line for line in _lines(run, field) if line.x]
    if not lines:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=MUTED)
    references = []
    if field.arms and run.dense_round is not None and lines:
        references = [Reference(lines[0].y[0], style="--")]
    paint(axes, lines, Frame("", "weights remaining (%)", references=references))
    by_density(axes, lines)
    if field.factor == 100.0 and lines:  # controls may fall out of sight
        lowest = [
            y
            for line in lines
            for y in line.y[: None if line.label == TICKET else len(line.y) // 2 + 1]
        ]
        top = axes.get_ylim()[1]
        axes.set_ylim(min(lowest) - 0.15 * (top - min(lowest)), top)
    if not field.arms and lines:
        axes.legend(frameon=False, fontsize=8.5)


def _lines(run: FinishedRun, field: Field) -> list[Line]:
    """Means over the seeds by growing sparsity, with bands of one standard deviation."""
    summaries, lines = aggregate(run.rows), []
    arms = run.arms if field.arms else (TICKET,)
    for row, (name, label) in enumerate(field.names):
        for column, arm in enumerate(arms):
            # what is no arm has a colour that no arm has
            index = column if field.arms or not row else row + len(run.arms)
            line = Line(label or arm, drawing.colour(index), marker=drawing.marker(index),
                        width=1.4)  # fmt: skip
            lines.append(line.through(means_by_density(summaries, arm, name)).scaled(field.factor))
    return lines


def save(
    figures: dict[str, tuple[Figure, str]], folder: Path, dpi: int = drawing.DPI
) -> dict[str, str]:
    """Writes each as <stem>.png; file name -> what it shows."""
    for stem, (figure, _) in figures.items():
        image = Image.open(io.BytesIO(drawing.png(figure, dpi))).convert("RGB")
        # by median cut, two lines of few pixels may get one colour
        small = image.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        file = folder / f"{stem}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        small.save(file, optimize=True)
    return {f"{stem}.png": text for stem, (_, text) in figures.items()}
