"""A mask learned as a sharpening sigmoid: its limits, its rounds, its ticket; killed or not."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import small
from fake_past import CLOCK, Fake, equal, small_task
from lth_runner.allocate import Global, count
from lth_runner.masking import Continuous, Restarting
from lth_runner.masking.continuous import round_of
from lth_runner.problem.covers import Covers
from lth_runner.problem.task import Task
from lth_runner.search import Learned
from lth_runner.search.rewind import Rewind
from lth_runner.search.ticket import Ticket
from lth_runner.training.job import Job
from lth_runner.training.learning_rate import Constant, MultiStep
from lth_runner.training.loop import Loop
from lth_runner.training.train import replay
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.steps import Clock

QUICK = {"penalty": 1e-3, "score_lr": 1.0}  # forty steps move the scores far enough
MODELS = [small.perceptron, small.convolutional]


def job(model=small.perceptron, **options):
    task = small.task(model=model)
    rule = Continuous(**{**QUICK, **options})
    return Job(task, Learned().propose(task, []), rule)


def installed(rule, model=small.perceptron):
    task = small.task(model=model)
    module = task.module()
    states.write(module, task.init())
    return task, module, rule.install(module, task.dense(), 0)


def with_scores(live, beta):
    """The live mask with scores drawn from N(0, 1), as it would be read from a checkpoint."""
    state = live.state_dict()
    scores = {n for n in state if n.startswith("scores.")}
    drawn = {n: torch.randn(state[n].shape, generator=stream(0, n)) for n in scores}
    beta = torch.tensor(beta, dtype=torch.float64)
    live.load_state_dict({**state, **drawn, "beta": beta, "begin": torch.tensor(0)})
    return {n.removeprefix("scores."): value for n, value in drawn.items()}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("initial", [0.0, -0.3, 0.1])
def test_installing_changes_no_weight_and_no_answer(model, initial):
    task, module, live = installed(Continuous(initial), model)
    assert equal(live.weights(), task.init())
    assert list(live.weights()) == list(task.init())
    assert live.mask().density == 1
    inputs = task.batches(1, 0, 8)[0][0]
    plain = task.outputs(task.init(), inputs)
    torch.testing.assert_close(module.eval()(inputs), plain, rtol=1e-5, atol=1e-6)


def test_sharpness_grows_as_published():
    epochs = (0, 1, 10, 42, 56, 71, 83, 84)
    wanted = [1, 1.0651, 1.879, 14.142, 34.20, 88.09, 187.8, 200]
    by_epoch = [Continuous(stages=85).beta(epoch * 390 + 389, 85 * 390) for epoch in epochs]
    by_step = [Continuous().beta(epoch, 85) for epoch in epochs]
    assert by_epoch == by_step == pytest.approx(wanted, rel=1e-3)
    assert Continuous(stages=85).beta(389, 85 * 390) == 1


def test_penalty_and_slopes_of_the_scores_by_hand():
    rule = Continuous(initial=-0.3, penalty=0.5, exclude=["output"])
    task, module, live = installed(rule)
    masked = next(iter(task.prunable))
    num = task.dense()[masked].numel()
    assert live.penalty().item() == pytest.approx(0.5 * num)  # sigma(s_0) / sigma(s_0) each
    batch = task.batches(1, 0, 8)[0]
    nn.functional.cross_entropy(module(batch[0]), batch[1]).backward()
    closed = 1 - 1 / (1 + math.exp(0.3))
    slope = task.gradient(task.init(), batch)[masked] * task.init()[masked] * closed
    weights, scores = live.trainable()
    (found,) = scores["params"]
    torch.testing.assert_close(found.grad, slope, rtol=1e-4, atol=1e-7)
    assert scores["weight_decay"] == 0.0
    assert "lr" not in scores
    assert len(weights["params"]) == len(list(task.module().parameters()))
    assert installed(Continuous(score_lr=3.0))[2].trainable()[1]["lr"] == 3.0


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("beta", "tolerance"), [(200.0, 0.3), (1e4, 1e-2), (1e9, 1e-5)])
def test_the_sharper_the_nearer_to_the_hard_network(model, beta, tolerance):
    task, module, live = installed(Continuous(initial=0.1), model)
    scores = with_scores(live, beta)
    inputs = task.batches(1, 0, 8)[0][0]
    soft = module.eval()(inputs)
    live.after_step(39, 40)
    torch.testing.assert_close(module(inputs), soft, rtol=tolerance, atol=tolerance)
    mask, weights = live.mask(), live.weights()
    assert all(torch.equal(mask[name], scores[name] > 0) for name in mask)
    torch.testing.assert_close(task.outputs(weights, inputs), module(inputs), rtol=1e-4, atol=1e-5)
    for name, kept in mask.items():
        scaled = task.init()[name] * (1 + math.exp(-0.1))
        assert torch.equal(weights[name], torch.where(kept, scaled, 0.0))
    live.remove()
    assert equal(states.read(module), weights)
    assert {type(part) for part in module.modules()} == {type(p) for p in model().modules()}


@pytest.mark.parametrize("model", MODELS)
def test_what_is_reported_is_the_hard_network_that_is_kept(model, tmp_path):
    (trained,) = small.trainer(tmp_path).fit([job(model)])
    mask = trained.mask
    assert 0.05 < mask.density < 0.95
    assert trained.ticket.mask.density == 1
    assert all(not trained.weights[name][~kept].any() for name, kept in mask.items())
    for split in ("val", "test"):
        measured = trained.job.task.evaluate(trained.weights, split)
        assert trained.history[-1][f"{split}_accuracy"] == measured["accuracy"]
        assert trained.history[-1][f"{split}_loss"] == pytest.approx(measured["loss"], rel=1e-4)
    assert trained.history[-1]["test_accuracy"] > 0.8
    assert equal(trained.at(0), trained.ticket.weights)


@pytest.mark.parametrize("model", MODELS)
def test_a_sparsity_is_met_to_the_weight_by_the_largest_scores(model):
    first, *searched = small.task(model=model).prunable
    sparsity = 0.05 if model is small.perceptron else 0.5  # of 228 weights 36 are not in the first
    problem = job(model, sparsity=sparsity, allocate=Global(exclude=[first]), exclude=[first])
    end = replay(problem, small.recipe(), None, 40)
    mask = Loop(problem, small.recipe(), end).outcome().mask
    assert mask.num_kept == count(1 - sparsity, mask.num_prunable)
    assert bool(mask[first].all())
    kept = [end.masking[f"scores.{name}"][mask[name]] for name in searched]
    gone = [end.masking[f"scores.{name}"][~mask[name]] for name in searched]
    assert torch.cat(kept).min() >= torch.cat(gone).max()


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [(small.perceptron, functools.partial(torch.optim.Adam, lr=0.01)), (small.convolutional, None)],
)
def test_killed_and_continued_is_the_same_bit_for_bit(model, optimizer):
    recipe = small.recipe(**({"optimizer": optimizer} if optimizer else {}))
    problem = job(model, rounds=2, weights="rewind", initial=-0.1, stages=5, sparsity=0.6)
    whole, parts = replay(problem, recipe, None, 40), None
    for killed in (5, 20, 21, 39, 40):  # 20 ends a round, 40 the training
        parts = replay(problem, recipe, parts, killed)
    for part in ("weights", "optimizer", "masking"):
        assert states.fingerprint(getattr(whole, part)) == states.fingerprint(getattr(parts, part))
    ended = Loop(problem, recipe, parts).outcome()
    assert ended.mask.num_kept == count(1 - 0.6, ended.mask.num_prunable)
    assert equal(ended.weights, whole.weights)
    uncut = Loop(problem, recipe, replay(problem, recipe, None, 39))
    uncut.backward()
    uncut.update()
    assert uncut.outcome().mask == ended.mask


@pytest.mark.parametrize(
    ("reset", "initial", "wanted"),
    [
        ("paper", 0.0, [0.0, -2.0, 0.0]),
        ("code", 0.0, [0.0, -0.01, 0.0]),
        ("paper", -0.1, [-0.1, -2.0, -0.1]),
        ("paper", 0.3, [0.3, -2.0, 0.2]),
        ("code", 0.3, [0.3, -0.01, 0.001]),
    ],
)
def test_scores_of_the_next_round_by_hand(reset, initial, wanted):
    rule = Continuous(initial, reset=reset, rounds=2)
    _, _, live = installed(rule)
    state = live.state_dict()
    name = next(n for n in state if n.startswith("scores."))
    given = torch.zeros_like(state[name])
    given.view(-1)[:3] = torch.tensor([0.5, -0.01, 0.001])
    beta = torch.tensor(200.0, dtype=torch.float64)
    live.load_state_dict({**state, name: given, "beta": beta, "begin": torch.tensor(0)})
    live.after_step(18, 40)
    live.load_state_dict({**live.state_dict(), "beta": beta})
    live.after_step(19, 40)
    after = live.state_dict()
    assert after[name].view(-1)[:3].tolist() == pytest.approx(wanted)
    assert float(after["beta"]) == 1


@pytest.mark.parametrize("weights", ["keep", "rewind"])
def test_a_round_begins_with_a_fresh_optimizer_and_the_weights_asked_for(weights):
    problem, recipe = job(small.convolutional, rounds=2, weights=weights), small.recipe()
    before, border = (replay(problem, recipe, None, step) for step in (19, 20))
    rewound = equal(border.weights, problem.ticket.weights)
    assert rewound == (weights == "rewind")
    assert float(border.masking["beta"]) == 1 < float(before.masking["beta"])
    fresh = replace(border, optimizer={})
    continued = (replay(problem, recipe, start, 21) for start in (border, fresh))
    assert len({states.fingerprint(found.weights) for found in continued}) == 1
    mid = replay(problem, recipe, None, 21)
    forgetful = (replay(problem, recipe, start, 22) for start in (mid, replace(mid, optimizer={})))
    assert len({states.fingerprint(found.weights) for found in forgetful}) == 2


def test_a_learning_rate_starts_over_in_each_round():
    schedule = Restarting(MultiStep(["2ep", "75%"], 0.1), 3)
    clock = Clock(epoch=2, total=25)
    assert [round_of(step, 25, 3) for step in (0, 7, 8, 15, 16, 24)] == [
        (0, 8), (0, 8), (8, 16), (8, 16), (16, 25), (16, 25),
    ]  # fmt: skip
    rates = [round(schedule(step, clock), 5) for step in range(25)]
    one = [1.0] * 4 + [0.1] * 2 + [0.01] * 2
    assert rates == [*one, *one, *[1.0] * 4, *[0.1] * 3, *[0.01] * 2]  # 75 % of 9: 6.75


def test_a_tensor_that_two_layers_share_has_one_mask():
    shared = nn.Linear(3, 3)
    other = nn.Linear(3, 3)
    other.weight = shared.weight
    model = nn.Sequential(shared, other)
    live = Continuous().install(model, {"0.weight": torch.ones(3, 3, dtype=torch.bool)}, 0)
    with_scores(live, 1e9)
    assert torch.equal(model[0].weight, model[1].weight)
    assert int((model[1].weight == 0).sum()) == int(
        (live.state_dict()["scores.0.weight"] < 0).sum()
    )


class Named(nn.Module):
    """Has weights under other names: its own, those of a cell and of an attention."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(8, 4) / 2)
        self.cell, self.attention = nn.GRUCell(8, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, images):
        rows = images.flatten(1, 2) @ self.kernel.T
        rows = self.attention(rows, rows, rows, need_weights=False)[0]
        return self.last(self.cell(rows[:, 0], rows[:, 1]))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rows, self.last = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, images):
        return self.last(self.rows(images.flatten(1, 2))[0][:, -1])


ANY = Covers(types=("linear", "recurrent", "attention_projection"))


def test_a_weight_of_any_name_has_a_factor_that_is_trained():
    covers = replace(ANY, also=("kernel",))
    task = Task(Named, small.blobs(), 0, covers=covers)
    assert {"kernel", "cell.weight_hh", "attention.in_proj_weight"} < set(task.prunable)
    rule = Continuous(penalty=0, final_beta=5, sparsity=0.5)
    loop = Loop(Job(task, Learned().propose(task, []), rule), small.recipe(), None)
    loop.backward()
    loop.update()
    scores = loop.live.state_dict()
    assert all(bool(scores[f"scores.{name}"].any()) for name in task.prunable)
    while loop.step < loop.clock.total:
        loop.backward()
        loop.update()
    outcome = loop.outcome()  # refuses a network that answers otherwise than these weights
    assert outcome.mask.num_kept == count(0.5, task.dense().num_prunable)
    assert all(type(part).__name__[:8] != "Parametr" for part in loop.model.modules())


def test_a_layer_that_would_not_see_its_factor_is_refused_unless_it_stays_whole():
    task = Task(Recurrent, small.blobs(), 0, covers=ANY)
    with pytest.raises(UserError, match=r"LSTM does not read rows\.weight_ih_l0.*pruner\.exclude"):
        Continuous().install(task.module(), task.dense(), 0)
    Continuous(exclude=["rows.*"]).install(task.module(), task.dense(), 0)


# --- the ticket


def dense(task, *, kept=0.5):
    mask = Mask(
        {
            n: torch.rand(value.shape, generator=stream(3, n)) < kept
            for n, value in task.dense().items()
        }
    )
    return Fake(task, 0, Ticket(task.dense(), task.init()), moved=mask)


class Bounded(nn.Module):
    """Has parametrisations of its own: on a layer that no mask covers, and on a covered one."""

    def __init__(self):
        super().__init__()
        self.scaled = nn.utils.parametrizations.weight_norm(nn.Linear(16, 12))
        self.last = nn.Linear(12, 3)
        nn.utils.parametrize.register_parametrization(self.last, "bias", nn.Tanh())

    def forward(self, inputs):
        return self.last(torch.relu(self.scaled(inputs.flatten(1))))


def test_what_the_network_parametrises_itself_stays_its_own_here_and_in_its_copies():
    task = small.task(model=Bounded)
    other, inputs = task.module(), torch.randn(2, 1, 4, 4)
    _, module, live = installed(Continuous(**QUICK), Bounded)
    states.write(other, task.init())
    before = other(inputs)
    live.remove()
    torch.testing.assert_close(module(inputs), before)
    assert torch.equal(other(inputs), before)
    assert set(module.state_dict()) == set(other.state_dict())


def test_the_ticket_is_the_learned_mask_over_early_weights_at_the_learned_scale():
    task = small_task()
    past = [dense(task)]
    search = Learned(Rewind(step="2ep"), initial=-0.3, exclude=["output.*"])
    ticket = search.propose(task, past)
    early, mask = past[0].at(100), past[0].mask
    assert ticket.mask == mask
    hidden = early["hidden.weight"] * (1 + math.exp(0.3))
    assert torch.equal(ticket.weights["hidden.weight"], hidden)
    assert equal({**ticket.weights, "hidden.weight": early["hidden.weight"]}, early)
    assert equal(replace(search, rescale=False).propose(task, past).weights, early)
    fresh = replace(search, rewind=Rewind(weights="reinit")).propose(task, past)
    assert float(fresh.weights["hidden.weight"].abs().max()) < 1  # xavier-like, not doubled
    other = replace(search, exclude=(), rewind=Rewind(only=["hidden"], bn="keep"))
    partly = other.propose(task, past).weights
    assert torch.equal(partly["output.weight"], past[0].weights["output.weight"])
    assert torch.equal(
        partly["hidden.weight"], past[0].at(0)["hidden.weight"] * (1 + math.exp(0.3))
    )
    kept = replace(search, rewind=Rewind(weights="keep", bn="keep")).propose(task, past)
    assert equal(kept.weights, past[0].weights)
    assert search.propose(task, [*past, past[0]]) is None
    assert replace(search, retrain=False).propose(task, past) is None
    assert list(search.snapshots(CLOCK)) == [100]


@pytest.mark.parametrize(
    ("lr_clock", "rounds", "start"),
    [("restart", 1, 0), ("rewind", 1, 100), ("restart", 2, 250), ("rewind", 2, 350)],
)
def test_the_ticket_is_trained_as_long_as_a_round(lr_clock, rounds, start):
    task = small_task()
    search = Learned(Rewind(step="2ep", lr_clock=lr_clock), rounds=rounds)
    search.check(task, CLOCK, Constant())
    assert search.propose(task, [dense(task)]).start.step == start
    schedule, begin = Restarting(MultiStep(["3ep"]), rounds), 500 - 500 // rounds
    assert [schedule(step, CLOCK) for step in (start, begin + 149, begin + 150)] == [1, 1, 0.1]


def test_a_mask_that_lost_nothing_is_told(caplog):
    task = small_task()
    assert Learned().propose(task, [dense(task, kept=2.0)]) is None
    assert "no weight was removed" in caplog.text


@pytest.mark.parametrize("model", MODELS)
def test_a_found_ticket_is_held_still_while_it_trains(model, tmp_path):
    trainer = small.trainer(tmp_path)
    found = job(model)
    search = Learned(Rewind(step="4it", lr_clock="restart"))
    (first,) = trainer.fit([replace(found, snapshots=(4,))])
    ticket = search.propose(found.task, [first])
    (second,) = trainer.fit([replace(found, ticket=ticket)])
    assert second.mask == first.mask == ticket.mask
    assert all(not second.weights[name][~kept].any() for name, kept in ticket.mask.items())
    early, learned = first.at(4), next(iter(ticket.mask))
    assert torch.equal(ticket.weights[learned], early[learned] * 2)
    scores = replay(found, trainer.recipe, None, 4).masking[f"scores.{learned}"]
    assert bool((scores < 0).any())  # and yet the early weights are whole
    assert int((early[learned] == 0).sum()) == 0


def test_what_cannot_be_had_is_refused():
    for options, why in (
        ({"rounds": 0}, r"pruner\.rounds=0"),
        ({"stages": 1}, r"pruner\.stages=1"),
        ({"reset": "papre"}, r"pruner\.reset='papre'.*paper"),
        ({"weights": "reinit"}, r"pruner\.weights='reinit'"),
        ({"initial": math.inf}, r"pruner\.initial=inf"),
        ({"penalty": -1.0}, r"pruner\.penalty=-1"),
        ({"final_beta": 0.5}, r"pruner\.final_beta=0\.5"),
        ({"score_lr": 0}, r"pruner\.score_lr=0"),
        ({"sparsity": 90}, r"0\.9"),
        ({"allocate": Global(avoid_collapse=True)}, r"avoid_collapse=true.*set pruner\.sparsity"),
    ):
        with pytest.raises(UserError, match=why):
            Continuous(**options)
    for options, why in (
        ({"exclude": ["*"]}, "leaves no layer"),
        ({"exclude": ["outptu"]}, "matches no tensor"),
        ({"sparsity": 0.9, "allocate": Global(exclude=["linear1"])}, "cannot be had"),
    ):
        with pytest.raises(UserError, match=why):
            installed(Continuous(**options))
    task = small_task()
    with pytest.raises(UserError, match=r"pruner\.rounds=501"):
        Learned(rounds=501).check(task, CLOCK, Constant())
    with pytest.raises(UserError, match=r"rewind\.step=6ep is past the end of a round of 250"):
        Learned(Rewind(step="6ep"), rounds=2).check(task, CLOCK, Constant())
    with pytest.raises(UserError, match=r"pruner\.exclude"):
        Learned(exclude=["nothing"]).check(task, CLOCK, Constant())
    Learned(Rewind(step="6ep", lr_clock="restart"), rounds=2).check(task, CLOCK, Constant())
