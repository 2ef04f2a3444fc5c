"""What the papers say of tickets that are carried elsewhere: to other data, to whole channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from carried import Beside, Larger
from claim import Claim, Group
from measures import NEAR, AgainstDense
from sections import COLOUR_TRANSFERRED, CONV_TRANSFERRED, TRANSFERRED
from structured import BATCH, AnyOf, LessTicket, OfWidth, SavesTime

from lth_runner.runs.evidence.transfer import OWN

CHEN_2022 = "Chen et al., ICML 2022, arXiv:2202.04736"
MORCOS = "Morcos et al., NeurIPS 2019, arXiv:1906.02773"
PICTURES = {
    "mnist": "MNIST",
    "digits28": "digits",
    "cifar10_grey": "CIFAR-10 in grey",
    "cifar10_grey_a": "CIFAR-10 in grey, classes 0 to 4",
    "cifar10_grey_b": "CIFAR-10 in grey, classes 5 to 9",
    "cifar10_colour": "CIFAR-10",
    "cifar10_colour_a": "CIFAR-10, classes 0 to 4",
    "cifar10_colour_b": "CIFAR-10, classes 5 to 9",
}
SPARSEST = 0.32**3  # of the weights are kept in the last round of these studies


@dataclass(frozen=True)
class Study:
    """A study whose matrix is held against the paper.

    ``larger``: the sources whose tickets are compared, the one with more data first, and on what.
    """

    name: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    larger: tuple[tuple[str, str, str], ...]
    network: str = ""  # said before what is compared, where several studies are on the page
    replicates: int = 3

    @property
    def command(self) -> str:
        seeds = "" if self.replicates == 3 else f" replicates={self.replicates}"
        return f"lth-run +study={self.name}{seeds}"

    def role(self, pruner: str) -> tuple[str, str]:
        """The runs of this study with a pruner: given ones are carried, others found."""
        return self.name, pruner

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Sources and targets that differ."""
        return tuple((s, t) for s in self.sources for t in self.targets if s != t)


GREY = ("mnist", "digits28", "cifar10_grey", "cifar10_grey_a")
GREY_TARGETS = ("mnist", "digits28", "cifar10_grey_b")
GREY_LARGER = (
    *(("cifar10_grey", "cifar10_grey_a", target) for target in GREY_TARGETS),
    ("mnist", "digits28", "cifar10_grey_b"),
)
STUDIES = (
    Study(TRANSFERRED, GREY, GREY_TARGETS, GREY_LARGER, replicates=5),
    Study(CONV_TRANSFERRED, GREY, GREY_TARGETS, GREY_LARGER, "LeNet-5: ", replicates=5),
    Study(
        COLOUR_TRANSFERRED,
        ("cifar10_colour", "cifar10_colour_a"),
        ("cifar10_colour_b",),
        (("cifar10_colour", "cifar10_colour_a", "cifar10_colour_b"),),
        "LeNet-5: ",
        replicates=5,
    ),
)


def _larger(study: Study) -> tuple[Claim, ...]:
    given, found = study.role("given"), study.role("imp")
    runs = {"first": given, "first_origin": found, "second": given, "second_origin": found}
    return tuple(
        Claim(f"{_id(study)}-larger-{first}-{target}",
              f"{study.network}on {PICTURES[target]}: ticket of {PICTURES[first]} less that of "
              f"{PICTURES[second]}",
              "above 0", "difference above 0", study.command, runs,
              Larger(first, second, target, SPARSEST))
        for first, second, target in study.larger
    )  # fmt: skip


def _carried(
    study: Study, to: str, text: str, published: str, rule: str, limit: float
) -> tuple[Claim, ...]:
    found = study.role("imp")
    runs = {"run": study.role("given"), "origin": found} | ({"own": found} if to == OWN else {})
    return tuple(
        Claim(f"{_id(study)}-{to}-{source}-{target}",
              f"{study.network}{PICTURES[source]} to {PICTURES[target]}: {text}", published, rule,
              study.command, runs, Beside(source, target, SPARSEST, to, limit))
        for source, target in study.pairs
    )  # fmt: skip


def _id(study: Study) -> str:
    return "transfer" if study.name == TRANSFERRED else study.name


def _of_all(of_one: Callable[[Study], tuple[Claim, ...]]) -> tuple[Claim, ...]:
    return tuple(claim for study in STUDIES for claim in of_one(study))


STRUCTURED = "vgg11_cifar10_structured"
QUARTER, HALF = 16, 32  # channels of the first convolution, of 64


def _structured() -> tuple[Claim, ...]:
    arms = {"refill": "whole channels", "regroup": "dense blocks"}
    return tuple(
        Claim(f"structured-{arm}-{100 * kept:.1f}",
              f"VGG-11: ticket of {100 * kept:.1f} % as {words} ({arm}), less dense",
              "no loss", f"less than {100 * NEAR:g} points below dense",
              f"lth-run +experiment={STRUCTURED}", {"run": (STRUCTURED, None)},
              OfWidth(QUARTER, AgainstDense(kept, worse=False, arm=arm, margin=NEAR)))
        for arm, words in arms.items() for kept in (0.585, 0.342, 0.2)
    )  # fmt: skip


SAVED = 0.6  # of the inference time


def _saving() -> tuple[Claim, ...]:
    ours = f"lth-run +experiment={STRUCTURED} model.width={HALF} control=refill"
    runs = {"run": (STRUCTURED, None)}
    rounds = {1: 0.585, 2: 0.342, 3: 0.2}
    each = {f"{100 * kept:.1f} %": SavesTime(round, kept, SAVED) for round, kept in rounds.items()}
    any_of = " or ".join(each)
    saved = Claim(
        "structured-time",
        f"ticket of {any_of} as whole channels (refill), shrunk, beside dense: inference time "
        "saved at batch 32, and accuracy",
        "up to 64.9 % saved, no loss, at 36 to 80 % sparsity",
        f"above {100 * SAVED:g} %, and less than {100 * NEAR:g} points below dense, at one of them",
        ours, runs, OfWidth(HALF, AnyOf(each)),
    )  # fmt: skip
    return saved, *(
        Claim(f"structured-ticket-{100 * kept:.1f}",
              f"ticket of {100 * kept:.1f} % as whole channels (refill), less the ticket itself",
              "not told (no loss to dense)", f"less than {100 * NEAR:g} points below", ours, runs,
              OfWidth(HALF, LessTicket(round)))
        for round, kept in rounds.items()
    )  # fmt: skip


CARRIED = {
    "Tickets carried to other data: larger sources": Group(
        f"{MORCOS}, VGG-19 and ResNet-50 there. Here LeNet-300-100, and LeNet-5 with batch norm, "
        "in trainings of 500 steps; the tickets keep 3.3 % of the weights.",
        _of_all(_larger),
    ),
    "Tickets carried to other data: against masks drawn at random": Group(
        f"{MORCOS}. As many weights, drawn over all layers, and their values drawn anew.",
        _of_all(
            lambda study: _carried(
                study, "random", "ticket less a random one", "above 0", "difference above 0", 0.0
            )
        ),
    ),
    "Tickets carried to other data: against the data's own tickets": Group(
        f"{MORCOS}: often close to the target's own tickets.",
        _of_all(
            lambda study: _carried(
                study,
                OWN,
                "ticket less the target's own",
                "near 0",
                f"less than {100 * NEAR:g} points below",
                -NEAR,
            )
        ),
    ),
    "Structured tickets": Group(
        f"{CHEN_2022}: ResNet-18 and VGG-16 on CIFAR in 160 epochs, at 36 to 80 % sparsity. Here "
        "VGG-11 of a quarter of the width, and a short training.",
        _structured(),
    ),
    "Structured tickets: inference time": Group(
        f"{CHEN_2022}: VGG-16 and ResNet-18. Here VGG-11 of half the width, where the "
        "layers that are pruned take most of the time, a short training, and one thread of a CPU; "
        "times by `lth-export RUN --round 1 --seed 0 --arm refill --report FILE --batches "
        f"1,{BATCH}`, of each round and seed (docs/runs/latency).",
        _saving(),
    ),
}
