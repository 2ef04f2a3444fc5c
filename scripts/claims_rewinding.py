"""Whether tickets of a small network that trains in seconds need their weights of a later step.

Written before any of these runs was made. The network was looked for on other seeds (100 and 101):
LeNet-300-100 at rates of 0.1 and 0.4, with and without batch norm, and perceptrons of five layers
went as well back to the start; ten layers with batch norm at 0.4 lost half a point at 3.1 % of the
weights and eight tenths at 1.6 % against step 33.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from claim import Claim, Group
from claims_bayesian import Apart
from measures import Barrier, Found, counted

from lth_runner.runs.evidence.estimate import LEVEL
from lth_runner.runs.evidence.rows import FinishedRun, rewind_step
from lth_runner.runs.evidence.sweep import find_sweeps

NAME, STABILITY = "deep_norm_mnist", "deep_norm_stability"
STEPS = (17, 33, 83, 166, 332)
COMMAND = (
    f"lth-run -m +experiment={NAME} "
    f"rewind.step=0it,{','.join(f'{step}it' for step in STEPS)} threads=1 device=cpu"
)
STABLE_COMMAND = (
    f"lth-run +experiment={NAME} name={STABILITY} replicates=5 pruner.rounds=1 threads=1 "
    "device=cpu probe=instability_by_step "
    f"'probe.instability_by_step.steps=[0it,{','.join(f'{step}it' for step in STEPS)}]'"
)
PARTIAL, BACK = "deep_norm_partial", 17  # a name, and the step that its layers go back to
PARTS = {  # rewind.layers -> its words, and whether it is said to be as good as all of them
    "first": ("the first layer", True),
    "early_half": ("the first half of the layers", True),
    "late_half": ("the second half of the layers", False),
    "last": ("the last layer", False),
}
PARTIAL_COMMAND = (
    f"lth-run -m +experiment={NAME} rewind=partial rewind.step={BACK}it "
    f"rewind.layers={','.join(PARTS)} name={PARTIAL} threads=1 device=cpu"
)
EARLY, LATE, NOT_WORSE = 33, 166, -0.005
DENSE, SPARSE, SPARSEST = 0.25, 0.03125, 0.015625


@dataclass(frozen=True)
class Later:
    """The ticket that went back to ``step`` less that which went back to the start.

    ``reverse``: the start's less that of the step. Both above ``limit``.
    """

    step: int
    kept: float
    limit: float = 0.0
    reverse: bool = False

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        late, start = runs["late"], runs["start"]
        if (rewind_step(late), rewind_step(start)) != (self.step, 0):
            return None
        pair = (start, late) if self.reverse else (late, start)
        found: Found | None = Apart(self.kept, self.limit)(
            dict(zip(("first", "second"), pair, strict=True))
        )
        return found


@dataclass(frozen=True)
class Trusted:
    """The model of rewind step and sparsity, fitted to all runs: whether nothing speaks against it.

    With the smallest step from which a ticket of ``kept`` is feasible, by the model. Refuted where
    means differ from it by more than seeds vary; what cannot be told of it is open.
    """

    kept: float

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        fits = [one.fit for one in find_sweeps(list(runs.values())) if one.fit is not None]
        if len(fits) != 1 or set(fits[0].steps) != {0, *STEPS}:
            return None
        [fit] = fits
        if fit.misfit is not None and fit.misfit < LEVEL:
            return counted("; ".join(fit.doubts), right=False)
        if fit.doubts:
            return Found("; ".join(fit.doubts), None, None)
        step = fit.smallest_step(1 - self.kept).value
        told = "later than the last step, or never" if step is None else f"{step:.0f}"
        return counted(f"no doubt; k* = {told}", right=True)


@dataclass(frozen=True)
class Alone:
    """The ticket of which these layers alone went back less that of which all did.

    ``as_good``: above what a ticket may lose; else the reverse, above 0.
    """

    layers: str
    kept: float
    as_good: bool

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        part, whole = runs["part"], runs["whole"]
        if part.option("rewind", "layers") != self.layers or rewind_step(whole) != BACK:
            return None
        pair = (part, whole) if self.as_good else (whole, part)
        found: Found | None = Apart(self.kept, NOT_WORSE if self.as_good else 0.0)(
            dict(zip(("first", "second"), pair, strict=True))
        )
        return found


def _parts() -> tuple[Claim, ...]:
    roles = {"part": (PARTIAL, None), "whole": (NAME, None)}
    return tuple(
        Claim(f"rewinding-{layers}-{words[:-2]}",
              f"tickets of {words}: {part} alone rewound less all of them" if as_good
              else f"tickets of {words}: all layers rewound less {part} alone",
              "nearly as good (often said)" if as_good else "above (often said)",
              "less than 0.5 points below" if as_good else "difference above 0",
              PARTIAL_COMMAND, roles, Alone(layers, kept, as_good))
        for kept, words in ((SPARSE, "3.1 %"), (SPARSEST, "1.6 %"))
        for layers, (part, as_good) in PARTS.items()
    )  # fmt: skip


def _claims() -> tuple[Claim, ...]:
    roles = {"late": (NAME, None), "start": (NAME, None)}
    claims = [
        Claim(f"rewinding-{step}-{words[:-2]}",
              f"tickets of {words}: rewound to step {step} of 1,660 less rewound to the start",
              "above (residual networks)", "difference above 0", COMMAND, roles, Later(step, kept))
        for kept, words in ((SPARSE, "3.1 %"), (SPARSEST, "1.6 %")) for step in STEPS
    ]  # fmt: skip
    claims += [
        Claim("rewinding-dense",
              f"tickets of 25 %: rewound to the start less rewound to step {EARLY}", "as good",
              "less than 0.5 points below", COMMAND, roles,
              Later(EARLY, DENSE, NOT_WORSE, reverse=True)),
        Claim("rewinding-model", "accuracy by rewind step and sparsity is D (1 - s)^b(k), "
              "b(k) = b_inf + b_0 exp(-k / tau)", "the model of lth-report", "no doubt of the fit",
              COMMAND, {"every": (NAME, None)}, Trusted(SPARSEST), together=True),
    ]  # fmt: skip
    claims += [
        Claim(f"rewinding-barrier-{step}", f"barrier of trainings that part at step {step}", said,
              rule, STABLE_COMMAND, {"run": (STABILITY, None)}, Barrier(stable, str(step)))
        for step, stable, said, rule in (
            (0, False, "above 2 points (where rewinding is needed)", "above 2 points"),
            (LATE, True, "below 2 points (where tickets match)", "below 2 points"),
        )
    ]  # fmt: skip
    return tuple(claims)


REWINDING = {
    "Rewinding a deep perceptron": Group(
        "Frankle et al., ICML 2020, arXiv:1912.05671; Renda, Frankle & Carbin, ICLR 2020, "
        "arXiv:2003.02389: residual networks on CIFAR-10 and ImageNet. Here ten layers with batch "
        "norm on 5,000 digits of MNIST, 20 epochs at a rate of 0.4, looked for on other seeds: "
        "LeNet-300-100 and perceptrons of five layers do as well from the start.",
        _claims(),
        found="A network for two cores that needs rewinding, and only just: trainings that part at "
        "the start are 16 points apart, at one hundredth of the training not at all, and from "
        "there on most tickets of 3 % and less are better, the first of these steps' most of all. "
        "That order leaves the model, in which later is never worse, nothing to tell tau by. One "
        "of the five tickets of 1.6 % and step 33 fails, on its training data (60 %) as on the "
        "test's (58 %).",
    ),
    "Rewinding a part of the layers": Group(
        "Said of partial rewinding without a paper to hold it against; the same network, layers "
        f"that go back to step {BACK} of 1,660, the others and normalisation as trained. Written "
        "before the runs.",
        _parts(),
        found="At 3.1 % it hardly matters which layers go back: all parts lie within a third of a "
        "point. At 1.6 % the first half alone is better than all of them, and the second half "
        "alone does not train (four of five at chance): layers that stay trained have grown in "
        "every round, so that one threshold for all leaves those that went back 0.01 to 0.06 % of "
        "their weights, 3 to 23 of 40,000. What fails there is the mask, and not its start.",
    ),
}
