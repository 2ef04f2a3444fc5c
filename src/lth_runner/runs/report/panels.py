"""The other figures of the report, each with the sentence that says how to read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from lth_runner.runs.report import drawing
from lth_runner.runs.report.drawing import INK, MUTED, EndLabel, Panel
from lth_runner.runs.report.layers import heat_map
from lth_runner.runs.report.lines import (
    DENSITY,
    PERCENT,
    Curve,
    against_density,
    kept_label,
    new_axes,
)
from lth_runner.runs.report.rows import TICKET, Row, Run, mean, number
from lth_runner.runs.report.verdict import Verdict


def panels(run: Run, verdict: Verdict) -> list[Panel]:
    """Every figure of the report below the accuracy curve, in the order of the page."""
    return [_difference(run, verdict), _signs(run), _jaccard(run), _overlap(run),
            *_learning(run, verdict), _best_step(run), heat_map(run)]  # fmt: skip


def _difference(run: Run, verdict: Verdict) -> Panel:
    reading = (
        "Zero is the dense network of the same seed; bars are 95 % t intervals of the paired "
        "difference. A bar wholly above the dotted tolerance excludes a larger loss."
    )
    levels = {arm: [x for x in verdict.of(arm) if x.against_dense] for arm in run.arms}
    if not any(levels.values()):
        return Panel("difference", "Difference to the dense network", reading, None)
    figure, axes = new_axes(xlabel=DENSITY, ylabel="difference (points)")
    axes.axhline(0, color=MUTED, linewidth=1.2)
    axes.axhline(-PERCENT * verdict.tolerance, color=MUTED, linewidth=1, linestyle=":")
    ends = []
    depth = 6 * PERCENT * verdict.tolerance
    for index, (arm, found) in enumerate(levels.items()):
        shift = 1 + 0.018 * (index - (len(levels) - 1) / 2)  # keeps bars of one round apart
        x = [PERCENT * level.density * shift for level in found]
        pairs = [level.against_dense for level in found if level.against_dense]
        y = [PERCENT * pair.difference for pair in pairs]
        error = [PERCENT * (p.high - p.difference) if p.high is not None else 0.0 for p in pairs]
        axes.errorbar(
            x, y, yerr=error, color=drawing.colour(index), marker=drawing.marker(index),
            markersize=4.5, linewidth=1, elinewidth=1.1, capsize=2.5, alpha=0.95,
        )  # fmt: skip
        if y:
            ends.append(EndLabel(x[-1], y[-1], arm, drawing.colour(index)))
            if arm == TICKET:
                depth = max(depth, -1.3 * min(y))
    drawing.density_axis(axes, [x.density for found in levels.values() for x in found])
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -depth), min(high, depth))
    drawing.end_labels(axes, ends)
    return Panel("difference", "Difference to the dense network", reading, figure)


def _signs(run: Run) -> Panel:
    curves = [
        Curve(arm, "sign_preservation", f"{arm}, its survivors", drawing.colour(i),
              marker=drawing.marker(i))
        for i, arm in enumerate(run.arms)
    ]  # fmt: skip
    curves += [
        Curve(TICKET, "sign_preservation_dense_on_ticket", "dense, on the\nticket's weights",
              INK, "--", ""),
        Curve(TICKET, "sign_preservation_dense", "dense, all weights", MUTED, "--", ""),
    ]  # fmt: skip
    reading = (
        "Fraction of weights whose sign at the end of training is that at its start; independent "
        "signs would agree for a half."
    )
    figure = against_density(run, curves, ylabel="signs kept", level=(0.5, "chance"))
    return Panel("signs", "Sign preservation", reading, figure)


def _jaccard(run: Run) -> Panel:
    curves = [
        Curve(TICKET, "jaccard_early_gradient", "ticket", drawing.colour(0)),
        Curve(TICKET, "jaccard_null", "mask shuffled\nwithin layers", drawing.colour(1), "--", "s"),
        Curve(TICKET, "jaccard_chance", "two random masks", MUTED, ":", ""),
    ]
    reading = (
        "Overlap |A ∩ B| / |A ∪ B| of the mask with equally many weights of largest early "
        "gradient; what exceeds the shuffled mask is not explained by the layer densities."
    )
    figure = against_density(run, curves, ylabel="Jaccard index")
    return Panel("jaccard", "Mask and early gradient", reading, figure)


def _overlap(run: Run) -> Panel:
    curves = [Curve(TICKET, "mask_overlap_previous", "ticket", drawing.colour(0))]
    reading = (
        "Overlap of each mask with that of the round before; nested masks overlap by the ratio of "
        "their densities."
    )
    figure = against_density(run, curves, ylabel="overlap")
    return Panel("overlap", "Mask against the round before", reading, figure)


def _best_step(run: Run) -> Panel:
    curves = [
        Curve(arm, "best_val_step", arm, drawing.colour(i), marker=drawing.marker(i))
        for i, arm in enumerate(run.arms)
    ]
    reading = (
        "Step at which the validation loss was lowest (early-stopping step): a winning ticket "
        "gets there no later than the dense network at the left end."
    )
    figure = against_density(run, curves, ylabel="step")
    return Panel("best-step", "Step of lowest validation loss", reading, figure)


def _learning(run: Run, verdict: Verdict) -> list[Panel]:
    """Test and validation accuracy against the step, for a few rounds."""
    rows = run.metrics()
    rounds = run.rounds(TICKET)
    best = verdict.largest(TICKET)
    shown = (
        {rounds[i] for i in (0, len(rounds) // 3, 2 * len(rounds) // 3, -1)} if rounds else set()
    )
    if best is not None:
        shown = {rounds[0], rounds[len(rounds) // 2], rounds[-1], best.round} & set(rounds)
    found = []
    for field, what in (("test_accuracy", "test"), ("val_accuracy", "validation")):
        reading = (
            f"Mean {what} accuracy of the replicates after each step; darker is sparser. "
            "Dashed: the controls of the marked round. The axis leaves out the first steep steps."
        )
        chosen = best.round if best is not None else None
        figure = _learning_figure(run, rows, field, sorted(shown), chosen)
        found.append(Panel(f"learning-{what}", f"Learning curves ({what})", reading, figure))
    return found


def _learning_figure(
    run: Run, rows: Iterable[Row], field: str, rounds: Sequence[int], chosen: int | None
) -> Figure | None:
    wanted = [(TICKET, round) for round in rounds]
    wanted += [(arm, chosen) for arm in run.controls if chosen is not None]
    series = _mean_series(rows, field, wanted)
    wanted = [key for key in wanted if len(series.get(key, ())) > 1]
    if not wanted:
        return None
    figure, axes = new_axes(xlabel="training step", ylabel=f"{field.replace('_', ' ')} (%)")
    shades = matplotlib.colormaps["viridis_r"]
    ends = []
    for arm, round in wanted:
        points = series[arm, round]
        own = arm == TICKET
        place = 0.15 + 0.75 * rounds.index(round) / max(len(rounds) - 1, 1)
        line_colour = shades(place) if own else drawing.colour(run.arms.index(arm))
        x, y = zip(*((step, PERCENT * value) for step, value in points), strict=True)
        axes.plot(x, y, color=line_colour, linewidth=1.8 if own else 1.4,
                  linestyle="-" if own else "--")  # fmt: skip
        mark = " (marked)" if own and round == chosen else ""
        label = f"{kept_label(run, round)}{mark}" if own else f"{arm} at {kept_label(run, round)}"
        hexed = matplotlib.colors.to_hex(line_colour)
        ends.append(EndLabel(x[-1], y[-1], label, hexed))
    last = [PERCENT * series[key][-1][1] for key in wanted]
    early = min(PERCENT * series[key][len(series[key]) // 8][1] for key in wanted)
    top = max(PERCENT * value for key in wanted for _, value in series[key])
    bottom = max(early, min(last) - max(0.5 * (top - min(last)), 1.5))
    pad = 0.05 * max(top - bottom, 0.5)
    axes.set_ylim(bottom - pad, top + pad)
    drawing.end_labels(axes, ends, size=9.5)
    return figure


def _mean_series(
    rows: Iterable[Row], field: str, wanted: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], list[tuple[int, float]]]:
    """(arm, round) -> (step, mean over seeds) of those that are wanted.

    A step written twice counts once, the later one.
    """
    latest: dict[tuple[str, int], dict[int, dict[int, float]]] = {}
    for row in rows:
        key: tuple[Any, Any] = (row.get("arm", TICKET), row.get("round"))
        if key not in wanted:  # most are not: there are rows for every evaluation of every training
            continue
        value, step = number(row.get(field)), row.get("step")
        if value is not None and isinstance(step, int):
            latest.setdefault(key, {}).setdefault(step, {})[row.get("seed", 0)] = value
    return {
        key: [(step, mean(seeds.values())) for step, seeds in sorted(steps.items())]
        for key, steps in latest.items()
    }
