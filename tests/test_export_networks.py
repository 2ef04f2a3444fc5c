"""Networks of any kind are taken away: what is compared, and what is told of those that cannot."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import small
from lth_runner import export
from lth_runner.export import Taken
from lth_runner.export.agreement import Agreement, apart, compared, tolerated
from lth_runner.export.flops import flops
from lth_runner.export.report import measured
from lth_runner.export.to_forms import TO_FORMS
from lth_runner.problem import Delta, evaluated
from lth_runner.problem.task import Task
from lth_runner.runs.ended_weights import of_stock
from lth_runner.runs.one_run import one_run, trained_path
from lth_runner.training.network import fresh_network
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.state import row_major


def ticket(model: Callable[[], nn.Module]) -> Taken:
    """Half of the weights of a network, at random."""
    task = Task(model, small.blobs())
    weights, rng = task.init(), torch.Generator().manual_seed(1)
    mask = Mask({n: torch.rand(v.shape, generator=rng) < 0.5
                 for n, v in weights.items() if n in task.prunable})  # fmt: skip
    return Taken(task, mask, mask(weights), {"round": 1, "sparsity": 0.5}, {})


class Half(nn.Module):
    kind = torch.float16

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = (nn.Linear(*size, dtype=self.kind) for size in ((16, 64), (64, 3)))

    def forward(self, inputs: Tensor) -> Tensor:
        answered: Tensor = self.last(F.relu(self.first(inputs.flatten(1).to(self.kind))))
        return answered


class Brain(Half):
    kind = torch.bfloat16


def test_answers_are_held_to_the_precision_that_a_network_has() -> None:
    single, half, brain = ticket(small.perceptron), ticket(Half), ticket(Brain)
    assert tolerated(single, 1e-4) == 1e-4
    assert tolerated(half, 1e-4) == 4 / 2**10
    assert tolerated(brain, 1e-5) == 4 / 2**7
    assert tolerated(brain, 0.0) == 0.0  # a copy is a copy


@pytest.mark.slow
def test_a_network_in_half_precision_becomes_onnx_and_one_in_bf16_is_refused(
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnxruntime")
    assert export.to_onnx(ticket(Half), tmp_path / "half.onnx").agreement.num == 48
    with pytest.raises(export.Disagreement, match=r"cannot be read back: .*NOT_IMPLEMENTED"):
        export.to_onnx(ticket(Brain), tmp_path / "brain.onnx")
    assert [one.name for one in tmp_path.iterdir()] == ["half.onnx"]


def test_a_runtime_that_cannot_read_a_form_leaves_it_out_of_the_report() -> None:
    broken = RuntimeError("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED\nmore")
    with mock.patch("lth_runner.export.report._in_onnxruntime", side_effect=broken):
        report = measured(ticket(Brain), (1,), 2)
    why = "it cannot compute this network: [ONNXRuntimeError] : 9 : NOT_IMPLEMENTED (RuntimeError)"
    assert report.left_out["onnxruntime"] == why
    assert {one.form for one in report.latencies} >= {"dense", "masked", "shrunk"}


def test_too_little_memory_is_no_disagreement() -> None:
    short = RuntimeError("can't allocate memory: you tried to allocate 9 bytes")

    def fails(*given: object) -> Tensor:
        raise short

    for read in (fails, lambda: fails):
        with pytest.raises(RuntimeError, match="allocate"):
            compared(ticket(small.perceptron), read)


def test_what_is_no_number_on_both_sides_is_alike_and_on_one_is_not() -> None:
    wanted = torch.tensor([[1.0, math.nan, math.inf]])
    assert apart(wanted, wanted.clone()) == (0.0, 1.0)
    assert math.isnan(apart(wanted, torch.tensor([[1.0, 2.0, math.inf]]))[0])
    assert math.isnan(apart(torch.tensor([[1.0]]), torch.tensor([[math.nan]]))[0])
    other = Agreement("test", 1, math.nan, 1.0, {})
    assert other.off == "an output is NaN where the other is a number"
    assert not other.within(1.0)


class Counted(nn.Module):
    """Keeps a state of its own: a tensor, or what is none."""

    is_tensor = True

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.factor = nn.Linear(16, 3), torch.tensor(3.0)

    def get_extra_state(self) -> object:
        return self.factor if self.is_tensor else {"factor": 3.0}

    def set_extra_state(self, state: Tensor) -> None:
        self.factor = state

    def forward(self, inputs: Tensor) -> Tensor:
        answered: Tensor = self.layer(inputs.flatten(1)) * self.factor
        return answered


class Noted(Counted):
    is_tensor = False


@pytest.mark.parametrize("form", ["checkpoint", "csr", "bitmask"])
def test_extra_state_of_a_module_goes_along_where_it_is_a_tensor(form: str, tmp_path: Path) -> None:
    TO_FORMS[form](ticket(Counted), tmp_path / "ticket.safetensors")
    assert float(export.load(tmp_path / "ticket.safetensors")["_extra_state"]) == 3
    with pytest.raises(UserError, match=r"extra state that is no tensor .*take shrink or onnx"):
        TO_FORMS[form](ticket(Noted), tmp_path / "other.safetensors")
    assert len(list(tmp_path.iterdir())) == 1


class Renamed(nn.Module):
    """Writes its state under names that it does not take itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 3)
        self.register_state_dict_post_hook(rename)

    def forward(self, inputs: Tensor) -> Tensor:
        answered: Tensor = self.layer(inputs.flatten(1))
        return answered


def rename(module: nn.Module, state: dict[str, Tensor], *given: object) -> None:
    for name in list(state):
        state[f"net.{name}"] = state.pop(name)


@pytest.mark.parametrize("file", ["t.safetensors", "t.pt"])
def test_a_checkpoint_that_its_network_does_not_take_is_none(file: str, tmp_path: Path) -> None:
    with pytest.raises(export.Disagreement, match=r"does not take .* Missing key.*net\.layer"):
        export.to_checkpoint(ticket(Renamed), tmp_path / file)
    assert not list(tmp_path.iterdir())


class Mixed(nn.Module):
    """Convolutions of pictures and of volumes, whose weights have four axes and five."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.deep = nn.Conv2d(1, 4, 3, padding=1), nn.Conv3d(1, 4, (1, 3, 3))
        self.last = nn.Linear(64, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found = F.relu(self.deep(F.relu(self.flat(inputs))[:, None]))
        answered: Tensor = self.last(found.flatten(1))
        return answered


def test_weights_of_five_axes_stay_channels_first_in_training_and_in_a_program(
    tmp_path: Path,
) -> None:
    taken = ticket(Mixed)
    assert TO_FORMS["shrink"](taken, tmp_path / "small.pt2").agreement.within(1e-5)
    assert fresh_network(taken.task, small.recipe()).get_parameter("deep.weight").is_contiguous()


def test_flops_that_a_mask_removes_are_counted_exactly() -> None:
    layer = nn.Linear(6000, 6000, bias=False)
    kept = torch.ones(6000, 6000, dtype=torch.bool)
    kept.view(-1)[:1_234_567] = False
    assert flops(layer, torch.ones(1, 6000), {"weight": kept}).removed == 2 * 1_234_567


def test_a_network_of_tokens_is_asked_for_few_samples_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken, seen = ticket(small.perceptron), []
    monkeypatch.setattr(evaluated, "_num_tokens", lambda inputs: 16)
    monkeypatch.setattr(evaluated, "VALUES", 16 * 12 * 5)  # 12 are the widest layer's

    def answers(inputs: Tensor) -> Tensor:
        seen.append(len(inputs))
        found: Tensor = taken.lent(inputs)
        return found

    assert compared(taken, lambda: answers).num == 48
    assert max(seen) == 5


def test_a_run_is_found_from_within_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "outputs" / "name" / "0a1b"
    (folder / "tickets").mkdir(parents=True)
    (folder / "status.json").write_text("{}")
    store = trained_path(folder, {"training_key": "00ff"})
    for place, path in (
        ("outputs/name/0a1b/tickets", ".."), ("outputs/name/0a1b", "."), ("outputs/name", "0a1b"),
        ("outputs/name/0a1b", ".."), ("outputs", "name"), ("outputs", "name/0a1b"),
    ):  # fmt: skip
        monkeypatch.chdir(tmp_path / place)
        found = one_run(path)
        assert (found.parent.name, found.name) == ("name", "0a1b")
        assert found.samefile(folder)
        assert trained_path(found, {"training_key": "00ff"}).absolute() == store


class Turned(nn.Module):
    """Keeps a weight with its first axis innermost."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 64), nn.Linear(64, 3)
        self.first.weight = nn.Parameter(torch.randn(16, 64).t())

    def forward(self, inputs: Tensor) -> Tensor:
        answered: Tensor = self.last(F.relu(self.first(inputs.flatten(1))))
        return answered


@pytest.mark.parametrize("form", ["checkpoint", "task_vector"])
def test_merged_weights_lie_as_a_file_has_them_and_answer_to_the_bit(
    form: str, tmp_path: Path
) -> None:
    task = Task(Turned, small.blobs(), coordinates=Delta(only=["first.weight"], whole=["last*"]))
    own = {name: value + 0.1 for name, value in task.init().items()}
    mask, weights = of_stock(task, task.dense(), own)
    assert weights["first.weight"].is_contiguous()
    taken = Taken(task, mask, weights, {"round": 1, "sparsity": 0.0}, {}, own)
    assert TO_FORMS[form](taken, tmp_path / "ticket.safetensors").agreement.largest == 0


@pytest.mark.parametrize("shape", [(4, 3), (6, 1, 1, 5), (6, 5, 1, 1), (0, 3), ()])
def test_row_major_is_as_a_new_tensor_and_a_copy_only_of_what_is_not(
    shape: tuple[int, ...],
) -> None:
    plain = torch.randn(shape)
    assert row_major(plain) is plain
    axes = tuple(reversed(range(len(shape))))
    turned = plain.permute(axes).clone(memory_format=torch.contiguous_format).permute(axes)
    assert torch.equal(row_major(turned), plain)
    assert row_major(turned).stride() == plain.stride()


class Normed(nn.Sequential):
    def __init__(self) -> None:
        norm = nn.BatchNorm1d(64)
        super().__init__(
            nn.Flatten(), nn.Linear(16, 64), norm, nn.Linear(64, 64), nn.Linear(64, 64)
        )
        self[4].weight = self[3].weight


def test_two_of_four_goes_onto_a_gpu_with_running_statistics_and_shared_weights(
    tmp_path: Path,
) -> None:
    task = Task(Normed, small.blobs())
    mask = Mask({name: (torch.arange(kept.shape[1]) % 4 < 2).expand_as(kept).clone()
                 for name, kept in task.dense().items()})  # fmt: skip
    taken = Taken(task, mask, mask(task.init()), {"round": 1, "sparsity": 0.5}, {})
    export.to_semi_structured(taken, tmp_path / "ticket.safetensors")
    shapes = []

    def kernel(weight: Tensor) -> Tensor:
        shapes.append(tuple(weight.shape))
        return weight

    with (
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.sparse.to_sparse_semi_structured", kernel),
    ):
        path = tmp_path / "ticket.safetensors"
        placed = export.load_semi_structured(path, taken.stock(), device="cpu")
    assert shapes == [(64, 64)]
    assert placed.get_parameter("3.weight") is placed.get_parameter("4.weight")
    wanted, found = taken.lent(taken.inputs(8)), placed(taken.inputs(8).half())  # type: ignore[union-attr]
    assert (found - wanted).abs().max() <= 0.02 * wanted.abs().max()
