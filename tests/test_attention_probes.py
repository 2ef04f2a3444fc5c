"""What a mask leaves of a transformer: densities by kind of matrix, heads that it has emptied."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import pretrained
from fake_past import Fake, small_task
from lth_runner.probe import DeadHeads, MatrixDensity
from lth_runner.probe.heads import MATRICES, OUTPUT, TOGETHER, heads_of, kind_of
from lth_runner.problem import Covers
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask

pytest.importorskip("transformers")
BLOCKS = Covers(("linear", "attention_projection"), blocks=True)
KNOWN = ("bert", "roberta", "distilbert", "electra", "deberta-v2", "opt", "llama", "t5")
FIELDS = {
    "density_by_matrix", "num_heads", "dead_heads", "dead_heads_by_block",
    "test_accuracy_without_dead_heads", "dead_heads_removed_change",
}  # fmt: skip
BLOCK = "bert.encoder.layer.{}.attention"


def task(folder: Path, family: str = "bert") -> Task:
    model = pretrained.sequence_classifier(pretrained.folder(folder, family))
    return Task(model, pretrained.sentences(), 0, covers=BLOCKS)


def emptied(mask: Mask, **parts: slice | tuple[slice, slice]) -> Mask:
    """A mask without some parts of its matrices, by the ends of their names."""
    found = {name: kept.clone() for name, kept in mask.items()}
    for ends, part in parts.items():
        [name] = [name for name in found if name.endswith(f"{ends.replace('__', '.')}.weight")]
        found[name][part] = False
    return Mask(found)


def fields(task: Task, mask: Mask, probe: MatrixDensity | DeadHeads) -> dict[str, object]:
    trained = Fake(task, 1, Ticket(mask, task.init()))
    return dict(probe(task, [], trained))


@pytest.mark.parametrize("family", KNOWN)
def test_matrices_of_an_architecture_have_their_kinds(family: str, tmp_path: Path) -> None:
    names = list(task(tmp_path, family).dense())
    assert {kind_of(name) for name in names} - {"pos_query_proj", "pos_key_proj"} <= MATRICES.keys()
    for kind in ("query", "key", "value", "attention output", "output"):
        assert sum(kind_of(name) == kind for name in names) >= 2


def test_densities_by_kind_are_over_all_blocks(tmp_path: Path) -> None:
    bert = task(tmp_path)
    half = emptied(bert.dense(), **{"0__attention__self__query": slice(0, 8)})
    [(_, found)] = fields(bert, half, MatrixDensity()).items()
    assert found == {kind: 0.75 if kind == "query" else 1.0 for kind in MATRICES}


def test_the_page_names_every_field() -> None:
    page = (Path(__file__).parents[1] / "docs/probes.md").read_text()
    part = page.split("\n## attention\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)) == FIELDS


@pytest.mark.parametrize(
    ("ends", "part"),
    [
        ("attention__self__query", slice(8, 16)),
        ("attention__self__key", slice(8, 16)),
        ("attention__self__value", slice(8, 16)),
        ("attention__output__dense", (slice(None), slice(8, 16))),
    ],
)
def test_a_head_without_one_of_its_matrices_is_dead_and_taking_it_out_is_measured(
    ends: str, part: slice | tuple[slice, slice], tmp_path: Path
) -> None:
    bert = task(tmp_path)
    mask = emptied(bert.dense(), **{f"0__{ends}": part})
    found = fields(bert, mask, DeadHeads())
    assert found.keys() == FIELDS - {"density_by_matrix"}
    assert found["num_heads"] == 4
    assert found["dead_heads"] == 0.25
    assert found["dead_heads_by_block"] == {BLOCK.format(0): 0.5, BLOCK.format(1): 0.0}
    trained = Fake(bert, 1, Ticket(mask, bert.init())).weights
    own = trained[f"{BLOCK.format(0)}.output.dense.weight"].clone()
    own[:, 8:16] = 0
    without = bert.evaluate(trained | {f"{BLOCK.format(0)}.output.dense.weight": own}, "test")
    assert found["test_accuracy_without_dead_heads"] == without["accuracy"]
    whole = bert.evaluate(trained, "test")["accuracy"]
    assert found["dead_heads_removed_change"] == without["accuracy"] - whole


def test_one_weight_left_keeps_a_head_alive_and_nothing_is_evaluated_again(tmp_path: Path) -> None:
    bert = task(tmp_path)
    mask = emptied(bert.dense(), **{"0__attention__self__value": slice(8, 15)})
    found = fields(bert, mask, DeadHeads())
    assert found["dead_heads"] == 0
    assert set(found) == {"num_heads", "dead_heads", "dead_heads_by_block"}


def test_heads_that_share_a_key_die_together(tmp_path: Path) -> None:
    llama = task(tmp_path, "llama")
    mask = emptied(llama.dense(), **{"0__self_attn__k_proj": slice(0, 8)})
    assert fields(llama, mask, DeadHeads())["dead_heads"] == 0.5


def test_a_head_of_gpt2_is_a_third_of_its_columns_in_one_transposed_matrix(tmp_path: Path) -> None:
    gpt2 = task(tmp_path, "gpt2")
    keys = (slice(None), slice(24, 32))  # of the second head of two, behind 16 queries
    found = fields(gpt2, emptied(gpt2.dense(), **{"0__attn__c_attn": keys}), DeadHeads())
    assert found["dead_heads_by_block"] == {"transformer.h.0.attn": 0.5, "transformer.h.1.attn": 0}
    assert "test_accuracy_without_dead_heads" in found
    own = {name: kind_of(name) for name in gpt2.dense()}
    assert set(own.values()) == {TOGETHER, "attention output", "intermediate", "output"}


BODY = pretrained.BODY | {"num_attention_heads": 4, "hidden_size": 32}
NEOX = {"rotary_pct": 0.5, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
FALCON = {"num_attention_heads": 4, "hidden_size": 32, "num_hidden_layers": 2}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": pretrained.POSITIONS}
ARCHITECTURES = {
    "bert": ("bert", BODY), "roberta": ("roberta", BODY), "deberta": ("deberta", BODY),
    "deberta-v2": ("deberta-v2", BODY), "albert": ("albert", BODY | {"embedding_size": 8}),
    "mpnet": ("mpnet", BODY), "opt": ("opt", BODY | {"ffn_dim": 24, "word_embed_proj_dim": 32}),
    "gpt2": ("gpt2", GPT), "gptj": ("gptj", GPT | {"rotary_dim": 4}),
    "gpt_bigcode": ("gpt_bigcode", GPT | {"multi_query": False}),
    "gpt_bigcode, one key": ("gpt_bigcode", GPT | {"multi_query": True}),
    "gpt_neox": ("gpt_neox", BODY | NEOX), "bloom": ("bloom", GPT | {"hidden_size": 32}),
    "falcon": ("falcon", FALCON | {"multi_query": False}),
    "falcon, one key": ("falcon", FALCON | {"multi_query": True}),
    "falcon, two keys": ("falcon", FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "llama, two keys": ("llama", BODY | {"num_key_value_heads": 2}),
    "qwen3, wide": ("qwen3", BODY | {"num_key_value_heads": 2, "head_dim": 16}),
    "phi3, two keys": ("phi3", BODY | {"num_key_value_heads": 2}),
    "mpt": ("mpt", {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 20}),
    "modernbert": ("modernbert", BODY),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_a_head_sends_on_comes_of_its_own_parts_alone(name: str) -> None:
    family, words = ARCHITECTURES[name]
    network = pretrained.weights(configured(family, words)).eval()
    blocks = heads_of(network, all_of(network))
    assert len(blocks) == (1 if family == "albert" else 2)  # whose layers share one
    heads = next(iter(blocks.values()))
    assert heads.num == 4
    whole = sent(network, heads.parts[0][OUTPUT].name)
    size = whole.shape[-1] // 4
    for head in range(4):
        for kind, part in heads.parts[head].items():
            sharing = {h for h in range(4) if heads.parts[h][kind] == part}
            with without(network, part):
                moved = (sent(network, heads.parts[0][OUTPUT].name) - whole).abs() > 1e-7
            apart = moved.reshape(-1, 4, size).any(dim=0).any(dim=1)
            assert {h for h in range(4) if apart[h]} == (set() if kind == OUTPUT else sharing)


def configured(family: str, words: dict[str, Any]) -> Any:
    special = pretrained.SPECIAL | {"vocab_size": pretrained.VOCABULARY}
    return pytest.importorskip("transformers").AutoConfig.for_model(family, **special | words)


def all_of(network: torch.nn.Module) -> Mask:
    matrices = {n: p for n, p in network.named_parameters() if p.ndim == 2}
    return Mask({name: torch.ones_like(one, dtype=torch.bool) for name, one in matrices.items()})


@contextmanager
def without(network: torch.nn.Module, part) -> Iterator[None]:
    own = part.of(network.get_parameter(part.name).data)
    kept = own.clone()
    own.zero_()
    yield
    own.copy_(kept)


@torch.no_grad()
def sent(network: torch.nn.Module, name: str) -> torch.Tensor:
    """What the first layer of this name is given: of all heads, side by side."""
    given: list[torch.Tensor] = []
    layer = network.get_submodule(name.removesuffix(".weight"))
    hook = layer.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].clone()))
    network(input_ids=torch.arange(3, 3 + pretrained.LENGTH)[None])
    hook.remove()
    return given[0]


def test_a_network_without_such_matrices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"probe\.dead_heads looks at matrices"):
        DeadHeads().check(small_task())


def test_an_attention_of_unknown_kind_is_named_and_refused(tmp_path: Path) -> None:
    bert = task(tmp_path)
    network = bert.module()
    network.bert.encoder.layer[1].attention.self.num_attention_heads = 3
    with pytest.raises(UserError, match=r"layer\.1\.attention apart: it has 3 heads, which do not"):
        heads_of(network, bert.dense())
    network = pretrained.weights(configured("codegen", GPT | {"rotary_dim": 4}))
    with pytest.raises(UserError, match=r"h\.0\.attn apart: it has h\.0\.attn\.out_proj.*qkv_proj"):
        heads_of(network, all_of(network))
