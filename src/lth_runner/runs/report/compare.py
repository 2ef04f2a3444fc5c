"""Several runs side by side: a table, a picture, a page and a CSV."""

from __future__ import annotations

import csv
import io
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from lth_runner.runs.report import drawing
from lth_runner.runs.report.figures import curve_figure
from lth_runner.runs.report.grid import grid_figure, grid_of, grid_reading, grid_table
from lth_runner.runs.report.page import document, html_table, replace
from lth_runner.runs.report.rows import TICKET, Run
from lth_runner.runs.report.table import WIDTH, aligned
from lth_runner.runs.report.verdict import Level, judge
from lth_runner.runs.report.wording import accuracy, method, none_of, progress, sentence

MAX_NAMED_KEYS = 4
SEARCH_OF_CONTROL = re.compile(r"control\.[^.]+\.search\.")


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping -> dotted keys: {'rewind': {'step': 0}} -> {'rewind.step': 0}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Dotted key -> its value in each run (None where absent), for keys in which runs differ.

    Where a config repeats `rewind.step` deeper, as in `pruner.search.rewind.step`, once is enough.
    """
    flat = [_settings(run) for run in runs]
    keys = dict.fromkeys(key for config in flat for key in config)
    values = {key: [config.get(key) for config in flat] for key in keys}
    differing = {k: found for k, found in values.items() if any(x != found[0] for x in found)}
    differing = {k: v for k, v in differing.items() if not _is_told(k, differing)}
    return {key: v for key, v in differing.items() if not _is_copy(key, differing)}


def _settings(run: Run) -> dict[str, Any]:
    """The options chosen of the config's sections, and all keys but a control's pruner anew."""
    chosen = {k: v for k, v in run.choices.items() if isinstance(v, str) and k in run.config}
    flat = flatten(run.config)
    return chosen | {key: value for key, value in flat.items() if not _repeats_pruner(key, flat)}


def _repeats_pruner(key: str, flat: Mapping[str, Any]) -> bool:
    """Whether control.invert.search.x, say, only says again what pruner.search.x says."""
    pruner = SEARCH_OF_CONTROL.sub("pruner.search.", key)
    return pruner != key and pruner in flat and flat[pruner] == flat[key]


def _is_told(key: str, values: Mapping[str, list[Any]]) -> bool:
    """Whether the option chosen of a key's group says its value: pruner=snip, not its parts."""
    group = key.split(".")[0]
    if group == key or group not in values or None in values[group]:
        return False
    pairs = {(option, str(value)) for option, value in zip(values[group], values[key], strict=True)}
    return len(pairs) == len(set(values[group]))


def _is_copy(key: str, values: Mapping[str, list[Any]]) -> bool:
    """Whether a key of fewer parts ends alike and has the same values."""
    leaf, depth = key.rsplit(".", 1)[-1], key.count(".")
    return any(
        other.count(".") < depth and other.rsplit(".", 1)[-1] == leaf and found == values[key]
        for other, found in values.items()
    )


def labels(runs: Sequence[Run]) -> list[str]:
    """'key=value, ...' of the keys in which the runs differ; the folder's name breaks ties.

    More than four such keys: only as many, in their order, as tell the runs apart. A run is not
    named by a key that it does not have.
    """
    found = differences(runs)
    keys = list(found)
    if len(keys) > MAX_NAMED_KEYS:
        counts = range(1, len(keys) + 1)
        keys = next((keys[:n] for n in counts if _distinct(found, keys[:n], len(runs))), keys[:4])
    settings = [_settings(run) for run in runs]
    names = [", ".join(f"{k}={_plain(own[k])}" for k in keys if k in own) for own in settings]
    if len(set(names)) == len(names) and all(names):
        return names
    return [f"{name} {run.folder.name}".strip() for name, run in zip(names, runs, strict=True)]


def _distinct(found: Mapping[str, list[Any]], keys: Sequence[str], num_runs: int) -> bool:
    return len({tuple(str(found[key][i]) for key in keys) for i in range(num_runs)}) == num_runs


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def common_parent(runs: Sequence[Run]) -> Path:
    return Path(os.path.commonpath([run.folder.resolve().parent for run in runs]))


def compare(runs: Sequence[Run], folder: Path) -> tuple[str, tuple[Path, Path, Path]]:
    """Writes comparison.html, .png and .csv into the folder; returns the table and the files."""
    names = labels(runs)
    header, body = summary_table(runs, names)
    figure = curve_figure(runs, labels=names)
    files = tuple(folder / f"comparison.{kind}" for kind in ("html", "png", "csv"))
    replace(files[1], drawing.png(figure))
    replace(files[2], comparison_csv(runs, names).encode())
    page = [
        f"<h1>{len(runs)} runs</h1>",
        f'<p class="muted">{escape(str(folder))}</p>',
        f'<div class="figure">{drawing.svg(figure, "comparison")}</div>',
        f'<p class="muted">{escape(method(judge(runs[0])))}</p>',
        "<h2>Runs</h2>",
        html_table(header, body),
        *_grid_part(runs),
        "<h2>What each run shows</h2>",
        *(_paragraph(run, name, folder) for run, name in zip(runs, names, strict=True)),
        "<h2>Where the configurations differ</h2>",
        html_table(*_difference_table(runs, names)),
    ]
    replace(files[0], document(f"{len(runs)} runs", page).encode())
    text = aligned(header, body)
    if (grid := grid_of(runs, differences(runs))) is not None:
        text += ["", *aligned(*grid_table(grid)), *textwrap.wrap(grid_reading(grid), WIDTH)]
    return "\n".join(text), (files[0], files[1], files[2])


def _grid_part(runs: Sequence[Run]) -> list[str]:
    """The runs by the two settings in which they differ; nothing where these are not two."""
    grid = grid_of(runs, differences(runs))
    if grid is None:
        return []
    return [
        f"<h2>{escape(f'{grid.down[0]} by {grid.across[0]}')}</h2>",
        f'<p class="muted">{escape(grid_reading(grid))}</p>',
        f'<div class="figure">{drawing.svg(grid_figure(grid), "grid")}</div>',
        html_table(*grid_table(grid)),
    ]


def summary_table(runs: Sequence[Run], names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Run x (state, n, dense, largest matching sparsity, accuracy at the largest sparsity)."""
    header = ["n", "dense", "sparsest match", "last sparsity", "accuracy there", "state", "run"]
    body = []
    for run, name in zip(runs, names, strict=True):
        verdict = judge(run)
        best, last = verdict.largest(TICKET), _last(verdict.of(TICKET))
        body.append(
            [
                str(run.num_replicates),
                accuracy(verdict.dense, 2) if verdict.dense else "-",
                f"{100 * best.sparsity:.2f} %" if best else none_of(verdict),
                f"{100 * last.sparsity:.2f} %" if last else "-",
                accuracy(last, 2) if last else "-",
                run.state,
                name,
            ]
        )
    return header, body


def comparison_csv(runs: Sequence[Run], names: Sequence[str]) -> str:
    """One line per run and arm with plain numbers (fractions), and the differing config keys."""
    found = differences(runs)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["run", "folder", "state", "arm", "replicates", "dense_accuracy_mean", "dense_accuracy_std",
         "largest_matching_sparsity", "matching_accuracy_mean", "largest_sparsity",
         "final_accuracy_mean", "final_accuracy_std", *(f"config.{key}" for key in found)]
    )  # fmt: skip
    for i, (run, name) in enumerate(zip(runs, names, strict=True)):
        verdict = judge(run)
        dense = verdict.dense
        for arm in run.arms:
            best, last = verdict.largest(arm), _last(verdict.of(arm))
            writer.writerow(
                [name, run.folder, run.state, arm, run.num_replicates,
                 dense.mean if dense else None, dense.std if dense else None,
                 best.sparsity if best else None, best.mean if best else None,
                 last.sparsity if last else None, last.mean if last else None,
                 last.std if last else None, *(values[i] for values in found.values())]
            )  # fmt: skip
    return text.getvalue()


def _last(levels: Sequence[Level]) -> Level | None:
    return levels[-1] if levels else None


def _difference_table(
    runs: Sequence[Run], names: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    found = differences(runs)
    return ["run", *found], [
        [name, *(_plain(values[i]) for values in found.values())] for i, name in enumerate(names)
    ]


def _paragraph(run: Run, name: str, folder: Path) -> str:
    target = Path(os.path.relpath(run.folder.resolve(), folder.resolve())) / "report.html"
    text = f"{sentence(judge(run))} {progress(run)}"
    return (
        f'<p><a href="{escape(target.as_posix())}">{escape(name or run.name)}</a>: '
        f"{escape(text)}</p>"
    )
