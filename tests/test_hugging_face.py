"""Networks of the library transformers and the weights that they were pretrained to."""

from __future__ import annotations

import functools
import json
import re
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import pretrained
from command import SMALL, folders, lth_run, no_training
from lanes import Memory, trained, whole_state
from lth_runner.allocate import Channels, NOfM, Rows
from lth_runner.allocate.n_of_m import best_of_groups
from lth_runner.masking import Static
from lth_runner.problem import Covers, Delta, NextToken, Pretrained
from lth_runner.problem.data import Data
from lth_runner.problem.fits import check_fits
from lth_runner.problem.models import HuggingFace, causal_transformer
from lth_runner.problem.retained import check_retained, refuse_other_answers
from lth_runner.problem.task import Task
from lth_runner.score import Magnitude, Score, Wanda
from lth_runner.search.ticket import Ticket
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.loop import Loop
from lth_runner.training.pace import Interrupted, Pace
from lth_runner.training.recipe import Recipe
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.state import State

pytest.importorskip("transformers")
BLOCKS = Covers(("linear", "attention_projection"), blocks=True)
ADAM = {"optimizer": torch.optim.AdamW, "length": "6it", "batch_size": 8, "eval_every": "3it"}
MATRICES = {  # of each of two blocks; T5's decoder has an attention more than its encoder
    "bert": 6, "roberta": 6, "distilbert": 6, "electra": 6, "deberta": 6, "deberta-v2": 8,
    "gpt2": 4, "opt": 6, "llama": 7, "t5": 6 + 10,
}  # fmt: skip
NO_MATRIX = re.compile("embed|class|pooler|norm|score|bias|wte|wpe", re.IGNORECASE)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BERT without head and pooler, as a model of masked tokens leaves it."""
    path = tmp_path_factory.mktemp("bert")
    pretrained.folder(path, "bert", "ForMaskedLM")
    return str(path)


def task(path: str, seed: int = 0, *, origin: bool = True, **options: Any) -> Task:
    model = pretrained.sequence_classifier(path, **options)
    start = Pretrained(path) if origin else None
    return Task(model, pretrained.sentences(), seed, origin=start)


def equal(one: State, other: State) -> list[str]:
    return [name for name in one if torch.equal(one[name], other[name])]


# --- networks


@pytest.mark.parametrize("family", pretrained.FAMILIES)
def test_any_architecture_is_drawn_by_seed_and_answers_by_what_a_state_holds(
    family: str, tmp_path: Path
) -> None:
    path = pretrained.folder(tmp_path, family)
    one = task(path, origin=False)
    check_fits(one)
    start = one.init()
    assert states.fingerprint(task(path, origin=False).init()) == states.fingerprint(start)
    assert len(equal(start, one.with_seed(1).init())) < len(start)
    assert one.is_shipped
    check_retained(Task(_as_a_users(one.model), one.data))
    network = one.module()
    states.write(network, start)
    refuse_other_answers(one, network, start)
    covered = Task(one.model, one.data, covers=BLOCKS).prunable
    assert len(covered) == 2 * MATRICES[family]
    assert not [name for name in covered if NO_MATRIX.search(name)]


def _as_a_users(model: Any) -> Any:
    """The same builder, which nobody vouches for."""

    class Mine:
        def __init__(self) -> None:
            self.__module__ = "mine"

        def __call__(self) -> torch.nn.Module:
            return model()

    return Mine()


def test_gpt2s_transposed_matrices_are_linear_layers_that_no_axis_is_told_of(
    tmp_path: Path,
) -> None:
    path = pretrained.folder(tmp_path, "gpt2")
    found = task(path, origin=False)
    name = "transformer.h.0.attn.c_attn.weight"
    assert name in found.prunable
    assert found.kind(name) == "transposed_linear"
    delta = replace(found, coordinates=Delta(only=["*.c_attn.weight"]))
    assert delta.evaluate(delta.init(), "test") == found.evaluate(found.init(), "test")
    with_biases = replace(found, biases=True).prunable
    assert "transformer.h.0.attn.c_attn.bias" in with_biases
    with pytest.raises(UserError, match=r"c_attn.* of the kind transposed_linear"):
        Channels().check_layers(found)
    blocks = replace(found, covers=BLOCKS)
    with pytest.raises(UserError, match=r"its outputs on the second axis.*n_of_m\.transposed"):
        NOfM(4).check_layers(blocks)
    NOfM(4, transposed=["*"]).check_layers(blocks)
    with pytest.raises(UserError, match=r"its outputs on the second axis.*rows\.transposed"):
        Rows().check_layers(replace(found, covers=BLOCKS))
    Rows(transposed=["*"]).check_layers(replace(found, covers=BLOCKS))


@pytest.mark.parametrize("score", [Magnitude(), Wanda(batch_size=5)], ids=["magnitude", "wanda"])
def test_n_of_m_of_gpt2s_matrices_lies_along_their_inputs(score: Score, tmp_path: Path) -> None:
    one = replace(task(pretrained.folder(tmp_path, "gpt2"), origin=False), covers=BLOCKS)
    scores = score(one, one.init(), one.dense())
    kept = NOfM(4, transposed=["*"])(scores, 0.5, one.dense(), 0)
    for name, values in scores.items():
        assert torch.equal(kept[name].t(), best_of_groups(values.t(), 2, 4))
        assert kept[name].t().unflatten(1, (-1, 4)).sum(2).unique().tolist() == [2]


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5", "deberta-v2"])
def test_wanda_has_the_inputs_of_every_matrix_without_those_at_padding(
    family: str, tmp_path: Path
) -> None:
    one = replace(task(pretrained.folder(tmp_path, family), origin=False), covers=BLOCKS)
    inputs = {name: value[:5].clone() for name, value in one.data.train[0].items()}
    real = torch.arange(pretrained.LENGTH) < torch.tensor([3, 5, 4, 5, 2])[:, None]
    inputs["attention_mask"] *= real
    split = inputs, one.data.train[1][:5]
    one = replace(one, data=Data.from_tensors(split, split, validation=0, num_classes=3))
    weights = one.init()
    found = Wanda(batch_size=5)(one, weights, one.dense())
    network = one.module().eval()
    states.write(network, weights)
    squares = dict.fromkeys(one.prunable, torch.zeros(()))

    def see(layer: torch.nn.Module, given: Any, *, name: str, kept: torch.Tensor) -> None:
        rows = given[0].detach().flatten(0, -2)
        rows = rows[kept] if len(rows) == len(kept) else rows
        squares[name] = squares[name] + rows.square().sum(0)

    for index, kept in enumerate(real):
        hooks = [
            network.get_submodule(n.removesuffix(".weight")).register_forward_pre_hook(
                functools.partial(see, name=n, kept=kept)
            )
            for n in one.prunable
        ]
        network(**{name: value[index : index + 1] for name, value in inputs.items()})
        for hook in hooks:
            hook.remove()
    for name, value in found.items():
        norm = squares[name].sqrt()[:, None] if family == "gpt2" else squares[name].sqrt()
        torch.testing.assert_close(value, weights[name].abs() * norm)


def test_blocks_are_found_in_any_transformer_with_a_pooler_where_it_is_asked_for(bert: str) -> None:
    pooler = replace(task(bert, origin=False), covers=Covers(blocks=True, pooler=True))
    assert len(pooler.prunable) == 13
    assert "bert.pooler.dense.weight" in pooler.prunable
    ours = causal_transformer(vocabulary=9, length=4, width=8, depth=3, heads=2)
    assert len(BLOCKS.names(ours)) == 3 * 6
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert len(BLOCKS.names(torch.nn.TransformerEncoder(layer, 2))) == 2 * 4
    with pytest.raises(UserError, match="no list of layers with an attention"):
        BLOCKS.names(torch.nn.Sequential(torch.nn.Linear(2, 2)))
    with pytest.raises(UserError, match="the model has no pooler"):
        Covers(blocks=True, pooler=True).names(ours)


def test_parameters_have_the_librarys_names_and_a_tied_one_is_one_tensor(bert: str) -> None:
    model = HuggingFace(bert, "masked_token")
    found = Task(model, pretrained.sentences())
    assert "bert.encoder.layer.0.attention.self.query.weight" in found.prunable
    decoder = {name for name in found.init() if "decoder" in name}
    assert not decoder  # the embeddings' weight and the head's bias, under their first names
    assert "bert.embeddings.word_embeddings.weight" not in found.prunable
    library = model._class.from_config(model._config)
    assert found.num_parameters == sum(value.numel() for value in library.parameters())


def test_a_questions_answer_has_a_logit_for_its_start_and_its_end_at_every_token(bert: str) -> None:
    module = HuggingFace(bert, "question_answering", 7)().eval()
    inputs, _ = pretrained.sentences().sample(3, 0)
    answer = module(**inputs, token_type_ids=torch.zeros_like(inputs["input_ids"]))
    assert answer.shape == (3, pretrained.LENGTH, 2)
    assert torch.equal(answer, module.qa_outputs(module.bert(**inputs).last_hidden_state))


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_model_of_the_next_token_sees_no_later_one(family: str, tmp_path: Path) -> None:
    path = pretrained.folder(tmp_path, family)
    module = HuggingFace(path, "next_token")().eval()
    tokens = torch.arange(3, 11)[None]
    other = tokens.clone()
    other[0, 5] = 30
    one, two = module(input_ids=tokens)[0], module(input_ids=other)[0]
    assert torch.allclose(one[:5], two[:5], atol=1e-6)
    assert not torch.allclose(one[5:], two[5:], atol=1e-6)


def test_two_models_are_one_where_their_configs_are_wherever_they_lie(
    bert: str, tmp_path: Path
) -> None:
    first = task(bert)
    there = tmp_path / "moved"
    shutil.copytree(bert, there)
    config = there / "config.json"
    written = json.loads(config.read_text())
    config.write_text(json.dumps(written | {"_name_or_path": "x/y", "transformers_version": "4.1"}))
    assert task(str(there)).identity == first.identity
    assert task(str(there)).origin == first.origin
    config.write_text(json.dumps(written | {"hidden_dropout_prob": 0.3}))
    assert task(str(there)).identity != first.identity
    dropout = {"config": {"hidden_dropout_prob": 0.3}}
    assert task(str(there)).identity == task(bert, **dropout).identity
    state = load_file(there / "model.safetensors")
    save_file({k: v + 1 for k, v in state.items()}, there / "model.safetensors", {"format": "pt"})
    assert task(str(there)).origin != first.origin
    told = json.dumps(first.identity)
    assert bert not in told
    assert "#source" not in told
    assert "transformers 5" in told


# --- pretrained weights


def test_pretrained_weights_are_laid_and_what_is_absent_is_drawn_by_seed_and_named(
    bert: str,
) -> None:
    one, held = task(bert), load_file(Path(bert) / "model.safetensors")
    start, drawn = one.init(), set(one.remainders.drawn)
    pooler = {f"bert.pooler.dense.{leaf}" for leaf in ("weight", "bias")}
    assert drawn == pooler | {"classifier.weight", "classifier.bias"}
    assert start.keys() - drawn == held.keys() & start.keys()
    assert all(torch.equal(start[name], held[name]) for name in start.keys() - drawn)
    assert all(name.startswith("cls.predictions.") for name in one.remainders.unused)
    fresh = task(bert, origin=False).init()
    assert set(equal(start, fresh)) >= drawn
    other = one.with_seed(1).init()
    assert {name for name in start if name not in equal(start, other)} == {
        "classifier.weight", "bert.pooler.dense.weight",
    }  # fmt: skip


def test_a_head_of_other_labels_is_refused_with_both_shapes_unless_it_is_to_be_fresh(
    tmp_path: Path,
) -> None:
    path = pretrained.folder(tmp_path, "bert", "ForSequenceClassification", num_labels=5)
    with pytest.raises(UserError, match=r"classifier.* shape \(5.*\(3.*origin.fresh"):
        task(path).init()
    model = pretrained.sequence_classifier(path)
    found = Task(model, pretrained.sentences(), origin=Pretrained(path, fresh=["classifier"]))
    assert found.remainders.drawn == ("classifier.weight", "classifier.bias")
    assert set(equal(found.init(), found.fresh(0))) == {"classifier.weight", "classifier.bias"}


def test_a_head_that_numbers_the_classes_otherwise_is_refused_unless_it_is_to_be_fresh(
    tmp_path: Path,
) -> None:
    named = {"num_labels": 3, "id2label": {0: "fair", 1: "Bad", 2: "good"}}
    path = pretrained.folder(tmp_path, "bert", "ForSequenceClassification", **named)
    model = pretrained.sequence_classifier(path)

    def problem(names: tuple[str, ...], **options: Any) -> Task:
        data = replace(pretrained.sentences(), class_names=names)
        return Task(model, data, origin=Pretrained(path, **options))

    with pytest.raises(
        UserError, match=r"fair, Bad, good in this order.* bad, fair, good: .*fresh"
    ):
        check_fits(problem(("bad", "fair", "good")))
    check_fits(problem(("bad", "fair", "good"), fresh=["classifier"]))
    for names in (("fair", "bad", "good"), ("x", "y", "z"), ()):  # its own, others, numbers alone
        check_fits(problem(names))
    assert problem(()).remainders.classes == ("fair", "Bad", "good")
    assert not task(pretrained.folder(tmp_path / "no_head", "bert", "ForMaskedLM", **named)
                    ).remainders.classes  # fmt: skip


def test_a_head_is_drawn_anew_by_its_own_name_and_given_in_whole_or_not_at_all(
    tmp_path: Path,
) -> None:
    named = {"num_labels": 3, "id2label": {0: "fair", 1: "bad", 2: "good"}}
    for family, head in (("gpt2", "score"), ("distilbert", "pre_classifier,classifier")):
        path = pretrained.folder(tmp_path / family, family, "ForSequenceClassification", **named)
        model = pretrained.sequence_classifier(path)
        data = replace(pretrained.sentences(), class_names=("bad", "fair", "good"))
        with pytest.raises(UserError, match=rf"\(origin\.fresh=\[{head}\]\)"):
            check_fits(Task(model, data, origin=Pretrained(path)))
        fresh = [head.split(",")[-1]]
        check_fits(Task(model, data, origin=Pretrained(path, fresh=fresh)))


def test_weights_of_another_body_and_networks_of_another_library_are_refused(
    bert: str, tmp_path: Path
) -> None:
    there = tmp_path / "half"
    shutil.copytree(bert, there)
    state = load_file(there / "model.safetensors")
    kept = {name: value for name, value in state.items() if ".layer.1." not in name}
    save_file(kept, there / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks bert\.encoder\.layer\.1.*and 12 more.*fresh"):
        task(str(there)).init()
    with pytest.raises(UserError, match="the model is a Linear: choose model=hf"):
        Pretrained(bert).lay(torch.nn.Linear(2, 2))


def test_a_gguf_file_is_read_as_config_and_weights(tmp_path: Path) -> None:
    path = gguf_llama(tmp_path)
    model = HuggingFace(path, "next_token")
    found = Task(model, pretrained.sentences(), origin=Pretrained(path), objective=NextToken())
    assert model.described["model_type"] == "llama"
    assert found.remainders.drawn == ()
    held = {"model.embed_tokens.weight": 0.5, "model.layers.1.mlp.up_proj.weight": 0.25}
    start = found.init()
    assert all(bool((start[name] == value).all()) for name, value in held.items())
    file = next(Path(path).glob("*.gguf"))
    assert HuggingFace(str(file), "next_token") == model
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError, match=r"is a GGUF file that transformers .* cannot read"):
        HuggingFace(path, "next_token")


def gguf_llama(path: Path) -> str:
    """A folder with a Llama of one file, its matrices constant."""
    import gguf
    import numpy

    width, hidden = 32, 64
    writer = gguf.GGUFWriter(str(path / "small.gguf"), "llama")
    writer.add_block_count(2)
    writer.add_context_length(pretrained.POSITIONS)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // 2)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(pretrained.VOCABULARY)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"t{n}" for n in range(pretrained.VOCABULARY)])
    writer.add_token_scores([0.0] * pretrained.VOCABULARY)

    def add(name: str, value: float, *shape: int) -> None:
        writer.add_tensor(f"{name}.weight", numpy.full(shape, value, dtype=numpy.float32))

    add("token_embd", 0.5, pretrained.VOCABULARY, width)
    add("output_norm", 1.0, width)
    for layer in (f"blk.{number}" for number in range(2)):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"{layer}.{name}", 0.125, width, width)
        for name in ("ffn_gate", "ffn_up"):
            add(f"{layer}.{name}", 0.25, hidden, width)
        add(f"{layer}.ffn_down", 0.25, width, hidden)
        for name in ("attn_norm", "ffn_norm"):
            add(f"{layer}.{name}", 1.0, width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


# --- trainings


def test_dropout_without_a_module_is_seeded_and_a_killed_training_ends_with_the_same_bits(
    tmp_path: Path,
) -> None:
    found = task(pretrained.folder(tmp_path, "llama"), origin=False, config={"pad_token_id": 0})
    assert not any(isinstance(part, torch.nn.Dropout) for _, part in found.named_modules())
    assert found.is_random
    job, recipe = job_of(found), Recipe(**ADAM, micro_batch=3)
    [whole] = trained([job], recipe, by=Sequential())
    keeper, asked = Memory(), []

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 4

    with pytest.raises(Interrupted):
        trained([job], recipe, by=Sequential(), keepers=[keeper], pace=Pace(stop))
    assert whole_state(keeper.load())[3] == 4
    [resumed] = trained([job], recipe, by=Sequential(), keepers=[keeper])
    assert states.fingerprint(resumed.weights) == states.fingerprint(whole.weights)
    assert whole.history == resumed.history


def job_of(found: Task) -> Job:
    return Job(found, Ticket(found.dense(), found.init()), Static())


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_activations_that_are_computed_again_give_the_same_bits(bert: str, dropout: float) -> None:
    # with dropout, only since its random numbers are drawn again as well
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    found, watched = task(bert, config=rates), []
    plain = trained([job_of(found)], Recipe(**ADAM), by=Sequential())
    loop = Loop(job_of(found), Recipe(**ADAM, recompute=True), None)
    inner = loop.model.bert.encoder.layer[0].attention.self.query
    inner.register_forward_pre_hook(lambda *_: watched.append(1))
    loop.backward()
    assert len(watched) == 2
    again = trained([job_of(found)], Recipe(**ADAM, recompute=True), by=Sequential())
    assert states.fingerprint(again[0].weights) == states.fingerprint(plain[0].weights)
    assert again[0].history == plain[0].history


# --- the command line


def command(path: str, root: Path, *more: str, outputs: Path) -> list[str]:
    own = (
        "dataset=text", f"dataset.root={root}", f"dataset.vocabulary={pretrained.VOCABULARY}",
        "dataset.length=6", "model=hf", f"model.path={path}", "origin=hf",
        "control=none", "train.optimizer.lr=0.01", f"paths.outputs={outputs}",
    )  # fmt: skip
    mine = [w for w in SMALL if not w.startswith(("dataset", "model", "control", "train.opt"))]
    return [*mine, *own, *more]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    root = tmp_path / "texts"
    root.mkdir()
    for split, num in (("train", 64), ("dev", 8), ("test", 16)):
        lines = [f"{n % 2}\t{'good' if n % 2 else 'bad'} word{n % 7} film" for n in range(num)]
        (root / f"{split}.tsv").write_text("\n".join(["label\ttext", *lines, ""]))
    return root


def test_a_run_says_what_is_drawn_and_a_moved_folder_is_the_same_run(
    bert: str, texts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outputs, short = tmp_path / "outputs", ("train.shrink_to=3it", "replicates=1")
    said = lth_run(*command(bert, texts, *short, outputs=outputs))
    assert said.status == 0, said.err
    names = "bert.pooler.dense.weight, bert.pooler.dense.bias, classifier.weight, classifier.bias"
    assert f"origin   lacks {names}: drawn by the seed" in caplog.text
    assert "origin   cls.predictions.bias, " in caplog.text
    [run] = folders(outputs)
    problem = json.loads((run / "problem.json").read_text())
    assert problem["drawn"] == names.split(", ")
    there = tmp_path / "elsewhere"
    shutil.copytree(bert, there)
    with no_training():
        again = lth_run(*command(str(there), texts, *short, outputs=outputs))
    assert again.status == 0, again.err
    assert folders(outputs) == [run]


def test_the_library_that_is_missing_is_named(bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"needs the library transformers.*lth-runner\[nlp\]"):
        HuggingFace(bert)


WRONG = {
    "model.path=nobody/none": r"no model of that name in the cache.*model\.download=true.*copy",
    "model.path=/nowhere": "there is no such folder",
    "model.path=nobody/none dataset/tokenizer=file": "no model of that name in the cache",
    "model.path={texts}": "is no folder of a model: it holds no config.json",
    "model.path={texts}/train.tsv": "is a file: give the folder",
    "model.task=summary": "accepted: masked_token",
    "model.task=next_token model.path={deberta}": "no such head for deberta models.*accepted: seq",
    "dataset.length=21": r"more than the 20 positions .*dataset\.length=20",
    "dataset.length=21 model.length=null": "samples have 21 tokens, but the model has 20 positions",
    "dataset.vocabulary=41": r"knows 40 tokens.*tokenizer.*dataset\.vocabulary=40",
    "model.num_classes=5": r"answers with shape \(5,\).*2 classes",
    "model.config.hidden_size=8": r"which needs a \+: \+model\.config\.hidden_size=",
    "+model.config.num_labels=7": r"num_labels=7 would be overwritten by model\.num_classes=",
    "+model.config.droput=0.1": r"model\.config\.droput is in no config of a bert model",
    "model.attention=fast": "model.path=.* cannot be built",
    "model.path={other}": "is no model that transformers .* can read",
    "origin.path={config}": r"holds no weights.*origin=none",
    "origin.path={torn}": "is no model that transformers .* can read",
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG)
def test_a_mistake_is_one_message_before_any_training(
    words: str, bert: str, texts: Path, tmp_path: Path
) -> None:
    places = {name: tmp_path / name for name in ("deberta", "other", "config", "torn")}
    if "{deberta}" in words:
        pretrained.folder(places["deberta"], "deberta", "ForMaskedLM")
    if "{other}" in words:
        places["other"].mkdir()
        (places["other"] / "config.json").write_text('{"model_type": "novel"}')
    if "{config}" in words:
        pretrained.folder(places["config"])
    if "{torn}" in words:
        shutil.copytree(bert, places["torn"])
        (places["torn"] / "model.safetensors").write_bytes(b"torn")
    filled = words.format(texts=texts, **places).split()
    with no_training():
        said = lth_run(*command(bert, texts, *filled, outputs=tmp_path / "outputs"))
    assert said.status == 2, said.err
    [line] = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert re.search(WRONG[words], line), line


def test_a_hub_model_is_found_in_the_local_cache(
    bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    at = tmp_path / "models--some--bert"
    (at / "refs").mkdir(parents=True)
    (at / "refs" / "main").write_text("0" * 40)
    shutil.copytree(bert, at / "snapshots" / ("0" * 40))
    assert task("some/bert").identity == task(bert).identity
    assert task("some/bert").origin == task(bert).origin


def test_a_fetched_model_is_a_folder_with_older_weights_where_there_are_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    def download(name: str, *, allow_patterns: list[str], local_dir: Path) -> str:
        if name == "not/there":
            raise OSError("no network")
        asked.append(allow_patterns)
        local_dir.mkdir(parents=True, exist_ok=True)
        if name == "some/new":
            (local_dir / "model.safetensors").touch()
        return str(local_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    main = runpy.run_path(str(Path(__file__).parents[1] / "scripts/fetch_data.py"))["main"]
    words = ["--model", "some/new", "--model", "some/old", "--root", str(tmp_path)]
    assert main(words) == 0
    assert [("*.safetensors" in wanted) for wanted in asked] == [True, True, False]
    assert f"some/old: {tmp_path / 'old'} is ready" in capsys.readouterr().out
    assert main(["--model", "not/there"]) == 1
    assert "not/there cannot be fetched (no network)" in capsys.readouterr().err
