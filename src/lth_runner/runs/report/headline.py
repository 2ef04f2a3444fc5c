"""The headline of a run: one number, one sentence of verdict, and remarks on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from lth_runner.runs.evidence.means import FIRST_ROUND
from lth_runner.runs.evidence.rows import TICKET
from lth_runner.runs.evidence.verdict import Level, Verdict, num_judged, sparsest_of
from lth_runner.runs.report import wording as say
from lth_runner.values.measure import Measure


@dataclass(frozen=True)
class Headline:
    """A number with what it counts, the verdict in a sentence, and the remarks on it."""

    number: str
    about: str
    sentence: str
    remarks: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Writes sentence and remarks, as a console prints them."""
        return " ".join([self.sentence, *self.remarks])


def headline(verdict: Verdict) -> Headline:
    """Says how sparse a ticket matches, and whether its controls do as well."""
    dense, tickets, measure = verdict.dense, verdict.of(TICKET), verdict.measure
    what = say.label(measure)
    if dense is None and not tickets:
        return Headline("–", "", "No training has finished yet.")
    if dense is None and verdict.at(TICKET, FIRST_ROUND) is not None:
        return _without_dense(verdict)
    if dense is not None and dense.mean is None and dense.num_diverged:
        told = (
            f"The dense network diverged in all of {dense.num_diverged} replicates: its loss "
            "became NaN or infinite, and there is nothing to match."
        )
        return Headline("diverged", "is the dense network", told)
    if dense is None or dense.mean is None:
        told = f"No dense network (round 0) with a test {what}: there is nothing to match."
        return Headline("–", "", told)
    reached = say.reached(measure, dense, _decimals(verdict))
    number, level = alone(measure, dense, _decimals(verdict)), f"{reached}, n = {dense.n}"
    about = f"test {what} of the dense network"
    if not tickets:
        return Headline(number, about, f"Only the dense network has finished ({level}).")
    if verdict.at_chance:
        return Headline(number, about, at_chance(what, level), _diverged(verdict))
    shown, possible = verdict.shown(), verdict.possible()
    if possible is None:  # the densest is refuted
        return _none(verdict, level)
    if verdict.without_spread is not None:
        return _by_mean(verdict, reached, possible)
    best = shown or possible
    number, of = say.gone(verdict, best.density)
    ours = say.reached(measure, best, _decimals(verdict), unit=False)
    told = f"{ours} against {reached} {what}, n = {best.n}"
    if shown is None:
        about = f"{of} removed, and whether the ticket matches is undecided"
        sentence = (
            f"No ticket is shown to match the dense network, and up to {number} {of} removed none "
            f"is refuted: {told}."
        )
    else:
        about = f"{of} removed, and the ticket is shown to match"
        sentence = (
            f"A ticket with {number} {of} removed is shown to match the dense network: {told}."
        )
    remarks = (*_doubts(verdict, best), *_beyond(verdict), *_here(verdict),
               *_separation(verdict, best), *_diverged(verdict))  # fmt: skip
    return Headline(number, about, sentence, remarks)


def _none(verdict: Verdict, dense: str) -> Headline:
    """Says that no ticket matches; where not all are refuted, that none is shown to."""
    words = [one.matches for one in verdict.of(TICKET) if one.matches is not None]
    remarks = (*_beyond(verdict), *_unknown_spread(verdict), *_here(verdict),
               *_controls_alone(verdict), *_diverged(verdict))  # fmt: skip
    if set(words) <= {"refuted"}:
        closest = _closest(verdict)
        told = f"No ticket matches the dense network ({dense}): {closest}."
        if not closest:
            what = say.label(verdict.measure)
            told = f"No ticket with a test {what} to compare with the dense network ({dense})."
        return Headline("none", "of the tickets matches", told, remarks)
    first = next(one for one in verdict.of(TICKET) if one.matches is not None)
    told = (
        f"No ticket is shown to match the dense network ({dense}): that of sparsity "
        f"{say.removed(first.density)} is refuted, and sparser ones count only in an unbroken row."
    )
    return Headline("none", "of the tickets is shown to match", told, remarks)


def _by_mean(verdict: Verdict, dense: str, possible: Level) -> Headline:
    """Says what there is to say where nothing tells how much seeds differ."""
    best, what = verdict.by_mean(), say.label(verdict.measure)
    remarks = (*_unknown_spread(verdict), *_beyond(verdict), *_diverged(verdict))
    end = say.removed(possible.density)
    if best is None:
        n = verdict.dense.n if verdict.dense else 0
        told = (
            f"No ticket is shown to match the dense network ({dense}, n = {n}) yet, and up to "
            f"sparsity {end} it is undecided: {_closest(verdict)}."
        )
        return Headline("none", f"of the tickets is shown to match; undecided to {end}", told,
                        remarks)  # fmt: skip
    number, of = say.gone(verdict, best.density)
    ours = say.reached(verdict.measure, best, _decimals(verdict), unit=False)
    sentence = (
        f"Whether a ticket matches is undecided up to sparsity {end}; up to {number} {of} removed "
        f"its {what} is within {say.amount(verdict.measure, verdict.tolerance)} of the dense "
        f"network's: {ours} against {dense}, n = {best.n}."
    )
    return Headline(number, f"{of} removed, within the tolerance, but not shown", sentence, remarks)


def _without_dense(verdict: Verdict) -> Headline:
    """Says how the last ticket and its controls do where the first training was sparse already."""
    last = verdict.of(TICKET)[-1]
    beaten = [
        say.arm_words(control)
        for control in verdict.controls
        if control in verdict.beaten(last.round)
    ]
    number, of = say.gone(verdict, last.density)
    chance = ", which is at chance level" if last.at_chance else ""
    sentence = (
        f"The ticket at sparsity {say.removed(last.density)} reaches "
        f"{say.reached(verdict.measure, last, _decimals(verdict))}, n = {last.n}{chance}."
    )
    remarks = ["No dense network was trained here: nothing says whether a ticket matches."]
    remarks += [f"It is better than {say.joined(beaten)}."] if beaten else []
    return Headline(number, f"{of} removed", sentence, tuple(remarks))


def at_chance(what: str, dense: str) -> str:
    """Says what there is to say where the dense network is hardly above guessing."""
    return (
        f"Nothing can be concluded: the {what} of the dense network ({dense}) is at chance "
        "level, so that a ticket which does as well shows nothing."
    )


def picked(verdicts: Mapping[str, Verdict], what: str) -> tuple[str, ...]:
    """Says what the sparsest shown match is with all runs counted in that it was picked from.

    Empty of one run; ``what``: what one of several is called, 'run'.
    """
    num = num_judged(verdicts.values())
    if num < 2 or sparsest_of(verdicts, among=1) is None:
        return ()
    best = sparsest_of(verdicts, among=num)
    told = "none is shown"
    if best is not None:
        told = f"it is {say.removed(best[1].density)}, of {best[0]}"
    return (
        f"It is picked from {num} {what}s, each wrong with a chance of 5 % of its own: with all "
        f"counted in (Bonferroni) {told}.",
    )


def alone(measure: Measure, level: Level, decimals: int | None = None) -> str:
    """Writes what a level reached without its spread: '98.0 %'."""
    number = say.reached(measure, level, decimals, unit=False).partition(" ±")[0]
    return f"{number} {measure.unit}".strip()


def _decimals(verdict: Verdict) -> int | None:
    """Counts the decimals of a sentence: a tolerance below half a point needs a second."""
    if verdict.measure.unit != "%":
        return None
    return 1 if verdict.tolerance >= 0.005 else 2


def _doubts(verdict: Verdict, best: Level) -> list[str]:
    """Says how sure that is, and what sparser tickets may do."""
    measure, against = verdict.measure, best.against_dense
    if against is None:
        return []
    deciding = say.deciding(against, -verdict.tolerance, verdict.sampled)
    told = [f"The difference is {say.gain(measure, against)}; {deciding}."]
    if against.error is not None:
        p = say.p_value(against.p_above(-verdict.tolerance))
        of = f"of a loss beyond {say.amount(measure, verdict.tolerance)}"
        told = [f"The difference is {say.gain(measure, against)}; {p} {of}."]
        told += [f"{say.capital(deciding)}."] if best.matches == "undecided" else []
    if best.matches == "undecided":
        return told
    shown, possible = verdict.shown(), verdict.possible()
    after = -1.0 if shown is None else shown.sparsity
    first = next((level for level in verdict.of(TICKET) if level.sparsity > after), None)
    if first is None or first.matches != "undecided" or first.against_dense is None:
        return told
    assert possible is not None
    opening = f"Sparser ones are undecided up to {say.removed(possible.density)}: at"
    if shown is None:  # the best is shown by itself, and a denser one is not
        opening = "The row of matches breaks at"
    where = "" if shown else ", where"
    return [
        *told,
        f"{opening} {say.removed(first.density)}{where} the difference is "
        f"{say.gain(measure, first.against_dense)}, and "
        f"{say.deciding(first.against_dense, -verdict.tolerance, verdict.sampled)}.",
    ]


def _beyond(verdict: Verdict) -> list[str]:
    """Says which tickets are shown to match, or not refuted, by themselves alone."""
    parts = []
    for word in ("shown", "undecided"):
        at = [say.removed(level.density) for level in verdict.of(TICKET)
              if level.matches == word and not verdict.counts(level)]  # fmt: skip
        if at:
            parts.append(f"{word} at {say.joined(at) if len(at) < 5 else f'{at[0]} to {at[-1]}'}")
    if not parts:
        return []
    return [f"By themselves, and not counted as what is denser breaks the row: {'; '.join(parts)}."]


def _unknown_spread(verdict: Verdict) -> list[str]:
    pair = verdict.without_spread
    return [] if pair is None else [f"No match is shown: {say.unknown_spread(pair)}."]


def _here(verdict: Verdict) -> list[str]:
    """Says what holds of these test samples alone, where that is another word."""
    alone, told = verdict.of_these_samples, []
    for name, ours, theirs in (
        ("shown match", verdict.shown(), alone.shown()),
        ("one not refuted", verdict.possible(), alone.possible()),
    ):
        if (ours and ours.round) != (theirs and theirs.round):
            told.append(f"the sparsest {name} is {say.match(verdict, theirs)}")
    if not told:
        return []
    return [f"Of these {verdict.num_samples} {verdict.sampled} alone, {say.joined(told)}."]


def _separation(verdict: Verdict, best: Level) -> list[str]:
    """Says whether the experiment tells the ticket from its controls where it matches."""
    if not verdict.controls and verdict.shown() is None:
        return []
    if not verdict.controls:
        return ["No control was run, so this does not show what makes the ticket match."]
    beaten = verdict.beaten(best.round)
    found: dict[str, list[str]] = {}
    for control in verdict.controls:
        level = verdict.at(control, best.round)
        text = "Not run there: {}."
        if level is not None and level.matches is not None:
            text = _SEPARATED[level.matches, control in beaten]
        found.setdefault(text, []).append(say.arm_words(control))
    at = say.removed(best.density)
    return [text.format(say.joined(names), at=at) for text, names in found.items()]


_NOT_SEPARATED = (
    "This experiment does not separate a winning ticket from {} at sparsity {at}: that the ticket "
    "is better is not shown."
)
_SEPARATED = {
    ("refuted", True): "Below dense there, and worse than the ticket: {}.",
    ("refuted", False): "Below dense there, though not shown to be worse than the ticket: {}.",
    ("undecided", True): "Worse than the ticket there, if not shown to be below dense: {}.",
    ("undecided", False): _NOT_SEPARATED,
    ("shown", True): "Matching there too, though the ticket is better: {}.",
    ("shown", False): _NOT_SEPARATED,
}


def _closest(verdict: Verdict) -> str:
    """Names the ticket of the best mean; empty where none has a value."""
    known = [(x.against_dense, x) for x in verdict.of(TICKET) if x.against_dense is not None]
    if not known:
        return ""
    pair, best = max(known, key=lambda one: one[0].difference)
    return (
        f"the closest, at sparsity {say.removed(best.density)}, reaches "
        f"{say.reached(verdict.measure, best, _decimals(verdict))}, a difference of "
        f"{say.gain(verdict.measure, pair)}"
    )


def _controls_alone(verdict: Verdict) -> list[str]:
    """Says whether controls match where no ticket does."""
    found = [
        f"{say.arm_words(arm)} at sparsity {say.removed(level.density)}"
        for arm in verdict.controls
        if (level := verdict.shown(arm)) is not None
    ]
    if found:
        return [f"Without a ticket that matches, a control is shown to: {say.joined(found)}."]
    return ["No control is shown to match either."] if verdict.controls else []


def _diverged(verdict: Verdict) -> tuple[str, ...]:
    """Says which trainings diverged."""
    counts: Counter[str] = Counter()
    for level in (*([verdict.dense] if verdict.dense else []), *verdict.levels):
        name = "the dense network" if level is verdict.dense else say.arm_words(level.arm)
        counts[name] += level.num_diverged
    parts = [f"{count} of {name}" for name, count in counts.items() if count]
    if not parts:
        return ()
    told = f"Trainings that diverged: {say.joined(parts)}; "
    return (f"{told}a round with one does not count as matching.",)
