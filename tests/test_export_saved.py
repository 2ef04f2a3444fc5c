"""What a ticket saves is counted by what is computed, and timed of what answers as it does."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import small
from lth_runner import export
from lth_runner.export import Taken
from lth_runner.export.flops import Flops, flops
from lth_runner.export.latency import with_csr
from lth_runner.export.report import measured
from lth_runner.export.to_forms import TO_FORMS
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask


def kept(*shape: int, share: float = 0.5) -> torch.Tensor:
    """Keeps the first rows."""
    rows = torch.arange(shape[0]) < share * shape[0]
    return rows.reshape(-1, *[1] * (len(shape) - 1)).expand(shape).clone()


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.last(self.layer(self.first(inputs.flatten(1, 2))).mean(1))
        return found


def test_flops_of_stock_attention_are_those_of_its_products():
    module = Encoder().eval()
    names = ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight")
    mask = {f"layer.{n}": kept(*module.get_parameter(f"layer.{n}").shape) for n in names}
    attention = 2 * 4 * (8 * 24 + 8 * 8) + 2 * 2 * (2 * 4 * 4 * 4)  # 4 tokens, 2 heads of 4
    hidden = 2 * 4 * 8 * 12
    total = 2 * 4 * 4 * 8 + attention + 2 * hidden + 2 * 8 * 3
    removed = (2 * 4 * (8 * 24 + 8 * 8) + hidden) // 2
    assert flops(module, torch.randn(1, 1, 4, 4), mask) == Flops(total, removed)


class Several(nn.Module):
    """Uses a layer twice, a weight in two layers, and one of them transposed without a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.same, self.tied = nn.Linear(16, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.tied.weight = self.same.weight
        self.again, self.last = self.same, nn.Linear(6, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found = self.again(F.relu(self.same(F.relu(self.first(inputs.flatten(1))))))
        found = F.linear(self.tied(found), self.same.weight.t())
        answered: torch.Tensor = self.last(found)
        return answered


class Scaled(nn.Linear):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.linear(inputs, self.weight * 2, self.bias)


def test_a_weight_counts_as_often_as_it_is_used_and_not_where_nobody_can_tell():
    inputs, mask = torch.randn(1, 1, 4, 4), {"same.weight": kept(6, 6)}
    assert flops(Several(), inputs, mask) == Flops(2 * (16 * 6 + 4 * 36 + 18), 4 * 36)
    scaled = nn.Sequential(nn.Flatten(), Scaled(16, 3))
    assert flops(scaled, inputs, {"1.weight": kept(3, 16)}) == Flops(2 * 48, None)
    memory = nn.LSTM(4, 5, batch_first=True)
    found = flops(memory, torch.randn(1, 3, 4), {"weight_hh_l0": kept(20, 5)})
    assert found == Flops(2 * 3 * (4 * 20 + 5 * 20), 3 * 5 * 20)


def ticket(model: type[nn.Module]) -> Taken:
    problem = small.task(model=model)
    weights = problem.init()
    mask = Mask({n: torch.rand(v.shape, generator=torch.Generator().manual_seed(1)) < 0.5
                 for n, v in weights.items() if v.ndim > 1 and "norm" not in n})  # fmt: skip
    return Taken(problem, mask, mask(weights), {"round": 1}, {})


def test_a_shared_layer_and_a_shared_weight_are_sparse_in_all_their_places():
    taken = ticket(Several)
    sparse = with_csr(taken)
    assert sparse is not None
    assert sparse.again is sparse.same
    assert not any(isinstance(part, nn.Linear) for part in sparse.modules())


def hooked() -> nn.Module:
    module = small.perceptron()
    next(part for part in module.modules() if isinstance(part, nn.Linear)).register_forward_hook(
        lambda part, given, answered: 2 * answered + 1
    )
    return module


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (Encoder, {"csr": "cannot compute this network"}),
        (hooked, {"csr": "does not answer as the ticket does", "shrunk": "without the hooks"}),
        (small.convolutional, {}),
    ],
)
def test_what_cannot_compute_or_answers_otherwise_is_not_timed(model, told):
    absent = UserError("onnxruntime is not installed")
    with mock.patch("lth_runner.export.report.check_extra", side_effect=absent):
        report = measured(ticket(model), (1, 3), 2)
    told = {**told, "onnxruntime": "is not installed"}
    assert report.left_out.keys() == told.keys()
    for form, why in told.items():
        assert why in report.left_out[form]
    timed = {one.form for one in report.latencies}
    assert timed == {"dense", "masked", "shrunk", "csr"} - told.keys()


def test_a_shrunk_network_of_images_is_laid_channels_last_and_so_is_its_file(tmp_path):
    taken = ticket(small.convolutional)
    done = TO_FORMS["shrink"](taken, tmp_path / "small.pt2")
    assert done.agreement.within(1e-5)
    with (tmp_path / "small.pt2").open("rb") as opened:
        tensors = torch.export.load(opened).state_dict.values()
    last = [v.is_contiguous(memory_format=torch.channels_last) for v in tensors if v.ndim == 4]
    assert last
    assert all(last)
    assert all(v.is_contiguous() for v in taken.weights.values())  # the ticket's own stay


class Slashed(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten())
        self.add_module("x/y", nn.Linear(16, 3))


@pytest.mark.parametrize("form", ["csr", "bitmask", "semi_structured"])
def test_a_layer_whose_name_has_a_slash_is_read_back(form, tmp_path):
    taken = ticket(Slashed)
    even = {n: (torch.arange(16) % 4 < 2).expand_as(kept).clone() for n, kept in taken.mask.items()}
    facts = dict.fromkeys(("round", "sparsity"), 1)
    taken = Taken(taken.task, Mask(even), Mask(even)(taken.task.init()), facts, {})
    done = TO_FORMS[form](taken, tmp_path / "slash.safetensors")
    assert done.agreement.largest == 0.0
    found = export.load(tmp_path / "slash.safetensors")
    assert torch.equal(found["x/y.bias"], taken.weights["x/y.bias"])
