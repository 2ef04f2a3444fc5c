"""What the literature says of norms, and of other ways to sparse networks, held against ours here.

Every rule was written before the first of these runs was made.
"""

from __future__ import annotations

from claim import Claim, Group
from claims_bayesian import Apart
from fields import Level
from grids import AtItsDensity, Best, LessDense, Settled, Where
from measures import ACCURACY, Behind, Control

HALF_A_POINT = 0.005

NORMS = "norm_batch_rates"
NORMS_COMMAND = (
    "lth-run +experiment=norm_batch +sweep=norm_batch_rates pruner.sparsity=null pruner.rate=0.36 "
    f"pruner.rounds=7 train.eval_every=25ep replicates=5 name={NORMS}"
)
SPARSE = 0.64**7


def _norms() -> tuple[Claim, ...]:
    point = "within a point"
    rows = [
        ("group", "batches of 4, dense: batch less group normalisation", "worse",
         "difference below 0", Best(1.0, ("batch", 4), ("group", 4), below=True)),
        ("group-sparse", "batches of 4, 4.4 %: batch less group normalisation", "worse",
         "difference below 0", Best(SPARSE, ("batch", 4), ("group", 4), below=True)),
        ("batch", "batch normalisation, 4.4 %: batches of 4 less batches of 64", "worse",
         "difference below 0", Best(SPARSE, ("batch", 4), ("batch", 64), below=True)),
        ("layer", "layer normalisation, 4.4 %: batches of 4 less batches of 64", "alike",
         point, Best(SPARSE, ("layer", 4), ("layer", 64), near=0.01)),
        ("group-alike", "group normalisation, 4.4 %: batches of 4 less batches of 64", "alike",
         point, Best(SPARSE, ("group", 4), ("group", 64), near=0.01)),
        ("none", "batches of 64, 4.4 %: batch normalisation less none", "better",
         "difference above 0", Best(SPARSE, ("batch", 64), ("none", 64))),
        ("none-small", "batches of 4, 4.4 %: batch normalisation less none", "not told",
         "difference below 0", Best(SPARSE, ("batch", 4), ("none", 4), below=True)),
        ("large", "batch normalisation, 4.4 %: batches of 256 less batches of 64", "not told",
         "difference below 0", Best(SPARSE, ("batch", 256), ("batch", 64), below=True)),
        # these six before the runs of batches of 16, and of 256 without batch norm
        ("layer-large", "layer normalisation, 4.4 %: batches of 256 less batches of 64", "alike",
         point, Best(SPARSE, ("layer", 256), ("layer", 64), near=0.01)),
        ("group-large", "group normalisation, 4.4 %: batches of 256 less batches of 64", "alike",
         point, Best(SPARSE, ("group", 256), ("group", 64), near=0.01)),
        ("none-large", "no normalisation, 4.4 %: batches of 256 less batches of 64", "not told",
         "difference below 0", Best(SPARSE, ("none", 256), ("none", 64), below=True)),
        ("batch-16", "batch normalisation, 4.4 %: batches of 16 less batches of 64", "alike",
         point, Best(SPARSE, ("batch", 16), ("batch", 64), near=0.01)),
        ("group-16", "batches of 16, 4.4 %: batch less group normalisation", "alike",
         point, Best(SPARSE, ("batch", 16), ("group", 16), near=0.01)),
        ("layer-256", "batches of 256, 4.4 %: batch less layer normalisation", "not told",
         "difference above 0", Best(SPARSE, ("batch", 256), ("layer", 256))),
    ]  # fmt: skip
    return tuple(
        Claim(f"norm-{name}", text, published, rule, NORMS_COMMAND, {"run": (NORMS, None)},
              measure, together=True)
        for name, text, published, rule, measure in rows
    )  # fmt: skip


BIRD = "mnist_early_bird"
BIRD_COMMAND = (
    "lth-run +experiment=lenet300_mnist_pruners max_samples=12000 train.length=20ep "
    "train.eval_every=20ep pruner.sparsity=0.7 pruner.scope=global replicates=5 "
    f"name={BIRD} rewind.step=20%"
)
EARLY_COMMAND = (
    f"{BIRD_COMMAND} pruner=early_bird pruner.search.score._target_=lth_runner.score.Magnitude "
    "probe=mask_distance"
)
LATE_COMMAND = f"{BIRD_COMMAND} pruner=one_shot"


def _early_bird() -> tuple[Claim, ...]:
    both = {"first": (BIRD, "early_bird"), "second": (BIRD, "one_shot")}
    early = {"run": (BIRD, "early_bird")}
    return (
        Claim("bird-settled", "share of weights in which masks of 70 % of two epochs differ, after "
              "a fifth of the training", "below 0.1", "below 0.1", EARLY_COMMAND, early,
              Settled(0.2, 0.1)),
        Claim("bird-early", "step at which the ticket is drawn, of 18,320", "in the first fifth",
              "below 3,665", EARLY_COMMAND, early,
              Level(None, "start_step", 3665.0, below=True, scale=1.0, decimals=0)),
        Claim("bird-late", "ticket drawn early less one drawn at the end and trained from a fifth "
              "on, 30 %", "as good", "less than 0.5 points below",
              f"{EARLY_COMMAND}, then {LATE_COMMAND}", both, Apart(0.3, -HALF_A_POINT)),
    )  # fmt: skip


LEARNED = "lenet300_mnist_learned"
LEARNED_COMMAND = (
    "lth-run +experiment=lenet300_mnist_pruners pruner=continuous pruner.rounds=3 "
    "pruner.sparsity=null "
    f"train.length=12000it rewind.lr_clock=restart seed=10 name={LEARNED}"
)
FAMILIES = "lenet300_mnist_families"
FAMILIES_COMMAND = "lth-run +experiment=lenet300_mnist_pruners +sweep=families"
SANITY = "lenet300_mnist_sanity"


def _learned() -> tuple[Claim, ...]:
    claims = [
        Claim(f"continuous-{initial:g}", "continuous sparsification as its authors run it (its own "
              f"density, three rounds, s_0 = {initial:g}) less iterative pruning at the nearest "
              "density", "above 0 (ResNet-20, VGG-16)", "difference above 0",
              f"{LEARNED_COMMAND} pruner.initial={initial:g}, then {FAMILIES_COMMAND} "
              f"name={FAMILIES} pruner=imp",
              {"first": (LEARNED, "continuous"), "second": (FAMILIES, "imp")},
              AtItsDensity(initial))
        for initial in (0.05, 0.0, -0.05)
    ]  # fmt: skip
    for arm in ("shuffle", "reinit"):
        claims.append(
            Claim(f"sanity-concrete-{arm}", f"MNIST, concrete ticket search at 2 %: {arm}",
                  "loses accuracy", "difference below 0",
                  f"lth-run +experiment={SANITY} pruner=concrete pruner.sparsity=0.98",
                  {"run": (SANITY, "concrete")}, Control(0.02, arm, drops=True))
        )  # fmt: skip
    return tuple(claims)


MOVING = "lenet300_mnist_moving"
MOVING_COMMAND = (
    f"lth-run +experiment=lenet300_mnist_pruners +sweep=pruners seed=10 name={MOVING} "
    "pruner=rigl,set,random_erk pruner.sparsity=0.9,0.981985601490518"
)
LONG_COMMAND = (
    f"lth-run -m +experiment=lenet300_mnist_pruners seed=10 name={MOVING} pruner=rigl "
    "pruner.sparsity=0.9,0.981985601490518 train.length=20000it"
)
ITERATIVE_COMMAND = (
    f"lth-run +experiment=lenet300_mnist_pruners seed=10 name={MOVING} pruner=imp "
    "pruner.sparsity=0.981985601490518"
)
LENGTH = ("train", "length")
ONCE, FIVE = "4000it", "20000it"


def _moving() -> tuple[Claim, ...]:
    claims = []
    for kept in (0.1, 0.018014398509482):
        words = f"{100 * kept:.3g} %"
        for name, other, said in (("set", "set", "above 0"), ("static", "random_erk", "above 0")):
            claims.append(
                Claim(f"rigl-{name}-{words[:-2]}", f"RigL less {other}, {words}", said,
                      "difference above 0", MOVING_COMMAND,
                      {"first": (MOVING, "rigl"), "second": (MOVING, other)},
                      Where(Apart(kept, 0.0), {"first": [(LENGTH, ONCE)]}))
            )  # fmt: skip
    sparsest = 0.018014398509482
    both = {"first": (MOVING, "rigl"), "second": (MOVING, "imp")}
    claims += [
        Claim("rigl-imp", "RigL less iterative pruning's ticket, trainings of equal steps, 1.8 %",
              "below 0", "difference below 0", f"{MOVING_COMMAND}, then {ITERATIVE_COMMAND}",
              both, Where(Behind(sparsest), {"first": [(LENGTH, ONCE)]})),
        Claim("rigl-long-imp", "RigL of five times the steps less iterative pruning's ticket (19 "
              "trainings in all), 1.8 %", "not told", "less than 0.2 points below",
              f"{LONG_COMMAND}, then {ITERATIVE_COMMAND}", both,
              Where(Apart(sparsest, -0.002), {"first": [(LENGTH, FIVE)]})),
        Claim("rigl-long-dense", "RigL of five times the steps less the dense network, 10 %",
              "as good (ResNet-50, 80 %)", "less than 0.2 points below",
              f"{LONG_COMMAND}, then {ITERATIVE_COMMAND}", both,
              Where(LessDense(0.1, -0.002), {"first": [(LENGTH, FIVE)]})),
    ]  # fmt: skip
    return tuple(claims)


STRONG = "digits_strong"
STRONG_COMMAND = f"lth-run +experiment={STRONG} +sweep=widths replicates=5"
WIDTHS = ("model", "widths")


def _untrained() -> tuple[Claim, ...]:
    def wide(width: int) -> dict[str, list[tuple[tuple[str, ...], object]]]:
        return {"run": [(WIDTHS, [width, width])]}

    return (
        Claim("strong-wide", "untrained subnetwork of two layers of 512 units, half of it kept",
              "good", "above 95 %", STRONG_COMMAND, {"run": (STRONG, None)},
              Where(Level(None, ACCURACY, 0.95), wide(512))),
        Claim("strong-narrow", "untrained subnetwork of two layers of 16 units", "poor",
              "below 80 %", STRONG_COMMAND, {"run": (STRONG, None)},
              Where(Level(None, ACCURACY, 0.8, below=True), wide(16))),
        Claim("strong-rises", "untrained subnetworks: 512 units less 64", "above 0",
              "difference above 0", STRONG_COMMAND,
              {"first": (STRONG, None), "second": (STRONG, None)},
              Where(Apart(0.5, 0.0), {"first": wide(512)["run"], "second": wide(64)["run"]})),
        Claim("strong-shuffle", "its mask shuffled within layers, 512 units", "near chance",
              "below 50 %", STRONG_COMMAND, {"run": (STRONG, None)},
              Where(Level(None, ACCURACY, 0.5, below=True, arm="shuffle"), wide(512))),
    )  # fmt: skip


METHODS = {
    "Norm layers and batch size": Group(
        "Wu & He, ECCV 2018, arXiv:1803.08494 (dense networks, ImageNet); of tickets nothing is "
        "published. Perceptrons on scikit-learn's digits, equal epochs, each cell at the best of "
        "five learning rates by validation: three, and twice a larger one for all cells when half "
        "of them or more had chosen the largest.",
        _norms(),
        found="Two things that three rates seemed to say were the grid's: in sparse networks of "
        "batches of 4 batch norm was two points above group norm, and batches of 256 eight points "
        "behind those of 64. At larger rates group norm gains three points and batches of 256 "
        "eight, and no norm or batch size is told from another. Two of the sixteen cells, both of "
        "batches of 256, still choose the largest rate; in a third it is as good as a smaller one.",
    ),
    "Early-bird tickets": Group(
        "You et al., ICLR 2020, arXiv:1909.11957 (channels of convolutional networks); here single "
        "weights of LeNet-300-100 by magnitude, 12,000 images of MNIST, 20 times 916 steps of 60 "
        "(an epoch keeps its length), a mask after each.",
        _early_bird(),
        found="Masks of neighbouring epochs differ in less than 0.1 from the second epoch on; one "
        "that is as near to each of the four before it, as the method asks, comes after epochs 6 "
        "to 8, in one seed after 12. The ticket is as good nonetheless.",
    ),
    "Learned masks": Group(
        "Savarese et al., NeurIPS 2020, arXiv:1912.04427 (continuous sparsification); Arora & "
        "Teuscher 2025, arXiv:2512.07142 (concrete ticket search). Here LeNet-300-100 on MNIST.",
        _learned(),
        found="At the density that it finds, continuous sparsification stands beside iterative "
        "pruning; asked for a count far from that it collapses (the table of families below). "
        "Concrete ticket search needs its positions, and its weights hardly.",
    ),
    "Masks that move": Group(
        "Evci et al., ICML 2020, arXiv:1911.11134 (RigL; ResNet-50, and LeNet-300-100 beside "
        "tickets); Mocanu et al., 2018, arXiv:1707.04780 (SET). Here LeNet-300-100 on MNIST, "
        "4,000 steps.",
        _moving(),
    ),
    "Subnetworks that are not trained": Group(
        "Ramanujan et al., CVPR 2020, arXiv:1911.13299 (wide convolutional networks); here "
        "perceptrons on scikit-learn's digits, edge-popup.",
        _untrained(),
    ),
}
