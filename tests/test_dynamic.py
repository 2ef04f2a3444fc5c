"""Masks that move within a training: as many weights as before, or chosen anew among all."""

from __future__ import annotations

import functools
import time
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median, stdev

import pytest
import torch
from torch import nn

import command
import small
from lth_runner.allocate import ErdosRenyi, Global, NOfM, count
from lth_runner.masking import Gradual, Rigl, Set, SrSte, Static, StraightThrough, Updates, regrow
from lth_runner.probe import Exploration
from lth_runner.problem import models
from lth_runner.problem.data import synthetic
from lth_runner.problem.task import Task
from lth_runner.schedule import Iterations
from lth_runner.score import Random
from lth_runner.search import AtInit, Learned
from lth_runner.store.checkpoint_file import load_checkpoint, save_checkpoint
from lth_runner.training.job import Job
from lth_runner.training.learning_rate import Linear
from lth_runner.training.loop import Loop
from lth_runner.training.train import replay
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from second_proofs import mostly_slow

OFTEN = Updates(every="4it")
MOVING = {"rigl": Rigl(OFTEN), "set": Set(OFTEN), "signed": Set(OFTEN, "signed")}
DRAWN = {"drawn": Set(OFTEN, spread=0.1), "reset": Set(OFTEN, reset=True)}
CHOSEN = {
    "dpf": StraightThrough(Global(), Iterations(0.8, 3), every="3it"),
    "sr_ste": SrSte(NOfM(), Iterations(0.5)),
}
MODELS = [small.perceptron, small.convolutional]
both_models = pytest.mark.parametrize("model", MODELS)


def job(masking, model=small.perceptron) -> Job:
    task = small.task(model=model)
    sparse = AtInit(Random(), ErdosRenyi(), Iterations(0.7), dense=False)
    search = sparse if isinstance(masking, (Rigl, Set, Static)) else Learned(retrain=False)
    return Job(task, search.propose(task, []), masking)


def forward(loop: Loop) -> None:
    loop.backward()
    loop.update()


def steps(problem: Job, **changes: object):
    """(loop, mask before, mask after) around each of forty steps."""
    loop = Loop(problem, small.recipe(**changes), None)
    while loop.step < loop.clock.total:
        before = loop.live.mask()
        forward(loop)
        yield loop, before, loop.live.mask()


def same(one, other) -> bool:
    parts = ("weights", "optimizer")
    return all(
        states.fingerprint(getattr(one, p)) == states.fingerprint(getattr(other, p)) for p in parts
    )


def one_layer(weight: list[float], kept: list[int], gradient: list[float], masking, momentum=None):
    """One linear layer of six weights under a masking, its gradient and momentum set by hand."""
    model = nn.Linear(len(weight), 1, bias=False)
    model.weight.data = torch.tensor([weight])
    live = masking.install(model, {"weight": torch.tensor([kept]).bool()}, 0)
    optimizer = torch.optim.SGD(live.trainable(), lr=1.0, momentum=0.9)
    model.weight.grad = torch.tensor([gradient])
    if momentum:
        optimizer.state[model.weight]["momentum_buffer"] = torch.tensor([momentum])
    return model, live, optimizer


def test_exploration_counts_all_that_was_ever_active(tmp_path):
    problem, probe = job(Rigl(OFTEN)), Exploration()
    [trained] = small.trainer(tmp_path).fit([problem])
    ever = problem.ticket.mask
    for _, _, after in steps(problem):
        ever = ever | after
    expected = {"exploration": ever.num_kept / ever.num_prunable}
    assert dict(probe(problem.task, [], trained)) == expected
    assert trained.mask.density < expected["exploration"] < 1
    [still] = small.trainer(tmp_path).fit([job(Static())])
    assert dict(probe(problem.task, [], still)) == {}


# --- when, and how many


def test_the_share_that_moves_falls_along_half_a_cosine():
    updates = Updates(every="50it", end=0.5)
    shares = [updates.share(step, 2000) for step in (0, 250, 500, 750, 900, 1000)]
    assert shares == pytest.approx([0.3, 0.25607, 0.15, 0.04393, 0.00734, 0], abs=1e-5)
    assert [updates.share(step, 2000) for step in (25, 1050, 2000)] == [0, 0, 0]
    constant = Updates(0.2, "4%", 1.0, "constant")
    due = [step for step in range(101) if constant.share(step, 100)]
    assert due == list(range(0, 100, 4))
    assert {constant.share(step, 100) for step in due} == {0.2}


def test_impossible_updates_are_refused():
    for options, why in (
        ({"every": "1ep"}, "knows no epochs"),
        ({"every": "0it"}, "above 0"),
        ({"fraction": 1.5}, "from 0 to 1"),
        ({"end": -0.1}, "from 0 to 1"),
        ({"anneal": "cosin"}, "cosine"),
    ):
        with pytest.raises(UserError, match=why):
            Updates(**options)
    with pytest.raises(UserError, match="signed"):
        Set(removal="sign")
    with pytest.raises(UserError, match=r"pruner\.spread=-1"):
        Set(spread=-1.0)
    with pytest.raises(UserError, match="knows no epochs"):
        StraightThrough(Global(), Iterations(0.8), every="1ep")
    with pytest.raises(UserError, match="shares of the training"):
        StraightThrough(Global(), Iterations(0.8), begin=0.9)
    problem = small.task()
    rule = StraightThrough(Global(exclude=["*"]), Iterations(0.8))
    with pytest.raises(UserError, match="leaves no layer"):
        rule.install(problem.module(), problem.dense(), 0)


# --- by hand


def test_rigl_moves_the_smallest_to_the_largest_gradients_by_hand():
    weight, gradient = [0.5, -0.1, 0.3, -0.2, 0.0, 0.0], [9.0, -8.0, -1.0, 2.0, -7.0, 0.1]
    model, live, optimizer = one_layer(
        weight, [1, 1, 1, 1, 0, 0], gradient, Rigl(Updates(0.5)), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    )
    assert live.after_backward(0, 1000, optimizer) is False  # in the optimizer's place
    live.after_step(0, 1000)
    # two of four go, -0.1 and -0.2; of the places left, 1 and 4 have the largest gradients
    assert live.mask()["weight"].int().tolist() == [[1, 1, 1, 0, 1, 0]]
    assert model.weight.tolist() == [pytest.approx([0.5, -0.1, 0.3, 0.0, 0.0, 0.0])]
    momentum = optimizer.state[model.weight]["momentum_buffer"]
    assert momentum.tolist() == [[1.0, 2.0, 3.0, 4.0, 0.0, 6.0]]
    assert live.after_backward(1, 1000, optimizer) is True


def test_set_removes_by_sign_and_all_that_are_zero_by_hand():
    weight, kept = [0.9, 0.1, 0.4, -0.2, -0.05, 0.0, 0.0, 0.0], [1, 1, 1, 1, 1, 1, 0, 0]
    _, live, _ = one_layer(weight, kept, [0.0] * 8, Set())
    stay = Set(removal="signed").survivors(torch.tensor(weight), live.mask()["weight"][0], 0.5, 0)
    assert stay.int().tolist() == [1, 0, 1, 1, 0, 0, 0, 0]
    stay = Set().survivors(torch.tensor(weight), live.mask()["weight"][0], 0.5, 0)
    assert stay.int().tolist() == [1, 0, 1, 1, 0, 0, 0, 0]
    stay = Set(removal="signed").survivors(torch.tensor(weight), live.mask()["weight"][0], 0.4, 0)
    assert stay.int().tolist() == [1, 0, 1, 1, 1, 0, 0, 0]  # of two negative ones none


def test_set_may_draw_what_is_new_and_clear_the_optimizer():
    weight, kept = [0.5, -0.1, 0.3, -0.2] + 60 * [0.0], 4 * [1] + 60 * [0]
    for rule, drawn in ((Set(Updates(0.5)), False), (Set(Updates(0.5), spread=0.1), True)):
        model, live, optimizer = one_layer(weight, kept, 64 * [0.0], rule, 64 * [1.0])
        live.after_backward(999, 10_000, optimizer)
        live.after_step(999, 10_000)
        new = live.mask()["weight"][0] & ~torch.tensor(kept).bool()
        assert int(new.sum()) > 0
        assert bool((model.weight[0][new] != 0).all()) == drawn
        assert float(model.weight.detach()[0][new].abs().max()) < 0.5
        momentum = optimizer.state[model.weight]["momentum_buffer"][0]
        assert not momentum[new].any()
        assert momentum[0] == 1.0
        assert model.weight[0, 0] == 0.5  # the largest stays as it is
    cleared = Set(Updates(0.5), reset=True)
    _, live, optimizer = one_layer(weight, kept, 64 * [0.0], cleared, 64 * [1.0])
    for step in (997, 998):  # an update is due after the thousandth step
        live.after_backward(step, 10_000, optimizer)
        live.after_step(step, 10_000)
        assert optimizer.state
    live.after_step(999, 10_000)
    assert not optimizer.state


def test_straight_through_trains_what_the_mask_left_out_by_hand():
    half = StraightThrough(Global(), Iterations(0.5), end=0.0, every="1it")
    model, live, optimizer = one_layer([4.0, -3.0, 2.0, 1.0], [1] * 4, [1.0, 0.0, 0.0, -5.0], half)
    for step, wanted in enumerate(([0.0, 6.0], [0.0, 15.5])):
        assert live.after_backward(step, 10, optimizer)
        optimizer.step()
        live.after_step(step, 10)
        if step == 0:  # theta is 3, -3, 2, 6: of the two threes one stays
            [kept] = live.mask()["weight"].int().tolist()
            assert (sum(kept[:2]), kept[2:]) == (1, [0, 1])
        assert model.weight[0, 2:].tolist() == pytest.approx(wanted)
    assert live.state_dict()["raw.weight"].tolist() == [pytest.approx([1.1, -3.0, 2.0, 15.5])]
    assert model.weight.tolist() == [pytest.approx([0.0, -3.0, 0.0, 15.5])]


# --- laws


@both_models
@pytest.mark.parametrize("rule", [Rigl(Updates(0.0, "1it")), Set(Updates(0.0, "1it"))])
def test_with_nothing_to_drop_it_is_the_static_mask_bit_for_bit(model, rule):
    static = replay(job(Static(), model), small.recipe(), None, 40)
    assert same(static, replay(job(rule, model), small.recipe(), None, 40))
    moved = type(rule)(Updates(0.5, "1it"))
    assert not same(static, replay(job(moved, model), small.recipe(), None, 40))


@both_models
def test_before_its_first_choice_straight_through_is_the_dense_training_bit_for_bit(model):
    late = StraightThrough(Global(), Iterations(0.8), begin=1.0, end=1.0)
    dense = Job(small.task(model=model), job(late, model).ticket, Static())
    assert same(*(replay(j, small.recipe(), None, 39) for j in (job(late, model), dense)))


@both_models
@pytest.mark.parametrize("rule", MOVING.values(), ids=MOVING.keys())
def test_every_layer_keeps_its_number_of_connections_and_moves_when_it_is_due(model, rule):
    start = job(rule, model).ticket.mask
    moved, ever = [], start
    for loop, before, after in steps(job(rule, model)):
        for name, kept in after.items():
            assert int(kept.sum()) == int(start[name].sum())
            assert not loop.weights()[name][~kept].any()
            share = rule.updates.share(loop.step - rule.replaces_step, 40)
            gone = int((before[name] & ~kept).sum())
            if rule != MOVING["signed"] or not share:  # there those that are zero go as well
                assert gone <= int(share * int(kept.sum()))
        if after != before:
            moved.append(loop.step - rule.replaces_step)
        ever = ever | after
        found = loop.checkpoint().masking
        assert all(torch.equal(found[f"ever.{name}"], value) for name, value in ever.items())
    assert moved
    assert all(step % 4 == 0 and step <= 30 for step in moved)
    assert ever.num_kept > start.num_kept


def test_rigl_updates_in_the_place_of_a_step_and_set_after_one():
    for rule, bias_moves in ((Rigl(OFTEN), False), (Set(OFTEN), True)):
        loop = Loop(job(rule), small.recipe(), None)
        while True:
            old, mask = loop.weights(), loop.live.mask()
            forward(loop)
            if loop.live.mask() != mask:
                break
        biases = [name for name in old if name.endswith("bias")]
        assert biases
        assert any(not torch.equal(old[n], loop.weights()[n]) for n in biases) == bias_moves


@both_models
@pytest.mark.parametrize("rule", [Rigl(OFTEN), Set(OFTEN)])
def test_what_grew_is_zero_and_then_steps_by_its_gradient_alone(model, rule):
    seen = 0
    for loop, before, after in steps(job(rule, model)):
        if after == before or loop.step == loop.clock.total:
            continue
        new = {name: kept & ~before[name] for name, kept in after.items()}
        assert not any(loop.weights()[name][grown].any() for name, grown in new.items())
        parameters = dict(loop.model.named_parameters())
        loop.backward()
        gradient = {name: parameters[name].grad.clone() for name in new}
        if rule.replaces_step and rule.updates.share(loop.step, 40):
            continue
        loop.update()
        for name, grown in new.items():
            still = grown & loop.live.mask()[name]
            wanted = -0.1 * gradient[name][still]
            assert torch.allclose(loop.weights()[name][still], wanted, rtol=1e-5, atol=1e-9)
            seen += int(still.sum())
        break
    assert seen


def test_rigl_grows_by_the_dense_gradient_of_the_step():
    loop = Loop(job(Rigl(Updates(0.3, "5it"))), small.recipe(), None)
    while loop.step < 5:
        forward(loop)
    before = loop.live.mask()
    loop.backward()
    gradient = {n: p.grad.abs().clone() for n, p in loop.model.named_parameters()}
    loop.update()
    after = loop.live.mask()
    for name, kept in after.items():
        grown, left = kept & ~before[name], ~kept & ~before[name]
        assert grown.any()
        assert float(gradient[name][grown].min()) >= float(gradient[name][left].max())


@pytest.mark.parametrize("model", mostly_slow(MODELS, [small.convolutional]))
@pytest.mark.parametrize(
    "rule",
    [*MOVING.values(), *DRAWN.values(), *CHOSEN.values()],
    ids=[*MOVING, *DRAWN, *CHOSEN],
)
def test_killed_and_continued_from_a_file_is_the_same_bit_for_bit(model, rule, tmp_path):
    problem, recipe = job(rule, model), small.recipe()
    whole = replay(problem, recipe, None, 40)
    for stop in (0, 1, 12, 13, 29):
        path = tmp_path / f"{stop}.safetensors"
        save_checkpoint(path, replay(problem, recipe, None, stop))
        half = replay(problem, recipe, load_checkpoint(path), 40)
        assert same(whole, half)
        assert states.fingerprint(whole.masking) == states.fingerprint(half.masking)


@pytest.mark.parametrize("rule", [*MOVING.values(), *CHOSEN.values()], ids=[*MOVING, *CHOSEN])
def test_installing_changes_no_weights_and_every_optimizer_goes(rule):
    problem = job(rule, small.convolutional)
    for optimizer in (torch.optim.Adam, torch.optim.RMSprop):
        loop = Loop(problem, small.recipe(optimizer=optimizer, clip_norm=1.0), None)
        assert states.fingerprint(loop.weights()) == states.fingerprint(problem.ticket.masked)
        for _ in range(9):
            forward(loop)
        assert states.fingerprint(loop.weights()) == states.fingerprint(
            loop.live.mask()(states.read(loop.model))
        )


def test_none_of_them_says_that_it_packs():
    """They touch the optimizer's state, or train weights beside the network's own."""
    assert not any(rule.packs for rule in (*MOVING.values(), *CHOSEN.values()))


def test_the_rate_of_a_step_in_whose_place_connections_move_is_shown_killed_or_not():
    problem, how = job(MOVING["rigl"]), small.recipe(learning_rate=Linear())
    loop = Loop(problem, how, None)
    for _ in range(4):
        forward(loop)
    checkpoint = loop.checkpoint()
    for one in (loop, Loop(problem, how, checkpoint)):
        before = one.live.mask()
        forward(one)  # step 4
        assert one.live.mask() != before
        assert one.evaluate()["learning_rate"] == pytest.approx(0.1 * (1 - 4 / 40))


def test_another_seed_grows_other_connections_and_the_same_seed_the_same():
    found = [
        replay(
            Job(small.task(seed=seed), job(Set(OFTEN)).ticket, Set(OFTEN)), small.recipe(), None, 5
        )
        for seed in (0, 0, 1)
    ]
    first, again, other = (states.fingerprint(checkpoint.masking) for checkpoint in found)
    assert first == again != other


def test_an_update_that_loses_connections_is_a_bug_and_says_so(monkeypatch):
    real = regrow.keep_top
    monkeypatch.setattr(
        regrow, "keep_top", lambda scores, within, num, seed: real(scores, within, num // 2, seed)
    )
    with pytest.raises(RuntimeError, match="a bug"):
        replay(job(Rigl(OFTEN)), small.recipe(), None, 5)


def test_a_diverged_training_is_for_the_loop_to_tell():
    for rule in (*MOVING.values(), *CHOSEN.values()):
        loop = Loop(job(rule), small.recipe(), None)
        for _ in range(8):
            loop.backward()
            for parameter in loop.model.parameters():
                parameter.grad.fill_(float("nan"))
            loop.update()
        loop.evaluate()
        assert loop.diverged


@both_models
def test_straight_through_meets_its_densities_and_lets_weights_return(model):
    rule = StraightThrough(Global(), Iterations(0.8, 3, "linear"), end=0.5, every="4it")
    masks = [after for _, _, after in steps(job(rule, model))]
    num = masks[0].num_prunable
    wanted = [1.0] * 7 + [1 - 0.8 / 3] * 8 + [1 - 1.6 / 3] * 4 + [0.2] * 21
    assert [mask.num_kept for mask in masks] == [count(density, num) for density in wanted]
    assert any(not after <= before for before, after in pairwise(masks[19:]))
    moved = [step for step, (a, b) in enumerate(pairwise(masks), start=2) if a != b]
    assert all(step % 4 == 0 for step in moved)


# --- as pruners

SPARSE = (*command.SMALL, "record=local", "pruner.sparsity=0.7", "pruner.rate=null")


def ticket_row(tmp_path: Path, *words: str) -> dict:
    said = command.lth_run(*SPARSE, f"paths.outputs={tmp_path}", *words)
    assert said.status == 0, said.err
    [folder] = command.folders(tmp_path)
    found = command.rows(folder / "rounds.jsonl")
    [row] = [r for r in found if r["arm"] == "ticket" and r["density"] < 1]
    return row | {"arms": {r["arm"] for r in found}, "rounds": {r["round"] for r in found}}


@pytest.mark.parametrize("pruner", ["rigl", "set", "dpf"])
def test_a_pruner_runs_to_its_sparsity(pruner, tmp_path):
    row = ticket_row(tmp_path, f"pruner={pruner}", "pruner.rounds=null", "pruner.every=4it")
    assert row["num_kept"] == count(0.3, row["num_prunable"])
    assert row["arms"] == ({"ticket"} if pruner == "dpf" else {"ticket", "reinit"})
    assert row["rounds"] == {0}


def test_rigl_has_a_dense_network_beside_it_where_it_is_asked_for(tmp_path):
    words = ("pruner=rigl", "pruner.rounds=null", "pruner.every=25%", "pruner.dense=true")
    row = ticket_row(tmp_path, *words, "pruner.scope=layerwise", "rewind=step", "rewind.step=50%")
    assert row["rounds"] == {0, 1}
    assert row["start_step"] == 4
    assert list(row["layer_density"].values()) == [154 / 512, 24 / 80]


@pytest.mark.parametrize("pruner", ["rigl", "set"])
@pytest.mark.parametrize("scope", ["n_of_m", "rows", "channels", "blocks"])
def test_a_pattern_that_moving_connections_would_leave_is_refused(pruner, scope, tmp_path):
    words = (f"pruner={pruner}", f"pruner.scope={scope}", "pruner.sparsity=0.5")
    said = command.lth_run(*SPARSE, f"paths.outputs={tmp_path}", *words)
    assert said.status == 2
    assert f"pruner.scope='{scope}' is not for this pruner" in said.err
    assert "erk" in said.err


# --- what it costs


@pytest.mark.slow
def test_the_cost_of_a_step_beside_a_static_mask():
    """Prints the table of docs/pruners.md: processor time, blocks of 100 steps in turn."""
    net = functools.partial(models.mlp, shape=(1, 8, 8), num_classes=10, widths=(300, 100))
    data = synthetic(
        shape=(1, 8, 8), num_classes=10, num_train=600, num_test=60, noise=1.0, seed=0,
        validation=0.1,
    )  # fmt: skip
    task, often = Task(net, data), Updates(0.3, "100it", 1.0, "constant")
    rules = {
        "static": Static(),
        "gradual": Gradual(Global(), Iterations(0.9, 100, "cubic"), end=1.0),
        "rigl": Rigl(often),
        "set": Set(often),
        "dpf": StraightThrough(Global(), Iterations(0.9), end=0.0),
        "sr_ste": SrSte(NOfM(), Iterations(0.5)),
    }
    sparse = AtInit(Random(), ErdosRenyi(), Iterations(0.9), dense=False)
    recipe = small.recipe(length="10000it", batch_size=60)
    loops = {}
    for name, rule in rules.items():
        search = Learned(retrain=False) if name in {*CHOSEN, "gradual"} else sparse
        loops[name] = Loop(Job(task, search.propose(task, []), rule), recipe, None)
    seconds: dict[str, list[float]] = {name: [] for name in rules}
    for block in range(11):  # the first warms up
        for name, loop in loops.items():
            began = time.process_time()
            for _ in range(100):
                forward(loop)
            if block:
                seconds[name].append((time.process_time() - began) / 100)
    for name, found in seconds.items():
        ratios = [one / other for one, other in zip(found, seconds["static"], strict=True)]
        print(f"{name:8}{1e3 * fmean(found):6.2f} ms {fmean(ratios):6.2f} ± {stdev(ratios):.2f}")
        assert median(ratios) < 10
