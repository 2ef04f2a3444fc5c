"""Arms with other weights or another start: each differs from the ticket in what its name says."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import nn

from command import SMALL, folders, lth_run, rows
from fake_past import CLOCK, Fake, data, drawn, equal, small_task
from lth_runner.allocate import Global, Refill
from lth_runner.control import (
    Coarsened,
    Even,
    Late,
    MagnitudesOnly,
    Noise,
    Partial,
    Random,
    RandomData,
    Reinit,
    RescaledRandom,
    Shuffle,
    ShuffledLayers,
    ShuffledWeights,
    SignsOnly,
    check,
    check_beside,
    unpruned,
)
from lth_runner.problem.task import Task
from lth_runner.schedule import Geometric, Iterations
from lth_runner.score import Magnitude
from lth_runner.search import AtInit, EarlyBird, Found, Iterative, KeptScores, Learned
from lth_runner.search.rewind import Rewind
from lth_runner.search.ticket import Start, Ticket
from lth_runner.training.learning_rate import Constant, Cosine, MultiStep
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream

TASK = small_task(seed=5)
HIDDEN, OUTPUT = {"hidden.weight"}, {"output.weight", "output.bias"}


def imp(rounds=3, **rewind):
    return Iterative(Magnitude(), Global(), Geometric(rate=0.4, rounds=rounds), Rewind(**rewind))


def after(search, num_rounds):
    """The rounds before a ticket, and the ticket."""
    past = []
    for number in range(num_rounds):
        past.append(Fake(TASK, number, search.propose(TASK, past)))
    return past, search.propose(TASK, past)


def kept_apart(state, mask):
    """A state's kept and other values, by tensor."""
    return {n: (state[n][kept], state[n][~kept]) for n, kept in mask.items()}


def differing(arm, ticket):
    """What of a ticket is another in the arm."""
    found = {name for name in ("step", "order", "final_rate") if _start(arm, ticket, name)}
    found |= {"mask"} if arm.mask != ticket.mask else set()
    found |= {"weights"} if not equal(arm.weights, ticket.weights) else set()
    return found | (
        {"optimizer"} if not equal(arm.start.optimizer, ticket.start.optimizer) else set()
    )


def _start(arm, ticket, name):
    return getattr(arm.start, name) != getattr(ticket.start, name)


REWOUND = imp(step="2ep", optimizer="restore")
SAME_MASK = {
    "reinit": (Reinit(), {"weights", "optimizer"}),  # another network: no state of the old one
    "noise": (Noise(), {"weights"}),
    "signs": (SignsOnly(), {"weights"}),
    "magnitudes": (MagnitudesOnly(), {"weights"}),
    "shuffle_weights": (ShuffledWeights(), {"weights"}),
    "late": (Late(REWOUND, "3ep"), {"weights", "step", "optimizer"}),
    "partial": (Partial(REWOUND, "first"), {"weights"}),
}
OTHER_MASK = {
    "shuffle": (Shuffle(), {"mask"}),
    "random": (Random(), {"mask"}),
    "shuffle fresh": (Shuffle("fresh"), {"mask", "weights", "optimizer"}),
    "random fresh": (Random("fresh"), {"mask", "weights", "optimizer"}),
    "even": (Even(), {"mask"}),
    "rescaled_random own": (RescaledRandom("own"), {"mask", "weights"}),
    "rescaled_random": (RescaledRandom(), {"mask", "weights", "optimizer"}),
}
ARMS = SAME_MASK | OTHER_MASK


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_differs_in_exactly_what_its_name_says(name):
    control, expected = ARMS[name]
    past, ticket = after(REWOUND, 2)
    arm = control(TASK, ticket, past, 1)
    assert differing(arm, ticket) == expected
    assert arm.mask.num_kept == ticket.mask.num_kept
    assert arm.weights.keys() == ticket.weights.keys()


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_is_a_function_of_its_seed(name):
    control, _ = ARMS[name]
    past, ticket = after(REWOUND, 2)
    one, again, other = (control(TASK, ticket, past, seed) for seed in (1, 1, 2))
    assert not differing(one, again)
    deterministic = name in ("signs", "late", "partial")
    assert bool(differing(one, other)) != deterministic


@pytest.mark.parametrize("name", ["noise", "signs", "magnitudes", "shuffle_weights"])
def test_only_kept_weights_change(name):
    past, ticket = after(REWOUND, 2)
    arm = SAME_MASK[name][0](TASK, ticket, past, 1)
    own, changed = (kept_apart(t.weights, ticket.mask) for t in (ticket, arm))
    for tensor in ticket.mask:
        assert (own[tensor][0] != changed[tensor][0]).float().mean() > 0.3
        assert torch.equal(own[tensor][1], changed[tensor][1])
    rest = arm.weights.keys() - ticket.mask.keys()
    assert equal({n: arm.weights[n] for n in rest}, {n: ticket.weights[n] for n in rest})


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Noise(0.0), r"control\.noise\.size=0\.0 must be above 0"),
        (lambda: Noise(float("nan")), "must be above 0"),
        (lambda: SignsOnly(-1.0), r"control\.signs\.magnitude=-1\.0 must be above 0"),
        (lambda: RescaledRandom("mine"), r"rescaled_random\.weights='mine'.*fresh"),
        (lambda: Partial(REWOUND), r"rewinds nothing.*control\.partial\.layers"),
        (lambda: Late(REWOUND, "soon"), "not a duration"),
        (lambda: Late(Found(), "3ep"), "control=late.*Found does not rewind"),
        (
            lambda: Partial(EarlyBird(Magnitude(), Global(), Iterations(0.5)), "first"),
            "control=partial.*EarlyBird does not rewind",
        ),
    ],
)
def test_impossible_controls_are_refused(make, why):
    with pytest.raises(UserError, match=why):
        make()


def blocks():
    """Three blocks alike, a wider one and a layer of no list."""
    alike = [nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6)) for _ in range(3)]
    return nn.Sequential(
        OrderedDict(blocks=nn.Sequential(*alike, nn.Linear(6, 9)), output=nn.Linear(9, 3))
    )


def sequence():
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3))


def test_whole_layers_of_equal_shapes_change_places_under_the_same_mask():
    task = Task(blocks, data(), 0)
    weights = drawn(task, "own")
    ticket = Ticket(task.dense(), weights, Start(step=3, optimizer={"a": torch.ones(1)}))
    arm = ShuffledLayers()(task, ticket, [], 1)
    assert differing(arm, ticket) == {"weights", "optimizer"}
    ends = ("0.weight", "0.bias", "1.weight", "1.bias")
    places = []
    for to in range(3):
        came = [all(torch.equal(arm.weights[f"blocks.{to}.{end}"], weights[f"blocks.{own}.{end}"])
                    for end in ends) for own in range(3)]  # fmt: skip
        places.append(came.index(True))
    assert sorted(places) == [0, 1, 2] != places
    others = [name for name in weights if not name.startswith(("blocks.0", "blocks.1", "blocks.2"))]
    assert equal({n: arm.weights[n] for n in others}, {n: weights[n] for n in others})
    assert not differing(arm, ShuffledLayers()(task, ticket, [], 1))


def test_layers_of_a_network_that_is_a_list_itself_change_places():
    task = Task(sequence, data(), 0)
    ticket = Ticket(task.dense(), task.init())
    arm = ShuffledLayers()(task, ticket, [], 1).weights
    own = ticket.weights
    assert equal({"1.weight": arm["1.weight"]}, {"1.weight": own["2.weight"]})
    assert equal({"2.weight": arm["2.weight"]}, {"2.weight": own["1.weight"]})


def test_layers_without_another_place_are_refused():
    with pytest.raises(UserError, match=r"shuffle_layers.*this network has none"):
        check(ShuffledLayers(), TASK, CLOCK, Constant())
    task = Task(blocks, data(), 0)
    half = task.dense().of_weights()
    mask = Mask({n: torch.rand(k.shape, generator=stream(0, n)) < 0.5 for n, k in half.items()})
    ticket = Ticket(mask, mask(drawn(task, "own")))
    with pytest.raises(UserError, match=r"weights of blocks\.0\.0\.weight that are 0"):
        check_beside([ShuffledLayers()], Foreseen(ticket), task, CLOCK)


@dataclass(frozen=True)
class Foreseen:
    ticket: Ticket
    num_rounds: int = 1

    def foreseen(self, task, clock):
        yield self.ticket, []


# --- another mask over weights that stay trained

KEPT = {
    "all": {"weights": "keep", "bn": "keep"},
    "tuned": {"weights": "keep", "bn": "keep", "lr_clock": "final"},
    "the first layer": {"layers": "last", "bn": "keep"},
}


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("name", ["shuffle", "random", "even"])
def test_another_mask_over_trained_weights_does_not_start_from_zeros(name, kind):
    past, ticket = after(imp(**KEPT[kind]), 3)
    removed = ~past[-1].mask["hidden.weight"]
    assert removed.any()
    assert not ticket.weights["hidden.weight"][removed].any()  # what a mask would land on
    arm = OTHER_MASK[name][0](TASK, ticket, past, 1)
    assert (arm.mask["hidden.weight"] & removed).any()
    assert (arm.masked["hidden.weight"] != 0).equal(arm.mask["hidden.weight"])


def test_a_removed_weight_comes_back_at_the_last_value_it_was_trained_to():
    past, ticket = after(imp(weights="keep", bn="keep"), 3)
    whole = unpruned(ticket, past).weights
    for name in ticket.mask:
        for place in range(whole[name].numel()):
            alive = [t for t in past if t.mask[name].flatten()[place]]
            assert whole[name].flatten()[place] == alive[-1].weights[name].flatten()[place]
    rest = whole.keys() - ticket.mask.keys()
    assert equal({n: whole[n] for n in rest}, {n: ticket.weights[n] for n in rest})


@pytest.mark.parametrize("num_rounds", [1, 3])
def test_rewound_weights_are_whole_as_they_are(num_rounds):
    past, ticket = after(REWOUND, num_rounds)
    assert unpruned(ticket, past) is ticket


def test_weights_that_never_were_trained_to_their_end_are_refused():
    half = Global()(drawn(TASK, "scores"), 0.5, TASK.dense(), 0)
    dense = Fake(TASK, 0, Ticket(TASK.dense(), TASK.init()), moved=half)  # removed within training
    trained = replace(dense, moved=None, ticket=Ticket(half, TASK.init()))
    ticket = Ticket(half, trained.weights)
    with pytest.raises(UserError, match="first training removed"):
        Shuffle()(TASK, ticket, [trained], 0)


ANOTHER_MASK = {
    "shuffle": Shuffle(),
    "random": Random(),
    "even": Even(),
    "rescaled_random": RescaledRandom("own"),
    "random_data": RandomData(imp()),
    "refill": Coarsened(Refill()),
}


@pytest.mark.parametrize("name", ANOTHER_MASK)
@pytest.mark.parametrize("rewind", ["keep", "the last layers"])
def test_a_mask_over_what_the_first_training_removes_is_refused_before_it(name, rewind):
    kept = Rewind(weights="keep") if rewind == "keep" else Rewind(layers="first", bn="keep")
    with pytest.raises(UserError, match="first training removed"):
        check_beside([Reinit(), ANOTHER_MASK[name]], Learned(kept), TASK, CLOCK)
    for fine in (Learned(), Learned(kept, retrain=False), imp(weights="keep", bn="keep")):
        check_beside([ANOTHER_MASK[name]], fine, TASK, CLOCK)
    check_beside([Shuffle("fresh"), Reinit()], Learned(kept), TASK, CLOCK)


# --- other places to start from


def single():
    return nn.Sequential(OrderedDict(output=nn.Linear(6, 3)))


def test_late_starts_where_a_rewinding_to_its_step_would():
    past, ticket = after(REWOUND, 2)
    arm = Late(REWOUND, "3ep")(TASK, ticket, past, 0)
    weights, start = Rewind(step="3ep", optimizer="restore")(TASK, past)
    assert equal(arm.weights, weights)
    assert (arm.start.step, arm.start.order) == (150, ticket.start.order) == (start.step, 2)
    assert arm.start.optimizer["momentum"].tolist() == [0.0, 150.0]


@pytest.mark.parametrize("kind", KEPT)
def test_late_is_the_dense_trainings_whole_network_whatever_the_ticket_keeps(kind):
    search = imp(**KEPT[kind])
    past, ticket = after(search, 2)
    arm = Late(search, "3ep")(TASK, ticket, past, 0)
    assert equal(arm.weights, past[0].at(150))
    assert arm.start.final_rate == ticket.start.final_rate


def test_late_keeps_a_mask_that_was_scored_elsewhere():
    search = AtInit(Magnitude(), Global(), Iterations(0.6, 1), Rewind(step="1ep"))
    past, ticket = after(search, 1)
    arm = Late(search, "3ep")(TASK, ticket, past, 0)
    assert differing(arm, ticket) == {"weights", "step"}


def test_late_and_partial_score_nothing_again():
    score = Watched()
    at_init = AtInit(score, Global(), Iterations(0.6, 1), Rewind(step="1ep"))
    kept = KeptScores(score, Global(), Iterations(0.6, 1), Rewind(step="1ep"))
    for search, num in ((at_init, 1), (kept, 2), (replace(REWOUND, score=score), 3)):
        past, ticket = after(search, 1)
        assert len(score.asked) == num
        Late(search, "3ep")(TASK, ticket, past, 0)
        Partial(search, layers="first")(TASK, ticket, past, 0)
        assert len(score.asked) == num


@dataclass(frozen=True)
class Watched:
    """Magnitudes; remembers how often it was asked."""

    asked: list[str] = field(default_factory=list, compare=False)

    def __call__(self, task, weights, mask):
        self.asked.append(mask.fingerprint)
        return Magnitude()(task, weights, mask)


def test_late_is_checked_before_any_training(caplog):
    check(Late(REWOUND, "3ep"), TASK, CLOCK, Constant())
    assert not caplog.text
    with pytest.raises(UserError, match=r"control\.late\.step=11ep is step 550, past the end"):
        check(Late(REWOUND, "11ep"), TASK, CLOCK, Constant())
    with pytest.raises(UserError, match=r"control\.late\.step=100% is the end of training"):
        check(Late(REWOUND, "100%"), TASK, CLOCK, Constant())
    lone = AtInit(Magnitude(), Global(), Iterations(0.6, 1), dense=False)
    with pytest.raises(UserError, match="needs the dense training"):
        check(Late(lone, "3ep"), TASK, CLOCK, Constant())
    with caplog.at_level(logging.WARNING):
        check(Late(REWOUND, "2ep"), TASK, CLOCK, Constant())
    assert "the arm is the ticket itself" in caplog.text


def test_a_control_without_a_check_is_taken_as_it_is():
    check(Reinit(), TASK, CLOCK, Constant())


@pytest.mark.parametrize(
    ("part", "early"),
    [({"layers": "first"}, HIDDEN), ({"layers": "last"}, OUTPUT), ({"only": ["*.bias"]}, None)],
)
def test_partial_rewinds_its_part_alone(part, early):
    past, ticket = after(REWOUND, 2)
    arm = Partial(REWOUND, **part)(TASK, ticket, past, 0)
    from_early = past[0].at(ticket.start.step)
    back = {n for n, w in arm.weights.items() if torch.equal(w, from_early[n])}
    assert back == (early or {"output.bias"})
    rest = arm.weights.keys() - back
    assert all(torch.equal(arm.weights[n], past[-1].weights[n]) for n in rest)


def test_a_part_that_the_network_lacks_is_refused_before_any_training():
    with pytest.raises(UserError, match="'outptu' matches no tensor"):
        check(Partial(REWOUND, only=["outptu"]), TASK, CLOCK, Constant())
    with pytest.raises(UserError, match="layers=late_half names none in a network of one layer"):
        check(Partial(REWOUND, "late_half"), Task(single, data(), 0), CLOCK, Constant())


# --- the command


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_fine_tuning_behind_a_schedule_that_ends_at_zero_is_refused(schedule, tmp_path):
    chosen = [*SMALL, f"train/learning_rate={schedule}", f"paths.outputs={tmp_path}"]
    said = lth_run(*chosen, "rewind=finetune", "record=local")
    assert said.status == 2
    assert "lr_clock=final" in said.err
    assert "train.learning_rate.final=0.01" in said.err
    assert not list(tmp_path.rglob("rounds.jsonl"))


def test_fine_tuning_behind_a_schedule_that_ends_above_zero_is_taken():
    tuned = Rewind(lr_clock="final")
    tuned.check(TASK, CLOCK, MultiStep(["50%", "75%"]))
    tuned.check(TASK, CLOCK, Cosine(final=0.01))
    Rewind().check(TASK, CLOCK, Cosine())  # the schedule is run again
    with pytest.raises(UserError, match=r"9e-05 of train\.optimizer\.lr"):
        tuned.check(TASK, CLOCK, Cosine(final=9e-5))


@pytest.mark.parametrize("rewind", ["init", "renda_lrr"])
def test_every_control_runs_and_no_two_arms_are_one_training(rewind, tmp_path):
    arms = "noise_sizes,signs,magnitudes,shuffle_weights,rescaled_random,late,partial,shuffle"
    said = lth_run(
        *SMALL, f"control=[{arms}]", f"rewind={rewind}", f"paths.outputs={tmp_path}",
        "record=local", "rewind.step=10%", "control.late.step=20%",
    )  # fmt: skip
    assert said.status == 0, said.err
    [folder] = folders(tmp_path)
    found = [row for row in rows(folder / "rounds.jsonl") if row["round"] == 2]
    assert len(found) == 12
    assert len({row["training_key"] for row in found}) == 12
    assert len({row["num_kept"] for row in found}) == 1
    assert all(row["seconds"] > 0 for row in found)
    steps = {row["arm"]: row["start_step"] for row in found}
    assert steps["late"] != steps["ticket"] == steps["partial"]


def test_fresh_weights_meet_no_state_of_the_old_network():
    past, ticket = after(imp(bn="keep", optimizer="restore"), 2)
    for control in (Reinit(), RescaledRandom()):
        arm = control(TASK, ticket, past, 1)
        assert arm.start == Start(step=ticket.start.step, order=ticket.start.order)
        assert all(equal({"": arm.weights[n]}, {"": TASK.init()[n]}) for n in TASK.norm)


@pytest.mark.parametrize("control", [Shuffle, Random])
def test_a_drawn_mask_over_weights_that_came_as_zeros_is_refused(control):
    past, ticket = after(REWOUND, 2)
    bare = replace(ticket, weights=ticket.masked)  # as a ticket's file holds them
    with pytest.raises(UserError, match=r"weights=fresh"):
        control()(TASK, bare, past, 0)
    arm, again = (control("fresh")(TASK, one, past, 0) for one in (bare, ticket))
    assert not differing(arm, again)
    assert arm.mask.num_kept == ticket.mask.num_kept
