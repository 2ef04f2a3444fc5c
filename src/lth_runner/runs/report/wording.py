"""The verdict in plain words, and how its numbers are written."""

from __future__ import annotations

from collections.abc import Sequence

from lth_runner.runs.report.rows import FIRST_ROUND, TICKET, Run, mean
from lth_runner.runs.report.verdict import Level, Paired, Verdict, paired

CONTROL_WORDS = (
    ("reinit", "its re-initialisation"),
    ("shuffle", "its shuffled mask"),
    ("random", "a random ticket"),
)


def kept(fraction: float) -> str:
    """0.0687 -> '6.9 %': one decimal from 1 % on, more below, none that is zero."""
    return f"{_trimmed(100 * fraction, _decimals(fraction))} %"


def removed(density: float) -> str:
    """The sparsity of a density, with the decimals of its kept fraction: 0.0687 -> '93.1 %'."""
    return f"{_trimmed(100 * (1 - density), _decimals(density))} %"


def _decimals(density: float) -> int:
    return 1 if density >= 0.01 else 2 if density >= 0.001 else 3


def _trimmed(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".")


def accuracy(level: Level, decimals: int, *, unit: str = " %") -> str:
    if level.mean is None:
        return "no accuracy"
    spread = "" if level.std is None else f" ± {100 * level.std:.{decimals}f}"
    return f"{100 * level.mean:.{decimals}f}{spread}{unit}"


def points(paired: Paired) -> str:
    """A difference of accuracies in percentage points with its 95 % interval."""
    text = f"{100 * paired.difference:+.2f}"
    if paired.low is None or paired.high is None:
        return f"{text} points".replace("-", "−")
    return f"{text} points [{100 * paired.low:+.2f}, {100 * paired.high:+.2f}]".replace("-", "−")


def p_value(paired: Paired) -> str:
    if paired.p is None:
        return f"no p-value from {'equal differences' if paired.is_flat else 'one replicate'}"
    return "p < 0.001" if paired.p < 0.001 else f"p = {paired.p:.2g}"


def at_chance(dense: str) -> str:
    """What there is to say where the dense network, of this level, is hardly above guessing."""
    return (
        f"Nothing can be concluded: the accuracy of the dense network ({dense}) is at chance "
        "level, so that a ticket which does as well shows nothing."
    )


def none_of(verdict: Verdict) -> str:
    """What stands for the sparsest match where there is none."""
    return "at chance" if verdict.at_chance else "none"


def arm_words(arm: str) -> str:
    """How a sentence names an arm."""
    if arm == TICKET:
        return "the ticket"
    return dict(CONTROL_WORDS).get(arm, f"the control {arm}")


def joined(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]


def sentence(verdict: Verdict) -> str:
    """What the run shows: how sparse a ticket matches, and whether its controls do as well."""
    dense, tickets = verdict.dense, verdict.of(TICKET)
    if dense is None and not tickets:
        return "No training has finished yet."
    if dense is None and verdict.at(TICKET, FIRST_ROUND) is not None:
        return _without_dense(verdict)
    if dense is None or dense.mean is None:
        return "No dense network (round 0) with a test accuracy: there is nothing to match."
    decimals = sentence_decimals(verdict)
    level = f"{accuracy(dense, decimals)}, n = {dense.n}"
    if not tickets:
        return f"Only the dense network has finished so far ({level})."
    if verdict.at_chance:
        return f"{at_chance(level)} {_diverged(verdict)}".strip()
    best = verdict.largest(TICKET)
    if best is None:
        parts = [_none_matches(verdict, level), _controls_alone(verdict)]
    else:
        parts = [_matches(verdict, best, dense), *_separation(verdict, best)]
    return " ".join(part for part in [*parts, _diverged(verdict)] if part)


def _without_dense(verdict: Verdict) -> str:
    """The first training was sparse already: the last ticket alone, beside its controls."""
    last = verdict.of(TICKET)[-1]
    level = accuracy(last, sentence_decimals(verdict))
    beaten = [
        arm_words(control)
        for control in verdict.controls
        if (other := verdict.at(control, last.round)) is not None and other.ticket_is_better
    ]
    better = f" It is better than {joined(beaten)}." if beaten else ""
    chance = ", which is at chance level" if last.at_chance else ""
    return (
        "No dense network was trained here: nothing says whether a ticket matches. The ticket at "
        f"sparsity {removed(last.density)} reaches {level}, n = {last.n}{chance}.{better}"
    )


def sentence_decimals(verdict: Verdict) -> int:
    """A tolerance finer than half a point needs a second decimal."""
    return 1 if verdict.tolerance >= 0.005 else 2


def _matches(verdict: Verdict, best: Level, dense: Level) -> str:
    decimals = sentence_decimals(verdict)
    against = best.against_dense
    assert against is not None
    p = p_value(against)
    if against.p is not None and against.p >= 0.05:
        p += f": a loss beyond {100 * verdict.tolerance:g} points is not excluded"
    text = (
        f"A ticket at {kept(best.density)} of the weights (sparsity {removed(best.density)}) "
        f"matches the dense network ({accuracy(best, decimals, unit='')} against "
        f"{accuracy(dense, decimals)}, n = {against.n}, {p})"
    )
    if failed := verdict.failed_before(TICKET):
        text += f", although it falls below at sparsity {joined(_sparsities(failed))}"
    clauses = [_control_clause(verdict, control, best.round) for control in verdict.controls]
    return f"{'; '.join([text, *clauses])}."


def _control_clause(verdict: Verdict, control: str, round: int) -> str:
    words, level = arm_words(control), verdict.at(control, round)
    if level is None or level.matches is None:
        return f"{words} was not run there"
    decimals = sentence_decimals(verdict)
    lead = level.ticket_lead
    if level.matches:
        ahead = f", the ticket leads by {points(lead)}" if lead else ""
        return f"{words} matches as well ({accuracy(level, decimals)}{ahead})"
    text = f"{words} does not ({accuracy(level, decimals)}; {_reach(verdict, control)}"
    if lead is not None and not level.ticket_is_better:
        doubt = _doubt(lead)
        text += f"; the ticket leads by {points(lead)}, {doubt}"
    return f"{text})"


def _doubt(pair: Paired) -> str:
    """Why a difference is not shown to lie above zero."""
    if pair.low is None:
        return "one replicate"
    return "equal differences make no interval" if pair.is_flat else "not clear of zero"


def _reach(verdict: Verdict, control: str) -> str:
    largest = verdict.largest(control)
    if largest is None:
        return "it matches at no sparsity tried"
    text = f"its sparsest match is at sparsity {removed(largest.density)}"
    if failed := verdict.failed_before(control):
        text += f", although it falls below at {joined(_sparsities(failed))}"
    return text


def _separation(verdict: Verdict, best: Level) -> list[str]:
    """Whether the experiment tells the ticket from its controls where it matches."""
    if not verdict.controls:
        return ["No control was run, so this does not show what makes the ticket match."]
    levels = [verdict.at(control, best.round) for control in verdict.controls]
    alike = [x.arm for x in levels if x and x.matches and not x.ticket_is_better]
    if not alike:
        return []
    names = joined([arm_words(arm) for arm in alike])
    return [
        f"This experiment does not separate a winning ticket from {names} "
        f"at sparsity {removed(best.density)}."
    ]


def _none_matches(verdict: Verdict, dense: str) -> str:
    known = [level for level in verdict.of(TICKET) if level.against_dense is not None]
    if not known:
        return f"No ticket with a test accuracy to compare with the dense network ({dense})."
    best = max(known, key=lambda level: level.against_dense.difference)  # type: ignore[union-attr]
    assert best.against_dense is not None
    return (
        f"No ticket matches the dense network ({dense}): the closest, at sparsity "
        f"{removed(best.density)}, reaches {accuracy(best, sentence_decimals(verdict))}, "
        f"a difference of {points(best.against_dense)}."
    )


def _controls_alone(verdict: Verdict) -> str:
    found = [(arm, verdict.largest(arm)) for arm in verdict.controls]
    matching = [
        f"{arm_words(arm)} at sparsity {removed(level.density)}" for arm, level in found if level
    ]
    if matching:
        return f"Without a matching ticket, a control still matches: {joined(matching)}."
    return "No control matches either." if found else ""


def _diverged(verdict: Verdict) -> str:
    levels = [*([verdict.dense] if verdict.dense else []), *verdict.levels]
    counts: dict[str, int] = {}
    for level in levels:
        if level.num_diverged:
            name = "the dense network" if level is verdict.dense else arm_words(level.arm)
            counts[name] = counts.get(name, 0) + level.num_diverged
    if not counts:
        return ""
    parts = [f"{count} of {name}" for name, count in counts.items()]
    return f"Trainings that diverged: {joined(parts)}; a round with one does not count as matching."


def _sparsities(levels: Sequence[Level]) -> list[str]:
    return [removed(level.density) for level in levels]


def learning_sentence(run: Run, verdict: Verdict) -> str:
    """Whether the sparsest matching ticket learns faster than the dense network; else empty.

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
    return f"That the ticket learns faster is not shown: {where}, {_doubt(pair)}."


def progress(run: Run) -> str:
    """What the reader must know of an unfinished run; empty when it is done."""
    if run.state == "done":
        return ""
    round, rounds = run.status.get("round"), run.status.get("rounds")
    where = f", round {round} of {rounds}" if round is not None and rounds is not None else ""
    text = f"This run is not finished (state: {run.state}{where}); shown is what it has so far."
    error = run.status.get("error")
    return f"{text} Its error: {error}" if error else text


def method(verdict: Verdict) -> str:
    """What 'matches', p and the intervals mean."""
    return (
        f"'Matches': mean test accuracy at the last step >= dense - "
        f"{100 * verdict.tolerance:g} points, seeds paired. p: one-sided paired t test of "
        "'worse by more than that', of this one round (not corrected for choosing among rounds). "
        "Brackets: 95 % t interval of the paired difference."
    )
