"""What is said of tickets of Bayesian networks, held against small ones here.

Written before any of these runs was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from claim import Claim, Group
from measures import (
    ACCURACY,
    AgainstDense,
    Found,
    above,
    change,
    compared,
    held,
    is_same,
    level,
    round_at,
    ruled,
)

from lth_runner.runs.evidence.differences import Differences
from lth_runner.runs.evidence.judge import level_at
from lth_runner.runs.evidence.rows import TICKET, FinishedRun

KUHN = "Kuhn et al., 2026, arXiv:2602.18825"
TICKETS, CARRIED = "bayesian_tickets", "bayesian_transplant"
POINT, TWO = 0.01, 0.02  # accuracy
ECE, DOUBT = "expected_calibration_error", "auroc_other"
MU, SNR, SQUARE = "mean_magnitude", "signal_to_noise", "mean_square"
PROBLEM, SHORT = " study.problem=", "train.length=2ep control=random"
# data: what they are called, an option, the shares kept at about 94 and at 97 % sparsity or more
DATA = {
    "digits": ("digits", " replicates=5", (0.0687, 0.0281)),
    "mnist": ("MNIST", f"{PROBLEM}mnist_bayesian {SHORT} replicates=5", (0.0625, 0.0156)),
    "cifar10": ("CIFAR-10", f"{PROBLEM}cifar10_bayesian dataset=imagefolder dataset.name=cifar10 "
                "train.length=1ep train.batch_size=64 pruner.rate=0.51 pruner.rounds=5 "
                "control=random", (0.0576, 0.0282)),
}  # fmt: skip

Runs = Mapping[str, FinishedRun]


@dataclass(frozen=True)
class Of:
    """Another measure, of runs on one data set: those of Gaussian weights, but for some roles.

    ``weights``: what given tickets start from, by role.
    """

    dataset: str
    measure: object
    plain: frozenset[str] = frozenset()
    weights: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, runs: Runs) -> Found | None:
        for role, run in runs.items():
            gaussian = "Gaussian" in str(run.option("coordinates", "_target_"))
            if run.option("dataset", "name") != self.dataset or gaussian == (role in self.plain):
                return None
            if role in self.weights and run.option("pruner", "weights") != self.weights[role]:
                return None
        found: Found | None = self.measure(runs)  # type: ignore[operator]
        return found


@dataclass(frozen=True)
class Apart:
    """The ticket of ``first`` less that of ``second`` at one density, above a limit.

    ``lower``: less is better, and the reverse is meant.
    """

    kept: float
    limit: float
    of: str = ACCURACY
    lower: bool = False

    def __call__(self, runs: Runs) -> Found | None:
        pair = [runs["first"], runs["second"]]
        at = [round_at(run, self.kept) for run in pair]
        if at[0] is None or at[1] is None:
            return None
        cells = [(TICKET, round_) for round_ in at if round_ is not None]
        values = [run.values(*cell, self.of) for run, cell in zip(pair, cells, strict=True)]
        first, second = (Differences(run, self.of) for run in pair)
        lead = first.beside(cells[0], second, cells[1])
        if lead is None or not all(values):
            return None
        accuracy = self.of == ACCURACY
        scale, decimals = (100.0, 2) if accuracy else (1.0, 4)
        levels = [level(one, scale, decimals) for one in values]
        text = f"{levels[0]} against {levels[1]}: {change(lead, scale, decimals)}"
        if is_same(zip(pair, cells, strict=True)):
            return Found(f"{text}, the same trainings", None, None)
        if not accuracy:
            return above(text, -lead if self.lower else lead, self.limit, points=False)
        ours, theirs = (level_at(run, *cell) for run, cell in zip(pair, cells, strict=True))
        return ruled(text, held(ours, theirs, lead), self.limit, as_good=self.limit < 0)


@dataclass(frozen=True)
class Loses:
    """The ticket less a control of its round: by more than an amount."""

    kept: float
    arm: str
    by: float

    def __call__(self, runs: Runs) -> Found | None:
        run = runs["run"]
        at = round_at(run, self.kept, self.arm)
        found = None if at is None else compared(run, (TICKET, at), (self.arm, at))
        if at is None or found is None:
            return None
        text, difference = found
        levels = level_at(run, TICKET, at), level_at(run, self.arm, at)
        return ruled(text, held(*levels, difference), self.by, as_good=False)


def _tickets(data: str) -> tuple[Claim, ...]:
    words, option, (dense, sparse) = DATA[data]
    of = f"lth-run +study={TICKETS}{option}"

    def claim(name: str, text: str, published: str, rule: str, runs: Mapping[str, str],
              measure: object, plain: frozenset[str] = frozenset()) -> Claim:  # fmt: skip
        named = {role: (TICKETS, pruner) for role, pruner in runs.items()}
        return Claim(f"bayesian-{name}-{data}", f"{words}: {text}", published, rule, of, named,
                     Of(data, measure, plain))  # fmt: skip

    at, beyond = (f"at {100 * kept:.3g} %" for kept in (dense, sparse))
    both = {"first": MU, "second": MU}
    numbers = frozenset({"second"})
    return (
        *(claim(f"match-{pruner}", f"Bayesian ticket by {score}, {at}", "matches dense",
                "less than 1 point below dense", {"run": pruner},
                AgainstDense(dense, worse=False, margin=POINT))
          for pruner, score in ((MU, "|mu|"), (SNR, "|mu| / sigma"))),
        claim("alike", f"tickets by |mu| less those by |mu| / sigma, {beyond}", "alike",
              "less than 1 point below", {"first": MU, "second": SNR}, Apart(sparse, -POINT)),
        claim("square", f"tickets by |mu| less those by sqrt(mu^2 + sigma^2), {beyond}",
              "better on a ViT", "difference above 0", {"first": MU, "second": SQUARE},
              Apart(sparse, 0.0)),
        claim("random", f"Bayesian ticket less a random one, {beyond}", "above",
              "more than 2 points above", {"run": MU}, Loses(sparse, "random", TWO)),
        claim("numbers", f"Bayesian ticket less one of numbers, {at}", "as good",
              "less than 1 point below", both, Apart(dense, -POINT), numbers),
        claim("calibrated", f"expected calibration error of a Bayesian ticket and of one of "
              f"numbers, {at}", "not told", "difference below 0", both,
              Apart(dense, 0.0, ECE, lower=True), numbers),
        claim("doubt", f"turned images told by entropy (AUROC): Bayesian ticket and one of "
              f"numbers, {at}", "not told", "difference above 0", both, Apart(dense, 0.0, DOUBT),
              numbers),
    )  # fmt: skip


def _carried(data: str) -> tuple[Claim, ...]:
    words, option, (_, sparse) = DATA[data]
    option = option.replace(
        "control=random", "control=none"
    )  # trained weights refuse a random mask
    of, at = f"lth-run +study={CARRIED}{option}", f"at {100 * sparse:.3g} %"
    told = {
        "mask": ("mask of a ticket of numbers in a Bayesian network", "own", frozenset[str]()),
        "trained": ("mask and trained weights of a ticket of numbers in a Bayesian network",
                    "trained", frozenset[str]()),
        "back": ("mask of a Bayesian ticket in a network of numbers", "own",
                 frozenset({"first", "second"})),
    }  # fmt: skip
    return tuple(
        Claim(f"bayesian-{name}-{data}", f"{words}: {text}, less the own ticket, {at}",
              "nearly as good" if name != "back" else "not told", "less than 2 points below", of,
              {"first": (CARRIED, "given"), "second": (CARRIED, MU)},
              Of(data, Apart(sparse, -TWO), plain, {"first": weights}))
        for name, (text, weights, plain) in told.items()
    )  # fmt: skip


BAYESIAN_CLAIMS = {
    f"Bayesian tickets on {words}": Group(
        f"{KUHN}: ResNet-18, VGG-11 and ViT-tiny on CIFAR-10, ten draws a step, 160 epochs; "
        "figures alone. Here small networks, one draw a step by local reparameterisation; "
        "ten draws are averaged in evaluation (docs/bayesian.md).",
        (*_tickets(data), *_carried(data)),
    )
    for data, (words, _, _) in DATA.items()
}
