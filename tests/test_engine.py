"""The training loop: pruned weights stay zero, checkpoints continue bit for bit."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch

import small
from lanes import held
from lth_runner.allocate import Global
from lth_runner.masking import Static
from lth_runner.score import Magnitude
from lth_runner.search.ticket import Start, Ticket
from lth_runner.store.checkpoint_file import load_checkpoint, save_checkpoint
from lth_runner.training import train as engine
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.learning_rate import MultiStep
from lth_runner.training.loop import Loop
from lth_runner.training.pace import Interrupted, Pace
from lth_runner.training.recipe import Recipe
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.steps import Clock
from second_proofs import mostly_slow

OPTIMIZERS = {
    "momentum and decay": functools.partial(
        torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-2
    ),
    "nesterov": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
    "fused sgd": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, fused=True),
    "adam": functools.partial(torch.optim.Adam, lr=1e-2, weight_decay=1e-2),
    "fused adamw": functools.partial(torch.optim.AdamW, lr=1e-2, fused=True),
}


class Memory:
    """A Keeper that keeps all it is given."""

    def __init__(self) -> None:
        self.checkpoint = None
        self.snapshots = {}

    def load(self):
        return self.checkpoint

    def save(self, checkpoint):
        self.checkpoint = held(checkpoint)

    def snapshot(self, checkpoint):
        self.snapshots[checkpoint.step] = held(checkpoint)


def pruned_job(model=small.perceptron, density: float = 0.3, **start: object) -> Job:
    problem = small.task(model=model)
    weights = problem.init()
    scores = Magnitude()(problem, weights, problem.dense())
    mask = Global()(scores, density, problem.dense(), 0)
    return Job(problem, Ticket(mask, weights, Start(**start)), Static())


def train(job: Job, recipe: Recipe, keeper: Memory | None = None, pace: Pace | None = None):
    [(_, outcome)] = engine.train(Sequential(), [job], recipe, [keeper or Memory()], pace or Pace())
    return outcome


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
@pytest.mark.parametrize("model", [small.perceptron, small.convolutional])
def test_pruned_weights_are_exactly_zero_after_every_step(model, optimizer):
    job = pruned_job(model)
    loop = Loop(job, small.recipe(optimizer=optimizer), None)
    for _ in range(12):
        loop.backward()
        loop.update()
        weights = dict(loop.model.named_parameters())
        for name, kept in job.ticket.mask.items():
            assert bool((weights[name][~kept] == 0).all())
            assert bool((weights[name][kept] != 0).any())


def test_survivors_start_bit_equal_to_the_ticket():
    job = pruned_job(small.convolutional)
    loop = Loop(job, small.recipe(), None)
    assert states.fingerprint(loop.weights()) == states.fingerprint(job.ticket.masked)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
@pytest.mark.parametrize(
    "model", mostly_slow([small.perceptron, small.convolutional], [small.convolutional])
)
def test_a_training_continued_from_a_file_is_the_uninterrupted_one_bit_for_bit(
    tmp_path, model, optimizer
):
    job, recipe = pruned_job(model), small.recipe(optimizer=optimizer)
    straight = engine.replay(job, recipe, None, 30)
    for stop in (1, 13, 29):
        path = tmp_path / f"{stop}.safetensors"
        save_checkpoint(path, engine.replay(job, recipe, None, stop))
        continued = engine.replay(job, recipe, load_checkpoint(path), 30)
        for part in ("weights", "optimizer", "masking"):
            assert states.fingerprint(getattr(continued, part)) == states.fingerprint(
                getattr(straight, part)
            )
        assert continued.loss == straight.loss


def test_an_interrupted_training_checkpoints_and_ends_as_if_it_had_not_been():
    job, recipe, keeper = pruned_job(), small.recipe(), Memory()
    whole = train(job, recipe)
    asked = iter([False] * 16 + [True] * 99)
    with pytest.raises(Interrupted):
        train(job, recipe, keeper, Pace(stop=lambda: next(asked)))
    assert keeper.checkpoint.step == 17
    resumed = train(job, recipe, keeper)
    assert states.fingerprint(resumed.weights) == states.fingerprint(whole.weights)
    assert resumed.history == whole.history


def test_the_clock_continues_where_the_ticket_starts():
    """Learning rate and batches are those of the dense training from that step on."""
    drops = MultiStep(["20it"], factor=0.1)
    recipe = small.recipe(learning_rate=drops)
    late = pruned_job(step=25)
    loop = Loop(late, recipe, None)
    assert torch.equal(loop.batch()[0], late.task.data.stream(12, 0)[25][0])
    loop.backward()
    loop.update()
    assert loop.evaluate()["learning_rate"] == pytest.approx(0.01)
    assert loop.step == 26


def test_fine_tuning_holds_the_last_learning_rate():
    recipe = small.recipe(learning_rate=MultiStep(["20it"], factor=0.1))
    rates = [row["learning_rate"] for row in train(pruned_job(final_rate=True), recipe).history]
    assert rates == pytest.approx([0.01] * 4)


def test_another_order_draws_other_batches():
    first = Loop(pruned_job(order=0), small.recipe(), None).batch()[0]
    again = Loop(pruned_job(order=0), small.recipe(), None).batch()[0]
    other = Loop(pruned_job(order=1), small.recipe(), None).batch()[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_restored_optimizer_state_continues_the_dense_training():
    """Weights, momentum and clock of step 15 on a full mask: the dense training itself."""
    problem, recipe = small.task(), small.recipe()
    job = small.dense_job(problem)
    early = engine.replay(job, recipe, None, 15)
    again = Ticket(problem.dense(), early.weights, Start(step=15, optimizer=early.optimizer))
    whole, restored = train(job, recipe), train(replace(job, ticket=again), recipe)
    assert states.fingerprint(whole.weights) == states.fingerprint(restored.weights)


def test_snapshots_are_kept_at_the_steps_asked_for():
    keeper = Memory()
    job = replace(small.dense_job(small.task()), snapshots=(0, 7, 40))
    train(job, small.recipe(), keeper)
    assert sorted(keeper.snapshots) == [0, 7, 40]
    assert states.fingerprint(keeper.snapshots[0].weights) == states.fingerprint(job.ticket.masked)


def test_weight_decay_can_spare_norms_and_biases():
    job = pruned_job(small.convolutional)
    groups = Loop(job, small.recipe(decay="weights"), None).optimizer.param_groups
    by_decay = {group["weight_decay"]: group["params"] for group in groups}
    assert {p.ndim for p in by_decay[0.0]} == {1}
    assert {p.ndim for p in by_decay[1e-3]} == {2, 4}


def test_a_diverged_training_stops_and_says_so():
    explode = functools.partial(torch.optim.SGD, lr=1e30)
    outcome = train(pruned_job(), small.recipe(optimizer=explode, length="400it"))
    assert outcome.diverged
    assert outcome.history[-1]["step"] < 400
    assert outcome.history[-1]["train_loss"] is None


def test_history_holds_the_mean_loss_between_evaluations():
    job, recipe = pruned_job(), small.recipe(length="20it", eval_every="5it")
    loop, losses = Loop(job, recipe, None), []
    while loop.step < 20:
        before = loop.loss.item()
        loop.backward()
        losses.append(loop.loss.item() - before)
        loop.update()
    history = train(job, recipe).history
    assert [row["step"] for row in history] == [5, 10, 15, 20]
    assert history[1]["train_loss"] == pytest.approx(sum(losses[5:10]) / 5, rel=1e-4)


def test_gradient_clipping_bounds_the_update():
    plain = functools.partial(torch.optim.SGD, lr=1.0)
    loop = Loop(pruned_job(), small.recipe(optimizer=plain, clip_norm=1e-3), None)
    before = {n: p.detach().clone() for n, p in loop.model.named_parameters()}
    loop.backward()
    loop.update()
    moved = sum(
        float((p.detach() - before[n]).square().sum()) for n, p in loop.model.named_parameters()
    )
    assert 0 < moved**0.5 <= 1e-3 * 1.001


def test_warmup_ramps_then_follows_the_schedule():
    recipe, clock = small.recipe(warmup="4it"), Clock(epoch=6, total=40)
    assert [recipe.rate(step, clock) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_tf32_on_a_cpu_is_refused_and_the_global_precision_put_back():
    before = torch.get_float32_matmul_precision()
    recipe = small.recipe(precision="tf32")
    with pytest.raises(UserError, match="tf32 needs a CUDA device"):
        recipe.check(Clock(6, 40), torch.device("cpu"))
    with recipe.arithmetic(torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


def test_bf16_trains_fp32_weights():
    outcome = train(pruned_job(small.convolutional), small.recipe(precision="bf16"))
    assert all(w.dtype == torch.float32 for w in outcome.weights.values() if w.ndim > 0)
    assert outcome.history[-1]["train_loss"] < outcome.history[0]["train_loss"]


def dropout() -> torch.nn.Module:
    """A network that draws random numbers in its forward pass."""
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)
    )


def test_dropout_is_a_function_of_the_step_and_leaves_the_global_stream_alone():
    job, recipe = pruned_job(dropout), small.recipe()
    before = torch.get_rng_state()
    whole = engine.replay(job, recipe, None, 20)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)  # what else happens in the process changes nothing
    resumed = engine.replay(job, recipe, engine.replay(job, recipe, None, 9), 20)
    assert states.fingerprint(resumed.weights) == states.fingerprint(whole.weights)
    other = engine.replay(replace(job, task=job.task.with_seed(5)), recipe, None, 20)
    assert states.fingerprint(other.weights) != states.fingerprint(whole.weights)


def test_clipping_counts_the_gradients_of_kept_weights_alone():
    plain = functools.partial(torch.optim.SGD, lr=1.0)
    job = pruned_job(density=0.1)
    free, clipped = (
        Loop(job, small.recipe(optimizer=plain, clip_norm=limit), None) for limit in (None, 1e9)
    )
    for loop in (free, clipped):
        loop.backward()
        loop.update()
    # a bound that binds nothing moves the kept weights as no bound does
    assert states.fingerprint(free.weights()) == states.fingerprint(clipped.weights())
    loop = Loop(job, small.recipe(optimizer=plain, clip_norm=0.01), None)
    before = loop.weights()
    loop.backward()
    loop.update()
    moved = sum(float((w - before[n]).square().sum()) for n, w in loop.weights().items())
    assert moved**0.5 == pytest.approx(0.01, rel=1e-3)


def test_a_weight_that_is_not_finite_ends_a_training_as_diverged():
    loop = Loop(pruned_job(), small.recipe(), None)
    loop.backward()
    loop.update()
    with torch.no_grad():
        next(loop.model.parameters())[0, 0] = float("inf")
    loop.loss.zero_()  # the loss of the steps before was finite
    loop.evaluate()
    assert loop.diverged
