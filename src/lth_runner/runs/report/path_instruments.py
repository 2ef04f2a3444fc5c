"""How what probes measured between two networks is drawn: moves, and barriers on a line."""

from __future__ import annotations

from lth_runner.runs.pages.drawing import COLOURS
from lth_runner.runs.pages.lines import DASHED, Frame
from lth_runner.runs.report import instrument_levels as levels
from lth_runner.runs.report.instrument_lines import Beside, Each, Instrument, along, step_lines
from lth_runner.runs.report.round_lines import ROUNDS

BLUE, ORANGE, *_ = COLOURS
BARRIER = Frame("barrier ({errors})")
ERROR = Frame("{error}", "place on the line, from one end to the other")
STEPS = Frame("cosine", "steps after the start (log scale)", logarithmic_x=True)

BETWEEN: tuple[Instrument, ...] = (
    Instrument(
        "trajectory", "Does the ticket move like the dense network?",
        "Cosine of the moves of the same weights, within the dense network and alone, from the "
        f"start to each step: 1 is the same direction, 0 an unrelated one. {ROUNDS}",
        STEPS, (Each("trajectory_cosine_curve"),), draw=along(levels.trajectory_steps),
        level=levels.at(0, "unrelated"),
    ),
    Instrument(
        "trajectory-norm", "How far the ticket moves",
        f"Length of its move over that of the same weights within the dense network. {ROUNDS}",
        Frame("ratio of lengths", STEPS.xlabel, logarithmic_x=True),
        (Each("trajectory_norm_ratio_curve"),), draw=along(levels.trajectory_steps),
        level=levels.at(1, "as far"),
    ),
    Instrument(
        "trajectory-end", "The same direction at the end of training",
        "Cosine of the whole moves, from start to end, by density.",
        Frame("cosine"), (Each("trajectory_cosine"),), level=levels.at(0, "unrelated"),
    ),
    Instrument(
        "barrier", "Error barrier between two data orders",
        "Largest error on the straight line between two trainings of the same ticket, less the "
        "mean of its ends (test split). Below the dotted line the ticket is stable: both reach "
        "the same linearly connected minimum. Dashed: running statistics computed anew.",
        BARRIER, (Each("barrier_test"), Each("barrier_test_recomputed", "recomputed", DASHED)),
        level=levels.stable_below("instability"), scaled=True,
    ),
    Instrument(
        "barrier-train", "The same barrier on training samples",
        "As above, with the error on the training samples. Dashed: statistics computed anew.",
        BARRIER, (Each("barrier_train"), Each("barrier_train_recomputed", "recomputed", DASHED)),
        level=levels.stable_below("instability"), scaled=True,
    ),
    Instrument(
        "path", "Test error along that line",
        f"Flat is no barrier, a hump is one. {ROUNDS}",
        ERROR, (Each("error_test_curve"),), draw=along(levels.path), scaled=True,
    ),
    Instrument(
        "path-recomputed", "Test error along that line, statistics computed anew",
        f"A hump above that is none here comes from the statistics of norm layers. {ROUNDS}",
        ERROR, (Each("error_test_recomputed_curve"),), draw=along(levels.path), scaled=True,
    ),
    Instrument(
        "instability-step", "Instability of the dense network by step",
        "Two trainings part at a step and go on with batches of their own: the barrier between "
        "their ends. From where it stays below the dotted line, tickets rewound to that step can "
        "be expected to match.",
        Frame(BARRIER.ylabel, "step at which they part"),
        (Beside("instability_by_step", "test", "-", BLUE),
         Beside("instability_recomputed_by_step", "test,\nrecomputed", DASHED, BLUE),
         Beside("instability_train_by_step", "training", "-", ORANGE),
         Beside("instability_train_recomputed_by_step", "training,\nrecomputed", DASHED, ORANGE)),
        draw=step_lines, level=levels.stable_below("instability_by_step"), note=levels.stable_from,
        scaled=True,
    ),
    Instrument(
        "start-end", "Error barrier from start to end",
        "Largest error on the line from where each training starts to where it ends, less the "
        "mean of its ends (test split). Half the fall in error is its least value: only what "
        "exceeds that is a hump on the way.",
        BARRIER,
        (Each("start_end_barrier_test"),
         Each("start_end_barrier_test_recomputed", "recomputed", DASHED)), scaled=True,
    ),
    Instrument(
        "start-end-path", "Test error from start to end",
        f"Left is the start of the training, right its end. {ROUNDS}",
        Frame("{error}", "place on the line, from start to end"),
        (Each("start_end_error_test_curve"),), draw=along(levels.path), scaled=True,
    ),
    Instrument(
        "rebasin", "Error barrier to another training, before and after matching",
        "Largest error on the line to the other training, less the mean of its ends (test split): "
        "solid as it is, dashed with its units in the order in which the weights are nearest.",
        BARRIER,
        (Each("rebasin_barrier_before", "as it is"),
         Each("rebasin_barrier_after", "matched", DASHED)), scaled=True,
    ),
)  # fmt: skip
