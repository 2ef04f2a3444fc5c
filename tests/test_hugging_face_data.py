"""Data sets of the library datasets, which is faked: a saved folder, a name, what is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lth_runner.problem.data import Words, hugging_face
from lth_runner.values.errors import UserError

SAMPLES = [{"idx": 0, "a": "x y", "b": "z", "label": 1}, {"idx": 1, "a": "y", "b": "x", "label": 0}]


class Split(list[dict[str, Any]]):
    """What a split of the library looks like from outside."""

    @property
    def column_names(self) -> list[str]:
        return list(self[0])


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made: Any = ModuleType("datasets")
    made.saved = {"train": Split(SAMPLES), "test": Split(SAMPLES[:1])}
    made.asked = []
    made.config = SimpleNamespace(HF_DATASETS_OFFLINE=False, HF_HUB_OFFLINE=False)

    def load_from_disk(path: str) -> Any:
        if not any(Path(path).iterdir()):
            raise FileNotFoundError(f"{path} is neither a dataset nor a dict of them")
        return made.saved

    def load_dataset(path: str, config: str | None) -> Any:
        made.asked.append((path, config, made.config.HF_DATASETS_OFFLINE))
        if made.config.HF_DATASETS_OFFLINE:
            raise ConnectionError(f"Couldn't reach {path}")
        return made.saved

    made.load_from_disk, made.load_dataset = load_from_disk, load_dataset
    monkeypatch.setitem(sys.modules, "datasets", made)
    return made


def read(path: str | Path, **options: Any):
    return hugging_face(**{"path": str(path), "length": 8, "vocabulary": 9, "num_classes": 2,
                           "val": None, "validation": 0, "pad": "length", "tokenizer": Words(9)}
                        | options)  # fmt: skip


def test_a_saved_folder_is_read_by_its_columns_of_texts(library, tmp_path: Path) -> None:
    (tmp_path / "state.json").touch()
    data = read(tmp_path)
    x, y, z = 4, 5, 6
    ids = [[n for n in row if n] for row in data.train[0]["input_ids"].tolist()]
    assert ids == [[x, y, 3, z], [y, 3, x]]
    assert data.train[1].tolist() == [1, 0]
    assert (library.asked, data.class_names) == ([], ())
    library.saved["train"].features = {"label": SimpleNamespace(names=["no", "yes"])}
    assert read(tmp_path).class_names == ("no", "yes")
    one = read(tmp_path, text_columns=["b"], pad="batch", cache=str(tmp_path / "cache"))
    assert (len(one.train), len(one.test)) == (2, 1)


def test_a_name_is_asked_for_only_where_a_download_is(library) -> None:
    with pytest.raises(
        UserError, match=r"is in the cache.*load_dataset\('glue', 'sst2'\)\.save_to_disk.*download"
    ):
        read("glue", config="sst2")
    assert library.asked == [("glue", "sst2", True)]
    assert len(read("glue", config="sst2", download=True).train[1]) == 2
    assert library.asked[1:] == [("glue", "sst2", False)]


def test_without_the_library_one_message_says_what_to_do(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install datasets.*to_json"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"test": "tset"}, r"no split 'tset' \(dataset\.test\): did you mean test"),
        ({"label_column": "lable"}, r"train has no column 'lable'.*did you mean label"),
        ({"text_columns": ["c"]}, r"no column 'c' \(dataset\.text_columns\)"),
        ({"text_columns": ["a", "b", "idx"]}, "one column or two"),
        ({"text_columns": ["idx"]}, "row 0: 'idx' is a int, no text"),
        ({"num_classes": 3}, r"num_classes=3.*num_classes=2"),
    ],
)
def test_what_is_not_there_is_told(library, tmp_path: Path, options, said: str) -> None:
    (tmp_path / "state.json").touch()
    with pytest.raises(UserError, match=said):
        read(tmp_path, **options)


def test_splits_without_samples_or_labels_are_told(library, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder that datasets saved"):
        read(tmp_path)
    (tmp_path / "state.json").touch()
    library.saved["test"] = Split([{**SAMPLES[0], "label": -1}])
    with pytest.raises(
        UserError, match=r"test, row 0 has no label \(-1\).*dataset.test=validation"
    ):
        read(tmp_path)
    scores = [{**SAMPLES[0], "label": score} for score in (-1.0, 0.5)]
    library.saved = {"train": Split(scores), "test": Split(scores[:1])}
    with pytest.raises(UserError, match=r"test, row 0 has no label \(-1\.0\)"):
        read(tmp_path, num_classes=None)
    library.saved["test"] = Split(scores)
    assert read(tmp_path, num_classes=None).test[1].tolist() == [[-1.0], [0.5]]
    library.saved["test"] = Split()
    with pytest.raises(UserError, match="test holds no sample"):
        read(tmp_path)
    library.saved = Split(SAMPLES)
    with pytest.raises(UserError, match="holds one split"):
        read(tmp_path)
