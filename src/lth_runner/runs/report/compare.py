"""Several runs side by side in a table, a picture, a page and a CSV; seeds of a setting are one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lth_runner.runs.evidence.grid import Grid, grid_of
from lth_runner.runs.evidence.judge import judge
from lth_runner.runs.evidence.merged import replicated
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.evidence.settings import (
    SEEDS,
    differences,
    labels,
    plain,
    seed_groups,
    sorted_by_settings,
)
from lth_runner.runs.evidence.verdict import Verdict, sparsest_of
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.page import (
    Headline,
    Page,
    Records,
    Section,
    Table,
    run_link,
    write_page,
)
from lth_runner.runs.pages.progress import progress, refusals, states
from lth_runner.runs.pages.tables import Cells, ruled, wrapped
from lth_runner.runs.report.curve import drawn_curve, no_curve
from lth_runner.runs.report.grid import grid_figure, grid_reading, grid_table
from lth_runner.runs.report.headline import headline, picked
from lth_runner.runs.report.method import method

LONGEST = 50  # letters of a name that stands before its figures
MOST_NAMED = 3  # of the runs that were judged alike


@dataclass(frozen=True)
class Compared:
    """Runs that differ in their seeds alone, as one run with its name and verdict."""

    runs: tuple[FinishedRun, ...]
    run: FinishedRun
    name: str
    verdict: Verdict


def compare(runs: Sequence[FinishedRun], folder: Path) -> tuple[str, tuple[Path, ...]]:
    """Writes comparison.html, .png and .csv into the folder; returns the table and the files."""
    runs = sorted_by_settings(runs)
    groups = seed_groups(runs)
    merged = [replicated(group) for group in groups]
    found = [
        Compared(group, run, name, judge(run))
        for group, run, name in zip(groups, merged, _names(groups, merged), strict=True)
    ]
    grid = grid_of(merged, differences(merged))
    files = write_page(_page(runs, found, grid, folder), folder / "comparison.html")
    text = _runs_told(_summary(found))
    if grid is not None:
        text += ["", *ruled(grid_table(grid)), *wrapped([grid_reading(grid)])]
    return "\n".join(text), files


def _names(groups: Sequence[Sequence[FinishedRun]], merged: Sequence[FinishedRun]) -> list[str]:
    """Names runs by their settings; those merged of several seeds by no seed, which is the first's.

    Of one alone it is the run's name.
    """
    if len(merged) == 1:
        return [merged[0].name]
    seeds = {key for key in differences(merged) if SEEDS.fullmatch(key)}
    return labels([
        run if len(group) == 1 else
        replace(run, config={key: value for key, value in run.config.items() if key not in seeds})
        for group, run in zip(groups, merged, strict=True)
    ])  # fmt: skip


def _runs_told(cells: Cells) -> list[str]:
    """Aligns a table of runs; names that fill most of a terminal come last, with nothing beside."""
    header, body = cells
    if max(len(line[0]) for line in body) <= LONGEST:
        return ruled(cells, left=0)
    return ruled(([*header[1:], header[0]], [[*line[1:], line[0]] for line in body]))


def _page(
    runs: Sequence[FinishedRun], found: Sequence[Compared], grid: Grid | None, folder: Path
) -> Page:
    grouped = [run for one in found for run in one.runs]
    measure, merged = found[0].run.measure, [one.run for one in found]
    figure = drawn_curve(merged, [one.name for one in found]) or no_curve(merged)
    header, body = _summary(found)
    linked = [[run_link(one.run, folder, line[0]) if len(one.runs) == 1 else line[0], *line[1:]]
              for line, one in zip(body, found, strict=True)]  # fmt: skip
    sections = [
        Section(f"{say.label(measure).capitalize()} against weights remaining", key="comparison",
                figure=figure, numbers=_records(runs)),
        Section("Runs", "Sorted by their settings; runs that differ in their seed alone are one.",
                tables=(Table(header, linked),)),
        *([] if grid is None else [
            Section(f"{grid.down[0]} by {grid.across[0]}", grid_reading(grid), "grid",
                    grid_figure(grid), tables=(Table(*grid_table(grid)),)),
        ]),
        Section("What each run shows", folded=True, notes=tuple(
            f"{one.name}: {headline(one.verdict).text} {progress(one.run)}" for one in found
        )),
        Section("Where the configurations differ", tables=(_difference_table(grouped),),
                folded=True),
        Section("How it was judged", notes=_methods(found), folded=True),
    ]  # fmt: skip
    unlike = [one.name for one in found if one.run.measure.name != measure.name]
    warnings = [f"Measured by something else, and not in the picture: {', '.join(unlike)}."
                if unlike else "", *refusals(runs)]  # fmt: skip
    facts = (str(folder), states(runs), _least_covered(found))
    title = say.counted(len(runs), "run")
    return Page(title, facts, _headline(found), tuple(warnings), tuple(sections))


def _methods(found: Sequence[Compared]) -> tuple[str, ...]:
    """Says how runs were judged, those that were judged differently by name."""
    methods: dict[str, list[str]] = {}
    for one in found:
        methods.setdefault(method(one.verdict), []).append(one.name)
    if len(methods) == 1:
        return tuple(methods)
    told = []
    for text, names in methods.items():
        more = len(names) - MOST_NAMED
        rest = f" and {more} more" if more > 0 else ""
        told.append(f"{'; '.join(names[:MOST_NAMED])}{rest}: {text}")
    return tuple(told)


def _least_covered(found: Sequence[Compared]) -> str:
    """Says the coverage of the run whose masks cover least."""
    least = min((one for one in found if one.run.covered), default=None,
                key=lambda one: one.run.covered or 0)  # fmt: skip
    if least is None:
        return ""
    last = least.verdict.last()
    return say.coverage(least.run, last.density if last else None)


def _headline(found: Sequence[Compared]) -> Headline:
    """Names the sparsest ticket that is shown to match, among all of them."""
    every = {one.name: one.verdict for one in found}
    best = sparsest_of(every, among=1)
    if best is None:
        told = "No run has a ticket that is shown to match its dense network."
        open_ones = [(level, name) for name, verdict in every.items()
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


def _summary(found: Sequence[Compared]) -> Cells:
    """Tabulates runs: n, dense, sparsest match, value at the largest sparsity, state."""
    header = ["run", "n", "dense", "shown to match", "not refuted", "last sparsity", "there",
              "state"]  # fmt: skip
    body = []
    for one in found:
        measure, dense, last = one.run.measure, one.verdict.dense, one.verdict.last()
        body.append([
            one.name,
            str(len(one.run.seeds)),
            say.reached(measure, dense) if dense else "-",
            *say.matches(one.verdict),
            say.removed(last.density) if last else "-",
            say.reached(measure, last) if last else "-",
            one.run.state,
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
