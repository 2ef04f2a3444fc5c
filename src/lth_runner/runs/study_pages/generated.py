"""The page of generated networks: how good they are, and how far from those they were made of."""

from __future__ import annotations

from pathlib import Path

from lth_runner.runs.evidence.generated import FLOW, Flow, Generation
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.page import Headline, Page, Section, Table, run_cells, write_page
from lth_runner.runs.pages.progress import refusals
from lth_runner.runs.report.generated_networks import COPIES, section, sentence


def write_generated(found: Generation, folder: Path, stem: str = "generated") -> tuple[Path, ...]:
    """Writes <stem>.html, and <stem>-networks.png with a .csv of the same name; the page first."""
    runs = [run_cells(run, folder) for run in found.runs]
    sections = (
        section(found, f"{stem}-networks"),
        Section("Runs", tables=(Table(["run", "state", "command"], runs),)),
    )
    facts = (str(folder), say.counted(len(found.flows), "flow"))
    page = Page("Generated networks", facts, best(found), refusals(found.runs), sections)
    return write_page(page, folder / f"{stem}.html")


def best(found: Generation) -> Headline:
    """Names the flow that generates the best networks that are no copies; else the best."""
    own = [one for one in found.flows if (one.novelty or 0.0) >= COPIES and one.kind(FLOW)]
    flows = own or [one for one in found.flows if one.kind(FLOW)] or list(found.flows)
    first = max(flows, key=lambda one: one.measure.gain(_value(one), 0.0))
    told = (
        " that are no copies" if own else "" if first.novelty is None else " which are near copies"
    )
    return Headline(
        first.measure.text(_value(first)),
        f"is the mean of generated networks{told}",
        sentence(first),
    )


def _value(flow: Flow) -> float:
    kind = flow.kind(FLOW) or flow.kinds[0]
    return kind.value
