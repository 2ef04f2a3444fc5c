"""What the papers say, and which runs it is held against: the rows of docs/results.md."""

from __future__ import annotations

from claim import Claim, Group
from claims_bayesian import BAYESIAN_CLAIMS
from claims_bayesian_decides import BAYESIAN_DECIDES
from claims_carried import CARRIED
from claims_flow import FLOW_CLAIMS
from claims_hypothesis import HYPOTHESIS
from claims_ks import KS_CLAIMS
from claims_lota import LOTA_CLAIMS
from claims_merge import MERGE_CLAIMS
from claims_methods import METHODS
from claims_moving import MOVING_CLAIMS
from claims_oneshot import ONE_SHOT_CLAIMS
from claims_partial_lora import PARTIAL_LORA
from claims_pretrained import PRETRAINED
from claims_residual import RESIDUAL
from claims_rewinding import REWINDING
from claims_vit import VIT
from measures import (
    ACCURACY,
    EARLY,
    NEAR,
    WITHIN,
    AgainstDense,
    Barrier,
    Control,
    Densities,
    Faster,
    Gap,
    Near,
    percent,
)
from searched import Ahead, Quicker
from sections import FAMILIES, LATE, PRUNERS, SEARCHED

from lth_runner.runs.evidence.published import published

MNIST = {"run": ("lenet300_mnist_imp", None)}
MNIST_COMMAND = "lth-run +experiment=lenet300_mnist_imp"
SANITY = "lth-run +experiment=lenet300_mnist_sanity"
SNIP, SNIP_NAME = "lth-run +experiment=lenet300_mnist_snip", "lenet300_mnist_snip_code"
SNIP_CODE = f"model.init=lecun_truncated rewind=reinit pruner.biases=true name={SNIP_NAME}"
FC = "Frankle & Carbin, ICLR 2019, arXiv:1803.03635"
FRANKLE_2021 = "Frankle et al., ICLR 2021, arXiv:2009.08576"
SU = "Su et al., NeurIPS 2020, arXiv:2009.11094"
CTS = "Arora & Teuscher 2025, arXiv:2512.07142"
INSTABILITY = "Frankle et al., ICML 2020, arXiv:1912.05671"
PERCENT = (0.211, 0.070, 0.036, 0.019)  # of the weights, after rounds 7, 12, 15 and 18
MATCH_RULE = f"less than {100 * WITHIN:g} points below dense"
BELOW_RULE = "difference below 0"
NEAR_RULE = f"within {100 * NEAR:g} points"


def _mnist() -> tuple[Claim, ...]:
    rounds = {3: 51.3, 7: 21.1, 12: 7.0, 15: 3.6, 18: 1.9}
    shares = ", ".join(map(str, rounds.values()))
    claims = [
        Claim("mnist-densities", "share of the weights after rounds 3, 7, 12, 15, 18",
              f"{shares} %", "to the decimal", MNIST_COMMAND, MNIST, Densities(rounds)),
    ]  # fmt: skip
    where = (
        (ACCURACY, "at the last step", "last"),
        (EARLY, "at the lowest validation loss", "early"),
    )
    for name, words, short in where:
        for kept in PERCENT:
            worse = kept == PERCENT[-1]
            text = f"ticket of {100 * kept:.1f} %, {words}"
            said = "below dense" if worse else "at least dense"
            claims.append(
                Claim(f"mnist-{short}-{100 * kept:.1f}", text, said,
                      BELOW_RULE if worse else MATCH_RULE, MNIST_COMMAND, MNIST,
                      AgainstDense(kept, worse, name))
            )  # fmt: skip
    claims.append(
        Claim("mnist-faster", "ticket of 21.1 %: step of lowest validation loss",
              "earlier than dense", BELOW_RULE, MNIST_COMMAND, MNIST, Faster(0.211))
    )  # fmt: skip
    for kept in PERCENT[:2]:
        claims.append(
            Claim(f"mnist-reinit-{100 * kept:.1f}", f"mask of {100 * kept:.1f} % over new weights",
                  "worse than the ticket", BELOW_RULE, MNIST_COMMAND, MNIST,
                  Control(kept, "reinit", drops=True))
        )  # fmt: skip
    return tuple(claims)


KINDS = {
    "rewind_to_epoch_12": ("resnet20_imp", "weights of epoch 12"),
    "rewind_to_init": ("resnet20_rewind_init", "weights of the start"),
    "learning_rate_rewinding": ("resnet20_lrr", "learning-rate rewinding"),
    "finetune": ("resnet20_finetune", "fine-tuning"),
}
ONE_SHOT = (
    "lth-run +experiment=resnet20_lrr pruner=one_shot name=resnet20_one_shot "
    "report.published=renda2020_resnet20/one_shot_learning_rate_rewinding"
)


def _resnet() -> tuple[Claim, ...]:
    claims = []
    densities = (0.512, 0.2097, 0.1074)
    papers = {series: published(f"renda2020_resnet20/{series}") for series in KINDS}
    dense = papers["finetune"].dense
    assert dense is not None
    claims.append(
        Claim("resnet20-dense", "ResNet-20, dense", f"{percent(dense.accuracy)}, n = {dense.n}",
              NEAR_RULE, "lth-run +experiment=resnet20_imp", {"run": ("resnet20_imp", None)},
              Near(dense.accuracy, 1.0))
    )  # fmt: skip
    for series, (name, words) in KINDS.items():
        for kept in densities:
            point = papers[series].at(kept)
            assert point is not None
            assert point.low is not None
            assert point.high is not None
            said = f"{percent(point.accuracy)} ({percent(point.low)} to {percent(point.high)})"
            claims.append(
                Claim(f"{name}-{100 * kept:.1f}", f"ResNet-20, {words}, {100 * kept:.1f} %",
                      f"{said}, n = {point.n}", NEAR_RULE, f"lth-run +experiment={name}",
                      {"run": (name, None)}, Near(point.accuracy, kept))
            )  # fmt: skip
    pairs = [("rewind_to_epoch_12", "rewind_to_init", kept) for kept in densities]
    for first, second, kept in pairs:
        (one, words), (other, others) = KINDS[first], KINDS[second]
        gap = _gap(first, second, kept)
        command = f"lth-run +experiment={one}, then lth-run +experiment={other}"
        claims.append(
            Claim(f"gap-{100 * kept:.1f}", f"ResNet-20, {words} less {others}, {100 * kept:.1f} %",
                  f"+{percent(gap)}", "more than half of it",
                  command, {"first": (one, None), "second": (other, None)}, Gap(gap, kept))
        )  # fmt: skip
    gap = _gap("learning_rate_rewinding", "one_shot_learning_rate_rewinding", 0.1074)
    claims.append(
        Claim("iterative-one-shot", "ResNet-20, learning-rate rewinding: iterative less one-shot",
              f"+{percent(gap)}", "more than half of it",
              f"lth-run +experiment=resnet20_lrr, then {ONE_SHOT}",
              {"first": ("resnet20_lrr", None), "second": ("resnet20_one_shot", None)},
              Gap(gap, 0.1074))
    )  # fmt: skip
    return tuple(claims)


def _gap(first: str, second: str, kept: float) -> float:
    one, other = (published(f"renda2020_resnet20/{name}").at(kept) for name in (first, second))
    assert one is not None
    assert other is not None
    return one.accuracy - other.accuracy


def _sanity() -> tuple[Claim, ...]:
    claims = []
    for pruner in ("imp", "one_shot", "snip", "grasp", "synflow"):
        drops = pruner in ("imp", "one_shot")
        decided = ("random_data",) if pruner in ("snip", "grasp") else ()  # synflow reads no data
        for arm in ("shuffle", "reinit", *decided):
            kept = 0.02 if drops else 0.05
            said = "loses accuracy" if drops else "loses none"
            command = f"{SANITY} pruner={pruner} pruner.sparsity={1 - kept:g}"
            command += " control=sanity" if arm in decided else ""
            command += " replicates=5" if pruner == "imp" else " replicates=10"
            rule = BELOW_RULE if drops else f"less than {100 * NEAR:g} points below"
            claims.append(
                Claim(f"sanity-{pruner}-{arm}", f"MNIST, {pruner} at {100 * kept:.0f} %: {arm}",
                      said, rule, command,
                      {"run": ("lenet300_mnist_sanity", pruner)}, Control(kept, arm, drops=drops))
            )  # fmt: skip
    sanity = "lenet300_mnist_sanity"
    claims.append(
        Claim("mnist-iterative-one-shot", "MNIST, iterative less one-shot, 2 % of the weights",
              "above 0", "difference above 0",
              f"{SANITY} pruner=imp pruner.sparsity=0.98 replicates=5, and the same with "
              "pruner=one_shot replicates=10",
              {"first": (sanity, "imp"), "second": (sanity, "one_shot")}, Gap(0.0, 0.02))
    )  # fmt: skip
    return tuple(claims)


def _snip() -> tuple[Claim, ...]:
    series = published("lee2019_lenet300/snip")
    found = [("dense", 1.0, series.dense), *(
        (f"{100 * kept:.0f} % of the weights", kept, series.at(kept)) for kept in (0.05, 0.02)
    )]  # fmt: skip
    claims = []
    for words, kept, point in found:
        assert point is not None
        command = SNIP if kept == 1 else f"{SNIP} pruner.sparsity={1 - kept:g}"
        claims.append(
            Claim(f"snip-{100 * kept:.0f}", f"MNIST, SNIP's recipe, {words}",
                  f"{100 * point.accuracy:.1f}", NEAR_RULE, command,
                  {"run": ("lenet300_mnist_snip", "snip")}, Near(point.accuracy, kept))
        )  # fmt: skip
        if kept < 1:  # tried at a fifth of the length on other seeds: 0.4 points above at 2 %
            claims.append(
                Claim(f"snip-code-{100 * kept:.0f}", "MNIST, SNIP's recipe, weights, biases and "
                      f"start as the authors' code has them, {words}",
                      f"{100 * point.accuracy:.1f}", NEAR_RULE, f"{command} {SNIP_CODE}",
                      {"run": (SNIP_NAME, "snip")}, Near(point.accuracy, kept))
            )  # fmt: skip
    return tuple(claims)


def _families() -> tuple[Claim, ...]:
    name, kept = "lenet300_mnist_families", 0.0047223664828696  # after 24 rounds at 20 %
    runs = {"first": (name, "concrete"), "second": (name, "imp")}
    claims = []
    for step, words, commands in (
        (200, "both from step 200", f"{PRUNERS} {LATE}, then {SEARCHED} rewind.step=200it"),
        (0, "both from the start", f"{FAMILIES} pruner=imp, then {SEARCHED}"),
    ):
        claims += [
            Claim(f"families-accuracy-{step}",
                  f"concrete ticket search less iterative pruning, 0.47 %, {words}",
                  "+5.7 (0.7 %)", "difference above 0", commands, runs, Ahead(kept, step)),
            Claim(f"families-time-{step}",
                  f"time to its ticket, as a share of that of iterative pruning, 0.47 %, {words}",
                  "0.08 (0.7 %)", "less than half (timed once)", commands, runs,
                  Quicker(kept, step)),
        ]  # fmt: skip
    return tuple(claims)


def _connectivity() -> tuple[Claim, ...]:
    rows = (
        ("lenet300_mnist_connectivity", "LeNet-300-100 on MNIST, from step 0", True,
         "below 2 points"),
        ("resnet20_connectivity", "ResNet-20, a tenth of CIFAR-10, 8 epochs, from step 0", False,
         "far above 2 points, in the full training"),
    )  # fmt: skip
    return tuple(
        Claim(f"barrier-{name}", f"barrier: {text}", said,
              "below 2 points" if stable else "above 2 points",
              f"lth-run +experiment={name}", {"run": (name, None)}, Barrier(stable))
        for name, text, stable, said in rows
    )  # fmt: skip


CLAIMS = {
    "Winning tickets of LeNet-300-100 on MNIST": Group(f"{FC}, figures 3 and 4.", _mnist()),
    "Rewinding ResNet-20 on CIFAR-10": Group(
        f"{published('renda2020_resnet20/finetune').citation}, from the result files published "
        "with it: median of 3 (lowest to highest) on 8000 of the test images.",
        _resnet(),
    ),
    "What of a mask matters; pruning before training": Group(
        f"The controls: {FRANKLE_2021}, and of random_data (corrupted labels): {SU}, on other "
        f"networks and data. Iterative and one-shot: {FC}. Where three seeds had decided nothing "
        "seven were added (replicates=10).",
        _sanity(),
    ),
    "SNIP in its own recipe": Group(
        f"{published('lee2019_lenet300/snip').citation}, table 1. The authors' code takes the best "
        "by test accuracy of the five checkpoints that it kept last, here it is the last step.",
        _snip(),
    ),
    "Concrete ticket search and iterative pruning": Group(
        f"{CTS}, ResNet-20 on CIFAR-10 with a search of an eighth of a training; here "
        "LeNet-300-100 on MNIST with a search as long as one.",
        _families(),
    ),
    **HYPOTHESIS,
    **METHODS,
    **MOVING_CLAIMS,
    **CARRIED,
    **LOTA_CLAIMS,
    **MERGE_CLAIMS,
    **PARTIAL_LORA,
    **KS_CLAIMS,
    **ONE_SHOT_CLAIMS,
    **PRETRAINED,
    **FLOW_CLAIMS,
    **BAYESIAN_CLAIMS,
    **BAYESIAN_DECIDES,
    **VIT,
    **RESIDUAL,
    **REWINDING,
    "Stability": Group(
        f"{INSTABILITY}. A barrier is the largest error (points) on the line between two trainings "
        "from the same weights, above the mean of its ends.",
        _connectivity(),
    ),
}
