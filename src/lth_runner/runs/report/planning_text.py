"""How many seeds an experiment would need, as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from lth_runner.runs.evidence.judge import judge
from lth_runner.runs.evidence.needed import MOST_SEEDS
from lth_runner.runs.evidence.planning import Plan, left_out, losses, plan
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.verdict import Level, Verdict
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.tables import ruled, wrapped
from lth_runner.runs.report.headline import headline

HINDERED = "*"  # marks what samples stand in the way of


def planned(run: FinishedRun) -> str:
    """Tabulates the seeds that would show a match, by round and by what a ticket truly loses."""
    verdict = judge(run)
    title, found = f"{run.name}  ({run.folder})", plan(verdict)
    if not found:
        return "\n".join([title, "", *wrapped([_why_not(verdict)])])
    measure, samples = verdict.measure, _samples(verdict, found)
    loss = [say.amount(measure, one) if one else "none" for one in losses(verdict)]
    header = ["round", "sparsity", "n", "match", "difference seen", "sd",
              *([samples] if samples else []), *(f"loss {one}" for one in loss)]  # fmt: skip
    body = [
        [str(one.level.round), say.removed(one.level.density), str(one.seen.n),
         say.word(verdict, one.level), say.gain(measure, one.seen),
         f"{measure.scale * one.spread:.2g}",
         *([f"{measure.scale * (one.lasting or 0.0):.2g}"] if samples else []),
         *_seeds(one)]
        for one in found
    ]  # fmt: skip
    told = [_reading(verdict, samples), *_hindered(verdict, found), *_left_out(verdict, found)]
    return "\n".join([title, "", *ruled((header, body), left=0), "", *wrapped(told)])


def _samples(verdict: Verdict, found: Sequence[Plan]) -> str:
    return verdict.sampled if any(one.lasting is not None for one in found) else ""


def _seeds(one: Plan) -> list[str]:
    return [
        str(num) if num is not None else f"> {MOST_SEEDS}{HINDERED * hindered}"
        for num, hindered in zip(one.seeds, one.hindered, strict=True)
    ]


def _reading(verdict: Verdict, samples: str) -> str:
    measure = verdict.measure
    lasting = (
        f"; {samples}: of what the draw of test {samples} adds to it, however many seeds there are"
        if samples
        else ""
    )
    brackets = "" if all(map(verdict.counts, verdict.of(TICKET))) else f" {say.out_of_row()}"
    return (
        f"Last columns: seeds of each arm (replicates) that show a match with a power of 80 %, at "
        f"a tolerance of {say.amount(measure, verdict.tolerance)}, were that the true loss. The "
        f"variance is the one seen (sd: standard deviation of the difference of one seed each"
        f"{lasting}), which few seeds tell roughly.{brackets}"
    )


def _hindered(verdict: Verdict, found: Sequence[Plan]) -> list[str]:
    if not any(any(one.hindered) for one in found):
        return []
    sampled = verdict.sampled
    return [
        f"{HINDERED}: the {verdict.num_samples} test {sampled} stand in the way, and not the "
        f"seeds; more {sampled} take that away, and report.samples=fixed asks about these alone."
    ]


def _left_out(verdict: Verdict, found: Sequence[Plan]) -> list[str]:
    parts = [f"{_rounds(levels)} ({why})" for why, levels in left_out(verdict, found).items()]
    return [f"Not in the table: {'; '.join(parts)}."] if parts else []


def _rounds(levels: Sequence[Level]) -> str:
    """Writes rounds, those in a row as 'rounds 3 to 7'."""
    numbers = sorted(level.round for level in levels)
    rows: list[list[int]] = []
    for number in numbers:
        if rows and rows[-1][-1] == number - 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    parts = [str(row[0]) if len(row) == 1 else f"{row[0]} to {row[-1]}" for row in rows]
    return f"round{'' if len(numbers) == 1 else 's'} {say.joined(parts)}"


def _why_not(verdict: Verdict) -> str:
    top, unknown = headline(verdict), verdict.without_spread
    if unknown is not None and not verdict.at_chance:
        advice = " Start with replicates=3." if unknown.n == 1 else ""
        return f"No seeds can be planned: {say.unknown_spread(unknown)}.{advice}"
    told = top.text if verdict.dense is None else top.sentence
    if verdict.of(TICKET):
        return told
    return f"{told} Seeds are planned by what tickets differ from the dense network."
