"""Description lengths and bounds: exact counts, published values, and when they say nothing."""

from __future__ import annotations

import math

import pytest
import torch

import small
from finished import Finished, chain_task, unchanged
from lth_runner.probe import Capacity
from lth_runner.probe.capacity import description_bits, log2_binomial, mdl_bound, occam_bound
from lth_runner.search.ticket import Ticket
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask


@pytest.mark.parametrize(
    ("kept", "bits"), [(133100, 266190.7), (26620, 124838.0), (13310, 76230.7), (2662, 21500.1)]
)
def test_a_mask_of_lenet300_takes_as_many_bits_as_its_choices(kept, bits):
    assert log2_binomial(266200, kept) == pytest.approx(bits, abs=0.05)


@pytest.mark.parametrize("num", [1, 2, 10, 60])
def test_bits_are_exact_where_numbers_are_small_and_symmetric(num):
    for kept in range(num + 1):
        assert log2_binomial(num, kept) == pytest.approx(math.log2(math.comb(num, kept)), abs=1e-9)
        assert log2_binomial(num, kept) == pytest.approx(log2_binomial(num, num - kept))


def test_bounds_are_those_worked_out_by_hand():
    # 3 of 15 kept: log2(16) + log2(455) + (3 + 2) * 8 bits
    bits = description_bits(3, 15, 2, 8)
    assert bits == pytest.approx(4 + math.log2(455) + 40)
    # delta = 1/e and n = 50: 0.1 + sqrt((D ln 2 + 1 + 2 ln D) / 100)
    cost = bits * math.log(2) + 1 + 2 * math.log(bits)
    assert occam_bound(0.1, bits, 50, 1 / math.e) == pytest.approx(0.1 + math.sqrt(cost / 100))
    assert mdl_bound(0.2, 3, 15, 50, 1 / math.e) == pytest.approx(
        0.2 + math.sqrt((3 * math.log(15) + 1) / 100)
    )


def look(probe, task, mask, weights):
    return dict(probe(task, [], unchanged(mask, weights)))


def test_the_probe_counts_what_no_mask_covers_too():
    task = small.task(model=small.convolutional)
    found = look(Capacity(), task, task.dense(), task.init())
    kept = task.dense().num_kept
    others = 2 * 4 * 6 + 3  # scales, shifts, means and variances; the last layer's biases
    assert found["mask_description_bits"] == 0
    assert found["description_bits"] == pytest.approx(math.log2(kept + 1) + 32 * (kept + others))
    assert found["vc_proxy"] == pytest.approx(kept * math.log(kept))


def test_a_network_of_few_bits_has_a_bound_that_says_something_and_a_large_one_has_not():
    task = chain_task(3, 2, num=4000)
    inputs, labels = task.data.train
    weights = {"0.weight": torch.eye(2, 3)}
    mask = Mask({"0.weight": torch.eye(2, 3) > 0})
    few = look(Capacity(bits_per_weight=0), task, mask, weights)
    right = float((inputs[:, :2].argmax(1) == labels).double().mean())
    assert few["description_bits"] == pytest.approx(math.log2(7) + math.log2(15))
    expected = occam_bound(1 - right, few["description_bits"], 4000, 0.05)
    assert few["occam_bound"] == pytest.approx(expected)
    assert few["occam_bound_vacuous"] == 0
    assert few["mdl_bound_vacuous"] == 0
    tested = task.evaluate(weights, "test")["accuracy"]
    assert few["generalisation_gap"] == pytest.approx(right - tested)
    big = small.task()
    many = look(Capacity(), big, big.dense(), big.init())
    assert (many["occam_bound_vacuous"], many["mdl_bound_vacuous"]) == (1, 1)
    assert many["occam_bound"] >= 1 <= many["mdl_bound"]


def test_bounds_fall_with_the_weights_kept_and_rise_with_confidence():
    bounds = [mdl_bound(0.1, kept, 1000, 500, 0.05) for kept in (0, 10, 100, 1000)]
    assert bounds == sorted(bounds)
    assert occam_bound(0.1, 100, 500, 0.01) > occam_bound(0.1, 100, 500, 0.1)
    assert occam_bound(0.1, 100, 500, 0.1) > occam_bound(0.1, 100, 5000, 0.1)


def test_it_looks_at_the_trained_weights_and_not_at_the_start():
    task = small.task()
    ended = {name: torch.zeros_like(value) for name, value in task.init().items()}
    ended["output.bias"] = torch.tensor([1.0, 0.0, 0.0])  # always the first of three classes
    trained = Finished(Ticket(task.dense(), task.init()), ended)
    found = dict(Capacity()(task, [], trained))
    first = float((task.data.train[1] == 0).double().mean())
    tested = float((task.data.test[1] == 0).double().mean())
    assert found["generalisation_gap"] == pytest.approx(first - tested)


@pytest.mark.parametrize("options", [{"delta": 0}, {"delta": 1}, {"bits_per_weight": -1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))):
        Capacity(**options)
