"""Whether a ticket learns faster than the dense network."""

from __future__ import annotations

from lth_runner.runs.evidence.estimate import DIFFERENCE_LEVEL, decide, sample, two_sample
from lth_runner.runs.evidence.judge import Held, ruling
from lth_runner.runs.evidence.means import mean
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.verdict import Verdict
from lth_runner.runs.report import wording as say


def learning_sentence(run: FinishedRun, verdict: Verdict) -> str:
    """Says whether the sparsest matching ticket learns faster than the dense network; else empty.

    By the step of the lowest validation loss. Where that is a training's last step, the loss was
    still falling, and its step tells when the training ended.
    """
    best = verdict.marked()
    if best is None or run.dense_round is None:
        return ""
    rounds = (best.round, run.dense_round)
    ticket, dense = (run.values(TICKET, round, "best_val_step") for round in rounds)
    if not ticket or not dense:
        return ""
    pair = two_sample(*(sample(list(of.values())) for of in (ticket, dense)))
    if ruling(Held(best, verdict.dense, -pair), as_good=True) != "open":
        return ""  # of trainings that diverged, or learned nothing
    ours, theirs = (f"{mean(of.values()):,.0f}" for of in (ticket, dense))
    interval, bounds = "", pair.bounds()
    if bounds is not None:
        interval = " [{}, {}]".format(*(say.signed(end, ",.0f") for end in bounds))
    where = (
        f"its lowest validation loss comes at step {ours}, the dense network's at step {theirs} "
        f"({say.signed(pair.difference, ',.0f')} steps{interval}, n = {pair.n})"
    )
    whose = f"at sparsity {say.removed(best.density)} the ticket's"
    still = [name for name, round in zip(("the ticket", "the dense network"), rounds, strict=True)
             if _still_falls(run, round)]  # fmt: skip
    if still:
        where = where.replace("its", whose, 1)
        return (
            f"Which learns faster these trainings do not tell: {where}, and that of "
            f"{say.joined(still)} was still falling when a training ended."
        )
    if pair.error is None:
        return f"Whether the ticket learns faster, these replicates cannot say: {where}."
    word = decide(-pair, 0.0, DIFFERENCE_LEVEL)
    if word == "undecided":
        return f"That the ticket learns faster is not shown: {where}."
    return f"The ticket learns {'faster' if word == 'shown' else 'more slowly'}: {where}."


def _still_falls(run: FinishedRun, round: int) -> bool:
    """Returns whether a training's validation loss was lowest at its last step."""
    best, steps = (run.values(TICKET, round, field) for field in ("best_val_step", "steps"))
    starts = run.values(TICKET, round, "start_step")
    return any(
        seed in steps and step >= starts.get(seed, 0) + steps[seed] for seed, step in best.items()
    )
