"""Sanity checks of a pruner in words: what a control takes away, and whether that costs."""

from __future__ import annotations

from collections.abc import Sequence

from lth_runner.runs.evidence.sanity import Check
from lth_runner.runs.report import wording as say
from lth_runner.runs.report.page import Section, Table
from lth_runner.values.measure import Measure

HINT = "By how much the ticket is better than controls that each take a part of it away."
FINE_PRINT = (
    "Paired by seed; brackets: 95 % t interval, of each line alone (not corrected for their "
    "number). 'No larger than': the interval's upper "
    "end is within the tolerance ('none, shown'). 'Not seen', a mean within the tolerance, is no "
    "proof that there is none; a larger one with zero in its interval is undecided, and so is one "
    "within the tolerance that all seeds agree on to the digit: that makes no interval."
)
# of a control: what it does, what it shows where it costs, and what where no cost was seen
WORDS = {
    "shuffle": (
        "shuffling its masks within layers",
        "its masks carry information beyond the layer densities",
        "no information beyond the layer densities",
    ),
    "reinit": (
        "drawing new weights under its masks",
        "its masks belong to the very weights that they were found with",
        "no dependence of its masks on the weights that they were found with",
    ),
    "invert": (
        "turning its scores round",
        "the order of its scores matters",
        "no information in the order of its scores",
    ),
    "random_data": (
        "deciding by corrupted {corrupt}",
        "what it reads from the data matters",
        "no use of what it reads from the data",
    ),
}


def sentence(check: Check) -> str:
    """Writes a finding in full, with its interval and the number of seeds."""
    does, matters, nothing = WORDS[check.control]
    measure, what = check.measure, say.label(check.measure)
    sparsity, others = (say.removed(one.density) for one in (check.ticket, check.level))
    where = f"at {sparsity} sparsity"
    opening = f"{check.pruner}: {does.format(corrupt=check.corrupt or 'data')}"
    if check.same:
        return (
            f"{opening} gives the ticket itself {where}: what is decided before its training "
            "does not depend on it."
        )
    findings = {
        "at chance": f"{what} is at chance level: nothing can be concluded",
        "one replicate": "one replicate: nothing can be said",
        "matters": matters,
        "control is better": f"{nothing} was seen, the control is better",
        "none, shown": f"{nothing} was seen, and a cost is shown to be no larger than "
        f"{say.amount(measure, check.tolerance)}",
        "not seen": f"{nothing} was seen, but {_left_open(check)}",
        "undecided": f"undecided, {_left_open(check)}; more seeds would tell",
    }
    size, high = check.cost.difference, check.cost.high
    half = "" if high is None else f" ± {_number(measure, high - size)}"
    text = (
        f"{opening} {'costs' if size >= 0 else 'gains'} {_number(measure, abs(size))}{half}"
        f"{say.difference_unit(measure)} {where}: {findings[check.mark]} (n = {check.cost.n})."
    )
    if check.ticket.at_chance != check.level.at_chance:
        which = "ticket" if check.ticket.at_chance else "control"
        text += f" The {which}'s {what} is at chance level."
    if others != sparsity:
        text += f" The control's sparsity is {others}: that is part of the difference."
    if check.num_diverged:
        text += f" {check.num_diverged} diverged trainings are left out."
    return text


def _left_open(check: Check) -> str:
    """Says what the interval leaves open."""
    high, unit = check.cost.high, say.difference_unit(check.measure)
    if high is None:
        return "nothing tells how much seeds differ"
    if check.measure.unit == "%" and high >= 1:
        return "the interval is too wide to exclude anything"
    return f"a cost of up to {_number(check.measure, high)}{unit} is not excluded"


def _number(measure: Measure, value: float) -> str:
    scaled = measure.scale * value
    return f"{scaled:.1f}" if measure.unit == "%" else f"{scaled:.3g}"


def sentences(found: Sequence[Check]) -> list[str]:
    """Says of each control the sparsest finding in full, and at how many sparsities it cost."""
    told = []
    for control in dict.fromkeys(check.control for check in found):
        own = [check for check in found if check.control == control]
        telling = [check for check in own if check.mark != "at chance"]
        text = sentence((telling or own)[-1])
        if telling and telling[-1] is not own[-1]:
            sparsity = say.removed(own[-1].ticket.density)
            text += f" At {sparsity} both are at chance level: nothing can be concluded there."
        told.append(f"{text}{_elsewhere(own)}")
    return told


def _elsewhere(own: Sequence[Check]) -> str:
    """Says at which of several sparsities a control costs."""
    at = [say.removed(check.ticket.density) for check in own if check.mark == "matters"]
    if len(own) < 2 or own[-1].cost.low is None:
        return ""
    if not at:
        return f" A cost was seen at none of {len(own)} sparsities."
    listed = say.joined(at) if len(at) <= 4 else f"{at[0]} to {at[-1]}"
    return f" A cost was seen at {len(at)} of {len(own)} sparsities ({listed})."


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
