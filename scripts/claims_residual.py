"""A small residual network in a short recipe: rewinding, and concrete ticket search.

Written before any of these runs was made, but for the rule at 3 %: it asked for the opposite of
what the paper says of that density, and was refuted.
"""

from __future__ import annotations

from claim import Claim, Group
from claims_bayesian import Apart
from measures import AgainstDense, Control
from searched import Ahead, Quicker

REWOUND, START = "resnet20_short", "resnet20_short_init"
COMMAND = (
    "lth-run +experiment=resnet20_imp dataset=imagefolder dataset.name=cifar10 "
    "'dataset.shape=[3,16,16]' dataset.augment_flip=true dataset.augment_crop=2 "
    "dataset.validation=0 train.length=2340it 'train.learning_rate.drops=[50%,75%]' "
    "train.eval_every=50% pruner.sparsity=null pruner.rate=0.56 pruner.rounds=3 control=none "
    f"probe=none report.published=null threads=1 device=cpu rewind.step=234it name={REWOUND}"
)
START_COMMAND = COMMAND.replace("rewind.step=234it", "rewind=init").replace(REWOUND, START)
POINT = 0.01


def _claims() -> tuple[Claim, ...]:
    claims = []
    for kept in (0.44, 0.44**2, 0.44**3):
        at = f"at {100 * kept:.3g} %"
        claims += [
            Claim(f"residual-rewind-{at[3:-2]}",
                  f"ResNet-20: rewound to step 234 of 2,340 less rewound to the start, {at}",
                  "above (by 1.4 to 4.3 points in 182 epochs)", "difference above 0",
                  f"{COMMAND}, then {START_COMMAND}",
                  {"first": (REWOUND, None), "second": (START, None)}, Apart(kept, 0.0)),
            Claim(f"residual-match-{at[3:-2]}", f"ResNet-20: ticket of step 234, {at}",
                  "matches dense", "less than 1 point below dense", COMMAND,
                  {"run": (REWOUND, None)}, AgainstDense(kept, worse=False, margin=POINT)),
        ]  # fmt: skip
    return tuple(claims)


SEARCHED, LONG, STEP = "concrete_residual", "concrete_residual_long", 88
SEARCH_COMMAND = (
    "lth-run +experiment=resnet20_cts dataset=imagefolder dataset.name=cifar10 "
    "'dataset.shape=[3,16,16]' dataset.augment_crop=2 dataset.subset=20000 model.width=8 "
    "train.batch_size=128 train.length=10ep 'train.learning_rate.drops=[5ep,7.5ep]' "
    f"train.eval_every=50% rewind.step={STEP}it probe=none report.published=null threads=1 "
    f"device=cpu name={SEARCHED}"
)
ITERATED = (
    f"{SEARCH_COMMAND} pruner=imp pruner.sparsity=null pruner.rate=0.5838 pruner.rounds=6 "
    "control=none"
)
SHORT = f"{SEARCH_COMMAND} control=random pruner.search.score.length=1.25ep"
WHOLE = f"{SEARCH_COMMAND} control=none pruner.search.score.length=10ep".replace(SEARCHED, LONG)


def _searched() -> tuple[Claim, ...]:
    claims = []
    for kept, behind in ((0.03, True), (0.0052, False)):
        at = f"{100 * kept:.3g} %"
        published = "below (above 3 % of the weights)" if behind else "+5.7 (0.7 %)"
        rule = "difference below 0" if behind else "difference above 0"
        searches = [(SEARCHED, "a search of an eighth of a training", SHORT)]
        if kept < 0.01:
            searches.append((LONG, "a search as long as a training", WHOLE))
        for name, length, command in searches:
            sparse = f"{command} pruner.sparsity={1 - kept:g}"
            runs = {"first": (name, "concrete"), "second": (SEARCHED, "imp")}
            claims += [
                Claim(f"{name}-accuracy-{at[:-2]}",
                      f"concrete ticket search less iterative pruning, {at}, {length}", published,
                      rule, f"{sparse}, then {ITERATED}", runs, Ahead(kept, STEP, behind)),
                Claim(f"{name}-time-{at[:-2]}",
                      "time to its ticket, as a share of that of iterative pruning, "
                      f"{at}, {length}", "0.08 (0.7 %)", "less than half (timed once)",
                      f"{sparse}, then {ITERATED}", runs, Quicker(kept, STEP)),
            ]  # fmt: skip
        claims.append(
            Claim(f"{SEARCHED}-random-{at[:-2]}",
                  f"a random mask less that of concrete ticket search, {at}", "loses accuracy",
                  "difference below 0", f"{SHORT} pruner.sparsity={1 - kept:g}",
                  {"run": (SEARCHED, "concrete")}, Control(kept, "random", drops=True))
        )  # fmt: skip
    return tuple(claims)


RESIDUAL = {
    "Concrete ticket search on a residual network": Group(
        "Arora & Teuscher 2025, arXiv:2512.07142, ResNet-20 on CIFAR-10, 160 epochs. Here of half "
        "its width, ten epochs of 20,000 images of CIFAR-10 (JPEG) at 16x16, its settings but for "
        "batches of 128. Ten epochs leave the dense network at 56 %.",
        _searched(),
        found="The length of the search makes most of the difference: of 0.5 % of the weights, six "
        "points behind iterative pruning after an eighth of a training become one and a half, not "
        "told from none, after a whole one, in a tenth of its time. On the perceptron above a "
        "search of that length stays five points behind, from the start as from step 200: there "
        "it is not the step. That it is ahead shows nowhere here.",
    ),
    "A residual network in a short recipe": Group(
        "Renda, Frankle & Carbin, ICLR 2020, arXiv:2003.02389; Frankle et al., ICML 2020, "
        "arXiv:1912.05671. Here six epochs of CIFAR-10 (JPEG) at 16x16, a learning rate of 0.1: "
        "a sign of the difference, and no reproduction.",
        _claims(),
        found="Six epochs leave the dense network far from trained, and tickets are four to six "
        "points above it from either step: nothing that rewinding adds is told in one that short.",
    ),
}
