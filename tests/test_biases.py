"""Biases that may be pruned too: what is prunable, the option, scores and budgets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

import small
from biased import PERCEPTRON, drawn, noise, num_by_name
from command import parts_of
from finished import chain_task
from lth_runner import score
from lth_runner.allocate import (
    Blocks,
    Channels,
    Deviation,
    ErdosRenyi,
    Global,
    LayerWise,
    NOfM,
    Proportional,
    Rows,
    SmartRatio,
    Uniform,
    channels,
    count,
    empty_layers,
)
from lth_runner.allocate.budget import Budget
from lth_runner.cli.conf_dir import conf_dir
from lth_runner.problem import models
from lth_runner.problem.covers import Covers
from lth_runner.problem.fits import check_fits
from lth_runner.problem.requirements import check
from lth_runner.schedule import Iterations
from lth_runner.score.examples import draw_batches
from lth_runner.search.rewind import layer_group
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask

NAMES = ("linear1.weight", "linear1.bias", "output.weight", "output.bias")


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
    assert sum(sizes[name] for name in Covers().names(module)) == weights
    assert sum(sizes[name] for name in Covers().names(module, biases=True)) == with_biases


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
    found = Covers().names(module, biases=True)
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
        return parts_of(compose("config", overrides=[*small_run, "device=cpu", *overrides]))


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
    [(inputs, labels)] = draw_batches(PERCEPTRON, 1, 16)

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
    assert empty_layers(Mask({**dense, "linear1.bias": nothing["linear1.bias"]})) == ()
    assert empty_layers(Mask({**nothing, "linear1.bias": dense["linear1.bias"]})) == (
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
    found = budget.whole_numbers({"a": 1.0, "b": 1.0, "c": 0.0}, avoid_collapse=True)
    assert found == {"a": 1, "b": 0, "c": 1}


@pytest.mark.parametrize(
    ("budget", "scope"),
    [
        (ErdosRenyi(), "erk"),
        (ErdosRenyi(kernel=False), "er"),
        (SmartRatio(), "smart_ratio"),
        (NOfM(), "n_of_m"),
        (Rows(), "rows"),
        (Channels(), "channels"),
        (Blocks((1, 2)), "blocks"),
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
        check(wrong, PERCEPTRON)
