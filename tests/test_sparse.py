"""Products over surviving weights are those of the masked matrices."""

from __future__ import annotations

import weakref
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import small
from lth_runner.masking import Gradual, Static
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Start, Ticket
from lth_runner.training import train as engine
from lth_runner.training.engines.choose import choose
from lth_runner.training.engines.compiled import (
    SAMPLES,
    SurvivingLinear,
    Survivors,
    WholeLinear,
    by_feature,
    gather,
    padded,
)
from lth_runner.training.engines.packed import Packed, Sparse, sparse_obstacle
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream


def layer(kept, weights, bias):
    """A sparse layer of several replicates, and their masked matrices."""
    survivors = Survivors.of(kept)
    shifts = None if bias is None else nn.Parameter(bias.clone())
    return SurvivingLinear(survivors, nn.Parameter(survivors.gather(weights)), shifts)


def test_the_products_of_a_layer_of_six_weights_by_hand():
    """W = [[2, 0, -1], [0, 0, 3]], b = (10, 20), x = (1, 2, 3), dL/dy = (1, -2)."""
    weights = torch.tensor([[2.0, 9.0, -1.0], [9.0, 9.0, 3.0]])
    kept = torch.tensor([[True, False, True], [False, False, True]])
    linear = layer([kept], [weights], torch.tensor([[10.0, 20.0]]))
    inputs = torch.zeros(1, 16, 3)
    inputs[0, 0] = torch.tensor([1.0, 2.0, 3.0])
    inputs.requires_grad_()
    outputs = linear(inputs)
    assert outputs[0, 0].tolist() == [10 + 2 - 3, 20 + 9]
    (outputs[0, 0] * torch.tensor([1.0, -2.0])).sum().backward()
    assert linear.weight.grad[0, :3].tolist() == [1, 3, -6]
    assert linear.bias.grad[0].tolist() == [1, -2]
    assert inputs.grad[0, 0].tolist() == [2, 0, -1 - 6]


def whole(kept, weights, bias):
    """The same as a layer whose pruned weights are zeros."""
    (rows, columns), num = kept[0].shape, len(kept)
    slab = torch.zeros(num, rows * columns + 3)  # slabs are padded
    slab[:, : rows * columns] = torch.stack(
        [(w * k).flatten() for w, k in zip(weights, kept, strict=True)]
    )
    shifts = None if bias is None else nn.Parameter(bias.clone())
    return WholeLinear((rows, columns), nn.Parameter(slab), shifts)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 70), st.integers(1, 90)),
    samples=st.integers(1, 10),
    density=st.floats(0, 1),
    has_bias=st.booleans(),
)
def test_products_and_gradients_are_those_of_the_masked_matrices(
    seed, shape, samples, density, has_bias
):
    def draw(*size):
        return torch.randn(*size, generator=stream(seed, f"{size}"))

    kept = [torch.rand(shape, generator=stream(seed, f"{n}")) < density for n in range(2)]
    weights, bias = list(draw(2, *shape)), draw(2, shape[0]) if has_bias else None
    inputs = draw(2, 16 * samples, shape[1]).requires_grad_()
    upstream = draw(2, 16 * samples, shape[0])
    close = {"rtol": 1e-4, "atol": 1e-4}
    for linear in (layer(kept, weights, bias), whole(kept, weights, bias)):
        inputs.grad = None
        outputs = linear(inputs)
        outputs.backward(upstream)
        for n in range(2):
            masked = (weights[n] * kept[n]).requires_grad_()
            shift = None if bias is None else bias[n].clone().requires_grad_()
            same = inputs[n].detach().clone().requires_grad_()
            expected = nn.functional.linear(same, masked, shift)
            expected.backward(upstream[n])
            torch.testing.assert_close(outputs[n], expected, **close)
            torch.testing.assert_close(inputs.grad[n], same.grad, **close)
            of_all = isinstance(linear, WholeLinear)
            wanted = masked.grad.flatten() if of_all else masked.grad[kept[n]]
            found = linear.weight.grad[n]
            torch.testing.assert_close(found[: len(wanted)], wanted, **close)
            assert not found[len(wanted) :].any()  # the padding learns nothing
            if shift is not None:
                torch.testing.assert_close(linear.bias.grad[n], shift.grad, **close)


@pytest.mark.parametrize("num", [1, 16, 21, 60])
def test_gathered_batches_are_the_samples_feature_by_feature(num):
    data = torch.randn(50, 2, 3, generator=stream(0, "data"))
    index = torch.randint(50, (3, num), generator=stream(0, "index"))
    found = torch.empty(3, 6, padded(num, SAMPLES))
    gather(data, index, found)
    for n in range(3):
        expected = by_feature(data[index[n]])
        assert torch.equal(expected[:, :num], data[index[n]].flatten(1).t())
        assert torch.equal(found[n, :, :num], expected[:, :num])
        # samples stand in for those that are missing, no zeros that might be divided by
        assert all(row.tolist() in data.flatten(1).tolist() for row in found[n, :, num:].t())
        assert all(row.tolist() in data.flatten(1).tolist() for row in expected[:, num:].t())


@pytest.mark.parametrize("made", [layer, whole])
@pytest.mark.parametrize("shape", [(1, 16, 5), (1, 5, 4), (16, 4)])
def test_a_batch_of_another_shape_is_refused_and_not_read_beyond(made, shape):
    linear = made([torch.ones(3, 4, dtype=torch.bool)], [torch.ones(3, 4)], None)
    with pytest.raises(ValueError, match="of 4 features"):
        linear(torch.ones(shape))


@pytest.mark.parametrize("made", [layer, whole])
def test_threads_change_no_bit(made):
    kept = [torch.rand(203, 150, generator=stream(n, "mask")) < 0.3 for n in range(3)]
    weights = list(torch.randn(3, 203, 150, generator=stream(0, "weights")))
    bias = torch.randn(3, 203, generator=stream(0, "bias"))
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            inputs = torch.randn(3, 80, 150, generator=stream(0, "inputs")).requires_grad_()
            linear = made(kept, weights, bias)
            outputs = linear(inputs)
            outputs.square().sum().backward()
            found.append([outputs, linear.weight.grad, linear.bias.grad, inputs.grad])
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(map(torch.equal, found[0], others))


def job(seed: int, density: float) -> Job:
    task = small.task(seed=seed)
    kept = {n: torch.zeros_like(full) for n, full in task.dense().items()}
    for value in kept.values():
        value.view(-1)[: round(density * value.numel())] = True
    return Job(task, Ticket(Mask(kept), task.init()), Static())


def test_lanes_with_other_sparse_layers_are_not_picked_together():
    first = small.task()
    jobs = [job(seed, density) for seed, density in enumerate((0.35, 0.9, 0.2, 1.0))]
    jobs = [Job(first.with_seed(n), j.ticket, j.masking) for n, j in enumerate(jobs)]
    assert Sparse().pick(jobs) == [0, 2]
    assert Sparse().pick(jobs[1:]) == [0, 2]


def test_no_moment_is_kept_of_a_pruned_weight_of_a_dense_start_either():
    sparse, recipe = job(0, 0.3), small.recipe()
    early = engine.replay(small.dense_job(sparse.task), recipe, None, 5, engine=Packed())
    start = Start(step=5, optimizer=early.optimizer)
    late = replace(sparse, ticket=Ticket(sparse.ticket.mask, early.weights, start))
    [loop] = (together := Sparse().begin([late], recipe, [None])).lanes
    for _ in range(3):
        together.advance()
    loop.bring_up_to_date()
    for name, kept in late.ticket.mask.items():
        moments = loop.optimizer.state[loop.model.get_parameter(name)]
        whole = [value for value in moments.values() if value.shape == kept.shape]
        assert whole
        assert all(bool(v[kept].any()) and not bool(v[~kept].any()) for v in whole)


def test_a_pack_goes_with_its_training():
    together = Sparse().begin([job(0, 0.3)], small.recipe(), [None])
    alive = weakref.ref(together.lanes[0])
    del together
    assert alive() is None


@pytest.mark.parametrize("batch_size", [1, 16, 24])
@pytest.mark.parametrize("recipe", [{}, {"clip_norm": 0.1}])
def test_sparse_and_whole_layers_side_by_side_train_as_one_by_one(batch_size, recipe):
    """Samples gathered as a run does, a layer of 20 % and one of 90 %, one without a bias."""

    def net():
        return nn.Sequential(
            nn.Flatten(-3), nn.Linear(16, 12, bias=False), nn.Tanh(), nn.Linear(12, 3)
        )

    task = Task(net, small.blobs().to("cpu"))
    kept = {
        name: torch.rand(full.shape, generator=stream(0, name)) < density
        for (name, full), density in zip(task.dense().items(), (0.2, 0.9), strict=True)
    }
    chosen = Job(task, Ticket(Mask(kept), task.init()), Static())
    how = small.recipe(batch_size=batch_size, length="60it", **recipe)
    ends = [engine.replay(chosen, how, None, 60, engine=by) for by in (Sparse(), Sequential())]
    for name, value in ends[0].weights.items():
        torch.testing.assert_close(value, ends[1].weights[name], rtol=1e-4, atol=1e-5)


class Own(nn.Module):
    """A forward of one's own: ``body`` of the flat inputs, in training and in evaluation."""

    def __init__(self, body):
        super().__init__()
        self.body, self.flatten, self.output = body, nn.Flatten(-3), nn.Linear(16, 3)

    def forward(self, x):
        return self.output(self.body(self.flatten(x), self.training))


@pytest.mark.parametrize(
    "body",
    [
        lambda x, training: x / x.norm(dim=-1, keepdim=True),  # a padded zero would be 0/0
        lambda x, training: x if training else 2 * x,
    ],
    ids=["normalised", "by mode"],
)
def test_a_forward_of_ones_own_trains_and_is_measured_as_one_by_one(body):
    task = Task(lambda: Own(body), small.blobs().to("cpu"))
    recipe = small.recipe()
    assert sparse_obstacle(task, Static(), recipe) is None
    kept = {n: torch.rand(m.shape, generator=stream(0, n)) < 0.3 for n, m in task.dense().items()}
    chosen = Job(task, Ticket(Mask(kept), task.init()), Static())
    rows = []
    for by in (Sparse(), Sequential()):
        together = by.begin([chosen], recipe, [None])
        for _ in range(10):
            together.advance()
        rows.append(together.lanes[0].evaluate())
    assert rows[0] == pytest.approx(rows[1], rel=1e-4)


def test_a_forward_that_looks_over_the_batch_is_not_sparse():
    task = small.task(model=lambda: Own(lambda x, training: x - x.mean(-2, keepdim=True)))
    assert "feature by feature" in sparse_obstacle(task, Static(), small.recipe())


def test_what_cannot_be_sparse_says_why():
    class Viewed(nn.Module):
        """Asks for inputs that lie sample by sample."""

        def __init__(self):
            super().__init__()
            self.output = nn.Linear(16, 3)

        def forward(self, x):
            assert x.is_contiguous()
            return self.output(x.flatten(-3))

    task, recipe = small.task(), small.recipe()
    assert sparse_obstacle(task, Static(), recipe) is None
    assert "feature by feature" in sparse_obstacle(small.task(model=Viewed), Static(), recipe)
    assert "fp32" in sparse_obstacle(task, Static(), small.recipe(precision="bf16"))
    moving = Gradual(None, None)  # type: ignore[arg-type]
    assert "moves" in sparse_obstacle(task, moving, recipe)
    with pytest.raises(UserError, match=r"train.engine=sparse: .* fp32"):
        choose(small.recipe(precision="bf16", engine="sparse"), task, Static())
    taken = choose(small.recipe(precision="bf16"), task, Static())
    assert (taken.name, "not sparse" in taken.reason) == ("packed", True)
    assert choose(recipe, task, Static()).name == "sparse"
