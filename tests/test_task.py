"""The problem as pure functions of the weights."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fake_past import data, drawn, equal, network, small_task
from lth_runner.problem.answers import evaluate
from lth_runner.problem.data import Data
from lth_runner.problem.fits import check_fits
from lth_runner.problem.models import mlp
from lth_runner.problem.objective import CrossEntropy, MultiLabel
from lth_runner.problem.task import Task
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask

TASK = small_task(seed=3)


def weights(task=TASK):
    """Some weights, with running variances above zero."""
    made = drawn(task, "weights")
    return {n: w.abs() + 0.5 if n.endswith("running_var") else w for n, w in made.items()}


def plain(task=TASK, *, training=False):
    module = task.model()
    module.load_state_dict(weights(task))
    return module.train(training)


def test_a_shipped_network_is_drawn_once_for_its_start_and_copied_where_it_is_written_over():
    drawn_networks = []

    def counted():
        drawn_networks.append(1)
        return mlp(shape=[6], num_classes=3, widths=widths)

    counted.__module__ = "lth_runner.problem.models.fully_connected"
    few = replace(TASK, model=counted, data=data())
    widths = [9]  # a copy of few weights takes longer than to draw them
    assert all(module is not few.module() for module in [few.module()])
    assert len(drawn_networks) == 3
    drawn_networks.clear()
    widths = [1024, 1024]
    task = replace(few)
    modules = [task.module() for _ in range(3)]
    assert len(drawn_networks) == 1
    states.write(modules[0], task.init())
    assert all(value.any() for value in modules[0].parameters() if value.ndim > 1)
    assert not any(value.any() for value in modules[1].parameters())
    assert all(part.training for part in modules[2].modules())


@pytest.mark.parametrize(
    "task", [TASK, replace(TASK, model=lambda: mlp(shape=[6], num_classes=3, widths=[4]))]
)
def test_a_hollow_network_has_all_tensors_and_memory_for_none(task):
    hollow, module = (dict(states.named_tensors(m)) for m in (task.hollow(), task.module()))
    assert {n: (type(v), v.shape, v.dtype) for n, v in hollow.items()} == {
        n: (type(v), v.shape, v.dtype) for n, v in module.items()
    }
    assert all(value.untyped_storage().nbytes() <= 8 for value in hollow.values())


def test_prunable_weights_are_those_of_linear_and_convolution_layers():
    assert TASK.prunable == ("hidden.weight", "output.weight")
    assert {name: tuple(kept.shape) for name, kept in TASK.dense().items()} == {
        "hidden.weight": (9, 6),
        "output.weight": (3, 9),
    }
    assert TASK.dense().density == 1.0


def test_norm_names_scales_shifts_and_statistics():
    assert TASK.norm == {
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
    }


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_logits_and_loss_are_a_plain_modules(batch_statistics):
    inputs, labels = TASK.data.sample(20, 0)
    expected = plain(training=batch_statistics)(inputs)
    logits = TASK.outputs(weights(), inputs, batch_statistics=batch_statistics)
    loss = TASK.loss(weights(), (inputs, labels), 2.0, batch_statistics=batch_statistics)
    assert torch.equal(logits, expected)
    assert torch.equal(loss, F.cross_entropy(expected / 2.0, labels))
    assert logits.requires_grad is False or logits.grad_fn is None


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_the_gradient_is_autograds_over_a_plain_module(batch_statistics):
    task = replace(TASK, data=data().limited(30))
    batches = [data().limited(30).sample(30, 0)]
    task.__dict__["batches"] = lambda num, stream: batches  # the same batch for both sides
    module = plain(training=batch_statistics)
    F.cross_entropy(module(batches[0][0]), batches[0][1]).backward()
    found = task.grad(weights(), 1, batch_statistics=batch_statistics)
    assert found.keys() == dict(module.named_parameters()).keys()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-5, atol=1e-7)


def test_the_gradient_over_batches_is_the_mean_of_theirs():
    task = replace(TASK)
    batches = task.batches(4, 0, size=8)
    assert [len(labels) for _, labels in batches] == [8, 8, 8, 8]
    singles = []
    for batch in batches:
        task.__dict__["batches"] = lambda num, stream, batch=batch: [batch]
        singles.append(task.grad(weights(), 1))
    task.__dict__["batches"] = lambda num, stream: batches
    for name, mean in task.grad(weights(), 4).items():
        expected = torch.stack([single[name] for single in singles]).mean(0)
        torch.testing.assert_close(mean, expected, rtol=1e-5, atol=1e-7)


def test_batches_are_seeded_samples_without_repetition():
    one, again, other = (TASK.batches(3, stream, size=10) for stream in (0, 0, 1))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0][0], other[0][0])
    inputs = torch.cat([batch[0] for batch in one])
    assert len(inputs.unique(dim=0)) == 30
    assert not torch.equal(small_task(4).batches(3, 0, size=10)[0][0], one[0][0])


def test_nothing_writes_to_the_weights_it_is_given():
    given = weights()
    before = states.fingerprint(given)
    TASK.outputs(given, TASK.data.sample(20, 0)[0], batch_statistics=True)
    TASK.grad(given, 1, batch_statistics=True)
    TASK.evaluate(given, "test")
    assert states.fingerprint(given) == before
    assert not any(value.requires_grad for value in given.values())


def test_one_call_leaves_no_trace_in_the_next():
    inputs = TASK.data.sample(20, 0)[0]
    before = TASK.outputs(weights(), inputs)
    TASK.evaluate(TASK.init(), "test")
    TASK.outputs(drawn(TASK, "other"), inputs, batch_statistics=True)
    assert torch.equal(TASK.outputs(weights(), inputs), before)


def test_batch_statistics_leave_dropout_off():
    def with_dropout():
        return nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.Dropout(0.5), nn.Linear(9, 3))

    task = Task(with_dropout, data())
    inputs = data().sample(20, 0)[0]
    one, again = (task.outputs(task.init(), inputs, batch_statistics=True) for _ in range(2))
    assert torch.equal(one, again)


class Spare(nn.Module):
    """With a shared weight, and a parameter that no output depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.output = (nn.Linear(6, n) for n in (6, 6, 3))
        self.second.weight = self.first.weight
        self.spare = nn.Parameter(torch.ones(2))

    def forward(self, inputs):
        return self.output(self.second(self.first(inputs)))


def test_a_shared_weight_counts_once_and_gets_both_gradients():
    task = Task(Spare, data())
    assert task.prunable == ("first.weight", "output.weight")
    module = Spare()
    states.write(module, task.init())
    inputs, labels = data().sample(30, 0)
    leaves = {name: value.requires_grad_() for name, value in task.init().items()}
    F.cross_entropy(module(inputs), labels).backward()
    (found,) = torch.autograd.grad(task.loss(leaves, (inputs, labels)), [leaves["first.weight"]])
    torch.testing.assert_close(found, module.first.weight.grad)


def test_the_gradient_of_an_unused_parameter_is_zero():
    assert Task(Spare, data()).grad(Task(Spare, data()).init(), 1)["spare"].tolist() == [0.0, 0.0]


def test_initial_weights_are_a_function_of_the_seed_alone():
    before = torch.get_rng_state()
    assert equal(TASK.init(), small_task(3).init())
    assert equal(TASK.init(4), small_task(4).init())
    assert equal(TASK.with_seed(4).init(), small_task(4).init())
    for name in TASK.prunable:
        assert not (TASK.init()[name] == TASK.init(4)[name]).any()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert equal(TASK.init(), small_task(3).init())


def test_no_part_of_the_task_touches_the_global_stream():
    task = small_task()
    before = torch.get_rng_state()
    task.module()
    task.dense()
    task.grad(task.init(), 2)
    task.evaluate(task.init(), "val")
    check_fits(task)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_identity_is_the_models_and_the_datas_but_not_the_seeds():
    assert small_task(1).identity == small_task(2).identity
    assert replace(TASK, data=data().limited(10)).identity != TASK.identity
    assert replace(TASK, model=Spare).identity != TASK.identity


def fixed():
    """Class 0 for inputs below zero, class 1 above."""
    module = nn.Linear(1, 2, bias=False)
    nn.init.constant_(module.weight, 0.0)
    return module


def by_hand():
    inputs = torch.tensor([[-1.0], [-2.0], [3.0], [4.0], [5.0]])
    split = (inputs, torch.tensor([0, 1, 1, 1, 0]))
    return Task(fixed, Data.from_tensors(split, split, validation=0))


@pytest.mark.parametrize("size", [1, 2, 5, 2000])
def test_accuracy_and_loss_are_what_hand_counting_gives(size):
    found = by_hand().evaluate({"weight": torch.tensor([[0.0], [1.0]])}, "test", size)
    # right: -1 -> 0, 3 -> 1, 4 -> 1; loss: log(1 + exp(-margin)) of each
    margins = torch.tensor([1.0, -2.0, 3.0, 4.0, -5.0], dtype=torch.float64)
    assert found["accuracy"] == pytest.approx(3 / 5, abs=1e-12)
    assert found["loss"] == pytest.approx(F.softplus(-margins).mean().item(), rel=1e-6)


def test_an_empty_split_has_no_measurements():
    assert by_hand().evaluate(by_hand().init(), "val") == {}


def test_evaluating_a_network_puts_its_mode_back():
    module = network().train()
    before = states.fingerprint(states.read(module))
    evaluate(module, data().batches("test", 7), CrossEntropy())
    assert module.training
    assert states.fingerprint(states.read(module)) == before


class Tuple(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs), None


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (lambda: nn.Linear(7, 3), r"cannot take inputs of shape \(6,\)"),
        (lambda: nn.Conv2d(1, 3, 3), r"cannot take inputs of shape \(6,\)"),
        (lambda: nn.Linear(6, 4), r"shape \(4,\).*data have 3 classes.*must have 3 outputs"),
        (lambda: nn.Sequential(OrderedDict(a=nn.Linear(6, 3), b=nn.Unflatten(1, (3, 1)))), "3, 1"),
        (lambda: nn.AdaptiveAvgPool1d(3), "nothing can be pruned"),
        (lambda: Tuple(6, 3), "tuple"),
        (lambda: nn.TransformerEncoderLayer(8, 2), r"shape \(6,\): .*AssertionError"),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_refused(model, why):
    with pytest.raises(UserError, match=why):
        check_fits(Task(model, data()))


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("value", [2.0, -1.0])
def test_one_target_among_many_that_the_objective_does_not_take_is_told_with_its_split(
    split, value
):
    splits = {
        name: (torch.zeros(5000, 6), torch.zeros(5000, 3)) for name in ("train", "val", "test")
    }
    splits[split][1][4500, 1] = value
    task = Task(lambda: nn.Linear(6, 3), Data.from_tensors(**splits), objective=MultiLabel())
    with pytest.raises(UserError, match=f"tensors: {split}: .*needs targets of 0.0 and 1.0"):
        check_fits(task)


def test_a_network_that_fits_is_let_through():
    check_fits(TASK)
    masked = Mask({name: ~kept for name, kept in TASK.dense().items()})(weights())
    bias = masked["output.bias"]
    logits = TASK.outputs(masked, TASK.data.sample(4, 0)[0])
    assert torch.equal(logits, bias.expand(4, 3))  # with no weight left, the bias alone answers
