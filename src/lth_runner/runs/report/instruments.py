"""The tables of what probes measured, and how each is drawn."""

from __future__ import annotations

from collections.abc import Iterable

from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.evidence.verdict import Verdict
from lth_runner.runs.pages.drawing import COLOURS, INK
from lth_runner.runs.pages.lines import DASHED, Frame
from lth_runner.runs.pages.page import Section
from lth_runner.runs.pages.wording import MARKED
from lth_runner.runs.report import instrument_levels as levels
from lth_runner.runs.report.instrument_lines import (
    Beside,
    Each,
    Instrument,
    along,
    bin_lines,
    field_of,
    layer_lines,
    relative_lines,
)
from lth_runner.runs.report.path_instruments import BETWEEN
from lth_runner.runs.report.round_lines import ROUNDS

BLUE, ORANGE, GREEN, *_ = COLOURS
SHARE = Frame("share")
LAYER = f"Drawn is the sparsest round that is {MARKED}."

DEFAULT: tuple[Instrument, ...] = (
    Instrument(
        "signs", "Sign preservation",
        "Fraction of weights whose sign at the end of training is that at its start; independent "
        "signs would agree for a half.",
        Frame("signs kept"),
        (Each("sign_preservation", "its survivors"),
         Beside("sign_preservation_dense_on_ticket", "dense, on the\nticket's weights", DASHED,
                INK),
         Beside("sign_preservation_dense", "dense, all weights", DASHED)),
        level=levels.at(0.5, "chance"),
    ),
    Instrument(
        "jaccard", "Mask and early gradient",
        "Overlap |A ∩ B| / |A ∪ B| of the mask with equally many weights of largest early "
        "gradient; what exceeds the shuffled mask is not explained by the layer densities.",
        Frame("Jaccard index"),
        (Beside("jaccard_early_gradient", "ticket", "-", BLUE),
         Beside("jaccard_null", "mask shuffled\nwithin layers", DASHED, ORANGE),
         Beside("jaccard_chance", "two random masks")),
    ),
    Instrument(
        "overlap", "Mask against the round before",
        "Overlap of each mask with that of the round before: weights that had gone come back.",
        Frame("overlap"), (Beside("mask_overlap_previous", "ticket", "-", BLUE),),
        hidden=levels.nested,
    ),
    Instrument(
        "best-step", "Step of lowest validation loss",
        "Step at which the validation loss was lowest (early-stopping step): a winning ticket "
        "gets there no later than the dense network at the left end.",
        Frame("step"), (Each("best_val_step"),),
    ),
)  # fmt: skip

INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(
        "jaccard-z", "Mask and early gradient, in standard deviations",
        "By how many standard deviations the mask shares more weights with the largest early "
        "gradients than its shuffles within layers do; within ±2 it is what chance gives.",
        Frame("standard deviations"), (Each("jaccard_z"),),
        level=levels.at(0, "mask shuffled\nwithin layers"),
    ),
    Instrument(
        "gradient-energy", "Gradient energy in the mask",
        "Share of the dense network's squared gradient that falls on the kept weights. Above the "
        "dashed line, the mask picks larger gradients than its layer densities explain.",
        SHARE,
        (Each("gradient_energy"),
         Beside("gradient_energy_null", "mask shuffled\nwithin layers", DASHED),
         Beside("gradient_energy_chance", "random mask")),
    ),
    Instrument(
        "gradient-energy-z", "Gradient energy, in standard deviations",
        "The same as distance from the shuffled masks; within ±2 it is what chance gives.",
        Frame("standard deviations"), (Each("gradient_energy_z"),),
        level=levels.at(0, "mask shuffled\nwithin layers"),
    ),
    *BETWEEN,
    Instrument(
        "preactivation", "Pre-activation variance by layer, at the start of training",
        "Solid: measured; dashed: predicted from the kept weights; dotted: what a random mask of "
        f"these densities expects, for the ticket. A line that falls loses the signal. {LAYER}",
        Frame("mean square (log scale)", logarithmic_y=True),
        (Each("preactivation_variance_by_layer"),
         Each("preactivation_variance_predicted_by_layer", "predicted", DASHED),
         Beside("preactivation_variance_iid_by_layer", "random mask")),
        draw=layer_lines,
    ),
    Instrument(
        "chi", "Gain of the signal by layer (chi)",
        "By how much a layer with ReLU multiplies the signal, geometric mean of the layers: 1 is "
        "critical, below it signals die out with depth. Dotted: a random mask.",
        Frame("chi (log scale)", logarithmic_y=True),
        (Each("chi"), Beside("chi_iid", "random mask")), level=levels.at(1, "critical"),
    ),
    Instrument(
        "jacobian", "Jacobian of the output in the input, at the start",
        "Mean square of its singular values: how much small changes of the input are amplified; "
        "1 keeps their length.",
        Frame("mean square (log scale)", logarithmic_y=True),
        (Each("jacobian_singular_value_mean_square"),), level=levels.at(1, "length kept"),
    ),
    Instrument(
        "ntk-rank", "Effective rank of the tangent kernel, at the start",
        "exp(entropy of the eigenvalues): in how many directions the network can learn at once.",
        Frame("effective rank"), (Each("ntk_effective_rank"),),
    ),
    Instrument(
        "ntk-alignment", "Alignment of the tangent kernel with the labels",
        "0 to 1: larger, and the labels lie in the directions that are learned first.",
        Frame("alignment"), (Each("ntk_label_alignment"),),
    ),
    Instrument(
        "ntk-distance", "Spectrum of the tangent kernel against the dense one",
        "Relative distance of the eigenvalues from the dense network's at the start of its "
        "training: 0 is the same spectrum.",
        Frame("relative distance"), (Each("ntk_spectrum_distance"),),
        level=levels.at(0, "as dense"),
    ),
    Instrument(
        "reliability", "Reliability diagram",
        "Share of test samples that are right against their confidence, the probability of the "
        "likeliest class, in bins of equal width: below the dotted line it is too sure. Bins that "
        f"few samples fall into scatter. {ROUNDS}",
        Frame("share that is right", "confidence"),
        (Each("reliability_by_bin", "calibrated"),), draw=bin_lines,
    ),
    Instrument(
        "calibration", "Calibration error",
        "Distance of confidence and share that is right. Solid: expected, averaged over samples; "
        "dashed: mean absolute, averaged over the bins, which may fall as accuracy does.",
        Frame("calibration error"),
        (Each("expected_calibration_error"),
         Each("mean_absolute_calibration_error", "over bins", DASHED)),
    ),
    Instrument(
        "entropy", "Entropy of the predictions",
        "Mean entropy of the probabilities (nats). Solid: on the test split; dashed: on other data "
        "(turned images where none are named), where a network should be in doubt.",
        Frame("entropy (nats)"),
        (Each("entropy_test"), Each("entropy_other", "other data", DASHED)),
    ),
    Instrument(
        "other-data", "Other data told by their entropy",
        "Chance that a sample of the other data has more entropy than one of the test split.",
        Frame("chance (AUROC)"), (Each("auroc_other"),), level=levels.at(0.5, "guessing"),
    ),
    Instrument(
        "gap", "Generalisation gap",
        "By how much the network does better on training samples than on test samples.",
        Frame("gap ({difference})"), (Each("generalisation_gap"),), level=levels.at(0, "no gap"),
        scaled=True,
    ),
    Instrument(
        "bounds", "Bounds on the true error",
        "Solid: counting the mask alone, no bound where weights are trained, to compare masks by; "
        "dashed: Occam's, of mask and weights. From 1 on a bound is vacuous.",
        Frame("bound (log scale)", logarithmic_y=True),
        (Each("mdl_bound"), Each("occam_bound", "Occam", DASHED)),
        level=levels.at(1, "vacuous above"), note=levels.vacuous,
    ),
    Instrument(
        "persistence", "Neural persistence",
        "Of the trained weights, mean of the layers, 0 to 1: larger where the strong connections "
        "stand out from the weak ones.",
        Frame("neural persistence"), (Each("neural_persistence"),),
    ),
    Instrument(
        "spanning-tree", "The trained dense network's strongest connections kept",
        "Share of the edges of its maximum spanning trees that the mask keeps; dotted: random "
        "masks of the same layer densities.",
        SHARE, (Each("spanning_tree_kept"), Beside("spanning_tree_chance", "random mask")),
    ),
    Instrument(
        "magnitude-overlap", "Mask and the trained dense network's largest weights",
        "Jaccard index of the mask with equally many largest weights; dotted: a random mask.",
        Frame("Jaccard index"),
        (Each("mask_overlap_dense_magnitude"),
         Beside("jaccard_chance", "random mask")),
    ),
    Instrument(
        "effective-density", "Effective density",
        "Share of the weights that lie on a kept path from input to output; what is missing to "
        "the dotted line is kept in vain.",
        Frame("share (log scale)", logarithmic_y=True),
        (Each("effective_density"),
         Beside("density", "all kept")),
    ),
    Instrument(
        "supermask", "The mask before any training",
        "The ticket's starting weights under its mask, their signs with one magnitude a layer, "
        "and their magnitudes with random signs, against the trained ticket (test split).",
        Frame("{value}"),
        (Beside("supermask_{measure}", "untrained", "-", BLUE),
         Beside("supermask_signed_constant_{measure}", "signs only", DASHED, GREEN),
         Beside("supermask_random_signs_{measure}", "random signs", DASHED, ORANGE),
         Beside("test_{measure}", "trained", "-")), level=levels.guessing, scaled=True,
    ),
    Instrument(
        "mask-distance", "Distance of successive masks within the dense training",
        "Share of the weights that only one of two successive magnitude masks keeps: where it "
        "stays low, the mask could be drawn early.",
        Frame("share that differs", "interval of the dense training (epochs by default)"),
        (Each("mask_distance_curve"),), draw=along(levels.counted), level=levels.random_distance,
    ),
    Instrument(
        "matrices", "Density by kind of matrix",
        "Share of each kind's weights that the ticket keeps, over all blocks of the transformer, "
        "divided by that of all covered weights: above 1 a kind is pruned less than the rest.",
        Frame("times the density of all"), (Each("density_by_matrix"),), draw=relative_lines,
        level=levels.at(1, "all"),
    ),
    Instrument(
        "dead-heads", "Attention heads that the mask empties",
        "Share of all heads of which the mask keeps nothing in their part of the query's, the "
        "key's, the value's or the output's matrix.",
        Frame("share of the heads"), (Each("dead_heads"),),
    ),
    Instrument(
        "dead-heads-removed", "What emptied heads still do",
        "By how much the measure (test split) changes where they are taken out: their biases are "
        "left. Rounds without such a head have no point.",
        Frame("change ({difference})"), (Each("dead_heads_removed_change"),),
        level=levels.at(0, "nothing"), scaled=True,
    ),
    Instrument(
        "exploration", "Weights explored within a training",
        "Share of the weights that were active at some time; dotted: those active at the end.",
        SHARE, (Each("exploration"), Beside("density", "density")),
    ),
    Instrument(
        "signs-by-layer", "Sign preservation by layer",
        f"Share of kept weights whose sign at the end is that at the start. {LAYER}",
        SHARE, (Each("sign_preservation_by_layer"),), draw=layer_lines,
        level=levels.at(0.5, "chance"),
    ),
    Instrument(
        "sign-agreement", "Signs of ticket and trained dense network",
        "Share of the kept weights that end with the sign they have in the trained dense network; "
        "dotted: if each network kept the signs of its start by itself.",
        SHARE, (Each("sign_agreement_dense"), Beside("sign_agreement_chance", "by itself")),
    ),
)  # fmt: skip


def panels(table: Iterable[Instrument], run: FinishedRun, verdict: Verdict) -> list[Section]:
    """Draws the panels of a table that the rows of the run have something for."""
    fields = {field for row in run.rows for field, value in row.items() if value is not None}
    found = [one.panel(run, verdict) for one in table
             if field_of(run, one.fields[0]) in fields and not one.hidden(run)]  # fmt: skip
    return [panel for panel in found if panel.lines]
