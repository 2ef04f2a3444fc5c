"""Counts may be rounded as the authors of a method round theirs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import small
from command import SMALL, lth_run
from lth_runner.allocate import Global, count
from lth_runner.schedule import Iterations
from lth_runner.score import Force, Snip
from lth_runner.score.examples import draw_batches
from lth_runner.search import AtInit
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask


@pytest.mark.parametrize("num", [1, 7, 100, 266_200, 11_173_962])
def test_a_density_rounds_down_or_up_and_what_is_whole_stays(num):
    for kept in range(1, min(num, 40)):
        assert {count(kept / num, num, way) for way in ("nearest", "down", "up")} == {kept}
        between = (kept - 0.6) / num
        assert count(between, num, "down") == kept - 1
        assert count(between, num, "nearest") == kept - 1
        assert count(between, num, "up") == kept
    assert count(1 - 0.9, 1000, "up") == count(1 - 0.9, 1000, "down") == 100


def test_a_budget_rounds_as_it_is_told_and_refuses_what_leaves_none():
    scores = {"a": torch.arange(10.0)}
    whole = Mask({"a": torch.ones(10, dtype=torch.bool)})
    for way, kept in (("nearest", 3), ("down", 2), ("up", 3)):
        assert Global(rounding=way)(scores, 0.26, whole, 0).num_kept == kept
    with pytest.raises(UserError, match=r"rounding=down leaves none: lower pruner\.sparsity"):
        Global(rounding="down")(scores, 0.09, whole, 0)
    with pytest.raises(UserError, match=r"pruner\.budgets\.global\.rounding='floor': "):
        Global(rounding="floor")


def authors(task, weights, density, steps, batch_size, *, regrow):
    """The masks of FORCE's code, or of its iterative SNIP: int(share * N), at a threshold."""
    shares = [np.exp(0 - ((step + 1) * (0 - np.log(density)) / steps)) for step in range(steps)]
    kept = {name: torch.ones_like(weights[name]) for name in task.prunable}
    for share in shares:
        whole = Mask({name: value.bool() for name, value in kept.items()})
        [(inputs, labels)] = draw_batches(task, 1, batch_size, name=whole.fingerprint)
        module = task.module().train()
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(weights[name] * kept.get(name, 1.0))
        F.nll_loss(module(inputs).log_softmax(1), labels).backward()
        slope = {name: module.get_parameter(name).grad for name in kept}
        scores = {name: (weights[name] * g).abs() for name, g in slope.items()}
        if not regrow:
            least = min(float(value.min()) for value in scores.values())
            for name, value in scores.items():
                value[kept[name] == 0] = least
        every = torch.cat([value.flatten() for value in scores.values()])
        threshold = torch.topk(every, int(len(every) * share), sorted=True).values[-1]
        kept = {name: (value >= threshold).float() for name, value in scores.items()}
    return Mask({name: value.bool() for name, value in kept.items()})


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("regrow", [True, False], ids=["force", "iter_snip"])
def test_force_and_iterative_snip_rounded_down_are_the_authors(regrow, steps):
    task = small.task()
    options = {"batch_size": 24, "batch_statistics": True, "resample": True}
    score = Force(**options) if regrow else Snip(**options)
    way = Global(rounding="down")
    search = AtInit(score, way, Iterations(0.853, iterations=steps), regrow=regrow)
    ours = search.mask(task, task.init())
    theirs = authors(task, task.init(), 1 - 0.853, steps, 24, regrow=regrow)
    assert theirs.num_kept == math.floor(0.147 * theirs.num_prunable)
    assert ours == theirs


def test_the_options_are_keys_of_the_config(tmp_path):
    done = lth_run(
        *SMALL, f"paths.outputs={tmp_path}", "pruner=prospr", "pruner.search.score.batch_size=24",
        "pruner.search.score.inner_momentum=0.9", "pruner.search.score.first_buffer=constant",
        "pruner.budgets.global.rounding=up",
    )  # fmt: skip
    assert done.status == 0, done.err
    said = lth_run(*SMALL, "pruner=prospr", "pruner.search.score.first_buffer=none")
    assert said.status == 2
    assert "pruner.search.score.first_buffer='none'" in said.err
    said = lth_run(*SMALL, "pruner=force", "pruner.budgets.global.rounding=floor")
    assert said.status == 2
    assert "pruner.budgets.global.rounding='floor'" in said.err
