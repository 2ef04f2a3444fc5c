"""Sections of docs/results.md that are no claims: pruners side by side, as tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from carried import Matrix
from evidence import command, extent, hardware
from matplotlib.figure import Figure
from oneshot import ONE_SHOT, OneShot
from tables import table

from lth_runner.runs.evidence.pruners import Comparison, Effort, find_pruners
from lth_runner.runs.evidence.rows import FinishedRun, rewind_step
from lth_runner.runs.evidence.verdict import Level
from lth_runner.runs.pages.wording import removed
from lth_runner.runs.report.pruner_page import effort_figure, layer_figure
from lth_runner.runs.report.sweep_figures import outcome_figure

MATCH = "\\*"  # a star that Markdown leaves alone


@dataclass(frozen=True)
class Section:
    """Runs of one name side by side; `commands` make them, `note` says what to know of them."""

    title: str
    name: str
    commands: tuple[str, ...]
    note: str
    figures: tuple[str, ...]  # of accuracy, layers, effort


PRUNERS = "lth-run +experiment=lenet300_mnist_pruners"
FAMILIES = f"{PRUNERS} +sweep=families name=lenet300_mnist_families"
SEARCHED = f"{FAMILIES} pruner=concrete pruner.search.score.length=4000it"
LATE = "name=lenet300_mnist_families rewind.step=200it pruner.sparsity=0.9952776335171304"
TRANSFERRED = "lenet300_transfer"
CONV_TRANSFERRED, COLOUR_TRANSFERRED = "conv_transfer", "conv_transfer_colour"
WORDS = (
    "The words under the numbers are those of the study's page: that any shown is wrong has a "
    "chance of 5 % on the left and 2.5 % on the right, and so has any refuted."
)
SECTIONS: tuple[Section | Matrix | OneShot, ...] = (
    Section(
        title="Pruners side by side on MNIST",
        name="lenet300_mnist_pruners",
        commands=(
            f"{PRUNERS} +sweep=pruners pruner=imp,han2015,random,one_shot,gradual",
            f"{PRUNERS} +sweep=pruners pruner=snip,iter_snip,force,grasp,synflow,prospr,"
            "magnitude_at_init,random_erk,smart_ratio",
            f"{PRUNERS} pruner=obd pruner.search.score.num_batches=2",
        ),
        note="LeNet-300-100 in short trainings, one recipe for all, tuned for none.",
        figures=("accuracy", "layers", "effort"),
    ),
    Section(
        title="Families at high sparsity on MNIST",
        name="lenet300_mnist_families",
        commands=(
            FAMILIES,
            SEARCHED,
            f"{PRUNERS} {LATE}",
            f"{SEARCHED} rewind.step=200it",
        ),
        note="The same network and recipe. edge_popup trains scores over frozen weights, "
        "its ticket not at all; concrete searches with the weights frozen.",
        figures=("accuracy", "effort"),
    ),
    Matrix(
        title="Tickets carried to other data",
        name=TRANSFERRED,
        commands=(f"lth-run +study={TRANSFERRED} replicates=5",),
        note="Tickets of LeNet-300-100 with the weights that they were rewound to, trained on "
        "other data in trainings of 500 steps: MNIST, scikit-learn's digits at 28x28, CIFAR-10 in "
        f"grey at 28x28, the first five of its classes (a) and the others (b). {WORDS}",
    ),
    Matrix(
        title="Tickets of a convolutional network carried to other data",
        name=CONV_TRANSFERRED,
        commands=(f"lth-run +study={CONV_TRANSFERRED} replicates=5",),
        note=f"The same of LeNet-5 with batch norm. {WORDS}",
    ),
    Matrix(
        title="Tickets of a convolutional network carried to other classes",
        name=COLOUR_TRANSFERRED,
        commands=(f"lth-run +study={COLOUR_TRANSFERRED} replicates=5",),
        note="The same network on CIFAR-10 in colour: tickets of all classes and of the first five "
        f"(a) on the others (b). {WORDS}",
    ),
    ONE_SHOT,
)


def pruned_alike(section: Section, runs: Sequence[FinishedRun]) -> list[Comparison]:
    """The section's runs, those that are the same but for their pruner together."""
    return list(find_pruners(section_runs(section, runs)))


def section_runs(section: Section, runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    return [run for run in runs if run.name == section.name]


def written(
    section: Section | Matrix | OneShot, runs: Sequence[FinishedRun], images: Mapping[str, str]
) -> str:
    """The section's Markdown below its title; `images`: file name -> what it shows."""
    if isinstance(section, (Matrix, OneShot)):
        return section.written(runs, images)
    own = section_runs(section, runs)
    found = pruned_alike(section, runs)
    asked = ", ".join(f"`{one}`" for one in section.commands)
    if not found:
        return f"Not measured here: {asked}."
    parts = [section.note]
    for comparison in found:
        parts += [accuracies(comparison), efforts(comparison)]
    parts += [
        f"{MATCH} shown to be at most {100 * found[0].sweep.tolerance:g} points below the dense "
        "network. Steps and seconds until a mask is there are means over the seeds; trainings "
        "count in full, whoever did them, and seconds are those of the machine, busy or not."
    ]
    points = ", ".join(f"`{one}`" for one in dict.fromkeys(map(without_points, own)))
    machines = dict.fromkeys(hardware(run) for run in own)
    unfinished = [extent(run) for run in own if run.state != "done"]
    parts += ["; ".join([f"Commands: {asked}", f"{len(own)} runs, as {points}", *machines,
                         *unfinished]) + "."]  # fmt: skip
    parts += [f"![{text}](images/{name})" for name, text in images.items()]
    return "\n\n".join(parts)


def without_points(run: FinishedRun) -> str:
    """A point's command without what its sweep varies."""
    swept = ("pruner=", "pruner.sparsity=")
    return " ".join(word for word in command(run).split() if not word.startswith(swept))


def labels(comparison: Comparison) -> dict[str, str]:
    """Pruner -> its name on the page: with the rewind step, where that is not the start."""
    steps = {rewind_step(run) for run in comparison.sweep.runs}
    step = next(iter(steps)) if len(steps) == 1 else None
    suffix = f", from step {step}" if step else ""
    return {line.label: f"{line.label}{suffix}" for line in comparison.sweep.settings}


def accuracies(comparison: Comparison) -> str:
    """Pruner x sparsity: mean ± standard deviation (n)."""
    sweep, names = comparison.sweep, labels(comparison)
    header = ["pruner", *(f"{removed(1 - column.sparsity)}" for column in comparison.columns)]
    body = [
        [names[line.label], *(accuracy(line.at(column)) for column in comparison.columns)]
        for line in sweep.settings
    ]
    if sweep.dense is not None:
        body.append([f"dense: {accuracy(sweep.dense)}", *([""] * len(comparison.columns))])
    return table(header, body)


def accuracy(level: Level | None) -> str:
    if level is None or level.mean is None:
        return "" if level is None else "diverged"
    spread = "" if level.std is None else f" ± {100 * level.std:.2f}"
    return f"{100 * level.mean:.2f}{spread} ({level.n}){MATCH if level.matches == 'shown' else ''}"


def efforts(comparison: Comparison) -> str:
    """What the sparsest mask of each pruner took, and the ticket's own training after it."""
    names = labels(comparison)
    header = ["pruner", "sparsity", "mask from", "steps to it", "seconds to it", "of these search",
              "steps of the ticket", "its seconds"]  # fmt: skip
    sparsest: dict[str, Effort] = {}
    for effort in comparison.efforts:
        if effort.label not in sparsest or effort.sparsity > sparsest[effort.label].sparsity:
            sparsest[effort.label] = effort
    ranked = sorted(sparsest.values(), key=lambda one: one.total)
    return table(header, [
        [names[one.label], removed(1 - one.sparsity), one.source, f"{one.steps:,.0f}",
         seconds(one.total), seconds(one.search), f"{one.own_steps:,.0f}",
         seconds(one.own_seconds)]
        for one in ranked
    ])  # fmt: skip


def seconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def drawn(
    section: Section | Matrix | OneShot, runs: Sequence[FinishedRun]
) -> dict[str, tuple[Figure, str]]:
    """File stem -> figure and what it shows, of the largest group of the section's runs."""
    if isinstance(section, (Matrix, OneShot)):
        return section.drawn(runs)
    found = pruned_alike(section, runs)
    if not found:
        return {}
    largest = max(found, key=lambda comparison: len(comparison.sweep.runs))
    makers = {
        "accuracy": ("test accuracy by sparsity", lambda: outcome_figure(largest.sweep)),
        "layers": ("density of each layer by pruner", lambda: layer_figure(largest)),
        "effort": ("seconds and steps to find each mask", lambda: effort_figure(largest)),
    }
    figures: dict[str, tuple[Figure, str]] = {}
    for key in section.figures:
        text, make = makers[key]
        figure = make()
        if figure is not None:
            figures[f"{section.name}_{key}"] = (figure, f"{section.title}: {text}")
    return figures
