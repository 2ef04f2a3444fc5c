"""What differs between the results of two runs, training by training."""

from __future__ import annotations

from collections.abc import Iterator

from lth_runner.runs.diff.lines import ABSENT, Line
from lth_runner.runs.evidence.means import density
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.folder import Row
from lth_runner.runs.record.record import Place

# what is timed, or says where a training came from
TIMED = {"seconds", "search_seconds", "reused", "training_key"}


def result_lines(a: FinishedRun, b: FinishedRun, *, everything: bool) -> Iterator[Line]:
    """Yields how the runs stand, trainings of one alone, and headlines that differ.

    Headlines are means over the replicates that both have, of the ticket at each round and of a
    control at its last; of all with ``everything``. Then the other fields that differ.
    """
    if a.state != b.state:
        yield Line("result", "state", a.state, b.state)
    rows = [{_place(row): row for row in run.rows} for run in (a, b)]
    alone = [len(rows[0].keys() - rows[1].keys()), len(rows[1].keys() - rows[0].keys())]
    if any(alone):
        yield Line("result", "trainings that the other has not", *map(str, alone))
    common = [place for place in rows[0] if place in rows[1]]
    yield from _headlines(a, b, rows, common, everything=everything)
    fields: dict[str, int] = {}
    for place in common:
        for name in _unlike(rows[0][place], rows[1][place]):
            fields[name] = fields.get(name, 0) + 1
    if fields:
        named = ", ".join(list(fields)[:6]) + (f" and {len(fields) - 6} more" if len(fields) > 6
                                               else "")  # fmt: skip
        most = max(fields.values())
        yield Line("result", "fields that differ", named, f"in {most} of {len(common)} trainings")


def _headlines(
    a: FinishedRun,
    b: FinishedRun,
    rows: list[dict[Place, Row]],
    common: list[Place],
    *,
    everything: bool,
) -> Iterator[Line]:
    if a.outcome != b.outcome:
        yield Line("result", "headline measure", a.outcome, b.outcome)
        return
    seeds: dict[tuple[str, int], list[int]] = {}
    for round, arm, seed in common:
        seeds.setdefault((arm, round), []).append(seed)
    last = {arm: max(round for other, round in seeds if other == arm) for arm, _ in seeds}
    for (arm, round), known in seeds.items():
        if not everything and arm != TICKET and round != last[arm]:
            continue
        pairs = [[one[round, arm, seed].get(a.outcome) for one in rows] for seed in known]
        numbers = [p for p in pairs if all(isinstance(value, (int, float)) for value in p)]
        if not numbers or all(first == second for first, second in numbers):
            continue
        first, second = (sum(values) / len(numbers) for values in zip(*numbers, strict=True))
        kept = [density(one[round, arm, known[0]]) for one in rows]
        what = f"{a.outcome}, {arm}, round {round}, n = {len(numbers)}"
        gap = a.measure.number(abs(second - first))
        sign = "+" if second >= first else "−"
        yield Line(
            "result", what, f"{a.measure.text(first)}{_at(kept[0])}",
            f"{a.measure.text(second)}{_at(kept[1])}, {sign}{gap}",
        )  # fmt: skip


def _at(density: float | None) -> str:
    return "" if density is None else f" at {100 * (1 - density):.2f} % sparsity"


def _unlike(first: Row, second: Row) -> list[str]:
    """Lists the fields of two rows that differ, but for what is timed."""
    names = dict.fromkeys([*first, *second])
    return [n for n in names if n not in TIMED and first.get(n, ABSENT) != second.get(n, ABSENT)]


def _place(row: Row) -> Place:
    return row["round"], row["arm"], row["seed"]
