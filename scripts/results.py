"""Published figures beside ours: the tables and pictures of docs/results.md, from finished runs.

    make results                     # from outputs/ and from the runs kept in docs/runs/
    make results ARGS=--keep         # and keep the finished ones of outputs/ there, to be committed
    make results ARGS=--keep=all     # the unfinished ones too
    python scripts/results.py outputs docs/results.md

Reads runs and trains nothing. Between the two marks of the page every line is rewritten; a claim
that is refuted stays in the table, and one without runs says so. The claims are in claims*.py,
what is read off runs for them in measures.py and one_task.py, what that decides in judged.py, which
runs there are in evidence.py, and what makes them in costs.py and anew.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from claim import Group
from claims import CLAIMS
from costs import hours, made
from evidence import keep, load, readable
from forest import forest
from judged import NOT_MEASURED, Row, decided
from pictures import SMALL, curves, save
from sections import SECTIONS, drawn, table, written
from topic_curves import topic_curves

from lth_runner.runs.evidence.estimate import LEVEL
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.values.errors import UserError

BEGIN, END = "<!-- results: written by `make results` -->", "<!-- /results -->"
FOREST = "claims"  # the picture of all of them
CURVES = "curves"  # the folder of those behind each topic
HEADER = ("claim", "published", "ours", "what is to be shown", "verdict", "curve", "made by")


def summary(rows: Mapping[str, Sequence[Row]], runs: Sequence[FinishedRun]) -> list[str]:
    """How many claims of each topic have which verdict, and how many chance may have made."""
    words = ("shown", "refuted", "undecided", NOT_MEASURED)
    verdicts = [row.verdict for group in rows.values() for row in group]
    counts = [f"{verdicts.count(one)} {one}" for one in words]
    measured = sum(any(row.found for row in group) for group in rows.values())
    chance = f"{LEVEL * measured:.3g}"
    spent = made((row for group in rows.values() for row in group), runs)
    took = hours(run for own in spent.values() for run in own)
    lines = [
        [f"[{title}](#{anchor(title)})", str(len(group)),
         *(str([row.verdict for row in group].count(one) or "") for one in words)]
        for title, group in rows.items()
    ]  # fmt: skip
    return [
        f"{len(verdicts)} claims: {', '.join(counts)}.",
        f"In each of the {measured} topics that runs reach, that any *shown* is wrong has a chance "
        f"of at most {LEVEL:.0%}, and so has any *refuted*: chance alone would make {chance} "
        f"topics with a wrong *shown* and {chance} with a wrong *refuted* at the most.",
        f"The trainings of the runs behind this page, each counted once, took {took:,.0f} "
        f"hours of their machines; `make anew` lists its {len(spent)} commands with their hours, "
        "and `make anew ARGS=--train` trains all of it that needs no images or pretrained model of "
        "yours, and the others where `--for` names these.",
        table(("topic", "claims", *words), lines),
    ]


def told(group: Sequence[Row], curve: str | None) -> tuple[str, str]:
    """The table of a topic, a line for each claim, and below it what its numbers stand for."""
    every = dict.fromkeys(one for row in group for one in row.made_by)
    numbers = {one: place for place, one in enumerate(every, 1)}
    lines = [
        (
            row.text, row.claim.published, row.ours, row.claim.rule,
            f"**{row.verdict}**" if row.found else row.verdict,
            f"[curve]({curve})" if curve and row.found else "",
            spans(sorted(numbers[one] for one in row.made_by)),
        )
        for row in group
    ]  # fmt: skip
    return table(HEADER, lines), "\n".join(f"{place}. {one}" for one, place in numbers.items())


def spans(numbers: Sequence[int]) -> str:
    """Numbers in their order, more than two neighbours as one: 1, 3 to 7."""
    found: list[list[int]] = []
    for one in numbers:
        if found and one == found[-1][-1] + 1:
            found[-1].append(one)
        else:
            found.append([one])
    return ", ".join(
        f"{own[0]} to {own[-1]}" if len(own) > 2 else ", ".join(map(str, own)) for own in found
    )


def anchor(title: str) -> str:
    """The name that a heading has in a link."""
    kept = "".join(one for one in title.lower() if one.isalnum() or one in " -_")
    return kept.replace(" ", "-")


def block(
    runs: Sequence[FinishedRun],
    claims: Mapping[str, Group],
    shown: Mapping[str, str] | None = None,
    rows: Mapping[str, Sequence[Row]] | None = None,
) -> str:
    """What stands between the marks; `shown`: pictures that are there, and what they show.

    `rows`: the claims held against the runs, where that is done already.
    """
    shown = dict(shown or {})
    rows = rows or {title: decided(group, runs) for title, group in claims.items()}
    parts = summary(rows, runs)
    if text := shown.pop(f"{FOREST}.png", None):
        parts.append(f"![{text}](images/{FOREST}.png)")
    for title, group in rows.items():
        name = f"{CURVES}/{anchor(title)}.png"
        curve = f"images/{name}" if shown.pop(name, None) else None
        parts += [f"## {title}", claims[title].sources, *told(group, curve)]
        parts += [claims[title].found] if claims[title].found else []
    placed: set[str] = set()
    for section in SECTIONS:
        own = {name: text for name, text in shown.items() if name.startswith(f"{section.name}_")}
        placed |= set(own)
        parts += [f"## {section.title}", written(section, runs, own)]
    others = {name: text for name, text in shown.items() if name not in placed}
    parts += ["## Curves"] if others else []
    parts += [f"![{text}](images/{name})" for name, text in others.items()]
    return "\n\n".join(parts)


def rewritten(page: str, content: str) -> str:
    """The page with everything between its marks replaced; raises `UserError` without the marks."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise UserError(f"the page lacks its marks: put {BEGIN} and {END} where the tables go")
    return f"{head}{BEGIN}\n\n{content}\n\n{END}{tail}"


def page_text(page: Path) -> str:
    """The page, looked at before anything is written; raises `UserError` where it is none."""
    try:
        text = page.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{page} cannot be read ({error}): give a page that has the marks {BEGIN} "
            f"and {END}, or call this from the folder of the source"
        ) from error
    rewritten(text, "")
    return text


def wanted(runs: Iterable[FinishedRun], *, unfinished: bool) -> list[FinishedRun]:
    """The runs that the page speaks of: by name, at full scale, and done or begun."""
    names = {name for group in CLAIMS.values() for c in group.claims for name, _ in c.runs.values()}
    names |= {section.name for section in SECTIONS}
    return [
        run
        for run in readable(runs)
        if run.name in names and run.rows and (unfinished or run.state == "done")
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("outputs", nargs="?", type=Path, default=Path("outputs"))
    parser.add_argument("page", nargs="?", type=Path, default=Path("docs/results.md"))
    parser.add_argument(
        "--keep", nargs="?", choices=("done", "all"), const="done",
        help="put the runs that the page speaks of into runs/ beside it: done ones, or all",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    folder = arguments.page.parent
    try:
        before = page_text(arguments.page)
        every = load(arguments.outputs, folder / "runs")
        if arguments.keep:
            chosen = wanted(every, unfinished=arguments.keep == "all")
            for file in keep(chosen, folder / "runs"):
                print(f"kept: {file}, {file.stat().st_size / 1000:,.0f} kB")
        runs = readable(every)
        rows = {title: decided(group, runs) for title, group in CLAIMS.items()}
        figures = curves(runs)
        for section in SECTIONS:
            figures |= drawn(section, runs)
        if (figure := forest(rows)) is not None:
            figures[FOREST] = (figure, "Claims about shares, beside what their rules ask for")
        shown = save(figures, folder / "images") | save(
            {f"{CURVES}/{anchor(title)}": (figure, title) for title, group in rows.items()
             if (figure := topic_curves(group, runs)) is not None},
            folder / "images", dpi=SMALL,
        )  # fmt: skip
        page = rewritten(before, block(runs, CLAIMS, shown, rows))
    except UserError as error:
        print(f"results: {error}", file=sys.stderr)
        return 2
    arguments.page.write_text(page)
    print(f"written: {arguments.page}, from {len(runs)} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
