"""GLUE from files as they are published: columns, headers, quotes, broken lines, measures."""

from __future__ import annotations

import io
import runpy
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lth_runner.cli.conf_dir import conf_dir
from lth_runner.problem.data import Words, glue
from lth_runner.problem.data.glue import FORMATS
from lth_runner.problem.fits import check_fits
from lth_runner.problem.models import transformer_classifier
from lth_runner.problem.outcomes import sampled_unit
from lth_runner.problem.task import Task
from lth_runner.values.errors import UserError

REPOSITORY = Path(__file__).resolve().parent.parent

# what the first lines of each train.tsv and dev.tsv look like, and what they say
STSB = "index genre filename year old_index source1 source2 sentence1 sentence2 score"
MNLI = "index promptID pairID genre p1 p2 q1 q2 sentence1 sentence2 label1 gold_label"
FILES: dict[str, tuple[str, str, list[list[str]]]] = {
    "cola": ("", 'gj04\t1\t\tOur "friends left.\ngj04\t0\t*\tThem left.\n',
             [['our', '"', 'friends', 'left', '.'], ["them", "left", "."]]),
    "sst2": ("sentence\tlabel\n", "hide new \t0\ncontains no wit\t1\n",
             [["hide", "new"], ["contains", "no", "wit"]]),
    "mrpc": ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n",
             '1\t7\t8\tHe said "no.\tHe denied it\n0\t9\t6\tA\tB\n',
             [["he", "said", '"', "no", ".", "he", "denied", "it"], ["a", "b"]]),
    "stsb": (STSB.replace(" ", "\t") + "\n",
             "0\tm\tM\t2012\t1\tn\tn\tA plane\tAn air plane\t5.000\n"
             "1\tm\tM\t2012\t1\tn\tn\tA\tB\t3.8\n",
             [["a", "plane", "an", "air", "plane"], ["a", "b"]]),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n",
            "1\t2\t3\tHow?\tWhy?\t0\n4\t5\t6\tHow?\t\t1\n",
            [["how", "?", "why", "?"], ["how", "?"]]),
    "mnli": (MNLI.replace(" ", "\t") + "\n",
             "".join(f"{i}\t1\t2\tfiction\t(\t(\t(\t(\tIt {i}\tYes\tneutral\t{label}\n"
                     for i, label in enumerate(["neutral", "entailment", "contradiction"])),
             [["it", "0", "yes"], ["it", "1", "yes"], ["it", "2", "yes"]]),
    "qnli": ("index\tquestion\tsentence\tlabel\n",
             "0\tWhen?\tNow\tentailment\n1\tWho?\tMe\tnot_entailment\n",
             [["when", "?", "now"], ["who", "?", "me"]]),
    "rte": ("index\tsentence1\tsentence2\tlabel\n",
            "0\tA\tB\tnot_entailment\n1\tC\tD\tentailment\n",
            [["a", "b"], ["c", "d"]]),
    "wnli": ("index\tsentence1\tsentence2\tlabel\n", "0\tA\tB\t1\n1\tC\tD\t0\n",
             [["a", "b"], ["c", "d"]]),
}  # fmt: skip
LABELS = {"stsb": [[5.0], [3.8]], "mnli": [2, 1, 0], "cola": [1, 0], "mrpc": [1, 0], "rte": [1, 0],
          "wnli": [1, 0]}  # fmt: skip


def published(root: Path, task: str, broken: str = "") -> Path:
    header, lines, _ = FILES[task]
    folder = root / FORMATS[task].folder
    folder.mkdir(parents=True)
    (folder / "train.tsv").write_text(header + lines + broken, encoding="utf-8")
    dev = header.replace("label1\t", "".join(f"label{i}\t" for i in range(1, 6)))
    wider = lines.replace("\tneutral\t", "\tneutral" * 5 + "\t") if task == "mnli" else lines
    names = ("dev_matched.tsv", "dev_mismatched.tsv") if task == "mnli" else ("dev.tsv",)
    for name in names:
        (folder / name).write_text(dev + wider.replace("It", name[:7]), encoding="utf-8")
    return root


def read(root: Path, task: str, **options: Any):
    given = {"task": task, "root": str(root), "length": 12, "vocabulary": 40, "pad": "length",
             "num_classes": FORMATS[task].num_classes if task in FORMATS else 2,
             "tokenizer": Words(40), "validation": 0,
             }  # fmt: skip
    return glue(**given | options)


@pytest.mark.parametrize("task", FORMATS)
def test_a_task_is_read_as_it_is_published(task: str, tmp_path: Path) -> None:
    data = read(published(tmp_path, task), task)
    inputs, targets = data.train
    numbers = [[n for n in row if n > 3] for row in inputs["input_ids"].tolist()]
    words = FILES[task][2]
    learned = Words(40).encoder(" ".join(sample) for sample in words)
    assert numbers == [learned([" ".join(sample)], None) for sample in words]
    assert targets.tolist() == torch.tensor(LABELS.get(task, [0, 1])).tolist()
    assert data.test[1].tolist() == targets.tolist()  # dev is the test split
    cached = read(tmp_path, task, pad="batch", cache=str(tmp_path / "cache"))
    batches = list(cached.batches("train", 9))
    assert [t.tolist() for _, t in batches] == [targets.tolist()]


@pytest.mark.parametrize("task", ["cola", "stsb", "qqp"])
def test_a_task_runs_with_its_own_measures(task: str, tmp_path: Path) -> None:
    data = read(published(tmp_path, task), task)
    objective = instantiate(
        OmegaConf.load(conf_dir() / f"objective/{FORMATS[task].objective}.yaml")
    )
    model = partial(transformer_classifier, vocabulary=40, length=12, width=8, depth=1, heads=1,
                    num_classes=data.num_classes or 1)  # fmt: skip
    problem = Task(model, data, objective=objective)
    check_fits(problem)
    names = {
        "cola": ["matthews", "accuracy", "loss"],
        "stsb": ["pearson", "spearman", "loss"],
        "qqp": ["f1", "accuracy", "loss"],
    }
    assert list(problem.evaluate(problem.init(), "test")) == names[task]
    assert sampled_unit(problem) == "sentences"


def test_mnli_has_two_test_splits_and_a_share_of_train_is_held_out(tmp_path: Path) -> None:
    published(tmp_path, "mnli")
    matched = read(tmp_path, "mnli")
    mismatched = read(tmp_path, "mnli", mismatched=True, validation=1)
    assert matched.fingerprint != mismatched.fingerprint
    assert (len(mismatched.train[1]), len(mismatched.val[1])) == (2, 1)


def test_broken_lines_are_left_out_and_counted_unless_they_are_many(tmp_path: Path, caplog) -> None:
    whole = "".join(f"{i}\t2\t3\tHow {i}?\tWhy?\t{i % 2}\n" for i in range(300))
    data = read(published(tmp_path / "a", "qqp", whole + "7\tin two\n"), "qqp")
    assert len(data.train[1]) == 302
    assert "train.tsv: 1 lines are broken" in caplog.text
    with pytest.raises(UserError, match=r"1 of 3 lines have not the 6 cells"):
        read(published(tmp_path / "b", "qqp", "7\tin two\n"), "qqp")


@pytest.mark.parametrize(
    ("task", "options", "said"),
    [
        ("colla", {}, "dataset.task=colla: did you mean cola"),
        ("stsb", {"num_classes": 2}, "scores: set dataset.num_classes=null objective=correlation"),
        ("mnli", {"num_classes": 2}, "3 classes: set dataset.num_classes=3"),
        ("cola", {"mismatched": True}, "mismatched=true, but dataset.task=cola has one test split"),
        ("rte", {}, r"RTE is no folder.*fetch_data\.py glue"),
        ("sst2", {"root": "header"}, "train.tsv has no column 'sentence'.*as they are published"),
    ],
)
def test_what_is_no_task_of_glue_is_told(task, options, said, tmp_path: Path) -> None:
    root = str(options.pop("root", ""))
    for name in ("train", "dev") if root else ():
        (tmp_path / root / "SST-2").mkdir(parents=True, exist_ok=True)
        (tmp_path / root / f"SST-2/{name}.tsv").write_text("text\tlabel\nx\t1\n")
    with pytest.raises(UserError, match=said):
        read(tmp_path / root, task, **{"num_classes": 2} | options)


def archive(root: Path, folder: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as opened:
        for path in sorted((root / folder).iterdir()):
            opened.write(path, f"{folder}/{path.name}")
        opened.writestr(f"{folder}/test.tsv", "no labels")
    return made.getvalue()


def test_what_is_fetched_is_what_a_task_reads(tmp_path: Path, capsys) -> None:
    script = runpy.run_path(str(REPOSITORY / "scripts/fetch_data.py"))
    for task in FORMATS:
        published(tmp_path / "site", task)
    asked = []

    def get(url: str) -> bytes:
        asked.append(url)
        if url == script["MRPC"]:
            return (tmp_path / "site/MRPC/train.tsv").read_bytes()
        if url == script["MRPC_DEV"]:
            return b"9\t6\n"
        [folder] = [name for name, file in script["ARCHIVES"].items() if url.endswith("/" + file)]
        return archive(tmp_path / "site", folder)

    script["fetch_glue"](tmp_path / "glue", get)
    assert len(asked) == 10
    for task in FORMATS:
        if task != "mrpc":
            found, expected = (read(tmp_path / where, task) for where in ("glue", "site"))
            assert found.fingerprint == expected.fingerprint
    # of MRPC's two pairs one is named for development
    header, first, second = (tmp_path / "site/MRPC/train.tsv").read_text("utf-8-sig").splitlines()
    parted = [(tmp_path / f"glue/MRPC/{name}.tsv").read_text() for name in ("train", "dev")]
    assert parted == [f"{header}\n{first}\n", f"{header}\n{second}\n"]
    script["fetch_glue"](tmp_path / "glue", get)
    assert len(asked) == 10  # it is there
    with pytest.raises(ValueError, match="has the SHA-256"):
        script["fetch_squad"](tmp_path / "squad", lambda url: b"{}")
    assert not (tmp_path / "squad").exists()
