"""Which ticket of a run is meant: by its round, by a share, or the sparsest that matches."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from lth_runner.runs.evidence.means import density as density_of
from lth_runner.runs.evidence.means import number
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.folder import ROUNDS, Row, read_status, unfinished
from lth_runner.runs.one_run import one_run
from lth_runner.runs.seal import seals
from lth_runner.values.errors import UserError
from lth_runner.values.listed import numbers_listed

NEAREST = 2  # rounds that a message names where none is meant
EXACT = 1e-9  # of sparsities, where nothing tells how many weights there are
Found = dict[str, Any]


def choose(
    folder: str | Path,
    *,
    round: int | None = None,
    sparsity: float | None = None,
    density: float | None = None,
    best_matching: bool = False,
    arm: str = TICKET,
    seed: int | None = None,
) -> Found:
    """Picks one ticket of a finished run; returns its line of ``rounds.jsonl``.

    ``folder``: a run folder, or ``outputs/<name>`` with one run in it. ``sparsity`` takes
    the round whose sparsity is the nearest, which must be within one weight of it, ``density``
    likewise, and messages then speak of densities.
    ``best_matching`` takes the sparsest round that the report shows to match the dense network.
    With none of the four it is the last round. ``arm``: the ticket or a control. ``seed``: the
    replicate, the run's first where it is not given.
    Raises UserError for a run that is not done or is not what was written, for two ways of
    choosing at once, and for what the run has not, with what it has.
    """
    shares = {"density": density, "sparsity": sparsity}
    given = {"round": round, **shares, "best_matching": best_matching or None}
    if len(ways := [name for name, value in given.items() if value is not None]) > 1:
        raise UserError(f"{' and '.join(ways)} each choose a ticket: give one of them")
    for name, share in shares.items():
        _check_share(name, share)
    for name, value in (("round", round), ("seed", seed)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral)):
            raise UserError(f"{name}={value!r}: give a whole number, such as {name}=1")
    by = "density" if density is not None else "sparsity"
    run = finished(folder)
    rows = tickets(run, arm=arm, seed=seed)
    if best_matching:
        round = _best_matching(run, arm)
    share = shares[by]
    found = _nearest(run, rows, by, share) if share is not None else _of_round(run, rows, round)
    if found.get("diverged"):
        raise UserError(
            f"{run.folder}: round {found['round']} of seed {found['seed']} has diverged, its loss "
            f"became NaN or infinite: choose another round or seed; {_offered(rows, by)}"
        )
    return found


def _check_share(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Real):
        raise UserError(f"{name} {value!r} is no number: give a share, 0.1 for 10 %")
    share = float(value)
    if name == "density" and not 0 < share <= 1:
        raise UserError(
            f"density {share:.8g} is not in (0, 1]: it is the share of the weights that are kept, "
            "0.1 for 10 %"
        )
    if name == "sparsity" and not 0 <= share < 1:
        raise UserError(
            f"sparsity {share:.8g} is not in [0, 1): it is the share of the weights that are "
            "removed, 0.9 for 90 %"
        )


def finished(folder: str | Path) -> FinishedRun:
    """Reads a run that has ended; raises UserError for any other, and for rows that were edited."""
    place = one_run(folder)
    if (why := unfinished(place)) is not None:
        raise UserError(why)
    status = read_status(place)
    seal = (seals(status) or {}).get(ROUNDS)
    if seal is not None and not seal.fits(place / ROUNDS, may_have_grown=False):
        raise UserError(
            f"{place / ROUNDS} is not what was written: the run's own command writes it again from "
            f"the Store: {status.get('command')}"
        )
    return FinishedRun.load(place)


def tickets(run: FinishedRun, *, arm: str = TICKET, seed: int | None = None) -> list[Found]:
    """Lists the rows of one arm and one replicate by their rounds, the first replicate's if None.

    Raises UserError for an arm or a seed that the run has not.
    """
    if arm not in run.arms:
        raise UserError(f"{run.folder} has no arm {arm!r}: it has {', '.join(run.arms)}")
    of_arm = [dict(row) for row in run.rows if row["arm"] == arm]
    seeds = sorted({row["seed"] for row in of_arm})
    wanted = seeds[0] if seed is None and seeds else seed
    rows = [row for row in of_arm if row["seed"] == wanted]
    if not rows:
        raise UserError(f"{run.folder} has no seed {seed}: it has {numbers_listed(seeds)}")
    return sorted(rows, key=lambda row: row["round"])


def _of_round(run: FinishedRun, rows: Sequence[Found], round: int | None) -> Found:
    if round is None:
        return rows[-1]
    for row in rows:
        if row["round"] == round:
            return row
    ended = " (its last one diverged)" if rows[-1].get("diverged") else ""
    arm = "" if rows[-1]["arm"] == TICKET else f" of arm {rows[-1]['arm']}"
    raise UserError(f"{run.folder} has no round {round}{arm}{ended}; {_offered(rows)}")


def _nearest(run: FinishedRun, rows: Sequence[Found], by: str, share: float) -> Found:
    known = [row for row in rows if density_of(row) is not None]
    near = sorted(known, key=lambda row: abs(_share(row, by) - share))[:NEAREST]
    if near and abs(_share(near[0], by) - share) <= _one_weight(near[0]):
        return near[0]
    named = [_named(row, by) for row in sorted(near, key=lambda row: row["round"])]
    beside = f"the nearest are round {' and '.join(named)}; " if len(known) > NEAREST else ""
    raise UserError(
        f"{run.folder} has no round of {by} {share:.8g} (to one weight); {beside}"
        + _offered(rows, by)
    )


def _share(row: Row, by: str) -> float:
    """Returns the share of the weights that a round keeps or, by sparsity, that are removed."""
    found = density_of(row)
    assert found is not None
    return found if by == "density" else 1 - found


def _one_weight(row: Row) -> float:
    num = number(row.get("num_prunable"))
    return (1 / num if num else 0.0) + EXACT


def _best_matching(run: FinishedRun, arm: str) -> int:
    """Finds the sparsest round that is shown to match, and refuses where none is."""
    from lth_runner.runs.evidence.judge import judge  # loads scipy

    verdict = judge(run)
    if (level := verdict.shown(arm)) is not None:
        return level.round
    if verdict.dense is None:
        why = "the run has no dense network to compare with (pruner.dense=false)"
    elif verdict.at_chance:
        why = "its dense network is hardly better than guessing, so that to match it says nothing"
    else:
        last = verdict.possible(arm)
        until = f"up to round {last.round}, sparsity {last.sparsity:.4g}" if last else "none"
        why = (
            f"not yet refuted: {until} (report.tolerance={verdict.tolerance:.4g}); more replicates "
            "or test samples may decide it, lth-report says how many"
        )
    raise UserError(
        f"{run.folder} has no round of arm {arm} that is shown to match its dense network: {why}. "
        "Or choose one by its round or its sparsity"
    )


def _offered(rows: Sequence[Found], by: str = "sparsity") -> str:
    return f"it has round {', '.join(_named(row, by) for row in rows)}"


def _named(row: Found, by: str) -> str:
    told = f" ({by} {_share(row, by):.8g})" if density_of(row) is not None else ""
    return f"{row['round']}{told}{' diverged' if row.get('diverged') else ''}"
