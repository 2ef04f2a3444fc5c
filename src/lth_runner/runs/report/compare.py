"""Several runs side by side in a table, a picture, a page and a CSV; seeds of a setting are one."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lth_runner.runs.folder import PAGE
from lth_runner.runs.report import drawing
from lth_runner.runs.report.curve import curve_figure, drawn_curve
from lth_runner.runs.report.grid import grid_figure, grid_of, grid_reading, grid_table
from lth_runner.runs.report.headline import Headline, headline, method, progress
from lth_runner.runs.report.page import (
    Cell,
    Page,
    Section,
    Table,
    csv_text,
    link,
    replace_file,
    write_page,
)
from lth_runner.runs.report.refused import refusals
from lth_runner.runs.report.rows import TICKET, FinishedRun
from lth_runner.runs.report.settings import (
    differences,
    labels,
    plain,
    seed_groups,
    sorted_by_settings,
)
from lth_runner.runs.report.table import WIDTH, aligned, named
from lth_runner.runs.report.verdict import Verdict, judge
from lth_runner.runs.report.wording import (
    counted,
    coverage,
    gone,
    label,
    none_of,
    reached,
    removed,
)

Groups = Sequence[tuple[FinishedRun, ...]]


def compare(runs: Sequence[FinishedRun], folder: Path) -> tuple[str, tuple[Path, Path, Path]]:
    """Writes comparison.html, .png and .csv into the folder; returns the table and the files."""
    runs = sorted_by_settings(runs)
    groups = seed_groups(runs)
    merged = [_merged(group) for group in groups]
    names = labels(merged) if len(merged) > 1 else [merged[0].name]
    page, picture, numbers = (folder / f"comparison.{kind}" for kind in ("html", "png", "csv"))
    replace_file(picture, drawing.png(curve_figure(merged, labels=names)))
    replace_file(numbers, csv_text(comparison_rows(runs)).encode())
    write_page(_page(groups, merged, names, folder), page)
    text = named(*summary_table(merged, names))
    if (grid := grid_of(merged, differences(merged))) is not None:
        text += ["", *aligned(*grid_table(grid)), *textwrap.wrap(grid_reading(grid), WIDTH)]
    return "\n".join(text), (page, picture, numbers)


def _merged(group: tuple[FinishedRun, ...]) -> FinishedRun:
    """Runs of other seeds as one run with more replicates."""
    if len(group) == 1:
        return group[0]
    states = {run.state for run in group}
    state = states.pop() if len(states) == 1 else "in part done"
    rows = [row for run in group for row in run.rows]
    return replace(group[0], rows=tuple(rows), status={"state": state})


def _page(
    groups: Groups, merged: Sequence[FinishedRun], names: Sequence[str], folder: Path
) -> Page:
    runs = [run for group in groups for run in group]
    verdicts = [judge(run) for run in merged]
    found = [(run.covered, run, v.last()) for run, v in zip(merged, verdicts, strict=True)]
    least = min((x for x in found if x[0] is not None), key=lambda x: x[0] or 0, default=None)
    header, body = summary_table(merged, names)
    unlike = [name for run, name in zip(merged, names, strict=True)
              if run.measure.name != merged[0].measure.name]  # fmt: skip
    linked = [
        [_linked(group, line[0], folder), *line[1:]]
        for line, group in zip(body, groups, strict=True)
    ]
    sections = [
        Section(f"{label(merged[0].measure).capitalize()} against weights remaining",
                key="comparison", figure=drawn_curve(merged, labels=names)),
        Section("Runs", "Sorted by their settings; runs that differ in their seed alone are one.",
                tables=(Table(header, linked),)),
        *_grid_part(merged),
        Section("What each run shows", folded=True, notes=tuple(
            f"{name}: {headline(verdict).text} {progress(run)}"
            for run, name, verdict in zip(merged, names, verdicts, strict=True)
        )),
        Section("Where the configurations differ", tables=(_difference_table(runs),), folded=True),
        Section("How it was judged", notes=(method(verdicts[0]),), folded=True),
    ]  # fmt: skip
    warnings = [f"Measured by something else, and not in the picture: {', '.join(unlike)}."
                if unlike else "", *refusals(runs)]  # fmt: skip
    states = {state: sum(run.state == state for run in runs) for state in {r.state for r in runs}}
    told = ", ".join(f"{states[state]} {state}" for state in sorted(states))
    sparsest = least[2].density if least and least[2] else None
    covers = coverage(least[1], sparsest) if least else ""
    return Page(f"{counted(len(runs), 'run')}", (str(folder), told, covers),
                _headline(names, verdicts), tuple(warnings), tuple(sections))  # fmt: skip


def _headline(names: Sequence[str], verdicts: Sequence[Verdict]) -> Headline:
    """Names the largest sparsity that matches, among all of them."""
    found = [(v.largest(TICKET), v, name) for v, name in zip(verdicts, names, strict=True)]
    known = [(level, v, name) for level, v, name in found if level is not None]
    if not known:
        return Headline("none", "of the tickets matches", "No run has a ticket that matches its "
                        "dense network.")  # fmt: skip
    level, verdict, name = max(known, key=lambda one: one[0].sparsity)
    number, of = gone(verdict, level.density)
    dense = f" (dense {reached(verdict.measure, verdict.dense)})" if verdict.dense else ""
    sentence = (
        f"The sparsest ticket that matches its dense network is that of {name}: "
        f"{reached(verdict.measure, level)}{dense}, n = {level.n}."
    )
    return Headline(number, f"{of} removed at most, and the ticket matches", sentence)


def _linked(group: tuple[FinishedRun, ...], name: str, folder: Path) -> Cell:
    """Writes the name of a group, linked where it is one run."""
    return link(page_of(group[0], folder), name) if len(group) == 1 else name


def page_of(run: FinishedRun, folder: Path) -> Path:
    """Finds where a run's own page lies, seen from a folder."""
    return Path(os.path.relpath(run.folder.resolve(), folder.resolve())) / PAGE


def _grid_part(runs: Sequence[FinishedRun]) -> list[Section]:
    """Draws the runs by the two settings in which they differ; nothing where these are not two."""
    grid = grid_of(runs, differences(runs))
    if grid is None:
        return []
    return [Section(f"{grid.down[0]} by {grid.across[0]}", grid_reading(grid), "grid",
                    grid_figure(grid), tables=(Table(*grid_table(grid)),))]  # fmt: skip


def summary_table(
    runs: Sequence[FinishedRun], names: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Tabulates runs: n, dense, largest matching sparsity, value at the largest, state."""
    header = ["run", "n", "dense", "sparsest match", "last sparsity", "there", "state"]
    body = []
    for run, name in zip(runs, names, strict=True):
        verdict = judge(run)
        best, last = verdict.largest(TICKET), verdict.last()
        body.append(
            [
                name,
                str(len(run.seeds)),
                reached(run.measure, verdict.dense) if verdict.dense else "-",
                removed(best.density) if best else none_of(verdict),
                removed(last.density) if last else "-",
                reached(run.measure, last) if last else "-",
                run.state,
            ]
        )
    return header, body


def comparison_rows(runs: Sequence[FinishedRun]) -> list[list[object]]:
    """Lists a line per run and arm with plain numbers (fractions) and the differing config keys."""
    found, names = differences(runs), labels(runs)
    measures = dict.fromkeys(run.measure.name for run in runs)
    of = next(iter(measures)) if len(measures) == 1 else "measure"
    table: list[list[object]] = [
        ["run", "folder", "state", "measure", "arm", "replicates", f"dense_{of}_mean",
         f"dense_{of}_std", "largest_matching_sparsity", f"matching_{of}_mean",
         "largest_sparsity", f"final_{of}_mean", f"final_{of}_std",
         *(f"config.{key}" for key in found)]
    ]  # fmt: skip
    for i, (run, name) in enumerate(zip(runs, names, strict=True)):
        verdict = judge(run)
        dense = verdict.dense
        for arm in run.arms:
            best, last = verdict.largest(arm), verdict.last(arm)
            table.append(
                [name, run.folder, run.state, run.measure.name, arm, len(run.seeds),
                 dense and dense.mean, dense and dense.std, best and best.sparsity,
                 best and best.mean, last and last.sparsity, last and last.mean, last and last.std,
                 *(values[i] for values in found.values())]
            )  # fmt: skip
    return table


def _difference_table(runs: Sequence[FinishedRun]) -> Table:
    found = differences(runs)
    body = [[name, *(plain(values[i]) for values in found.values())]
            for i, name in enumerate(labels(runs))]  # fmt: skip
    return Table(["run", *found], body)
