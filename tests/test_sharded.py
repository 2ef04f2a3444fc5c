"""Trainings of which each rank holds a part are those of one process, but for rounding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor

import lanes
import small
from lth_runner.allocate import Global, LayerWise, Rows
from lth_runner.masking import EdgePopup, Gradual, Rigl, Set, Static
from lth_runner.masking.updates import Updates
from lth_runner.problem import NextToken
from lth_runner.problem.coordinates import Delta, constants
from lth_runner.problem.data import Data
from lth_runner.problem.gaussian import Gaussian
from lth_runner.problem.models import masked_transformer
from lth_runner.problem.task import Task
from lth_runner.schedule import Geometric, Iterations
from lth_runner.search.ticket import Start, Ticket
from lth_runner.training.engines.choose import choose
from lth_runner.training.engines.distributed.engine import Distributed
from lth_runner.training.engines.distributed.lines import Leader
from lth_runner.training.engines.distributed.orders import Begin
from lth_runner.training.engines.distributed.sending import packed, unpacked
from lth_runner.training.engines.distributed.sharded import blocks, network
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.pace import Interrupted, Pace
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.ignored import IGNORED
from lth_runner.values.mask import Mask
from lth_runner.values.ranks import Rank
from lth_runner.values.seeds import stream
from lth_runner.values.shards import is_shard
from second_rank import two_ranks

STEPS = "6it"
KINDS = (
    torch.arange(5, dtype=torch.int16), torch.tensor([True, False]), torch.tensor(3),
    torch.zeros(0, 4), torch.tensor(0.1).bfloat16(), torch.tensor([1j]),
    torch.arange(12.0).reshape(3, 4).T,
)  # fmt: skip


@pytest.fixture(scope="module")
def leader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leader]:
    with two_ranks(tmp_path_factory.mktemp("ranks")) as found:
        yield found


def by(leader: Leader) -> Distributed:
    return Distributed(leader, is_sharded=True)


def job(model: Any = lanes.lenet, masking: Any = None, *, full: bool = False) -> Job:
    return lanes.jobs(1, model, masking, full=full)[0]


def transformer() -> nn.Module:
    return masked_transformer(vocabulary=9, length=6, width=8, depth=2, heads=2)


class Tied(nn.Module):
    """A head that shares its weight with the embedding, and rows that no two ranks share evenly."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 5)
        self.layers = nn.ModuleList([nn.Linear(5, 5), nn.Linear(5, 5)])
        self.head = nn.Linear(5, 9, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(input_ids)
        for layer in self.layers:
            hidden = layer(hidden).relu_()  # in place, of a view
        return self.head(hidden)


class Noisy(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:
        super().step(closure)
        for parameter in self.param_groups[0]["params"]:
            parameter.data += 0.1 * torch.randn_like(parameter)


class ScaleNorm(nn.Module):
    """A norm of one's own, whose scale has two axes."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(16, 1))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.scale.flatten() * values / values.norm(dim=1, keepdim=True)


class Named(nn.Module):
    """Answers by name, with a view."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"found": self.linear(values).view(-1, 16)}


class Odd(nn.Module):
    """Parameters in the root and in a list, blocks that answer by name, a norm of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))
        self.weights = nn.ModuleList([nn.ParameterList([torch.eye(16)])])
        self.norm = nn.Sequential(ScaleNorm())
        self.layers = nn.ModuleList([Named(), Named()])
        self.head = nn.Linear(16, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(images.flatten(1) @ self.weights[0][0])
        for layer in self.layers:
            hidden = layer(hidden)["found"].relu_()
        return self.head(hidden) + self.shift


class Dropped(nn.Module):
    """Leaves one of its layers out in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(16, 16) for _ in range(4)])
        self.head = nn.Linear(16, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden, left_out = images.flatten(1), torch.randint(4, ()) if self.training else -1
        for number, layer in enumerate(self.layers):
            hidden = hidden if number == left_out else hidden + layer(hidden).tanh()
        return self.head(hidden)


def scaled() -> nn.Module:
    return nn.ParameterDict({"scale": nn.Parameter(torch.tensor(1.0))})


def mixed() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())


def hooked() -> nn.Module:
    made = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    made[1].weight.register_hook(lambda gradient: 0 * gradient)
    return made


def of_all_kinds() -> nn.Module:
    """Buffers of types that sums over ranks do not know, without axes, and without values."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    for number, value in enumerate(KINDS):
        model.register_buffer(f"kind{number}", value.clone())
    return model


def small_job(model: Any) -> Job:
    task = small.task(model=model)
    return Job(task, Ticket(task.dense(), task.init()), Static())


def uneven(model: Any, num: int = 40) -> Job:
    """Sequences of which each has another number of targets, some none; batches of a last one."""
    rng = stream(0, "uneven")
    tokens = torch.randint(0, 9, (num, 6), generator=rng)
    targets = torch.where(torch.rand(num, 6, generator=rng) < 0.2, tokens, IGNORED)
    split = {"input_ids": tokens}, targets
    task = Task(model, Data.from_tensors(split, split, split, num_classes=9), objective=NextToken())
    drawn = {n: torch.rand(k.shape, generator=stream(0, n)) for n, k in task.dense().items()}
    mask = Mask({name: value < 0.5 for name, value in drawn.items()})
    return Job(task, Ticket(mask, task.init()), Static())


def change() -> Job:
    """A change of fixed weights."""
    task = replace(small.task(), coordinates=Delta())
    drawn = {n: torch.rand(k.shape, generator=stream(0, n)) for n, k in task.dense().items()}
    mask = Mask({name: value < 0.3 for name, value in drawn.items()})
    return Job(task, Ticket(mask, task.init()), Static())


EDGE_POPUP = EdgePopup(LayerWise(), Iterations(0.5))
GRADUAL = Gradual(Global(), Geometric(0.7, rounds=3), begin=0.0, end=0.7)
PROBLEMS = {
    "static": job(),
    "batch_norm": job(lanes.resnet),
    "rigl": job(masking=Rigl(Updates(every="2it", fraction=0.4))),
    "set": job(masking=Set(Updates(every="2it", fraction=0.4), spread=0.1, reset=True)),
    "signed": job(masking=Set(Updates(every="2it", fraction=0.4), removal="signed")),
    "gradual": job(masking=GRADUAL, full=True),
    "by_rows": job(masking=replace(GRADUAL, allocate=Rows()), full=True),  # reads whole layers
    "transformer": uneven(transformer),
    "tied": uneven(Tied),
    "one_batch": uneven(transformer, num=3),
    "change": change(),
    "odd": small_job(Odd),
    "kinds": small_job(of_all_kinds),
}
RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "odd_batch": {"batch_size": 9},
    "clipped_adam": {"optimizer": lanes.ADAM, "clip_norm": 0.1},
    "in_parts": {"micro_batch": 2, "optimizer": lanes.ADAMW},
    "more_parts_on_one": {"micro_batch": 4, "batch_size": 9},
    "decayed": {"decay": "weights", "optimizer": partial(torch.optim.SGD, lr=0.1, weight_decay=1)},
}
CASES = [(name, "plain") for name in PROBLEMS if name not in ("one_batch", "odd")] + [
    ("odd", "decayed"), ("transformer", "more_parts_on_one"),
    ("batch_norm", "odd_batch"), ("static", "clipped_adam"), ("transformer", "in_parts"),
]  # fmt: skip


def assert_alike(both: Any, one: Any) -> None:
    assert both.mask.fingerprint == one.mask.fingerprint
    assert both.weights.keys() == one.weights.keys()
    for name, value in one.weights.items():
        assert not is_shard(both.weights[name])
        assert torch.allclose(both.weights[name], value, rtol=1e-3, atol=1e-5), name
    assert len(one.history) == len(both.history) > 1
    for alone, together in zip(one.history, both.history, strict=True):
        assert together == pytest.approx(alone, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(("problem", "how"), CASES)
def test_a_training_is_that_of_one_process(leader: Leader, problem: str, how: str) -> None:
    recipe = lanes.recipe(length=STEPS, **RECIPES[how])
    [one] = lanes.trained([PROBLEMS[problem]], recipe, by=Sequential())
    [both] = lanes.trained([PROBLEMS[problem]], recipe, by=by(leader))
    assert_alike(both, one)


def test_a_rank_without_a_batch_of_a_split_waits_for_none(leader: Leader) -> None:
    recipe = lanes.recipe(length=STEPS, batch_size=2)
    [one] = lanes.trained([PROBLEMS["one_batch"]], recipe, by=Sequential())
    [both] = lanes.trained([PROBLEMS["one_batch"]], recipe, by=by(leader))
    assert_alike(both, one)


@pytest.mark.parametrize("problem", ["batch_norm", "rigl", "change"])
def test_it_goes_on_from_a_checkpoint_with_equal_bits(leader: Leader, problem: str) -> None:
    how, keeper = lanes.recipe(length=STEPS, optimizer=lanes.ADAMW), lanes.Memory()
    chosen = replace(PROBLEMS[problem], snapshots=(3,))
    [whole] = lanes.trained([chosen], how, by=by(leader), keepers=[keeper])
    asked = iter([False, False, True])
    pace = Pace(lambda: next(asked))
    with pytest.raises(Interrupted):
        lanes.trained([chosen], how, by=by(leader), keepers=[keeper], pace=pace)
    assert keeper.checkpoint is not None
    assert keeper.checkpoint.step == 3
    [again] = lanes.trained([chosen], how, by=by(leader), keepers=[keeper])
    assert lanes.prints([again]) == lanes.prints([whole])
    assert again.history == whole.history
    assert lanes.whole_state(keeper.snapshots[3]) == lanes.whole_state(keeper.checkpoint)
    if problem == "batch_norm":  # a ticket that is rewound to it, with the moments
        start = Start(3, optimizer=keeper.checkpoint.optimizer)
        rewound = Ticket(chosen.ticket.mask, keeper.checkpoint.weights, start)
        later = replace(chosen, ticket=rewound, snapshots=())
        assert lanes.prints(lanes.trained([later], how, by=by(leader))) == lanes.prints([whole])


def test_the_order_to_begin_holds_neither_weights_nor_moments(leader: Leader) -> None:
    how, keeper = lanes.recipe(length=STEPS, optimizer=lanes.ADAMW), lanes.Memory()
    chosen = replace(PROBLEMS["static"], snapshots=(3,))
    lanes.trained([chosen], how, by=by(leader), keepers=[keeper])
    checkpoint, known = keeper.snapshots[3], (chosen.task.data, chosen.task)
    for before in (None, checkpoint):
        order = Begin.of(1, [], chosen, how, before, is_sharded=True)
        assert len(packed(order, known)) < chosen.task.num_parameters  # bytes


@pytest.mark.parametrize("value", KINDS, ids=lambda value: f"{value.dtype} {value.dim()}")
def test_a_tensor_is_sent_as_it_is(value: torch.Tensor) -> None:
    found = unpacked(packed(value, ()), (), torch.device("cpu"))
    assert found.dtype == value.dtype
    assert torch.equal(found, value)


def test_a_checkpoint_is_one_that_other_engines_read(leader: Leader) -> None:
    how, keeper = lanes.recipe(length=STEPS, optimizer=lanes.ADAMW), lanes.Memory()
    chosen = replace(PROBLEMS["static"], snapshots=(3,))
    [sharded] = lanes.trained([chosen], how, by=by(leader), keepers=[keeper])
    other = lanes.Memory(keeper.snapshots[3])
    [alone] = lanes.trained([chosen], how, by=Sequential(), keepers=[other])
    for name, value in alone.weights.items():
        assert torch.allclose(sharded.weights[name], value, rtol=1e-3, atol=1e-5), name


def test_a_weight_that_diverges_on_one_rank_is_told(leader: Leader) -> None:
    start = PROBLEMS["static"].ticket.weights
    last = list(start)[-1]
    broken = start[last].clone()
    broken[-1] = torch.inf  # of the last class, which the second rank holds
    ticket = Ticket(PROBLEMS["static"].ticket.mask, {**start, last: broken})
    chosen = replace(PROBLEMS["static"], ticket=ticket)
    [both] = lanes.trained([chosen], lanes.recipe(length=STEPS), by=by(leader))
    assert both.diverged
    assert both.history[-1]["train_loss"] is None


def test_layers_that_each_rank_leaves_out_by_itself_are_told(leader: Leader) -> None:
    how = lanes.recipe(length=STEPS, optimizer=lanes.ADAM)
    with pytest.raises(UserError, match="went through other layers of the model than rank 0"):
        lanes.trained([small_job(Dropped)], how, by=by(leader))


@pytest.mark.parametrize("is_sharded", [True, False])
def test_what_stands_still_stays_equal_to_the_last_bit(leader: Leader, is_sharded: bool) -> None:
    how = lanes.recipe(length=STEPS, batch_size=11)
    together = Distributed(leader, is_sharded=is_sharded).begin([PROBLEMS["change"]], how, [None])
    [loop] = together.lanes
    before = states.fingerprint(constants(loop.model))
    for _ in range(3):
        together.advance()
    assert states.fingerprint(constants(loop.model)) == before


@pytest.mark.parametrize("problem", ["rigl", "set", "signed", "gradual"])
def test_masks_move_while_weights_and_gradients_stay_where_they_are(
    leader: Leader, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    together = by(leader).begin([PROBLEMS[problem]], lanes.recipe(length="20it"), [None])
    [loop] = together.lanes
    whole, gathered, before = DTensor.full_tensor, [], loop.live.mask()
    with monkeypatch.context() as patched:
        patched.setattr(DTensor, "full_tensor", lambda t: gathered.append(t.dtype) or whole(t))
        for _ in range(6):
            together.advance()
    assert loop.live.mask() != before
    assert set(gathered) == {torch.bool}


def test_a_hook_on_a_parameter_is_refused() -> None:
    with pytest.raises(UserError, match=r"has a hook on its parameter 1\.weight"):
        network(small.task(model=hooked), lanes.recipe())


def test_blocks_are_those_of_lists_and_share_nothing() -> None:
    found = Tied()
    assert blocks(found) == list(found.layers)
    found.layers[1].weight = found.embedding.weight = nn.Parameter(torch.zeros(9, 5))
    assert blocks(found) == [found.layers[0]]
    assert blocks(nn.Linear(2, 2)) == []


def test_each_rank_holds_its_part_alone(leader: Leader) -> None:
    [loop] = by(leader).begin([PROBLEMS["static"]], lanes.recipe(length=STEPS), [None]).lanes
    held = sum(p.to_local().numel() for p in loop.model.parameters())  # type: ignore[operator]
    every = PROBLEMS["static"].task.num_parameters
    assert held == pytest.approx(every / 2, rel=0.01)


@pytest.mark.parametrize(
    ("masking", "problem", "recipe", "message"),
    [
        (EDGE_POPUP, {}, {}, "EdgePopup chooses weights while it trains"),
        (Static(), {"coordinates": Gaussian()}, {}, "weights that are drawn"),
        (Static(), {}, {"precision": "fp16"}, "give bf16 or fp32"),
        (Static(), {"model": scaled}, {}, "the parameter scale has no axis"),
        (Static(), {"model": mixed}, {}, r"several types \(torch.float32, torch.float64\)"),
        (Static(), {}, {"optimizer": torch.optim.Adafactor}, "Adafactor looks at whole tensors"),
        (Static(), {}, {"optimizer": Noisy}, "Noisy draws random numbers"),
    ],
)
def test_what_cannot_be_sharded_is_refused(
    masking: Any, problem: dict[str, Any], recipe: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        choose(
            lanes.recipe(engine="sharded", **recipe),
            replace(small.task(), **problem),
            masking,
            Rank(0, 2),
        )
