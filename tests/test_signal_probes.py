"""Pre-activations and Jacobians, by hand and against mean-field theory."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import small
from finished import chain_task, normal, random_mask, unchanged
from lth_runner.allocate import LayerWise
from lth_runner.probe import Jacobian, Signal
from lth_runner.probe.jacobian import jacobians
from lth_runner.probe.reference import sample
from lth_runner.probe.signal import gains, preactivation_variance, predicted_variance
from lth_runner.problem import models
from lth_runner.problem.task import Task
from lth_runner.score import Magnitude
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask

OPEN = "preactivation_variance_by_layer"
PREDICTED = "preactivation_variance_predicted_by_layer"
IID = "preactivation_variance_iid_by_layer"


def by_hand():
    """2 -> 2 -> 2 with one weight of the second layer pruned."""
    task = chain_task(2, 2, 2)
    weights = {
        "0.weight": torch.tensor([[1.0, 2.0], [0.0, -1.0]]),
        "2.weight": torch.tensor([[1.0, 1.0], [3.0, 1.0]]),
    }
    mask = Mask({**task.dense(), "2.weight": torch.tensor([[True, False], [True, True]])})
    return task, mask, weights


def look(probe, task, mask, weights):
    return dict(probe(task, [], unchanged(mask, weights)))


def test_preactivations_are_those_worked_out_by_hand():
    task, mask, weights = by_hand()
    # x = (1, 1): z1 = (3, -1), relu (3, 0); z2 = (3, 9). x = (1, -1): z1 = (-1, 1); z2 = (0, 1)
    inputs = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    found = preactivation_variance(task, mask(weights), inputs)
    assert found == {"0.weight": (9 + 1 + 1 + 1) / 4, "2.weight": (9 + 81 + 0 + 1) / 4}
    assert preactivation_variance(task, weights, inputs)["2.weight"] == (9 + 81 + 1 + 1) / 4


def test_chi_counts_the_weights_kept_and_iid_their_expected_number():
    task, mask, weights = by_hand()
    found = look(Signal(), task, mask, weights)
    # sums of squares: 6 of the first layer, 12 of the second, 11 of what is kept; 2 outputs each
    assert found["chi_by_layer"] == pytest.approx({"0.weight": 6 / 4, "2.weight": 11 / 4})
    assert found["chi_iid_by_layer"] == pytest.approx({"0.weight": 6 / 4, "2.weight": 9 / 4})
    assert found["chi"] == pytest.approx(math.sqrt(6 / 4 * 11 / 4))
    assert found["critical_weight_variance"] == pytest.approx(2 / (7 / 8))


@pytest.mark.parametrize(
    ("sparsity", "critical"), [(0.5, 4), (0.8, 10), (0.9, 20), (0.95, 40), (0.98, 100)]
)
def test_chi_is_one_at_the_critical_variance_of_a_random_mask(sparsity, critical):
    task = chain_task(200, 200, 200)
    mask = LayerWise()(normal(task, 1.0, seed=1), 1 - sparsity, task.dense(), 0)
    found = look(Signal(num_inputs=8), task, mask, normal(task, critical))
    assert found["critical_weight_variance"] == pytest.approx(critical)
    assert found["chi_iid"] == pytest.approx(1, abs=0.02)
    assert found["chi"] == pytest.approx(1, abs=0.1)


def test_the_prediction_starts_with_the_inputs_and_halves_after_relu():
    found = predicted_variance(3.0, {"a": 2.0, "b": 4.0, "c": 0.0}, {"a": 0.0, "b": 1.0, "c": 0.5})
    assert found == {"a": 6.0, "b": 4 * 3 + 1.0, "c": 0.5}


def test_wide_networks_follow_the_prediction_from_actual_sums_and_not_the_iid_one():
    task = chain_task(400, 400, 400, 400, num=256)
    weights = normal(task, 2.0)
    large = LayerWise()(Magnitude()(task, weights, task.dense()), 0.2, task.dense(), 0)
    found = look(Signal(), task, large, weights)
    assert found[OPEN] == pytest.approx(found[PREDICTED], rel=0.15)
    assert all(found[IID][name] < 0.6 * found[OPEN][name] for name in found[OPEN])
    chance = look(Signal(), task, random_mask(task, 0.2), weights)
    assert chance[OPEN] == pytest.approx(chance[IID], rel=0.3)


def test_biases_of_the_default_initialisation_are_in_the_prediction():
    task = chain_task(300, 300, 300, bias=True, num=256)
    weights = {n: w if w.dim() > 1 else 3 * torch.ones_like(w) for n, w in task.init().items()}
    found = look(Signal(), task, task.dense(), weights)
    assert found[PREDICTED]["0.weight"] == pytest.approx(9 + 1 / 3, rel=0.02)
    assert found[OPEN]["0.weight"] == pytest.approx(found[PREDICTED]["0.weight"], rel=0.02)


def test_twice_the_weights_are_four_times_the_signal_in_each_layer():
    task = small.task()
    weights = {n: w if w.dim() > 1 else torch.zeros_like(w) for n, w in task.init().items()}
    one = look(Signal(), task, task.dense(), weights)
    two = look(Signal(), task, task.dense(), {n: 2 * w for n, w in weights.items()})
    first, last = one[OPEN]
    assert two[OPEN][first] == pytest.approx(4 * one[OPEN][first])
    assert two[OPEN][last] == pytest.approx(16 * one[OPEN][last])


def test_norm_layers_get_no_prediction_but_a_measurement_of_every_layer():
    task = small.task(model=small.convolutional)
    found = look(Signal(), task, task.dense(), task.init())
    assert set(found[OPEN]) == set(task.prunable)
    assert PREDICTED not in found
    assert IID not in found


def test_an_empty_layer_has_chi_zero_and_no_signal_behind_it():
    task, _, weights = by_hand()
    mask = Mask({**task.dense(), "0.weight": torch.zeros(2, 2, dtype=torch.bool)})
    found = look(Signal(), task, mask, weights)
    assert found["chi"] == 0
    assert found[OPEN] == {"0.weight": 0, "2.weight": 0}


def test_gains_of_convolutions_count_a_whole_filter():
    assert gains({"w": torch.ones(2, 3, 5, 5)}, Mask({"w": torch.ones(2, 3, 5, 5) > 0})) == {
        "w": 75
    }


# --- the Jacobian


def test_singular_values_of_a_linear_network_are_its_own():
    task = chain_task(3, 2)
    weights = {"0.weight": torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])}
    found = look(Jacobian(), task, task.dense(), weights)
    assert found["jacobian_singular_value_mean"] == pytest.approx(3.5)
    assert found["jacobian_singular_value_mean_square"] == pytest.approx(12.5)
    assert found["jacobian_condition_number"] == pytest.approx(4 / 3)
    assert found["jacobian_rank"] == 2
    assert found["jacobian_dead_inputs"] == pytest.approx(1 / 3)


def test_a_pruned_output_costs_a_rank_and_not_the_condition_number():
    task = chain_task(3, 2)
    mask = Mask({"0.weight": torch.tensor([[True] * 3, [False] * 3])})
    found = look(Jacobian(), task, mask, {"0.weight": torch.ones(2, 3)})
    assert found["jacobian_rank"] == 1
    assert found["jacobian_condition_number"] == pytest.approx(1)
    none = look(Jacobian(), task, ~task.dense(), {"0.weight": torch.ones(2, 3)})
    assert none["jacobian_rank"] == 0
    assert none["jacobian_dead_inputs"] == 1
    assert math.isnan(none["jacobian_condition_number"])


@pytest.mark.parametrize(
    ("density", "weight_variance", "chi"), [(0.1, 20.0, 1.0), (0.5, 2.0, 0.5), (0.1, 2.0, 0.1)]
)
def test_mean_square_singular_value_is_chi_to_the_depth(density, weight_variance, chi):
    task = chain_task(*[120] * 6, last=True, num=240)
    found = look(Jacobian(), task, random_mask(task, density), normal(task, weight_variance))
    assert found["jacobian_singular_value_mean_square"] == pytest.approx(chi**5, rel=0.35)


@pytest.mark.parametrize("model", [small.perceptron, small.convolutional])
def test_jacobians_are_the_differences_of_the_logits(model):
    task = small.task(model=model)
    weights = {n: w.double() if w.is_floating_point() else w for n, w in task.init().items()}
    inputs = sample(task, 5)[0].double()
    block = torch.cat(list(jacobians(task, weights, inputs)))
    step = 1e-6 * torch.randn(inputs.shape, dtype=torch.float64)
    home = Task(lambda: model().double(), task.data)
    moved = home.outputs(weights, inputs + step) - home.outputs(weights, inputs)
    assert torch.allclose(moved, torch.einsum("ncd,nd->nc", block, step.flatten(1)), rtol=1e-3)


def test_the_same_inputs_in_every_round_and_all_of_them_where_there_are_few():
    task = small.task()
    assert torch.equal(sample(task, 8)[0], sample(replace(task), 8)[0])
    assert not torch.equal(sample(task, 8)[0], sample(task.with_seed(1), 8)[0])
    assert len(sample(task, 10**6)[0]) == task.data.num_train


@pytest.mark.parametrize("probe", [Signal, Jacobian])
@pytest.mark.parametrize("num", [0, -1, True, 2.5])
def test_impossible_numbers_of_inputs_are_refused(probe, num):
    with pytest.raises(UserError, match="num_inputs"):
        probe(num_inputs=num)


def test_a_residual_network_is_measured_in_all_its_layers():
    problem = replace(
        small.task(), model=lambda: models.resnet_cifar(shape=(1, 4, 4), num_classes=3, depth=8)
    )
    found = look(Signal(num_inputs=4), problem, problem.dense(), problem.init())
    assert set(found[OPEN]) == set(problem.prunable)
