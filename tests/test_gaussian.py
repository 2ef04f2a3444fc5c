"""Weights N(mu, sigma^2): their divergence and draws, pruned ones, and what a network answers."""

from __future__ import annotations

import copy
import functools
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn.utils import parametrizations

import small
from command import SMALL, folders, lth_run, rows
from fake_past import data
from forked import lth_run_forked
from lth_runner.allocate import Global
from lth_runner.masking import Static
from lth_runner.problem import Covers, Gaussian, MultiLabel, NextToken, Span, SquaredError
from lth_runner.problem.coordinates import own_name, stock_name
from lth_runner.problem.data import Data
from lth_runner.problem.gaussian import deviations, gaussians, is_rho, rho_name
from lth_runner.problem.task import Task
from lth_runner.score import Synflow, Wanda
from lth_runner.search.ticket import Start, Ticket
from lth_runner.training import train as engine
from lth_runner.training.job import Job
from lth_runner.training.loop import Loop
from lth_runner.training.trial import try_a_step
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.global_streams import torch_seeded
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from test_coordinates import Net

PLAIN = small.task()
BAYES = replace(PLAIN, coordinates=Gaussian(temperature=1.0, initial_std=0.1))
CONV = replace(BAYES, model=small.convolutional)


def random_mask(task: Task, density: float) -> Mask:
    scores = {n: torch.rand(k.shape, generator=stream(0, n)) for n, k in task.dense().items()}
    return Global()(scores, density, task.dense(), 0)


def trained(task: Task, density: float, steps: int = 15, **changes: object):
    mask = random_mask(task, density)
    job = Job(task, Ticket(mask, task.init()), Static())
    return mask, engine.replay(job, small.recipe(**changes), None, steps).weights


def pruned(task: Task, density: float):
    """A network whose laws differ from weight to weight, some of them pruned."""
    mask, module, weights = random_mask(task, density), task.module(), task.init()
    for name in mask:
        noise = torch.randn(mask[name].shape, generator=stream(1, name))
        weights[rho_name(name)] = 0.3 * noise
    states.write(module, mask(weights))
    return mask, module


@pytest.mark.parametrize("density", [1.0, 0.3])
def test_the_divergence_is_torchs_over_weights_that_are_not_pruned(density: float) -> None:
    coordinates = Gaussian(temperature=0.25, prior_std=0.7, initial_std=0.1)
    task = replace(CONV, coordinates=coordinates)
    mask, module = pruned(task, density)
    wanted = torch.zeros(())
    sigmas = deviations(module.named_modules(), states.read(module), mask)
    for name, mu, _ in gaussians(module):
        own, prior = Normal(mu, sigmas[name]), Normal(0.0, 0.7)
        wanted = wanted + kl_divergence(own, prior)[mask[name]].sum()
    found = coordinates.penalty(module, 96)
    torch.testing.assert_close(found, 0.25 * wanted / 96, rtol=1e-5, atol=0)
    found.backward()
    assert all(not module.get_parameter(rho_name(n)).grad[~mask[n]].any() for n in mask)


@pytest.mark.parametrize("task", [BAYES, CONV], ids=["linear", "convolution"])
@pytest.mark.parametrize("local", [True, False])
def test_a_pruned_weight_adds_no_variance_and_is_zero_in_every_draw(task, local: bool) -> None:
    task = replace(task, coordinates=replace(task.coordinates, local_reparameterisation=local))
    mask, module = pruned(task, 0.5)
    inputs = task.data.sample(6, 0)[0]
    seen = []
    for name, mu, spread in gaussians(module):
        with spread.drawing(0):
            drawn = spread(mu)
            assert drawn is spread(mu)  # one draw in a pass
        assert not drawn[~mask[name]].any()
        assert (drawn != mu)[mask[name]].all()
        seen.append(name)
    assert tuple(seen) == task.prunable
    none = {name: torch.zeros_like(kept) for name, kept in mask.items()}
    gone = Mask(none)(states.read(module))
    states.write(module, gone)
    still = replace(task, coordinates=None).outputs(task.merged(gone), inputs)
    for part in module.modules():
        part.training = part is module  # drawn as in training, by running statistics
    with torch_seeded(3):
        drawn = module(inputs)
    torch.testing.assert_close(drawn, still)
    drawn.sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in module.parameters())


@pytest.mark.parametrize("task", [BAYES, CONV], ids=["linear", "convolution"])
def test_a_pass_leaves_the_divergence_s_gradient_to_the_bit_and_copies_have_none(task) -> None:
    inputs = task.data.sample(6, 0)[0]
    gradients = []
    for apart in (False, True):
        _, module = pruned(task, 0.5)
        with torch_seeded(3):
            loss = module.train()(inputs).square().mean()
        penalised = copy.deepcopy(module) if apart else module
        penalty = task.laws.penalty(penalised, 96)
        assert (float(penalty.detach()) != 0) == apart
        (loss + penalty).backward()
        found = {n: p.grad for n, p in module.named_parameters()}
        for name, value in penalised.named_parameters() if apart else ():
            found[name] = found[name] if value.grad is None else found[name] + value.grad
        gradients.append(found)
    assert all(torch.equal(value, gradients[1][name]) for name, value in gradients[0].items())


@pytest.mark.parametrize("build", [
    lambda: nn.Sequential(nn.Linear(6, 4)),
    lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, stride=2, padding_mode="reflect")),
], ids=["linear", "convolution"])  # fmt: skip
def test_outputs_are_drawn_by_the_law_that_drawn_weights_give_them(build) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(3, 6) if isinstance(build()[0], nn.Linear) else torch.randn(3, 2, 5, 5)
    found = []
    for local in (True, False):
        torch.manual_seed(1)
        module = build()
        coordinates = Gaussian(initial_std=0.5, local_reparameterisation=local)
        coordinates.install(module)
        with torch.no_grad():
            module[0].parametrizations.weight.original[0].zero_()  # an output without variance
        coordinates.answer_by(module, SquaredError())
        with torch.no_grad(), torch_seeded(2):
            drawn = torch.stack([module.train()(inputs) for _ in range(3000)])
        found.append((drawn.mean(0), drawn.std(0)))
        assert bool((drawn[:, :, 0] == drawn[0, :, 0]).all())
    (means, widths), (others, other_widths) = found
    torch.testing.assert_close(means, others, rtol=0, atol=0.08)
    torch.testing.assert_close(widths, other_widths, rtol=0.1, atol=1e-6)


@pytest.mark.parametrize("objective", [SquaredError(), MultiLabel(), NextToken()])
def test_other_predictions_are_averaged_too(objective) -> None:
    outputs = torch.randn(4, 2, 3, 5, generator=stream(0))
    found, wanted = objective.averaged(outputs), outputs.mean(0)
    if isinstance(objective, MultiLabel):
        found, wanted = found.sigmoid(), outputs.sigmoid().mean(0)
    elif isinstance(objective, NextToken):
        found, wanted = found.softmax(-1), outputs.softmax(-1).mean(0)
    torch.testing.assert_close(found, wanted)


def test_a_prediction_is_the_mean_of_probabilities_of_fixed_networks() -> None:
    task = replace(BAYES, coordinates=Gaussian(num_evaluation_samples=3, initial_std=0.3))
    _, module = pruned(task, 0.6)
    weights, inputs = states.read(module), task.data.sample(20, 0)[0]
    found = task.outputs(weights, inputs)
    stock, each = PLAIN.module(), []
    for draw in range(3):
        drawn = task.merged(weights)
        for name, mu, spread in gaussians(module):
            with spread.drawing(draw):
                drawn[stock_name(name)] = spread(mu).detach()
        states.write(stock, drawn)
        each.append(stock.eval()(inputs).softmax(1))
    torch.testing.assert_close(found, torch.stack(each).mean(0).log(), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(each[0], each[1])
    with torch_seeded(5):  # whatever torch's stream, in whatever batches, by the module too
        torch.testing.assert_close(task.outputs(weights, inputs[7:9]), found[7:9])
        assert torch.equal(module.eval()(inputs), found)


def test_means_counts_and_the_start_are_the_stock_networks() -> None:
    for bayes in (BAYES, CONV):
        plain = replace(bayes, coordinates=None)
        start = bayes.init()
        assert bayes.prunable == tuple(own_name(name) for name in plain.prunable)
        assert bayes.dense().num_prunable == plain.dense().num_prunable
        assert (bayes.num_parameters, bayes.passed_over) == (plain.num_parameters, ())
        merged, own = bayes.merged(start), plain.init()
        assert merged.keys() == own.keys()
        assert all(torch.equal(merged[name], own[name]) for name in own)
        assert not any(start[rho_name(name)].any() for name in bayes.prunable)
        assert [bayes.kind(n) for n in bayes.prunable] == [plain.kind(n) for n in plain.prunable]
        assert BAYES.identity == BAYES.with_seed(1).identity
    [name, _] = BAYES.prunable
    sigma = deviations(BAYES.named_modules(), BAYES.init(), BAYES.dense())[name]
    assert torch.allclose(sigma, torch.tensor(0.1 * (2 / 16) ** 0.5))


OPTIMIZERS = {
    "sgd": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adamw": functools.partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weights_stay_zero_and_their_widths_stand_still_whatever_the_moments(name) -> None:
    task, recipe = BAYES, small.recipe(optimizer=OPTIMIZERS[name])
    dense = Loop(Job(task, Ticket(task.dense(), task.init()), Static()), recipe, None)
    for _ in range(5):
        dense.backward()
        dense.update()
    past = dense.checkpoint()
    mask = random_mask(task, 0.4)
    start = Start(step=5, optimizer=past.optimizer)  # with moments of what is pruned now
    loop = Loop(Job(task, Ticket(mask, past.weights, start), Static()), recipe, None)
    for name in mask:
        assert past.weights[rho_name(name)].all()
    for _ in range(5):
        loop.backward()
        loop.update()
        for name, kept in mask.items():
            mu, rho = loop.model.get_parameter(name), loop.model.get_parameter(rho_name(name))
            assert not mu[~kept].any()
            assert not rho[~kept].any()
            assert bool((rho != past.weights[rho_name(name)])[kept].any())
    groups = {g["weight_decay"]: g["params"] for g in loop.optimizer.param_groups}
    widths = [p for n, p in loop.model.named_parameters() if is_rho(n)]
    assert [id(p) for p in groups[0.0]] == [id(p) for p in widths]


@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("local", [True, False])
def test_a_resumed_training_draws_the_steps_own_noise(num_samples: int, local: bool) -> None:
    coordinates = Gaussian(num_samples, local_reparameterisation=local, initial_std=0.2)
    task = replace(CONV, coordinates=coordinates)
    job, recipe = Job(task, Ticket(random_mask(task, 0.5), task.init()), Static()), small.recipe()
    whole = Loop(job, recipe, None)
    for step in range(8):
        if step == 3:
            checkpoint = whole.checkpoint()
            resumed = Loop(job, recipe, replace(checkpoint, weights=dict(checkpoint.weights)))
        whole.backward()
        whole.update()
    torch.rand(3)  # whatever else draws
    while resumed.step < 8:
        resumed.backward()
        resumed.update()
    found, wanted = resumed.outcome().weights, whole.outcome().weights
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_loss_of_a_step_is_the_mean_over_draws_and_the_divergence_once() -> None:
    gradients = {}
    for num, width in ((1, 1e-9), (4, 1e-9)):
        coordinates = Gaussian(num, temperature=2.0, initial_std=width)
        task = replace(BAYES, coordinates=coordinates)
        loop = Loop(Job(task, Ticket(task.dense(), task.init()), Static()), small.recipe(), None)
        loop.backward()
        gradients[num] = {n: p.grad for n, p in loop.model.named_parameters()}
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[4][name], gradient)
    [first, _] = task.prunable
    plain = Loop(Job(PLAIN, Ticket(PLAIN.dense(), PLAIN.init()), Static()), small.recipe(), None)
    plain.backward()
    own = plain.model.get_parameter(stock_name(first))
    pull = 2.0 * own.detach() / task.data.num_train  # of the prior N(0, 1), temperature 2
    torch.testing.assert_close(gradients[1][first], own.grad + pull, rtol=1e-3, atol=1e-6)


def test_a_training_on_more_tokens_or_places_counts_each_of_them() -> None:
    assert BAYES.num_terms == PLAIN.data.num_train
    inputs, labels = BAYES.data.train
    split = inputs, torch.randn(*labels.shape, 3)
    places = replace(BAYES, objective=SquaredError(), data=Data.from_tensors(split, split))
    assert places.num_terms == 3 * places.data.num_train


class Normed(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.one, self.head = nn.Linear(6, 6), nn.Linear(6, 3)
        if how == "weight norm":
            parametrizations.weight_norm(self.one)
        elif how == "hook":
            self.one.weight.register_hook(lambda gradient: gradient * 0)
        elif how == "half":
            self.one.bfloat16()
        elif how == "none":
            self.one = self.head = nn.Embedding(6, 3)
        elif how == "object":
            self.forward = self.answer

    def answer(self, inputs):
        return self.head(self.one(inputs).relu())

    forward = answer


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Task(Net, data(), coordinates=Gaussian()), "one.weight is shared by two layers"),
        (lambda: normed("weight norm"), "one.weight .ParametrizedLinear. is no parameter but comp"),
        (lambda: normed("hook"), "one.weight has a hook"),
        (lambda: normed("half"), "one.weight is kept in torch.bfloat16"),
        (lambda: normed("none"), "the model has no linear or convolution layer"),
        (lambda: normed("object"), "set on the object"),
        (lambda: normed("", covers=Covers(also=["one.bias"])), "one.bias has one axis"),
        (lambda: replace(normed(""), objective=Span()), "Span does not say how"),
        (lambda: normed("", num_samples=0), "num_samples=0: give a whole number, 1 to"),
        (lambda: normed("", num_evaluation_samples=True), "num_evaluation_samples=True: give a wh"),
        (lambda: normed("", temperature=-1), "temperature=-1: give a number from 0 to"),
        (lambda: normed("", prior_std=0), "prior_std=0: give a number from 1e-06"),
        (lambda: normed("", initial_std=float("nan")), "initial_std=nan: give a number from"),
        (lambda: normed("", local_reparameterisation="x"), "local_reparameterisation='x': give tr"),
    ],
)  # fmt: skip
def test_what_has_no_gaussian_form_is_one_message(make, says: str) -> None:
    with pytest.raises(UserError, match=says):
        _ = make().prunable


def normed(how: str, **options) -> Task:
    return Task(functools.partial(Normed, how), data(), coordinates=Gaussian(**options))


def test_a_tied_weight_that_covers_leaves_out_is_a_number() -> None:
    task = Task(Net, data(), coordinates=Gaussian(covers=Covers(only=["head.weight"])))
    assert task.prunable == (own_name("head.weight"),)
    assert task.passed_over == ("one.weight",)


class Attending(nn.Module):
    """Attention whose matrices torch reads by itself, and a layer whose weight is read."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, inputs):
        mixed = self.mix(inputs[:, None, :])[:, 0]
        return nn.functional.linear(mixed, self.head.weight, self.head.bias)


def test_weights_that_are_read_and_not_called_are_drawn_too() -> None:
    covers = Covers(types=("linear", "attention_projection"))
    task = Task(Attending, data(), coordinates=Gaussian(covers=covers, initial_std=0.2))
    assert len(task.prunable) == 5
    module, inputs = task.module().train(), task.data.sample(5, 0)[0]
    with torch_seeded(0):
        one, other = module(inputs), module(inputs)
    assert not torch.equal(one, other)
    other.sum().backward()
    assert all(module.get_parameter(rho_name(n)).grad.any() for n in task.prunable)
    weights = task.init()
    torch.testing.assert_close(module.eval()(inputs), task.outputs(weights, inputs))


def test_scores_of_other_answers_are_refused() -> None:
    for score in (Synflow(), Wanda()):
        with pytest.raises(UserError, match="another score"):
            score.check(BAYES)


def test_computing_layers_again_is_refused_before_training() -> None:
    with pytest.raises(UserError, match=r"train.recompute=true: .* other draws"):
        try_a_step(BAYES, small.recipe(recompute=True))


# --- through runs

RUN = (
    *SMALL, "record=local", "coordinates=gaussian", "coordinates.initial_std=0.1",
    "train.shrink_to=20it", "pruner.rounds=2", "control=[reinit,shuffle]",
)  # fmt: skip


def results(outputs: Path) -> list[dict]:
    [folder] = folders(outputs)
    timed = ("seconds", "search_seconds")
    found = rows(folder / "rounds.jsonl")
    return [{k: v for k, v in row.items() if k not in timed} for row in found]


def test_tickets_of_a_bayesian_network_have_exact_counts_and_one_mask(tmp_path: Path) -> None:
    said = lth_run(*RUN, f"paths.outputs={tmp_path}")
    assert said.status == 0, said.err
    tickets = [row for row in results(tmp_path) if row["arm"] == "ticket"]
    num = tickets[0]["num_prunable"]
    assert num == 64 * 8 + 8 * 10
    assert tickets[0]["num_parameters"] == num + 8 + 10
    assert [row["num_kept"] for row in tickets] == [num, round(num * 0.8), round(num * 0.64)]
    assert lth_run(*RUN, f"paths.outputs={tmp_path}").status == 0  # found done


@pytest.mark.slow
def test_a_killed_bayesian_run_ends_the_same(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = (*RUN, "train.shrink_to=200it", "train.checkpoint_minutes=0.0005")
    assert lth_run(*words, f"paths.outputs={whole}").status == 0
    run = lth_run_forked(*words, f"paths.outputs={killed}", logs=tmp_path)
    while run.is_running and not list(killed.glob("store/drafts/*/checkpoint*")):
        time.sleep(0.01)
    run.kill()
    lth_run_forked(*words, f"paths.outputs={killed}", logs=tmp_path).finish()
    assert results(killed) == results(whole)
