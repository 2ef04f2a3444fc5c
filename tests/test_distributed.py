"""Trainings on two ranks are those of one process, but for rounding."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lanes
import small
from lth_runner.allocate import Global, LayerWise
from lth_runner.masking import EdgePopup, Rigl, Static, Supermask
from lth_runner.masking.scale_penalty import ScalePenalty
from lth_runner.masking.updates import Updates
from lth_runner.problem import NextToken
from lth_runner.problem.answers import answered_in_pieces, evaluate
from lth_runner.problem.data import Data, SampledData
from lth_runner.problem.gaussian import Gaussian
from lth_runner.problem.models import masked_transformer
from lth_runner.problem.objective import Correlation
from lth_runner.problem.task import Task
from lth_runner.schedule import Iterations
from lth_runner.search.ticket import Start, Ticket
from lth_runner.training.engines.distributed import batch_norm
from lth_runner.training.engines.distributed.engine import Distributed, merged
from lth_runner.training.engines.distributed.gradients import SummedGradients, _Bucket
from lth_runner.training.engines.distributed.lines import Leader
from lth_runner.training.engines.distributed.shared_training import SharedTraining
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.pace import Interrupted, Pace
from lth_runner.training.train import gradients
from lth_runner.values.errors import UserError
from lth_runner.values.ignored import IGNORED
from lth_runner.values.seeds import stream
from second_rank import two_ranks

STEPS = "6it"
SGD = functools.partial(torch.optim.SGD, lr=0.1)
in_backward = torch._C._current_graph_task_id  # below 0: in none


@pytest.fixture(scope="module")
def leader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leader]:
    with two_ranks(tmp_path_factory.mktemp("ranks")) as found:
        yield found


def job(model: Any = lanes.lenet, masking: Any = None) -> Job:
    return lanes.jobs(1, model, masking)[0]


def dense(model: Any, masking: Any) -> Job:
    task = small.task(model=model)
    return Job(task, Ticket(task.dense(), task.init()), masking)


def transformer() -> nn.Module:
    return masked_transformer(vocabulary=9, length=6, width=8, depth=1, heads=2)


def dropping() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Dropout(0.5), nn.Linear(8, 3))


def drawn() -> Job:
    """Weights that are drawn anew in every step, the same on all ranks."""
    laws = Gaussian(local_reparameterisation=False)
    task = replace(small.task(), coordinates=laws)
    return Job(task, Ticket(task.dense(), task.init()), Static())


def uneven() -> Job:
    """Sequences of which each has another number of targets, some none."""
    rng = stream(0, "uneven")
    tokens = torch.randint(0, 9, (40, 6), generator=rng)
    targets = torch.where(torch.rand(40, 6, generator=rng) < 0.2, tokens, IGNORED)
    split = {"input_ids": tokens}, targets
    data = Data.from_tensors(split, split, split, num_classes=9)
    task = Task(transformer, data, objective=NextToken())
    return Job(task, Ticket(task.dense(), task.init()), Static())


@dataclass(frozen=True)
class Rows:
    """Samples of a table, taken by their numbers."""

    inputs: Tensor
    labels: Tensor
    fingerprint: str = "rows"

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        return self.inputs[index], self.labels[index]


def sampled() -> Job:
    table = small.blobs()
    splits = {name: Rows(*getattr(table, name)) for name in ("train", "val", "test")}
    data = SampledData(**splits, num_classes=3, evaluated=7)
    task = Task(small.perceptron, data)
    return Job(task, Ticket(task.dense(), task.init()), Static())


PROBLEMS = {
    "static": job(),
    "batch_norm": job(lanes.resnet),
    "rigl": job(masking=Rigl(Updates(every="2it", fraction=0.4))),
    "edge_popup": dense(small.perceptron, EdgePopup(LayerWise(), Iterations(0.5))),
    "supermask": dense(small.convolutional, Supermask(Global())),
    "penalised": dense(small.convolutional, ScalePenalty(0.01)),
    "uneven_tokens": uneven(),
    "sampled": sampled(),
    "drawn_weights": drawn(),
}
RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "odd_batch": {"batch_size": 9},
    "clipped_adam": {"optimizer": lanes.ADAM, "clip_norm": 0.1},
    "in_parts": {"micro_batch": 2},
}
CASES = [(name, "plain") for name in PROBLEMS] + [
    ("batch_norm", "odd_batch"), ("static", "clipped_adam"), ("uneven_tokens", "in_parts"),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "how"), CASES)
def test_a_training_is_that_of_one_process(leader: Leader, problem: str, how: str) -> None:
    recipe = lanes.recipe(length=STEPS, **RECIPES[how])
    [one] = lanes.trained([PROBLEMS[problem]], recipe, by=Sequential())
    [both] = lanes.trained([PROBLEMS[problem]], recipe, by=Distributed(leader))
    assert both.mask.fingerprint == one.mask.fingerprint
    for name, value in one.weights.items():
        assert torch.allclose(both.weights[name], value, rtol=1e-3, atol=1e-5), name
    assert len(one.history) == len(both.history) > 1
    for alone, together in zip(one.history, both.history, strict=True):
        assert together == pytest.approx(alone, rel=1e-3, abs=1e-4)


class Choosing(nn.Module):
    """Adds what its wide layers say of samples that are bright, and normalises all."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.wide = nn.Sequential(nn.Linear(16, 2600), nn.Linear(2600, 2600), nn.Linear(2600, 16))
        self.last = nn.Linear(16, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.norm(images).flatten(1)
        bright = features.mean(1, keepdim=True) > 0
        if bright.any():
            features = features + bright * self.wide(features)
        return self.last(features)


def test_ranks_may_go_through_different_layers_while_norms_are_synchronised(leader: Leader) -> None:
    """Where a bucket goes before the sums of a norm on one rank, and after them on the other."""
    how = lanes.recipe(length="4it", batch_size=2, optimizer=SGD)
    [one] = lanes.trained([dense(Choosing, Static())], how, by=Sequential())
    [both] = lanes.trained([dense(Choosing, Static())], how, by=Distributed(leader))
    for name, value in one.weights.items():
        assert torch.allclose(both.weights[name], value, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("how", ["plain", "in_parts"])
def test_gradients_are_sent_within_the_last_backward_pass(
    leader: Leader, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    sent: list[bool] = []
    send = _Bucket.send

    def noted(bucket: _Bucket, group: Any) -> None:
        sent.append(in_backward() >= 0)
        send(bucket, group)

    monkeypatch.setattr(_Bucket, "send", noted)
    recipe = lanes.recipe(length=STEPS, **RECIPES[how])
    lanes.trained([PROBLEMS["static"]], recipe, by=Distributed(leader))
    assert sent == [True] * 6


def test_a_gradient_that_comes_after_its_bucket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Bucket, "send", lambda bucket, group: None)
    weight = nn.Parameter(torch.ones(2))
    summed = SummedGradients([weight], None)
    summed.expect()
    weight.sum().backward()
    with pytest.raises(UserError, match="use_reentrant=False"):
        weight.sum().backward()


def test_ranks_that_go_through_different_batch_norms_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ways: list[int] = []

    def only_here(way: int, device: torch.device) -> bool:
        ways.append(way)
        return ways.count(way) > 1 or len(ways) == 1

    monkeypatch.setattr(batch_norm, "summed", lambda values: values)
    monkeypatch.setattr(batch_norm, "is_same", only_here)
    model = nn.ModuleList(nn.BatchNorm1d(2) for _ in range(3))
    for used in ((0, 1), (0, 1), (0, 2)):
        with (
            pytest.raises(UserError, match=r"different batch norms.*sync_batch_norm=false")
            if used == (0, 2) else nullcontext(), batch_norm.Synchronised(model),
        ):  # fmt: skip
            for number in used:
                model[number](torch.randn(4, 2))


@pytest.mark.parametrize("objective", [NextToken(), Correlation()])
def test_shares_of_an_evaluation_make_the_figures_of_the_whole(objective: Any) -> None:
    """Of sums, and of what only all samples together tell."""
    tokens = isinstance(objective, NextToken)
    rng = stream(0, "answers")
    outputs = torch.randn((25, 4, 5) if tokens else (25, 1), generator=rng)
    targets = torch.randint(5, (25, 4), generator=rng) if tokens else torch.rand(25, 1)
    data = Data.from_tensors(*[(outputs, targets)] * 3, num_classes=5 if tokens else None)
    task = Task(nn.Identity, data.to("cpu"), objective=objective)
    batches = list(data.batches("test", 4))
    whole = evaluate(nn.Identity(), iter(batches), objective)
    shares = [answered_in_pieces(nn.Identity(), [[b] for b in batches[n::3]], task.objective)
              for n in range(3)]  # fmt: skip
    assert merged(objective, shares) == whole


def test_it_goes_on_from_a_checkpoint_with_equal_bits(leader: Leader) -> None:
    how, by = lanes.recipe(length=STEPS), Distributed(leader)
    chosen, keeper = replace(PROBLEMS["batch_norm"], snapshots=(3,)), lanes.Memory()
    [whole] = lanes.trained([chosen], how, by=by, keepers=[keeper])
    asked = iter([False, False, True])
    with pytest.raises(Interrupted):
        lanes.trained([chosen], how, by=by, keepers=[keeper], pace=Pace(lambda: next(asked)))
    assert keeper.checkpoint is not None
    assert keeper.checkpoint.step == 3
    [again] = lanes.trained([chosen], how, by=by, keepers=[keeper])
    assert lanes.prints([again]) == lanes.prints([whole])
    assert again.history == whole.history
    assert lanes.whole_state(keeper.snapshots[3]) == lanes.whole_state(keeper.checkpoint)
    start = Start(3, optimizer=keeper.checkpoint.optimizer)  # a ticket that is rewound to it
    rewound = Ticket(chosen.ticket.mask, keeper.checkpoint.weights, start)
    [later] = lanes.trained([replace(chosen, ticket=rewound, snapshots=())], how, by=by)
    assert lanes.prints([later]) == lanes.prints([whole])


@pytest.mark.parametrize("is_sharded", [False, True])
def test_trainings_may_take_turns(leader: Leader, *, is_sharded: bool) -> None:
    """As probes do that hold the gradients of two against each other."""
    how, chosen = lanes.recipe(length=STEPS), lanes.jobs(2, lanes.lenet)
    by = Distributed(leader, is_sharded=is_sharded)
    both = zip(*(gradients(one, how, 3, engine=by) for one in chosen), strict=True)
    alone = zip(*(gradients(one, how, 3) for one in chosen), strict=True)
    for pair, expected in zip(both, alone, strict=True):
        for found, wanted in zip(pair, expected, strict=True):
            for name, value in wanted.items():
                assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-6), name


def test_ranks_drop_other_units_and_the_same_ones_again(leader: Leader) -> None:
    sgd = functools.partial(torch.optim.SGD, lr=1.0)
    how = lanes.recipe(length="1it", batch_size=2, optimizer=sgd)
    alike = torch.ones(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)
    task = Task(dropping, Data.from_tensors(alike, alike, alike, num_classes=3))
    chosen = Job(task, Ticket(task.dense(), task.init()), Static())
    one, again = (lanes.trained([chosen], how, by=Distributed(leader))[0] for _ in range(2))
    assert lanes.prints([one]) == lanes.prints([again])
    start = chosen.ticket.weights["3.weight"]
    moved = (one.weights["3.weight"] - start).abs().sum(0)  # of a unit by none, one or both
    assert len({round(value, 4) for value in (moved / start.abs().sum(0)).tolist()}) > 2


def test_without_synchronising_each_rank_normalises_by_its_part(leader: Leader) -> None:
    how, chosen = lanes.recipe(length=STEPS, sync_batch_norm=False), job(lanes.resnet)
    [both] = lanes.trained([chosen], how, by=Distributed(leader))  # which compares all buffers
    [one] = lanes.trained([chosen], how, by=Sequential())
    name = next(name for name in one.weights if name.endswith("running_var"))
    assert not torch.allclose(both.weights[name], one.weights[name], rtol=1e-3)


def test_ranks_that_come_apart_are_told(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    stood = SharedTraining.standing
    monkeypatch.setattr(
        SharedTraining, "standing", lambda self: replace(stood(self), mask="another")
    )
    with pytest.raises(UserError, match=r"after step 6 rank 1 \(.*\) came to another mask"):
        lanes.trained([PROBLEMS["static"]], lanes.recipe(length=STEPS), by=Distributed(leader))
