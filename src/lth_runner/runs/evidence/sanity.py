"""Sanity checks of a pruner: its ticket beside the controls that take parts of it away.

Frankle et al., "Pruning Neural Networks at Initialization: Why Are We Missing the Mark?", ICLR
2021, arXiv 2009.08576; Su et al., "Sanity-Checking Pruning Methods", NeurIPS 2020, arXiv
2009.11094.
"""

from __future__ import annotations

from dataclasses import dataclass

from lth_runner.runs.evidence.estimate import DIFFERENCE_LEVEL, Estimate, decide
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.verdict import Level, Verdict
from lth_runner.values.measure import Measure

CONTROLS = ("shuffle", "reinit", "invert", "random_data")


@dataclass(frozen=True)
class Check:
    """One control beside the ticket of its round, in one run.

    Densities differ where the control decides how many weights stay too. `cost` is by how much the
    ticket is better. `same`: the control is the ticket itself. `corrupt`: what of
    the data was corrupted, if it was and is told.
    """

    measure: Measure
    tolerance: float
    pruner: str
    control: str
    ticket: Level
    level: Level
    cost: Estimate
    same: bool
    corrupt: str

    @property
    def num_diverged(self) -> int:
        """Diverged trainings of both."""
        return self.level.num_diverged + self.ticket.num_diverged

    @property
    def mark(self) -> str:
        """Writes the finding in a word or two."""
        if self.same:
            return "the ticket itself"
        if self.ticket.at_chance and self.level.at_chance:
            return "at chance"
        if self.cost.error is None:
            return "one replicate" if self.cost.n == 1 else "undecided"
        word = decide(self.cost, 0.0, DIFFERENCE_LEVEL)
        if word != "undecided":
            return "matters" if word == "shown" else "control is better"
        if decide(-self.cost, -self.tolerance) == "shown":
            return "none, shown"
        return "not seen" if abs(self.cost.difference) <= self.tolerance else "undecided"


def checks(run: FinishedRun, verdict: Verdict, *, pruner: str = "") -> tuple[Check, ...]:
    """Makes every sanity check that the run has, by control and growing sparsity."""
    return tuple(
        Check(
            measure=verdict.measure,
            tolerance=verdict.tolerance,
            pruner=pruner or run.pruner,
            control=control,
            ticket=ticket,
            level=level,
            cost=level.ticket_lead,
            same=_same(run, control, level.round),
            corrupt=str(run.option("control", control, "corrupt") or ""),
        )
        for control in CONTROLS
        for level in verdict.of(control)
        if level.ticket_lead is not None and (ticket := verdict.at(TICKET, level.round)) is not None
    )


def _same(run: FinishedRun, control: str, round: int) -> bool:
    """Returns whether the control's trainings are the ticket's: the same names in the Store."""
    ours, theirs = (
        {row["seed"]: row.get("training_key") for row in run.at(arm, round)}
        for arm in (TICKET, control)
    )
    return ours == theirs and None not in ours.values()
