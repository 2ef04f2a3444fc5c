"""Whether a ticket learns faster than the dense network, in words."""

from __future__ import annotations

from lth_runner.runs.evidence.learning import soonness
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.evidence.verdict import Verdict
from lth_runner.runs.pages import wording as say


def learning_sentence(run: FinishedRun, verdict: Verdict) -> str:
    """Says whether the sparsest matching ticket learns faster than the dense network; else empty.

    By the step of the lowest validation loss. Where that is a training's last step, the loss was
    still falling, and its step tells when the training ended.
    """
    found = soonness(run, verdict)
    if found is None:
        return ""
    pair = found.difference
    steps = say.with_interval(pair.difference, pair.bounds(), "+,.0f", " steps")
    where = (
        f"its lowest validation loss comes at step {found.ours:,.0f}, the dense network's at step "
        f"{found.theirs:,.0f} ({steps}, n = {pair.n})"
    )
    names = {"the ticket": found.ticket_falls, "the dense network": found.dense_falls}
    if still := [name for name, falls in names.items() if falls]:
        whose = f"at sparsity {say.removed(found.ticket.density)} the ticket's"
        return (
            f"Which learns faster these trainings do not tell: {where.replace('its', whose, 1)}, "
            f"and that of {say.joined(still)} was still falling when a training ended."
        )
    if pair.error is None:
        return f"Whether the ticket learns faster, these replicates cannot say: {where}."
    if found.is_sooner == "undecided":
        return f"That the ticket learns faster is not shown: {where}."
    return (
        f"The ticket learns {'faster' if found.is_sooner == 'shown' else 'more slowly'}: {where}."
    )
