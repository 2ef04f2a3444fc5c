"""What the path on a GPU promises and a processor can hold: order, limits, and what is told."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

import small
from command import SMALL, lth_run
from lth_runner.problem.answers import evaluate
from lth_runner.problem.objective import CrossEntropy
from lth_runner.problem.outcomes import measure
from lth_runner.problem.task import Task
from lth_runner.training.engines.cuda_graph_trial import questions_raise
from lth_runner.training.engines.graphed import RunAhead
from lth_runner.training.trial import try_a_step
from lth_runner.values.cublas import WORKSPACE
from lth_runner.values.errors import UserError


def test_a_run_has_fixed_the_workspace_of_products_before_its_parts_are_built(
    tmp_path, monkeypatch
):
    found = []
    monkeypatch.delenv(WORKSPACE, raising=False)
    monkeypatch.setattr(
        "lth_runner.cli.launch.execute",
        lambda *given, **named: found.append(os.environ[WORKSPACE]),
    )
    lth_run(*SMALL, f"paths.outputs={tmp_path}")
    assert found == [":4096:8"]


def test_bits_that_must_repeat_are_refused_where_the_environment_lets_products_differ(monkeypatch):
    monkeypatch.setenv(WORKSPACE, ":0:0")
    recipe = small.recipe(deterministic=True)
    with (
        pytest.raises(UserError, match=rf"{WORKSPACE}=:4096:8 or :16:8 .* it is :0:0"),
        recipe.arithmetic(torch.device("cuda")),
    ):
        pass
    with recipe.arithmetic(torch.device("cpu")):
        assert torch.are_deterministic_algorithms_enabled()


def test_the_host_waits_for_the_step_of_long_ago_and_for_none_else():
    waited, made = [], iter(range(100))

    class Mark:
        def __init__(self):
            self.step = next(made)

        def synchronize(self):
            waited.append(self.step)

    ahead = RunAhead(Mark, limit=3)
    for _ in range(8):
        ahead.stepped()
    assert waited == [0, 1, 2, 3, 4]


def test_questions_to_the_device_raise_within_and_no_longer(monkeypatch):
    modes = ["warn"]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def asks():
        with questions_raise(torch.device("cuda")):
            assert modes[-1] == "error"
            raise RuntimeError("called a synchronizing CUDA operation")

    with pytest.raises(RuntimeError, match="synchronizing"):
        asks()
    assert modes[-1] == "warn"
    with questions_raise(torch.device("cpu")):
        assert modes[-1] == "warn"


class Narrow(nn.Module):
    """Has memory for so many samples at once."""

    def __init__(self, limit: int, error: Exception) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.limit, self.error, self.sizes = limit, error, []

    def forward(self, inputs):
        if len(inputs) > self.limit:
            raise self.error
        self.sizes.append(len(inputs))
        return self.linear(inputs)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ],
)
def test_an_evaluation_that_does_not_fit_is_done_in_halves_and_counts_every_sample_once(error):
    torch.manual_seed(0)
    batches = [(torch.randn(num, 4), torch.randint(3, (num,))) for num in (11, 2)]
    network = Narrow(3, error)
    found = evaluate(network, iter(batches), CrossEntropy())
    assert sum(network.sizes) == 13
    assert max(network.sizes) == 3
    network.limit = 100
    whole = evaluate(network, iter(batches), CrossEntropy())
    assert found == pytest.approx(whole)


def test_weights_that_are_measured_by_themselves_are_measured_in_halves_too(monkeypatch):
    task = small.task()
    weights, stock = task.init(), Task.outputs
    whole, each = task.evaluate(weights, "test"), measure(task, weights, "test")

    def short(self, weights, inputs, **rest):
        if len(inputs) > 7:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return stock(self, weights, inputs, **rest)

    monkeypatch.setattr(Task, "outputs", short)
    assert task.evaluate(weights, "test") == pytest.approx(whole)
    assert torch.equal(measure(task, weights, "test").by_sample, each.by_sample)


def test_a_sample_that_does_not_fit_and_another_error_come_out():
    batch = torch.randn(2, 4), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(torch.OutOfMemoryError):
        evaluate(Narrow(0, torch.OutOfMemoryError("none")), iter([batch]), CrossEntropy())
    with pytest.raises(RuntimeError, match="shapes"):
        evaluate(Narrow(1, RuntimeError("shapes")), iter([batch]), CrossEntropy())


class Undetermined(torch.autograd.Function):
    """Does backward what some layers do on CUDA where bits must repeat."""

    @staticmethod
    def forward(ctx, inputs):
        return inputs.clone()

    @staticmethod
    def backward(ctx, gradient):
        if torch.are_deterministic_algorithms_enabled():
            raise RuntimeError(
                "pool_backward_cuda does not have a deterministic implementation, but you set "
                "'torch.use_deterministic_algorithms(True)'"
            )
        return gradient


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = small.perceptron()

    def forward(self, inputs):
        return Undetermined.apply(self.inner(inputs))


def test_a_layer_without_a_step_that_repeats_is_told_before_training_where_it_must():
    task = small.task(model=Pooled)
    try_a_step(task, small.recipe(deterministic=False))
    with pytest.raises(UserError, match=r"train\.deterministic=true.*pool_backward.*=false"):
        try_a_step(task, small.recipe(deterministic=True))
