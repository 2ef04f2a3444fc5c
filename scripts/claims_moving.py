"""Masks that move beside trained tickets at equal arithmetic; what width untrained ones take.

Written before any of these runs was made. The table of untrained perceptrons in docs/pruners.md,
from other seeds, was known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from claim import Claim, Group
from claims_bayesian import Apart
from fields import Runs, than, values
from grids import LessDense, Where
from measures import ACCURACY, Behind, Found, above, change, level, round_at

from lth_runner.runs.evidence.means import density, mean, number
from lth_runner.runs.evidence.rows import TICKET, FinishedRun

TWO_TENTHS, POINT = 0.002, 0.01  # accuracy
SAME_COST = 0.01  # relative: steps are whole, and so are weights

Measure = Callable[[Runs], Found | None]


def dense_steps(run: FinishedRun, kept: float) -> float | None:
    """The arithmetic of a ticket and of all trainings before it, in steps of the dense network.

    That of a linear layer grows with its weights, forward and for both gradients, so that a step
    at density d counts d. An update of RigL has the gradient of all weights, (1 - d)/3 more (Evci
    et al., arXiv:1911.11134, appendix). ``kept`` of 1 is the dense training alone.
    """
    at = run.dense_round if kept == 1.0 else round_at(run, kept)
    if at is None:
        return None
    total = 0.0
    for round_ in (one for one in run.rounds(TICKET) if one <= at):
        rows = run.at(TICKET, round_)
        steps = mean([number(row.get("steps")) or 0.0 for row in rows])
        share = mean([density(row) or 0.0 for row in rows])
        total += steps * share
        if run.pruner == "rigl":
            every = float(str(run.option("pruner", "every")).removesuffix("it"))
            end = number(run.option("pruner", "end")) or 0.0
            total += end * steps / every * (1 - share) / 3
    return total


@dataclass(frozen=True)
class AtEqualArithmetic:
    """Another measure, of two runs whose arithmetic is the same; the dense one's, or a ticket's."""

    measure: Measure
    first: float
    second: float

    def __call__(self, runs: Runs) -> Found | None:
        costs = [
            dense_steps(runs[role], kept)
            for role, kept in (("first", self.first), ("second", self.second))
        ]
        found = self.measure(runs)
        if found is None or costs[0] is None or not costs[1]:
            return None
        if abs(costs[0] / costs[1] - 1) > SAME_COST:
            return None
        return replace(found, ours=f"{found.ours}; {costs[0]:,.0f} and {costs[1]:,.0f} dense steps")


@dataclass(frozen=True)
class DenseLess:
    """The dense network of ``first`` less the ticket of ``second``; above 0."""

    kept: float

    def __call__(self, runs: Runs) -> Found | None:
        dense = values(runs["first"], TICKET, 1.0, ACCURACY)
        ticket = values(runs["second"], TICKET, self.kept, ACCURACY)
        if not dense or not ticket:
            return None
        apart = than(dense, ticket)
        return above(f"{level(ticket)} against {level(dense)}: {change(-apart)}", apart, 0.0)


ARITHMETIC = "lenet300_mnist_arithmetic"
BASE = (
    "lth-run +experiment=lenet300_mnist_pruners seed=20 replicates=5 train.eval_every=50% "
    f"probe=none name={ARITHMETIC}"
)
TENTH, FIFTIETH = 0.8**10, 0.8**18
SPARSITY = {TENTH: "0.8926258176", FIFTIETH: "0.981985601490518"}
# steps: of a dense training; of each of iterative pruning's, of RigL's and of SET's one training
# with the arithmetic of one dense training of 4,000 steps (at a tenth), of 1,000 (at a fiftieth)
ONCE, FIVE = "4000it", "20000it"
EQUAL = {
    TENTH: {"imp": "875it", "rigl": "36480it", "set": "37250it"},
    FIFTIETH: {"imp": "203it", "rigl": "48850it", "set": "55500it"},
}


def _command(pruner: str, kept: float, length: str) -> str:
    return f"{BASE} pruner={pruner} pruner.sparsity={SPARSITY[kept]} train.length={length}"


FULL_COMMAND = _command("imp", FIFTIETH, ONCE)


def _claim(
    name: str, text: str, published: str, rule: str, commands: tuple[str, str], measure: Measure,
    first: tuple[str, str], second: tuple[str, str],
) -> Claim:  # fmt: skip
    """A claim about two runs by pruner and length."""
    lengths = {"first": first[1], "second": second[1]}
    options = {role: [(("train", "length"), one)] for role, one in lengths.items()}
    return Claim(
        f"arithmetic-{name}", text, published, rule, ", then ".join(commands),
        {"first": (ARITHMETIC, first[0]), "second": (ARITHMETIC, second[0])},
        Where(measure, options),
    )  # fmt: skip


HIGHER, CLOSE = "difference above 0", "less than 0.2 points below"
DENSE_SAID = "as good (80 %, ResNet-50)"
IMP = ("imp", ONCE)


def _equal_arithmetic(kept: float, budget: str) -> list[Claim]:
    words, of = f"{100 * kept:.3g} %", EQUAL[kept]
    commands = {pruner: _command(pruner, kept, of[pruner]) for pruner in of}
    same = AtEqualArithmetic(Apart(kept, 0.0), kept, kept)
    equal = f"both with the arithmetic of {budget} dense steps, {words}"
    claims = [
        _claim(f"{pruner}-imp-{words[:-2]}", f"{title} less iterative pruning, {equal}", said,
               HIGHER, (commands[pruner], commands["imp"]), same, (pruner, of[pruner]),
               ("imp", of["imp"]))
        for pruner, title, said in (
            ("rigl", "RigL", "above 0 (gradual pruning, ResNet-50)"), ("set", "SET", "not told"),
        )
    ]  # fmt: skip
    claims += [
        _claim(f"rigl-set-{words[:-2]}", f"RigL less SET, {equal}", "above 0", HIGHER,
               (commands["rigl"], commands["set"]), same, ("rigl", of["rigl"]),
               ("set", of["set"])),
        _claim(f"rigl-whole-{words[:-2]}", f"RigL with the arithmetic of {budget} dense steps less "
               f"iterative pruning's ticket from trainings of 4,000 steps, {words}", "not told",
               CLOSE, (commands["rigl"], FULL_COMMAND), Apart(kept, -TWO_TENTHS),
               ("rigl", of["rigl"]), IMP),
    ]  # fmt: skip
    return claims


def _beside_dense() -> list[Claim]:
    of = {pruner: _command(pruner, TENTH, EQUAL[TENTH][pruner]) for pruner in ("rigl", "set")}
    once, five = (_command("rigl", TENTH, length) for length in (ONCE, FIVE))
    close = LessDense(TENTH, -TWO_TENTHS)
    claims = [
        _claim(f"{pruner}-dense", f"{title} less a dense training of equal arithmetic, 10.7 %",
               said, CLOSE, (of[pruner], FULL_COMMAND), AtEqualArithmetic(close, TENTH, 1.0),
               (pruner, EQUAL[TENTH][pruner]), IMP)
        for pruner, title, said in (("rigl", "RigL", DENSE_SAID), ("set", "SET", "not told"))
    ]  # fmt: skip
    claims += [
        _claim("once-dense", "RigL less the dense network, equal steps, 10.7 %", "below 0",
               "difference below 0", (once, FULL_COMMAND), DenseLess(TENTH), IMP, ("rigl", ONCE)),
        _claim("once-imp", "RigL less iterative pruning's ticket, equal steps, 10.7 %", "below 0",
               "difference below 0", (once, FULL_COMMAND), Behind(TENTH), ("rigl", ONCE), IMP),
        _claim("five-dense", "RigL of five times the steps less the dense network, 10.7 %",
               DENSE_SAID, CLOSE, (five, FULL_COMMAND), close, ("rigl", FIVE), IMP),
        _claim("five-once", "RigL: five times the steps less once, 10.7 %", "above 0", HIGHER,
               (five, once), Apart(TENTH, 0.0), ("rigl", FIVE), ("rigl", ONCE)),
    ]  # fmt: skip
    return claims


def _moving() -> tuple[Claim, ...]:
    return (
        *_equal_arithmetic(TENTH, "4,000"), *_equal_arithmetic(FIFTIETH, "1,000"),
        *_beside_dense(),
    )  # fmt: skip


STRONG = "digits_strong_width"
STRONG_BASE = (
    f"lth-run +experiment=digits_strong +sweep=widths model.widths=[8,8],[16,16],[32,32],[64,64],"
    f"[128,128],[256,256],[512,512] control=none probe=none seed=20 replicates=10 name={STRONG} "
    "pruner.sparsity=0.5"
)
DENSE, FACTOR = "one_shot", 4
LARGE = 512


def _strong(pruner: str) -> str:
    return f"{STRONG_BASE} pruner={pruner}"


def _untrained() -> tuple[Claim, ...]:
    def wide(first: int, second: int, measure: Measure) -> Measure:
        widths = {"first": first, "second": second}
        return Where(measure, {r: [(("model", "widths"), [w, w])] for r, w in widths.items()})

    def roles(first: str, second: str) -> dict[str, tuple[str, str | None]]:
        return {"first": (STRONG, first), "second": (STRONG, second)}

    claims = []
    for pruner, title in (("edge_popup", "edge-popup"), ("multi_prize", "multi-prize")):
        both = f"{_strong(pruner)}, then {_strong(DENSE)}"
        for width in (8, 16, 32, 64):
            claims.append(
                Claim(f"factor-{pruner}-{width}", f"{title}: untrained network of width "
                      f"{FACTOR * width} less a trained one of {width}",
                      "as good, by a factor that grows like a logarithm",
                      "less than 1 point below", both, roles(pruner, DENSE),
                      wide(FACTOR * width, width, LessDense(0.5, -POINT)))
            )  # fmt: skip
        claims.append(
            Claim(f"prize-dense-{pruner}", f"{title}: untrained less trained network, width "
                  f"{LARGE}", "as good (wide networks)", "less than 1 point below", both,
                  roles(pruner, DENSE), wide(LARGE, LARGE, LessDense(0.5, -POINT)))
        )  # fmt: skip
    for width in (8, 16, 32):
        claims.append(
            Claim(f"factor-one-{width}", f"edge-popup: untrained less trained network, width "
                  f"{width}", "below 0", "difference below 0",
                  f"{_strong(DENSE)}, then {_strong('edge_popup')}", roles(DENSE, "edge_popup"),
                  wide(width, width, DenseLess(0.5)))
        )  # fmt: skip
    claims += [
        Claim("prize-rises", "multi-prize: width 512 less 32", "above 0", "difference above 0",
              _strong("multi_prize"), roles("multi_prize", "multi_prize"),
              wide(LARGE, 32, Apart(0.5, 0.0))),
        Claim("prize-edge", "multi-prize less edge-popup, width 512", "as good (wide networks)",
              "less than 1 point below", f"{_strong('multi_prize')}, then {_strong('edge_popup')}",
              roles("multi_prize", "edge_popup"), wide(LARGE, LARGE, Apart(0.5, -POINT))),
    ]  # fmt: skip
    return tuple(claims)


MOVING_CLAIMS = {
    "Masks that move, at equal arithmetic": Group(
        "Evci et al., ICML 2020, arXiv:1911.11134 (RigL); Mocanu et al., 2018, arXiv:1707.04780 "
        "(SET). Here LeNet-300-100 on MNIST, five seeds that no other row has. Arithmetic is "
        "counted and not timed: that of a step grows with the weights, iterative pruning's is that "
        "of all its trainings. In the rows of *equal steps* and of *five times* one training of "
        "4,000 steps is held against RigL's.",
        _moving(),
        found="For equal arithmetic RigL and SET are above iterative pruning, by 0.3 to 0.4 points "
        "at a tenth of the weights, RigL by 5.6 at a fiftieth, where 19 trainings of 203 steps are "
        "too short. What whole trainings of 4,000 steps find, with 20 times the arithmetic, stays "
        "0.6 points above it.",
    ),
    "How wide a network is that needs no training": Group(
        "Pensia et al., NeurIPS 2020, arXiv:2006.07990, and Orseau, Hutter & Rivasplata, NeurIPS "
        "2020, arXiv:2006.12156 (a network of w units is in one of w times a logarithm, proven); "
        "Ramanujan et al., CVPR 2020, arXiv:1911.13299 (edge-popup); Diffenderfer & Kailkhura, "
        "ICLR 2021, arXiv:2103.09377 (multi-prize tickets, one magnitude a layer). Here "
        "perceptrons of two hidden layers on scikit-learn's digits, half of the weights kept.",
        _untrained(),
        found="Four times the width does at every width, with one magnitude a layer as with all: "
        "nothing says that the factor grows, and from 32 units on digits leave no room to see it. "
        "One of the ten trained networks of 8 units was broken (38 %), the others reached 79 to "
        "96 %.",
    ),
}
