"""Whether a small residual network needs its weights rewound to a later step, in a short recipe.

Written before any of these runs was made.
"""

from __future__ import annotations

from claim import Claim, Group
from claims_bayesian import Apart
from measures import AgainstDense

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


RESIDUAL = {
    "A residual network in a short recipe": Group(
        "Renda, Frankle & Carbin, ICLR 2020, arXiv:2003.02389; Frankle et al., ICML 2020, "
        "arXiv:1912.05671. Here six epochs of CIFAR-10 (JPEG) at 16x16, a learning rate of 0.1: "
        "a sign of the difference, and no reproduction.",
        _claims(),
        found="Six epochs leave the dense network far from trained, and tickets are four to six "
        "points above it from either step: rewinding is not needed where training is that short.",
    )
}
