"""Which runs make a matrix of carried tickets, read off their configs.

A run of given tickets names the run that they come from, and the target's own tickets are those of
the run that does on the target what the source's run did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import PurePath

from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.evidence.settings import flatten
from lth_runner.runs.evidence.transfer import Carried, Pair, Transfer
from lth_runner.runs.incidental import is_incidental
from lth_runner.values.terminal import visible

TASK = ("dataset", "train", "objective", "covers", "coordinates", "max_samples")
METHOD = ("pruner", "rewind", "origin")
OF_DATA = ("model.shape", "model.num_classes")  # follow the data set
OF_PLACE = ("dataset.root", "dataset.cache")
OF_SOURCE = ("pruner.ticket", "pruner.search.tickets.ticket")  # which ticket, not how it is carried
UNUSED = ("pruner.rate",)  # by given tickets
FIT = ("pruner.rename", "pruner.dropped", "pruner.fresh", "pruner.search.fit")  # of two networks
SEEDS = ("seed", "replicates")

Settings = tuple[tuple[str, str], ...]


def find_transfers(runs: Sequence[FinishedRun]) -> tuple[Transfer, ...]:
    """Finds the matrices that runs make; those of other methods or networks are others.

    So are those whose tickets are carried in another way. How two networks are fitted (names, heads
    drawn anew) may differ within a matrix, as their data do; where one pair has been carried with
    two, the rarer makes a matrix of its own.
    """
    kinds: dict[Settings, list[tuple[FinishedRun, FinishedRun]]] = {}
    for run in runs:
        origin = _origin(run, runs)
        if origin is not None and _task(run) != _task(origin):
            kinds.setdefault(_kind(run, origin), []).append((run, origin))
    found = [
        ((*kind, *fits), cells)
        for kind, pairs in kinds.items()
        for fits, cells in _by_fit(_cells(pairs, runs))
    ]
    every = [settings for settings, _ in found]
    return tuple(
        Transfer(
            tuple(sorted(cells, key=lambda cell: cell.pair)),
            {cell.target: cell.own for cell in cells if cell.own is not None},
            _differing(settings, every),
        )
        for settings, cells in found
    )


def _origin(run: FinishedRun, runs: Sequence[FinishedRun]) -> FinishedRun | None:
    """Finds the run that a run's tickets come from: a run folder, or one named by its run's name.

    Of several runs of a name, the only one that had begun before: there was one in it then.
    """
    named = run.option("pruner", "ticket")
    last = PurePath(str(named)).name if named else ""
    if not last:
        return None
    by_id = [one for one in runs if one.folder.name == last]
    if by_id:
        place = PurePath(str(named)).parent.name
        return next((one for one in by_id if one.folder.parent.name == place), by_id[0])
    below = [one for one in runs if one.folder.parent.name == last and one is not run]
    began = [one for one in below if _started(one) < _started(run)]
    return next((found[0] for found in (below, began) if len(found) == 1), None)


def _started(run: FinishedRun) -> str:
    return str(run.status.get("started") or "")


def _cells(
    pairs: Sequence[tuple[FinishedRun, FinishedRun]], runs: Sequence[FinishedRun]
) -> list[Carried]:
    """Makes the cells of a kind, the latest first."""
    names = _names([one for pair in pairs for one in pair[::-1]])
    cells = [
        Carried(names[_task(origin)], names[_task(run)], run, origin, _own(run, origin, runs))
        for run, origin in pairs
    ]
    return sorted(cells, key=lambda cell: str(cell.run.status.get("updated")), reverse=True)


def _by_fit(cells: Sequence[Carried]) -> list[tuple[Settings, list[Carried]]]:
    """Splits cells into matrices that hold each pair once, with what tells their fits apart.

    Of two runs of a pair that are carried alike, and differ in what was drawn anew, say, the later
    one counts; of fits, the first matrix has those that most pairs have.
    """
    latest: dict[tuple[Pair, Settings], Carried] = {}
    for cell in cells:
        latest.setdefault((cell.pair, _fit(cell.run)), cell)
    num_pairs = Counter(fit for _, fit in latest)
    by_pair: dict[Pair, list[Settings]] = {}
    for pair, fit in sorted(latest, key=lambda one: (-num_pairs[one[1]], one[1])):
        by_pair.setdefault(pair, []).append(fit)
    most = max(map(len, by_pair.values()))
    found = []
    for place in range(most):
        chosen = [(pair, fits[place]) for pair, fits in by_pair.items() if place < len(fits)]
        alike = {fit for _, fit in chosen}
        fits = alike.pop() if most > 1 and len(alike) == 1 else ()
        found.append((fits, [latest[one] for one in chosen]))
    return found


def _own(run: FinishedRun, origin: FinishedRun, runs: Sequence[FinishedRun]) -> FinishedRun | None:
    """Finds the run of the source's method on the target's task, of the same seeds."""
    wanted = (_task(run), _method(origin), _seeds(run), _network(run))
    return next(
        (one for one in runs if (_task(one), _method(one), _seeds(one), _network(one)) == wanted),
        None,
    )


def _kind(run: FinishedRun, origin: FinishedRun) -> Settings:
    """What all cells of a matrix share: network, method, seeds, and how a ticket is carried.

    And the headline measure of the targets; that of a source, which may learn something else
    altogether as masked tokens, is compared with nothing.
    """
    how = tuple(
        (f"given.{key}", value) for key, value in _method(run)
        if not _is_below(key, (*OF_SOURCE, *UNUSED, *FIT))
    )  # fmt: skip
    measured = ("measure", run.measure.name)
    return (*_network(run), *_method(origin), *_seeds(run), measured, *how)


def _fit(run: FinishedRun) -> Settings:
    return tuple((key, value) for key, value in _method(run) if _is_below(key, FIT))


def _task(run: FinishedRun) -> Settings:
    return _settings(run, TASK)


def _method(run: FinishedRun) -> Settings:
    return _settings(run, METHOD)


def _seeds(run: FinishedRun) -> Settings:
    return _settings(run, SEEDS)


def _network(run: FinishedRun) -> Settings:
    return _settings(run, ("model",))


def _settings(run: FinishedRun, sections: Sequence[str]) -> Settings:
    """Lists the keys of some sections that tell one run from another."""
    flat = flatten({key: run.config.get(key) for key in sections})
    left_out = (*OF_DATA, *OF_PLACE)
    return tuple(
        (key, str(value))
        for key, value in sorted(flat.items())
        if key not in left_out and not is_incidental(key)
    )


def _is_below(key: str, keys: Sequence[str]) -> bool:
    return any(key == one or key.startswith(f"{one}.") for one in keys)


def _names(runs: Sequence[FinishedRun]) -> dict[Settings, str]:
    """Names each task: by its data set, its optimizer, its coordinates, or all that differs."""
    first: dict[Settings, FinishedRun] = {}
    for run in runs:
        first.setdefault(_task(run), run)

    def data(run: FinishedRun) -> str:
        return str(run.option("dataset", "name"))

    def optimizer(run: FinishedRun) -> str:
        return str(run.choices.get("train") or "")

    def coordinates(run: FinishedRun) -> str:
        return str(run.choices.get("coordinates") or "")

    def both(run: FinishedRun) -> str:
        return f"{data(run)} {optimizer(run)}"

    ways: list[Callable[[FinishedRun], str]] = [data, optimizer, coordinates, both]
    for way in ways:
        found = {task: way(run) for task, run in first.items()}
        if all(found.values()) and len(set(found.values())) == len(found):
            return found
    return {task: _differing(task, list(first)) or "as it is" for task in first}


def _differing(settings: Settings, others: Sequence[Settings]) -> str:
    """Writes the settings that others have not, by the last parts of their keys, each once."""
    shared = set(others[0]).intersection(*others[1:])
    own = [(key.rsplit(".", 1)[-1], value) for key, value in settings if (key, value) not in shared]
    told = dict.fromkeys(f"{key}={value}" for key, value in own)
    return visible(", ".join(told))
