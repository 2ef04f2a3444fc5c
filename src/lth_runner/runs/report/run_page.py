"""The report of one run: its page and the picture of its curve."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import yaml
from matplotlib.figure import Figure

from lth_runner.runs.evidence.correlations import correlations
from lth_runner.runs.evidence.generated import find_generated
from lth_runner.runs.evidence.judge import judge
from lth_runner.runs.evidence.overlap import seed_overlaps
from lth_runner.runs.evidence.published import PublishedCurve, beside, counterpart
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.sanity import checks
from lth_runner.runs.evidence.verdict import Verdict
from lth_runner.runs.folder import CURVE, PAGE, Row
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.page import Page, Section, Table, write, write_page
from lth_runner.runs.pages.progress import progress
from lth_runner.runs.report.curve import drawn_curve, no_curve
from lth_runner.runs.report.generated_networks import section as generated_section
from lth_runner.runs.report.headline import headline
from lth_runner.runs.report.heat import layers_by_round
from lth_runner.runs.report.instruments import DEFAULT, INSTRUMENTS, panels
from lth_runner.runs.report.learning import learning_sentence
from lth_runner.runs.report.method import method
from lth_runner.runs.report.panels import difference_panel, learning_panels
from lth_runner.runs.report.sanity_text import sanity_section
from lth_runner.runs.report.table import (
    CHANCE,
    CORRELATIONS,
    arms_table,
    correlation_table,
    legend,
    overlap_table,
    round_table,
)

LAYERS = (
    "Fraction of each layer's weights that the ticket keeps (%, mean of the replicates), input "
    "layer on top; darker is denser."
)
OVERLAPS = (
    f"Jaccard index of the tickets' masks between seeds, mean over pairs, {CHANCE} Seeds start "
    "from other weights. Between the last two lies what layers explain, between the first two what "
    "inputs and classes do, as inputs that are always 0; what exceeds the first is of single "
    "weights."
)
FIRST_FIELDS = ("round", "arm", "seed", "sparsity", "density", "num_kept", "num_prunable")
SPLITS = ("test", "val", "train")


def write_run(run: FinishedRun) -> tuple[Path, Path]:
    """Writes curve.png and report.html into the run's folder, each by one atomic replacement."""
    picture, page, curve = run.folder / CURVE, run.folder / PAGE, drawn_curve([run])
    write(picture, drawing.png(curve or no_curve([run])))
    write_page(run_page(run, judge(run), curve), page)
    return picture, page


def run_page(run: FinishedRun, verdict: Verdict, curve: Figure | None) -> Page:
    """Makes the page of a run, finished or not, with its curve where there is one."""
    name = say.label(verdict.measure)
    unit = f" in {verdict.measure.unit}" if verdict.measure.unit else ""
    figures = [difference_panel(run, verdict), *panels(DEFAULT, run, verdict),
               *learning_panels(run, verdict),
               Section("Density of each layer", LAYERS, "layers", layers_by_round(run)),
               *panels(INSTRUMENTS, run, verdict)]  # fmt: skip
    theirs, found = counterpart(run), checks(run, verdict)
    overlaps, quantities = seed_overlaps(run), correlations(run)
    sections = [
        Section(f"{name.capitalize()} against weights remaining" if curve else "Arms", key="curve",
                figure=curve, tables=(Table(*arms_table(verdict)),)),
        Section("Rounds", f"Test {name}{unit} at the last step, mean ± standard deviation.",
                notes=(legend(verdict),), tables=(_rounds(run, verdict),)),
        *([_published(run, theirs)] if theirs else []),
        *(generated_section(made) for made in find_generated([run])),
        *([sanity_section(found)] if found else []),
        *(one for one in figures if one.figure),
        *_undrawn([one for one in figures if one.figure is None]),
        *([Section("Masks of different seeds", OVERLAPS, tables=(Table(*overlap_table(overlaps)),))]
          if overlaps else []),
        *([Section(f"What goes with {name}", CORRELATIONS, folded=True,
                   tables=(Table(*correlation_table(quantities)),))] if quantities else []),
        Section("How it was judged", notes=(method(verdict),), folded=True),
        Section("Configuration", text=_yaml(run.config), folded=True),
        Section("Environment", text=_yaml(run.environment), folded=True),
        Section("Every row", "rounds.jsonl as it is: one line per round, arm and seed.",
                tables=(_every_row(run),), folded=True),
    ]  # fmt: skip
    top = headline(verdict)
    if learning := learning_sentence(run, verdict):
        top = replace(top, remarks=(*top.remarks, learning))
    return Page(run.name, _facts(run, verdict), top, (progress(run),), tuple(sections))


def _facts(run: FinishedRun, verdict: Verdict) -> tuple[str, ...]:
    rounds = sum(round != run.dense_round for round in run.rounds(TICKET))
    last, updated = verdict.last(), run.status.get("updated")
    return (
        str(run.folder),
        run.state,
        f"replicates: {len(run.seeds)}",
        f"rounds {'of tickets' if run.dense_round is None else 'after dense'}: {rounds}",
        say.coverage(run, last.density if last else None),
        say.unlearned(run),
        f"updated {updated}" if updated else "",
    )


def _rounds(run: FinishedRun, verdict: Verdict) -> Table:
    header, body = round_table(run, verdict)
    best = verdict.marked()
    rounds = sorted({row["round"] for row in run.rows})
    marked = tuple(i for i, round in enumerate(rounds) if best and round == best.round)
    return Table(header, body, marked)


def _undrawn(missing: Sequence[Section]) -> list[Section]:
    """Writes what was measured in one round alone as numbers, and names what was not recorded."""
    single = [(one.heading, line.label.replace("\n", " "), f"{line.y[0]:.4g}"
               + (f" ± {line.spread[0]:.2g}" if any(line.spread) else ""))
              for one in missing for line in one.lines if len(line.y) == 1]  # fmt: skip
    found = []
    if single:
        found.append(Section("Measured in one round alone", "No lines to draw yet.",
                             tables=(Table(["", "of", "value"], single),)))  # fmt: skip
    if names := [one.heading for one in missing if not one.lines]:
        text = f"Not recorded in this run, or not often enough to draw: {', '.join(names)}."
        found.append(Section("Not drawn", notes=(text,), folded=True))
    return found


def _published(run: FinishedRun, theirs: PublishedCurve) -> Section:
    header = ["weights kept", "published", "lowest to highest", "n", "ours", "n", "difference"]
    body = []
    for one in beside(run, theirs):
        point, ours, difference = one.point, "", ""
        ends = [_percent(end) for end in (point.low, point.high) if end is not None]
        if one.mean is not None and one.difference is not None:
            ours = say.averaged(run.measure, one.mean, one.std)
            difference = f"{say.signed(100 * one.difference, '.2f')} points"
        body.append([say.kept(point.density), f"{_percent(point.accuracy)} %", " to ".join(ends),
                     str(point.n or ""), ours, str(one.n or ""), difference])  # fmt: skip
    reading = f"{theirs.citation}; {theirs.title}: {theirs.label}; {theirs.statistic}."
    return Section("Beside published figures", reading, tables=(Table(header, body),))


def _percent(published: float) -> str:
    """Rounds half a hundredth up, as in papers."""
    return f"{100 * published + 1e-9:.2f}"


def _every_row(run: FinishedRun) -> Table:
    """Tabulates all scalar fields, the well-known ones first, what probes added behind them."""
    fields = dict.fromkeys(field for row in run.rows for field, value in row.items()
                           if not isinstance(value, (Mapping, list)))  # fmt: skip
    measured = [f"{split}_{name}" for split in SPLITS for name in (run.measure.name, "loss")]
    first = [name for name in (*FIRST_FIELDS, *measured) if name in fields]
    ordered = list(dict.fromkeys([*first, *fields]))
    return Table(ordered, [[_cell(row, field) for field in ordered] for row in run.rows])


def _cell(row: Row, field: str) -> str:
    value = row.get(field)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    return say.shortened(str(value), 40)


def _yaml(values: Mapping[str, object]) -> str:
    if not values:
        return "not recorded"
    plain = json.loads(json.dumps(values, default=str))  # dates and the like as text
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
