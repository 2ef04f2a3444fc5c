"""What memory holds of a large network: no copies that nobody asks for."""

from __future__ import annotations

import pytest
import torch

import small
from lth_runner.allocate.keep import keep_top, keep_top_of_all
from lth_runner.search import ticket as tickets
from lth_runner.search.ticket import dense_ticket


def test_a_large_networks_own_start_is_made_when_it_is_asked_for(monkeypatch):
    task = small.task()
    held = dense_ticket(task)
    monkeypatch.setattr(tickets, "LARGE", 1)
    made = dense_ticket(task)
    assert callable(made._given)
    assert not callable(held._given)
    assert made.fingerprint == held.fingerprint
    lesser = made.under(task.dense())
    for name, value in held.weights.items():
        for other in (made.weights, made.masked, lesser.weights):
            assert torch.equal(other[name], value)
    made.weights[next(iter(made.weights))].zero_()  # the reader's own
    assert made.fingerprint == held.fingerprint


@pytest.mark.parametrize("kinds", [(torch.float32,) * 3, (torch.float32, torch.float64)])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.77, 1.0])
@pytest.mark.parametrize("size", [7, 90_001])  # the second is looked at through a sample
def test_the_largest_of_several_tensors_are_those_of_all_side_by_side(kinds, share, size):
    draw = torch.Generator().manual_seed(size)
    scores = [torch.randint(0, 900, (size + n,), generator=draw).to(k) for n, k in enumerate(kinds)]
    within = [torch.rand(len(score), generator=draw) < 0.8 for score in scores]
    within[0][:] = True
    num = round(share * sum(int(inside.sum()) for inside in within))
    kept = keep_top_of_all(scores, within, num, 3)
    assert torch.equal(torch.cat(kept), keep_top(torch.cat(scores), torch.cat(within), num, 3))
    assert sum(int(one.sum()) for one in kept) == num
