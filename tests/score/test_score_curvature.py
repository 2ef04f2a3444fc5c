"""Optimal Brain Damage against the whole Hessian."""

from __future__ import annotations

import pytest
import torch
from score_cases import (
    HAND,
    INPUTS,
    LABELS,
    NUM,
    by_hand,
    flat,
    half_mask,
    plain_loss,
    three_samples,
    with_tanh,
)
from torch.autograd.functional import hessian

from lth_runner.score import Obd

TASK = three_samples()
ALL = {"num_batches": 1, "batch_size": NUM}
PAIRS = [("dense", TASK.dense()), ("half", half_mask())]


def whole_hessian(weights, loss=plain_loss):
    """8 x 8, of the flattened weights."""

    def flattened(vector):
        first, second = vector.split(4)
        return loss({"0.weight": first.view(2, 2), "2.weight": second.view(2, 2)})

    return hessian(flattened, flat(weights))


@pytest.mark.parametrize("mask", [m for _, m in PAIRS], ids=[n for n, _ in PAIRS])
@pytest.mark.parametrize("split", [(1, 3), (3, 1)])
def test_gauss_newton_is_the_hessians_diagonal_in_a_relu_network(mask, split):
    masked = mask(HAND)
    expected = 0.5 * whole_hessian(masked).diagonal() * flat(masked).square()
    found = Obd("ggn", *split)(TASK, HAND, mask)
    assert (expected >= 0).all()
    assert (expected > 0).sum() > 4
    torch.testing.assert_close(flat(found), expected, rtol=1e-10, atol=1e-16)


def test_hutchinson_approaches_the_diagonal():
    full = whole_hessian(HAND)
    off = full - torch.diag(full.diagonal())
    num_draws = 400
    found = flat(Obd("hutchinson", **ALL, num_draws=num_draws)(TASK, HAND, TASK.dense()))
    expected = 0.5 * full.diagonal() * flat(HAND).square()
    # the variance of (v * Hv)_j is the sum of the squares of H's row j off the diagonal
    error = 0.5 * flat(HAND).square() * (off.square().sum(1) / num_draws).sqrt()
    assert ((found - expected).abs() <= 4 * error).all()
    assert (found - expected).abs().max() > 0


def tanh_loss(weights):
    hidden = (INPUTS @ weights["0.weight"].T).tanh()
    return torch.nn.functional.cross_entropy(hidden @ weights["2.weight"].T, LABELS)


def test_negative_curvature_counts_as_none():
    task = three_samples(with_tanh)
    weights = {n: 3 * w for n, w in HAND.items()}
    full = whole_hessian(weights, tanh_loss)
    off = full - torch.diag(full.diagonal())
    error = (off.square().sum(1) / 400).sqrt()
    sure = full.diagonal() < -5 * error
    assert sure.any()
    found = Obd("hutchinson", **ALL, num_draws=400)(task, weights, task.dense())
    assert (flat(found) >= 0).all()
    assert (flat(found)[sure] == 0).all()
    assert (flat(Obd("ggn", **ALL)(task, weights, task.dense()))[sure] > 0).all()


def test_fisher_squares_the_gradient_of_each_sample():
    squares = torch.stack(
        [flat(by_hand(HAND, INPUTS[i : i + 1], LABELS[i : i + 1])).square() for i in range(NUM)]
    ).mean(0)
    of_mean = flat(by_hand(HAND)).square()
    found = flat(Obd("fisher", **ALL)(TASK, HAND, TASK.dense()))
    torch.testing.assert_close(found, 0.5 * squares * flat(HAND).square(), rtol=1e-12, atol=0)
    assert not torch.allclose(squares, of_mean, rtol=0.1)


@pytest.mark.parametrize("estimator", ["ggn", "fisher"])
def test_rescaling_a_relu_unit_changes_no_score(estimator):
    scaled = {n: w.clone() for n, w in HAND.items()}
    scaled["0.weight"][0] *= 5
    scaled["2.weight"][:, 0] /= 5
    one, two = (Obd(estimator, **ALL)(TASK, w, TASK.dense()) for w in (HAND, scaled))
    torch.testing.assert_close(one, two, rtol=1e-10, atol=0)


def test_a_well_fitted_network_still_has_scores():
    fitted = {n: 40 * w for n, w in HAND.items()}  # logits of hundreds: float32 rounds p to 1
    found = flat(Obd("ggn", **ALL)(TASK, {n: w.float() for n, w in fitted.items()}, TASK.dense()))
    assert found.dtype == torch.float64
    assert found.max() > 0
