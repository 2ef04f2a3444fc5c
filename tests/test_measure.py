"""Measures: how a figure is written, and what a run folder says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lth_runner.runs.measure import ending, headline, measures
from lth_runner.values.measure import ACCURACY, Measure

PERPLEXITY = Measure("perplexity", "lower")


@pytest.mark.parametrize(
    ("measure", "value", "text"),
    [
        (ACCURACY, 0.97963, "97.96 %"),
        (ACCURACY, 1.0, "100.00 %"),
        (PERPLEXITY, 12.34, "12.3"),
        (PERPLEXITY, 1.0, "1.00"),
        (PERPLEXITY, 1234.5, "1234"),
        (PERPLEXITY, 99.96, "100"),
        (PERPLEXITY, 99.94, "99.9"),
        (Measure("r2"), 0.4812, ".48"),
        (Measure("r2"), -0.4812, "-.48"),
        (Measure("loss", "lower", "nats"), 0.0723, ".072 nats"),
    ],
)
def test_a_value_is_written_in_the_unit_of_its_measure(
    measure: Measure, value: float, text: str
) -> None:
    assert measure.text(value) == text


def test_a_gain_is_positive_where_a_value_is_better() -> None:
    assert ACCURACY.gain(0.9, over=0.75) == pytest.approx(0.15)
    assert PERPLEXITY.gain(10.0, over=12.0) == 2.0
    assert (ACCURACY.error(0.75), PERPLEXITY.error(10.0)) == (0.25, 10.0)


def test_measures_come_back_from_a_file_with_the_headline_first(tmp_path: Path) -> None:
    listed = [PERPLEXITY.facts(), {**ACCURACY.facts(), "of a later version": 1}]
    (tmp_path / "problem.json").write_text(json.dumps({"measures": listed}))
    assert measures(tmp_path) == (PERPLEXITY, ACCURACY)


@pytest.mark.parametrize("problem", [None, "{", "{}", '{"measures": 3}', '{"measures": [1, {}]}'])
def test_a_run_that_names_no_measures_is_a_classification(
    tmp_path: Path, problem: str | None
) -> None:
    (tmp_path / "config.yaml").write_text("dataset:\n  num_classes: 4\n")
    if problem is not None:
        (tmp_path / "problem.json").write_text(problem)
    found = headline(tmp_path)
    assert (found.name, found.better, found.chance) == ("accuracy", "higher", 0.25)


def test_a_run_ends_with_the_means_of_its_last_tickets(tmp_path: Path) -> None:
    (tmp_path / "problem.json").write_text(json.dumps({"measures": [PERPLEXITY.facts()]}))
    lines = [
        {"round": 0, "arm": "ticket", "seed": 0, "sparsity": 0.0, "test_perplexity": 9.0},
        {"round": 1, "arm": "ticket", "seed": 0, "sparsity": 0.5, "test_perplexity": 10.0},
        {"round": 1, "arm": "reinit", "seed": 0, "sparsity": 0.5, "test_perplexity": 90.0},
        {"round": 1, "arm": "ticket", "seed": 1, "sparsity": 0.5, "test_perplexity": 13.0},
        {"round": 1, "arm": "ticket", "seed": 2, "sparsity": 0.5, "diverged": True},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "rounds.jsonl").write_text(text + '{"round": 2, "arm": "ti')
    found = ending(tmp_path)
    assert (found.measure, found.sparsity, found.value, found.num) == (PERPLEXITY, 0.5, 11.5, 2)
    (tmp_path / "rounds.jsonl").unlink()
    assert ending(tmp_path).value is None
