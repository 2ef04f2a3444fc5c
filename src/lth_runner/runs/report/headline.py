"""The headline of a run: one number, one sentence of verdict, and remarks on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lth_runner.runs.evidence.means import FIRST_ROUND, mean
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.verdict import Level, Verdict, paired
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
    if dense is None or dense.mean is None:
        told = f"No dense network (round 0) with a test {what}: there is nothing to match."
        return Headline("–", "", told)
    reached = say.reached(measure, dense, _decimals(verdict))
    number, level = alone(measure, dense, _decimals(verdict)), f"{reached}, n = {dense.n}"
    about = f"test {what} of the dense network"
    if not tickets:
        return Headline(number, about, f"Only the dense network has finished so far ({level}).")
    if verdict.at_chance:
        return Headline(number, about, at_chance(what, level), _diverged(verdict))
    best = verdict.largest(TICKET)
    if best is None:
        remarks = (*_controls_alone(verdict), *_diverged(verdict))
        return Headline("none", "of the tickets matches", _none_matches(verdict, level), remarks)
    number, of = say.gone(verdict, best.density)
    ours = say.reached(measure, best, _decimals(verdict), unit=False)
    n = best.against_dense.n if best.against_dense else best.n
    sentence = (
        f"A ticket with {number} {of} removed matches the dense network: {ours} against "
        f"{reached} {what}, n = {n}."
    )
    remarks = (*_doubts(verdict, best), *_separation(verdict, best), *_diverged(verdict))
    return Headline(number, f"{of} removed, and the ticket matches", sentence, remarks)


def _without_dense(verdict: Verdict) -> Headline:
    """Says how the last ticket and its controls do where the first training was sparse already."""
    last = verdict.of(TICKET)[-1]
    beaten = [
        say.arm_words(control)
        for control in verdict.controls
        if (other := verdict.at(control, last.round)) is not None and other.ticket_is_better
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
    """Says how sure that is, and what lies before it."""
    told, against = [], best.against_dense
    if against is not None:
        excluded = "" if against.p is not None and against.p < 0.05 else " not"
        told.append(
            f"A loss beyond {say.amount(verdict.measure, verdict.tolerance)} is{excluded} excluded "
            f"({say.p_value(against)})."
        )
    if failed := verdict.failed_before(TICKET):
        sparsities = say.joined([say.removed(level.density) for level in failed])
        told.append(f"On the way it falls below at sparsity {sparsities}.")
    return told


def _separation(verdict: Verdict, best: Level) -> list[str]:
    """Says whether the experiment tells the ticket from its controls where it matches."""
    if not verdict.controls:
        return ["No control was run, so this does not show what makes the ticket match."]
    found: dict[tuple[bool | None, bool], list[str]] = {}
    for control in verdict.controls:
        level = verdict.at(control, best.round)
        key: tuple[bool | None, bool] = (None, False)
        if level is not None and level.matches is not None:
            key = (level.matches, level.ticket_is_better)
        found.setdefault(key, []).append(say.arm_words(control))
    texts = {
        (False, True): "Below dense there, and worse than the ticket: {}.",
        (False, False): "Below dense there, though not shown to be worse than the ticket: {}.",
        (True, True): "Matching there too, though the ticket is better: {}.",
        (True, False): "This experiment does not separate a winning ticket from {} at sparsity "
        f"{say.removed(best.density)}.",
        (None, False): "Not run there: {}.",
    }
    return [text.format(say.joined(found[key])) for key, text in texts.items() if key in found]


def _none_matches(verdict: Verdict, dense: str) -> str:
    measure = verdict.measure
    known = [(x.against_dense, x) for x in verdict.of(TICKET) if x.against_dense is not None]
    if not known:
        what = say.label(measure)
        return f"No ticket with a test {what} to compare with the dense network ({dense})."
    pair, best = max(known, key=lambda one: one[0].difference)
    return (
        f"No ticket matches the dense network ({dense}): the closest, at sparsity "
        f"{say.removed(best.density)}, reaches {say.reached(measure, best, _decimals(verdict))}, "
        f"a difference of {say.gain(measure, pair)}."
    )


def _controls_alone(verdict: Verdict) -> list[str]:
    """Says whether controls match where no ticket does."""
    found = [
        f"{say.arm_words(arm)} at sparsity {say.removed(level.density)}"
        for arm in verdict.controls
        if (level := verdict.largest(arm)) is not None
    ]
    if found:
        return [f"Without a matching ticket, a control still matches: {say.joined(found)}."]
    return ["No control matches either."] if verdict.controls else []


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


def learning_sentence(run: FinishedRun, verdict: Verdict) -> str:
    """Says whether the sparsest matching ticket learns faster than the dense network; else empty.

    By the step of the lowest validation loss, paired by seed, 95 % t interval.
    """
    best = verdict.largest(TICKET)
    if best is None or run.dense_round is None:
        return ""
    rounds = (best.round, run.dense_round)
    ticket, dense = (run.values(TICKET, round, "best_val_step") for round in rounds)
    pair = paired(ticket, dense)
    if pair is None:
        return ""
    seeds = ticket.keys() & dense.keys()
    ours, theirs = (f"{mean(of[seed] for seed in seeds):,.0f}" for of in (ticket, dense))
    interval = ""
    if pair.low is not None and pair.high is not None:
        interval = f" [{say.signed(pair.low, ',.0f')}, {say.signed(pair.high, ',.0f')}]"
    where = (
        f"its lowest validation loss comes at step {ours}, the dense network's at step {theirs} "
        f"({say.signed(pair.difference, ',.0f')} steps{interval}, n = {pair.n})"
    )
    if pair.low is None or pair.high is None:
        return f"Whether the ticket learns faster, one replicate cannot say: {where}."
    if pair.high < 0 and not pair.is_flat:
        return f"The ticket learns faster: {where}."
    if pair.low > 0 and not pair.is_flat:
        return f"The ticket learns more slowly: {where}."
    doubt = "equal differences make no interval" if pair.is_flat else "not clear of zero"
    return f"That the ticket learns faster is not shown: {where}, {doubt}."


def progress(run: FinishedRun) -> str:
    """Says what the reader must know of an unfinished run; empty when it is done."""
    if run.state == "done":
        return ""
    round, rounds = run.status.get("round"), run.status.get("rounds")
    where = f", round {round} of {rounds}" if round is not None and rounds is not None else ""
    text = f"This run is not finished (state: {run.state}{where}); shown is what it has so far."
    error = run.status.get("error")
    return f"{text} Its error: {error}" if error else text


def method(verdict: Verdict) -> str:
    """Says what 'matches', p and the intervals mean."""
    measure = verdict.measure
    sign = ">= dense -" if measure.better == "higher" else "<= dense +"
    return (
        f"'Matches': mean test {say.label(measure)} at the last step {sign} "
        f"{say.amount(measure, verdict.tolerance)}, seeds paired. p: one-sided paired t test of "
        "'worse by more than that', of this one round (not corrected for choosing among rounds). "
        "Brackets: 95 % t interval of the paired difference, positive where better."
    )
