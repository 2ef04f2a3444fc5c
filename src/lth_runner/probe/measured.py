"""What a probe says of one training, looked at before it becomes a part of the row."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Real

from lth_runner.probe.probe import Probe, Value
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Past, Trained
from lth_runner.values.errors import UserError


def measured(
    probe: Probe, task: Task, past: Past, trained: Trained, *, taken: Collection[str], told: str
) -> dict[str, Value]:
    """Asks a probe, and returns its values by name.

    ``taken`` are the names that the row has already, ``told`` is what a message calls the probe.
    Raises UserError for what is no pair of a name and numbers, and for a name that is taken.
    """
    found: dict[str, Value] = {}
    pairs: object = probe(task, past, trained)
    if not isinstance(pairs, Iterable) or isinstance(pairs, (str, Mapping)):
        raise UserError(f"{told} gives {_kind(pairs)}: {_ACCEPTED}")
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise UserError(f"{told} gives {_kind(pair)}: {_ACCEPTED}")
        name, value = pair
        if not isinstance(name, str) or not name:
            raise UserError(f"{told} gives a value under the name {name!r}: {_ACCEPTED}")
        if name in taken or name in found:
            raise UserError(
                f"{told} gives {name}, which the row has already: give another name, "
                f"mine_{name} for example"
            )
        plain = _plain(value)
        if plain is None:
            raise UserError(f"{told} gives {name} as {_kind(value)}: {_ACCEPTED}")
        found[name] = plain
    return found


_ACCEPTED = (
    "a probe yields pairs (name, value), the name a text, the value a number, a mapping of names "
    "to numbers or a list of numbers (float(x) of a tensor x)"
)


def _plain(value: object) -> Value | None:
    """Returns numbers as JSON has them, those of numpy too; None for what are no numbers."""
    if isinstance(value, Mapping):
        named = {name: _number(one) for name, one in value.items()}
        if all(isinstance(name, str) and one is not None for name, one in named.items()):
            return {str(name): one for name, one in named.items() if one is not None}
        return None
    if isinstance(value, Sequence) and not isinstance(value, str):
        numbers = [one for one in map(_number, value) if one is not None]
        return numbers if len(numbers) == len(value) else None
    return _number(value)


def _number(value: object) -> float | None:
    if isinstance(value, (int, float)):
        return value
    return float(value) if isinstance(value, Real) else None


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
