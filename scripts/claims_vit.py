"""What is asked of tickets of vision transformers, held against a small one here.

Written before any of these runs was made.
"""

from __future__ import annotations

from claim import Claim, Group
from claims_bayesian import Apart, Loses
from measures import AgainstDense

SHEN = "Shen et al., 2022, arXiv:2211.01484"
REWOUND, START = "vit_cifar10_imp", "vit_cifar10_init"
SHORT = (
    " dataset=imagefolder dataset.name=cifar10 dataset.subset=10000 model.width=64 model.depth=4 "
    "model.heads=4 model.patch=8 train.length=780it train.eval_every=780it rewind.step=39it "
    "pruner.rate=0.488 pruner.rounds=4 pruner.sparsity=null"
)
COMMAND = f"lth-run +experiment={REWOUND}{SHORT}"
START_COMMAND = f"{COMMAND} rewind.step=0it control=none name={START}"
POINT = 0.01


def _claims() -> tuple[Claim, ...]:
    run = {"run": (REWOUND, None)}
    claims = []
    for kept in (0.512**2, 0.512**4):
        words = f"at {100 * kept:.3g} %"
        claims += [
            Claim(f"vit-match-{words[3:-2]}", f"ticket, {words}", "none by the usual method",
                  "less than 1 point below dense", COMMAND, run,
                  AgainstDense(kept, worse=False, margin=POINT)),
            *(Claim(f"vit-{arm}-{words[3:-2]}", f"ticket less {said}, {words}",
                    "no better (new weights)" if arm == "reinit" else "not told",
                    "difference above 0", COMMAND, run, Loses(kept, arm, 0.0))
              for arm, said in (("reinit", "its mask over new weights"),
                                ("shuffle", "its mask shuffled within layers"),
                                ("random", "a random mask"))),
        ]  # fmt: skip
    kept = 0.512**4
    claims.append(
        Claim("vit-rewind", f"rewound to step 39 of 780 less rewound to the start, at "
              f"{100 * kept:.3g} %", "not told", "difference above 0",
              f"{COMMAND}, then {START_COMMAND}",
              {"first": (REWOUND, None), "second": (START, None)}, Apart(kept, 0.0))
    )  # fmt: skip
    return tuple(claims)


VIT = {
    "A vision transformer": Group(
        f"{SHEN}, of DeiT and Swin transformers on ImageNet. Here four blocks of width 64 on "
        "patches of 8x8, 10,000 images of CIFAR-10 (JPEG), ten epochs.",
        _claims(),
        found="Tickets are six points above the dense network, which ten epochs leave far from "
        "trained: what their masks and weights bring is a head start. Whether it lasts in a whole "
        "training was not measured.",
    )
}
