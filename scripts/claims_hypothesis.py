"""What the literature says of why tickets win, held against small networks here.

Every rule was written before the first of these runs was made; the seeds that are reported were
used for nothing else.
"""

from __future__ import annotations

from claim import Claim, Group
from claims_bayesian import Apart, Loses
from fields import AtEqual, Beside, Follows, Level, OrderedBy, PerLayer, Scalar, Than
from measures import ACCURACY, WITHIN, Control

ZHOU = "Zhou et al., NeurIPS 2019, arXiv:1905.01067"
EARLY_PHASE = "Frankle, Schwab & Morcos, ICLR 2020, arXiv:2002.10365"
MEAN_FIELD = "Schoenholz et al., ICLR 2017, arXiv:1611.01232"
KERNELS = "Liu & Zenke, ICML 2020, arXiv:2006.08228"
TREES = "Balwani & Krzyston, ICML Workshop TAG-ML 2022, arXiv:2206.06563"
BOUNDS = "Zhou et al., ICLR 2019, arXiv:1804.05862"

TENTH, FEW = 0.64**5, 0.64**8  # of the weights, after 5 and 8 rounds at 36 %
AT = {TENTH: "at 10.7 %", FEW: "at 2.8 %"}
HALF_A_POINT, TWO_POINTS = 0.005, 0.02

SIGNS, SIGNS_COMMAND = (
    "lenet300_mnist_signs",
    "lth-run +experiment=lenet300_mnist_signs replicates=5",
)
DEEP, DEEP_COMMAND = "deep_relu_mnist", "lth-run +experiment=deep_relu_mnist replicates=5"
TREES_RUN = "lenet300_mnist_trees"
TREES_COMMAND = (
    "lth-run +experiment=lenet300_mnist_pruners pruner=imp_tree pruner.sparsity=null "
    f"pruner.rate=0.36 pruner.rounds=8 replicates=5 train.eval_every=4000it name={TREES_RUN}"
)
ALIGNED = "lenet300_mnist_alignment"
ALIGNED_COMMAND = (
    "lth-run +experiment=lenet300_mnist_pruners +sweep=pruners pruner=imp,one_shot,random,snip,"
    "iter_snip,force,grasp,synflow,prospr,magnitude_at_init,random_erk,smart_ratio "
    f"probe=gradients rewind.data_order=rewind seed=10 name={ALIGNED}"
)


def _start() -> tuple[Claim, ...]:
    def claim(name: str, text: str, published: str, rule: str, measure: object) -> Claim:
        return Claim(f"start-{name}", text, published, rule, SIGNS_COMMAND, {"run": (SIGNS, None)},
                     measure)  # type: ignore[arg-type]  # fmt: skip

    above, below = "difference above 0", "difference below 0"
    little = "less than 0.5 points below the ticket"
    claims = []
    for kept, words in AT.items():
        claims += [
            claim(f"signs-same-{words[3:6]}",
                  f"signs of its weights that training keeps, ticket and dense network, {words}",
                  "more", above,
                  Beside(kept, "sign_preservation", "sign_preservation_dense_on_ticket")),
            claim(f"signs-all-{words[3:6]}",
                  f"signs that training keeps: the ticket's weights, all of the dense network's, "
                  f"{words}", "more", above,
                  Beside(kept, "sign_preservation", "sign_preservation_dense")),
            claim(f"reinit-{words[3:6]}", f"mask over new weights, {words}", "worse", below,
                  Control(kept, "reinit", drops=True)),
            claim(f"constant-{words[3:6]}", f"signs alone, one magnitude a layer, {words}",
                  "as good", little, Control(kept, "signs", drops=False)),
            claim(f"random-signs-{words[3:6]}", f"magnitudes with random signs, {words}",
                  "worse", below, Control(kept, "magnitudes", drops=True)),
        ]  # fmt: skip
    for size in ("1e-4", "1e-3", "1e-2", "1e-1"):
        claims.append(
            claim(f"noise-{size}", f"noise of {size} of a layer's weights, {AT[TENTH]}",
                  "as good (small ones)", little, Control(TENTH, f"noise_{size}", drops=False))
        )  # fmt: skip
    for size in ("1e-4", "1e-3", "1e-2", "1e-1"):
        worse = size in ("1e-4", "1e-1")
        said = "breaks the ticket (often said)" if size == "1e-4" else "not told"
        claims.append(
            claim(f"noise-absolute-{size}", f"noise of {size} as it is, {AT[TENTH]}", said,
                  below if worse else little,
                  Control(TENTH, f"noise_absolute_{size}", drops=worse))
        )  # fmt: skip
    claims += [
        claim("supermask", f"accuracy of the ticket untrained, {AT[TENTH]}",
              "far above chance", "above 50 %", Level(TENTH, "supermask_accuracy", 0.5)),
        claim("supermask-constant",
              f"accuracy of its mask over constants of its signs, untrained, {AT[TENTH]}",
              "far above chance", "above 50 %",
              Level(TENTH, "supermask_signed_constant_accuracy", 0.5)),
        claim("supermask-random",
              f"accuracy of its mask over random signs, untrained, {AT[TENTH]}", "chance",
              "below 20 %", Level(TENTH, "supermask_random_signs_accuracy", 0.2, below=True)),
    ]  # fmt: skip
    return tuple(claims)


def _aligned() -> tuple[Claim, ...]:
    jaccard, null = "jaccard_early_gradient", "jaccard_null"
    energy, share = "gradient_energy", "gradient_energy_null"
    densities = (0.2097152, 0.0549755813888)
    every = {"run": (ALIGNED, None)}
    claims = [
        Claim("aligned-imp", "Jaccard index of the mask and the early gradients' support, and of "
              "masks of its densities by layer, iterative pruning, 5.5 %", "higher",
              "difference above 0", ALIGNED_COMMAND, {"run": (ALIGNED, "imp")},
              Beside(densities[1], jaccard, null, scale=1.0)),
    ]  # fmt: skip
    fields = {
        "jaccard": (Scalar(jaccard), "Jaccard index with the early gradients' support"),
        "jaccard-null": (Scalar(jaccard, null), "Jaccard index less what densities by layer give"),
        "energy": (Scalar(energy), "share of the gradient's energy on the mask"),
        "energy-null": (Scalar(energy, share), "share of energy less what densities by layer give"),
    }
    for name, (read, text) in fields.items():
        for kept in (*((one,) for one in densities), densities):
            words = " and ".join(f"{100 * one:.3g} %" for one in kept)
            claims.append(
                Claim(f"aligned-{name}-{words.replace(' %', '').replace(' ', '-')}",
                      f"{text}, and accuracy, over pruners, {words}", "they rise together",
                      "correlation above 0", ALIGNED_COMMAND, every, OrderedBy(read, kept=kept),
                      together=True)
            )  # fmt: skip
    return tuple(claims)


def _signal() -> tuple[Claim, ...]:
    def claim(name: str, text: str, published: str, rule: str, measure: object, *,
              together: bool = False) -> Claim:  # fmt: skip
        return Claim(f"signal-{name}", text, published, rule, DEEP_COMMAND, {"run": (DEEP, None)},
                     measure, together)  # type: ignore[arg-type]  # fmt: skip

    measured, expected = "preactivation_variance_by_layer", "preactivation_variance_iid_by_layer"
    two = "more than 2 points above"
    claims = [
        claim("predicted", "factor of a layer on the variance, random mask, over (1 - s) "
              f"sigma_w^2 / 2, {AT[TENTH]}", "1", "within 0.1 of 1",
              PerLayer(TENTH, "random", measured, expected, 0.1)),
        claim("chi", "(sum of m w^2) / (2 outputs), and what a random mask of the same densities "
              f"has, ticket, {AT[TENTH]}", "not told", "difference above 0",
              Beside(TENTH, "chi", "chi_iid", scale=1.0)),
        claim("jacobian", f"mean square of the Jacobian's singular values, ticket and random mask, "
              f"{AT[TENTH]}", "not told", "difference above 0",
              Than(TENTH, "jacobian_singular_value_mean_square", "random")),
    ]  # fmt: skip
    for kept, words in AT.items():
        claims += [
            claim(f"rescued-{words[3:6]}", f"random masks at the critical variance less random "
                  f"masks as they are, {words}", "train, and do not", two,
                  Than(kept, ACCURACY, "random", ours="rescaled_random", limit=TWO_POINTS,
                       scale=100.0, decimals=2)),
            claim(f"without-{words[3:6]}", f"tickets less random masks at the critical variance, "
                  f"{words}", "not told", "difference above 0",
                  Loses(kept, "rescaled_random", 0.0)),
        ]  # fmt: skip
    claims += [
        claim("kernel", f"distance of the tangent kernel's spectrum to the dense network's, ticket "
              f"and random mask, {AT[TENTH]}", "smaller", "difference below 0",
              Than(TENTH, "ntk_spectrum_distance", "random", below=True)),
        claim("kernel-accuracy", "that distance and accuracy, over the ticket and its controls",
              "the nearer, the better", "correlation below 0",
              OrderedBy(Scalar("ntk_spectrum_distance"), below=True), together=True),
    ]  # fmt: skip
    return tuple(claims)


def _generalisation() -> tuple[Claim, ...]:
    gap, bound, occam = "generalisation_gap", "mdl_bound", "occam_bound"
    rows = [
        ("gap-dense", f"generalisation gap, ticket and dense network, {AT[TENTH]}", "smaller",
         "difference below 0", Than(TENTH, gap, None, below=True)),
        ("gap-random", f"generalisation gap, ticket and random mask, {AT[TENTH]}", "smaller",
         "difference below 0", Than(TENTH, gap, "random", below=True)),
        ("gap-equal", "generalisation gap, ticket and random masks of equal training accuracy, "
         f"{AT[FEW]}", "smaller", "difference below 0",
         AtEqual(FEW, gap, "random", "train_accuracy", below=True)),
        ("bound-dense", f"bound by counting the mask, ticket and dense network, {AT[TENTH]}",
         "tighter", "difference below 0", Than(TENTH, bound, None, below=True)),
        ("bound", f"bound by counting the mask, {AT[FEW]}", "says something", "below 1",
         Level(FEW, bound, 1.0, below=True, scale=1.0, decimals=4)),
        ("occam", f"Occam's bound, 32 bits a weight, {AT[FEW]}", "says something", "below 1",
         Level(FEW, occam, 1.0, below=True, scale=1.0, decimals=4)),
        ("vc", "rank correlation of k ln k and the gap over a ticket's rounds", "above 0",
         "correlation above 0", Follows("vc_proxy", gap)),
    ]  # fmt: skip
    return tuple(
        Claim(f"{name}-{short}", f"{words}: {text}", published, rule, command, {"run": (run, None)},
              measure)  # type: ignore[arg-type]
        for short, words, run, command in (
            ("lenet", "LeNet-300-100", SIGNS, SIGNS_COMMAND),
            ("deep", "eight hidden layers", DEEP, DEEP_COMMAND),
        )
        for name, text, published, rule, measure in rows
    )  # fmt: skip


def _topology() -> tuple[Claim, ...]:
    kept_more = [
        Claim(f"tree-{words[3:6]}", f"share of the dense network's maximum spanning trees that a "
              f"ticket keeps, and a random mask of its densities by layer, {words}", "more",
              "difference above 0", DEEP_COMMAND, {"run": (DEEP, None)},
              Beside(kept, "spanning_tree_kept", "spanning_tree_chance"))
        for kept, words in AT.items()
    ]  # fmt: skip
    persistence = Claim(
        "persistence",
        f"neural persistence after training, ticket and random mask, {AT[TENTH]}",
        "not told",
        "difference above 0",
        DEEP_COMMAND,
        {"run": (DEEP, None)},
        Than(TENTH, "neural_persistence", "random"),
    )
    spared = [
        Claim(f"tree-spared-{words[3:6]}", f"tickets that spare these trees (T-IMP) less those "
              f"that do not, LeNet-300-100, {words}", "as good or better",
              "less than 0.2 points below", f"{TREES_COMMAND}, then {SIGNS_COMMAND}",
              {"first": (TREES_RUN, "imp_tree"), "second": (SIGNS, "imp")}, Apart(kept, -WITHIN))
        for kept, words in AT.items()
    ]  # fmt: skip
    return (*kept_more, persistence, *spared)


HYPOTHESIS = {
    "Signs, magnitudes and noise at the start": Group(
        f"{ZHOU} (signs, magnitudes, masks untrained); {EARLY_PHASE} (noise). There LeNet and "
        "convolutional networks at their own length; here LeNet-300-100 on MNIST, 4,000 steps.",
        _start(),
        found="Of a ticket's weights fewer signs are kept than of the same ones in the dense "
        "network (95.5 and 95.8 %), as if they moved further to learn alone what all learned "
        "together. Noise of 1e-4 does nothing to be seen in either unit; of the sizes tried, only "
        "0.1 as it is (more than two standard deviations of the first layer's draw) may cost "
        "something.",
    ),
    "Early gradients and masks": Group(
        "Hypotheses of this field without a paper to hold them against: twelve pruners, the "
        "tickets of LeNet-300-100 on MNIST; p by permuting pruners, at both densities alike.",
        _aligned(),
        found="All correlations are above 0, from 0.17 to 0.57; none is sure enough among "
        "thirteen. What densities by layer alone would give explains most of the Jaccard index's, "
        "and little of the energy's.",
    ),
    "Signals through masks": Group(
        f"{MEAN_FIELD} (dense networks at their start); {KERNELS}. Here eight hidden layers of 100 "
        "units, no normalisation, MNIST, 2,000 steps of Adam.",
        _signal(),
    ),
    "Generalisation and what a ticket can say": Group(
        f"{BOUNDS} (bounds that say something, of compressed networks); smaller gaps are folklore. "
        "The gap is accuracy on training data less that on test data.",
        _generalisation(),
        found="In 4,000 steps LeNet's tickets fit more of the training data than the dense network "
        "and much more than random masks (99.9, 98.9 and 97.4 % at 10.7 %), and so have the larger "
        "gap with the better test accuracy; no random mask reaches their training accuracy, so "
        "that the comparison at an equal one is empty. In the deep network it is the other way "
        "round: tickets fit less (93.8 against 96.8 %). The gap follows what is fitted.",
    ),
    "Spanning trees": Group(
        f"{TREES}, on LeNet-300-100; here eight hidden layers, and LeNet-300-100 where it is said.",
        _topology(),
        found="At 10.7 % no weight had to be spared yet: the tickets are the same trainings, which "
        "tells nothing of sparing any.",
    ),
}
