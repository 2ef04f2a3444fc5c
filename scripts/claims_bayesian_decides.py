"""What is said of what decides in tickets of Bayesian networks, of their size, and of time saved.

Each was written before the runs that it is held against; where sigma decides second, those by |mu|
and by |mu| / sigma were there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from claim import Claim, Group
from claims_bayesian import (
    CARRIED,
    DATA,
    DOUBT,
    KUHN,
    MU,
    POINT,
    SNR,
    TICKETS,
    Apart,
    Of,
    Runs,
)
from measures import AgainstDense, Found, above, change, level, round_at

from lth_runner.runs.evidence.differences import Differences
from lth_runner.runs.evidence.rows import TICKET, FinishedRun

ORDERED, COARSE = "lexicographic", "lexicographic_1"  # the pruner, and it by one digit of |mu|
SIZES, SAVING, GREY = "bayesian_sizes", "bayesian_saving", "bayesian_grey"
WIDTHS = {(64, 32): 10, (256, 128): 5, (512, 256): 5}  # and how many seeds
LESS = 0.02  # of an area under a curve
OTHER = (
    "+dataset@probe.calibration.other=imagefolder 'probe.calibration.other.shape=[1,28,28]' "
    "probe.calibration.other.augment_crop=0 probe.calibration.other.augment_flip=false"
)


@dataclass(frozen=True)
class Wide:
    """Another measure, of runs whose perceptrons have these widths."""

    widths: tuple[int, ...]
    measure: Callable[[Runs], Found | None]

    def __call__(self, runs: Runs) -> Found | None:
        if any(tuple(run.option("model", "widths") or ()) != self.widths for run in runs.values()):
            return None
        return self.measure(runs)


@dataclass(frozen=True)
class Coarse:
    """Another measure, where ``first`` compares |mu| by one significant digit."""

    measure: Callable[[Runs], Found | None]

    def __call__(self, runs: Runs) -> Found | None:
        if runs["first"].option("pruner", "search", "score", "digits") != 1:
            return None
        return self.measure(runs)


@dataclass(frozen=True)
class Saved:
    """Seconds of training until ``given`` has a ticket, as a share of those until ``own`` has one.

    ``given``: all rounds of a network of ``numbers``, and one Bayesian training of the last mask;
    ``own``: all rounds of a Bayesian network. Of each seed, trained one by one. Seeds do not tell
    what else the machine did while a stage ran, and so it decides nothing.
    """

    kept: float

    def __call__(self, runs: Runs) -> Found | None:
        at = round_at(runs["own"], self.kept)
        laws = {role: "Gaussian" in str(run.option("coordinates", "_target_"))
                for role, run in runs.items()}  # fmt: skip
        if at is None or laws != {"numbers": False, "given": True, "own": True}:
            return None
        if runs["given"].option("pruner", "weights") != "own":
            return None
        numbers, own = (_seconds(runs[role], range(at + 1)) for role in ("numbers", "own"))
        once = _seconds(runs["given"], (at,))
        if not numbers.keys() == own.keys() == once.keys():
            return None
        shares = {seed: (numbers[seed] + once[seed]) / own[seed] for seed in own}
        return Found(f"{level(shares, 1.0)} of it", None, None)


@dataclass(frozen=True)
class Doubts:
    """How well a ticket tells other images, of a folder, by its entropy, less the dense network."""

    kept: float

    def __call__(self, runs: Runs) -> Found | None:
        run = runs["run"]
        other = run.option("probe", "calibration", "other", "_target_")
        cells = [(TICKET, at) for at in (round_at(run, self.kept), run.dense_round)
                 if at is not None]  # fmt: skip
        if len(cells) < 2 or not str(other).endswith(".imagefolder"):
            return None
        apart = Differences(run, DOUBT)(*cells)
        levels = [run.values(*cell, DOUBT) for cell in cells]
        if apart is None or not all(levels):
            return None
        ours, dense = (level(one, 1.0, 4) for one in levels)
        return above(f"{ours} against {dense}: {change(apart, 1.0, 4)}", apart, -LESS, points=False)


def _seconds(run: FinishedRun, rounds: Iterable[int]) -> dict[int, float]:
    """Adds up what the trainings of a seed's tickets took, of seeds that have all these rounds."""
    found = [run.values(TICKET, round_, "seconds") for round_ in rounds]
    seeds = set.intersection(*(set(one) for one in found))
    return {seed: sum(one[seed] for one in found) for seed in sorted(seeds)}


def _decides() -> Iterator[Claim]:
    for data in ("digits", "mnist"):
        words, option, (_, sparse) = DATA[data]
        alone = option.replace("control=random", "control=none")
        of = (
            f"lth-run +study={TICKETS}{option}, then "
            f"lth-run +study={TICKETS}{alone} 'study.scores=[{COARSE}]'"
        )
        for name, pruner, score in (("noise", SNR, "|mu| / sigma"), ("mean", MU, "|mu| alone")):
            yield Claim(
                f"bayesian-first-{name}-{data}",
                f"{words}: tickets by one digit of |mu|, then by the smaller sigma, less those by "
                f"{score}, at {100 * sparse:.3g} %",
                "primarily magnitude, secondly sigma", "difference above 0", of,
                {"first": (TICKETS, ORDERED), "second": (TICKETS, pruner)},
                Of(data, Coarse(Apart(sparse, 0.0))),
            )  # fmt: skip


def _sizes() -> Iterator[Claim]:
    kept = DATA["digits"][2][0]
    for widths, num in WIDTHS.items():
        written = ",".join(map(str, widths))
        yield Claim(
            f"bayesian-size-{widths[0]}",
            f"digits, perceptron of widths {widths[0]} and {widths[1]}: Bayesian ticket by |mu|, "
            f"at {100 * kept:.3g} %", "matches dense, whatever the size",
            "less than 1 point below dense",
            f"lth-run +study={TICKETS} study.name={SIZES} 'study.scores=[{MU}]' "
            f"model=mlp 'model.widths=[{written}]' replicates={num} control=none",
            {"run": (SIZES, MU)},
            Of("digits", Wide(widths, AgainstDense(kept, worse=False, margin=POINT))),
        )  # fmt: skip


def _saving() -> Claim:
    words, _, (_, sparse) = DATA["digits"]
    return Claim(
        "bayesian-saving-digits",
        f"{words}: seconds of training to a Bayesian ticket by the mask of one of numbers, in "
        f"those of its own rounds, at {100 * sparse:.3g} %",
        "up to half is saved", "below half of it",
        f"lth-run +study={CARRIED} study.name={SAVING} train.engine=sequential control=none "
        "replicates=5",
        {"numbers": (SAVING, MU), "given": (SAVING, "given"), "own": (SAVING, MU)},
        Saved(sparse),
    )  # fmt: skip


def _doubts() -> Iterator[Claim]:
    words, option, (_, sparse) = DATA["mnist"]
    option = option.replace("control=random", "control=none")
    for name, pruner, whose in (
        ("bayesian", ORDERED, "a Bayesian ticket by one digit of |mu|, then by sigma"),
        ("numbers", MU, "a ticket of numbers"),
    ):
        plain = frozenset({"run"} if name == "numbers" else ())
        yield Claim(
            f"bayesian-grey-{name}",
            f"{words}: CIFAR-10 in grey told by entropy (AUROC): {whose}, less its dense network, "
            f"at {100 * sparse:.3g} %",
            "not told", f"less than {LESS:g} below",
            f"lth-run +study={TICKETS} study.name={GREY}{option} 'study.scores=[{COARSE}]' {OTHER}",
            {"run": (GREY, pruner)},
            Of("mnist", Doubts(sparse), plain),
        )  # fmt: skip


BAYESIAN_DECIDES = {
    "Bayesian tickets: what decides, size, time and doubt": Group(
        f"{KUHN}. By one digit, sizes of |mu| that round to the same are the same, and sigma "
        "decides among them. Times are of trainings one by one, on a machine that others shared.",
        (*_decides(), *_sizes(), _saving(), *_doubts()),
        "On MNIST sigma as the second number is worth 0.4 points over |mu| alone at 1.6 %, as "
        "much as |mu| / sigma: which of them comes first is not told. At one density size matters: "
        "the larger the network, the less its ticket loses. By what a step takes, 3.5 times "
        "one of numbers (docs/bayesian.md), the share of time would be 0.4: others used the "
        "machine unevenly. A Bayesian ticket tells images of another kind better than its dense "
        "network, by 0.07 of the area; one of numbers by 0.02; the rows ask for no such loss.",
    )
}
