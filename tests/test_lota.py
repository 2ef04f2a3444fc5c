"""LoTA: the largest deltas of a calibration are trained again, and nothing else of the matrices."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from torch import nn

import pretrained
import small
from fake_past import data
from lth_runner.allocate import Global
from lth_runner.control import Even, Random, Shuffle
from lth_runner.masking import Static
from lth_runner.problem import Covers, Delta
from lth_runner.problem.coordinates import merged, own_name
from lth_runner.problem.task import Task
from lth_runner.runs.given_tickets import outside
from lth_runner.schedule import Geometric
from lth_runner.score import Magnitude
from lth_runner.search import AtInit, Rewind
from lth_runner.search.search import refuse_unmoved
from lth_runner.search.ticket import Ticket
from lth_runner.store.ticket_file import StockTicket, save_ticket
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.learning_rate import Constant
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.steps import Clock


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.head = nn.Linear(6, 9), nn.Linear(9, 3)
        with torch.no_grad():
            self.one.weight[0] = -0.0  # as a product with a mask leaves it

    def forward(self, inputs):
        return self.head(self.one(inputs).relu())


ONE = own_name("one.weight")
OPTIMIZERS = {
    "sgd": functools.partial(torch.optim.SGD, lr=0.1, weight_decay=0.1),
    "momentum": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
    "adam": functools.partial(torch.optim.Adam, lr=0.01, weight_decay=0.1),
    "adamw": functools.partial(torch.optim.AdamW, lr=0.01, weight_decay=0.5),
    "rmsprop": functools.partial(torch.optim.RMSprop, lr=0.01, momentum=0.5, weight_decay=0.1),
}


def bits(values: torch.Tensor) -> torch.Tensor:
    return values.view(torch.int32)


def task(**options) -> Task:
    return Task(Net, data(), coordinates=Delta(only=["one.weight"], whole=["head"], **options))


def some(problem: Task, density: float) -> Mask:
    scores = {n: torch.rand(k.shape, generator=stream(0, n)) for n, k in problem.dense().items()}
    return Global()(scores, density, problem.dense(), 0)


@pytest.mark.parametrize("base", ["own", "bf16"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_masked_weights_are_theta_0_to_the_bit_after_every_step(optimizer: str, base: str) -> None:
    problem = task(base=base)
    mask = some(problem, 0.3)
    recipe = small.recipe(batch_size=10, optimizer=OPTIMIZERS[optimizer], clip_norm=1.0)
    job = Job(problem, Ticket(mask, problem.init()), Static())
    together = Sequential().begin([job], recipe, [None])
    model, kept = together.lanes[0].model, mask[ONE]
    before = merged(model)["one.weight"]
    stock = Task(Net, problem.data).init()["one.weight"]
    assert torch.equal(before, stock if base == "own" else stock.bfloat16().float())
    for _ in range(12):
        together.advance()
        after = merged(model)["one.weight"]
        assert torch.equal(bits(after)[~kept], bits(before)[~kept])
    assert (after[kept] != before[kept]).float().mean() > 0.8


def test_a_base_in_bf16_rounds_theta_0_once_and_no_delta() -> None:
    problem = task(base="bf16")
    module = problem.module()
    added = module.one.parametrizations.weight
    assert added[0].base.dtype == torch.bfloat16
    assert added.original.dtype == torch.float32
    tiny = torch.full_like(added.original, 2.0**-14)  # of which bf16 holds nothing beside a weight
    with torch.no_grad():
        added.original.copy_(tiny)
    base = Task(Net, problem.data).init()["one.weight"].bfloat16()
    assert torch.equal(module.one.weight, base.float() + tiny)
    assert not torch.equal(module.one.weight, base.float())


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_deltas_lie_where_covers_has_the_matrices_of_the_blocks(
    family: str, tmp_path: Path
) -> None:
    path = pretrained.folder(tmp_path / family, family)
    made = pretrained.sequence_classifier(path)
    covers = Covers(types=("linear", "attention_projection"), blocks=True)
    problem = Task(made, pretrained.sentences(), coordinates=Delta(covers=covers))
    assert problem.prunable == tuple(map(own_name, covers.names(made())))
    assert {name for name, _ in problem.module().named_parameters()} == {*problem.prunable}


def test_fewer_deltas_than_asked_for_are_an_error_and_no_mask_of_chance() -> None:
    problem = task()
    scores = {ONE: torch.zeros(9, 6)}
    scores[ONE].view(-1)[:10] = 1.0
    whole = problem.dense()
    exact = Global()(scores, 10 / 54, whole, 0)
    assert refuse_unmoved(problem, scores, exact, whole)[ONE].sum() == 10
    more = Global()(scores, 11 / 54, whole, 0)
    with pytest.raises(
        UserError, match=r"11 of 54 deltas .* only 10 of .* not zero: .*pruner.sparsity to 0.8148"
    ):
        refuse_unmoved(problem, scores, more, whole)


def test_a_ticket_is_the_largest_deltas_of_the_calibration_and_starts_from_theta_0(
    tmp_path: Path,
) -> None:
    problem, trainer = task(), small.trainer(tmp_path, recipe=small.recipe(batch_size=10))
    search = AtInit(Magnitude(), Global(), Geometric(0.5, rounds=1), Rewind(), score_step="5it")
    search.check(problem, trainer.clock(problem), Constant())
    whole = search.propose(problem, [])
    [dense] = trainer.fit([Job(problem, whole, Static(), snapshots=(5,))])
    ticket = search.propose(problem, [dense])
    delta, kept = dense.at(5)[ONE].abs(), ticket.mask[ONE]
    assert int(kept.sum()) == 27
    assert delta[kept].min() >= delta[~kept].max()
    assert all(torch.equal(ticket.weights[n], value) for n, value in problem.init().items())
    arm = Random()(problem, ticket, [dense], 1)
    assert arm.mask.num_kept == 27
    assert arm.mask != ticket.mask
    assert not arm.weights[ONE].any()


def calibrated(problem: Task, trainer, ticket_of: str | None):
    """A search whose mask lies outside another ticket's, and its dense training."""
    search = AtInit(
        Magnitude(),
        Global(),
        Geometric(0.5, rounds=1),
        score_step="5it",
        outside=outside(ticket_of),
    )
    search.check(problem, trainer.clock(problem), Constant())
    search.check_replicates([problem])
    [dense] = trainer.fit([Job(problem, search.propose(problem, []), Static(), snapshots=(5,))])
    return search, dense


def test_a_mask_outside_anothers_shares_nothing_with_it_and_is_counted_against_all(
    tmp_path: Path,
) -> None:
    problem, trainer = task(), small.trainer(tmp_path, recipe=small.recipe(batch_size=10))
    first, file = some(problem, 0.4), tmp_path / "first.safetensors"
    save_ticket(file, StockTicket(problem, Ticket(first, problem.init())), {})
    search, dense = calibrated(problem, trainer, str(file))
    ticket = search.propose(problem, [dense])
    assert ticket.mask.num_kept == 27  # half of all 54, of which 22 are taken
    assert (ticket.mask & first).num_kept == 0
    free, delta = ~first[ONE], dense.at(5)[ONE].abs()
    assert delta[ticket.mask[ONE]].min() >= delta[free & ~ticket.mask[ONE]].max()
    for control in (Random(), Shuffle(), Even()):
        arm = control(problem, ticket, [dense], 1)
        assert arm.mask.num_kept == 27
        assert (arm.mask & first).num_kept == 0
        assert arm.mask != ticket.mask
    alone, _ = calibrated(problem, trainer, None)
    assert (alone.propose(problem, [dense]).mask & first).num_kept > 0


def test_a_room_that_is_too_small_and_one_of_plain_weights_are_refused(tmp_path: Path) -> None:
    problem, file = task(), tmp_path / "first.safetensors"
    save_ticket(file, StockTicket(problem, Ticket(some(problem, 0.6), problem.init())), {})
    search = AtInit(Magnitude(), Global(), Geometric(0.5, rounds=1), outside=outside(str(file)))
    with pytest.raises(
        UserError, match=r"leaves 40.74 % .*to keep 50 %: the two would overlap.*sparsity to 0.5926"
    ):
        search.check_replicates([problem])
    with pytest.raises(UserError, match=r"pruner.outside .*coordinates=delta"):
        search.check(Task(Net, data()), Clock(5, 20), Constant())
    with pytest.raises(UserError, match=r"pruner.outside=.*/none does not exist"):
        outside(str(tmp_path / "none")).check_replicates([problem], Global(), 0.5)
