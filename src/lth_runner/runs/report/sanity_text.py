"""Sanity checks of a pruner in words: what a control takes away, and whether that costs."""

from __future__ import annotations

from collections.abc import Sequence

from lth_runner.runs.evidence.needed import MOST_SEEDS
from lth_runner.runs.evidence.planning import seeds_to_show
from lth_runner.runs.evidence.sanity import Check
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.page import Section, Table

HINT = "By how much the ticket is better than controls that each take a part of it away."
FINE_PRINT = (
    "Brackets: 95 % t interval, as everywhere on the page. Shown: that the control costs, all "
    "controls and sparsities of the run together wrong with a chance of 2.5 % (Holm); refuted: "
    "that it costs more than the tolerance, of these lines together wrong with 5 % (Holm), never "
    "where a training of the control diverged or the ticket is at chance; else undecided."
)
# of a control: what it does, and what it says of the pruner where it costs
WORDS = {
    "shuffle": (
        "shuffling its masks within layers",
        "its masks carry information beyond the layer densities",
    ),
    "reinit": (
        "drawing new weights under its masks",
        "its masks belong to the very weights that they were found with",
    ),
    "invert": (
        "turning its scores round",
        "the order of its scores matters",
    ),
    "random_data": (
        "deciding by corrupted {corrupt}",
        "what it reads from the data matters",
    ),
}


def sentence(check: Check) -> str:
    """Writes a finding in full, with its interval and the number of seeds."""
    does, _ = WORDS[check.control]
    what = say.label(check.measure)
    sparsity, others = (say.removed(one.density) for one in (check.ticket, check.level))
    where = f"at {sparsity} sparsity"
    opening = f"{check.pruner}: {does.format(corrupt=check.corrupt or 'data')}"
    if check.same:
        return (
            f"{opening} gives the ticket itself {where}: what is decided before its training "
            "does not depend on it."
        )
    text = f"{opening} costs {_cost(check)} {where}: {_finding(check)} (n = {check.cost.n})."
    if check.ticket.at_chance != check.level.at_chance:
        which = "ticket" if check.ticket.at_chance else "control"
        text += f" The {which}'s {what} is at chance level."
    if others != sparsity:
        text += f" The control's sparsity is {others}: that is part of the difference."
    if check.num_diverged:
        text += f" {check.num_diverged} diverged trainings are left out."
    return text


def _cost(check: Check) -> str:
    """Writes a cost with its interval: '4.2 points [3.5, 4.9]', a gain as a negative one."""
    measure, cost = check.measure, check.cost
    form, unit = ".1f" if measure.unit == "%" else ".3g", say.difference_unit(measure)
    return say.with_interval(cost.difference, cost.bounds(), form, unit, scale=measure.scale)


def _finding(check: Check) -> str:
    told = WORDS[check.control][1]
    if check.at_chance:
        return f"{say.label(check.measure)} is at chance level, and nothing can be concluded"
    if check.word == "shown":
        return f"shown, {told}"
    if check.word == "refuted":
        return f"a cost of more than {say.amount(check.measure, check.tolerance)} is refuted"
    if check.cost.error is None:
        return f"undecided whether {told}; {say.unknown_spread(check.cost)}"
    num = seeds_to_show(check.cost, check.num_compared) if check.cost.difference > 0 else None
    needed = (
        f"no number of seeds up to {MOST_SEEDS} would show it"
        if num is None
        else f"about {num} seeds would show it"
    )
    return f"undecided whether {told}; {needed}, were the difference seen the true one"


def sentences(found: Sequence[Check]) -> list[str]:
    """Says of each control the sparsest finding in full, and at how many sparsities it cost."""
    told = []
    for control in dict.fromkeys(check.control for check in found):
        own = [check for check in found if check.control == control]
        telling = [check for check in own if not check.at_chance]
        text = sentence((telling or own)[-1])
        if telling and telling[-1] is not own[-1]:
            sparsity = say.removed(own[-1].ticket.density)
            text += f" At {sparsity} both are at chance level: nothing can be concluded there."
        told.append(f"{text}{_elsewhere(own)}")
    return told


def _elsewhere(own: Sequence[Check]) -> str:
    """Says at which of several sparsities a control is shown to cost."""
    at = [say.removed(check.ticket.density) for check in own if check.mark == "shown"]
    if len(own) < 2 or own[-1].cost.low is None:
        return ""
    if not at:
        return f" A cost is shown at none of {len(own)} sparsities."
    return f" A cost is shown at {len(at)} of {len(own)} sparsities ({say.ends(at)})."


def sanity_section(found: Sequence[Check]) -> Section:
    """Writes the checks in a sentence for each control, and a line for each of them."""
    pruners = dict.fromkeys(check.pruner for check in found)
    told = [text for name in pruners for text in sentences([x for x in found if x.pruner == name])]
    header = ["pruner", "control", "sparsity", "control reaches", "cost", "n", "finding"]
    body = [
        [one.pruner, one.control, say.removed(one.ticket.density),
         say.reached(one.measure, one.level), say.gain(one.measure, one.cost), str(one.cost.n),
         one.mark]
        for one in found
    ]  # fmt: skip
    return Section("Sanity checks", HINT, notes=tuple(told), tables=(Table(header, body),),
                   fine_print=FINE_PRINT)  # fmt: skip
