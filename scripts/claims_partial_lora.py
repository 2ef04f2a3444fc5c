"""What the paper says of parts of low-rank adapters, held against small runs here.

Written before any of the runs was made that they speak of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from claim import Claim, Group
from measures import Found, compared, held, ruled

from lth_runner.runs.evidence.judge import level_at
from lth_runner.runs.evidence.rows import TICKET, FinishedRun

DAMIRCHI = "Damirchi et al., arXiv:2512.22495"
STUDY = "partial_lora"
TASKS = {"sst2": "SST-2", "trec": "TREC"}
POINT = 0.01  # accuracy
RANK = 8
SHORT, LONG = "60it", "300it"
LONGER = "train.length=300it train.eval_every=300it train.optimizer.lr=5e-4 replicates=5"


@dataclass(frozen=True)
class Derived:
    """The ticket of derived densities less the dense adapter, or less an arm beside it."""

    dataset: str
    arm: str | None
    length: str  # of a training: short and long runs have the same name

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        run = runs["run"]
        asked = (run.option("pruner", "ratios"), run.option("coordinates", "rank"))
        if run.option("dataset", "name") != self.dataset or asked != ("derived", RANK):
            return None
        if run.option("train", "length") != self.length:
            return None
        first, at = run.dense_round, max(run.rounds(TICKET), default=None)
        if first is None or at is None or at == first:
            return None
        than = (TICKET, first) if self.arm is None else (self.arm, at)
        found = compared(run, (TICKET, at), than)
        if found is None:
            return None
        text, difference = found
        levels = level_at(run, TICKET, at), level_at(run, *than)
        return ruled(text, held(*levels, difference), -POINT, as_good=True)


def _claims(prefix: str, command: str, length: str) -> tuple[Claim, ...]:
    told = {
        "dense": (None, "derived densities less the dense adapter", "no loss"),
        "targeted": ("targeted", "random rows and columns less those of the top singular "
                     "directions", "which entries does not matter"),
        "shuffled": ("shuffled_ratios", "derived densities less the same shuffled between layers",
                     "how many per layer matters"),
    }  # fmt: skip
    return tuple(
        Claim(f"{prefix}-{name}-{task}", f"{words}: {text}", published,
              f"less than {100 * POINT:g} point below", command,
              {"run": (STUDY, "partial_lora")}, Derived(task, arm, length))
        for task, words in TASKS.items() for name, (arm, text, published) in told.items()
    )  # fmt: skip


PARTIAL_LORA = {
    "Parts of low-rank adapters": Group(
        f"{DAMIRCHI}: DeBERTa-v3-base and CLIP's ViT, up to 87 % fewer trained entries. Here "
        "all-MiniLM-L6-v2 (22.7 M), rank 8 on all of its matrices, 60 steps; how densities are "
        "derived is a reading of the paper. The third row is one-sided: not worse than shuffled.",
        _claims("partial-lora", f"lth-run +study={STUDY}", SHORT),
    ),
    "Parts of low-rank adapters, in longer trainings": Group(
        f"{DAMIRCHI}. As above, in five times as many steps at a quarter of the learning rate, "
        "chosen on a seed that is not among these; written before its runs.",
        _claims("partial-lora-long", f"lth-run +study={STUDY} {LONGER}", LONG),
    ),
}
