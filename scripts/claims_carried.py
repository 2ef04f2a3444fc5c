"""What the papers say of tickets that are carried elsewhere: to other data, to whole channels."""

from __future__ import annotations

from carried import Beside, Larger
from claim import Claim, Group
from measures import NEAR, AgainstDense
from sections import TRANSFER, TRANSFERRED

from lth_runner.runs.evidence.transfer import OWN

CHEN_2022 = "Chen et al., ICML 2022, arXiv:2202.04736"
MORCOS = "Morcos et al., NeurIPS 2019, arXiv:1906.02773"
PICTURES = {
    "mnist": "MNIST",
    "digits28": "digits",
    "cifar10_grey": "CIFAR-10 in grey",
    "cifar10_grey_a": "CIFAR-10 in grey, classes 0 to 4",
    "cifar10_grey_b": "CIFAR-10 in grey, classes 5 to 9",
}
PAIRS = tuple(
    (source, target)
    for source in ("mnist", "digits28", "cifar10_grey", "cifar10_grey_a")
    for target in ("mnist", "digits28", "cifar10_grey_b")
    if source != target
)
SPARSEST = 0.32**3  # of the weights are kept in the last round of lenet300_transfer
GIVEN, FOUND = (TRANSFERRED, "given"), (TRANSFERRED, "imp")


def _larger() -> tuple[Claim, ...]:
    runs = {"first": GIVEN, "first_origin": FOUND, "second": GIVEN, "second_origin": FOUND}
    compared = [("cifar10_grey", "cifar10_grey_a", t) for t in
                ("mnist", "digits28", "cifar10_grey_b")]  # fmt: skip
    compared.append(("mnist", "digits28", "cifar10_grey_b"))
    return tuple(
        Claim(f"transfer-larger-{first}-{target}",
              f"on {PICTURES[target]}: ticket of {PICTURES[first]} less that of {PICTURES[second]}",
              "above 0", "difference above 0", TRANSFER, runs,
              Larger(first, second, target, SPARSEST))
        for first, second, target in compared
    )  # fmt: skip


def _carried(to: str, text: str, published: str, rule: str, limit: float) -> tuple[Claim, ...]:
    runs = {"run": GIVEN, "origin": FOUND} | ({"own": FOUND} if to == OWN else {})
    return tuple(
        Claim(f"transfer-{to}-{source}-{target}",
              f"{PICTURES[source]} to {PICTURES[target]}: {text}", published, rule, TRANSFER, runs,
              Beside(source, target, SPARSEST, to, limit))
        for source, target in PAIRS
    )  # fmt: skip


STRUCTURED = "vgg11_cifar10_structured"


def _structured() -> tuple[Claim, ...]:
    arms = {"refill": "whole channels", "regroup": "dense blocks"}
    return tuple(
        Claim(f"structured-{arm}-{100 * kept:.1f}",
              f"VGG-11: ticket of {100 * kept:.1f} % as {words} ({arm}), less dense",
              "no loss", f"less than {100 * NEAR:g} points below dense",
              f"lth-run +experiment={STRUCTURED}", {"run": (STRUCTURED, None)},
              AgainstDense(kept, worse=False, arm=arm, margin=NEAR))
        for arm, words in arms.items() for kept in (0.585, 0.342, 0.2)
    )  # fmt: skip


CARRIED = {
    "Tickets carried to other data: larger sources": Group(
        f"{MORCOS}, VGG-19 and ResNet-50 there. Here LeNet-300-100 in trainings of 500 "
        "steps; the tickets keep 3.3 % of the weights.",
        _larger(),
    ),
    "Tickets carried to other data: against masks drawn at random": Group(
        f"{MORCOS}. As many weights, drawn over all layers, and their values drawn anew.",
        _carried("random", "ticket less a random one", "above 0", "difference above 0", 0.0),
    ),
    "Tickets carried to other data: against the data's own tickets": Group(
        f"{MORCOS}: often close to the target's own tickets.",
        _carried(
            OWN,
            "ticket less the target's own",
            "near 0",
            f"less than {100 * NEAR:g} points below",
            -NEAR,
        ),
    ),
    "Structured tickets": Group(
        f"{CHEN_2022}: ResNet-18 and VGG-16 on CIFAR in 160 epochs, at 36 to 80 % sparsity. Here "
        "VGG-11 of a quarter of the width, and a short training.",
        _structured(),
    ),
}
