"""Products over surviving weights are those of the masked matrices."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import small
from lth_runner.compiled import (
    SurvivingLinear,
    Survivors,
    WholeLinear,
    by_feature,
    gather,
    library,
)
from lth_runner.errors import UserError
from lth_runner.mask import Mask
from lth_runner.masking import Gradual, Static
from lth_runner.packed import Sparse, sparse_obstacle
from lth_runner.picking import pick_engine
from lth_runner.seeds import stream
from lth_runner.ticket import Ticket
from lth_runner.train import Job


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
    found = torch.full((3, 6, 64), 7.0)
    gather(data, index, found)
    for n in range(3):
        assert torch.equal(found[n, :, :num], data[index[n]].flatten(1).t())
    assert bool((found[:, :, num:] == 7).all())  # what lies behind the batch is left alone


@pytest.mark.parametrize("made", [layer, whole])
def test_threads_change_no_bit(made):
    kept = [torch.rand(203, 150, generator=stream(n, "mask")) < 0.3 for n in range(3)]
    weights = list(torch.randn(3, 203, 150, generator=stream(0, "weights")))
    inputs = torch.randn(3, 80, 150, generator=stream(0, "inputs"))
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            linear = made(kept, weights, None)
            outputs = linear(inputs)
            outputs.square().sum().backward()
            found.append((outputs.detach(), linear.weight.grad))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


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


def test_no_moment_is_kept_of_a_pruned_weight():
    chosen = job(0, 0.3)
    [loop] = (together := Sparse().begin([chosen], small.recipe(), [None])).lanes
    for _ in range(3):
        together.advance()
    loop.settle()
    for name, kept in chosen.ticket.mask.items():
        moments = loop.optimizer.state[loop.model.get_parameter(name)]
        whole = [value for value in moments.values() if value.shape == kept.shape]
        assert whole
        assert all(bool(v[kept].any()) and not bool(v[~kept].any()) for v in whole)


def test_what_cannot_be_sparse_says_why(monkeypatch, tmp_path):
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
        pick_engine(small.recipe(precision="bf16", engine="sparse"), task, Static())
    engine, reason = pick_engine(small.recipe(precision="bf16"), task, Static())
    assert (engine.name, "not sparse" in reason) == ("packed", True)
    assert pick_engine(recipe, task, Static())[0].name == "sparse"


@pytest.mark.parametrize(
    ("compiler", "said"), [("no-such-compiler", "no C compiler"), ("false", "cannot compile")]
)
def test_a_machine_without_a_working_compiler_packs_and_says_so(
    monkeypatch, tmp_path, compiler, said
):
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.cache_clear()
    try:
        engine, reason = pick_engine(small.recipe(), small.task(), Static())
        with pytest.raises(UserError, match=said):
            pick_engine(small.recipe(engine="sparse"), small.task(), Static())
    finally:
        library.cache_clear()
    assert engine.name == "packed"
    assert said in reason


def test_batches_are_padded_to_whole_vectors():
    features = by_feature(torch.ones(5, 2, 3))
    assert features.shape == (6, 16)
    assert features.sum(1).tolist() == [5.0] * 6
