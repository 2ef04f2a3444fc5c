"""The page of tickets that were carried from task to task: matrices, curves and runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from lth_runner.runs.evidence.rows import TICKET
from lth_runner.runs.evidence.sources import alike, universality
from lth_runner.runs.evidence.transfer import OWN, Carried, Pair, Transfer
from lth_runner.runs.evidence.verdict import Level
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.page import (
    Cell,
    Headline,
    Page,
    Records,
    Section,
    Table,
    run_cells,
    write_page,
)
from lth_runner.runs.pages.progress import refusals, states
from lth_runner.runs.pages.tables import Cells, ruled, wrapped
from lth_runner.runs.study_pages.transfer_figures import curves_figure, matrix_figure

READING_MATRIX = (
    "Rows are the tasks that tickets come from, columns those that they are trained on; the number "
    "is by how much the carried ticket is better, blue where it is. Left: than the ticket that the "
    "target finds itself; shown where a loss beyond the tolerance is excluded. Right: than a mask "
    "drawn at random; shown where any loss is. Tickets are compared at the density that they were "
    "found with; an output layer that is the target's own stays dense in a carried one. Where a "
    "carried training diverged, its ticket is neither near nor better; where the own ticket is at "
    "chance level, nothing is said of being near. The words of one comparison at one density hold "
    "together (Holm): that any shown among them is wrong has a chance of 5 % of near and 2.5 % of "
    "better, and so has any refuted. Other comparisons and densities have chances of their own. "
    "What a ticket does on its own task is no cell."
)
READING_CURVES = (
    "A panel for each target: its own tickets in black, those carried to it in colours, dashed the "
    "random masks beside them; bands are one standard deviation over the seeds."
)


READING_SOURCES = (
    "A source is universal where its tickets match the dense network on every target, its own task "
    "included: shown where a loss beyond the tolerance is excluded on all, refuted where a smaller "
    "one is on any, either with a chance of 5 % to be wrong for each source (Holm over its "
    "targets). As published: by the rule of Chen et al. (NeurIPS 2020), where their means are at "
    "most one standard deviation of the dense trainings below theirs, which one training a target "
    "leaves open. That is a rule and no test: a spread of few seeds is itself uncertain."
)
READING_ALIKE = (
    "The Jaccard index of the tickets of two sources, first seed, over the layers that both have, "
    "beside masks drawn at random with the same density in every layer."
)


def write_transfer(transfer: Transfer, folder: Path, stem: str = "transfer") -> tuple[Path, ...]:
    """Writes <stem>.html, and <stem>-*.png each with a .csv of the same name; the page first."""
    density, title = transfer.density, f"Carried tickets {transfer.cells[0].run.name}"
    at = "" if density is None else f" at {say.kept(density)} of the weights"
    sections = [
        Section(f"Sources by targets{at}", READING_MATRIX, f"{stem}-matrix",
                matrix_figure(transfer), _records(transfer),
                tables=(Table(*matrix_table(transfer)),)),
        Section(f"{say.label(transfer.measure).capitalize()} against weights remaining",
                READING_CURVES, f"{stem}-curves", curves_figure(transfer), _curve(transfer)),
        *_sources(transfer),
        *_other_densities(transfer),
        Section("Runs", tables=(_runs(transfer, folder),)),
    ]  # fmt: skip
    told = (transfer.told,) if transfer.told else ()
    facts = (str(folder), f"{len(transfer.cells)} pairs", *told, states(transfer.runs))
    page = Page(title, facts, best(transfer), refusals(transfer.runs), tuple(sections))
    return write_page(page, folder / f"{stem}.html")


def text(transfer: Transfer) -> str:
    """Writes what a console shows of a matrix."""
    told = [*wrapped([transfer.told]), ""] if transfer.told else []
    table = ruled(_short_table(transfer), left=2)
    return "\n".join([*told, *table, "", *wrapped([best(transfer).text])])


def _short_table(transfer: Transfer) -> Cells:
    """Tabulates each pair without intervals, for a console."""
    density, compared = transfer.density, (OWN, *transfer.controls)
    header = ["source", "target", "carried", "own", *(f"less {to}" for to in compared)]
    if density is None:
        return header, []
    words = {to: transfer.words(density, to) for to in compared}
    body = []
    for cell in transfer.cells:
        line = [cell.source, cell.target]
        for level in (cell.level(density), cell.own_level(density)):
            known = level is not None and level.mean is not None
            line.append(
                say.reached(transfer.measure, level, unit=False) if known and level else "-"
            )
        for to in compared:
            lead = cell.lead(density, to)
            scaled = 0.0 if lead is None else transfer.measure.scale * lead.difference
            word = words[to].get(cell.pair, "")
            number = "-" if lead is None else say.signed(scaled, ".2f")
            line.append(f"{number} {word}".strip())
        body.append(line)
    return header, body


def best(transfer: Transfer) -> Headline:
    """Counts the cells that are shown to be better than chance, and near the target's own."""
    density, num = transfer.density, len(transfer.cells)
    if density is None:
        return Headline("–", "", "No ticket that was carried is trained yet.")
    parts = []
    for to, what in _comparisons(transfer):
        counts = Counter(transfer.words(density, to).values())
        if counts:
            told = ", ".join(f"{counts[w]} {w}" for w in ("shown", "refuted", "undecided"))
            parts.append(f"{what}: {told}")
    random = transfer.random
    shown = Counter(transfer.words(density, random or OWN).values())["shown"]
    about = "carried tickets shown to be better than chance" if random else "shown to be near"
    where = f"At {say.kept(density)} of the weights, of {say.counted(num, 'pair')}: "
    return Headline(f"{shown} of {num}", about, where + "; ".join(parts) + ".")


def _comparisons(transfer: Transfer) -> list[tuple[str, str]]:
    amount = say.amount(transfer.measure, transfer.tolerance)
    own = f"at most {amount} below the target's own ticket"
    return [(OWN, own), *((arm, f"better than {say.arm_words(arm)}") for arm in transfer.controls)]


# --- the numbers


def matrix_table(transfer: Transfer, density: float | None = None) -> Cells:
    """Tabulates each pair: both tickets, and every difference with its interval and word."""
    density = transfer.density if density is None else density
    header = ["source", "target", "carried ticket", "own ticket", "carried less own", "near"]
    header += [name for arm in transfer.controls for name in (f"less {arm}", "better")]
    if density is None:
        return header, []
    words = {to: transfer.words(density, to) for to in (OWN, *transfer.controls)}
    body = []
    for cell in transfer.cells:
        line = [cell.source, cell.target, _reached(cell, cell.level(density)),
                _reached(cell, cell.own_level(density))]  # fmt: skip
        for to in (OWN, *transfer.controls):
            lead = cell.lead(density, to)
            line += ["-" if lead is None else say.gain(cell.run.measure, lead),
                     words[to].get(cell.pair, "-")]  # fmt: skip
        body.append(line)
    return header, body


def _reached(cell: Carried, level: Level | None) -> str:
    if level is None:
        return "-"
    lost = f", {level.num_diverged} diverged" if level.num_diverged else ""
    return f"{say.reached(cell.run.measure, level)} (n = {level.n}{lost})"


def _sources(transfer: Transfer) -> list[Section]:
    """Says which sources are universal, and how alike their tickets are."""
    density = transfer.density
    if density is None:
        return []
    parts = [Section("Universal sources", READING_SOURCES,
                     tables=(Table(*universal_table(transfer, density)),))]  # fmt: skip
    pairs = alike(transfer, density)
    if pairs:
        header = ["source", "and", "Jaccard index", "by chance", "standard deviation of chance"]
        body = [[one.first, one.second, f"{one.jaccard:.3f}", f"{one.chance:.3f}", f"{one.std:.1g}"]
                for one in pairs]  # fmt: skip
        parts.append(Section("How alike tickets are", READING_ALIKE, tables=(Table(header, body),)))
    return parts


def universal_table(transfer: Transfer, density: float) -> Cells:
    """Tabulates each source: its tickets less dense on every target, and whether they match."""
    header = ["source", *transfer.targets, "shown on", "universal", "within a deviation on",
              "as published"]  # fmt: skip
    body = []
    for one in universality(transfer, density):
        line = [one.source]
        for target in transfer.targets:
            found = one.targets.get(target)
            if found is None:
                line.append("-")
                continue
            spread = "" if found.spread is None else (
                f" (dense ± {transfer.measure.scale * found.spread:.2f})"
            )  # fmt: skip
            line.append(f"{say.gain(transfer.measure, found.gain)}{spread}")
        of = f"of {one.num_targets}"
        body.append([*line, f"{one.num_shown} {of}", one.word, f"{one.num_within} {of}",
                     one.as_published])  # fmt: skip
    return header, body


def _other_densities(transfer: Transfer) -> list[Section]:
    return [
        Section(f"Sources by targets at {say.kept(density)} of the weights", folded=True,
                tables=(Table(*matrix_table(transfer, density)),))
        for density in reversed(transfer.densities) if density != transfer.density
    ]  # fmt: skip


def _records(transfer: Transfer) -> Records:
    found = []
    for density in transfer.densities:
        for to in (OWN, *transfer.controls):
            words = transfer.words(density, to)
            for cell in transfer.cells:
                level, lead = cell.level(density), cell.lead(density, to)
                if level is not None and (lead is not None or cell.pair in words):
                    low, high = (None, None) if lead is None else (lead.low, lead.high)
                    found.append({
                        "source": cell.source, "target": cell.target, "round": level.round,
                        "density": level.density, "found_density": density, "compared_with": to,
                        "n": level.n if lead is None else lead.n, "carried": level.mean,
                        "difference": None if lead is None else lead.difference,
                        "low": low, "high": high, "word": words.get(cell.pair, ""),
                    })  # fmt: skip
    return found


def _curve(transfer: Transfer) -> Records:
    found = []
    for cell in transfer.cells:
        for arm in cell.run.arms:
            found += [_point(cell.source, cell.target, arm, x) for x in cell.verdict.of(arm)]
    for target in transfer.targets:
        own = next((c.own_verdict for c in transfer.cells if c.target == target), None)
        levels = own.of(TICKET) if own is not None else ()
        found += [_point(target, target, OWN, level) for level in levels]
    return found


def _point(source: str, target: str, arm: str, level: Level) -> dict[str, object]:
    return {"source": source, "target": target, "arm": arm, "density": level.density,
            "n": level.n, "mean": level.mean, "std": level.std}  # fmt: skip


# --- the runs


def _runs(transfer: Transfer, folder: Path) -> Table:
    seen: dict[Path, Pair] = {run.folder: ("", target) for target, run in transfer.own.items()}
    for cell in transfer.cells:
        seen.setdefault(cell.origin.folder, ("", cell.source))
        seen[cell.run.folder] = cell.pair
    body: list[list[Cell]] = [
        [source or "itself", target, *run_cells(run, folder)]
        for run in transfer.runs
        for source, target in [seen[run.folder]]
    ]
    return Table(["tickets from", "trained on", "run", "state", "command"], body)
