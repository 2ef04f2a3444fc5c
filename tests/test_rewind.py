"""Where a round starts, and the arms that differ from the ticket in what their name says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

import small
from fake_past import CLOCK, Fake, drawn, equal, small_task
from lanes import trained
from lth_runner.allocate import Global
from lth_runner.cli.check import resolve
from lth_runner.control import Random, Reinit, Shuffle, permuted
from lth_runner.masking import Static
from lth_runner.parts.make import make
from lth_runner.search.rewind import Rewind
from lth_runner.search.ticket import Start, Ticket
from lth_runner.training.engines.packed import Packed
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask

CONF = Path(__file__).parents[1] / "conf"
STEP = 100  # 2ep of 50 steps
TASK = small_task(seed=5)
OUTPUT = {"output.weight", "output.bias"}
PRUNABLE = {"hidden.weight", "output.weight"}


def past(num=3, order=0):
    """``num`` finished rounds, the dense training in a data order of its own."""
    dense = TASK.dense()
    half = Global()(drawn(TASK, "scores"), 0.5, dense, 0)
    tickets = [Ticket(dense, TASK.init(), Start(order=order))]
    tickets += [Ticket(half, drawn(TASK, "start"))] * (num - 1)
    return [Fake(TASK, number, ticket) for number, ticket in enumerate(tickets)]


def came_from(weights, history, step=STEP):
    """For each tensor, the place that its bits were taken from."""
    places = {
        "early": history[0].at(step),
        "trained": history[-1].weights,
        "dense end": history[0].weights,
        "initial": TASK.init(),
    }
    return {
        name: next((p for p, s in places.items() if equal({"": value}, {"": s[name]})), "fresh")
        for name, value in weights.items()
    }


def test_rewinding_takes_every_tensor_from_the_dense_trainings_step():
    history = past(order=9)
    weights, start = Rewind(step="2ep")(TASK, history)
    assert set(came_from(weights, history).values()) == {"early"}
    assert weights.keys() == TASK.init().keys()
    assert (start.step, start.order, start.final_rate, start.optimizer) == (STEP, 3, False, {})


def test_the_fakes_normalisation_is_told_apart():
    assert {name.split(".")[1] for name in TASK.norm} == {
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


def test_kept_weights_are_the_last_rounds_trained_ones():
    history = past()
    weights, start = Rewind(step="2ep", weights="keep", bn="keep")(TASK, history)
    assert set(came_from(weights, history).values()) == {"trained"}
    assert start.step == STEP  # learning-rate rewinding: the clock goes back all the same


@pytest.mark.parametrize(("bn", "norm"), [("rewind", "early"), ("keep", "trained")])
@pytest.mark.parametrize(("kind", "rest"), [("rewind", "early"), ("keep", "trained")])
def test_normalisation_is_rewound_or_kept_by_itself(kind, rest, bn, norm):
    history = past()
    weights, _ = Rewind(step="2ep", weights=kind, bn=bn)(TASK, history)
    for name, place in came_from(weights, history).items():
        assert place == (norm if name in TASK.norm else rest), name


def test_a_fresh_draw_differs_by_round_and_brings_its_own_normalisation():
    history = past()
    weights, _ = Rewind(step="2ep", weights="reinit")(TASK, history)
    again, _ = Rewind(step="2ep", weights="reinit")(TASK, history)
    earlier, _ = Rewind(step="2ep", weights="reinit")(TASK, history[:2])
    assert equal(weights, again)
    for name in PRUNABLE:
        assert came_from(weights, history)[name] == "fresh"
        assert not torch.equal(weights[name], earlier[name])
    assert torch.equal(weights["norm.running_var"], torch.ones(9))


def test_only_what_a_pattern_matches_is_rewound():
    history = past()
    weights, _ = Rewind(step="2ep", only=["output"], bn="keep")(TASK, history)
    places = came_from(weights, history)
    assert {name for name, place in places.items() if place == "early"} == OUTPUT
    assert {place for name, place in places.items() if name not in OUTPUT} == {"trained"}
    with_norm, _ = Rewind(step="2ep", only=["output"])(TASK, history)
    rewound = {name for name, place in came_from(with_norm, history).items() if place == "early"}
    assert rewound == OUTPUT | TASK.norm


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(UserError, match=r"rewind\.only: 'outptu' matches no tensor.*output"):
        Rewind(only=["outptu"])(TASK, past())


@pytest.mark.parametrize(
    ("clock", "step", "final"),
    [("rewind", STEP, False), ("restart", 0, False), ("final", STEP, True)],
)
def test_the_clock_decides_the_step_and_the_final_rate_and_no_weights(clock, step, final):
    weights, start = Rewind(step="2ep", lr_clock=clock)(TASK, past())
    assert (start.step, start.final_rate) == (step, final)
    assert equal(weights, past()[0].at(STEP))


@pytest.mark.parametrize("by", [Sequential(), Packed()], ids=["one by one", "packed"])
def test_tickets_train_at_their_own_learning_rate_and_are_other_trainings(by):
    recipe, task, found = small.recipe(length="4it", eval_every="1it"), small.task(), {}
    for factor in (1.0, 5.0):
        start = Rewind(lr_factor=factor)(TASK, past())[1]
        job = Job(task, Ticket(task.dense(), task.init(), start), Static())
        [outcome] = trained([job], recipe, by=by)
        found[factor] = [row["learning_rate"] for row in outcome.history], job
    assert found[5.0][0] == [5 * rate for rate in found[1.0][0]]
    one, other = (job.identity(recipe, "sequential")["start"] for _, job in found.values())
    assert one == {"step": 0, "order": 3, "final": False}  # as it was before there was a factor
    assert other == {**one, "factor": 5.0}


@pytest.mark.parametrize(("data_order", "orders"), [("rewind", [4, 4]), ("continue", [1, 2])])
def test_the_data_order_is_the_dense_trainings_or_each_rounds_own(data_order, orders):
    history = past(order=4)
    found = [Rewind(data_order=data_order)(TASK, history[:n])[1].order for n in (1, 2)]
    assert found == orders


def test_the_optimizer_is_fresh_or_the_dense_trainings_at_the_step():
    _, start = Rewind(step="2ep", optimizer="restore")(TASK, past())
    assert start.optimizer["momentum"].tolist() == [0.0, float(STEP)]
    assert Rewind(step="2ep")(TASK, past())[1].optimizer == {}


def test_the_past_is_not_written_to():
    history = past()
    before = [states.fingerprint(trained.ticket.weights) for trained in history]
    weights, _ = Rewind(weights="keep", bn="rewind")(TASK, history)
    assert weights is not history[-1].ticket.weights
    assert [states.fingerprint(trained.ticket.weights) for trained in history] == before


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"step": "soon"}, "'soon' is not a duration"),
        ({"weights": "keeep"}, r"rewind\.weights='keeep'; did you mean keep"),
        ({"bn": "reset"}, r"rewind\.bn='reset'"),
        ({"optimizer": "old"}, r"rewind\.optimizer='old'"),
        ({"lr_clock": "finish"}, r"rewind\.lr_clock='finish'; did you mean final"),
        ({"data_order": None}, r"rewind\.data_order=None"),
        ({"lr_factor": 0.0}, r"rewind\.lr_factor=0\.0: give"),
        ({"lr_factor": float("nan")}, r"rewind\.lr_factor=nan: give"),
        ({"only": ["output"], "weights": "keep"}, r"rewind\.only.*weights=keep has no use"),
        ({"layers": "first", "weights": "keep"}, r"rewind\.layers.*weights=keep has no use"),
        ({"layers": "frist"}, r"rewind\.layers='frist'; did you mean first"),
        ({"layers": "first", "only": ["output"]}, "both name what is rewound"),
        ({"only": None}, r"rewind\.only is not set.*rewind\.layers"),
        ({"weights": "reinit", "bn": "keep"}, r"rewind\.bn=keep.*set rewind\.bn=rewind"),
        ({"weights": "reinit", "optimizer": "restore"}, r"set rewind\.optimizer=fresh"),
    ],
)
def test_impossible_rewinds_are_refused(options, why):
    with pytest.raises(UserError, match=why):
        Rewind(**options)


def test_a_step_past_the_end_is_refused():
    with pytest.raises(UserError, match=r"rewind\.step=501it"):
        Rewind(step="501it").at(CLOCK)


# --- presets


def preset(name, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"rewind={name}", *overrides])
    return make(resolve(config)["rewind"])


PRESETS = {
    "init": Rewind(),
    "lth2019": Rewind(),
    "step": Rewind(step="500it"),
    "open_lth": Rewind(step="500it", data_order="rewind"),
    "reinit": Rewind(weights="reinit"),
    "renda_wr": Rewind(step="12ep"),
    "renda_lrr": Rewind(weights="keep", bn="keep"),
    "finetune": Rewind(weights="keep", bn="keep", lr_clock="final"),
}


def test_every_preset_is_tested_here():
    assert {path.stem for path in (CONF / "rewind").glob("*.yaml")} == {*PRESETS, "partial"}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_builds_what_its_name_says(name):
    built = preset(name)
    assert built == Rewind(**{**vars(PRESETS[name]), "only": type(built.only)()})


def test_partial_rewinding_needs_to_be_told_what():
    built = preset("partial", "rewind.only=[output]")
    assert (list(built.only), built.bn) == (["output"], "keep")
    with pytest.raises(UserError, match="only"):
        preset("partial")


# --- controls


def ticket():
    mask = Global()(drawn(TASK, "scores"), 0.3, TASK.dense(), 0)
    return Ticket(mask, drawn(TASK, "start"), Start(step=7, order=2))


@pytest.mark.parametrize("control", [Reinit(), Shuffle(), Random()])
def test_a_control_is_a_function_of_its_seed_and_keeps_the_start(control):
    one, again, other = (control(TASK, ticket(), past(), seed) for seed in (1, 1, 2))
    assert one.mask == again.mask
    assert equal(one.weights, again.weights)
    assert (one.mask, states.fingerprint(one.weights)) != (
        other.mask,
        states.fingerprint(other.weights),
    )
    assert one.start == ticket().start


def test_reinit_keeps_the_mask_and_draws_every_prunable_weight_anew():
    for seed in (0, 5):  # 5 is the task's own: its initial weights must not come back
        arm = Reinit()(TASK, ticket(), past(), seed)
        assert arm.mask == ticket().mask
        assert arm.weights.keys() == ticket().weights.keys()
        for name in PRUNABLE | OUTPUT:
            assert not (arm.weights[name] == ticket().weights[name]).any()
            assert not (arm.weights[name] == TASK.init()[name]).any()


def test_shuffle_keeps_weights_and_layer_counts_and_moves_the_mask():
    arm = Shuffle()(TASK, ticket(), past(), seed=1)
    assert equal(arm.weights, ticket().weights)
    for name, kept in ticket().mask.items():
        assert int(arm.mask[name].sum()) == int(kept.sum())
        assert not torch.equal(arm.mask[name], kept)
    assert arm.mask.overlap(ticket().mask) < 0.5


def test_random_keeps_weights_and_the_total_count():
    arm = Random()(TASK, ticket(), past(), seed=1)
    assert equal(arm.weights, ticket().weights)
    assert arm.mask.num_kept == ticket().mask.num_kept
    assert arm.mask.overlap(ticket().mask) < 0.5


def test_random_evens_out_the_layers():
    whole = {
        name: torch.full_like(kept, name == "hidden.weight") for name, kept in TASK.dense().items()
    }
    lopsided = Ticket(Mask(whole), TASK.init())  # 54 of 54 and 0 of 27
    counts = [
        int(Random()(TASK, lopsided, [], seed).mask["output.weight"].sum()) for seed in range(200)
    ]
    assert sum(counts) / 200 == pytest.approx(27 * 54 / 81, abs=0.6)  # 4 standard errors


def test_permuting_reaches_every_place_alike():
    mask = Mask({"w": torch.tensor([True, False, False, False])})
    hits = sum(permuted(mask, seed)["w"].float() for seed in range(400))
    assert hits.sum() == 400
    assert (hits - 100).abs().max() < 35  # 4 standard deviations


def test_a_ticket_is_masked_at_its_start_and_whole_below():
    made = ticket()
    assert made.masked["hidden.weight"].count_nonzero() == made.mask["hidden.weight"].sum()
    assert made.weights["hidden.weight"].count_nonzero() == 54
