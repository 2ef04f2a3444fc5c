"""Biases that may be pruned too: what is prunable, scores, budgets, maskings, engines, probes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

import lanes
import small
from finished import chain_task, random_mask, unchanged
from lth_runner import models, score
from lth_runner import state as states
from lth_runner.allocate import (
    Channels,
    Deviation,
    ErdosRenyi,
    Global,
    LayerWise,
    NOfM,
    Proportional,
    SmartRatio,
    Uniform,
    channels,
    collapsed,
    count,
)
from lth_runner.allocate.budget import Budget
from lth_runner.cli import conf_dir
from lth_runner.config import build
from lth_runner.control import RescaledRandom, unpruned
from lth_runner.engine import Sequential, replay
from lth_runner.errors import UserError
from lth_runner.loop import Loop
from lth_runner.mask import Mask
from lth_runner.masking import Continuous, EdgePopup, Gradual, Rigl, Set, Static, StraightThrough
from lth_runner.masking.updates import Updates
from lth_runner.packed import Packed, Sparse
from lth_runner.probe import EffectiveDensity, NeuralPersistence, Signal, SpanningTree
from lth_runner.probe.paths import live
from lth_runner.rewind import layer_group
from lth_runner.schedule import Iterations
from lth_runner.score.examples import draw
from lth_runner.seeds import stream
from lth_runner.store import load_checkpoint, save_checkpoint
from lth_runner.task import Task, check_fits
from lth_runner.ticket import Ticket
from lth_runner.train import Job

PERCEPTRON = replace(small.task(), biases=True)  # 16 -> 12 -> 3, biases at zero: 228 and 15
NAMES = ("linear1.weight", "linear1.bias", "output.weight", "output.bias")


def drawn(task: Task, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights whose biases are no zeros."""
    return {
        name: torch.randn(value.shape, generator=stream(seed, "biases", name), dtype=torch.float64)
        if value.is_floating_point()
        else value
        for name, value in task.init().items()
    }


def noise(mask: Mask) -> dict[str, torch.Tensor]:
    return {n: torch.rand(k.shape, generator=stream(0, "noise", n)) for n, k in mask.items()}


def num_by_name(mask: Mask) -> dict[str, int]:
    return {name: int(kept.sum()) for name, kept in mask.items()}


# --- what may be pruned


@pytest.mark.parametrize(
    ("model", "shape", "weights", "with_biases"),
    [
        (models.lenet300, (1, 28, 28), 266_200, 266_610),
        (models.lenet5, (1, 28, 28), 430_500, 431_080),
        # convolutions before a norm have none: that of the output alone
        (models.resnet_cifar, (3, 32, 32), 270_896, 270_906),
    ],
)
def test_the_numbers_of_weights_and_of_weights_and_biases(model, shape, weights, with_biases):
    with torch.device("meta"):
        module = model(shape=shape, num_classes=10)
    sizes = {name: value.numel() for name, value in module.named_parameters()}
    assert sum(sizes[name] for name in models.prunable_names(module)) == weights
    assert sum(sizes[name] for name in models.prunable_names(module, biases=True)) == with_biases


def test_each_bias_stands_behind_its_weight_and_no_norms_shift_is_one():
    assert PERCEPTRON.prunable == NAMES
    task = replace(small.task(model=small.convolutional), biases=True)
    assert task.prunable == ("0.weight", "3.weight", "7.weight", "7.bias")
    assert task.dense().biases == {"7.bias"}
    assert task.dense().of_weights() == small.task(model=small.convolutional).dense()


def test_a_shared_weights_biases_are_each_prunable_and_a_shared_bias_once():
    first, second, third = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight, third.bias = first.weight, first.bias
    module = nn.Sequential(first, second, third)
    found = models.prunable_names(module, biases=True)
    assert found == ("0.weight", "0.bias", "1.bias", "2.weight")


def test_a_task_is_named_by_its_biases_only_where_they_are_pruned():
    plain = small.task()
    assert PERCEPTRON.identity == plain.identity | {"biases": True}
    assert PERCEPTRON.with_seed(3).prunable == NAMES


def test_a_network_without_biases_is_refused():
    check_fits(PERCEPTRON)
    with pytest.raises(UserError, match=r"pruner\.biases=true.*no convolution or linear layer"):
        check_fits(replace(chain_task(4, 5, 3), biases=True))


def tied() -> nn.Module:
    """Two layers of one weight, each with a bias of its own."""
    module = nn.Sequential(nn.Flatten(), *(nn.Linear(16, 16) for _ in range(2)), nn.Linear(16, 3))
    module[2].weight = module[1].weight
    return module


def test_layers_for_rewinding_are_the_same():
    for model in (small.perceptron, small.convolutional, tied):
        plain = small.task(model=model)
        for group in ("first", "last", "early_half"):
            assert layer_group(replace(plain, biases=True), group) == layer_group(plain, group)


# --- from the config


def built(*overrides: str):
    small_run = ["max_samples=256", "train.batch_size=32", "replicates=1", "record=local"]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return build(compose("config", overrides=[*small_run, "device=cpu", *overrides]))


def test_the_option_reaches_the_task_and_names_another_run():
    plain, given = built(), built("pruner.biases=true")
    assert [task.biases for task in given.experiment.tasks] == [True]
    assert given.experiment.tasks[0].dense().num_prunable == 50_200 + 410
    assert built("pruner.biases=false").run_id == plain.run_id != given.run_id
    with pytest.raises(UserError, match=r"pruner\.biases='maybe': give true or false"):
        built("pruner.biases=maybe")


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["pruner.scope=erk"], r"scope=erk goes by"),
        (["pruner=rigl"], r"scope=erk goes by"),
        (["pruner=smart_ratio"], r"scope=smart_ratio goes by"),
        (["pruner.scope=channels"], r"scope=channels goes by"),
        (["pruner=early_bird_stop", "model=mlp", "model.norm=batch"], r"NormScale scores whole"),
        (["pruner=prospr", "pruner.search.score.structured=true"], r"prospr with structured=true"),
    ],
)
def test_what_cannot_be_had_is_refused_before_any_training(overrides, why):
    with pytest.raises(UserError, match=rf"^pruner\.biases=true.*{why}"):
        built("pruner.biases=true", *overrides)


# --- scores

SCORES = {
    "magnitude": score.Magnitude(),
    "random": score.Random(),
    "snip": score.Snip(batch_size=24),
    "force": score.Force(batch_size=24),
    "grasp": score.Grasp(samples_per_class=4),
    "grasp_it": score.GraspIterated(batch_size=24),
    "gradient": score.GradientMagnitude(batch_size=24),
    "synflow": score.Synflow(),
    "prospr": score.Prospr(batch_size=24),
    "obd": score.Obd(num_batches=1, batch_size=24),
    "hutchinson": score.Obd("hutchinson", num_batches=1, batch_size=24, num_draws=2),
    "movement": score.MaskCriterion("movement"),
    "ranks": score.MaskCriterion("large_init_large_final"),
    "concrete": score.Concrete(Iterations(0.5), length="3it", batch_size=24),
}


@pytest.mark.parametrize("name", SCORES)
def test_every_score_of_single_weights_scores_biases(name):
    dense = PERCEPTRON.dense()
    found = SCORES[name](PERCEPTRON, drawn(PERCEPTRON), dense)
    assert list(found) == list(NAMES)
    for tensor in NAMES:
        assert found[tensor].shape == dense[tensor].shape
        assert bool(torch.isfinite(found[tensor]).all())
    assert len(found["linear1.bias"].unique()) > 1
    kept = Global()(found, 0.5, dense, 0)
    assert kept.num_kept == count(0.5, 228 + 15)


@pytest.mark.parametrize("name", ["snip", "synflow", "obd", "prospr"])
def test_the_weights_scores_are_those_without_biases_in_the_mask(name):
    plain = small.task()
    weights = drawn(plain)
    alone = SCORES[name](plain, weights, plain.dense())
    beside = SCORES[name](PERCEPTRON, weights, PERCEPTRON.dense())
    scale = {"snip": beside["output.weight"].sum() / alone["output.weight"].sum()}.get(name, 1.0)
    for tensor in alone:
        torch.testing.assert_close(beside[tensor], scale * alone[tensor])


def test_snips_score_of_a_bias_is_the_losss_slope_in_its_mask():
    rule = score.Snip(batch_size=16, normalise=False)
    weights = drawn(PERCEPTRON)
    found = rule(PERCEPTRON, weights, PERCEPTRON.dense())
    [(inputs, labels)] = draw(PERCEPTRON, 1, 16)

    def loss(name: str, index: int, factor: float) -> float:
        changed = weights[name].clone()
        changed[index] *= factor
        return PERCEPTRON.loss(weights | {name: changed}, (inputs.double(), labels)).item()

    for name in ("linear1.bias", "output.bias"):
        for index in range(len(weights[name])):
            slope = (loss(name, index, 1 + 1e-6) - loss(name, index, 1 - 1e-6)) / 2e-6
            assert float(found[name][index]) == pytest.approx(abs(slope), rel=1e-5, abs=1e-9)


def test_synflow_scores_a_bias_by_its_own_flow():
    """One layer, R = sum of |w| + sum of |b|; two units of one input."""
    task = replace(chain_task(1, 2, bias=True), biases=True)
    weights = {"0.weight": torch.tensor([[2.0], [-3.0]]), "0.bias": torch.tensor([-0.5, 0.0])}
    found = score.Synflow()(task, weights, task.dense())
    assert found["0.weight"].flatten().tolist() == [2, 3]
    assert found["0.bias"].tolist() == [0.5, 0]
    without = score.Synflow("zero")(task, weights, task.dense())
    assert without["0.bias"].tolist() == [0, 0]


@pytest.mark.parametrize("name", ["snip", "synflow", "magnitude"])
def test_biases_that_start_at_zero_go_first_and_count(name):
    weights, dense = PERCEPTRON.init(), PERCEPTRON.dense()
    found = SCORES[name](PERCEPTRON, weights, dense)
    mask = Global()(found, 233 / 243, dense, 0)
    assert mask.num_kept == 233
    assert mask.of_weights().num_kept == 228
    assert sum(num_by_name(mask)[name] for name in mask.biases) == 5
    mask = Global()(found, 200 / 243, dense, 0)
    assert mask.of_weights().num_kept == mask.num_kept == 200


# --- budgets

BUDGETS = {
    "global": Global(),
    "layerwise": LayerWise(),
    "uniform": Uniform(),
    "given": Proportional({"*": 0.5, "output": 1.0}),
    "deviation": Deviation(),
}


@pytest.mark.parametrize("name", BUDGETS)
def test_budgets_meet_their_count_nested_with_biases(name):
    dense = PERCEPTRON.dense()
    scores = noise(dense)
    outer = BUDGETS[name](scores, 0.9, dense, 0)
    inner = BUDGETS[name](scores, 0.85, outer, 1)
    assert (outer.num_kept, inner.num_kept) == (count(0.9, 243), count(0.85, 243))
    assert inner <= outer


def test_by_layer_a_bias_has_the_share_of_its_layer():
    dense = PERCEPTRON.dense()
    by_layer = LayerWise(rate=0.5, rates={"output": 0.0})(noise(dense), 0.5, dense, 0)
    assert list(num_by_name(by_layer).values()) == [96, 6, 36, 3]
    # the first layer whole, its bias too: 218 - 204 of the other 39
    uniform = Uniform()(noise(dense), 218 / 243, dense, 0)
    assert list(num_by_name(uniform).values()) == [192, 12, 13, 1]


def test_a_layer_without_weights_is_cut_whatever_its_bias_and_an_empty_bias_cuts_nothing():
    dense = PERCEPTRON.dense()
    nothing = {name: torch.zeros_like(kept) for name, kept in dense.items()}
    assert collapsed(Mask({**dense, "linear1.bias": nothing["linear1.bias"]})) == ()
    assert collapsed(Mask({**nothing, "linear1.bias": dense["linear1.bias"]})) == (
        "linear1.weight",
        "output.weight",
    )


@pytest.mark.parametrize("name", BUDGETS)
def test_avoiding_a_collapse_asks_nothing_of_biases(name):
    if name == "uniform":
        budget = Uniform(dense_first=False, avoid_collapse=True)
    else:
        budget = replace(BUDGETS[name], avoid_collapse=True)
    dense = PERCEPTRON.dense()
    scores = noise(dense) | {n: torch.ones(dense[n].shape) for n in dense.biases}
    scores["output.weight"] *= 1e-9
    for num in (2, 3, 20):
        mask = budget(scores, num / 243, dense, 0)
        assert mask.num_kept == num
        assert all(num_by_name(mask.of_weights()).values())
    with pytest.raises(UserError, match="a weight in each of 2 layers, but 1"):
        budget(scores, 1 / 243, dense, 0)


def test_it_is_a_bias_that_gives_its_last_one_to_an_empty_layer():
    budget = Budget(2, dict.fromkeys("abc", 5), {}, biases=frozenset("b"))
    found = budget.whole({"a": 1.0, "b": 1.0, "c": 0.0}, avoid_collapse=True)
    assert found == {"a": 1, "b": 0, "c": 1}


@pytest.mark.parametrize(
    ("budget", "scope"),
    [
        (ErdosRenyi(), "erk"),
        (ErdosRenyi(kernel=False), "er"),
        (SmartRatio(), "smart_ratio"),
        (NOfM(), "n_of_m"),
        (Channels(), "channels"),
    ],
)
def test_budgets_that_know_no_biases_refuse_them_and_name_those_that_do(budget, scope):
    dense = PERCEPTRON.dense()
    with pytest.raises(UserError, match=rf"scope={scope} .*global, layerwise, uniform, given or"):
        budget(noise(dense), 0.5, dense, 0)


def test_channels_are_those_of_weights():
    assert num_by_name(channels(PERCEPTRON.dense())) == {"linear1.weight": 12}


@pytest.mark.parametrize(
    "wrong", [score.FilterNorm(), score.NormScale(), score.Prospr(structured=True)]
)
def test_scores_of_whole_channels_refuse_biases(wrong):
    with pytest.raises(UserError, match=r"pruner\.biases=true.*whole output channels"):
        score.check(wrong, PERCEPTRON)


# --- within a training

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
    torch.testing.assert_close(module(inputs), task.logits(without, inputs))
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
@pytest.mark.parametrize("clip_norm", [None, 0.5])
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
    whole = unpruned(Ticket(mask, weights), [first, second])
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
    assert live(task, mask) == live(plain, half)
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
    alive = live(replace(task, biases=False), half)
    assert found["effective_density"] == alive.density
    assert found["num_dead_weights"] == half.num_kept - alive.num_kept
