"""Tickets whose weights are never trained: what is saved is what was measured."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from torch import nn

import small
from command import parts_of
from lth_runner.allocate import Global, LayerWise, count
from lth_runner.cli.conf_dir import conf_dir
from lth_runner.control import Reinit, Shuffle
from lth_runner.experiment import Experiment, next_jobs
from lth_runner.masking import (
    EdgePopup,
    GemMiner,
    MultiPrize,
    Static,
    Supermask,
    with_measured_statistics,
)
from lth_runner.masking.edge_popup import uniform
from lth_runner.probe import EarlyGradients, Performance, RoundOverlap, Signs
from lth_runner.problem import models
from lth_runner.schedule import Iterations
from lth_runner.search import Found
from lth_runner.training.job import Job
from lth_runner.training.loop import Loop
from lth_runner.training.train import replay
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream

HALF = Iterations(0.5)
PLAIN = {
    "edge_popup": EdgePopup(LayerWise(), HALF),
    "edge_popup_global": EdgePopup(Global(), HALF),
    "supermask": Supermask(Global()),
    "supermask_top": Supermask(Global(), sparsity=0.7),
    "gem_miner": GemMiner(Global(), Iterations(0.8, 5)),
    "gem_miner_rounded": GemMiner(Global(), Iterations(0.8, 5), rounded=True),
}
GAINED = {
    "scale_fan": EdgePopup(LayerWise(), HALF, scale_fan=True),
    "multi_prize": MultiPrize(LayerWise(), HALF),
    "rescaled": Supermask(Global(), rescale=True),
}
EVERY = PLAIN | GAINED
MODELS = [small.perceptron, small.convolutional]
PLAIN["edge_popup_global"] = EVERY["edge_popup_global"] = EdgePopup(Global(), HALF)


def job(rule, model=small.perceptron):
    task = small.task(model=model)
    return Job(task, Found().propose(task, []), rule)


def recipe():
    adam = {"optimizer": lambda groups: torch.optim.Adam(groups, lr=0.1)}
    return small.recipe(**adam)


def trained(rule, model=small.perceptron, *, steps=40):
    loop = Loop(job(rule, model), small.recipe(), None)
    for _ in range(steps):
        loop.backward()
        loop.update()
    return loop


def equal(one, other):
    return states.fingerprint(one) == states.fingerprint(other)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", PLAIN)
def test_no_weight_bias_or_scale_ever_changes(name, model):
    start = small.task(model=model).init()
    loop = trained(PLAIN[name], model)
    mask, ended = loop.live.mask(), loop.weights()
    parameters = dict(small.task(model=model).module().named_parameters())
    assert 0 < mask.num_kept < mask.num_prunable
    wanted = mask(start)
    assert equal({n: ended[n] for n in parameters}, {n: wanted[n] for n in parameters})


@pytest.mark.parametrize("name", EVERY)
def test_the_network_is_plain_before_and_after(name):
    task = small.task(model=small.convolutional)
    module, start = task.module(), task.init()
    states.write(module, start)
    live = EVERY[name].install(module, task.dense(), 0)
    assert equal(states.read(module), start)  # installing changes nothing
    module(torch.ones(2, 1, 4, 4))
    live.remove()
    assert equal(states.read(module), live.weights())
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert not module._forward_pre_hooks
    assert states.read(module).keys() == start.keys()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("training", [True, False])
def test_at_density_one_edge_popup_is_the_dense_network(model, training):
    task = small.task(model=model)
    module, plain = task.module(), task.module()
    for network in (module, plain):
        states.write(network, task.init())
        network.train(training)
    rule = EdgePopup(LayerWise(), lambda: (1.0,), scale_fan=True)
    rule.install(module, task.dense(), 0)
    inputs = task.data.test[0]
    assert torch.equal(module(inputs), plain(inputs))


@pytest.mark.parametrize("rule", [EVERY["edge_popup"], EVERY["multi_prize"]])
@pytest.mark.parametrize("steps", [0, 1, 13])
def test_every_layer_keeps_its_share_and_the_whole_its_count_to_the_weight(rule, steps):
    mask = trained(replace(rule, schedule=Iterations(0.7)), steps=steps).live.mask()
    assert mask.num_kept == count(0.3, mask.num_prunable)
    assert all(abs(int(kept.sum()) - 0.3 * kept.numel()) < 1 for kept in mask.values())


def test_a_global_budget_and_a_supermasks_target_are_met_to_the_weight():
    for name, density in (("edge_popup_global", 0.5), ("supermask_top", 0.3)):
        mask = trained(EVERY[name]).live.mask()
        assert mask.num_kept == count(density, mask.num_prunable)


def test_gem_miners_active_weights_fall_when_they_are_due_and_never_return():
    loop, masks = Loop(job(PLAIN["gem_miner"]), small.recipe(), None), []
    while loop.step < loop.clock.total:
        loop.backward()
        loop.update()
        masks.append(loop.live.mask())
        for group in loop.live.trainable():
            assert all(bool(((p >= 0) & (p <= 1)).all()) for p in group["params"])
    num = masks[0].num_prunable
    # five densities at 1/6, 2/6, ... of forty steps: after 7, 13, 20, 27 and 33
    lengths = zip((6, 6, 7, 7, 6, 8), (1, 0.2**0.2, 0.2**0.4, 0.2**0.6, 0.2**0.8, 0.2), strict=True)
    assert [m.num_kept for m in masks] == [count(d, num) for n, d in lengths for _ in range(n)]
    assert all(after <= before for before, after in pairwise(masks))


@pytest.mark.parametrize("name", EVERY)
def test_the_accuracy_is_that_of_the_hard_mask_that_is_saved(name, tmp_path):
    problem = job(EVERY[name], small.convolutional)
    (found,) = small.trainer(tmp_path).fit([problem])
    measured = problem.task.evaluate(found.weights, "test")
    assert found.history[-1]["test_accuracy"] == measured["accuracy"]
    assert found.history[-1]["test_loss"] == pytest.approx(measured["loss"], abs=1e-6)
    weights = found.weights
    assert equal(found.mask(weights), weights)
    if name in PLAIN:
        start, norms = problem.task.init(), problem.task.norm
        rebuilt = found.mask(start) | {n: weights[n] for n in norms}
        assert equal(rebuilt, weights)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("killed", "model"), [pytest.param(0, MODELS[0], marks=pytest.mark.slow), (17, MODELS[1])]
)
def test_killed_and_continued_is_the_same_bit_for_bit(name, model, killed):
    problem = job(EVERY[name], model)
    whole = replay(problem, small.recipe(), None, 40)
    halves = replay(problem, small.recipe(), replay(problem, small.recipe(), None, killed), 40)
    for part in ("weights", "optimizer", "masking"):
        assert equal(getattr(whole, part), getattr(halves, part))


def one_layer(weights):
    module = nn.Sequential(nn.Linear(len(weights), 1, bias=False))
    module[0].weight.data.copy_(torch.tensor([weights]))
    return module, {"0.weight": torch.ones(1, len(weights), dtype=torch.bool)}


def step(live, module, scores, inputs):
    """One forward pass and the gradient that the scores get for the sum of the outputs."""
    [group] = live.trainable()
    [parameter] = group["params"]
    parameter.data.copy_(torch.tensor([scores]))
    live.after_step(0, 10)
    output = module(torch.tensor([inputs]))
    output.sum().backward()
    assert live.after_backward(1, 10, None)
    return output.item(), parameter.grad[0].tolist()


def test_edge_popup_by_hand():
    module, kept = one_layer([2.0, -3.0, 5.0, 7.0])
    live = EdgePopup(LayerWise(), HALF).install(module, kept, 0)
    # by |s| the first and the third stay; dL/ds = x w sign(s) for all
    output, gradient = step(live, module, [-0.9, 0.1, 0.5, -0.2], [1.0, 2.0, 3.0, 4.0])
    assert output == 2 * 1 + 5 * 3
    assert gradient == [-2.0, -6.0, 15.0, -28.0]


def test_scale_fan_divides_by_the_root_of_the_density():
    module, kept = one_layer([2.0, -3.0, 5.0, 7.0])
    rule = EdgePopup(LayerWise(), Iterations(0.75), scale_fan=True)
    output, gradient = step(rule.install(module, kept, 0), module, [0.9, 0.1, 0.5, 0.2], [1.0] * 4)
    assert output == 2 * 2
    assert gradient == [4.0, -6.0, 10.0, 14.0]


def test_multi_prize_by_hand():
    module, kept = one_layer([2.0, -3.0, 5.0, -6.0])
    live = MultiPrize(LayerWise(), HALF).install(module, kept, 0)
    output, gradient = step(live, module, [0.9, -0.1, 0.5, -0.8], [1.0, 2.0, 3.0, 4.0])
    alpha = (2 + 6) / 2
    assert output == alpha * 1 - alpha * 4
    assert gradient == [2.0, 6.0, 15.0, 24.0]
    assert live.weights()["0.weight"].tolist() == [[4.0, 0.0, 0.0, -4.0]]


def test_a_supermasks_gradient_is_w_times_the_slope_of_the_sigmoid():
    module, kept = one_layer([2.0, -3.0, 5.0, 7.0])
    live = Supermask(Global()).install(module, kept, 0)
    _, gradient = step(live, module, [0.0, 0.0, 60.0, -60.0], [1.0, 2.0, 3.0, 4.0])
    assert gradient == pytest.approx([2 / 4, -6 / 4, 0.0, 0.0], abs=1e-6)
    assert live.mask()["0.weight"][0, 2:].tolist() == [True, False]


def test_supermask_draws_anew_at_every_step_but_once_for_all_evaluations():
    module, kept = one_layer([1.0] * 4000)
    live = Supermask(Global(), logit=1.0).install(module, kept, 0)
    drawn = []
    for number in range(3):
        for mode in (True, True, False):
            module.train(mode)
            drawn.append(module(torch.ones(1, 4000)).item())
        live.after_step(number, 3)
    assert drawn[0] == drawn[1] != drawn[3] != drawn[6]
    assert drawn[2] == drawn[5] == drawn[8] == live.mask().num_kept
    assert all(abs(total / 4000 - 0.731) < 0.03 for total in drawn)


def test_supermask_rounds_excludes_and_rescales():
    module, kept = one_layer([2.0, -3.0, 5.0, 7.0])
    rule = Supermask(Global(), hard="round", rescale=True)
    live = rule.install(module, kept, 0)
    step(live, module, [1.0, -1.0, 0.0, -1.0], [1.0] * 4)
    assert live.weights()["0.weight"].tolist() == [[8.0, 0.0, 0.0, 0.0]]
    rule = replace(PLAIN["supermask"], exclude=["output"])
    mask = trained(rule).live.mask()
    assert bool(mask["output.weight"].all())
    assert not bool(mask["linear1.weight"].all())


def test_gem_miner_by_hand():
    module, kept = one_layer([2.0, -3.0, 5.0, 7.0])
    rule = GemMiner(Global(), Iterations(0.5), penalty=0.1)
    live = rule.install(module, kept, 0)
    scores = [0.6, 0.4, 1.3, -0.2]
    output, gradient = step(live, module, scores, [1.0, 2.0, 3.0, 4.0])
    assert output == 2 * 1 + 5 * 3
    assert gradient == [2.0, -6.0, 15.0, 28.0]
    [group] = live.trainable()
    [parameter] = group["params"]
    assert parameter[0].tolist() == pytest.approx([0.6, 0.4, 1.0, 0.0])  # clamped
    assert live.penalty().item() == pytest.approx(0.1 * (0.36 + 0.16 + 1.0))
    live.after_step(4, 10)  # the only density is due halfway
    assert live.mask()["0.weight"].tolist() == [[True, False, True, False]]


def test_scores_start_as_kaiming_uniform_and_differ_by_seed():
    scores = uniform(torch.zeros(200, 25, 4), stream(0, "scores"))
    assert float(scores.abs().max()) == pytest.approx(0.1, rel=1e-3)
    assert float(scores.var()) == pytest.approx(0.01 / 3, rel=0.05)
    task = small.task()
    one, other = (EVERY["edge_popup"].install(task.module(), task.dense(), s) for s in (0, 1))
    assert one.mask() != other.mask()


def test_the_found_subnetworks_are_better_than_the_network_they_lie_in():
    task = small.task()
    chance = task.evaluate(task.init(), "test")["accuracy"]
    for name in ("edge_popup", "supermask", "multi_prize", "gem_miner"):
        problem = job(EVERY[name])
        changed = small.recipe(
            length="120it", optimizer=lambda groups: torch.optim.Adam(groups, lr=0.05)
        )
        loop = Loop(problem, changed, None)
        while loop.step < loop.clock.total:
            loop.backward()
            loop.update()
        assert loop.evaluate()["test_accuracy"] > max(chance, 0.8), name


@pytest.mark.parametrize("name", ["edge_popup", "multi_prize", "supermask", "rescaled"])
def test_the_second_round_is_the_saved_ticket_untrained_beside_its_controls(name, tmp_path):
    rule, task = EVERY[name], small.task(model=small.convolutional)
    trainer = small.trainer(tmp_path)
    (found,) = trainer.fit([job(rule, small.convolutional)])
    proposed = Found().propose(task, [found])
    arms = [control(task, proposed, [found], 1) for control in (Reinit(), Shuffle())]
    ticket, reinit, shuffle = trainer.fit([Job(task, arm, rule) for arm in (proposed, *arms)])
    assert ticket.clock.total == ticket.ticket.start.step
    assert ticket.mask == reinit.mask == found.mask
    assert equal(ticket.weights, found.weights)
    assert equal(
        {n: shuffle.weights[n] for n in task.norm}, {n: found.weights[n] for n in task.norm}
    )
    assert shuffle.mask != found.mask
    assert shuffle.mask.layer_density() == found.mask.layer_density()
    same = [trained.weights["0.weight"] for trained in (ticket, reinit, shuffle)]
    assert not torch.equal(same[0], same[1])
    assert not torch.equal(same[0], same[2])
    assert (shuffle.weights["0.weight"] != 0).equal(shuffle.mask["0.weight"])
    probes = (Performance(), Signs(), RoundOverlap(), EarlyGradients(5, 2))
    seen = {n: v for probe in probes for n, v in probe(task, [found], ticket)}
    assert seen["test_accuracy"] == task.evaluate(found.weights, "test")["accuracy"]
    assert seen["sign_preservation"] == seen["mask_overlap_previous"] == 1.0
    assert 0 <= seen["jaccard_early_gradient"] <= 1
    assert Found().propose(task, [found, ticket]) is None


@pytest.mark.parametrize("name", ["edge_popup", "multi_prize", "rescaled"])
def test_controls_without_a_step_have_the_statistics_of_their_own_network(name, tmp_path):
    task, rule = small.task(model=small.convolutional), EVERY[name]
    (found,) = small.trainer(tmp_path).fit([job(rule, small.convolutional)])
    arms = {"reinit": Reinit(), "shuffle": Shuffle()}
    experiment = Experiment([task], Found(), rule, arms, [])
    jobs = {one.job.slot.arm: one.job for one in next_jobs(experiment, {task.seed: [found]}, ())}
    ended = jobs["ticket"].ticket.weights
    assert equal({n: ended[n] for n in task.norm}, {n: found.weights[n] for n in task.norm})
    inputs = task.data.train[0]
    for arm in arms:
        ticket = jobs[arm].ticket
        (trained,) = small.trainer(tmp_path).fit([jobs[arm]])
        first = F.conv2d(inputs, trained.weights["0.weight"], padding=1)
        for part, value in (("mean", first.mean((0, 2, 3))), ("var", first.var((0, 2, 3)))):
            torch.testing.assert_close(ticket.weights[f"1.running_{part}"], value)
        assert equal(
            {n: ticket.weights[n] for n in task.norm if n.endswith("weight")},
            {n: trained.weights[n] for n in task.norm if n.endswith("weight")},
        )


def test_a_network_without_batch_norm_has_nothing_to_measure():
    task, rule = small.task(), EVERY["edge_popup"]
    ticket = Found().propose(task, [])
    assert with_measured_statistics(task, ticket, rule) is ticket


def test_gem_miners_second_round_trains_the_initial_weights_under_the_mask(tmp_path):
    task, rule = small.task(), PLAIN["gem_miner"]
    trainer = small.trainer(tmp_path)
    (found,) = trainer.fit([job(rule)])
    second = Job(task, Found(train=True).propose(task, [found]), rule)
    assert equal(second.ticket.masked, found.mask(task.init()))
    (ticket,) = trainer.fit([second])
    assert ticket.mask == found.mask
    assert ticket.mask.num_kept == count(0.2, ticket.mask.num_prunable)
    static = replay(replace(second, masking=Static()), small.recipe(), None, 40)
    assert equal(ticket.weights, static.weights)
    assert not torch.equal(ticket.weights["linear1.bias"], task.init()["linear1.bias"])


def test_scores_that_diverge_are_told_by_the_loop():
    loop = trained(EVERY["edge_popup"], steps=1)
    [group] = loop.live.trainable()
    group["params"][0].data[0] = torch.nan
    loop.backward()
    loop.update()
    loop.evaluate()
    assert loop.diverged


def test_weights_of_constant_size():
    module = models.mlp(shape=[50], num_classes=3, widths=[40], init="signed_constant")
    weight = module.linear1.weight
    assert weight.abs().unique().tolist() == pytest.approx([0.2])  # sqrt(2 / 50)
    assert 0.45 < float((weight > 0).float().mean()) < 0.55
    assert not module.linear1.bias.any()


def test_what_cannot_be_had_is_refused():
    task = small.task()
    for rule in (
        EdgePopup(Global(exclude=["*"]), HALF),
        GemMiner(Global(exclude=["*"]), HALF),
        Supermask(Global(exclude=["*"]), sparsity=0.5),
    ):
        with pytest.raises(UserError, match="leaves no layer"):
            rule.install(task.module(), task.dense(), 0)
    with pytest.raises(UserError, match=r"pruner\.hard='coin'"):
        Supermask(Global(), hard="coin")
    with pytest.raises(UserError, match=r"pruner\.sparsity=null"):
        Supermask(Global(), sparsity=0.5, hard="round")
    with pytest.raises(UserError, match=r"avoid_collapse=true.*set pruner\.sparsity"):
        Supermask(Global(avoid_collapse=True))
    Supermask(Global(avoid_collapse=True), sparsity=0.5)
    with pytest.raises(UserError, match=r"pruner\.penalty=-1"):
        GemMiner(Global(), HALF, penalty=-1)


def test_binary_activations_are_signs_with_a_clipped_gradient():
    inputs = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0], requires_grad=True)
    outputs = models.parts.Sign()(inputs)
    outputs.sum().backward()
    assert outputs.tolist() == [-1, -1, 0, 1, 1]
    assert inputs.grad.tolist() == [0, 1, 1, 1, 0]
    for factory in (models.lenet5, models.vgg, lambda **shape: models.conv(depth=2, **shape)):
        network = factory(shape=(3, 32, 32), num_classes=10, activation="sign")
        assert not any(isinstance(module, nn.ReLU) for module in network.modules())
    with pytest.raises(UserError, match="activation"):
        models.mlp(shape=[2], num_classes=2, widths=[2], activation="signum")


def test_the_shipped_experiment_costs_what_its_header_says():
    text = (conf_dir() / "experiment/digits_strong.yaml").read_text()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        built = parts_of(compose("config", overrides=["+experiment=digits_strong"]))
    experiment, [first, *_] = built.experiment, built.experiment.tasks
    clock = built.recipe.clock(first.data.epoch(built.recipe.batch_size))
    num = len(experiment.tasks) * (2 + len(experiment.controls))
    # the second round makes no step
    steps = len(experiment.tasks) * clock.total
    assert f"# Cost: {num} trainings, {steps:,} steps in all" in text
    assert experiment.masking.schedule()[-1] == 0.5
