"""What a mask leaves of a transformer: densities by kind of matrix, heads that it has emptied."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pretrained
from fake_past import Fake, small_task
from lth_runner.probe import DeadHeads, MatrixDensity
from lth_runner.probe.attention import MATRICES, kind_of
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


def test_a_network_without_such_matrices_is_refused(tmp_path: Path) -> None:
    for other in (small_task(), task(tmp_path, "gpt2")):
        with pytest.raises(UserError, match=r"probe\.dead_heads looks at matrices"):
            DeadHeads().check(other)
