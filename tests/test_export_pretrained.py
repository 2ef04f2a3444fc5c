"""A ticket of a pretrained model, taken away as a folder that the library transformers reads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pretrained
import small
from file_size import full_disk
from lth_runner import export
from lth_runner.export.taken_ticket import Taken
from lth_runner.export.to_forms import TO_FORMS
from lth_runner.export.whole_file import finished
from lth_runner.problem import Covers, Delta, NextToken, Pretrained
from lth_runner.problem.models import HuggingFace
from lth_runner.problem.task import Task
from lth_runner.store.foreign import read_ticket_from
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.pieces import piece
from lth_runner.values.seeds import stream
from lth_runner.values.tree import Batch

transformers = pytest.importorskip("transformers")
BLOCKS = Covers(("linear", "attention_projection"), blocks=True)
FACTS = {"weights": "trained", "run": "r", "name": "n", "round": 1, "arm": "ticket", "seed": 0}
CLASSES = ("bad", "fair", "good")
HEADS = {"bert": "SequenceClassification", "gpt2": "CausalLM", "llama": "CausalLM"}


def taken(path: Path, family: str) -> Taken:
    """Half of the weights of a model's blocks, at random."""
    folder = pretrained.folder(path, family, f"For{HEADS[family]}", num_labels=3)
    pretrained.words(path, ["one", "two"])
    kind = "sequence_classification" if family == "bert" else "next_token"
    model = HuggingFace(folder, kind, num_classes=3)
    data = replace(pretrained.sentences(), class_names=CLASSES)
    if kind == "next_token":
        splits = [(x["input_ids"],) * 2 for x, _ in (data.train, data.val, data.test)]
        named = [({"input_ids": ids}, targets) for ids, targets in splits]
        data = pretrained.Data.from_tensors(*named, num_classes=pretrained.VOCABULARY)
    objective = {"objective": NextToken()} if kind == "next_token" else {}
    task = Task(model, data, covers=BLOCKS, origin=Pretrained(folder), **objective)
    rng = stream(0, "half")
    mask = Mask(
        {n: torch.rand(kept.shape, generator=rng) < 0.5 for n, kept in task.dense().items()}
    )
    return Taken(task, mask, mask(task.init()), {**FACTS, "sparsity": mask.sparsity}, {})


def test_weights_that_lie_at_odd_places_are_compared_as_torch_would_lay_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = taken(tmp_path / "model", "bert")
    loaded, read = HuggingFace.loaded, []

    def odd(model: HuggingFace, folder: Path) -> torch.nn.Module:  # as a file of 8 n bytes maps
        network = loaded(model, folder)
        for _, value in states.named_tensors(network):
            place = value.new_empty(value.numel() + 1)[1:].view(value.shape)
            value.data = place.copy_(value.data)
        read.append(network)
        return network

    monkeypatch.setattr(HuggingFace, "loaded", odd)
    assert export.to_pretrained(ticket, tmp_path / "folder").agreement.largest == 0
    places = [value.data_ptr() for _, value in states.named_tensors(read[-1])]
    assert not any(place % states.ALIGNMENT for place in places)


def test_a_full_disk_leaves_no_folder(tmp_path: Path) -> None:
    ticket = taken(tmp_path / "model", "bert")
    with full_disk(), pytest.raises(UserError, match="folder cannot be written"):
        export.to_pretrained(ticket, tmp_path / "folder")
    assert [one.name for one in tmp_path.iterdir()] == ["model"]
    vocabulary = tmp_path / "model" / "vocab.txt"  # larger than the weights: the disk is full later
    vocabulary.write_bytes(bytes(200_000))
    with full_disk(150_000), pytest.raises(UserError, match="folder cannot be written: File too"):
        export.to_pretrained(ticket, tmp_path / "folder")
    assert [one.name for one in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("family", HEADS)
def test_from_pretrained_reads_a_ticket_that_answers_to_the_bit(
    family: str, tmp_path: Path
) -> None:
    ticket = taken(tmp_path / "model", family)
    done = export.to_pretrained(ticket, tmp_path / "ticket.v1")
    assert done.agreement.largest == 0.0
    assert done.num_bytes == sum(file.stat().st_size for file in done.path.iterdir())
    assert len({file.stat().st_mode for file in done.path.iterdir()}) == 1  # all may be read
    auto = getattr(transformers, f"AutoModelFor{HEADS[family]}")
    network = auto.from_pretrained(done.path, local_files_only=True, dtype=torch.float32).eval()
    inputs = {"input_ids": torch.tensor([[4, 5, 6, 2]]), "attention_mask": torch.ones(1, 4).long()}
    with torch.no_grad():
        assert torch.equal(network(**inputs).logits, ticket.module()(**inputs))
    for name, kept in ticket.mask.items():
        assert not network.get_parameter(name)[~kept].any()
    config = json.loads((done.path / "config.json").read_text())
    assert config["use_cache"] is True  # as the model had it; off in training
    if family == "bert":
        assert network.config.id2label == dict(enumerate(CLASSES))
        assert network.config.label2id == {name: n for n, name in enumerate(CLASSES)}
    assert (done.path / "tokenizer.json").read_text() == (
        tmp_path / "model" / "tokenizer.json"
    ).read_text()
    assert json.loads((done.path / "lth-export.json").read_text())["round"] == 1


@pytest.mark.parametrize("form", ["shrink", pytest.param("onnx", marks=pytest.mark.slow)])
def test_a_program_of_a_pretrained_model_answers_logits_at_every_length_of_its_data(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = taken(tmp_path / "model", "bert")
    dead = {n: kept.clone() for n, kept in ticket.mask.items()}
    first = "bert.encoder.layer.0."
    dead[f"{first}intermediate.dense.weight"][:5] = False  # units that send a constant
    dead[f"{first}output.dense.weight"][:, 5:9] = False  # and some that nobody hears
    mask, whole = Mask(dead), pretrained.Data.batches
    ticket = Taken(ticket.task, mask, mask(ticket.weights), ticket.facts, {})

    def ragged(self: object, *given: object) -> Iterator[Batch]:
        for inputs, targets in whole(self, *given):
            length = 4 if inputs["input_ids"][0, 0] % 2 else 6
            yield {name: value[:, :length] for name, value in inputs.items()}, targets

    assert not ticket.lengths_differ
    monkeypatch.setattr(pretrained.Data, "batches", ragged)
    ticket = replace(ticket)
    assert ticket.lengths_differ
    target = tmp_path / f"ticket.{'pt2' if form == 'shrink' else 'onnx'}"
    done = TO_FORMS[form](ticket, target)
    assert done.agreement.num == 24
    if form == "shrink":
        loaded = torch.export.load(target).module()
        inputs = {"input_ids": torch.tensor([[4, 5, 2]]), "attention_mask": torch.ones(1, 3).long()}
        torch.testing.assert_close(loaded(**inputs), ticket.module()(**inputs))
        num = sum(value.numel() for value in ticket.module().parameters())
        assert done.notes[0] == f"{num - 9 * (16 + 1 + 16):,} of {num:,} parameters are left"


def test_two_of_four_of_inputs_that_lie_on_the_first_axis_are_packed_along_them(
    tmp_path: Path,
) -> None:
    ticket = taken(tmp_path / "model", "gpt2")
    dense = ticket.task.dense()
    inputs_first = Mask({n: (torch.arange(len(kept)) % 4 < 2)[:, None].expand_as(kept).clone()
                         for n, kept in dense.items()})  # fmt: skip
    start = ticket.task.init()
    good = Taken(ticket.task, inputs_first, inputs_first(start), ticket.facts, {})
    done = export.to_semi_structured(good, tmp_path / "good.safetensors")
    assert done.agreement.largest == 0.0
    found = export.load(tmp_path / "good.safetensors")
    assert all(torch.equal(found[name], good.weights[name]) for name in dense)
    assert "c_attn.weight" in done.notes[-1]  # which no kernel of a GPU takes
    outputs_first = Mask({n: (torch.arange(kept.shape[1]) % 4 < 2).expand_as(kept).clone()
                          for n, kept in dense.items()})  # fmt: skip
    bad = Taken(ticket.task, outputs_first, outputs_first(start), ticket.facts, {})
    with pytest.raises(UserError, match=r"c_attn\.weight.* are not 2:4"):
        export.to_semi_structured(bad, tmp_path / "bad.safetensors")


def test_a_written_folder_is_a_start_and_its_zeros_are_a_mask(tmp_path: Path) -> None:
    ticket = taken(tmp_path / "model", "bert")
    folder = export.to_pretrained(ticket, tmp_path / "ticket").path
    again = Task(HuggingFace(str(folder), num_classes=3), ticket.task.data,
                 covers=BLOCKS, origin=Pretrained(str(folder)))  # fmt: skip
    start = again.init()
    assert all(torch.equal(start[name], value) for name, value in ticket.weights.items())
    read = read_ticket_from(folder).masks.read()
    assert all(torch.equal(read[name], kept) for name, kept in ticket.mask.items())


def test_deltas_are_merged_in_the_folder(tmp_path: Path) -> None:
    ticket = taken(tmp_path / "model", "bert")
    delta = Delta(only=["*query.weight"], whole=["classifier*"])
    task = Task(ticket.task.model, ticket.task.data, coordinates=delta,
                origin=ticket.task.origin)  # fmt: skip
    weights = {name: value + 0.5 for name, value in task.init().items()}
    merged = task.merged(weights)
    mask = task.stock_names(task.dense())
    found = export.to_pretrained(Taken(task, mask, merged, FACTS, {}), tmp_path / "ticket")
    network = transformers.AutoModelForSequenceClassification.from_pretrained(found.path)
    assert torch.equal(network.get_parameter("classifier.bias"), merged["classifier.bias"])


def test_another_network_and_a_folder_that_is_there_are_refused(tmp_path: Path) -> None:
    task = small.task()
    other = Taken(task, task.dense(), task.init(), FACTS, {})
    with pytest.raises(UserError, match="for runs of model=hf: take checkpoint"):
        export.to_pretrained(other, tmp_path / "ticket")
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="exists: remove it"):
        export.to_pretrained(taken(tmp_path / "model", "bert"), tmp_path / "there")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "there"]


def test_nothing_stays_of_a_folder_that_was_not_finished(tmp_path: Path) -> None:
    pid = os.fork()
    if not pid:  # a process that ends in the middle
        left = piece(tmp_path / "ticket")
        left.mkdir()
        (left / "config.json").write_text("{}")
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(KeyError):
        _broken_off(tmp_path / "ticket")
    assert not list(tmp_path.iterdir())


def _broken_off(target: Path) -> None:
    with finished(target) as scratch:
        scratch.mkdir()
        (scratch / "config.json").write_text("{}")
        raise KeyError
