"""The report of one run as one self-contained HTML file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import yaml

from lth_runner.runs.report import drawing
from lth_runner.runs.report.correlations import READING as CORRELATIONS
from lth_runner.runs.report.correlations import correlation_table, correlations
from lth_runner.runs.report.drawing import Panel
from lth_runner.runs.report.figures import curve_figure
from lth_runner.runs.report.instruments import instruments
from lth_runner.runs.report.overlap import READING as OVERLAP
from lth_runner.runs.report.overlap import overlap_table, seed_overlaps
from lth_runner.runs.report.panels import panels
from lth_runner.runs.report.published import Beside, beside, counterpart
from lth_runner.runs.report.rows import TICKET, Row, Run
from lth_runner.runs.report.sanity import HINT, Check, checks, sanity_table, sentences
from lth_runner.runs.report.table import round_table
from lth_runner.runs.report.verdict import Verdict, judge
from lth_runner.runs.report.wording import (
    accuracy,
    kept,
    learning_sentence,
    method,
    none_of,
    p_value,
    points,
    progress,
    sentence,
)
from lth_runner.values.errors import UserError

# What the page may load: nothing. Names from a config could otherwise smuggle a request in.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

STYLE = """
:root { color-scheme: light dark; --ink: #1d2433; --muted: #5b6474; --paper: #ffffff;
  --ground: #f4f5f8; --edge: #d8dce3; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --muted: #a3acbb;
  --paper: #1c212b; --ground: #12161d; --edge: #343b48; --accent: #6db8e8; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 40px 0 4px; }
p { margin: 4px 0 10px; max-width: 78ch; }
.muted { color: var(--muted); font-size: .9rem; overflow-wrap: anywhere; }
.verdict { border-left: 4px solid var(--accent); padding: 8px 14px; font-size: 1.08rem;
  background: var(--paper); border-radius: 0 8px 8px 0; max-width: none; }
.notice { border-left-color: #d55e00; font-size: 1rem; }
.figure { background: #fff; border: 1px solid var(--edge); border-radius: 10px; padding: 8px;
  overflow-x: auto; }
.figure svg { display: block; width: 100%; min-width: 560px; height: auto; }
.box { overflow: auto; max-height: 70vh; border: 1px solid var(--edge); border-radius: 10px;
  background: var(--paper); }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
.box table { min-width: 100%; }
th, td { padding: 5px 11px; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--edge); }
th { position: sticky; top: 0; background: var(--paper); color: var(--muted); font-weight: 600; }
td:first-child, th:first-child, td.text { text-align: left; }
pre { margin: 0; padding: 12px 14px; font: .83rem/1.5 ui-monospace, Menlo, Consolas, monospace; }
summary { cursor: pointer; font-size: 1.15rem; font-weight: 600; margin: 32px 0 8px; }
a { color: var(--accent); }
"""

FIRST_FIELDS = (
    "round", "arm", "seed", "sparsity", "density", "num_kept", "num_prunable", "test_accuracy",
    "test_loss", "val_accuracy", "val_loss", "train_accuracy", "train_loss", "best_val_step",
    "sign_preservation", "jaccard_early_gradient", "jaccard_chance", "jaccard_null",
)  # fmt: skip


def write_run(run: Run) -> tuple[Path, Path]:
    """Writes curve.png and report.html into the run's folder, each by one atomic replacement."""
    verdict = judge(run)
    curve = curve_figure([run])
    picture, page = run.folder / "curve.png", run.folder / "report.html"
    replace(picture, drawing.png(curve))
    text = run_page(run, verdict, curve_svg=drawing.svg(curve, "curve"))
    replace(page, text.encode())
    return picture, page


def replace(target: Path, content: bytes) -> None:
    """Writes a file that a viewer sees either as it was or complete."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}.") from error


def run_page(run: Run, verdict: Verdict, *, curve_svg: str) -> str:
    """The page as text."""
    body = [
        f"<h1>{escape(run.name)}</h1>",
        f'<p class="muted">{escape(_facts(run))}</p>',
        f'<p class="verdict">{escape(_shows(run, verdict))}</p>',
    ]
    if note := progress(run):
        body.append(f'<p class="verdict notice">{escape(note)}</p>')
    body += [
        f'<div class="figure">{curve_svg}</div>',
        f'<p class="muted">{escape(method(verdict))}</p>',
        _section("Arms", "Each arm where it matches the dense network at its sparsest.",
                 _arms(run, verdict)),
        _section("Rounds", "Test accuracy in % at the last step, mean ± standard deviation.",
                 html_table(*round_table(run, verdict))),
    ]  # fmt: skip
    if (theirs := counterpart(run)) is not None:
        reading = f"{theirs.citation}; {theirs.title}: {theirs.label}; {theirs.statistic}."
        body.append(
            _section(
                "Beside published figures", reading, html_table(*_published(beside(run, theirs)))
            )
        )
    if found := checks(run, verdict):
        body.append(_section("Sanity checks", HINT, sanity_part(found)))
    shown = [*panels(run, verdict), *instruments(run, verdict)]
    body += [_panel(panel) for panel in shown if panel.figure is not None]
    if missing := [panel.heading for panel in shown if panel.figure is None]:
        body.append(f'<p class="muted">Not recorded in this run: {escape(", ".join(missing))}.</p>')
    if overlaps := seed_overlaps(run):
        body.append(_section("Masks of different seeds", OVERLAP,
                             html_table(*overlap_table(overlaps))))  # fmt: skip
    if quantities := correlations(run):
        body.append(_section("What goes with accuracy", CORRELATIONS,
                             html_table(*correlation_table(quantities))))  # fmt: skip
    body += [
        _folded("Configuration", f"<pre>{escape(_yaml(run.config))}</pre>"),
        _folded("Environment", f"<pre>{escape(_yaml(run.environment))}</pre>"),
        _section("Every row", "rounds.jsonl as it is: one line per round, arm and seed.",
                 html_table(*_every_row(run.rows))),
    ]  # fmt: skip
    return document(run.name, body)


def document(title: str, body: Iterable[str]) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def html_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in line) for line in body)
    rows = "\n".join(f"<tr>{line}</tr>" for line in lines)
    table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>"
    return f'<div class="box">{table}</div>'


def _shows(run: Run, verdict: Verdict) -> str:
    return f"{sentence(verdict)} {learning_sentence(run, verdict)}".strip()


def sanity_part(found: Sequence[Check]) -> str:
    """The sanity checks in words, and as a table."""
    told = "".join(f"<p>{escape(text)}</p>\n" for text in sentences(found))
    return f"{told}{html_table(*sanity_table(found))}"


def _arms(run: Run, verdict: Verdict) -> str:
    header = ["arm", "sparsest match", "weights kept", "test accuracy", "minus dense", "p"]
    body = []
    for arm in run.arms:
        best = verdict.largest(arm)
        if best is None or best.against_dense is None:
            body.append([arm, none_of(verdict), "", "", "", ""])
            continue
        pair = best.against_dense
        p = "" if pair.p is None else p_value(pair).removeprefix("p ")
        failed = len(verdict.failed_before(arm))
        sparsity = f"{100 * best.sparsity:.2f} %" + (f" ({failed} below earlier)" if failed else "")
        body.append([arm, sparsity, kept(best.density), accuracy(best, 2),
                     points(pair), p.removeprefix("= ")])  # fmt: skip
    if verdict.dense is not None:
        body.append(["dense", "", "100 %", accuracy(verdict.dense, 2), "", ""])
    return html_table(header, body)


def _published(found: Sequence[Beside]) -> tuple[list[str], list[list[str]]]:
    header = ["weights kept", "published", "lowest to highest", "n", "ours", "n", "difference"]
    body = []
    for one in found:
        point, ours, difference = one.point, "", ""
        ends = [_percent(end) for end in (point.low, point.high) if end is not None]
        if one.mean is not None and one.difference is not None:
            spread = "" if one.std is None else f" ± {100 * one.std:.2f}"
            ours = f"{100 * one.mean:.2f}{spread} %"
            difference = f"{100 * one.difference:+.2f} points".replace("-", "−")
        body.append([kept(point.density), f"{_percent(point.accuracy)} %", " to ".join(ends),
                     str(point.n or ""), ours, str(one.n or ""), difference])  # fmt: skip
    return header, body


def _percent(published: float) -> str:
    """Half a hundredth is rounded up, as in papers."""
    return f"{100 * published + 1e-9:.2f}"


def _every_row(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """All scalar fields, the well-known ones first, whatever a probe added behind them."""
    fields = dict.fromkeys(field for row in rows for field, value in row.items()
                           if not isinstance(value, (Mapping, list)))  # fmt: skip
    ordered = [name for name in FIRST_FIELDS if name in fields]
    ordered += [name for name in fields if name not in FIRST_FIELDS]
    return ordered, [[_cell(row.get(field)) for field in ordered] for row in rows]


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    text = str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _panel(panel: Panel) -> str:
    assert panel.figure is not None
    picture = drawing.svg(panel.figure, panel.key)
    return _section(panel.heading, panel.reading, f'<div class="figure">{picture}</div>')


def _section(heading: str, reading: str, content: str) -> str:
    return (
        f"<section>\n<h2>{escape(heading)}</h2>\n"
        f'<p class="muted">{escape(reading)}</p>\n{content}\n</section>'
    )


def _folded(heading: str, content: str) -> str:
    return (
        f"<details>\n<summary>{escape(heading)}</summary>\n"
        f'<div class="box">{content}</div>\n</details>'
    )


def _facts(run: Run) -> str:
    rounds = sum(round != run.dense_round for round in run.rounds(TICKET))
    facts = [
        f"{run.folder}",
        run.state,
        f"replicates: {run.num_replicates}",
        f"rounds {'of tickets' if run.dense_round is None else 'after dense'}: {rounds}",
    ]
    facts += [f"updated {run.status['updated']}"] if run.status.get("updated") else []
    return " · ".join(facts)


def _yaml(values: Mapping[str, object]) -> str:
    if not values:
        return "not recorded"
    plain = json.loads(json.dumps(values, default=str))  # dates and the like as text
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
