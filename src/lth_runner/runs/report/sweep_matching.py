"""How sparse the tickets of a sweep match, in words and as a table."""

from __future__ import annotations

from collections.abc import Sequence

from lth_runner.runs.evidence.means import FIRST_ROUND
from lth_runner.runs.evidence.rows import TICKET
from lth_runner.runs.evidence.sweep import Setting, Sweep
from lth_runner.runs.evidence.verdict import Level
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.page import Headline
from lth_runner.runs.pages.tables import Cells
from lth_runner.runs.report.headline import alone, at_chance, picked


def matching_table(sweep: Sweep) -> Cells:
    """Tabulates each rewind step's sparsest match, and how far each seed alone is as good."""
    header = [sweep.by.split()[0], "shown to match", "not refuted", sweep.measure.name,
              "measured up to", "each seed within"]  # fmt: skip
    body = []
    for one in sweep.settings:
        best, last = one.verdict.shown() or one.verdict.possible(), one.verdict.last()
        seeds = [say.match(verdict, verdict.by_mean()) for verdict in one.by_seed().values()]
        body.append([one.label, *say.matches(one.verdict),
                     say.reached(sweep.measure, best) if best else "",
                     say.removed(last.density) if last else "-",
                     ", ".join(seeds) or "-"])  # fmt: skip
    return header, body


def matching(sweep: Sweep) -> Headline:
    """Says whether a later rewind step matches at a larger sparsity."""
    dense, what = sweep.dense, sweep.measure
    if dense is not None and dense.at_chance:
        told = at_chance(say.label(what), f"{say.reached(what, dense)}, n = {dense.n}")
        return Headline(alone(what, dense), "of the dense network", told)
    none = "of the tickets is shown to match"
    if not any(one.run.rounds(TICKET)[-1:] > (FIRST_ROUND,) for one in sweep.settings):
        return Headline("–", none, "No ticket measured yet.")
    if dense is None or dense.mean is None:
        return Headline("–", none, "No dense network was measured: there is nothing to match.")
    every = [one.verdict for one in sweep.settings]
    if any(verdict.shown() for verdict in every):
        found = [(one, one.verdict.shown()) for one in sweep.settings]
        return _sparsest(sweep, found, "The sparsest ticket shown to match",
                         "and a ticket is shown to match",
                         picked({one.label: one.verdict for one in sweep.settings}, sweep.by),
                         )  # fmt: skip
    possible = [level for verdict in every if (level := verdict.possible()) is not None]
    if not possible:
        told = "No ticket is shown to match the dense network, and every line's first is refuted."
        return Headline("none", none, told)
    unknown = [v.without_spread for v in every if v.possible() is not None]
    if None in unknown:
        found = [(one, one.verdict.possible()) for one in sweep.settings]
        return _sparsest(sweep, found, "No ticket is shown to match; the sparsest not refuted",
                         "and a match is undecided")  # fmt: skip
    end = say.removed(min(level.density for level in possible))
    why = next(say.unknown_spread(one) for one in unknown if one is not None)
    undecided = f"Whether a ticket matches is undecided up to sparsity {end}: {why}."
    if not any(verdict.by_mean() for verdict in every):
        told = "No ticket is shown to match the dense network yet."
        return Headline("none", f"{none}; undecided to {end}", told, (undecided,))
    found = [(one, one.verdict.by_mean()) for one in sweep.settings]
    return _sparsest(sweep, found, "The sparsest ticket within the tolerance",
                     "within the tolerance, but not shown", (undecided,))  # fmt: skip


def _sparsest(
    sweep: Sweep, found: Sequence[tuple[Setting, Level | None]], what: str, about: str,
    remarks: tuple[str, ...] = (),
) -> Headline:  # fmt: skip
    """Names the sparsest of each setting's tickets of a kind, and the settings without one."""
    known = [(one, level) for one, level in found if level is not None]
    one, level = max(known, key=lambda pair: pair[1].sparsity)
    number, of = say.gone(one.verdict, level.density)
    versus = f" against {say.reached(sweep.measure, sweep.dense)}" if sweep.dense else ""
    without = [other.label for other, best in found if best is None]
    rest = f"; none is at {say.joined(without)}." if without else "."
    sentence = (
        f"{what}, {say.removed(level.density)} removed at {say.reached(sweep.measure, level)}"
        f"{versus}, is rewound to {one.label}{rest}"
    )
    return Headline(number, f"{of} removed, {about}", sentence, remarks)
