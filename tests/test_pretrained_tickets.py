"""Shipped experiments and studies of pretrained BERTs, on a small model of the same classes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import pretrained
from command import Said, lth_run, no_training, rows
from lth_runner.cli.conf_dir import conf_dir
from test_text import BERT_TOKENS, bert_file

pytest.importorskip("transformers")
EXPERIMENTS = ("minilm_sst2", "bert_base_glue", "bert_base_mlm")
CONTROLS = {"random", "reinit", "shuffle_weights", "shuffle_layers"}
SIZES = (f"dataset.vocabulary={BERT_TOKENS}", "dataset.length=8")
SENTENCES = ("dataset/tokenizer=file", *SIZES, "dataset.pad=batch", "dataset.val=null",
             "dataset.validation=0.1")  # fmt: skip
CLASSES = {"sst2": 2, "cr": 2, "trec": 6}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two layers with its tokenizer, texts with classes, and a plain text."""
    folder = tmp_path_factory.mktemp("place")
    pretrained.folder(folder / "model", "bert", "ForMaskedLM", vocab_size=BERT_TOKENS)
    bert_file(folder / "model")
    for first, (task, classes) in enumerate(CLASSES.items()):
        texts(folder / task, classes, first)
    (folder / "SST-2").mkdir()
    for name in ("train", "dev"):
        lines = [f"ab {'abcdefg'[number % 7]}c\t{number % 2}" for number in range(64)]
        (folder / "SST-2" / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    (folder / "book.txt").write_text("abc def gab cd efg. " * 100)
    return folder


def texts(folder: Path, classes: int, first: int) -> None:
    folder.mkdir()
    for name in ("train", "dev", "test"):
        lines = [
            f"{(first + number) % classes}\tab {'abcdefg'[number % 7]}c" for number in range(64)
        ]
        (folder / f"{name}.tsv").write_text("\n".join(["label\ttext", *lines]) + "\n")


def smoke(place: Path, outputs: Path, *words: str) -> Said:
    """The smallest run of what is shipped: words are all that names files, and sizes."""
    environment = {"XDG_CACHE_HOME": str(outputs / "cache")}
    sizes = ("train.shrink_to=2it", "train.batch_size=8", "max_samples=64")
    where = (f"model.path={place / 'model'}", f"paths.data={place}", f"paths.outputs={outputs}")
    machine = ("record=local", "device=cpu", "threads=1")
    return lth_run(*words, "+scale=smoke", *where, *sizes, *machine, environment=environment)


@pytest.mark.parametrize(
    "experiment",
    [EXPERIMENTS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in EXPERIMENTS[1:])],
)
def test_an_experiment_runs_on_a_small_model_of_its_classes(
    experiment: str, place: Path, tmp_path: Path
) -> None:
    own = {
        "bert_base_glue": ["dataset.task=sst2", "dataset.num_classes=2", f"dataset.root={place}"],
        "bert_base_mlm": [f"dataset.path={place / 'book.txt'}"],
    }
    words = (f"+experiment={experiment}", *SIZES, *own.get(experiment, []))
    said = smoke(place, tmp_path, *words)
    assert said.status == 0, said.err
    [folder] = (tmp_path / experiment).iterdir()
    found = rows(folder / "rounds.jsonl")
    assert {row["arm"] for row in found} == {"ticket", *CONTROLS}
    kept = [round(row["density"], 3) for row in found if row["arm"] == "ticket"]
    assert kept == [1.0, 0.8, 0.6]
    assert not any(row["diverged"] for row in found)
    covered = set(found[0]["layer_density"])
    poolers = {name for name in covered if "pooler" in name}
    assert bool(poolers) == (experiment == "bert_base_glue")
    assert len(covered - poolers) == 12
    assert all("encoder.layer" in name for name in covered - poolers)


def test_a_match_in_perplexity_is_a_share_of_the_dense_networks() -> None:
    for path in (conf_dir() / "experiment").glob("*.yaml"):
        text = path.read_text()
        of_tokens = "/objective: masked_token" in text or "/objective: next_token" in text
        if of_tokens and "dataset: cipher" not in text:  # which are judged by what is written
            assert str(OmegaConf.load(path).report.tolerance).endswith("%"), path.name


def test_what_is_not_measured_says_so() -> None:
    for name in EXPERIMENTS[1:]:
        text = (conf_dir() / "experiment" / f"{name}.yaml").read_text()
        assert "Not measured here" in text


@pytest.mark.slow
def test_tickets_of_masked_tokens_and_of_tasks_are_carried_to_every_task_once(
    place: Path, tmp_path: Path
) -> None:
    mlm = ("dataset=masked_corpus", "dataset.name=mlm", f"dataset.path={place}/book.txt",
           "model.task=masked_token", "objective=masked_token", *SIZES)  # fmt: skip
    words = (
        "+study=bert_transfer", "model=hf", "study.tasks=[sst2,cr]", "study.sources=[mlm,sst2,cr]",
        f"study.settings.mlm={json.dumps(mlm)}", f"study.sentences={json.dumps(SENTENCES)}",
    )  # fmt: skip
    said = smoke(place, tmp_path, *words)
    assert said.status == 0, said.err
    folder = tmp_path / "bert_transfer"
    pages = sorted(path.name for path in folder.glob("transfer*.html"))
    assert pages == ["transfer-2.html", "transfer.html"]
    pairs = {("mlm", "sst2"), ("mlm", "cr"), ("sst2", "cr"), ("cr", "sst2")}
    assert len(list(folder.glob("*/rounds.jsonl"))) == 3 + len(pairs) + 2
    with (folder / "transfer-matrix.csv").open() as file:
        found = {(row["source"], row["target"]) for row in csv.DictReader(file)}
    assert found == pairs
    with no_training():
        again = smoke(place, tmp_path, *words)
    assert again.status == 0, again.err


@pytest.mark.slow
def test_controls_of_one_sparsity_share_the_trainings_of_its_tickets(
    place: Path, tmp_path: Path
) -> None:
    said = smoke(
        place,
        tmp_path,
        "+study=minilm_tickets",
        "model=hf",
        "study.tasks=[trec]",
        f"study.sentences={json.dumps(SENTENCES)}",
    )
    assert said.status == 0, said.err
    every = [rows(path) for path in (tmp_path / "minilm_tickets").glob("*/rounds.jsonl")]
    found_here = [
        found for found in every
        if [(row["arm"], round(row["density"], 1)) for row in found]
        == [("ticket", 1.0), ("ticket", 0.8), ("ticket", 0.6)]
    ]  # fmt: skip
    # a tenth of so few steps is none: what is rewound there is what is rewound to the start
    assert len(found_here) == 2
    keys, rewound = ([row["training_key"] for row in found] for found in found_here)
    assert rewound == keys
    beside = [found for found in every if {row["arm"] for row in found} == {"ticket", *CONTROLS}]
    assert len(beside) == 1
    ours = [row["training_key"] for row in beside[0] if row["arm"] == "ticket"]
    assert ours == keys
