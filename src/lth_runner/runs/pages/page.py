"""Pages of the report: a head with its number and verdict, and sections, as one HTML file."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from matplotlib.figure import Figure

from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.folder import PAGE
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages.drawn import sealed
from lth_runner.runs.pages.lines import Line
from lth_runner.values.errors import UserError
from lth_runner.values.files import write_whole

MAX_ROWS = 12  # a longer table folds
SHORT = 6  # rows of it that stay in view


@dataclass(frozen=True)
class Html:
    """Text that is markup already: all other text is escaped where it enters a page."""

    text: str


Cell = str | Html
Records = Sequence[Mapping[str, object]]


@dataclass(frozen=True)
class Table:
    """Header and rows; of a long one the `marked` rows and some more are in view, all folded."""

    header: Sequence[str]
    body: Sequence[Sequence[Cell]]
    marked: tuple[int, ...] = ()


@dataclass(frozen=True)
class Section:
    """A heading, how to read what follows, and figure, sentences and tables in this order.

    `fine_print` is what few readers ask for, opened by a click. `numbers` are those of the figure,
    a mapping a line, for a CSV beside its PNG. `folded`: all of it is opened by a click. `lines`:
    what the figure draws, or would with more than dots.
    """

    heading: str
    reading: str = ""
    key: str = ""
    figure: Figure | None = None
    numbers: Records = ()
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    text: str = ""
    fine_print: str = ""
    folded: bool = False
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Headline:
    """A number with what it counts, the verdict in a sentence, and the remarks on it."""

    number: str
    about: str
    sentence: str
    remarks: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Writes sentence and remarks, as a console prints them."""
        return " ".join([self.sentence, *self.remarks])


@dataclass(frozen=True)
class Page:
    """What a reader sees from top to bottom; `notices` are what must not be missed."""

    title: str
    facts: tuple[str, ...]
    headline: Headline
    notices: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()


def tag(name: str, *content: Cell, **attributes: str) -> Html:
    """Makes an element: text is escaped, markup is not; `class_` stands for class."""
    given = "".join(
        f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items() if value
    )
    inside = "".join(one.text if isinstance(one, Html) else escape(one) for one in content)
    return Html(f"<{name}{given}>{inside}</{name}>")


def link(address: Path | str, text: str) -> Html:
    """Makes a link to an address."""
    return tag("a", text, href=Path(address).as_posix())


def run_link(run: FinishedRun, folder: Path, text: str) -> Html:
    """Makes a link to a run's own page, from a page in a folder."""
    return link(Path(os.path.relpath(run.folder.resolve(), folder.resolve())) / PAGE, text)


def run_cells(run: FinishedRun, folder: Path) -> list[Cell]:
    """Writes the last cells of a table of runs: run, state, command."""
    command = str(run.status.get("command") or "")
    return [run_link(run, folder, run.folder.name), run.state, command]


def render(page: Page) -> str:
    """Writes the page as text."""
    top = page.headline
    number = [tag("div", top.number, class_="number"), tag("div", top.about, class_="about")]
    remarks = [tag("p", " ".join(top.remarks), class_="muted")] if top.remarks else []
    verdict = tag("div", tag("p", top.sentence), *remarks, class_="verdict")
    body = [
        tag("h1", page.title),
        tag("p", " · ".join(filter(None, page.facts)), class_="facts muted"),
        tag("div", tag("div", *number), verdict, class_="headline"),
        *(tag("p", text, class_="notice") for text in page.notices if text),
        *map(_section, page.sections),
    ]
    file = files("lth_runner.runs.pages") / "page.html"
    template = Template(file.read_text(encoding="utf-8"))
    return template.substitute(title=escape(page.title), body="\n".join(one.text for one in body))


def _section(section: Section) -> Html:
    blocks = [tag("p", section.reading, class_="muted")] if section.reading else []
    if section.figure is not None:
        blocks.append(tag("div", Html(drawing.svg(section.figure, section.key)), class_="figure"))
    if section.figure is not None and section.numbers:
        name = f"{section.key}.csv"
        blocks.append(tag("p", "Numbers: ", link(name, name), ".", class_="muted"))
    blocks += [tag("p", text) for text in section.notes if text]
    blocks += [_table(table, whole=section.folded) for table in section.tables]
    blocks += [tag("div", tag("pre", section.text), class_="box")] if section.text else []
    if section.fine_print:
        text = tag("p", section.fine_print, class_="muted")
        blocks.append(tag("details", tag("summary", "how to read this"), text))
    if section.folded:
        return tag("section", tag("details", tag("summary", section.heading), *blocks))
    return tag("section", tag("h2", section.heading), *blocks)


def _table(table: Table, *, whole: bool) -> Html:
    everything = _rows(table, range(len(table.body)))
    if whole or len(table.body) <= MAX_ROWS:
        return everything
    last = len(table.body) - 1
    shown = {0, last, *table.marked}
    for i in range(SHORT):
        if len(shown) < SHORT:
            shown.add(round(i * last / (SHORT - 1)))
    folded = tag("details", tag("summary", f"all {len(table.body)} rows"), everything)
    return tag("div", _rows(table, sorted(shown)), folded)


def _rows(table: Table, shown: Iterable[int]) -> Html:
    head = tag("tr", *(tag("th", cell) for cell in table.header))
    body = [tag("tr", *(tag("td", cell) for cell in table.body[i])) for i in shown]
    inside = [tag("thead", head)] if table.header else []
    return tag("div", tag("table", *inside, tag("tbody", *body)), class_="box")


def write_page(page: Page, file: Path) -> tuple[Path, ...]:
    """Writes the page, and each numbered figure as <key>.png beside a <key>.csv; the page first."""
    contents = {file: sealed(render(page))}
    for section in page.sections:
        if section.numbers and section.figure is not None:
            contents[file.with_name(f"{section.key}.png")] = drawing.png(section.figure)
        if section.numbers:
            contents[file.with_name(f"{section.key}.csv")] = csv_text(section.numbers)
    for target, content in contents.items():
        write(target, content)
    return tuple(contents)


def csv_text(records: Records) -> bytes:
    """Writes the content of a CSV, a column for each key of the first record."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(records)
    return text.getvalue().encode(errors="replace")


def write(target: Path, content: bytes) -> None:
    """Writes a file that a viewer sees either as it was or complete; raises `UserError`."""
    try:
        write_whole(target, content, synced=False)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}.") from error
