"""Remarks on a run's verdict: how sure it is, what it does not say, what else is known."""

from __future__ import annotations

from collections import Counter

from lth_runner.runs.evidence.rows import TICKET
from lth_runner.runs.evidence.verdict import Level, Verdict
from lth_runner.runs.pages import wording as say


def decimals(verdict: Verdict) -> int | None:
    """Counts the decimals of a sentence: a tolerance below half a point needs a second."""
    if verdict.measure.unit != "%":
        return None
    return 1 if verdict.tolerance >= 0.005 else 2


def doubts(verdict: Verdict, best: Level) -> list[str]:
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


def beyond(verdict: Verdict) -> list[str]:
    """Says which tickets are shown to match, or not refuted, by themselves alone."""
    parts = []
    for word in ("shown", "undecided"):
        at = [say.removed(level.density) for level in verdict.of(TICKET)
              if level.matches == word and not verdict.counts(level)]  # fmt: skip
        if at:
            parts.append(f"{word} at {say.ends(at)}")
    if not parts:
        return []
    return [f"By themselves, and not counted as what is denser breaks the row: {'; '.join(parts)}."]


def unknown_spread(verdict: Verdict) -> list[str]:
    """Says where nothing tells how much seeds differ."""
    pair = verdict.without_spread
    return [] if pair is None else [f"No match is shown: {say.unknown_spread(pair)}."]


def of_these_alone(verdict: Verdict) -> list[str]:
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


def separation(verdict: Verdict, best: Level) -> list[str]:
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
    ("undecided", True): "Worse than the ticket there, but not shown to be below dense: {}.",
    ("undecided", False): _NOT_SEPARATED,
    ("shown", True): "Matching there too, though the ticket is better: {}.",
    ("shown", False): _NOT_SEPARATED,
}


def closest(verdict: Verdict) -> str:
    """Names the ticket of the best mean; empty where none has a value."""
    known = [(x.against_dense, x) for x in verdict.of(TICKET) if x.against_dense is not None]
    if not known:
        return ""
    pair, best = max(known, key=lambda one: one[0].difference)
    return (
        f"the closest, at sparsity {say.removed(best.density)}, reaches "
        f"{say.reached(verdict.measure, best, decimals(verdict))}, a difference of "
        f"{say.gain(verdict.measure, pair)}"
    )


def controls_alone(verdict: Verdict) -> list[str]:
    """Says whether controls match where no ticket does."""
    found = [
        f"{say.arm_words(arm)} at sparsity {say.removed(level.density)}"
        for arm in verdict.controls
        if (level := verdict.shown(arm)) is not None
    ]
    if found:
        return [f"Without a ticket that matches, a control is shown to: {say.joined(found)}."]
    return ["No control is shown to match either."] if verdict.controls else []


def diverged(verdict: Verdict) -> tuple[str, ...]:
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
