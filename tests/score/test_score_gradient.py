"""SNIP, FORCE and GraSP against the chain rule and finite differences."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from score_cases import (
    HAND,
    LABELS,
    NUM,
    SHAPE,
    by_hand,
    doubles,
    flat,
    half_mask,
    images,
    plain_loss,
    some_mask,
    task,
    three_samples,
)

from lth_runner.allocate import Global
from lth_runner.problem import models
from lth_runner.problem.task import Task
from lth_runner.score import Force, GradientMagnitude, Grasp, GraspIterated, Snip
from lth_runner.score.examples import draw_batches, per_class
from lth_runner.score.gradient import _xavier
from lth_runner.values.state import State

TASK = three_samples()
ALL = {"batch_size": NUM}


def masks():
    return [TASK.dense(), half_mask()]


@pytest.mark.parametrize("mask", masks(), ids=["dense", "half"])
def test_snip_is_weight_times_gradient_by_the_chain_rule(mask):
    masked = mask(HAND)
    expected = {n: (masked[n] * g).abs() for n, g in by_hand(masked).items()}
    found = Snip(**ALL, normalise=False)(TASK, HAND, mask)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_snip_is_the_change_of_the_loss_in_the_mask():
    found = Snip(**ALL, normalise=False)(TASK, HAND, TASK.dense())
    for name, value in found.items():
        for index in range(value.numel()):
            losses = []
            for step in (1e-5, -1e-5):
                moved = {n: w.clone() for n, w in HAND.items()}
                moved[name].view(-1)[index] *= 1 + step
                losses.append(plain_loss(moved))
            change = (losses[0] - losses[1]) / 2e-5
            assert float(value.view(-1)[index]) == pytest.approx(float(change.abs()), rel=1e-6)


@pytest.mark.parametrize("absolute", ["after", "before"])
def test_normalised_snip_sums_to_one_and_ranks_alike(absolute):
    mask = some_mask(task("resnet"))
    weights = task("resnet").init(7)
    score = Snip(num_batches=2, batch_size=20, absolute=absolute)
    normed = flat(score(task("resnet"), weights, mask)).double()
    plain = flat(replace(score, normalise=False)(task("resnet"), weights, mask)).double()
    assert float(normed.sum()) == pytest.approx(1, rel=1e-5)
    torch.testing.assert_close(normed * plain.sum(), plain, rtol=1e-5, atol=1e-12)


def test_what_enters_a_relu_unit_leaves_it():
    slope = by_hand(HAND)
    signed = {n: HAND[n] * g for n, g in slope.items()}
    torch.testing.assert_close(signed["0.weight"].sum(1), signed["2.weight"].sum(0))
    found = Snip(**ALL, normalise=False)(TASK, HAND, TASK.dense())
    for name, value in found.items():
        torch.testing.assert_close(signed[name].sign() * value, signed[name])


def test_a_network_without_gradient_scores_zero_everywhere():
    zeros = {n: torch.zeros_like(w) for n, w in HAND.items()}
    found = Snip(**ALL)(TASK, zeros, TASK.dense())
    assert flat(found).tolist() == [0.0] * 8


def test_gradients_of_batches_are_summed_before_or_after_their_absolute_value():
    singles = [by_hand(HAND, x.double(), y) for x, y in draw_batches(TASK, 3, 1)]
    signs = torch.stack([flat(g) for g in singles]).sign()
    assert (signs.min(0).values * signs.max(0).values < 0).any()  # the two ways differ here
    for absolute, reduced in (
        ("after", torch.stack([flat(g) for g in singles]).mean(0).abs()),
        ("before", torch.stack([flat(g).abs() for g in singles]).mean(0)),
    ):
        score = Snip(num_batches=3, batch_size=1, absolute=absolute, normalise=False)
        found = score(TASK, HAND, TASK.dense())
        torch.testing.assert_close(flat(found), flat(HAND).abs() * reduced, rtol=1e-12, atol=0)


def test_batch_statistics_and_running_ones_score_differently():
    weights, mask = task("resnet").init(7), task("resnet").dense()
    running, batch = (
        Snip(batch_size=20, batch_statistics=flag)(task("resnet"), weights, mask)
        for flag in (False, True)
    )
    assert not torch.allclose(flat(running), flat(batch), rtol=1e-2)
    assert (task("mlp").norm, task("resnet").norm != set()) == (set(), True)


def test_resampling_draws_another_batch_for_another_mask():
    problem = task("mlp")
    weights = doubles(problem.init(7))
    mask = some_mask(problem)
    fixed, drawn = (
        Snip(batch_size=20, normalise=False, resample=flag)(problem, weights, mask)
        for flag in (False, True)
    )
    assert not torch.allclose(flat(fixed), flat(drawn))
    names = ("", mask.fingerprint, problem.dense().fingerprint)
    firsts = [draw_batches(problem, 1, 20, name=name)[0][0] for name in names]
    assert not any(torch.equal(firsts[i], firsts[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_a_removed_weight_has_no_snip_but_may_return_by_force():
    mask = half_mask()
    snip = Snip(**ALL, normalise=False)(TASK, HAND, mask)
    force = Force(**ALL)(TASK, HAND, mask)
    slope = by_hand(mask(HAND))
    expected = {n: (HAND[n] * g).abs() for n, g in slope.items()}
    torch.testing.assert_close(force, expected, rtol=1e-12, atol=0)
    for name, kept in mask.items():
        assert (snip[name][~kept] == 0).all()
        assert (force[name][~kept] > 0).all()
        torch.testing.assert_close(force[name][kept], snip[name][kept])


def test_force_on_the_dense_network_is_snip():
    snip = Snip(**ALL, normalise=False)(TASK, HAND, TASK.dense())
    torch.testing.assert_close(Force(**ALL)(TASK, HAND, TASK.dense()), snip)


@pytest.mark.parametrize("mask", masks(), ids=["dense", "half"])
def test_gradient_magnitude_and_the_iterated_grasp_are_the_masked_networks_gradient(mask):
    slope = by_hand(mask(HAND))
    found = GradientMagnitude(**ALL)(TASK, HAND, mask)
    squared = GraspIterated(**ALL)(TASK, HAND, mask)
    torch.testing.assert_close(found, {n: g.abs() for n, g in slope.items()})
    torch.testing.assert_close(squared, {n: g.square() for n, g in slope.items()})


def tempered(weights: State, temperature: float) -> State:
    """The gradient by the chain rule where the logits are divided."""
    softer = {**weights, "2.weight": weights["2.weight"] / temperature}
    slope = by_hand(softer, *_both())
    return {**slope, "2.weight": slope["2.weight"] / temperature}


def _both():
    """One sample of each class: what GraSP takes of the three."""
    (batch,) = per_class(TASK, 1, None)()
    return batch[0].double(), batch[1]


@pytest.mark.parametrize("temperature", [1.0, 200.0])
@pytest.mark.parametrize("mask", masks(), ids=["dense", "half"])
def test_grasp_is_weight_times_a_numerical_hessian_times_gradient(mask, temperature):
    masked = mask(HAND)
    slope = mask(tempered(masked, temperature))
    step = 1e-5 / float(flat(slope).norm())
    ends = [
        tempered({n: masked[n] + sign * step * slope[n] for n in masked}, temperature)
        for sign in (1, -1)
    ]
    product = {n: (ends[0][n] - ends[1][n]) / (2 * step) for n in masked}
    expected = {n: masked[n] * product[n] for n in masked}
    found = Grasp(temperature=temperature, samples_per_class=1)(TASK, HAND, mask)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-14)


def norm_of_gradient(weights: State, temperature: float = 1.0) -> float:
    return float(flat(tempered(weights, temperature)).square().sum())


def test_grasp_is_half_the_fall_of_the_squared_gradient_norm_as_a_weight_leaves():
    found = Grasp(temperature=1.0, samples_per_class=1)(TASK, HAND, TASK.dense())
    assert flat(found).min() < 0 < flat(found).max()
    for name, value in found.items():
        for index in range(4):
            norms = []
            for share in (1e-5, -1e-5):
                less = {n: w.clone() for n, w in HAND.items()}
                less[name].view(-1)[index] *= 1 - share
                norms.append(norm_of_gradient(less))
            fall = -(norms[0] - norms[1]) / 2e-5
            assert 2 * float(value.view(-1)[index]) == pytest.approx(fall, rel=1e-5, abs=1e-12)


def test_removing_the_lowest_grasp_hurts_the_gradient_least():
    """After the best and the worst tenth are gone: the gradient norm of the kept weights."""
    problem = task("mlp")
    weights = doubles(problem.init(7))
    score = Grasp(samples_per_class=20, temperature=1.0)
    found = score(problem, weights, problem.dense())
    (batch,) = per_class(problem, 20, None)()
    norms = []
    for sign in (1, -1):
        signed = {n: sign * value for n, value in found.items()}
        mask = Global()(signed, 0.9, problem.dense(), 0)
        masked = mask(weights)
        leaves = {n: masked[n].clone().requires_grad_() for n in mask}
        loss = problem.loss({**masked, **leaves}, (batch[0].double(), batch[1]))
        slope = dict(zip(mask, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        norms.append(float(flat(mask(slope)).square().sum()))
    assert norms[0] > 1.5 * norms[1]


def test_the_temperature_changes_grasps_ranking():
    weights, mask = doubles(task("resnet").init(7)), task("resnet").dense()
    cold, hot = (
        flat(Grasp(temperature=t)(task("resnet"), weights, mask)).argsort() for t in (1.0, 200.0)
    )
    assert not torch.equal(cold, hot)


@pytest.mark.parametrize(
    ("num_batches", "sizes"), [(None, [30]), (1, [30]), (4, [8, 8, 8, 6]), (15, [2] * 15)]
)
def test_grasp_sees_as_many_of_each_class_in_random_order(num_batches, sizes):
    batches = list(per_class(task("mlp"), 10, num_batches)())
    labels = torch.cat([y for _, y in batches])
    assert [len(y) for _, y in batches] == sizes
    assert labels.bincount().tolist() == [10, 10, 10]
    assert not torch.equal(labels, labels.sort().values)
    train = task("mlp").data.train
    rows = {tuple(x.flatten().tolist()): int(y) for x, y in zip(*train, strict=True)}
    for inputs, given in batches:
        assert [rows[tuple(x.flatten().tolist())] for x in inputs] == given.tolist()


def test_by_class_two_batches_are_halves_of_the_classes():
    problem = Task(task("mlp").model, images(classes=2))
    halves = [labels.tolist() for _, labels in per_class(problem, 10, 2, by_class=True)()]
    assert halves == [[0] * 10, [1] * 10]
    mixed, ordered = (
        torch.cat([x for x, _ in per_class(problem, 10, 2, by_class=flag)()])
        for flag in (False, True)
    )
    assert not torch.equal(mixed, ordered)  # the same samples, one class after another
    assert torch.equal(
        mixed.flatten(1).sum(1).sort().values, ordered.flatten(1).sum(1).sort().values
    )


def test_grasp_over_halves_by_class_normalises_each_half_by_itself():
    problem = Task(task("resnet").model, images(classes=3))
    weights, names = doubles(problem.init(7)), list(problem.prunable)
    score = Grasp(samples_per_class=8, num_batches=2, temperature=2.0, order="by_class")
    leaves = {n: weights[n].clone().requires_grad_() for n in names}

    def slope(half, create_graph):
        inputs, labels = half
        batch = (inputs.double(), labels)
        loss = problem.loss({**weights, **leaves}, batch, 2.0, batch_statistics=True)
        return torch.autograd.grad(loss, list(leaves.values()), create_graph=create_graph)

    halves = list(per_class(problem, 8, 2, by_class=True)())
    mean = [sum(parts) / 2 for parts in zip(*(slope(h, False) for h in halves), strict=True)]
    total = sum(
        (g * still).sum()
        for half in halves
        for g, still in zip(slope(half, True), mean, strict=True)
    )
    curved = torch.autograd.grad(total / 2, list(leaves.values()))
    expected = {n: weights[n] * h for n, h in zip(names, curved, strict=True)}
    found = score(problem, weights, problem.dense())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-16)
    mixed = replace(score, order="mixed")(problem, weights, problem.dense())
    assert not torch.allclose(flat(mixed), flat(found), rtol=1e-2)


def test_grasp_may_score_linear_layers_at_a_xavier_draw():
    problem = task("resnet")
    weights, dense = doubles(problem.init(7)), problem.dense()
    linear = {n for n, w in weights.items() if n in dense and w.ndim == 2}
    score = Grasp(samples_per_class=6, fresh_linear=True)
    found = score(problem, weights, dense)
    other = {n: 3 * w if n in linear else w for n, w in weights.items()}
    torch.testing.assert_close(found, score(problem, other, dense))  # what they hold is not seen
    assert linear
    assert linear != set(dense)
    assert not torch.allclose(
        flat(found), flat(Grasp(samples_per_class=6)(problem, weights, dense))
    )
    wide = Task(functools.partial(models.mlp, **SHAPE, widths=(300,)), images())
    drawn = _xavier(wide, doubles(wide.init()))
    assert list(drawn) == list(wide.prunable)
    first = drawn["linear1.weight"]
    assert float(first.std()) == pytest.approx((2 / (128 + 300)) ** 0.5, rel=0.02)


def test_batches_of_a_class_balanced_draw_hold_64_at_most_and_never_one():
    assert [len(y) for _, y in per_class(task("mlp"), 20, None)()] == [60]
    for num_batches in range(1, 16):
        sizes = [len(y) for _, y in per_class(task("mlp"), 7, min(num_batches, 10))()]
        assert min(sizes) > 1
        assert sum(sizes) == 21


def test_grasp_in_batches_takes_the_means_of_gradient_and_product():
    split = (torch.cat([INPUTS32] * 2), torch.cat([LABELS] * 2))
    problem = Task(TASK.model, TASK.data.from_tensors(split, split, validation=0))
    whole = Grasp(samples_per_class=2, num_batches=1, temperature=2.0)
    found = whole(problem, HAND, problem.dense())
    parts = replace(whole, num_batches=2)(problem, HAND, problem.dense())
    torch.testing.assert_close(found, parts)  # equal halves: means of means


INPUTS32 = TASK.data.train[0]
