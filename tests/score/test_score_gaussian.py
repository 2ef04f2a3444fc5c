"""Scores of Gaussian weights by hand, in rounds, and the controls beside their tickets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

import small
from fake_past import CLOCK
from lth_runner.allocate import Global
from lth_runner.control import Even, Random, Reinit, Shuffle, ShuffledWeights
from lth_runner.problem import Gaussian
from lth_runner.problem.gaussian import rho_name
from lth_runner.schedule import Geometric
from lth_runner.score import Lexicographic, Magnitude, MeanSquare, SignalToNoise
from lth_runner.search import Iterative
from lth_runner.search.rewind import Rewind
from lth_runner.search.ticket import Ticket
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.state import State
from lth_runner.values.steps import Clock

PLAIN = small.task()
TASK = replace(PLAIN, coordinates=Gaussian(initial_std=0.1))
FIRST, LAST = TASK.prunable
SIGMAS = {FIRST: 0.1 * (2 / 16) ** 0.5, LAST: 0.1 * (2 / 12) ** 0.5}  # at the start


@dataclass(frozen=True)
class Made:
    """A made-up training."""

    ticket: Ticket
    weights: State
    clock: Clock = CLOCK

    @property
    def mask(self) -> Mask:
        return self.ticket.mask

    def at(self, step: int) -> State:
        assert step == 0
        return self.ticket.masked


def laws() -> State:
    """Weights of many sizes and widths, some of both alike."""
    weights = TASK.init()
    for name in TASK.prunable:
        size = torch.randint(-4, 5, weights[name].shape, generator=stream(0, "mu", name))
        width = torch.randint(-1, 2, weights[name].shape, generator=stream(0, "rho", name))
        weights[name], weights[rho_name(name)] = 0.1 * size, width.float()
    return weights


def test_scores_are_of_mu_and_of_sigma_as_their_names_say() -> None:
    weights, mask = laws(), TASK.dense()
    for name, start in SIGMAS.items():
        mu, sigma = weights[name], start * weights[rho_name(name)].exp()
        wanted = {
            Magnitude(): mu.abs(),
            SignalToNoise(): mu.abs() / sigma,
            MeanSquare(): (mu.square() + sigma.square()).sqrt(),
        }
        for score, value in wanted.items():
            torch.testing.assert_close(score(TASK, weights, mask)[name], value)


@pytest.mark.parametrize("digits", [None, 1])
def test_the_smaller_sigma_goes_first_where_mu_is_the_same(digits) -> None:
    weights = laws()
    if digits is not None:  # all of these round to what they were
        weights |= {n: weights[n] * 1.01 for n in TASK.prunable}
    scores = Lexicographic(digits)(TASK, weights, TASK.dense())
    pairs = []
    for name, start in SIGMAS.items():
        mu, sigma = weights[name], start * weights[rho_name(name)].exp()
        pairs += zip(scores[name].flatten(), (mu * 100).round().abs().flatten(), sigma.flatten(),
                     strict=True)  # fmt: skip
    ordered = sorted(pairs, key=lambda pair: (float(pair[1]), -float(pair[2])))
    ranks = [float(rank) for rank, _, _ in ordered]
    assert ranks == sorted(ranks)
    keys = [(float(mu), float(sigma)) for _, mu, sigma in ordered]
    assert len(set(ranks)) == len(set(keys)) == len(set(zip(ranks, keys, strict=True)))


@pytest.mark.parametrize("score", [SignalToNoise(), MeanSquare(), Lexicographic()])
def test_weights_that_are_numbers_are_refused(score) -> None:
    search = Iterative(score, Global(), Geometric(rate=0.2, rounds=2), Rewind())
    recipe = small.recipe()
    with pytest.raises(UserError, match="take coordinates=gaussian"):
        search.check(PLAIN, recipe.clock(8), recipe.rate)
    search.check(TASK, recipe.clock(8), recipe.rate)


def test_digits_are_a_whole_number() -> None:
    with pytest.raises(UserError, match="digits=0 must be a whole number"):
        Lexicographic(0)


@pytest.mark.parametrize("score", [Magnitude(), SignalToNoise(), MeanSquare(), Lexicographic()])
@pytest.mark.parametrize("keep", [False, True])
def test_rounds_keep_exact_counts_within_each_other_and_take_mu_and_sigma_back(score, keep) -> None:
    rewind = Rewind(weights="keep", bn="keep") if keep else Rewind()
    search = Iterative(score, Global(), Geometric(rate=0.5, rounds=2), rewind)
    past, before = [], TASK.dense()
    for number in range(3):
        ticket = search.propose(TASK, past)
        assert ticket.mask.num_kept == round(TASK.dense().num_prunable * 0.5**number)
        assert ticket.mask <= before
        if number and not keep:
            start = TASK.init()
            assert all(torch.equal(ticket.weights[name], start[name]) for name in start)
        elif number:
            ended = past[-1].weights
            assert all(torch.equal(ticket.weights[name], ended[name]) for name in ended)
        past.append(Made(ticket, ended_with(ticket, number)))
        before = ticket.mask


def ended_with(ticket: Ticket, number: int) -> State:
    """What a training would end with: other laws, zeros where the mask has removed them."""
    weights = laws()
    for name, kept in ticket.mask.items():
        for one, add in ((name, 0.01), (rho_name(name), 0.1)):
            weights[one] = (weights[one] + add * (number + 1)) * kept
    return weights


def past_of(keep: bool):
    """Two rounds, and the ticket of the third."""
    rewind = Rewind(weights="keep", bn="keep") if keep else Rewind()
    search = Iterative(SignalToNoise(), Global(), Geometric(rate=0.5, rounds=3), rewind)
    past = []
    for number in range(2):
        ticket = search.propose(TASK, past)
        past.append(Made(ticket, ended_with(ticket, number)))
    return past, search.propose(TASK, past)


@pytest.mark.parametrize("control", [Shuffle(), Random(), Even()])
@pytest.mark.parametrize("keep", [False, True])
def test_an_arm_with_another_mask_has_the_weights_laws_as_last_trained(control, keep: bool) -> None:
    past, ticket = past_of(keep)
    arm = control(TASK, ticket, past, 7)
    assert arm.mask.num_kept == ticket.mask.num_kept
    assert arm.mask != ticket.mask
    if isinstance(control, Shuffle):
        assert arm.mask.layer_density() == ticket.mask.layer_density()
    for name in TASK.prunable:
        for one in (name, rho_name(name)):
            if not keep:
                assert torch.equal(arm.weights[one], ticket.weights[one])
                continue
            [first, last] = (done.weights[one] for done in past)
            assert torch.equal(arm.weights[one], torch.where(past[1].mask[name], last, first))


def test_a_fresh_draw_has_other_means_and_the_widths_of_a_start() -> None:
    past, ticket = past_of(keep=False)
    arm = Reinit()(TASK, ticket, past, 7)
    assert arm.mask == ticket.mask
    assert all(not torch.equal(arm.weights[n], ticket.weights[n]) for n in TASK.prunable)
    assert not any(arm.weights[rho_name(name)].any() for name in TASK.prunable)


def test_a_weight_is_shuffled_with_its_width() -> None:
    past, ticket = past_of(keep=True)
    arm = ShuffledWeights()(TASK, ticket, past, 7)
    moved = False
    for name, kept in ticket.mask.items():
        pairs = []
        for weights in (ticket.weights, arm.weights):
            both = torch.stack([weights[name][kept], weights[rho_name(name)][kept]])
            pairs.append(sorted(map(tuple, both.t().tolist())))
            moved |= not torch.equal(arm.weights[name], ticket.weights[name])
        assert pairs[0] == pairs[1]
    assert moved
