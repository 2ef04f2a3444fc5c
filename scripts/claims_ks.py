"""What the paper says of KS-Lottery, and its replication, held against a small run here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from claim import Claim, Group
from evidence import hardware
from measures import Found, above, change, level, within

from lth_runner.runs.evidence.estimate import sample, two_sample
from lth_runner.runs.evidence.rows import TICKET, FinishedRun

YUAN = "Yuan et al., NAACL 2025, arXiv:2402.02801"
RUN, START = "cipher_ks_lottery", "cipher_pretraining"
COMMAND = (
    "lth-run +experiment=cipher_pretraining, then lth-run +experiment=cipher_ks_lottery "
    "origin.run=outputs/cipher_pretraining"
)
EXACT, FIRST_LINE = "generated_exact", "generated_first_line"
NEAR = 0.05  # of all answers


@dataclass(frozen=True)
class RowsLess:
    """Answers written exactly: of the rows that moved most, less those of another arm."""

    arm: str
    round: int = 1
    limit: float = 0.0
    of: str = EXACT

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        run, cells = runs["run"], ((TICKET, 1), (self.arm, self.round))
        ours, theirs = (run.values(*cell, self.of) for cell in cells)
        if not ours or not theirs:
            return None
        # by hand: the headline, perplexity, is better where lower, and this where it is higher
        apart = two_sample(*(sample(list(values.values())) for values in (ours, theirs)))
        text = f"{level(ours)} against {level(theirs)}: {change(apart)}"
        return above(text, apart, self.limit)


@dataclass(frozen=True)
class LessFull:
    """Answers written exactly: of the rows that moved most, less those of full fine-tuning."""

    limit: float = 0.0
    of: str = EXACT

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        ours = runs["run"].values(TICKET, 1, self.of)
        theirs = runs["full"].values(TICKET, 0, self.of)
        # of one pretrained start: one machine draws and trains it to the same bits
        if not ours or not theirs or hardware(runs["run"]) != hardware(runs["full"]):
            return None
        apart = two_sample(*(sample(list(values.values())) for values in (ours, theirs)))
        return above(f"{level(ours)} against {level(theirs)}: {change(apart)}", apart, self.limit)


@dataclass(frozen=True)
class Stopping:
    """First lines that are right before any tuning, less answers written exactly after it."""

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        run = runs["run"]
        before = run.values(TICKET, 0, f"before_{FIRST_LINE}")
        after = run.values(TICKET, 0, EXACT)
        if not before or not after:
            return None
        apart = two_sample(*(sample(list(values.values())) for values in (before, after)))
        return within(f"{level(before)} against {level(after)}: {change(apart)}", apart, NEAR)


def _claim(name: str, text: str, published: str, rule: str, measure: RowsLess | Stopping) -> Claim:
    runs = {"start": (START, None), "run": (RUN, None)}
    return Claim(f"ks-{name}", text, published, rule, COMMAND, runs, measure)


FULL = Claim(
    "ks-full",
    "the 18 rows that moved most less full fine-tuning",
    "about equal",
    "less than 5 points below",
    f"{COMMAND}, then lth-run +experiment=cipher_full origin.run=outputs/cipher_pretraining",
    {"start": (START, None), "run": (RUN, None), "full": ("cipher_full", None)},
    LessFull(limit=-NEAR),
)

KS_CLAIMS = {
    "KS-Lottery": Group(
        f"{YUAN}: 18 of 32,000 rows of LLaMA-7B's embedding, translation. Here 18 of 30 rows of a "
        "small language model that knows a cipher and must learn to give its answer alone: share "
        "of 200 answers written exactly, in %.",
        (
            _claim("embed", "the 18 rows that moved most less the whole embedding", "about equal",
                   "less than 5 points below", RowsLess(TICKET, round=0, limit=-NEAR)),
            FULL,
            _claim("random", "the 18 rows that moved most less 18 drawn at random", "above 0",
                   "difference above 0", RowsLess("random_rows")),
            _claim("lowest", "the 18 rows that moved most less the 18 that moved least", "above 0",
                   "difference above 0", RowsLess("lowest_rows")),
            _claim("frequent", "the 18 rows that moved most less the 18 most frequent", "above 0",
                   "difference above 0", RowsLess("frequent_rows")),
            _claim("stopping", "first lines right before any tuning less answers exact after "
                   "tuning the embedding: what is learned is to stop", "94 % of the gain",
                   "within 5 points", Stopping()),
        ),
        "All of these tunings are of one pretrained start; of that which another machine has "
        "trained, the 18 rows reach 62 %. Seeds do not tell how starts differ.",
    ),
}  # fmt: skip
