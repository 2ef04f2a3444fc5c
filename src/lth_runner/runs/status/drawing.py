"""Points and the Store as aligned text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from lth_runner.runs.aligned_text import aligned
from lth_runner.runs.evidence.settings import natural
from lth_runner.runs.folder import DIVERGED
from lth_runner.runs.measure import Ending
from lth_runner.runs.quantities import duration, size
from lth_runner.runs.status.naming import labels
from lth_runner.runs.status.point import STATES, Point
from lth_runner.runs.status.store_care import KINDS, LEVELS, Holdings, Item
from lth_runner.values.terminal import visible

NARROWEST = 24  # a state and the beginning of a name
LONGEST = 500  # characters of anything that a file says
SHORT = 44  # a label that others may be aligned with


def listing(points: Sequence[Point], *, width: int | None = None, height: int | None = None) -> str:
    """Writes a line per point, worst first, below it what went wrong, then the sums.

    Lines of points that went well are cut to ``width``, and left out where there are more than fit
    ``height``; those of failed, dead, missing and refused ones never are.
    """
    ordered = sorted(
        zip(points, map(_told, labels(points)), strict=True),
        key=lambda pair: (STATES.index(pair[0].state), natural(pair[0].name), natural(pair[1])),
    )
    bad = sum(point.reason is not None for point in points)
    standing = [_standing(point) for point, _ in ordered]
    heads = _heads(ordered)
    troubles = [
        line
        for (head, _), one in zip(heads[:bad], standing[:bad], strict=True)
        for line in _trouble(head, *one)
    ]
    tails = aligned(standing[bad:])
    room = max((width or 0) - 2 - max(map(len, tails), default=0), NARROWEST)
    lines = []
    for (head, margin), tail in zip(heads[bad:], tails, strict=True):
        if width is not None:
            head, margin = _cut(head, room), min(margin, room)
        line = f"{head:<{margin}}  {tail}".rstrip()
        lines.append(line if width is None else _cut(line, width))
    if height is not None:
        rows_of_bad = sum(-(-len(line) // (width or 80)) for line in troubles)
        room = max(height - rows_of_bad - 3, 0)  # an empty line, the sums, the cursor's own
        if len(lines) > room:
            shown = max(room - 1, 0)
            left_out = Counter(point.state for point, _ in ordered[bad + shown :])
            lines = [*lines[:shown], f"and {len(lines) - shown} more: {_counts(left_out)}"]
    return "\n".join([*troubles, *lines, "", *_sums(points)])


def _heads(ordered: Sequence[tuple[Point, str]]) -> list[tuple[str, int]]:
    """Writes state, place and label of each point; says how wide that is within its folder.

    Folders whose labels are short share a width; one with long labels widens its own lines alone.
    """
    places = aligned([(point.state, _where(point)) for point, _ in ordered])
    first = max(map(len, places))
    widths: dict[str, int] = {}
    for point, label in ordered:
        width = 0 if point.reason is not None else len(label)  # nothing stands behind it
        widths[point.name] = max(widths.get(point.name, 0), width)
    shared = max((width for width in widths.values() if width <= SHORT), default=0)
    found = []
    for place, (point, label) in zip(places, ordered, strict=True):
        wide = max(widths[point.name], shared)
        found.append((f"{place:<{first}}  {label}".rstrip(), first + (2 + wide if wide else 0)))
    return found


def _where(point: Point) -> str:
    return f"{_told(point.name)}/{_told(point.run_id or '-')}"


def _trouble(head: str, place: str, share: str, reason: str) -> tuple[str, str]:
    where = ", ".join(part for part in (place, share) if part)
    return f"{head}  ({where})" if where else head, f"    {reason}"


def _standing(point: Point) -> tuple[str, str, str]:
    """Writes round, share and time left; a finished point's result; a bad one's reason."""
    status, share = point.status, ""
    if point.ending is not None:
        return _result(point.ending, point.state)
    if point.progress is not None:
        share = f"{100 * point.progress:.0f} %"
    place = []
    if _is_count(status.get("rounds")):
        place.append(f"round {status.get('round')}/{status['rounds'] - 1}")
    if point.state == "running" and status.get("arm") is not None:
        total = str(status.get("total"))
        place.append(f"{status['arm']} seed {status.get('seed')}")
        place.append(f"step {str(status.get('step')).rjust(len(total))}/{total}")
    note = point.reason or ""
    if point.seconds_left is not None:
        note = f"about {duration(point.seconds_left)} left"
    return _told(" ".join(place)), share, _told(note)


def _result(ending: Ending, state: str) -> tuple[str, str, str]:
    measure, name, of = ending.measure, _told(ending.measure.name), ""
    is_share = ending.sparsity is not None and 0 <= ending.sparsity <= 1
    sparsity = f"sparsity {ending.sparsity:.4f}" if is_share else "sparsity -"
    if ending.value is None:
        why = "" if state == DIVERGED else ": diverged?"  # which an older version did not say
        return sparsity, "test -", f"no {name} at the end{why}"
    what = "test" if name == "accuracy" else f"test {name}"
    if ending.num > 1:
        of = f"mean of {ending.num}"
    return sparsity, f"{what} {_told(measure.text(ending.value))}", of


def _told(text: str) -> str:
    """Writes what a file says so that it stays in its line, whatever it is."""
    return visible(_cut(text, LONGEST))


def _sums(points: Sequence[Point]) -> list[str]:
    sums = f"{len(points)} points: {_counts(Counter(point.state for point in points))}"
    steps: Counter[str] = Counter()
    for point in points:
        known = point.status.get("steps")
        if isinstance(known, dict):
            steps.update({k: v for k, v in known.items() if _is_count(v)})
    if len(points) == 1:
        sums = sums.replace("points", "point", 1)
    if not steps:
        return [sums]
    names = [name for name in ("asked", "run", "reused", "replayed") if name in steps]
    return [sums, "steps: " + ", ".join(f"{steps[name]:,} {name}" for name in names)]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 2**63  # no number that cannot be written


def _counts(found: Counter[str]) -> str:
    return ", ".join(f"{found[state]} {state}" for state in STATES if found[state])


def holdings(found: Holdings) -> str:
    """Writes what the Store holds, by kind, and what of it could go."""
    rows = [("", "files", "size")]
    for kind in KINDS:
        rows.append((kind, *_amount(item for item in found.items if item.kind == kind)))
    rows.append(("in all", *_amount(found.items)))
    could: dict[tuple[int, str], list[Item]] = {}
    for item in found.going(LEVELS[-1]):
        could.setdefault((LEVELS.index(item.level or ""), item.reason), []).append(item)
    going = [
        (reason, *_amount(items), f"--prune --keep {LEVELS[level]}" if level else "--prune")
        for (level, reason), items in sorted(could.items())
    ]
    head = f"Store {found.root}: {found.num_trainings} trainings"
    what = ["", "what could go, and how:", *aligned(going, right=(1, 2))] if going else []
    return "\n".join([head, "", *aligned(rows, right=(1, 2)), *what, *_note(found)])


def removal(found: Holdings, going: Sequence[Item], *, removed: bool) -> str:
    """Writes what a prune takes, or would take."""
    if not going:
        return "\n".join([f"Store {found.root}: nothing to remove", *_note(found)])
    by_reason: dict[str, list[Item]] = {}
    for item in going:
        by_reason.setdefault(item.reason, []).append(item)
    head = "removed" if removed else "would be removed"
    rows = [(head, "files", "size")]
    rows += [(reason, *_amount(items)) for reason, items in sorted(by_reason.items())]
    rows.append(("in all", *_amount(going)))
    tail = [] if removed else ["", "nothing has been removed: add --yes to do it"]
    return "\n".join([*aligned(rows, right=(1, 2)), *_note(found), *tail])


def _note(found: Holdings) -> list[str]:
    return [] if found.stays is None else ["", found.stays]


def _amount(items: Iterable[Item]) -> tuple[str, str]:
    bytes_of = [item.size for item in items]
    return f"{len(bytes_of):,}", size(sum(bytes_of))


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"
