"""What is handed out may be written to: no other part of a run sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

import small
from lth_runner.control import Reinit, Shuffle
from lth_runner.experiment import Experiment, run
from lth_runner.masking import Static
from lth_runner.probe import Performance, Signs
from lth_runner.runs.record import Record
from lth_runner.search.ticket import Past, Ticket, Trained

REWIND = {"step": "10it", "optimizer": "restore"}


@dataclass
class Rows:
    """A sink that keeps rows and evaluations, without times."""

    kept: list[dict[str, Any]] = field(default_factory=list)

    def open(self, run: object) -> None: ...
    def progress(self, progress: object) -> None: ...
    def samples(self, row: Mapping[str, Any]) -> None: ...
    def close(self, state: str, error: str | None) -> None: ...

    def metrics(self, rows: list[Mapping[str, Any]]) -> None:
        self.kept += map(dict, rows)

    def round(self, row: Mapping[str, Any], ticket: Ticket) -> None:
        self.kept.append({name: value for name, value in row.items() if "seconds" not in name})


def spoil(state: Mapping[str, torch.Tensor]) -> None:
    for value in state.values():
        value.fill_(7)


def spoil_ticket(ticket: Ticket) -> None:
    spoil(ticket.weights)
    spoil(ticket.masked)
    spoil(ticket.mask)
    ticket.weights.clear()
    if ticket.start.has_optimizer:
        spoil(ticket.start.optimizer)


def spoil_training(trained: Trained) -> None:
    spoil_ticket(trained.ticket)
    spoil(trained.weights)
    spoil(trained.mask)
    for row in trained.history:
        row.clear()  # type: ignore[attr-defined]
    for step in (trained.ticket.start.step, 10, 23, trained.clock.total):
        spoil(trained.at(step))
        spoil(trained.optimizer_at(step))
    for _ in range(2):  # computed, then read
        found = trained.derived("ones", lambda: {"x": torch.ones(3)})
        assert found["x"].tolist() == [1, 1, 1]
        spoil(found)
    for gradient in trained.gradients(2):
        spoil(gradient)


@dataclass(frozen=True)
class Spoiling:
    """A probe, or a control, that writes to all it can get at."""

    def __call__(self, task: Any, *given: Any) -> Any:
        spoil(task.init())
        spoil(task.dense())
        if isinstance(given[0], Ticket):
            ticket, past, _ = given
            spoil_ticket(ticket)
            for earlier in past:
                spoil_training(earlier)
            return None
        past, trained = given
        return self._look(task, past, trained)

    def _look(self, task: Any, past: Past, trained: Trained) -> Iterator[tuple[str, float]]:
        for one in (*past, trained):
            spoil_training(one)
        spoil_training(trained.sibling(trained.ticket, "again"))
        yield from ()


def rows_of(folder: Any, *, spoilt: bool) -> list[dict[str, Any]]:
    spoiling = (Spoiling(),) * spoilt
    controls = {"shuffle": Shuffle(), "reinit": Reinit()}
    experiment = Experiment(
        tasks=[small.task(model=small.convolutional)],
        search=small.imp(rounds=2, **REWIND),
        masking=Static(),
        controls=({"spoiling": Spoiling()} if spoilt else {}) | controls,
        probes=(*spoiling, Performance(), Signs()),
    )
    rows = Rows()
    trainer = small.trainer(folder, recipe=small.recipe(snapshots=["10it"]))
    run(experiment, trainer, Record([rows]))
    return rows.kept


@pytest.mark.slow
def test_whatever_a_part_writes_to_the_run_ends_as_it_would_have(tmp_path: Any) -> None:
    before = rows_of(tmp_path / "whole", spoilt=False)
    assert len(before) > 20
    assert rows_of(tmp_path / "spoilt", spoilt=True) == before
    assert rows_of(tmp_path / "spoilt", spoilt=True) == before  # what lies in the Store, too


@pytest.mark.parametrize("kind", ["weights", "masked"])
def test_a_copy_of_a_tickets_weights_is_the_readers_own(kind: str) -> None:
    task = small.task()
    ticket = Ticket(task.dense(), task.init())
    before = ticket.fingerprint
    own = getattr(ticket, kind)
    spoil(own)
    assert all((value == 7).all() for value in own.values())
    assert Ticket(ticket.mask, ticket.weights).fingerprint == before
    assert ticket.under(~ticket.mask).weights.keys() == own.keys()
