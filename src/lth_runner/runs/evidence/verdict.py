"""What is said of a run's tickets: which match the dense network, and which beat their controls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lth_runner.runs.evidence.estimate import LEVEL, Estimate, Key, Word, decide
from lth_runner.runs.evidence.rows import TICKET
from lth_runner.values.measure import Measure


@dataclass(frozen=True)
class Level:
    """One arm in one round: the headline measure over its replicates, and how it compares.

    Differences are gains, positive where this arm (`ticket_lead`: the ticket of its round) is
    better. `matches`: whether it is shown to be worse than the dense network by less than the
    tolerance; refuted where a replicate diverged, None when it cannot be said, as where the dense
    network is at chance. `matches_here`: the same of these test samples alone. `ticket_is_better`:
    shown, Holm's correction over all controls and rounds of the run counted in; never where a
    replicate of the ticket diverged.
    """

    arm: str
    round: int
    density: float
    n: int
    mean: float | None
    std: float | None
    num_diverged: int
    at_chance: bool
    against_dense: Estimate | None = None
    matches: Word | None = None
    matches_here: Word | None = None
    within: bool | None = None
    ticket_lead: Estimate | None = None
    ticket_is_better: bool = False

    @property
    def sparsity(self) -> float:
        """The share of the prunable weights removed."""
        return 1.0 - self.density


@dataclass(frozen=True)
class Verdict:
    """Every (arm, round) beyond the dense one, judged by the headline measure.

    `tolerance` is in its units. `covered`: the share of all parameters that a mask covers, if
    known. `sampled` names the test samples, images for one; `are_drawn`: whether verdicts are asked
    to hold for others too, `num_kept`: of how many outcomes were kept.
    """

    measure: Measure
    tolerance: float
    dense: Level | None
    controls: tuple[str, ...]
    levels: tuple[Level, ...]
    covered: float | None = None
    is_paired: bool = False
    sampled: str = "samples"
    are_drawn: bool = True
    num_kept: int = 0

    @property
    def num_samples(self) -> int:
        """How many test samples are counted as drawn; 0 where none are, or none were kept."""
        compared = (x.against_dense or x.ticket_lead for x in self.levels)
        return next((one.samples.num for one in compared if one and one.samples), 0)

    @property
    def at_chance(self) -> bool:
        """Whether the dense network is at chance: to do as well as it shows nothing."""
        return self.dense is not None and self.dense.at_chance

    @property
    def without_spread(self) -> Estimate | None:
        """A ticket's difference where none tells how much seeds differ, so that none is decided."""
        compared = [x.against_dense for x in self.of(TICKET) if x.against_dense]
        if any(one.error is not None for one in compared):
            return None
        return max(compared, key=lambda one: one.n, default=None)

    @property
    def of_these_samples(self) -> Verdict:
        """The same with each match as it stands on these test samples alone."""
        levels = tuple(replace(level, matches=level.matches_here) for level in self.levels)
        return replace(self, levels=levels)

    def of(self, arm: str) -> tuple[Level, ...]:
        """Lists the levels of an arm by growing sparsity."""
        return tuple(sorted((x for x in self.levels if x.arm == arm), key=lambda x: x.sparsity))

    def at(self, arm: str, round: int) -> Level | None:
        """Finds the level of an arm in a round."""
        return next((x for x in self.levels if (x.arm, x.round) == (arm, round)), None)

    def last(self, arm: str = TICKET) -> Level | None:
        """Finds the sparsest level that has a value."""
        return next((x for x in reversed(self.of(arm)) if x.mean is not None), None)

    def beaten(self, round: int) -> tuple[str, ...]:
        """Lists the controls that the ticket is shown to be better than in a round."""
        found = [(arm, self.at(arm, round)) for arm in self.controls]
        return tuple(arm for arm, level in found if level and level.ticket_is_better)

    def shown(self, arm: str = TICKET, *, among: int = 1) -> Level | None:
        """Finds the sparsest level that is shown to match, as all before it are.

        From dense to sparse up to the first that is not: a fixed sequence of tests, whose end is
        beyond the truth with at most the chance that one test has. ``among``: how many such
        sequences the sparsest is picked from, all counted in (Bonferroni).
        """

        def holds(level: Level) -> bool:
            if level.matches != "shown" or among == 1:
                return level.matches == "shown"
            return decide(level.against_dense, -self.tolerance, LEVEL / among) == "shown"

        return _last_before(self.of(arm), holds)

    def possible(self, arm: str = TICKET) -> Level | None:
        """Finds the sparsest level before the first whose match is refuted."""
        known = [level for level in self.of(arm) if level.matches is not None]
        return _last_before(known, lambda level: level.matches != "refuted")

    def counts(self, level: Level) -> bool:
        """Returns whether a level's word counts, and is not out of the row from dense to sparse.

        A match that is shown, or not refuted, by itself does not where a denser one is not.
        """
        if level.matches in (None, "refuted"):
            return True
        end = self.shown(level.arm) if level.matches == "shown" else self.possible(level.arm)
        return end is not None and level.sparsity <= end.sparsity

    def by_mean(self, arm: str = TICKET) -> Level | None:
        """Finds the sparsest level before the first whose mean is beyond the tolerance."""
        known = [level for level in self.of(arm) if level.within is not None]
        return _last_before(known, lambda level: bool(level.within))

    def marked(self, arm: str = TICKET) -> Level | None:
        """Picks the level that a picture points out: shown, else not refuted, else by its mean."""
        by_mean = self.without_spread is not None
        return self.shown(arm) or (self.by_mean(arm) if by_mean else self.possible(arm))


def num_judged(verdicts: Iterable[Verdict]) -> int:
    """Counts the runs of whose tickets something can be said."""
    return sum(any(x.matches is not None for x in one.of(TICKET)) for one in verdicts)


def sparsest_of(verdicts: Mapping[Key, Verdict], *, among: int) -> tuple[Key, Level] | None:
    """Finds the sparsest ticket shown to match in any of several runs; None where none is.

    ``among``: how many runs it is picked from, all counted in; 1 counts each alone.
    """
    found = [(key, level) for key, verdict in verdicts.items()
             if (level := verdict.shown(among=among)) is not None]  # fmt: skip
    return max(found, key=lambda one: one[1].sparsity, default=None)


def _last_before(levels: Sequence[Level], holds: Callable[[Level], bool]) -> Level | None:
    found = None
    for level in levels:
        if not holds(level):
            break
        found = level
    return found
