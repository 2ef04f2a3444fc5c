"""Tickets taken out of a run: each file is read back and answers as the ticket does, or is none."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import time
from dataclasses import replace
from importlib import util
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.sparse import _semi_structured_conversions as conversions

from command import lth_run
from documents import blocks, section, table
from file_size import full_disk
from lth_runner import export
from lth_runner.cli.export import main
from lth_runner.export import agreement, layouts, taken_ticket
from lth_runner.export.agreement import compared
from lth_runner.export.form import exported
from lth_runner.export.latency import Latency
from lth_runner.export.programs import blocked_by, traced_program
from lth_runner.export.report import Report, write
from lth_runner.export.to_forms import TO_FORMS
from lth_runner.export.two_of_four import check_round_trip
from lth_runner.export.whole_file import finished
from lth_runner.problem.answers import answer
from lth_runner.problem.objective import SquaredError
from lth_runner.problem.origin import File
from lth_runner.store.foreign import read_ticket_from
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.export_forms import SUFFIXES
from lth_runner.values.mask import Mask

DOCUMENT = (Path(__file__).parents[1] / "docs/export.md").read_text()
COMMON = (
    "model=mlp", "dataset=digits", "record=local", "train.length=40it", "device=cpu",
    "threads=1", "control=none", "probe=none",
)  # fmt: skip
TWO_OF_FOUR = ("pruner.scope=n_of_m", "pruner.sparsity=0.5")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ticket of 90 %, and 2:4 in the three ways that lead there."""
    root = tmp_path_factory.mktemp("user") / "outputs"
    wide = "model.widths=[64,30]"  # 30 inputs of the last layer are no groups of four
    for name, *options in (
        ("digits_imp", "pruner.sparsity=0.9", "pruner.rate=null", "pruner.rounds=2", "replicates=2",
         "model.widths=[24,16]"),
        ("once", "pruner=one_shot", *TWO_OF_FOUR, "replicates=1", wide),
        ("rounds", *TWO_OF_FOUR, "pruner.rate=0.25", "replicates=1", wide),
        ("ste", "pruner=sr_ste", "replicates=1", wide),
    ):  # fmt: skip
        found = lth_run(*COMMON, f"name={name}", f"paths.outputs={root}", *options)
        assert found.status == 0, found.err
    return root


@pytest.fixture(scope="module")
def taken(outputs: Path) -> export.Taken:
    return export.ticket(outputs / "digits_imp", round=2, seed=1)


def answers_of(taken: export.Taken, state: dict[str, Tensor]) -> Tensor:
    module = taken.fresh()
    module.load_state_dict(state)
    return answer(module, taken.inputs(40))


@pytest.mark.parametrize(
    ("form", "suffix"),
    [("checkpoint", ".safetensors"), ("csr", ".safetensors"), ("bitmask", ".safetensors")],
)
def test_a_file_of_tensors_gives_the_ticket_back_to_the_bit(taken, tmp_path, form, suffix):
    path = tmp_path / f"ticket{suffix}"
    found = getattr(export, f"to_{form}")(taken, path)
    assert torch.equal(
        answers_of(taken, export.load(path)), answer(taken.module(), taken.inputs(40))
    )
    assert found.agreement.largest == 0
    assert found.agreement.figures["accuracy"] == pytest.approx(taken.expected["test_accuracy"])
    with safe_open(path, framework="pt") as opened:
        said = opened.metadata()
    assert (said["weights"], said["round"], said["seed"]) == ("trained", "2", "1")


def test_files_of_what_stays_are_smaller_by_what_goes(taken, tmp_path):
    sizes = {}
    for form in ("checkpoint", "csr", "bitmask"):
        sizes[form] = getattr(export, f"to_{form}")(taken, tmp_path / f"{form}.safetensors")
    dense = sizes["checkpoint"].num_bytes
    assert sizes["bitmask"].num_bytes < sizes["csr"].num_bytes < dense / 2
    sparse = export.load_csr(tmp_path / "csr.safetensors")["linear1.weight"]
    assert sparse.layout == torch.sparse_csr
    assert torch.equal(sparse.to_dense(), taken.weights["linear1.weight"])


def test_a_checkpoint_of_torch_loads_by_weights_alone_and_says_which(outputs, tmp_path):
    started = export.ticket(outputs / "digits_imp", round=1, start=True)
    assert not started.expected  # the run recorded nothing of a network before its training
    export.to_checkpoint(started, tmp_path / "start.pt")
    found = torch.load(tmp_path / "start.pt", weights_only=True)
    assert found._metadata["lth-export"]["weights"] == "start"
    assert found._metadata["lth-export"]["form"] == "checkpoint"
    assert torch.equal(answers_of(started, found), answer(started.module(), started.inputs(40)))
    ended = export.ticket(outputs / "digits_imp", round=1)
    assert not torch.equal(ended.weights["linear1.weight"], found["linear1.weight"])


def test_a_shrunk_program_answers_without_the_network_s_code(outputs, tmp_path):
    taken = export.ticket(outputs / "digits_imp")
    export.to_shrink(taken, tmp_path / "small.pt2")
    with (tmp_path / "small.pt2").open("rb") as opened:
        program = torch.export.load(opened).module()
    for batch in (1, 2, 7):
        inputs = taken.inputs(batch)
        torch.testing.assert_close(
            program(inputs), answer(taken.module(), inputs), rtol=1e-5, atol=1e-5
        )


@pytest.mark.slow
def test_an_onnx_model_answers_alike_at_every_batch_size(taken, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    found = export.to_onnx(taken, tmp_path / "ticket.onnx")
    assert found.agreement.largest < 1e-5 * found.agreement.scale
    model = onnxruntime.InferenceSession(tmp_path / "ticket.onnx")
    assert model.get_modelmeta().custom_metadata_map["weights"] == "trained"
    content = (tmp_path / "ticket.onnx").read_bytes()
    assert str(Path(export.__file__).parents[1]).encode() not in content  # no path of this machine
    for batch in (1, 5):
        inputs = taken.inputs(batch)
        (given,) = model.run(None, {"input": inputs.numpy()})
        torch.testing.assert_close(torch.from_numpy(given), answer(taken.module(), inputs))


@pytest.mark.parametrize("run", ["once", "rounds", "ste"])
def test_every_way_to_two_of_four_ends_in_a_mask_that_is_taken(outputs, tmp_path, run):
    taken = export.ticket(outputs / run)
    found = export.to_semi_structured(taken, tmp_path / "ticket.safetensors")
    assert torch.equal(
        answers_of(taken, export.load(tmp_path / "ticket.safetensors")),
        answer(taken.module(), taken.inputs(40)),
    )
    assert any("left dense" in note and "output.weight" in note for note in found.notes)
    with safe_open(tmp_path / "ticket.safetensors", framework="pt") as opened:
        packed = opened.get_tensor("linear1.weight/values")
        places = opened.get_tensor("linear1.weight/places")
    assert packed.numel() == taken.weights["linear1.weight"].numel() // 2
    assert places.nbytes == taken.weights["linear1.weight"].numel() // 8


def test_what_goes_onto_a_gpu_is_given_to_its_kernels_where_they_take_it(outputs, tmp_path):
    taken, path = export.ticket(outputs / "once"), tmp_path / "ticket.safetensors"
    export.to_semi_structured(taken, path)
    shapes = []

    def kernel(weight: Tensor) -> Tensor:  # PyTorch's own layout of CUTLASS, and back
        assert weight.is_contiguous()
        shapes.append(tuple(weight.shape))
        laid = conversions.sparse_semi_structured_from_dense_cutlass(weight)
        return conversions.sparse_semi_structured_to_dense_cutlass(*laid)

    with (
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.sparse.to_sparse_semi_structured", kernel),
    ):
        placed = export.load_semi_structured(path, taken.stock(), device="cpu")
    assert shapes == [(64, 64)]  # 30 outputs are no multiple of 32
    inputs = taken.inputs(8)
    wanted = answer(taken.lent, inputs)
    assert (answer(placed, inputs.half()) - wanted).abs().max() <= 0.02 * wanted.abs().max()


def test_what_is_not_two_of_four_is_refused_by_name_and_nothing_is_written(taken, tmp_path):
    mask = {name: torch.ones_like(kept) for name, kept in taken.mask.items()}
    mask["linear2.weight"][0, 0] = False  # three of four
    other = replace(taken, mask=Mask(mask), weights=Mask(mask)(taken.weights))
    with pytest.raises(UserError, match=r"linear2\.weight is not 2:4"):
        export.to_semi_structured(other, tmp_path / "ticket.safetensors")
    assert not any(tmp_path.iterdir())


def test_torch_s_own_converters_spoil_what_is_not_two_of_four_and_that_is_seen():
    weight = torch.randn(32, 64)
    with pytest.raises(UserError, match="dense is not 2:4"):
        check_round_trip("dense", weight)
    kept = torch.tensor([True, False, False, True]).repeat(32, 16)
    check_round_trip("pattern", weight * kept)


@pytest.mark.parametrize("shape", [(3, 8), (5, 4, 3, 2), (1, 12, 1), (6, 8, 1, 1)])
def test_layouts_keep_every_bit_and_stride_whatever_the_axes(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    kept = torch.zeros(shape, dtype=torch.bool)
    kept[:, 1::4], kept[:, 2::4] = True, True
    kept[0, 1] = False  # a group with fewer
    weight = weight * kept
    weight[:, 2] = 0.0  # kept, and zero
    for to, back in (
        (layouts.to_csr, layouts.from_csr),
        (layouts.to_bitmask, layouts.from_bitmask),
        (layouts.to_semi_structured, layouts.from_semi_structured),
    ):
        found = back(to(weight, kept), shape)
        assert torch.equal(found, weight)
        assert found.stride() == weight.stride()  # by which a convolution chooses its kernel
    assert layouts.is_two_of_four(kept)


def test_a_file_that_answers_otherwise_is_never_there(taken, tmp_path):
    def spoilt(weight: Tensor, kept: Tensor) -> dict[str, Tensor]:
        return layouts.to_csr(weight * 1.01, kept)

    with (
        mock.patch.object(export.to_forms.CSR.__class__, "write", _spoilt(spoilt)),
        pytest.raises(export.Disagreement, match="does not answer as the ticket does"),
    ):
        export.to_csr(taken, tmp_path / "ticket.safetensors")
    assert not any(tmp_path.iterdir())


def _spoilt(pack):
    write = type(export.to_forms.CSR).write
    return lambda form, ticket, path: write(replace(form, pack=pack), ticket, path)


def test_weights_that_do_not_reach_the_run_s_own_figure_are_not_exported(taken):
    other = {n: v + torch.randn_like(v) if v.ndim > 1 else v for n, v in taken.weights.items()}
    wrong = replace(taken, weights=taken.mask(other))
    with pytest.raises(UserError, match="it is not the network that was trained"):
        compared(wrong, lambda: lambda inputs: answer(wrong.module(), inputs))


def test_put_away_between_the_answers_a_ticket_compares_as_before(taken, tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    states.save(path, taken.weights, {})
    mapped = replace(taken, weights=states.load(path)[0], expected={})
    mapped.weights["output.bias"][0] += 1.0  # what was written to stays, in no file
    wanted, module = states.copied(mapped.weights), mapped.module()

    def found() -> export.Agreement:
        return compared(mapped, lambda: lambda inputs: answer(module, inputs))

    whole = found()
    monkeypatch.setattr(taken_ticket, "LARGE", 0)
    monkeypatch.setattr(agreement, "HELD", 1)  # after every batch
    assert found() == whole
    assert all(torch.equal(mapped.weights[name], value) for name, value in wanted.items())


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_answers_are_held_to_a_share_of_the_largest_however_large_that_is(taken, scale):
    last = "output.weight"
    weights = {n: scale * v if n == last else 0 * v if n == "output.bias" else v
               for n, v in taken.weights.items()}  # fmt: skip
    small = replace(taken, weights=weights, expected={})
    module = small.module()

    def off(share: float) -> bool:
        return compared(small, lambda: lambda inputs: (1 + share) * answer(module, inputs)).within(
            1e-3
        )

    assert off(0.9e-3)
    assert not off(2e-3)
    assert not off(-1.0)  # nothing but zeros
    assert compared(small, lambda: lambda inputs: answer(module, inputs)).within(0.0)
    assert not compared(small, lambda: lambda inputs: answer(module, inputs) * 1.0001).within(0.0)


class Numbers:
    """Data whose labels are numbers that a network of ten outputs comes near to."""

    def __init__(self, data):
        self.data = data

    def batches(self, split, size):
        for inputs, labels in self.data.batches(split, size):
            yield inputs, F.one_hot(labels, 10).float()


def test_an_error_is_held_to_a_share_of_itself_and_not_to_samples(taken):
    task = replace(taken.task, objective=SquaredError(), data=Numbers(taken.task.data))
    ours = replace(taken, task=task, expected={})
    loss = compared(ours, lambda: lambda inputs: answer(taken.lent, inputs)).figures["loss"]
    for expected in (loss, 0.9995 * loss):
        compared(replace(ours, expected={"test_loss": expected}), ours.module)
    for expected in (1.01 * loss, 1e-3):  # of 360 samples, two are more than that
        with pytest.raises(UserError, match="has test_loss"):
            compared(replace(ours, expected={"test_loss": expected}), ours.module)


def test_a_kill_in_the_middle_leaves_no_file_and_the_next_export_clears_up(taken, tmp_path):
    path = tmp_path / "ticket.safetensors"
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException), finished(path) as scratch:
            scratch.write_bytes(b"half of it")
            time.sleep(600)
        os._exit(1)
    while not (left := [found for found in tmp_path.iterdir() if found.stat().st_size]):
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert left[0].exists()
    assert not path.exists()
    export.to_csr(taken, path)
    assert list(tmp_path.iterdir()) == [path]


def test_the_python_of_the_docs_runs_as_written(outputs, tmp_path, monkeypatch, capsys):
    (tmp_path / "outputs").symlink_to(outputs)
    monkeypatch.chdir(tmp_path)
    for source in blocks(DOCUMENT, "python"):
        exec(compile(source, "docs/export.md", "exec"), {})
    assert capsys.readouterr().out.startswith("0.9")
    assert (tmp_path / "ticket.safetensors").exists()


def test_forms_and_options_of_the_docs_are_those_of_the_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    taken = set(re.findall(r"(?<=\[|\s)(--[a-z-]+)", capsys.readouterr().out)) - {"--help"}
    assert set(table(section(DOCUMENT, "Which ticket"))) == taken
    listed = {name.split("/")[0] for name in table(section(DOCUMENT, "Forms"))} - {"fc.weight"}
    assert listed == set(SUFFIXES) == set(TO_FORMS)


# --- what is refused, each in one message, exit status 2, nothing written


def refused(capsys, *words: object) -> str:
    assert main(list(map(str, words))) == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert said.err.startswith("lth-export: ")
    assert said.err.count("\n") == 1
    return said.err


def test_the_command_says_what_it_wrote(outputs, tmp_path, capsys):
    words = (
        outputs / "digits_imp",
        "--round",
        2,
        "--as",
        "bitmask",
        "--to",
        tmp_path / "t.safetensors",
    )
    assert main(list(map(str, words))) == 0
    said = capsys.readouterr().out
    assert "sparsity 90 %, trained weights" in said
    assert f"written  {tmp_path / 't.safetensors'}" in said
    assert f"{tmp_path / 't.safetensors'} exists" in refused(capsys, *words)


def test_each_wrong_word_is_told_and_leaves_nothing(outputs, tmp_path, capsys):
    run, to = outputs / "digits_imp", tmp_path / "t.safetensors"
    csr = ("--as", "csr", "--to", to)
    for words, told in (
        ((run, "--round", 9, *csr), "has no round 9"),
        ((run, "--sparsity", 0.67, *csr), "no round of sparsity 0.67"),
        ((run, "--seed", 9, *csr), "has no seed 9"),
        ((run, "--arm", "reinit", *csr), "has no arm 'reinit'"),
        ((run, "--round", 0, *csr), "removes nothing"),
        ((outputs / "none", *csr), "is no run folder"),
        ((run, "--as", "onnx", "--to", to), "is written to a file *.onnx"),
        ((run, "--as", "csr", "--to", tmp_path / "no" / "t.safetensors"), "there is no folder"),
        ((run, "--as", "semi_structured", "--to", to), "not 2:4"),
    ):  # fmt: skip
        assert told in refused(capsys, *words)
    assert not any(tmp_path.iterdir())
    with mock.patch("lth_runner.runs.rebuilt.make_task", side_effect=AssertionError("built")):
        long = tmp_path / ("t" * 250 + ".safetensors")  # a name that no file can have
        assert "cannot be written" in refused(capsys, run, "--as", "csr", "--to", long)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--as csr", "--as FORM and --to PATH go together"),
        ("--as csr --to t.safetensors --batches 1", "--batches goes with --report"),
        ("--as csr --to t.safetensors --repetitions 30", "--repetitions goes with --report"),
        ("--report saved.json --samples 3", "--samples goes with --to"),
        ("--report saved.json --sparsity 20", "'20': give the share of the weights"),
        ("--report saved.json --sparsity x", "'x': give the share of the weights"),
    ],
)
def test_words_that_mean_nothing_together_are_told(capsys, words, told):
    with pytest.raises(SystemExit):
        main(["outputs/none", *words.split()])
    assert told in capsys.readouterr().err


def test_what_a_file_that_is_read_is_not_is_said(outputs, taken, tmp_path):
    (ours, cut, torn) = (tmp_path / f"{name}.safetensors" for name in ("ours", "cut", "torn"))
    export.to_csr(taken, ours)
    content = ours.read_bytes()
    cut.write_bytes(content[:-9])
    torn.write_bytes(content[:-9] + bytes(9))
    [ticket, *_] = outputs.glob("digits_imp/*/tickets/*.safetensors")
    (tmp_path / "text").write_text("no")
    states.save(tmp_path / "newer", {}, {"made_by": "lth-export", "form": "cubes"})
    os.mkfifo(tmp_path / "pipe")
    for path, told in (
        (ticket, "was not written by lth-export"),
        (tmp_path / "text", "was not written by lth-export"),
        (cut, "is not what lth-export wrote"),
        (torn, "is not what lth-export wrote"),
        (tmp_path / "none", "there is no file"),
        (tmp_path / "newer", "is of the form 'cubes', and this version"),
        (tmp_path / "pipe", "cannot be read: it is a named pipe"),
        (tmp_path, "cannot be read: "),
    ):
        for read in (export.load, export.load_csr):
            with pytest.raises(UserError, match=f"{path.name}.* {told}|{told}.*{path.name}"):
                read(path)


def test_a_packed_file_is_no_ticket_and_no_origin_and_says_what_to_take(taken, tmp_path):
    export.to_bitmask(taken, tmp_path / "bits.safetensors")
    for read, form in (
        (export.load_csr, "csr"), (export.TaskVector.load, "task_vector"),
        (lambda path: export.load_semi_structured(path, taken.stock()), "semi_structured"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"of the form bitmask, not {form}: read it by lth_run"):
            read(tmp_path / "bits.safetensors")
    for read in (read_ticket_from, lambda path: list(File(str(path)).tensors())):
        with pytest.raises(UserError, match=r"as bitmask, which packs .* --as checkpoint"):
            read(tmp_path / "bits.safetensors")


class Broken:
    """A form whose file cannot be asked, or answers with something else."""

    def __init__(self, answers) -> None:
        self.name, self.suffixes, self.tolerance, self._answers = "broken", (".x",), 0.0, answers

    def check(self, ticket) -> None: ...

    def write(self, ticket, path) -> tuple[str, ...]:
        path.write_text("something")
        return ()

    def read(self, path, ticket):
        return self._answers


def fails(inputs: Tensor) -> Tensor:
    raise KeyError(len(inputs))


@pytest.mark.parametrize(
    ("answers", "told"),
    [(fails, r"cannot answer inputs of the shape \(1, 1, 8, 8\): 1"), (dict, "cannot answer"),
     (lambda inputs: {"logits": inputs}, "answers with a dict")],
)  # fmt: skip
def test_a_file_that_cannot_be_asked_or_answers_no_tensor_is_told(taken, tmp_path, answers, told):
    with pytest.raises(export.Disagreement, match=told):
        exported(taken, tmp_path / "t.x", Broken(answers))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("form", "file"),
    [("checkpoint", "t.safetensors"), ("checkpoint", "t.pt"), ("shrink", "t.pt2"),
     ("csr", "t.safetensors")],
)  # fmt: skip
def test_a_full_disk_is_told_and_leaves_nothing(taken, tmp_path, form, file):
    with full_disk(), pytest.raises(UserError, match=f"{file} cannot be written: File too large"):
        TO_FORMS[form](taken, tmp_path / file)
    assert not list(tmp_path.iterdir())


def test_of_a_report_that_a_full_disk_does_not_take_nothing_is_left(tmp_path):
    of = {"name": "a $^$ b", "run": "r", "round": 1, "sparsity": 0.5}  # which is no formula
    machine = {"processor": "x", "threads": 1, "gpu": None, "torch": "2", "lth_runner": "0"}
    found = Report(of, machine, 30, [], [Latency("dense", 1, 1.0, 0.9, 1.1)], {})
    write(found, tmp_path / "first.json")  # pictures have files of their own to write at first
    with full_disk(100), pytest.raises(UserError, match="cannot be written: File too large"):
        write(found, tmp_path / "r.json")
    assert {one.name for one in tmp_path.iterdir()} == {"first.json", "first.png"}


def test_an_extra_that_is_not_installed_is_named(outputs, tmp_path, capsys):
    find = util.find_spec
    without = mock.patch(
        "lth_runner.export.programs.find_spec",
        lambda name: None if name == "onnxruntime" else find(name),
    )
    built = mock.patch("lth_runner.runs.rebuilt.make_task", side_effect=AssertionError("built"))
    with without, built:
        said = refused(capsys, outputs / "digits_imp", "--as", "onnx", "--to", tmp_path / "t.onnx")
    assert "onnxruntime" in said
    assert "pip install 'lth-runner[export]'" in said


@pytest.fixture
def copied(outputs: Path, tmp_path: Path) -> Path:
    """A run folder with its Store, to be changed."""
    shutil.copytree(outputs / "digits_imp", tmp_path / "outputs" / "imp")
    shutil.copytree(outputs / "store", tmp_path / "outputs" / "store")
    (folder,) = (tmp_path / "outputs" / "imp").iterdir()
    return folder


def test_a_run_that_is_not_done_or_has_changed_is_not_exported(copied, tmp_path, capsys):
    words = (copied, "--as", "csr", "--to", tmp_path / "t.safetensors")
    config = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(config.replace("lth_runner.problem.models.mlp", "mine.Net"))
    assert "No module named 'mine' (ModuleNotFoundError): call from" in refused(capsys, *words)
    (copied / "config.yaml").write_text(config)
    problem = json.loads((copied / "problem.json").read_text())
    changed = {**problem, "identity": {**problem["identity"], "code": {"mynet.Net": "1234"}}}
    (copied / "problem.json").write_text(json.dumps(changed))
    assert "changed since: the code of the network's modules" in refused(capsys, *words)
    changed["identity"] = problem["identity"] | {"data": "0"}
    (copied / "problem.json").write_text(json.dumps(changed))
    assert "changed since: the data" in refused(capsys, *words)
    (copied / "problem.json").write_text(json.dumps(problem))
    for end in (copied.parents[1] / "store").glob("entries/*/end.safetensors"):
        end.unlink()
    assert "the Store no longer holds" in refused(capsys, *words)
    (copied.parents[1] / "store").rename(tmp_path / "elsewhere")
    assert "there is no Store beside" in refused(capsys, *words)
    (copied / "status.json").unlink()
    assert "is not done" in refused(capsys, *words)
    assert not (tmp_path / "t.safetensors").exists()


class Loud(nn.Module):
    """Goes by its values, which no trace can."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * 2 if float(inputs.sum()) > 0 else inputs


def test_what_blocks_a_form_is_named():
    module = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), Loud()))
    call = (torch.ones(2, 4),), {}
    with (
        pytest.raises(UserError, match=r"onnx cannot take this network: 1\.1 \(Loud\) blocks it"),
        blocked_by(module, call, "onnx"),
    ):
        torch.export.export(module, call[0])


class Sequences(nn.Module):
    """Packs what it is given, all of one length, or begins with zeros of as many samples."""

    def __init__(self, packed: bool) -> None:
        super().__init__()
        self.memory, self.packed = nn.GRU(4, 3, batch_first=True), packed

    def forward(self, inputs: Tensor) -> Tensor:
        if self.packed:
            packed = pack_padded_sequence(inputs, [inputs.shape[1]] * 2, batch_first=True)
            return self.memory(packed)[1][-1]
        return self.memory(inputs, torch.zeros(1, len(inputs), 3))[1][-1]


def test_packed_sequences_block_a_form_in_plain_words():
    module, call = Sequences(packed=True), ((torch.ones(2, 5, 4),), {})
    told = r"shrink cannot take this network: memory \(GRU\) blocks it: .* no packed sequences"
    with pytest.raises(UserError, match=told), blocked_by(module, call, "shrink"):
        traced_program(module, *call, None)


@pytest.mark.filterwarnings("ignore:.*assigned during export:UserWarning")
def test_a_network_that_counts_its_samples_by_len_takes_batches_of_any_size():
    module, dynamic = Sequences(packed=False).eval(), ({0: torch.export.Dim.DYNAMIC},)
    program = traced_program(module, (torch.ones(2, 5, 4),), {}, dynamic).module()
    inputs = torch.randn(7, 5, 4)
    torch.testing.assert_close(program(inputs), module(inputs))


@pytest.mark.slow
def test_a_report_measures_every_form_and_writes_table_picture_and_json(outputs, tmp_path, capsys):
    words = (outputs / "once", "--report", tmp_path / "saved.json", "--batches", "1,4")
    assert main(list(map(str, words))) == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "saved.json").read_text())
    assert (tmp_path / "saved.png").read_bytes()[:4] == b"\x89PNG"
    forms = {one["form"]: one for one in found["sizes"]}
    assert forms["dense"]["num_parameters"] == forms["masked"]["num_parameters"]
    assert forms["masked"]["flops"] == forms["dense"]["flops"]  # a zero is multiplied, too
    assert forms["masked"]["num_bytes"] == forms["dense"]["num_bytes"]
    kept = 64 * 64 // 2 + 64 * 30 // 2 + 30 * 10
    assert forms["csr"]["flops"] == 2 * kept
    assert forms["semi_structured"]["num_bytes"] < forms["dense"]["num_bytes"]
    timed = {(one["form"], one["batch"]) for one in found["latencies"]}
    assert timed >= {(f, b) for f in ("dense", "masked", "shrunk", "csr") for b in (1, 4)}
    for one in found["latencies"]:
        assert 0 < one["lower"] <= one["median"] <= one["upper"]
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert found["machine"]["processor"] in said
    assert f"median [quartiles] of {found['repetitions']}" in said
