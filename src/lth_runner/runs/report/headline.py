"""The headline of a run: one number, one sentence of verdict, and remarks on it."""

from __future__ import annotations

from dataclasses import dataclass

from lth_runner.runs.report.rows import FIRST_ROUND, TICKET, FinishedRun, mean
from lth_runner.runs.report.verdict import Level, Verdict, paired
from lth_runner.runs.report.wording import (
    amount,
    arm_words,
    doubt,
    gain,
    gone,
    joined,
    label,
    p_value,
    reached,
    removed,
    sparsities,
)


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
    what = label(measure)
    if dense is None and not tickets:
        return Headline("–", "", "No training has finished yet.")
    if dense is None and verdict.at(TICKET, FIRST_ROUND) is not None:
        return _without_dense(verdict)
    if dense is None or dense.mean is None:
        return Headline("–", "", f"No dense network (round 0) with a test {what}: there is nothing "
                        "to match.")  # fmt: skip
    decimals = sentence_decimals(verdict)
    level = f"{reached(measure, dense, decimals)}, n = {dense.n}"
    number = reached(measure, dense, decimals).split(" ±")[0]
    number = f"{number} {measure.unit}" if measure.unit and measure.unit not in number else number
    about = f"test {what} of the dense network"
    if not tickets:
        return Headline(number, about, f"Only the dense network has finished so far ({level}).")
    if verdict.at_chance:
        return Headline(number, about, at_chance(what, level), _diverged(verdict))
    best = verdict.largest(TICKET)
    if best is None:
        sentence, remarks = _none_matches(verdict, level), _controls_alone(verdict)
        return Headline("none", "of the tickets matches", sentence, remarks + _diverged(verdict))
    number, of = gone(verdict, best.density)
    return Headline(
        number, f"{of} removed, and the ticket matches", _matches(verdict, best, dense),
        (*_doubts(verdict, best), *_separation(verdict, best), *_diverged(verdict)),
    )  # fmt: skip


def _without_dense(verdict: Verdict) -> Headline:
    """Says how the last ticket and its controls do where the first training was sparse already."""
    last, measure = verdict.of(TICKET)[-1], verdict.measure
    level = reached(measure, last, sentence_decimals(verdict))
    beaten = [
        arm_words(control)
        for control in verdict.controls
        if (other := verdict.at(control, last.round)) is not None and other.ticket_is_better
    ]
    number, of = gone(verdict, last.density)
    chance = ", which is at chance level" if last.at_chance else ""
    sentence = (
        f"The ticket at sparsity {removed(last.density)} reaches {level}, n = {last.n}{chance}."
    )
    remarks = ["No dense network was trained here: nothing says whether a ticket matches."]
    remarks += [f"It is better than {joined(beaten)}."] if beaten else []
    return Headline(number, f"{of} removed", sentence, tuple(remarks))


def at_chance(what: str, dense: str) -> str:
    """Says what there is to say where the dense network is hardly above guessing."""
    return (
        f"Nothing can be concluded: the {what} of the dense network ({dense}) is at chance "
        "level, so that a ticket which does as well shows nothing."
    )


def sentence_decimals(verdict: Verdict) -> int | None:
    """Counts the decimals of a sentence: a tolerance below half a point needs a second."""
    if verdict.measure.unit != "%":
        return None
    return 1 if verdict.tolerance >= 0.005 else 2


def _matches(verdict: Verdict, best: Level, dense: Level) -> str:
    decimals, measure = sentence_decimals(verdict), verdict.measure
    number, of = gone(verdict, best.density)
    n = best.against_dense.n if best.against_dense else best.n
    ours = reached(measure, best, decimals, unit=False)
    return (
        f"A ticket with {number} {of} removed matches the dense network: {ours} against "
        f"{reached(measure, dense, decimals)} {label(measure)}, n = {n}."
    )


def _doubts(verdict: Verdict, best: Level) -> list[str]:
    """Says how sure that is, and what lies before it."""
    told, against = [], best.against_dense
    if against is not None:
        excluded = against.p is not None and against.p < 0.05
        told.append(
            f"A loss beyond {amount(verdict.measure, verdict.tolerance)} is"
            f"{'' if excluded else ' not'} excluded ({p_value(against)})."
        )
    if failed := verdict.failed_before(TICKET):
        told.append(f"On the way it falls below at sparsity {sparsities(failed)}.")
    return told


def _separation(verdict: Verdict, best: Level) -> list[str]:
    """Says whether the experiment tells the ticket from its controls where it matches."""
    if not verdict.controls:
        return ["No control was run, so this does not show what makes the ticket match."]
    found: dict[tuple[bool | None, bool], list[str]] = {}
    for control in verdict.controls:
        level = verdict.at(control, best.round)
        key = (level.matches, level.ticket_is_better) if level else (None, False)
        found.setdefault((None, False) if key[0] is None else key, []).append(arm_words(control))
    texts = {
        (False, True): "Below dense there, and worse than the ticket: {}.",
        (False, False): "Below dense there, though not shown to be worse than the ticket: {}.",
        (True, True): "Matching there too, though the ticket is better: {}.",
        (True, False): "This experiment does not separate a winning ticket from {} at sparsity "
        f"{removed(best.density)}.",
        (None, False): "Not run there: {}.",
    }
    return [text.format(joined(found[key])) for key, text in texts.items() if key in found]


def _none_matches(verdict: Verdict, dense: str) -> str:
    measure = verdict.measure
    known = [(x.against_dense, x) for x in verdict.of(TICKET) if x.against_dense is not None]
    if not known:
        return (
            f"No ticket with a test {label(measure)} to compare with the dense network ({dense})."
        )
    pair, best = max(known, key=lambda one: one[0].difference)
    return (
        f"No ticket matches the dense network ({dense}): the closest, at sparsity "
        f"{removed(best.density)}, reaches {reached(measure, best, sentence_decimals(verdict))}, "
        f"a difference of {gain(measure, pair)}."
    )


def _controls_alone(verdict: Verdict) -> tuple[str, ...]:
    found = [(arm, verdict.largest(arm)) for arm in verdict.controls]
    matching = [
        f"{arm_words(arm)} at sparsity {removed(level.density)}" for arm, level in found if level
    ]
    if matching:
        return (f"Without a matching ticket, a control still matches: {joined(matching)}.",)
    return ("No control matches either.",) if found else ()


def _diverged(verdict: Verdict) -> tuple[str, ...]:
    levels = [*([verdict.dense] if verdict.dense else []), *verdict.levels]
    counts: dict[str, int] = {}
    for level in levels:
        if level.num_diverged:
            name = "the dense network" if level is verdict.dense else arm_words(level.arm)
            counts[name] = counts.get(name, 0) + level.num_diverged
    if not counts:
        return ()
    parts = [f"{count} of {name}" for name, count in counts.items()]
    return (
        f"Trainings that diverged: {joined(parts)}; a round with one does not count as matching.",
    )


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
    steps = f"{pair.difference:+,.0f} steps"
    if pair.low is not None and pair.high is not None:
        steps += f" [{pair.low:+,.0f}, {pair.high:+,.0f}]"
    where = (
        f"its lowest validation loss comes at step {ours}, the dense network's at step {theirs} "
        f"({steps.replace('-', '−')}, n = {pair.n})"
    )
    if pair.low is None or pair.high is None:
        return f"Whether the ticket learns faster, one replicate cannot say: {where}."
    if pair.high < 0 and not pair.is_flat:
        return f"The ticket learns faster: {where}."
    if pair.low > 0 and not pair.is_flat:
        return f"The ticket learns more slowly: {where}."
    return f"That the ticket learns faster is not shown: {where}, {doubt(pair)}."


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
        f"'Matches': mean test {label(measure)} at the last step {sign} "
        f"{amount(measure, verdict.tolerance)}, seeds paired. p: one-sided paired t test of 'worse "
        "by more than that', of this one round (not corrected for choosing among rounds). "
        "Brackets: 95 % t interval of the paired difference, positive where better."
    )
