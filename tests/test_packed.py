"""Several networks trained as one give what each gives alone."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import nn

import small
from lanes import Memory
from lth_runner.allocate import Global
from lth_runner.masking import Gradual, Static
from lth_runner.schedule import Iterations
from lth_runner.search.ticket import Start, Ticket
from lth_runner.store.checkpoint import Outcome
from lth_runner.store.store import Store
from lth_runner.training import train as engine
from lth_runner.training.engines.engine import Together
from lth_runner.training.engines.packed import Packed, Sparse, lanes_that_fit, obstacle
from lth_runner.training.engines.packed_layers import pack_networks
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.pace import Interrupted, Pace
from lth_runner.training.recipe import Recipe
from lth_runner.training.trainer import Trainer
from lth_runner.values import state as states
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from second_proofs import mostly_slow_by_name

ADAM = functools.partial(torch.optim.Adam, lr=1e-2, fused=True)
SGD = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3)
RECIPES = {
    "adam": {"optimizer": ADAM},
    "sgd": {"optimizer": SGD},
    "clipped": {"optimizer": SGD, "clip_norm": 0.1},
    "decay-of-weights": {"optimizer": SGD, "decay": "weights", "label_smoothing": 0.1},
}

# of the layers of ``jobs`` half is kept
ENGINES = {"packed": Packed(), "sparse": Sparse(below=0.6), "whole": Sparse(below=0.0)}
EACH_RECIPE = pytest.mark.parametrize(
    "changes", mostly_slow_by_name(RECIPES, {"adam", "decay-of-weights"})
)
EACH_ENGINE = pytest.mark.parametrize("by", ENGINES.values(), ids=ENGINES.keys())


def jobs(num: int, **changes: object) -> list[Job]:
    """Replicates of other weights, batches and masks, from one Data."""
    first, found = small.task(), []
    for seed in range(num):
        problem = first.with_seed(seed)
        kept = {
            name: torch.rand(full.shape, generator=stream(seed, name)) < 0.5
            for name, full in problem.dense().items()
        }
        ticket = Ticket(Mask(kept), problem.init())
        found.append(Job(problem, ticket, **{"masking": Static(), **changes}))  # type: ignore[arg-type]
    return found


def train(chosen: list[Job], recipe: Recipe, *, by=None, keepers=None, pace=None) -> list[Outcome]:
    keepers = keepers or [Memory() for _ in chosen]
    outcomes = dict(engine.train(by or Packed(), chosen, recipe, keepers, pace or Pace()))
    return [outcomes[index] for index in range(len(chosen))]


@functools.cache  # each engine is held against the same
def three_alone(recipe: Recipe) -> list[Outcome]:
    return alone(jobs(3), recipe)


def alone(chosen: list[Job], recipe: Recipe) -> list[Outcome]:
    return [train([job], recipe, by=Sequential())[0] for job in chosen]


def prints(outcomes: list[Outcome]) -> list[str]:
    return [states.fingerprint(outcome.weights) for outcome in outcomes]


@EACH_RECIPE
@EACH_ENGINE
def test_packed_training_is_the_sequential_one_within_float_tolerance(changes, by):
    recipe = small.recipe(length="100it", eval_every="25it", **changes)
    for one, other in zip(train(jobs(3), recipe, by=by), three_alone(recipe), strict=True):
        for name, value in one.weights.items():
            torch.testing.assert_close(value, other.weights[name], rtol=1e-4, atol=1e-5)
        for name in ("train_loss", "val_loss", "test_loss", "test_accuracy", "learning_rate"):
            found, expected = ([row[name] for row in o.history] for o in (one, other))
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert one.mask == other.mask


@pytest.mark.parametrize("by", [alone, train], ids=["alone", "packed"])
def test_test_is_measured_where_validation_loss_is_lowest_so_far_and_at_the_end(by):
    bouncing = functools.partial(torch.optim.SGD, lr=3.0, momentum=0.9)
    each = small.recipe(length="60it", eval_every="3it", optimizer=bouncing)
    both = (by(jobs(2), recipe) for recipe in (each, replace(each, test_at="lowest")))
    for whole, some in zip(*both, strict=True):
        losses = [row["val_loss"] for row in whole.history]
        falls = [loss < min(losses[:i], default=math.inf) for i, loss in enumerate(losses)]
        assert 1 < sum(falls) < len(falls) - 1
        falls[-1] = True
        assert [*some.history] == [
            {name: value for name, value in row.items() if tested or not name.startswith("test_")}
            for tested, row in zip(falls, whole.history, strict=True)
        ]


@EACH_RECIPE
@EACH_ENGINE
def test_a_lane_does_not_depend_on_its_companions(changes, by):
    recipe, chosen = small.recipe(length="20it", **changes), jobs(4)
    together = prints(train(chosen, recipe, by=by))
    assert together == [prints(train([job], recipe, by=by))[0] for job in chosen]
    assert together[1:] == prints(train(chosen[1:], recipe, by=by))
    assert len(set(together)) == 4


@EACH_ENGINE
def test_pruned_weights_are_exactly_zero_in_every_lane_after_every_step(by):
    chosen = jobs(3)
    together = by.begin(chosen, small.recipe(optimizer=ADAM), [None] * 3)
    for _ in range(5):
        together.advance()
        for loop, job in zip(together.lanes, chosen, strict=True):
            loop.bring_up_to_date()
            weights = dict(loop.model.named_parameters())
            assert all(bool((weights[n][~m] == 0).all()) for n, m in job.ticket.mask.items())


@EACH_RECIPE
@EACH_ENGINE
def test_an_interrupted_pack_continues_bit_for_bit_in_any_company(changes, by):
    recipe, chosen = small.recipe(**changes), jobs(3)
    keepers, asked = [Memory() for _ in chosen], iter([False] * 16 + [True] * 99)
    with pytest.raises(Interrupted):
        train(chosen, recipe, by=by, keepers=keepers, pace=Pace(stop=lambda: next(asked)))
    assert [keeper.checkpoint.step for keeper in keepers] == [17] * 3
    keepers[2].checkpoint = None  # killed before it was written
    whole = train(chosen, recipe, by=by)
    resumed = train(chosen, recipe, by=by, keepers=keepers)
    assert prints(resumed) == prints(whole)
    assert [outcome.history for outcome in resumed] == [outcome.history for outcome in whole]


def test_a_mask_that_closes_in_during_training_packs_too():
    gradual = Gradual(Global(), Iterations(sparsity=0.8, iterations=4))
    first, recipe = small.task(), small.recipe()
    chosen = [replace(small.dense_job(first.with_seed(n)), masking=gradual) for n in range(2)]
    packed, apart = train(chosen, recipe), alone(chosen, recipe)
    assert [outcome.mask for outcome in packed] == [outcome.mask for outcome in apart]
    assert packed[0].mask.density == pytest.approx(0.2, abs=0.005)


@EACH_ENGINE
def test_restored_optimizer_states_continue_the_training(by):
    recipe, [job] = small.recipe(optimizer=ADAM), jobs(1)
    early = engine.replay(job, recipe, None, 15, engine=by)
    start = Start(step=15, optimizer=early.optimizer)
    again = replace(job, ticket=Ticket(job.ticket.mask, early.weights, start))
    assert prints(train([again], recipe, by=by)) == prints(train([job], recipe, by=by))


@EACH_ENGINE
def test_a_diverging_lane_leaves_the_others_as_they_are(by):
    recipe, chosen = small.recipe(), jobs(3)
    weights = {n: w * 1e30 for n, w in chosen[1].ticket.weights.items()}
    bad = replace(chosen[1], ticket=replace(chosen[1].ticket, weights=weights))
    outcomes = train([chosen[0], bad, chosen[2]], recipe, by=by)
    assert [outcome.diverged for outcome in outcomes] == [False, True, False]
    whole = prints(train(chosen, recipe, by=by))
    assert prints(outcomes)[::2] == whole[::2]


def test_snapshots_are_each_lanes_own():
    keepers = [Memory(), Memory()]
    first, second = jobs(2)
    train([replace(first, snapshots=(0, 7)), second], small.recipe(), keepers=keepers)
    assert sorted(keepers[0].snapshots) == [0, 7]
    assert not keepers[1].snapshots
    seven = engine.replay(first, small.recipe(), None, 7, engine=Packed())
    assert states.fingerprint(seven.weights) == states.fingerprint(keepers[0].snapshots[7].weights)


def test_jobs_that_cannot_go_in_step_are_not_picked_together():
    first, second, third, fourth = jobs(4)
    late = replace(second, ticket=replace(second.ticket, start=Start(step=5)))
    other = replace(third, masking=Gradual(Global(), Iterations(sparsity=0.8, iterations=4)))
    assert Packed().pick([first, late, other, fourth]) == [0, 3]
    assert Packed(2).pick(jobs(4)) == [0, 1]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError(), RuntimeError("... can't allocate memory: you tried ...")]
)
def test_where_memory_does_not_suffice_halves_are_trained(error):
    @dataclass(frozen=True)
    class Small:
        """Takes two at once."""

        name: str = "packed"
        sizes: list[int] = field(default_factory=list)

        def pick(self, jobs):
            return Packed().pick(jobs)

        def begin(self, jobs, recipe, checkpoints) -> Together:
            self.sizes.append(len(jobs))
            if len(jobs) > 2:
                raise error
            return Packed().begin(jobs, recipe, checkpoints)

    tight = Small()
    assert prints(train(jobs(5), small.recipe(), by=tight)) == prints(
        train(jobs(5), small.recipe())
    )
    assert tight.sizes == [5, 2, 3, 1, 2]


def test_memory_bounds_how_many_are_packed():
    problem, recipe = small.task(), small.recipe()
    assert lanes_that_fit(problem, recipe, 0) == 1
    assert lanes_that_fit(problem, recipe, 5.2e5) == 3
    assert lanes_that_fit(problem, recipe, math.inf) == recipe.max_packed == 16


def test_networks_that_cannot_be_packed_say_why():
    class Squared(nn.Module):
        def forward(self, x):
            return x.square()

    class Own(nn.Module):
        """Packs as long as its forward leaves leading axes alone."""

        def __init__(self, axis):
            super().__init__()
            self.axis, self.flatten, self.output = axis, nn.Flatten(-3), nn.Linear(16, 3)

        def forward(self, x):
            x = self.flatten(x)
            return self.output(x - x.mean(self.axis, keepdim=True))

    class Shared(nn.Module):
        """One layer under two names."""

        def __init__(self):
            super().__init__()
            self.flatten, self.a, self.output = nn.Flatten(), nn.Linear(16, 16), nn.Linear(16, 3)
            self.b = self.a

        def forward(self, x):
            return self.output(self.b(self.a(self.flatten(x))))

    class Asserting(nn.Module):
        def __init__(self):
            super().__init__()
            self.flatten, self.output = nn.Flatten(), nn.Linear(16, 3)

        def forward(self, x):
            assert x.dim() == 4
            return self.output(self.flatten(x))

    def why(model, masking=Static(), **changes):  # noqa: B008
        return obstacle(small.task(model=model), masking, small.recipe(**changes))

    def with_part(part):
        return lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 9), part, nn.Linear(9, 3))

    assert why(small.perceptron) is None
    assert why(with_part(nn.Tanh())) is None
    assert why(lambda: Own(-1)) is None
    assert why(lambda: Own(0)) == "its forward pass does not take a leading axis"
    assert why(Asserting) == "its forward pass does not take a leading axis"
    assert why(Shared) == "two of its layers share a tensor"
    assert "Conv2d" in why(small.convolutional)
    assert "BatchNorm1d" in why(with_part(nn.BatchNorm1d(9)))
    assert "random" in why(with_part(nn.Dropout()))
    assert "Squared" in why(with_part(Squared()))
    lbfgs = functools.partial(torch.optim.LBFGS)
    assert "LBFGS" in why(small.perceptron, optimizer=lbfgs)


def test_each_module_is_a_view_of_its_slice():
    modules = [small.perceptron() for _ in range(3)]
    inputs = torch.randn(3, 5, 1, 4, 4, generator=stream(0, "x"))
    apart = torch.stack([m(x) for m, x in zip(modules, inputs, strict=True)])
    network = pack_networks(modules)
    torch.testing.assert_close(network(inputs), apart)
    with torch.no_grad():
        for parameter in modules[1].parameters():
            parameter.zero_()
    assert bool((network(inputs)[1] == 0).all())
    torch.testing.assert_close(network(inputs)[::2], apart[::2])


def test_what_can_go_in_step_goes_in_step_whatever_lies_between(tmp_path):
    """Arms that start elsewhere stand between those that start together."""
    late = [replace(j, ticket=replace(j.ticket, start=Start(step=5))) for j in jobs(3)]
    mixed = [job for pair in zip(jobs(3), late, strict=True) for job in pair]
    sizes = []

    @dataclass(frozen=True)
    class Counting:
        name: str = "packed"

        def pick(self, found):
            return Packed().pick(found)

        def begin(self, chosen, recipe, checkpoints) -> Together:
            sizes.append(len(chosen))
            return Packed().begin(chosen, recipe, checkpoints)

    list(Trainer(small.recipe(), Store(tmp_path), Counting()).fit(mixed))
    assert sizes == [3, 3]


def test_the_store_tells_engines_apart_and_a_run_ends_alike(tmp_path):
    chosen, recipe = jobs(3), small.recipe()
    keys = {}
    for way in (Sequential(), Packed(), Sparse()):
        trainer = Trainer(recipe, Store(tmp_path), way)
        trained = list(trainer.fit(chosen))
        keys[way.name] = [one.key for one in trained]
        assert not any(one.reused for one in trained)
        again = engine.replay(chosen[0], recipe, None, 40, engine=way)
        assert states.fingerprint(again.weights) == states.fingerprint(trained[0].weights)
    assert len({key for found in keys.values() for key in found}) == 9


def test_rounds_of_pruning_find_the_same_masks_by_every_engine(tmp_path):
    recipe, problem, found = small.recipe(optimizer=ADAM), small.task(), []
    for way in (Sequential(), Packed(), Sparse()):
        trainer, past = Trainer(recipe, Store(tmp_path), way), []
        while (ticket := small.imp(rounds=4).propose(problem, past)) is not None:
            past += trainer.fit([Job(problem, ticket, Static())])
        found.append([trained.mask for trained in past])
    assert found[0] == found[1] == found[2]
    assert [mask.num_kept for mask in found[0]] == [228, 160, 112, 78, 55]
