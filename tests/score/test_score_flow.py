"""SynFlow: what flows in flows out."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from score_cases import HAND, SHAPE, flat, half_mask, images, some_mask, task, three_samples
from torch import nn

from lth_runner.problem import models
from lth_runner.problem.requirements import check
from lth_runner.problem.task import Task
from lth_runner.score import Synflow
from lth_runner.values.errors import UserError


def test_two_layers_by_hand():
    """|W1| = [[1, .5], [.25, .75]] makes 1.5 and 1; columns of |W2| sum to .8 and 1.3; R = 2.5."""
    found = Synflow()(three_samples(), HAND, three_samples().dense())
    expected = {
        "0.weight": [[0.8 * 1, 0.8 * 0.5], [1.3 * 0.25, 1.3 * 0.75]],
        "2.weight": [[0.6 * 1.5, 0.4 * 1], [0.2 * 1.5, 0.9 * 1]],
    }
    for name, value in found.items():
        torch.testing.assert_close(value, torch.tensor(expected[name], dtype=torch.float64))
        assert float(value.sum()) == pytest.approx(2.5)


def test_a_masked_network_by_hand():
    """Without W1[1, 0] and W2[0, 1]: hidden 1.5 and .75, columns .8 and .9."""
    found = Synflow()(three_samples(), HAND, half_mask())
    expected = {
        "0.weight": [[0.8 * 1, 0.8 * 0.5], [0, 0.9 * 0.75]],
        "2.weight": [[0.6 * 1.5, 0], [0.2 * 1.5, 0.9 * 0.75]],
    }
    for name, value in found.items():
        torch.testing.assert_close(value, torch.tensor(expected[name], dtype=torch.float64))


def plain_conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 7, 3, bias=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(7, 3, bias=False),
    )


def test_layers_and_units_pass_on_what_they_get():
    problem = Task(plain_conv, images())
    found = Synflow()(problem, problem.init(), some_mask(problem))
    first, second, last = found.values()
    torch.testing.assert_close(first.sum((1, 2, 3)), second.sum((0, 2, 3)))
    torch.testing.assert_close(second.sum((1, 2, 3)), last.sum(0))
    totals = [float(value.sum()) for value in found.values()]
    masked = some_mask(problem)(problem.init())
    positive = {n: w.abs().double() for n, w in masked.items()}
    flow = problem.outputs(positive, torch.ones(1, 2, 8, 8, dtype=torch.float64)).sum()
    assert totals == pytest.approx([float(flow)] * 3, rel=1e-12)


def with_biases() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))


def test_biases_let_flow_in_or_are_zero_by_hand():
    """|b| = 1 and 0.5 in the hidden units make 2.5 and 1.5; |b| behind them changes nothing."""
    biases = {"0.bias": torch.tensor([-1.0, 0.5]), "2.bias": torch.tensor([-7.0, 3.0])}
    problem = three_samples(with_biases)
    given = {n: w.float() for n, w in HAND.items()} | biases
    flowing, none = (Synflow(b)(problem, given, problem.dense()) for b in ("absolute", "zero"))
    assert flowing["2.weight"].flatten().tolist() == pytest.approx([1.5, 0.6, 0.5, 1.35])
    assert none["2.weight"].flatten().tolist() == pytest.approx([0.9, 0.4, 0.3, 0.9])
    assert torch.equal(flowing["0.weight"], none["0.weight"])
    assert float(none["0.weight"].sum()) == pytest.approx(float(none["2.weight"].sum()))
    with pytest.raises(UserError, match=r"biases='zeros': did you mean zero"):
        Synflow("zeros")


def test_signs_do_not_matter():
    problem = task("resnet")
    weights = problem.init(7)
    turned = {n: -w if n in problem.prunable else w for n, w in weights.items()}
    one, two = (Synflow()(problem, w, problem.dense()) for w in (weights, turned))
    assert torch.equal(flat(one), flat(two))


def test_deep_networks_neither_overflow_nor_vanish():
    problem = Task(partial(models.mlp, **SHAPE, widths=(40,) * 60), images())
    for scale in (0.02, 20.0):
        weights = {n: w * scale for n, w in problem.init().items()}
        found = flat(Synflow()(problem, weights, problem.dense()))
        assert found.dtype == torch.float64
        assert found.isfinite().all()
        assert (found > 0).all()


def test_an_infinite_flow_is_refused():
    problem = three_samples()
    huge = {n: w * 1e200 for n, w in HAND.items()}
    with pytest.raises(UserError, match=r"pruner\.search\.score: SynFlow's R is inf"):
        Synflow()(problem, huge, problem.dense())


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(1, 2), nn.LayerNorm(8), nn.BatchNorm2d(2, track_running_stats=False)]
)
def test_norms_that_rescale_the_one_input_are_refused(norm):
    def network() -> nn.Module:
        return nn.Sequential(norm, nn.Flatten(), nn.Linear(128, 3))

    problem = Task(network, images())
    for attempt in (
        lambda: check(Synflow(), problem),
        lambda: Synflow()(problem, problem.init(), problem.dense()),
    ):
        with pytest.raises(UserError, match=rf"with {type(norm).__name__} \(0\)"):
            attempt()
