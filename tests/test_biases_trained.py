"""Biases that may be pruned too, in training: maskings, engines, controls and probes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import lanes
import small
from biased import PERCEPTRON, drawn, noise, num_by_name
from finished import chain_task, random_mask, unchanged
from lth_runner.allocate import Global, LayerWise, count
from lth_runner.control import RescaledRandom, unpruned
from lth_runner.masking import Continuous, EdgePopup, Gradual, Rigl, Set, Static, StraightThrough
from lth_runner.masking.updates import Updates
from lth_runner.probe import EffectiveDensity, NeuralPersistence, Signal, SpanningTree
from lth_runner.probe.paths import on_paths
from lth_runner.problem.task import Task
from lth_runner.schedule import Iterations
from lth_runner.search.ticket import Ticket
from lth_runner.store.checkpoint_file import load_checkpoint, save_checkpoint
from lth_runner.training.engines.packed import Packed, Sparse
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.loop import Loop
from lth_runner.training.train import replay
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from second_proofs import mostly_slow

HALF = Iterations(0.5)
MASKINGS = {
    "static": Static(),
    "gradual": Gradual(Global(), Iterations(0.5, iterations=4)),
    "straight_through": StraightThrough(Global(), Iterations(0.5, iterations=4), every="5it"),
    "rigl": Rigl(Updates(0.5, "5it")),
    "set": Set(Updates(0.5, "5it")),
    "continuous": Continuous(initial=0.05, penalty=1e-3, sparsity=0.5),
}


def job(name: str, task: Task = PERCEPTRON) -> Job:
    dense = task.dense()
    sparse = LayerWise()(noise(dense), 0.5, dense, 0)
    mask = sparse if name in ("static", "rigl", "set") else dense
    # Gaussian biases: they are to be pruned, and not zeros already
    weights = {n: w.to(task.init()[n]) for n, w in drawn(task).items()}
    return Job(task, Ticket(mask, weights), MASKINGS[name])


@pytest.mark.parametrize("name", MASKINGS)
def test_pruned_biases_are_zero_after_every_step_and_kept_ones_are_trained(name):
    given = job(name)
    loop = Loop(given, small.recipe(), None)
    while loop.step < loop.clock.total:
        loop.backward()
        loop.update()
        mask, weights = loop.live.mask(), loop.weights()
        for bias in mask.biases:
            assert not weights[bias][~mask[bias]].any()
    end = loop.outcome()
    assert end.mask.num_kept == count(0.5, 243)
    assert 0 < sum(num_by_name(end.mask)[n] for n in end.mask.biases) < 15
    for bias in end.mask.biases:
        stays = end.mask[bias] & given.ticket.mask[bias]
        assert (end.weights[bias] != given.ticket.weights[bias])[stays].all()


def test_a_soft_mask_lies_on_biases_too():
    """Shut, they are as good as zero."""
    task, weights = PERCEPTRON, {n: w.float() for n, w in drawn(PERCEPTRON).items()}
    module = task.module()
    states.write(module, weights)
    live_mask = Continuous().install(module, task.dense(), 0)
    [_, scores] = live_mask.trainable()
    for factor in scores["params"]:
        if factor.ndim == 1:
            factor.data.fill_(-100.0)
    inputs = task.data.test[0]
    without = {
        n: torch.zeros_like(w) if n in task.dense().biases else w for n, w in weights.items()
    }
    torch.testing.assert_close(module(inputs), task.outputs(without, inputs))
    live_mask.remove()
    assert torch.equal(module.get_parameter("output.bias"), weights["output.bias"])


@pytest.mark.parametrize("name", MASKINGS)
def test_a_killed_training_goes_on_bit_for_bit(name, tmp_path):
    given = job(name)
    save_checkpoint(tmp_path / "c", replay(given, small.recipe(), None, 13))
    halves = replay(given, small.recipe(), load_checkpoint(tmp_path / "c"), 40)
    whole = replay(given, small.recipe(), None, 40)
    for part in ("weights", "optimizer", "masking"):
        assert states.fingerprint(getattr(whole, part)) == states.fingerprint(getattr(halves, part))


def test_frozen_weights_leave_biases_alone():
    rule = EdgePopup(LayerWise(), HALF)
    with pytest.raises(UserError, match=r"pruner\.biases=true.*leave pruner\.biases out"):
        rule.install(PERCEPTRON.module(), PERCEPTRON.dense(), 0)


# --- engines


def replicates(num: int, *, density: float) -> list[Job]:
    first, found = Task(lanes.lenet, lanes.pictures(), biases=True), []
    for seed in range(num):
        task = first.with_seed(seed)
        mask = random_mask(task, density, seed)
        weights = {n: w.to(task.init()[n]) / 4 for n, w in drawn(task, seed).items()}
        found.append(Job(task, Ticket(mask, weights), Static()))
    return found


@pytest.mark.parametrize("optimizer", [lanes.SGD, lanes.ADAM])
@pytest.mark.parametrize("clip_norm", mostly_slow([None, 0.5], [0.5]))
def test_the_engines_agree_with_biases_pruned(optimizer, clip_norm):
    jobs = replicates(3, density=0.3)
    recipe = lanes.recipe(optimizer=optimizer, clip_norm=clip_norm)
    alone = lanes.alone(jobs, recipe)
    for by in (Packed(), Sparse()):
        together = lanes.trained(jobs, recipe, by=by)
        [single] = lanes.trained(jobs[:1], recipe, by=by)
        assert lanes.prints([single]) == lanes.prints(together[:1])  # whoever is beside it
        for one, other in zip(alone, together, strict=True):
            assert one.mask == other.mask
            for name, value in one.weights.items():
                torch.testing.assert_close(other.weights[name], value, rtol=1e-3, atol=1e-4)
                if name in one.mask:
                    assert not other.weights[name][~one.mask[name]].any()


def test_of_biases_no_survivors_are_sought():
    """Whole weights and biases of which one in twelve is left."""
    [given] = replicates(1, density=1.0)
    mask = Mask({n: k & (torch.arange(len(k)) % 12 == 0) if k.ndim == 1 else k
                 for n, k in given.ticket.mask.items()})  # fmt: skip
    given = replace(given, ticket=replace(given.ticket, mask=mask))
    [one] = lanes.alone([given], lanes.recipe())
    [other] = lanes.trained([given], lanes.recipe(), by=Sparse())
    for name, value in one.weights.items():
        torch.testing.assert_close(other.weights[name], value, rtol=1e-3, atol=1e-4)
    assert mask.num_kept < mask.num_prunable


@pytest.mark.parametrize("by", [Sequential(), Packed(), Sparse()])
def test_every_engine_continues_bit_for_bit(by):
    jobs, recipe = replicates(1, density=0.3), lanes.recipe()
    halfway = replay(jobs[0], recipe, None, 9, engine=by)
    halves = replay(jobs[0], recipe, halfway, 20, engine=by)
    whole = replay(jobs[0], recipe, None, 20, engine=by)
    assert lanes.whole_state(halves) == lanes.whole_state(whole)


# --- controls


def test_rescaled_weights_leave_the_law_of_biases():
    mask = LayerWise()(noise(PERCEPTRON.dense()), 0.5, PERCEPTRON.dense(), 0)
    ticket = Ticket(mask, drawn(PERCEPTRON))
    own, fresh = (RescaledRandom(kind)(PERCEPTRON, ticket, [], 1) for kind in ("own", "fresh"))
    for name in mask.biases:
        assert torch.equal(own.weights[name], ticket.weights[name])
        assert not fresh.weights[name].any()  # as this network draws its biases
    for name in mask.of_weights():
        assert not torch.equal(own.weights[name], ticket.weights[name])


@pytest.mark.parametrize("rewound", [True, False])
def test_biases_that_are_all_pruned_are_rewound_with_the_weights_or_stay_trained_with_them(rewound):
    """At zero both times, they look rewound and trained alike."""
    dense = PERCEPTRON.dense()
    ended = drawn(PERCEPTRON, 1)
    first = replace(unchanged(dense, PERCEPTRON.init()), weights=ended)
    mask = Mask({n: torch.zeros_like(k) if n in dense.biases else k for n, k in dense.items()})
    left = mask(drawn(PERCEPTRON, 2))
    second = replace(unchanged(mask, PERCEPTRON.init()), weights=left)
    weights = PERCEPTRON.init() if rewound else second.weights
    whole = unpruned(Ticket(mask, weights), [first, second]).weights
    for name in dense.biases:
        assert torch.equal(whole[name], weights[name] if rewound else ended[name])
    for name in dense.of_weights():
        assert torch.equal(whole[name], weights[name])


# --- probes


def biased(mask_biases: float):
    """A chain whose mask keeps half of the weights, and that share of the biases."""
    task = chain_task(9, 12, 12, 3, bias=True)
    half = random_mask(task, 0.5)
    task = replace(task, biases=True)
    share = random_mask(task, mask_biases, 1)
    return task, half, Mask({n: half.get(n, share[n]) for n in task.dense()})


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_paths_and_matrices_are_those_of_weights(share):
    task, half, mask = biased(share)
    plain = replace(task, biases=False)
    assert on_paths(task, mask) == on_paths(plain, half)
    weights = drawn(task)
    for probe in (NeuralPersistence(), SpanningTree()):
        beside = dict(probe(task, [unchanged(task.dense(), weights)], unchanged(mask, weights)))
        alone = dict(probe(plain, [unchanged(plain.dense(), weights)], unchanged(half, weights)))
        assert beside == alone


def test_the_signal_is_predicted_with_the_biases_that_are_left():
    task, half, mask = biased(0.0)
    plain = replace(task, biases=False)
    weights = drawn(task)
    none = {n: torch.zeros_like(w) if n in mask.biases else w for n, w in weights.items()}
    beside = dict(Signal(32)(task, [], unchanged(mask, weights)))
    assert beside == dict(Signal(32)(plain, [], unchanged(half, none)))
    assert set(beside["chi_by_layer"]) == set(half)


def test_effective_density_counts_weights():
    task, half, mask = biased(1.0)
    found = dict(EffectiveDensity()(task, [], unchanged(mask, drawn(task))))
    alive = on_paths(replace(task, biases=False), half)
    assert found["effective_density"] == alive.density
    assert found["num_dead_weights"] == half.num_kept - alive.num_kept
