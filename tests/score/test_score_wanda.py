"""Wanda: by hand, against the formula written out, and in every way that weights are used."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from score_cases import HAND, INPUTS, half_mask, three_samples
from torch import Tensor, nn

from lth_runner.allocate import NOfM, Rows
from lth_runner.problem.coordinates import Delta
from lth_runner.problem.covers import Covers
from lth_runner.problem.data import Data
from lth_runner.problem.models import transformer_classifier
from lth_runner.problem.task import Task
from lth_runner.score import Wanda
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream
from lth_runner.values.state import State
from lth_runner.values.tree import Tree

ALL = Wanda(batch_size=3)


def noise(*shape: int, name: str = "noise") -> Tensor:
    return torch.randn(shape, generator=stream(0, name))


def problem(model: Callable[[], nn.Module], inputs: Tree, **options: object) -> Task:
    num = 3
    split = inputs, torch.arange(num) % 2
    data = Data.from_tensors(split, split, validation=0, num_classes=2)
    return Task(model, data, **options)  # type: ignore[arg-type]


def scored(task: Task, weights: State | None = None) -> State:
    return ALL(task, task.init() if weights is None else weights, task.dense())


def norms(task: Task) -> State:
    """What the sizes of the weights are multiplied with."""
    weights = task.init()
    return {name: s / weights[name].abs() for name, s in scored(task).items()}


def test_two_layers_by_hand() -> None:
    """Inputs (1, 2), (2, -1), (-1, 1): norms sqrt(6) and sqrt(6)."""
    found = ALL(three_samples(), {n: w.float() for n, w in HAND.items()}, three_samples().dense())
    root = 6**0.5
    first = torch.tensor([[1.0, 0.5], [-0.25, 0.75]]).abs() * root
    torch.testing.assert_close(found["0.weight"], first)
    # hidden: (2, 1.25), (1.5, 0), (0, 1)
    second = torch.tensor([[0.6 * 2.5, 0.4 * 2.5625**0.5], [0.2 * 2.5, 0.9 * 2.5625**0.5]])
    torch.testing.assert_close(found["2.weight"], second)


def test_under_a_mask_inputs_are_the_masked_networks_and_removed_weights_score_nothing() -> None:
    mask = half_mask()
    found = ALL(three_samples(), {n: w.float() for n, w in HAND.items()}, mask)
    assert all(bool((found[name][~kept] == 0).all()) for name, kept in mask.items())
    hidden = (INPUTS @ (HAND["0.weight"] * mask["0.weight"]).T).clamp(min=0)
    wanted = HAND["2.weight"].abs() * mask["2.weight"] * hidden.square().sum(0).sqrt()
    torch.testing.assert_close(found["2.weight"], wanted.float())


class TheirLayer:
    """The running statistic and the metric of the paper, as its algorithm states them."""

    def __init__(self, layer: nn.Linear) -> None:
        self.layer, self.scale, self.num = layer, torch.zeros(layer.in_features), 0

    def add(self, inputs: Tensor) -> None:
        rows = inputs.reshape(-1, inputs.shape[-1]).t().float()
        self.scale *= self.num / (self.num + len(inputs))
        self.num += len(inputs)
        self.scale += rows.norm(p=2, dim=1) ** 2 / self.num

    def mask(self, sparsity: float) -> Tensor:
        metric = self.layer.weight.detach().abs() * self.scale.reshape(1, -1).sqrt()
        order = metric.sort(dim=-1, stable=True)[1]
        removed = order[:, : int(metric.shape[1] * sparsity)]
        return torch.ones_like(metric).scatter(1, removed, 0).bool()

    def mask_n_of_m(self, num: int, group: int) -> Tensor:
        metric = self.layer.weight.detach().abs() * self.scale.reshape(1, -1).sqrt()
        kept = torch.ones_like(metric, dtype=torch.bool)
        for start in range(0, metric.shape[1], group):
            part = metric[:, start : start + group]
            kept.scatter_(1, start + part.topk(num, dim=1, largest=False)[1], value=False)
        return kept


def test_masks_are_those_of_the_papers_algorithm() -> None:
    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4))

    split = noise(40, 8) * torch.arange(1, 9), torch.arange(40) % 4
    task = Task(model, Data.from_tensors(split, split, validation=0))
    score = Wanda(num_batches=4, batch_size=10)
    found = score(task, task.init(), task.dense())
    network = model()
    network.load_state_dict(task.init())
    theirs = {name: TheirLayer(network[int(name[0])]) for name in task.prunable}
    for layer in theirs.values():
        layer.layer.register_forward_pre_hook(lambda _, x, layer=layer: layer.add(x[0]))
    for sample in split[0].split(10):
        network(sample)
    for density in (0.5, 0.25):
        mask = Rows()(found, density, task.dense(), 0)
        grouped = NOfM()(found, density, task.dense(), 0)
        for name, layer in theirs.items():
            assert torch.equal(mask[name], layer.mask(1 - density))
            num = 4 - int(4 * density)
            assert torch.equal(grouped[name], layer.mask_n_of_m(num, 4))


@given(st.lists(st.floats(0.01, 100), min_size=5, max_size=5))
@settings(derandomize=True, deadline=None, max_examples=20)
def test_a_column_of_inputs_scaled_by_c_scales_its_scores_by_c(factors: list[float]) -> None:
    by = torch.tensor(factors)
    inputs = noise(3, 5)
    one, two = (scored(problem(lambda: nn.Linear(5, 2), x)) for x in (inputs, inputs * by))
    torch.testing.assert_close(two["weight"], one["weight"] * by)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(4, 6, 3, padding=1, stride=2), (3, 4, 7, 8)),
        (nn.Conv2d(4, 6, (3, 2), dilation=2, groups=2, padding="same"), (3, 4, 7, 8)),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular", groups=4), (3, 4, 5, 6)),
        (nn.Conv1d(4, 6, 3, padding=2), (3, 4, 9)),
    ],
    ids=str,
)
def test_a_convolution_is_the_matrix_that_multiplies_the_unfolded_input(
    layer: nn.Conv2d, shape: tuple[int, ...]
) -> None:
    inputs = noise(*shape)

    def model() -> nn.Module:
        return type(layer)(
            layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
            layer.dilation, layer.groups, padding_mode=layer.padding_mode,
        )  # fmt: skip

    found = norms(problem(model, inputs))["weight"]
    # the product with one-hot kernels is the unfolded input, column by column
    module = model()
    width = layer.in_channels // layer.groups
    for entry in torch.cartesian_prod(*map(torch.arange, (width, *layer.kernel_size))):
        kernel = torch.zeros(layer.weight.shape)
        kernel[(slice(None), *entry)] = 1
        with torch.no_grad():
            module.weight.copy_(kernel)
            module.bias.zero_()
            column = module(inputs)
        wanted = column.square().sum([0, *range(2, column.ndim)]).sqrt()
        torch.testing.assert_close(found[(slice(None), *entry)], wanted)


def test_a_transposed_convolution_has_what_each_input_channel_sends_to_a_kernel_place() -> None:
    inputs = noise(3, 4, 5)

    def model() -> nn.Module:
        return nn.Sequential(nn.ConvTranspose1d(4, 6, 2, stride=2, groups=2), nn.Flatten(),
                             nn.Linear(60, 2))  # fmt: skip

    found = norms(problem(model, inputs, covers=Covers(only=["0.weight"])))["0.weight"]
    wanted = inputs.square().sum((0, 2)).sqrt()[:, None, None].expand(4, 3, 2)
    torch.testing.assert_close(found, wanted)


def test_a_layer_called_twice_and_weights_used_outside_of_layers_have_all_their_inputs() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice = nn.Linear(5, 5)
            self.free = nn.Parameter(noise(5, 4))
            self.halves = nn.Parameter(noise(4, 4))
            self.output = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            hidden = self.twice(x)
            seen.append(hidden)
            x = torch.einsum("ni,io->no", self.twice(hidden), self.free)
            upper, lower = self.halves.chunk(2)
            seen.append(x)
            return self.output(torch.cat([F.linear(x, upper), (2 * x) @ lower.T], 1))

    seen: list[Tensor] = []
    inputs = noise(3, 5)
    task = problem(Odd, inputs, covers=Covers(only=["twice.weight", "free", "halves"]))
    found = norms(task)
    seen.clear()
    task.outputs(task.init(), inputs)
    twice = torch.cat(seen[:2]).norm(dim=0)
    torch.testing.assert_close(found["twice.weight"], twice.expand(5, 5))
    x = seen[2].norm(dim=0)
    torch.testing.assert_close(found["halves"], torch.stack([x, x, 2 * x, 2 * x]))
    # einsum's product is told by its inputs: what the second call of twice gave
    second = F.linear(seen[1], task.init()["twice.weight"], task.init()["twice.bias"])
    torch.testing.assert_close(found["free"], second.norm(dim=0)[:, None].expand(5, 4))


class Attending(nn.Module):
    """A layer of torch's own transformer over vectors, with padding."""

    def __init__(self, *, batch_first: bool = True) -> None:
        super().__init__()
        self.first = batch_first
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=batch_first)
        self.output = nn.Linear(4, 2)

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        x = x if self.first else x.transpose(0, 1)
        hidden = self.layer(x, src_key_padding_mask=attention_mask == 0)
        hidden = hidden if self.first else hidden.transpose(0, 1)
        return self.output((hidden * attention_mask[..., None]).sum(1))


TOKENS = noise(3, 5, 4, name="tokens")
LENGTHS = torch.tensor([5, 2, 3])
REAL = (torch.arange(5) < LENGTHS[:, None]).long()


@pytest.mark.parametrize("first", [True, False])
def test_multihead_attention_has_its_inputs_and_padding_is_left_out(first: bool) -> None:
    task = problem(
        lambda: Attending(batch_first=first), {"x": TOKENS, "attention_mask": REAL},
        covers=Covers(types=("linear", "attention_projection")),
    )  # fmt: skip
    before = torch.backends.mha.get_fastpath_enabled()
    found = norms(task)
    assert torch.backends.mha.get_fastpath_enabled() is before
    weights = task.init()
    assert set(found) == {n for n, w in weights.items() if w.ndim == 2}
    inputs = TOKENS[REAL.bool()].norm(dim=0)
    torch.testing.assert_close(found["layer.self_attn.in_proj_weight"], inputs.expand(12, 4))
    heads = []
    for sample, num in zip(TOKENS, LENGTHS, strict=True):
        packed = F.linear(sample[:num], weights["layer.self_attn.in_proj_weight"],
                          weights["layer.self_attn.in_proj_bias"])  # fmt: skip
        q, k, v = (part.unflatten(1, (2, 2)).transpose(0, 1) for part in packed.chunk(3, 1))
        heads.append(F.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1))
    wanted = torch.cat(heads).norm(dim=0).expand(4, 4)
    torch.testing.assert_close(found["layer.self_attn.out_proj.weight"], wanted)


def test_more_padding_changes_no_score() -> None:
    ids = torch.randint(4, 9, (3, 5), generator=stream(0, "ids"))
    wide = {"input_ids": F.pad(ids * REAL, (0, 3)), "attention_mask": F.pad(REAL, (0, 3))}
    close = {"input_ids": ids * REAL, "attention_mask": REAL}
    short, long = (
        scored(problem(lambda: transformer_classifier(
            vocabulary=9, length=8, num_classes=2, width=8, depth=1, heads=2), given))
        for given in (close, wide)
    )  # fmt: skip
    assert len(short) == 7
    for name, value in short.items():
        torch.testing.assert_close(long[name], value)


class Strange(nn.Module):
    """Uses one of its weights in ``use``."""

    def __init__(self, use: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.odd = nn.Linear(5, 5)
        self.use = use
        self.output = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.use(x, self.odd.weight))


@pytest.mark.parametrize(
    "use",
    [
        lambda x, w: x @ (w / w.norm()),
        lambda x, w: x @ w @ w.clone(),
        lambda x, w: x + w.sum(0),
        lambda x, w: x @ torch.cat([w, w])[:5],
        lambda x, w: torch.addmm(x, x, w, alpha=2),
        lambda x, w: F.conv1d(x[:, None], w[:, None])[:, :, 0],
        lambda x, w: x @ (w @ w),
    ],
)  # fmt: skip
def test_a_weight_that_is_used_otherwise_is_refused_by_name_before_any_training(
    use: Callable[[Tensor, Tensor], Tensor],
) -> None:
    task = problem(lambda: Strange(use), noise(3, 5))
    with pytest.raises(UserError, match=r"uses odd\.weight in aten.*leave it out of covers"):
        ALL.check(task)
    spared = Wanda(batch_size=3, exclude=["odd"])
    spared.check(task)
    found = spared(task, task.init(), task.dense())
    assert torch.equal(found["odd.weight"], task.init()["odd.weight"].abs())


def test_a_weight_that_no_input_meets_scores_nothing_and_a_warning_names_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = problem(lambda: Strange(lambda x, w: x), noise(3, 5))
    ALL.check(task)
    with caplog.at_level(logging.WARNING):
        found = scored(task)
    assert "no input of 3 samples met odd.weight" in caplog.text
    assert not found["odd.weight"].any()
    assert found["output.weight"].all()


def test_layers_without_inputs_to_see_and_biases_are_refused() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(9, 4)
            self.lstm = nn.LSTM(4, 4, batch_first=True)
            self.output = nn.Linear(4, 2)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.output(self.lstm(self.words(tokens))[0][:, -1])

    ids = torch.randint(0, 9, (3, 5), generator=stream(0, "ids"))
    for kind in ("embedding", "recurrent"):
        task = problem(Words, ids, covers=Covers(types=("linear", kind)))
        with pytest.raises(UserError, match=f"is of the kind {kind}, whose inputs"):
            ALL.check(task)
    ALL.check(problem(Words, ids))
    with pytest.raises(UserError, match=r"pruner\.biases=true, but Wanda"):
        ALL.check(problem(Words, ids, biases=True))
    with pytest.raises(UserError, match=r"coordinates \(Delta\): Wanda"):
        ALL.check(problem(Words, ids, coordinates=Delta()))
    with pytest.raises(UserError, match="make 384 samples, but there are 3"):
        Wanda(num_batches=3).check(problem(Words, ids))
