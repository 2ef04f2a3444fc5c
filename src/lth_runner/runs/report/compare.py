"""Several runs side by side in a table, a picture, a page and a CSV; seeds of a setting are one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from lth_runner.runs.evidence.grid import Grid, grid_of
from lth_runner.runs.evidence.judge import judge
from lth_runner.runs.evidence.merged import replicated
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.evidence.settings import (
    differences,
    labels,
    plain,
    seed_groups,
    sorted_by_settings,
)
from lth_runner.runs.evidence.verdict import Verdict, sparsest_of
from lth_runner.runs.folder import PAGE
from lth_runner.runs.report import drawing
from lth_runner.runs.report import wording as say
from lth_runner.runs.report.curve import drawn_curve, no_curve
from lth_runner.runs.report.grid import grid_figure, grid_reading, grid_table
from lth_runner.runs.report.headline import Headline, headline, picked
from lth_runner.runs.report.method import method
from lth_runner.runs.report.page import (
    Page,
    Records,
    Section,
    Table,
    csv_text,
    link,
    write,
    write_page,
)
from lth_runner.runs.report.progress import progress
from lth_runner.runs.report.refused import refusals
from lth_runner.runs.report.table import Cells, ruled, wrapped

LONGEST = 50  # letters of a name that stands before its figures
MOST_NAMED = 3  # of the runs that were judged alike


def compare(runs: Sequence[FinishedRun], folder: Path) -> tuple[str, tuple[Path, Path, Path]]:
    """Writes comparison.html, .png and .csv into the folder; returns the table and the files."""
    runs = sorted_by_settings(runs)
    groups = seed_groups(runs)
    merged = [replicated(group) for group in groups]
    names = labels(merged) if len(merged) > 1 else [merged[0].name]
    grid = grid_of(merged, differences(merged))
    page, picture, numbers = (folder / f"comparison.{kind}" for kind in ("html", "png", "csv"))
    figure = drawn_curve(merged, labels=names)
    write(picture, drawing.png(figure or no_curve(merged)))
    write(numbers, csv_text(_records(runs)))
    write_page(_page(groups, merged, names, grid, folder, figure), page)
    text = _runs_told(_summary(merged, names))
    if grid is not None:
        text += ["", *ruled(grid_table(grid)), *wrapped([grid_reading(grid)])]
    return "\n".join(text), (page, picture, numbers)


def _runs_told(cells: Cells) -> list[str]:
    """Aligns a table of runs; names that fill most of a terminal come last, with nothing beside."""
    header, body = cells
    if max(len(line[0]) for line in body) <= LONGEST:
        return ruled(cells, left=0)
    return ruled(([*header[1:], header[0]], [[*line[1:], line[0]] for line in body]))


def _page(
    groups: Sequence[tuple[FinishedRun, ...]], merged: Sequence[FinishedRun], names: Sequence[str],
    grid: Grid | None, folder: Path, figure: Figure | None,
) -> Page:  # fmt: skip
    runs, measure = [run for group in groups for run in group], merged[0].measure
    verdicts = [judge(run) for run in merged]
    told = zip(merged, names, verdicts, strict=True)
    header, body = _summary(merged, names)
    linked = [[link(page_of(group[0], folder), line[0]) if len(group) == 1 else line[0], *line[1:]]
              for line, group in zip(body, groups, strict=True)]  # fmt: skip
    sections = [
        Section(f"{say.label(measure).capitalize()} against weights remaining", key="comparison",
                figure=figure),
        Section("Runs", "Sorted by their settings; runs that differ in their seed alone are one.",
                tables=(Table(header, linked),)),
        *([] if grid is None else [
            Section(f"{grid.down[0]} by {grid.across[0]}", grid_reading(grid), "grid",
                    grid_figure(grid), tables=(Table(*grid_table(grid)),)),
        ]),
        Section("What each run shows", folded=True, notes=tuple(
            f"{name}: {headline(verdict).text} {progress(run)}" for run, name, verdict in told
        )),
        Section("Where the configurations differ", tables=(_difference_table(runs),), folded=True),
        Section("How it was judged", notes=_methods(names, verdicts), folded=True),
    ]  # fmt: skip
    unlike = [name for run, name in zip(merged, names, strict=True)
              if run.measure.name != measure.name]  # fmt: skip
    warnings = [f"Measured by something else, and not in the picture: {', '.join(unlike)}."
                if unlike else "", *refusals(runs)]  # fmt: skip
    states = ", ".join(
        f"{n} {state}" for state, n in sorted(Counter(r.state for r in runs).items())
    )
    facts = (str(folder), states, _least_covered(merged, verdicts))
    title = say.counted(len(runs), "run")
    return Page(title, facts, _headline(names, verdicts), tuple(warnings), tuple(sections))


def _methods(names: Sequence[str], verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Says how runs were judged, those that were judged differently by name."""
    found: dict[str, list[str]] = {}
    for name, verdict in zip(names, verdicts, strict=True):
        found.setdefault(method(verdict), []).append(name)
    if len(found) == 1:
        return tuple(found)
    told = []
    for text, own in found.items():
        more = len(own) - MOST_NAMED
        told.append(
            f"{'; '.join(own[:MOST_NAMED])}{f' and {more} more' if more > 0 else ''}: {text}"
        )
    return tuple(told)


def _least_covered(runs: Sequence[FinishedRun], verdicts: Sequence[Verdict]) -> str:
    """Says the coverage of the run whose masks cover least."""
    found = [(run, verdict) for run, verdict in zip(runs, verdicts, strict=True) if run.covered]
    if not found:
        return ""
    run, verdict = min(found, key=lambda one: one[0].covered or 0)
    last = verdict.last()
    return say.coverage(run, last.density if last else None)


def _headline(names: Sequence[str], verdicts: Sequence[Verdict]) -> Headline:
    """Names the sparsest ticket that is shown to match, among all of them."""
    every = dict(zip(names, verdicts, strict=True))
    best = sparsest_of(every, among=1)
    if best is None:
        told = "No run has a ticket that is shown to match its dense network."
        open_ones = [(level, name) for verdict, name in zip(verdicts, names, strict=True)
                     if (level := verdict.possible()) is not None]  # fmt: skip
        if open_ones:
            level, name = max(open_ones, key=lambda one: one[0].sparsity)
            told += f" Of {name} none is refuted up to sparsity {say.removed(level.density)}."
        return Headline("none", "of the tickets is shown to match", told)
    name, level = best
    verdict = every[name]
    number, of = say.gone(verdict, level.density)
    dense = f" (dense {say.reached(verdict.measure, verdict.dense)})" if verdict.dense else ""
    sentence = (
        f"The sparsest ticket that is shown to match its dense network is that of {name}: "
        f"{say.reached(verdict.measure, level)}{dense}, n = {level.n}."
    )
    about = f"{of} removed at most, and the ticket is shown to match"
    return Headline(number, about, sentence, picked(every, "run"))


def page_of(run: FinishedRun, folder: Path) -> Path:
    """Finds where a run's own page lies, seen from a folder."""
    return Path(os.path.relpath(run.folder.resolve(), folder.resolve())) / PAGE


def _summary(runs: Sequence[FinishedRun], names: Sequence[str]) -> Cells:
    """Tabulates runs: n, dense, sparsest match, value at the largest sparsity, state."""
    header = [
        "run",
        "n",
        "dense",
        "shown to match",
        "not refuted",
        "last sparsity",
        "there",
        "state",
    ]
    body = []
    for run, name in zip(runs, names, strict=True):
        verdict = judge(run)
        dense, last = verdict.dense, verdict.last()
        body.append([
            name,
            str(len(run.seeds)),
            say.reached(run.measure, dense) if dense else "-",
            say.match(verdict, verdict.shown()),
            say.match(verdict, verdict.possible()),
            say.removed(last.density) if last else "-",
            say.reached(run.measure, last) if last else "-",
            run.state,
        ])  # fmt: skip
    return header, body


def _records(runs: Sequence[FinishedRun]) -> Records:
    """Lists a line per run and arm with plain numbers (fractions) and the differing config keys."""
    found, measures = differences(runs), {run.measure.name for run in runs}
    of = runs[0].measure.name if len(measures) == 1 else "measure"
    records = []
    for i, (run, name) in enumerate(zip(runs, labels(runs), strict=True)):
        verdict = judge(run)
        dense = verdict.dense
        for arm in run.arms:
            best, last = verdict.shown(arm), verdict.last(arm)
            possible = verdict.possible(arm)
            records.append({
                "run": name,
                "folder": run.folder,
                "state": run.state,
                "measure": run.measure.name,
                "arm": arm,
                "replicates": len(run.seeds),
                f"dense_{of}_mean": dense and dense.mean,
                f"dense_{of}_std": dense and dense.std,
                "sparsest_shown_match": best and best.sparsity,
                "sparsest_not_refuted": possible and possible.sparsity,
                f"matching_{of}_mean": best and best.mean,
                "largest_sparsity": last and last.sparsity,
                f"final_{of}_mean": last and last.mean,
                f"final_{of}_std": last and last.std,
                **{f"config.{key}": values[i] for key, values in found.items()},
            })  # fmt: skip
    return records


def _difference_table(runs: Sequence[FinishedRun]) -> Table:
    found = differences(runs)
    body = [[name, *(plain(values[i]) for values in found.values())]
            for i, name in enumerate(labels(runs))]  # fmt: skip
    return Table(["run", *found], body)
