"""What the papers say of tickets of pretrained language models."""

from __future__ import annotations

from claim import Claim, Group
from measures import AgainstDense, Control, Gap
from one_task import BestSource, NoBetter, On, Universal, numbered

RENDA = "Renda, Frankle & Carbin, ICLR 2020, arXiv:2003.02389"
CHEN_2020 = "Chen et al., NeurIPS 2020, arXiv:2007.12223"
TICKETS, TRANSFER, FIVE = "minilm_tickets", "minilm_transfer", "bert_transfer"
REWINDING = "minilm_rewinding"
TICKETS_COMMAND = f"lth-run +study={TICKETS}"
FOUND, GIVEN = (TICKETS, "imp_linear"), (TICKETS, "given")
TASKS = {"sst2": "SST-2", "trec": "TREC"}
POINT = 0.01  # accuracy
WIDE = 0.2  # the pretrained start is to be ahead by more than half of it


def _start() -> tuple[Claim, ...]:
    start = (TICKETS, "magnitude_at_init")
    return tuple(
        Claim(f"minilm-start-{task}", f"{words}, dense: the pretrained start less a random one",
              "far above 0", f"more than {50 * WIDE:g} points", TICKETS_COMMAND,
              {"first": FOUND, "second": start},
              On(task, Gap(WIDE, 1.0), drawn=frozenset({"second"})))
        for task, words in TASKS.items()
    )  # fmt: skip


def _matching() -> tuple[Claim, ...]:
    return tuple(
        Claim(f"minilm-match-{task}-{removed}", f"{words}: ticket of {removed} % sparsity",
              "matches dense, at 40 to 90 % by task",
              f"less than {100 * POINT:g} point below dense", TICKETS_COMMAND, {"run": FOUND},
              On(task, AgainstDense(1 - removed / 100, worse=False, margin=POINT)))
        for task, words in TASKS.items() for removed in (40, 50, 60, 70)
    )  # fmt: skip


def _controls() -> tuple[Claim, ...]:
    told = {
        ("random", 60): "a random mask",
        ("random", 70): "a random mask",
        ("reinit", 70): "its mask over random weights",
        ("shuffle_weights", 70): "its pretrained weights shuffled within each matrix",
        ("shuffle_layers", 70): "its pretrained layers shuffled",
    }
    return tuple(
        Claim(f"minilm-{arm}-{task}-{removed}", f"{words} at {removed} %: {what}",
              "below the ticket", "difference below 0", TICKETS_COMMAND, {"run": GIVEN},
              On(task, Control(1 - removed / 100, arm, drops=True)))
        for task, words in TASKS.items() for (arm, removed), what in told.items()
    )  # fmt: skip


def _rewinding() -> Claim:
    return Claim(
        "minilm-rewinding", "TREC at 70 %: rewound to 10 % of the training less the ticket",
        "does not help", f"less than {100 * POINT:g} point above", TICKETS_COMMAND,
        {"first": FOUND, "second": FOUND}, On("trec", NoBetter(0.3, POINT), steps={"first": 4}),
    )  # fmt: skip


def _learning_rate() -> Claim:
    run = (REWINDING, "imp_linear")
    return Claim(
        "minilm-learning-rate",
        "TREC at 70 %: the ticket, from the pretrained weights, less learning-rate rewinding",
        "no better", f"less than {100 * POINT:g} point above", f"lth-run +study={REWINDING}",
        {"first": run, "second": run},
        On("trec", NoBetter(0.3, POINT), keeps=frozenset({"second"})),
    )  # fmt: skip


def _transfer(study: str, num_targets: int) -> tuple[Claim, ...]:
    every, of = numbered([(study, "given"), (study, "imp_linear")]), f"lth-run +study={study}"
    name = study.replace("_", "-")
    return (
        Claim(f"{name}-best", "tickets of masked tokens less those of other tasks, mean",
              "the best source", "mean over the targets above 0", of, every,
              BestSource("mlm", 0.3, num_targets), together=True),
        Claim(f"{name}-universal", "tickets of masked tokens, on every target",
              "match dense at 70 %", f"less than {100 * POINT:g} point below dense, on all",
              of, every, Universal("mlm", 0.3, num_targets, POINT), together=True),
    )  # fmt: skip


PRETRAINED = {
    "Tickets at a pretrained start": Group(
        f"{CHEN_2020}: BERT-base on GLUE and SQuAD, whole epochs. Here all-MiniLM-L6-v2 on SST-2 "
        "and TREC in 40 steps of 16 sentences; the first two rows say whether the pretrained "
        "start matters at all in these.",
        (*_start(), *_matching(), *_controls(), _rewinding()),
    ),
    "Learning-rate rewinding at a pretrained start": Group(
        f"{RENDA}: ResNets, and a translator. Here all-MiniLM-L6-v2, as above: a round goes on "
        "from the trained weights, so that the last one has had eight trainings; decided before "
        "the run.",
        (_learning_rate(),),
    ),
    "Tickets of a pretrained network carried from task to task": Group(
        f"{CHEN_2020}. Here masked tokens of the manual that Python brings, SST-2 and TREC; all "
        "tickets keep 30 % of the encoder. The first row has one training of each pair; the "
        "second one ticket, as published, in three trainings on each target.",
        _transfer(TRANSFER, 2),
    ),
    "Tickets of a pretrained network carried between five tasks": Group(
        f"{CHEN_2020}. As above, with MR, SUBJ and CR.",
        _transfer(FIVE, 5),
    ),
}
