"""Sanity checks of a pruner: its ticket beside the controls that take parts of it away.

Frankle et al., "Pruning Neural Networks at Initialization: Why Are We Missing the Mark?", ICLR
2021, arXiv 2009.08576; Su et al., "Sanity-Checking Pruning Methods", NeurIPS 2020, arXiv
2009.11094.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lth_runner.runs.evidence.estimate import LEVEL, Estimate, Word
from lth_runner.runs.evidence.judge import Held, words
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.verdict import Level, Verdict
from lth_runner.values.measure import Measure

CONTROLS = ("shuffle", "reinit", "invert", "random_data")


@dataclass(frozen=True)
class Check:
    """One control beside the ticket of its round, in one run.

    Densities differ where the control decides how many weights stay too. `cost` is by how much the
    ticket is better; `word`: whether there is one, `num_compared` controls and rounds of the run
    counted in. `same`: the control is the ticket itself. `corrupt`: what of the data was corrupted,
    if it was and is told.
    """

    measure: Measure
    tolerance: float
    pruner: str
    control: str
    ticket: Level
    level: Level
    cost: Estimate
    word: Word
    num_compared: int
    same: bool
    corrupt: str

    @property
    def num_diverged(self) -> int:
        """Diverged trainings of both."""
        return self.level.num_diverged + self.ticket.num_diverged

    @property
    def at_chance(self) -> bool:
        """Whether neither is better than guessing, so that their difference says nothing."""
        return self.ticket.at_chance and self.level.at_chance

    @property
    def mark(self) -> str:
        """Writes the finding in a word or two."""
        if self.same:
            return "the ticket itself"
        return "at chance" if self.at_chance else self.word


def checks(run: FinishedRun, verdict: Verdict, *, pruner: str = "") -> tuple[Check, ...]:
    """Makes every sanity check that the run has, by control and growing sparsity.

    That a control costs is shown where the ticket is shown to be better in its verdict; it is
    refuted where the control is shown to be as good but for the tolerance, as a ticket is to the
    dense network: never where one of its trainings diverged, or the ticket is at chance. Holm's
    correction over these checks is counted in.
    """
    found = [
        Check(
            measure=verdict.measure,
            tolerance=verdict.tolerance,
            pruner=pruner or run.pruner,
            control=control,
            ticket=ticket,
            level=level,
            cost=level.ticket_lead,
            word="shown" if level.ticket_is_better else "undecided",
            num_compared=len([one for one in verdict.levels if one.ticket_lead is not None]),
            same=_same(run, control, level.round),
            corrupt=str(run.option("control", control, "corrupt") or ""),
        )
        for control in CONTROLS
        for level in verdict.of(control)
        if level.ticket_lead is not None and (ticket := verdict.at(TICKET, level.round)) is not None
    ]
    held = {place: Held(one.level, one.ticket, -one.cost) for place, one in enumerate(found)}
    as_good = words(held, -verdict.tolerance, LEVEL, as_good=True)
    return tuple(
        replace(one, word="refuted")
        if as_good.get(place) == "shown" and one.word == "undecided"
        else one
        for place, one in enumerate(found)
    )


def _same(run: FinishedRun, control: str, round: int) -> bool:
    """Returns whether the control's trainings are the ticket's: the same names in the Store."""
    ours, theirs = (
        {row["seed"]: row.get("training_key") for row in run.at(arm, round)}
        for arm in (TICKET, control)
    )
    return ours == theirs and None not in ours.values()
