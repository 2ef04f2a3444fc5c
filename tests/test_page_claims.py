"""What the rows of docs/results.md say of their runs: which way, of what, and when they say it."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from lth_runner.runs.evidence.rows import FinishedRun

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import claims_rewinding
from claims import CLAIMS
from claims_bayesian import Apart
from claims_rewinding import STEPS, Trusted
from evidence import archived, readable
from fields import OrderedBy, Scalar
from grids import Best
from judged import Row, decided
from measures import Found
from oneshot import ONE_SHOT
from searched import Ahead
from structured import AnyOf

ARCHIVE = Path(__file__).parents[1] / "docs/runs"
DENSITIES = (0.5, 0.2)


@cache
def told() -> dict[str, Row]:
    """The rows of the page, by the id of their claim."""
    runs = readable(archived(ARCHIVE))
    return {row.claim.id: row for group in CLAIMS.values() for row in decided(group, runs)}


def run(name, points, *, arm="ticket", pruner="imp", state="done", **config):
    """A run with a round for each (density, accuracies of its seeds)."""
    rows = [
        {"round": round, "arm": arm, "seed": seed, "density": kept, "test_accuracy": accuracy,
         "training_key": f"{name} {round} {seed}", "x": accuracy, "val_accuracy": 0.5}
        for round, (kept, values) in enumerate(points)
        for seed, accuracy in enumerate(values)
    ]  # fmt: skip
    seeds = len({row["seed"] for row in rows})
    config = {"name": "one", "replicates": seeds, **config}
    return FinishedRun(Path(name), config, {"state": state}, {"choices": {"pruner": pruner}},
                       tuple(rows))  # fmt: skip


def test_the_difference_of_a_row_points_where_its_words_say() -> None:
    signs = {"difference above 0": 1, "difference below 0": -1}
    checked = 0
    for row in told().values():
        printed = re.search(r": ([+−]\d[\d.]*)", row.found.ours) if row.found else None
        sign = signs.get(row.claim.rule)
        if printed and sign and row.found.for_it is not None:
            difference = float(printed[1].replace("−", "-"))
            assert difference == 0 or (sign * difference > 0) == (row.found.for_it < 0.5), row.ours
            checked += 1
    assert checked > 100


def test_a_ticket_ahead_of_another_is_behind_in_the_other_s_place() -> None:
    better, worse = (
        run(name, [(1.0, [0.9, 0.91]), (0.5, values)], rewind={"step": "0it"})
        for name, values in (("a", [0.90, 0.91]), ("b", [0.80, 0.81]))
    )
    ahead = Ahead(0.5, 0)({"first": better, "second": worse})
    behind = Ahead(0.5, 0, behind=True)({"first": worse, "second": better})
    assert ahead.for_it == pytest.approx(behind.for_it)
    assert ahead.for_it < 0.05
    assert "+10.00 [" in ahead.ours
    assert "−10.00 [" in behind.ours


def test_the_same_trainings_decide_nothing() -> None:
    one = run("a", [(1.0, [0.9, 0.91]), (0.5, [0.9, 0.92])])
    found = Apart(0.5, -0.2)({"first": one, "second": one})
    assert found.ours.endswith("the same trainings")
    assert found.for_it is found.against_it is None
    other = run("b", [(1.0, [0.9, 0.91]), (0.5, [0.9, 0.92])])
    assert Apart(0.5, -0.2)({"first": one, "second": other}).for_it < 0.05


def test_what_a_table_has_of_the_rows_is_said_of_the_study_that_makes_as_many_seeds() -> None:
    for row in told().values():
        if "+study=forgetting" in row.claim.command and row.found:
            assert ("(n = 5)" in row.found.ours) == ('"4"' in row.claim.command)


def ordered(*by_density: list[float]) -> float:
    """p of a correlation above 0 of four pruners whose x and accuracy agree in the first lists."""
    runs = {
        str(place): run(
            str(place),
            [
                (1.0, [0.1]),
                *((kept, [of[place]]) for kept, of in zip(DENSITIES, by_density, strict=False)),
            ],
            pruner=str(place),
        )
        for place in range(4)
    }
    return OrderedBy(Scalar("x"))(runs).for_it


def test_the_same_order_at_another_density_is_no_further_evidence() -> None:
    values = [0.1, 0.2, 0.3, 0.4]
    assert ordered(values) == pytest.approx(1 / 24, rel=0.1)
    assert ordered(values, values) == pytest.approx(ordered(values))


def test_either_direction_of_a_correlation_counts_what_is_as_far() -> None:
    runs = {str(i): run(str(i), [(1.0, [0.1]), (0.5, [i / 9])], pruner=str(i)) for i in range(4)}
    found = OrderedBy(Scalar("x"))(runs)
    assert found.against_it == 1.0
    reverse = OrderedBy(Scalar("x"), below=True)(runs)
    assert (reverse.for_it, reverse.against_it) == (found.against_it, found.for_it)


def test_of_runs_of_one_chain_the_best_evidence_is_the_point_of_a_correlation() -> None:
    others = [run(str(i), [(1.0, [0.1]), (0.5, [i / 9])], pruner=str(i)) for i in range(3)]
    best, worse = (
        run(n, [(1.0, [0.1]), (0.5, [v])], pruner="3") for n, v in (("b", 0.9), ("w", 0))
    )
    points = OrderedBy(Scalar("x"))._strata(dict(enumerate([*others, best, worse])))
    assert points[0.5]["3", "ticket"] == (0.9, 0.9)


def test_of_equal_learning_rates_the_smallest_is_taken() -> None:
    def cell(rate):
        train = {"batch_size": 4, "optimizer": {"lr": rate}}
        points = [(1.0, [0.9, 0.91]), (0.5, [rate, rate + 0.01])]
        return run(str(rate), points, model={"norm": "none"}, train=train)

    for rates in ((0.1, 0.2, 0.3), (0.3, 0.2, 0.1)):
        found = Best(0.5, ("none", 4), ("none", 4))({str(one): cell(one) for one in rates})
        assert found.ours.count("(lr 0.1)") == 2


def test_what_holds_at_one_density_is_shown_and_what_holds_at_none_refuted() -> None:
    def said(*pairs):
        measures = {str(i): lambda _, p=p: Found("told", *p) for i, p in enumerate(pairs)}
        found = AnyOf(measures)({})
        return found.ours, found.for_it, found.against_it

    assert said((0.01, 0.99), (0.9, 0.1)) == ("0: told; 1: told", 0.02, 0.99)
    assert said((0.9, 0.1), (0.99, 0.01))[1:] == (1.0, 0.1)
    assert said((0.01, 0.99), (None, None))[1:] == (None, None)
    assert AnyOf({"a": lambda _: None})({}) is None


@pytest.mark.parametrize(
    ("misfit", "doubts", "p"),
    [(0.01, ("its form is wrong",), 1.0), (0.5, ("tau is not identified",), None), (0.5, (), 0.0)],
)
def test_a_model_that_is_not_identified_is_not_refuted(
    misfit: float, doubts: tuple[str, ...], p: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = SimpleNamespace(steps=(0, *STEPS), misfit=misfit, doubts=doubts,
                          smallest_step=lambda _: SimpleNamespace(value=17.0))  # fmt: skip
    sweeps = [SimpleNamespace(fit=fit)]
    monkeypatch.setattr(claims_rewinding, "find_sweeps", lambda _: sweeps)
    assert Trusted(0.1)({}).for_it == p


def test_an_unfinished_run_of_which_a_finished_one_tells_all_is_not_spoken_of() -> None:
    def of(name, state, *, retrain):
        options = {"sparsity": 0.5, "scope": "rows", "retrain": retrain}
        one = run(name, [(1.0, [0.9]), (0.5, [0.8])], pruner="wanda", state=state, pruner_=options)
        config = {**one.config, "name": ONE_SHOT.name, "pruner": options}
        return FinishedRun(one.folder, config, one.status, one.environment, one.rows)

    failed, whole = of("a", "failed", retrain=False), of("b", "done", retrain=True)
    assert ONE_SHOT.own([failed, whole]) == [whole]
    assert ONE_SHOT.own([failed]) == [failed]
