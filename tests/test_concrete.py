"""Concrete ticket search: its objectives and its balance by hand, its mask to the weight."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import nn

import small
from fake_past import CLOCK, Fake, equal, small_task
from lth_runner.allocate import Global, count
from lth_runner.control import RandomData
from lth_runner.problem.data import Data, FlipCrop
from lth_runner.problem.requirements import check
from lth_runner.problem.task import Task
from lth_runner.schedule import Iterations
from lth_runner.score import Concrete
from lth_runner.score import concrete_objectives as objective
from lth_runner.score.concrete import balanced, density_pull
from lth_runner.search import KeptScores
from lth_runner.search.rewind import Rewind
from lth_runner.search.ticket import Ticket
from lth_runner.training.job import Job
from lth_runner.training.learning_rate import Constant
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream


def score(sparsity=0.75, **options):
    return Concrete(Iterations(sparsity), **{"length": "30it", "batch_size": 12, **options})


def search(sparsity=0.75, *, rewind=None, dense=True, exclude=(), **options):
    found = score(sparsity, exclude=exclude, **options)
    return KeptScores(found, Global(exclude), Iterations(sparsity), rewind or Rewind(), dense)


def flat(found):
    return torch.cat([value.reshape(-1) for value in found.values()])


# --- objectives, on one sample x = 1 of class 0 whose logits are the weights


def logits(num: int) -> nn.Module:
    return nn.Sequential(nn.Linear(1, num, bias=False))


def hand(weights: list[float], soft: list[float]):
    num, one = len(weights), torch.ones(1, 1)
    split = (one, torch.tensor([0]))
    task = Task(lambda: logits(num), Data.from_tensors(split, split, split, num_classes=num))
    dense = {"0.weight": torch.tensor(weights).view(num, 1)}
    return task, dense, {"0.weight": torch.tensor(soft).view(num, 1).requires_grad_()}, split


def value(of, weights, soft) -> float:
    return of(*hand(weights, soft)).item()


def test_the_divergences_by_hand_and_which_way_round():
    """Dense (0.9, 0.1), sparse (0.5, 0.5)."""
    case = ([math.log(9), 0.0], [0.0, 0.0])
    sparse_first = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    dense_first = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert value(objective.reverse_kl, *case) == pytest.approx(100 * sparse_first, rel=1e-5)
    assert value(objective.forward_kl, *case) == pytest.approx(100 * dense_first, rel=1e-5)
    assert sparse_first > 1.3 * dense_first
    assert value(objective.reverse_kl, case[0], [1.0, 1.0]) == pytest.approx(0, abs=1e-4)


def test_the_losses_by_hand():
    case = ([math.log(9), 0.0], [0.0, 0.0])
    assert value(objective.loss, *case) == pytest.approx(100 * math.log(2), rel=1e-5)
    ratio = math.log(2) / -math.log(0.9)
    assert value(objective.delta_loss, *case) == pytest.approx(1e4 * (ratio - 1), rel=1e-4)
    worse = ([-math.log(9), 0.0], [0.0, 0.0])  # the sparse loss is the lower one
    ratio = math.log(2) / math.log(10)
    assert value(objective.delta_loss, *worse) == pytest.approx(1e4 * (1 - ratio), rel=1e-4)


def test_the_gradients_by_hand():
    """Sparse logits (log 3, 0): p = (3/4, 1/4), so dL/dw = z * (-1/4, 1/4)."""
    case = ([math.log(9), 0.0], [0.5, 1.0])
    norm = math.hypot(0.5 / 4, 1 / 4)
    assert value(objective.gradient_norm, *case) == pytest.approx(-norm, rel=1e-5)
    # dense p = (1/2, 1/4, 1/4): gradient (-2, 1, 1) / 4; sparse: (-2, 1, 0) / 4
    one, other = [-2.0, 1.0, 0.0], [-2.0, 1.0, 1.0]

    def standard(row):
        mean = sum(row) / 3
        deviation = math.sqrt(sum((x - mean) ** 2 for x in row) / 3)
        return [(x - mean) / deviation for x in row]

    wanted = sum((a - b) ** 2 for a, b in zip(standard(one), standard(other), strict=True)) / 3
    found = value(objective.gradient_match, [math.log(2), 0.0, 0.0], [1.0, 1.0, 0.0])
    assert found == pytest.approx(100 * wanted, rel=1e-4)


@pytest.mark.parametrize("name", sorted(objective.OBJECTIVES))
def test_an_objective_moves_the_mask_and_not_the_weights(name):
    task = small.task(model=small.convolutional)
    weights = task.init()
    before = states.fingerprint(weights)
    soft = {n: torch.full(k.shape, 0.6).requires_grad_() for n, k in task.dense().items()}
    of = objective.OBJECTIVES[name]
    of(task, weights, soft, task.batches(1, 0, 12)[0]).backward()
    assert all(bool(z.grad.isfinite().all()) for z in soft.values())
    assert float(flat({n: z.grad for n, z in soft.items()}).norm()) > 0
    assert states.fingerprint(weights) == before  # norm statistics are among them
    assert not any(w.requires_grad for w in weights.values())


# --- the balance


def test_the_pull_on_the_density_by_hand():
    """Four logits of 0, one outside: 1.5 expected where 1.1 * 0.5 are wanted."""
    inside = torch.tensor([1.0, 1.0, 1.0, 0.0])
    excess, pull = density_pull(torch.zeros(4), inside, 0.5)
    assert float(excess) == pytest.approx(1.5 / 0.55 - 1)
    assert pull.tolist() == pytest.approx([100 / 0.55 / 4] * 3 + [0.0])
    logits = torch.randn(5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    excess, pull = density_pull(logits, torch.ones(5), 2.0)
    (slope,) = torch.autograd.grad(100 * excess, logits)
    torch.testing.assert_close(pull.detach(), slope)
    assert float(density_pull(torch.zeros(2), torch.ones(2), 1.0)[0]) == pytest.approx(1 / 1.1 - 1)


def test_the_multiplier_by_hand():
    slope, pull = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0])
    above, below = torch.tensor(0.1), torch.tensor(-0.1)
    first = balanced(None, slope, pull, above)
    assert float(first) == 2.5
    second = balanced(first, slope, pull, below)
    assert float(second) == pytest.approx(0.99 * 2.5)
    assert float(balanced(second, 2 * slope, pull, above)) == pytest.approx(0.99 * 2.475 + 0.05)
    assert float(balanced(None, slope, pull, below)) == 0.0


# --- the search


def test_it_begins_at_the_density_and_stays_near_it():
    task = small.task()
    still = flat(score(0.75, lr=1e-6)(task, task.init(), task.dense()))
    assert still.tolist() == pytest.approx([math.log(0.25 / 0.75)] * len(still), abs=1e-3)
    long = flat(score(0.75, length="200it")(task, task.init(), task.dense()))
    assert 0.5 < float(long.sigmoid().mean()) / 0.25 < 1.25
    assert float(long.std()) > 0.5


@pytest.mark.parametrize("model", [small.perceptron, small.convolutional])
@pytest.mark.parametrize("name", ["loss", "reverse_kl"])
def test_the_mask_is_better_than_one_by_chance(model, name):
    task = small.task(model=model)
    weights = task.init()
    alpha = score(0.6, objective=name, length="150it")(task, weights, task.dense())
    found = Global()(alpha, 0.4, task.dense(), 0)
    chance = {n: torch.rand(v.shape, generator=stream(1, n)) for n, v in alpha.items()}
    random = Global()(chance, 0.4, task.dense(), 0)
    batch = task.batches(1, 7, 72)[0]
    of = objective.OBJECTIVES[name]
    one, other = (
        of(task, weights, {n: k.float() for n, k in mask.items()}, batch).item()
        for mask in (found, random)
    )
    assert one < other


def test_the_same_seed_gives_the_same_mask_and_another_another():
    task = small.task(model=small.convolutional)
    random = torch.get_rng_state()
    one, two = (score()(task, task.init(), task.dense()) for _ in range(2))
    assert equal(one, two)
    assert torch.equal(torch.get_rng_state(), random)
    assert list(one) == list(task.prunable)
    other = small.task(model=small.convolutional, seed=1)
    assert not equal(one, score()(other, task.init(), task.dense()))


def test_the_rate_falls_to_a_tenth_after_its_share_of_the_search():
    task = small.task()

    def found(**options):
        return score(length="20it", **options)(task, task.init(), task.dense())

    assert equal(found(lr=0.1, drop=0.0), found(lr=0.01, drop=0.99))  # 0.99: no step is left
    late = found(lr=0.1, drop=0.88)
    assert equal(late, found(lr=0.1, drop=0.9))  # from step 18 both
    assert not equal(late, found(lr=0.1, drop=0.99))
    assert not equal(late, found(lr=0.1, drop=0.8))


def test_samples_are_not_augmented():
    task = small.task(model=small.convolutional)
    augmented = replace(task, data=replace(task.data, augment=FlipCrop(flip=True, crop=1)))
    one, two = (score()(problem, task.init(), task.dense()) for problem in (task, augmented))
    assert equal(one, two)


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.97])
@pytest.mark.parametrize("exclude", [(), ("output",)])
def test_the_density_is_met_to_the_weight_over_frozen_weights(sparsity, exclude):
    task = small.task()
    exclude = exclude if sparsity < 0.9 else ()  # the output layer is 16 % of this network
    ticket = search(sparsity, dense=False, exclude=exclude).propose(task, [])
    assert ticket.mask.num_kept == count(1 - sparsity, ticket.mask.num_prunable)
    assert equal(ticket.weights, task.init())
    if exclude:
        assert bool(ticket.mask["output.weight"].all())


def test_only_what_is_left_is_searched():
    task = small.task()
    half = Global()(score()(task, task.init(), task.dense()), 0.5, task.dense(), 0)
    other = {n: torch.where(half[n], w, 9.0) if n in half else w for n, w in task.init().items()}
    loss = score(objective="loss")
    assert equal(loss(task, task.init(), half), loss(task, other, half))
    share = 0.25 * half.num_prunable / half.num_kept  # of what is left, for a start
    still = score(lr=1e-6)(task, task.init(), half)
    assert float(flat(still)[0]) == pytest.approx(math.log(share / (1 - share)), abs=1e-3)


@dataclass(frozen=True)
class Keeping(Fake):
    kept: dict = field(default_factory=dict)

    def derived(self, name, compute):
        if name not in self.kept:
            self.kept[name] = compute()
        return self.kept[name]


def test_the_early_network_is_searched_and_the_search_is_kept():
    task = small_task()
    finder = search(batch_size=10, rewind=Rewind(step="2ep"))
    assert list(finder.snapshots(CLOCK)) == [100]
    finder.check(task, CLOCK, Constant())
    past = [Keeping(task, 0, Ticket(task.dense(), task.init()))]
    ticket = finder.propose(task, past)
    assert equal(ticket.weights, past[0].at(100))
    assert (ticket.start.step, ticket.mask.num_kept) == (100, count(0.25, 81))
    alpha = finder.score(task, past[0].at(100), task.dense())
    assert ticket.mask == Global()(alpha, 0.25, task.dense(), 0)
    (name,) = past[0].kept
    assert finder.propose(task, past).mask == ticket.mask
    assert list(past[0].kept) == [name]
    past[0].kept[name] = {n: -v for n, v in alpha.items()}  # so it is read
    assert (finder.propose(task, past).mask & ticket.mask).num_kept < 5
    assert finder.propose(task, [*past, past[0]]) is None


def test_another_objective_and_corrupted_data_are_searches_of_their_own():
    task = small_task()
    past = [Keeping(task, 0, Ticket(task.dense(), task.init()))]
    finder = search(batch_size=10)
    ticket = finder.propose(task, past)
    search(batch_size=10, objective="loss").propose(task, past)
    assert len(past[0].kept) == 2
    arm = RandomData(finder, "pixels")(task, ticket, past, 5)
    assert len(past[0].kept) == 3
    assert arm.mask != ticket.mask
    assert arm.mask.num_kept == ticket.mask.num_kept


def test_a_stored_training_keeps_its_search(tmp_path, monkeypatch):
    trainer, task = small.trainer(tmp_path), small.task()
    finder = search(rewind=Rewind(step="4it"))
    job = Job(task, finder.propose(task, []), small.dense_job(task).masking, snapshots=(4,))
    (trained,) = trainer.fit([job])
    mask = finder.propose(task, [trained]).mask
    (again,) = small.trainer(tmp_path).fit([job])
    monkeypatch.setattr(Concrete, "_search", None)
    assert finder.propose(task, [again]).mask == mask


def test_a_shrunk_run_has_a_short_search():
    task = small.task()
    assert score(length="2ep")._num_steps(task) == 12
    assert score(length="2ep", shrink_to="5it")._num_steps(task) == 5
    few = replace(task, data=task.data.limited(5))
    assert list(score()(few, task.init(), task.dense())) == list(task.prunable)


def test_what_cannot_be_had_is_refused():
    for options, why in (
        ({"objective": "reverse"}, r"score\.objective='reverse'.*reverse_kl"),
        ({"batch_size": 0}, r"score\.batch_size=0"),
        ({"lr": 0}, r"score\.lr=0"),
        ({"drop": 1}, r"score\.drop=1"),
        ({"length": "soon"}, "not a duration"),
    ):
        with pytest.raises(UserError, match=why):
            score(**options)
    task = small.task(model=small.convolutional)
    for found, why in (
        (score(batch_size=99), r"batch_size=99, but there are 72"),
        (score(length="10%"), r"^pruner\.search\.score\.length=10%: a share of what"),
        (score(length="0it"), r"^pruner\.search\.score\.length=0it is no training"),
        (score(batch_size=1), "no batch statistics"),
        (score(0.99, exclude=["7"]), r"leaves -\d+.*pruner\.sparsity"),
        (score(exclude=["outptu"]), "matches no tensor"),
    ):
        with pytest.raises(UserError, match=why):
            check(found, task)
    with pytest.raises(UserError, match=r"needs the dense training"):
        search(rewind=Rewind(step="2ep"), dense=False).check(small_task(), CLOCK, Constant())
