"""What the most frequent class alone reaches: in a problem's facts, in verdicts, beside scores."""

from __future__ import annotations

import dataclasses
import json
from functools import partial

import pytest
import torch

from finished import chain
from lth_runner.problem.data import Data, SampledData, Sequences
from lth_runner.problem.objective import CrossEntropy, SquaredError
from lth_runner.problem.task import Task
from lth_runner.problem.unlearned import majority
from lth_runner.runs.evidence.judge import judge
from lth_runner.runs.record.problem_facts import problem_facts
from lth_runner.runs.report import FinishedRun
from lth_runner.runs.report.run_page import run_page
from lth_runner.runs.report.run_text import table
from test_pruner_report import row, save

# class 1 is the most frequent in train, and has 3 of 5 in the test split
TRAIN, TEST = [0, 1, 1, 2, 1, 0], [1, 1, 0, 1, 2]


def task(objective=None, **changed) -> Task:
    splits = {
        split: (torch.zeros(len(labels), 4), torch.tensor(labels))
        for split, labels in (("train", TRAIN), ("test", TEST))
    }
    data = Data.from_tensors(splits["train"], splits["test"], validation=0, num_classes=3)
    return Task(partial(chain, 4, 3), data, objective=objective or CrossEntropy(), **changed)


def test_the_most_frequent_class_of_train_is_measured_on_test() -> None:
    assert majority(task()) == {"accuracy": pytest.approx(3 / 5)}
    assert problem_facts(task())["majority"] == {"accuracy": pytest.approx(3 / 5)}
    # F1 of class 1: 2 * 3 / (5 + 3), of the others 0
    assert majority(task(CrossEntropy(headline="f1")))["f1"] == pytest.approx(0.75 / 3)
    assert majority(task(CrossEntropy(headline="matthews")))["matthews"] == 0
    assert majority(task(SquaredError())) == {}


def test_texts_that_are_read_when_they_are_asked_for_have_one_too() -> None:
    def samples(labels: list[int]) -> Sequences:
        num = len(labels)
        table = {"tokens": torch.ones(num, dtype=torch.int32), "ends": torch.arange(1, num + 1),
                 "targets": torch.tensor(labels), "padding": torch.tensor(0)}  # fmt: skip
        return Sequences(table, 8)

    data = SampledData.held_out(samples(TRAIN), samples(TEST), validation=1, num_classes=3)
    assert majority(dataclasses.replace(task(), data=data)) == {"accuracy": pytest.approx(3 / 5)}


@pytest.mark.parametrize(("most", "at_chance"), [(0.9, True), (0.5, False), (None, False)])
def test_a_network_that_does_as_the_most_frequent_class_has_learned_nothing(
    most: float | None, at_chance: bool, tmp_path
) -> None:
    found = [row(round, "ticket", seed, 0.901 + seed / 1000, density=1 - 0.2 * round)
             for round in (0, 1) for seed in (0, 1, 2)]  # fmt: skip
    run = save(tmp_path / "run", found, dataset={"num_classes": 2})
    measures = [{"name": "accuracy", "unit": "%", "scale": 100, "chance": 0.5}]
    problem = {"measures": measures, "majority": None if most is None else {"accuracy": most}}
    (run.folder / "problem.json").write_text(json.dumps(problem))
    run = FinishedRun.load(run.folder)
    verdict = judge(run)
    assert verdict.at_chance == at_chance
    said = "The most frequent class alone reaches 90.00 %, guessing 50.00 %."
    assert (said in " ".join(table(run).split())) == (most == 0.9)
    facts = " ".join(run_page(run, verdict, None).facts)
    assert ("the most frequent class alone reaches" in facts) == (most is not None)
