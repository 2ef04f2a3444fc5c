"""Every engine trains every objective as the sequential one does, or says why it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import small
from lth_runner.masking import Static
from lth_runner.problem.data import Data, MapStyle, SampledData
from lth_runner.problem.objective import CrossEntropy, MultiLabel, NextToken, SquaredError
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.training.engines.packed import Packed, Sparse, obstacle, sparse_obstacle
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream

NUM, WIDTH = 72, 6


def inputs(name: str, num: int = NUM) -> torch.Tensor:
    return torch.randn(num, WIDTH, generator=stream(0, name))


def targets(kind: str, x: torch.Tensor) -> torch.Tensor:
    """Functions of the inputs: a class, a class at each of two places, two numbers, two labels."""
    if kind == "classes":
        return (x[:, :3].argmax(1)).long()
    return x[:, :2] * 2 if kind == "numbers" else (x[:, :2] > 0).float()


OBJECTIVES = {
    "classes": (CrossEntropy(), 3),
    "numbers": (SquaredError(), 2),
    "labels": (MultiLabel(), 2),
}


def mlp(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 10), nn.ReLU(), nn.Linear(10, outputs))


def mlp_of_3() -> nn.Module:
    return mlp(3)


def mlp_of_2() -> nn.Module:
    return mlp(2)


def task(kind: str) -> Task:
    objective, outputs = OBJECTIVES[kind]
    splits = [(x, targets(kind, x)) for x in (inputs("train"), inputs("test", 24))]
    data = Data.from_tensors(*splits, validation=12).to("cpu")
    return Task({3: mlp_of_3, 2: mlp_of_2}[outputs], data, objective=objective)


def halved(task: Task, seed: int) -> Mask:
    dense = task.dense()
    return Mask({n: torch.rand(k.shape, generator=stream(seed, n)) < 0.5 for n, k in dense.items()})


def jobs(problem: Task) -> list[Job]:
    seeds = [problem.with_seed(seed) for seed in range(3)]
    return [Job(one, Ticket(halved(one, one.seed), one.init()), Static()) for one in seeds]


@pytest.mark.parametrize("engine", [Packed(), Sparse(below=0.9)], ids=["packed", "sparse"])
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_steps_and_measures_are_those_of_one_by_one(kind, engine):
    problem, recipe = task(kind), small.recipe()
    assert obstacle(problem, Static(), recipe) is None
    assert sparse_obstacle(problem, Static(), recipe) is None
    together = engine.begin(jobs(problem), recipe, [None] * 3)
    apart = [Sequential().begin([job], recipe, [None]) for job in jobs(problem)]
    for _ in range(10):
        together.advance()
        for one in apart:
            one.advance()
        for lane, one in zip(together.lanes, apart, strict=True):
            [alone] = one.lanes
            expected = alone.weights()
            for name, value in lane.weights().items():
                torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
    rows = [
        (lane.evaluate(), one.lanes[0].evaluate())
        for lane, one in zip(together.lanes, apart, strict=True)
    ]
    for row, expected in rows:
        assert row.keys() == expected.keys()
        measures = {m.name for m in problem.objective.measures}
        assert {f"test_{name}" for name in measures} <= row.keys()
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


def test_an_objective_with_uneven_samples_says_why_it_is_not_packed():
    problem = replace(task("classes"), objective=NextToken())
    assert "another number of terms" in str(obstacle(problem, Static(), small.recipe()))


def test_targets_that_are_left_out_are_not_packed():
    problem = task("classes")
    x, y = problem.data.train
    y = y.clone()
    y[3] = -100
    assert "leaves out some" in str(
        obstacle(
            replace(problem, data=replace(problem.data, train=(x, y))), Static(), small.recipe()
        )
    )


class Hooked(nn.Sequential):
    """Holds its first layer still by a hook on the gradient."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(WIDTH, 4), nn.ReLU(), nn.Linear(4, 3))
        self[0].weight.register_hook(torch.zeros_like)


class Watched(nn.Sequential):
    """Doubles what comes out of its first layer by a hook on the module."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(WIDTH, 4), nn.ReLU(), nn.Linear(4, 3))
        self[0].register_forward_hook(lambda module, args, output: 2 * output)


@pytest.mark.parametrize("model", [Hooked, Watched])
def test_a_network_with_hooks_is_not_packed(model):
    problem = replace(task("classes"), model=model)
    assert "carries hooks" in str(obstacle(problem, Static(), small.recipe()))


class Pairs(torch.utils.data.Dataset):
    """Samples that are made when they are asked for."""

    def __init__(self, name: str) -> None:
        self.x = inputs(name)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.x[number], targets("numbers", self.x[number : number + 1])[0]


def test_samples_that_are_not_in_memory_pack_but_not_in_compiled_loops():
    train, test = (MapStyle(Pairs(name)) for name in ("train", "test"))
    data = SampledData.held_out(train, test, validation=12)
    problem = replace(task("numbers"), data=data)
    assert obstacle(problem, Static(), small.recipe()) is None
    assert "held in memory" in str(sparse_obstacle(problem, Static(), small.recipe()))
    together = Packed().begin(jobs(problem), small.recipe(), [None] * 3)
    together.advance()
    assert set(together.lanes[0].evaluate()) >= {"val_r2", "test_r2", "test_loss"}
