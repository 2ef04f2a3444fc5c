"""How many seeds an experiment would need, as plain text."""

from __future__ import annotations

from lth_runner.runs.evidence.planning import losses, plan
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.evidence.verdict import judge
from lth_runner.runs.report import wording as say
from lth_runner.runs.report.table import ruled, wrapped


def planned(run: FinishedRun) -> str:
    """Tabulates the seeds that would show a match, by round and by what a ticket truly loses."""
    verdict = judge(run)
    measure, title = verdict.measure, f"{run.name}  ({run.folder})"
    found = plan(verdict)
    if not found:
        return "\n".join([title, "", *wrapped([_why_not(run)])])
    loss = [say.amount(measure, one) if one else "none" for one in losses(verdict)]
    header = ["round", "sparsity", "n", "match", "difference seen", "sd",
              *(f"loss {one}" for one in loss)]  # fmt: skip
    body = [
        [str(one.level.round), say.removed(one.level.density), str(one.seen.n),
         str(one.level.matches), say.gain(measure, one.seen), f"{measure.scale * one.spread:.2g}",
         *(str(num) if num is not None else "> 1000" for num in one.seeds)]
        for one in found
    ]  # fmt: skip
    reading = (
        f"Last columns: seeds of each arm (replicates) that show a match with a power of 80 %, at "
        f"a tolerance of {say.amount(measure, verdict.tolerance)}, were that the true loss. The "
        "variance is the one seen (sd: of the difference of one seed each), which few seeds tell "
        "roughly. Rounds: from the sparsest match that is shown to the first that is refuted."
    )
    return "\n".join([title, "", *ruled((header, body), left=0), "", *wrapped([reading])])


def _why_not(run: FinishedRun) -> str:
    verdict = judge(run)
    if verdict.dense is None or verdict.dense.mean is None:
        return "No dense network was measured: there is nothing to match."
    if verdict.at_chance:
        return "The dense network is at chance level: to match it shows nothing."
    return "Two seeds or more tell how much seeds differ: start with replicates=3."
