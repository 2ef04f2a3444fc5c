"""What is said of generated networks, and what is not asked, held against small ones here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from claim import Claim, Group
from measures import Found, above, change, counted, level, within

from lth_runner.runs.evidence.estimate import one_sample, sample, two_sample
from lth_runner.runs.evidence.generated import FLOW, TRAINING, Flow, find_generated
from lth_runner.runs.evidence.rows import TICKET, FinishedRun

GUPTA = "Gupta et al. (DeepWeightFlow), ICLR 2026, arXiv:2601.05052"
RUN = "weight_flow"
MNIST, CONV = "weight_flow_mnist", "weight_flow_conv"
NEAR = 0.005  # accuracy
NARROW, WIDE = 0.01, 0.5  # spreads of the noise: the authors', and one that is not
HALF = 0.5  # of the distance between training networks

Runs = Mapping[str, FinishedRun]


def flow(runs: Runs, spread: float, *, ordered: bool = True) -> Flow | None:
    """The flow of a spread over networks in one order, or as they were trained."""
    found = [one for made in find_generated(list(runs.values())) for one in made.flows]
    for one in found:
        if (one.option("source_std"), one.option("canonicalize")) == (spread, ordered):
            return one
    return None


def _values(one: Flow) -> dict[int, float]:
    return dict(enumerate(one.values))


@dataclass(frozen=True)
class AgainstTraining:
    """Generated networks less the networks that they were made of."""

    def __call__(self, runs: Runs) -> Found | None:
        ours = flow(runs, NARROW)
        base = None if ours is None else ours.kind(TRAINING)
        population = [run for run in runs.values() if len(run.seeds) > 1]
        if ours is None or base is None or not population:
            return None
        theirs = population[0].values(TICKET, 0, "test_accuracy")
        apart = two_sample(sample(list(ours.values)), sample(list(theirs.values())))
        text = f"{level(_values(ours))} against {level(theirs)}: {change(apart)}"
        return within(text, apart, NEAR)


@dataclass(frozen=True)
class Ordered:
    """Generated from networks in one order less from networks as they were trained."""

    spread: float
    as_good: bool

    def __call__(self, runs: Runs) -> Found | None:
        ours, theirs = (flow(runs, self.spread, ordered=one) for one in (True, False))
        if ours is None or theirs is None:
            return None
        apart = two_sample(*(sample(list(one.values)) for one in (ours, theirs)))
        text = f"{level(_values(ours))} against {level(_values(theirs))}: {change(apart)}"
        return within(text, apart, NEAR) if self.as_good else above(text, apart, 0.0)


@dataclass(frozen=True)
class Novel:
    """How far generated networks are from the nearest training network, in those of these."""

    spread: float

    def __call__(self, runs: Runs) -> Found | None:
        ours = flow(runs, self.spread)
        base = None if ours is None else ours.kind(TRAINING)
        if ours is None or base is None:
            return None
        shares = {i: one / base.figures["nearest"] for i, one in enumerate(ours.nearest)}
        apart = one_sample(sample(list(shares.values())), 0.0)
        told = f"{level(shares, 1.0)} of it; {ours.num_neighbours} neighbours"
        return above(told, apart, HALF, points=False)


@dataclass(frozen=True)
class Than:
    """Generated networks less the mean of others that are made without a flow."""

    spread: float
    kind: str

    def __call__(self, runs: Runs) -> Found | None:
        ours = flow(runs, self.spread)
        theirs = None if ours is None else ours.kind(self.kind)
        if ours is None or theirs is None:
            return None
        more = {i: value - theirs.value for i, value in enumerate(ours.values)}
        apart = one_sample(sample(list(more.values())), 0.0)
        text = f"{level(_values(ours))} against {100 * theirs.value:.2f}: {change(apart)}"
        return above(text, apart, 0.0)


@dataclass(frozen=True)
class Together:
    """The ensemble of generated networks, beside that of the networks they were made of."""

    spread: float

    def __call__(self, runs: Runs) -> Found | None:
        ours = flow(runs, self.spread)
        kinds = [] if ours is None else [ours.kind(FLOW), ours.kind(TRAINING)]
        both = [one.figures["ensemble"] for one in kinds if one is not None]
        if len(both) < 2:
            return None
        told = f"{100 * both[0]:.2f} against {100 * both[1]:.2f}"
        return counted(told, right=both[0] >= both[1] - NEAR)


@dataclass(frozen=True)
class Tickets:
    """Tickets of generated starts less the dense network from there, or less an arm beside them."""

    round: int
    arm: str | None = None

    def __call__(self, runs: Runs) -> Found | None:
        own = [run for run in runs.values() if run.option("origin") and run.rounds(TICKET)]
        cell = (TICKET, 0) if self.arm is None else (self.arm, self.round)
        ours, theirs = ({
            number: value
            for number, run in enumerate(own)
            for value in run.values(*which, "test_accuracy").values()
        } for which in ((TICKET, self.round), cell))  # fmt: skip
        if len(ours) < 2 or len(theirs) < 2:
            return None
        apart = two_sample(*(sample(list(one.values())) for one in (ours, theirs)))
        text = f"{level(ours)} against {level(theirs)}: {change(apart)}"
        return above(text, apart, -NEAR if self.arm is None else 0.0)


def _claim(
    name: str,
    text: str,
    published: str,
    rule: str,
    measure: Callable[[Runs], Found | None],
    run: str = RUN,
) -> Claim:
    runs, command = {"run": (run, None)}, f"lth-run +study={run}"
    return Claim(f"flow-{name}", text, published, rule, command, runs, measure, together=True)


FLOW_CLAIMS = {
    "Networks that are generated": Group(
        f"{GUPTA}: 100 perceptrons 784-32-32-10 on MNIST. Here these, and where no data are named "
        "100 of 64-32-32-10 on scikit-learn's digits, 99 components, a flow of width 512 and "
        "10,000 steps, noise of spread 0.01 as in the authors' code and of 0.5; 100 generated "
        "networks, which vary in their noise and not in the flow. Written down before the runs, "
        "but that one flow (digits, spread 0.01, one order) had been fitted once.",
        (
            _claim("accuracy", "spread 0.01, one order: generated less trained networks",
                   "96.17 against 96.32", "within 0.5 points", AgainstTraining()),
            _claim("order", "spread 0.01: one order less as trained", "equal for a large flow",
                   "within 0.5 points", Ordered(NARROW, as_good=True)),
            _claim("order-wide", "spread 0.5: one order less as trained",
                   "57.8 against 25.5 for a small flow", "difference above 0",
                   Ordered(WIDE, as_good=False)),
            _claim("novel", "spread 0.01, one order: distance to the nearest training network, in "
                   "that of these to each other", "diverse, by errors in common",
                   "above half of it", Novel(NARROW)),
            _claim("novel-wide", "spread 0.5, one order: distance to the nearest, as "
                   "above", "not asked",
                   "above half of it", Novel(WIDE)),
            _claim("gaussian", "spread 0.5, one order: generated less each weight drawn by itself",
                   "not asked", "difference above 0", Than(WIDE, "gaussian")),
            _claim("pairs", "spread 0.5, one order: generated less the middle of pairs",
                   "not asked", "difference above 0", Than(WIDE, "pairs")),
            _claim("ensemble", "spread 0.5, one order: ensemble of generated networks, beside that "
                   "of trained ones", "not asked", "less than 0.5 points below", Together(WIDE)),
            _claim("ticket", "generated starts: ticket of 25 % less the dense network from there",
                   "not asked", "less than 0.5 points below", Tickets(2)),
            _claim("reinit", "generated starts: ticket of 6 % less its mask over new weights",
                   "not asked", "difference above 0", Tickets(4, "reinit")),
            _claim("mnist-accuracy", "MNIST, spread 0.01, one order: generated less trained",
                   "96.17 against 96.32", "within 0.5 points", AgainstTraining(), MNIST),
            _claim("mnist-order-wide", "MNIST, spread 0.5: one order less as trained",
                   "57.8 against 25.5 for a small flow", "difference above 0",
                   Ordered(WIDE, as_good=False), MNIST),
            _claim("mnist-novel", "MNIST, spread 0.01, one order: distance to the nearest training "
                   "network", "diverse, by errors in common", "above half of it", Novel(NARROW),
                   MNIST),
            _claim("conv-accuracy", "residual networks with batch norm on digits, spread 0.01, one "
                   "order: generated less trained", "93.55 against 94.45 (ResNet-18)",
                   "within 0.5 points", AgainstTraining(), CONV),
            _claim("conv-order-wide", "residual networks, spread 0.5: one order less as trained",
                   "not asked", "difference above 0", Ordered(WIDE, as_good=False), CONV),
        ),
        "Generated networks are of one flow for each setting: n counts them, and whether another "
        "training of the flow would say the same is not asked.",
    ),
}  # fmt: skip
