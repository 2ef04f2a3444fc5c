"""Sanity checks of a pruner: its ticket beside the controls that take parts of it away.

Frankle et al., "Pruning Neural Networks at Initialization: Why Are We Missing the Mark?", ICLR
2021, arXiv 2009.08576; Su et al., "Sanity-Checking Pruning Methods", NeurIPS 2020, arXiv
2009.11094.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from lth_runner.runs.report.page import Section, Table
from lth_runner.runs.report.rows import TICKET, FinishedRun
from lth_runner.runs.report.verdict import ROUNDING, Level, Paired, Verdict
from lth_runner.runs.report.wording import (
    amount,
    difference_unit,
    gain,
    joined,
    label,
    reached,
    removed,
)
from lth_runner.values.measure import Measure

HINT = "By how much the ticket is better than controls that each take a part of it away."
FINE_PRINT = (
    "Paired by seed; brackets: 95 % t interval, of each line alone (not corrected for their "
    "number). 'No larger than': the interval's upper "
    "end is within the tolerance ('none, shown'). 'Not seen', a mean within the tolerance, is no "
    "proof that there is none; a larger one with zero in its interval is undecided, and so is one "
    "within the tolerance that all seeds agree on to the digit: that makes no interval."
)


@dataclass(frozen=True)
class Words:
    """How sentences name what a control takes away: 'snip: <does> costs 0.1 points'."""

    does: str
    matters: str  # where it costs
    nothing: str  # where no cost was seen


WORDS: Mapping[str, Words] = MappingProxyType(
    {
        "shuffle": Words(
            "shuffling its masks within layers",
            "its masks carry information beyond the layer densities",
            "no information beyond the layer densities",
        ),
        "reinit": Words(
            "drawing new weights under its masks",
            "its masks belong to the very weights that they were found with",
            "no dependence of its masks on the weights that they were found with",
        ),
        "invert": Words(
            "turning its scores round",
            "the order of its scores matters",
            "no information in the order of its scores",
        ),
        "random_data": Words(
            "deciding by corrupted data",
            "what it reads from the data matters",
            "no use of what it reads from the data",
        ),
    }
)


@dataclass(frozen=True)
class Check:
    """One control in one round of one run; `does` says what it takes away.

    `cost` is by how much the ticket is better than the control, paired by seed. `density` is the
    ticket's; the control's, `level.density`, is another where how many weights stay is decided
    too. `same`: the control is the ticket itself.
    """

    measure: Measure
    pruner: str
    control: str
    does: str
    level: Level
    density: float
    cost: Paired
    tolerance: float
    same: bool
    ticket_at_chance: bool
    num_diverged: int

    @property
    def mark(self) -> str:
        """Writes the finding in a word or two."""
        low, high = self.cost.low, self.cost.high
        if self.same:
            return "the ticket itself"
        if self.ticket_at_chance and self.level.at_chance:
            return "at chance"
        if low is None or high is None:
            return "one replicate"
        if not self.cost.is_told(self.tolerance):
            return "undecided" if abs(low) > ROUNDING else "not seen"
        if low > ROUNDING:
            return "matters"
        if high < -ROUNDING:
            return "control is better"
        if high <= self.tolerance + ROUNDING:
            return "none, shown"
        return "not seen" if abs(self.cost.difference) <= self.tolerance else "undecided"

    @property
    def sentence(self) -> str:
        """Writes the finding in full, with its interval and the number of seeds."""
        words = WORDS[self.control]
        where = f"at {self.sparsity} sparsity"
        opening = f"{self.pruner}: {self.does}"
        if self.same:
            return (
                f"{opening} gives the ticket itself {where}: what is decided before its training "
                "does not depend on it."
            )
        costs, what = f"{opening} {self._costs} {where}", label(self.measure)
        findings = {
            "at chance": f"{what} is at chance level: nothing can be concluded",
            "one replicate": "one replicate: nothing can be said",
            "matters": words.matters,
            "control is better": f"{words.nothing} was seen, the control is better",
            "none, shown": (
                f"{words.nothing} was seen, and a cost is shown to be no larger than "
                f"{amount(self.measure, self.tolerance)}"
            ),
            "not seen": f"{words.nothing} was seen, but {self._open}",
            "undecided": f"undecided, {self._open}; more seeds would tell",
        }
        text = f"{costs}: {findings[self.mark]} (n = {self.cost.n})."
        if self.ticket_at_chance != self.level.at_chance:
            which = "ticket" if self.ticket_at_chance else "control"
            text += f" The {which}'s {what} is at chance level."
        if (other := removed(self.level.density)) != self.sparsity:
            text += f" The control's sparsity is {other}: that is part of the difference."
        if self.num_diverged:
            text += f" {self.num_diverged} diverged trainings are left out."
        return text

    @property
    def sparsity(self) -> str:
        """The ticket's, as it is told."""
        return removed(self.density)

    @property
    def _open(self) -> str:
        """Says what the interval leaves open."""
        low, high = self.cost.low, self.cost.high
        if low is None or high is None or self.cost.is_flat:
            return "equal differences of so few seeds make no interval"
        if self.measure.unit == "%" and high >= 1:
            return "the interval is too wide to exclude anything"
        return (
            f"a cost of up to {self._number(high)}{difference_unit(self.measure)} is not excluded"
        )

    @property
    def _costs(self) -> str:
        """Writes 'costs 4.2 ± 0.3 points', half the 95 % interval behind the sign."""
        size, high = self.cost.difference, self.cost.high
        half = "" if high is None else f" ± {self._number(high - size)}"
        verb = "costs" if size >= 0 else "gains"
        return f"{verb} {self._number(abs(size))}{half}{difference_unit(self.measure)}"

    def _number(self, value: float) -> str:
        scaled = self.measure.scale * value
        return f"{scaled:.1f}" if self.measure.unit == "%" else f"{scaled:.3g}"


def checks(run: FinishedRun, verdict: Verdict, *, pruner: str = "") -> tuple[Check, ...]:
    """Makes every sanity check that the run has, by control and growing sparsity."""
    found = []
    for control in (name for name in WORDS if name in verdict.controls):
        for level in verdict.of(control):
            ticket = verdict.at(TICKET, level.round)
            if level.ticket_lead is None or ticket is None:
                continue
            found.append(
                Check(
                    measure=verdict.measure,
                    pruner=pruner or run.pruner,
                    control=control,
                    does=_does(run, control),
                    level=level,
                    density=ticket.density,
                    cost=level.ticket_lead,
                    tolerance=verdict.tolerance,
                    same=_same(run, control, level.round),
                    ticket_at_chance=ticket.at_chance,
                    num_diverged=level.num_diverged + ticket.num_diverged,
                )
            )
    return tuple(found)


def _does(run: FinishedRun, control: str) -> str:
    """Says what a control takes away; of corrupted data what was corrupted, if it is told."""
    corrupt = run.option("control", control, "corrupt") or "data"
    return WORDS[control].does.replace("corrupted data", f"corrupted {corrupt}")


def _same(run: FinishedRun, control: str, round: int) -> bool:
    """Returns whether the control's trainings are the ticket's: the same names in the Store."""
    names = [
        {row["seed"]: row.get("training_key") for row in run.at(arm, round)}
        for arm in (TICKET, control)
    ]
    return names[0] == names[1] and None not in names[0].values()


def sentences(found: Sequence[Check]) -> list[str]:
    """Says of each control the sparsest finding in full, and at how many sparsities it cost."""
    told = []
    for control in dict.fromkeys(check.control for check in found):
        own = [check for check in found if check.control == control]
        telling = [check for check in own if check.mark != "at chance"]
        text = (telling or own)[-1].sentence
        if telling and telling[-1] is not own[-1]:
            text += (
                f" At {own[-1].sparsity} both are at chance level: nothing can be concluded there."
            )
        told.append(f"{text}{_elsewhere(own)}")
    return told


def _elsewhere(own: Sequence[Check]) -> str:
    """Says at which of several sparsities a control costs."""
    costly = [check for check in own if check.mark == "matters"]
    if len(own) < 2 or own[-1].cost.low is None:
        return ""
    if not costly:
        return f" A cost was seen at none of {len(own)} sparsities."
    at = [check.sparsity for check in costly]
    listed = joined(at) if len(at) <= 4 else f"{at[0]} to {at[-1]}"
    return f" A cost was seen at {len(costly)} of {len(own)} sparsities ({listed})."


def sanity_section(found: Sequence[Check]) -> Section:
    """Writes the checks in a sentence for each control, and a line for each of them."""
    pruners = dict.fromkeys(check.pruner for check in found)
    told = [text for name in pruners for text in sentences([x for x in found if x.pruner == name])]
    header = ["pruner", "control", "sparsity", "control reaches", "cost", "n", "finding"]
    body = [
        [one.pruner, one.control, one.sparsity, reached(one.measure, one.level),
         gain(one.measure, one.cost), str(one.cost.n), one.mark]
        for one in found
    ]  # fmt: skip
    return Section("Sanity checks", HINT, notes=tuple(told), tables=(Table(header, body),),
                   fine_print=FINE_PRINT)  # fmt: skip
