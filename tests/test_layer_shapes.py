"""Budgets and scores that go by a weight's axes are right for every kind of layer, or refuse it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from command import SMALL, lth_run
from lth_runner.allocate import Channels, ErdosRenyi, NOfM, SmartRatio, Uniform
from lth_runner.control import Even
from lth_runner.masking import SrSte
from lth_runner.problem.coordinates import Delta
from lth_runner.problem.covers import KINDS, Covers
from lth_runner.problem.data import Data
from lth_runner.problem.requirements import check_layers
from lth_runner.problem.task import Task
from lth_runner.schedule import Geometric
from lth_runner.score import FilterNorm, Magnitude, Random
from lth_runner.search import Iterative
from lth_runner.search.rewind import Rewind
from lth_runner.values.errors import UserError


class Mixed(nn.Module):
    """Tokens to an image and back: an embedding, a transposed convolution, an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(12, 8)
        self.lstm = nn.LSTM(8, 4, batch_first=True)
        self.grow = nn.ConvTranspose1d(4, 8, 2, stride=2, groups=2)
        self.conv = nn.Conv1d(8, 4, 3, padding=1)
        self.output = nn.Linear(4, 3)
        self.free = nn.Parameter(torch.zeros(4, 4))

    def forward(self, tokens: Tensor) -> Tensor:
        found = self.grow(self.lstm(self.words(tokens))[0].transpose(1, 2))
        return self.output(self.conv(found).mean(2) @ self.free)


def task(*types: str, **options: object) -> Task:
    split = torch.randint(0, 12, (6, 5)), torch.arange(6) % 3
    data = Data.from_tensors(split, split, validation=0)
    return Task(Mixed, data, covers=Covers(types=types, **options))  # type: ignore[arg-type]


BY_KIND = {"words.weight": "embedding", "grow.weight": "transposed_convolution"}
ACCEPTED = {
    Channels(): {"linear", "convolution"},
    NOfM(): {"linear", "convolution", "recurrent", "attention_projection"},
    SmartRatio(): {"linear", "convolution", "transposed_convolution"},
    ErdosRenyi(): set(KINDS),
    Uniform(): set(KINDS),
}


@pytest.mark.parametrize("budget", ACCEPTED, ids=lambda budget: type(budget).__name__)
@pytest.mark.parametrize("kind", ["embedding", "transposed_convolution", "recurrent"])
def test_a_budget_refuses_by_name_the_kinds_whose_axes_it_does_not_know(budget, kind) -> None:
    problem = task("linear", "convolution", kind)
    if kind in ACCEPTED[budget]:
        check_layers(budget, problem)
    else:
        with pytest.raises(
            UserError, match=rf"pruner\.scope=.*, but \w+\.\w+ is of the kind {kind}"
        ):
            check_layers(budget, problem)


@pytest.mark.parametrize("budget", [Channels(), NOfM(), SmartRatio()])
def test_a_parameter_of_no_known_layer_is_refused_unless_it_is_excluded(budget) -> None:
    problem = task("linear", "convolution", also=["free"])
    with pytest.raises(UserError, match="free is no known layer's, whose axes are others"):
        check_layers(budget, problem)
    check_layers(replace(budget, exclude=["free"]), problem)


def test_parts_are_looked_at_however_deep_they_lie() -> None:
    problem = task("linear", "embedding")
    search = Iterative(Magnitude(), Channels(), Geometric(rate=0.5, rounds=1), Rewind())
    for part in (search, SrSte(NOfM(), Geometric(rate=0.5, rounds=1))):
        with pytest.raises(UserError, match=r"words\.weight is of the kind embedding"):
            check_layers(part, problem)
    check_layers(Even(), problem)


def test_kinds_are_the_stock_networks_in_other_coordinates() -> None:
    problem = replace(task("linear"), coordinates=Delta(only=["words.weight"]))
    assert [problem.kind(name) for name in problem.prunable] == ["embedding"]
    with pytest.raises(UserError, match="embedding"):
        check_layers(NOfM(), problem)


def test_the_last_layer_of_channels_may_be_any() -> None:
    class Pixels(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Conv1d(1, 4, 1), nn.ConvTranspose1d(4, 3, 2))

    split = torch.zeros(4, 1, 5), torch.zeros(4, 6, dtype=torch.int64)
    data = Data.from_tensors(split, split, validation=0, num_classes=3)
    types = ["convolution", "transposed_convolution"]
    check_layers(Channels(), Task(Pixels, data, covers=Covers(types=types)))


def test_erdos_renyi_counts_a_transposed_convolution_as_the_convolution_that_it_mirrors() -> None:
    class Mirrored(nn.Sequential):
        def __init__(self, *, transposed: bool) -> None:
            kind = nn.ConvTranspose2d(5, 7, 3) if transposed else nn.Conv2d(7, 5, 3)
            super().__init__(nn.Conv2d(1, 5, 3), kind)

    def counts(module: nn.Module, budget: ErdosRenyi) -> list[int]:
        named = dict(module.named_parameters())
        mask = Task(lambda: module, task().data, covers=Covers(types=tuple(KINDS))).dense()
        scores = {name: named[name].detach().abs() for name in mask}
        return [int(kept.sum()) for kept in budget(scores, 0.3, mask, 0).values()]

    for kernel in (True, False):
        budget = ErdosRenyi(kernel=kernel)
        assert counts(Mirrored(transposed=True), budget) == counts(
            Mirrored(transposed=False), budget
        )


def test_n_of_m_groups_the_inputs_of_recurrent_matrices() -> None:
    problem = task("recurrent")
    scores = Random()(problem, {}, problem.dense())
    mask = NOfM()(scores, 0.5, problem.dense(), 0)
    for name in ("lstm.weight_ih_l0", "lstm.weight_hh_l0"):
        assert (mask[name].unflatten(1, (-1, 4)).sum(2) == 2).all()


def test_scores_of_output_channels_refuse_layers_without() -> None:
    with pytest.raises(UserError, match=r"FilterNorm scores output channels.*words\.weight"):
        FilterNorm().check(task("linear", "embedding"))
    FilterNorm().check(task("linear", "convolution"))


def test_a_run_refuses_before_any_training(tmp_path: Path) -> None:
    words = ("pruner.scope=channels", "covers.also=[linear1.bias]", f"paths.outputs={tmp_path}")
    said = lth_run(*SMALL, *words)
    assert said.status == 2
    words = ("dataset=digit_scenes", "model=unet", "covers=all", "pruner.scope=n_of_m")
    small = [w for w in SMALL if not w.startswith(("dataset", "model"))]
    said = lth_run(*small, *words, "train.batch_size=8", f"paths.outputs={tmp_path}")
    assert said.status == 2
    assert "up.1.grow.weight is of the kind transposed_convolution" in said.err
    assert not (tmp_path / "small").exists()
