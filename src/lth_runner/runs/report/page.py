"""Pages of the report: a head with its number and verdict, and sections, as one HTML file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from matplotlib.figure import Figure

from lth_runner.runs.report import drawing
from lth_runner.runs.report.headline import Headline
from lth_runner.values.errors import UserError

MAX_ROWS = 12  # a longer table folds
SHORT = 6  # rows of it that stay in view


@dataclass(frozen=True)
class Html:
    """Text that is markup already: all other text is escaped where it enters a page."""

    text: str


Cell = str | Html


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
    for a CSV beside its PNG. `folded`: all of it is opened by a click.
    """

    heading: str
    reading: str = ""
    key: str = ""
    figure: Figure | None = None
    numbers: Sequence[Sequence[object]] = ()
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    text: str = ""
    fine_print: str = ""
    folded: bool = False


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
    title = escape(page.title)
    return _template().substitute(title=title, body="\n".join(one.text for one in body))


@cache
def _template() -> Template:
    folder = files("lth_runner.runs.report")
    return Template((folder / "page.html").read_text(encoding="utf-8"))


def _section(section: Section) -> Html:
    blocks = [tag("p", section.reading, class_="muted")] if section.reading else []
    if section.figure is not None:
        blocks.append(picture(section.figure, section.key))
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


def picture(figure: Figure, key: str) -> Html:
    """Makes the element of a figure."""
    return tag("div", Html(drawing.svg(figure, key)), class_="figure")


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
    written = [file]
    for section in page.sections:
        if section.numbers and section.figure is not None:
            image = file.parent / f"{section.key}.png"
            replace_file(image, drawing.png(section.figure))
            written.append(image)
        if section.numbers:
            numbers = file.parent / f"{section.key}.csv"
            replace_file(numbers, csv_text(section.numbers).encode())
            written.append(numbers)
    replace_file(file, render(page).encode())
    return tuple(written)


def csv_text(table: Iterable[Sequence[object]]) -> str:
    """Writes a table as the text of a CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()


def replace_file(target: Path, content: bytes) -> None:
    """Writes a file that a viewer sees either as it was or complete."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}.") from error
