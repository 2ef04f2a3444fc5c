"""What the paper says of lottery ticket adaptation, held against small runs here."""

from __future__ import annotations

from claim import Claim, Group
from forgotten import Retained
from measures import Control

PANDA = "Panda et al., 2024, arXiv:2406.16797"
RUN, STUDY = "minilm_lota", "forgetting"
COMMAND = f"lth-run +experiment={RUN} model.path=models/minilm"
FULL, LOTA, LOTTO = ("full", "full"), ("LoTA", "LoTA"), ("LoTA", "LoTTO")
LORA = ("LoRA", "LoRA")
FIVE_SEEDS = '\'study.seeds=["0","1","2","3","4"]\''


def _sparse() -> tuple[Claim, ...]:
    return tuple(
        Claim(f"lota-random-{100 * kept:g}",
              f"SST-2, {100 * kept:g} % of the matrices: a random mask less LoTA's",
              "below 0", "difference below 0", COMMAND, {"run": (RUN, None)},
              Control(kept, "random", drops=True))
        for kept in (0.1, 0.01)
    )  # fmt: skip


def _retained() -> tuple[Claim, ...]:
    compared = {
        "lota": (LOTA, FULL, "LoTA, then LoTA less full, then full"),
        "lotto": (LOTTO, FULL, "LoTA, then LoTTO less full, then full"),
        "apart": (LOTTO, LOTA, "LoTA, then LoTTO less LoTA, then LoTA"),
        "lora": (LOTA, LORA, "LoTA, then LoTA less LoRA, then LoRA"),
    }
    trec = f"lth-run +study={STUDY}"
    commands = {"trec": trec, "subj": f"{trec} study.second=subj"}
    more = {("trec", "lota"): f"{trec} {FIVE_SEEDS}"}
    return tuple(
        Claim(f"lota-retained-{name}{'' if second == 'trec' else f'-{second}'}",
              f"SST-2 after {second.upper()}: what is kept by {text}", "above 0",
              "difference above 0", more.get((second, name), command), {"run": (STUDY, None)},
              Retained("sst2", second, way, than), together=True)
        for second, command in commands.items()
        for name, (way, than, text) in compared.items()
    )  # fmt: skip


LOTA_CLAIMS = {
    "Lottery ticket adaptation": Group(
        f"{PANDA}: 7 and 8 B language models. Here all-MiniLM-L6-v2 (22.7 M), a tenth or a "
        "hundredth of its matrices, 60 steps on each task; full is all of the matrices. "
        "LoRA's rows, and two seeds of full, full and of LoTA, LoTA after TREC, were added when "
        "three seeds had decided nothing.",
        (*_sparse(), *_retained()),
        found="After TREC seeds hint at what is claimed. After SUBJ, sentences about films "
        "as SST-2 has, nothing is kept by any way: half of the answers are right by chance.",
    ),
}
