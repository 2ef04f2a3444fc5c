"""A parameter whose first gradient comes late is trained as it is by SGD that is not fused."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

import lanes
from lth_runner.masking import Static
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job


class Late(nn.Module):
    """Takes its second layer in from the third step in training on."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(192, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        self.steps += self.training
        hidden = self.first(x.flatten(1)).relu()
        if self.steps > 2:
            hidden = hidden + self.second(hidden)
        return self.last(hidden)


@pytest.mark.parametrize("dampening", [0.0, 0.3])
@pytest.mark.parametrize("maximize", [False, True])
def test_momentum_that_begins_late_is_that_of_plain_sgd(dampening, maximize):
    task = Task(Late, lanes.pictures())
    job = Job(task, Ticket(task.dense(), task.init()), Static())
    options = {"momentum": 0.9, "weight_decay": 0.01, "dampening": dampening, "maximize": maximize}
    fused, plain = (
        lanes.trained(
            [job],
            lanes.recipe(
                length="6it",
                optimizer=functools.partial(torch.optim.SGD, lr=0.01, fused=how, **options),
            ),
            by=Sequential(),
        )[0].weights
        for how in (True, False)
    )
    assert not torch.equal(plain["second.weight"], task.init()["second.weight"])
    for name, value in plain.items():
        torch.testing.assert_close(fused[name], value, atol=1e-6, rtol=1e-5)
