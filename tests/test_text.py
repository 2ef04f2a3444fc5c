"""Texts from files, tokenizers, and long texts in windows of tokens."""

from __future__ import annotations

import csv
import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy
import pytest
import torch
from hydra import compose, initialize_config_dir

from command import parts_of
from lth_runner.cli.conf_dir import conf_dir
from lth_runner.problem.data import Bytes, Characters, TokenizerFile, Words, corpus, text_files
from lth_runner.problem.data.rows import read_rows
from lth_runner.problem.data.tokenizers import MASK, NUM_SPECIAL, SEPARATOR, UNKNOWN
from lth_runner.problem.fits import check_fits
from lth_runner.problem.models import transformer_classifier
from lth_runner.problem.task import Task
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream

TRAIN = "label\ttext\n1\tGood, good film\n0\ta bad film\n1\tgood\n"
DEV = "label\ttext\n0\tbad bad\n"
TEST = "label\ttext\n1\tnew good\n0\tfilm\n"


def write(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        stem, _, suffix = name.rpartition("_")
        (folder / f"{stem}.{suffix}").write_bytes(content.encode())
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path, train_tsv=TRAIN, dev_tsv=DEV, test_tsv=TEST)


def read(root: Path, **options: Any):
    return text_files(**{"root": str(root), "length": 4, "vocabulary": 20, "num_classes": 2}
                      | options)  # fmt: skip


def rows(data, split: str = "train") -> list[list[int]]:
    """Token numbers of each sample, without padding."""
    inputs, _ = getattr(data, split)
    pairs = zip(inputs["input_ids"].tolist(), inputs["attention_mask"].tolist(), strict=True)
    return [ids[: sum(mask)] for ids, mask in pairs]


# --- tokenizers


def test_words_are_numbered_by_how_often_they_are_in_the_training_file(folder: Path) -> None:
    # good 3, film 2, then "," a bad once each, by the alphabet
    data = read(folder)
    good, film, comma, a, bad = range(NUM_SPECIAL, NUM_SPECIAL + 5)
    assert rows(data) == [[good, comma, good, film], [a, bad, film], [good]]
    assert rows(data, "val") == [[bad, bad]]
    assert rows(data, "test") == [[UNKNOWN, good], [film]]
    assert data.train[1].tolist() == [1, 0, 1]
    assert data.num_classes == 2
    assert {value.dtype for value in data.train[0].values()} == {torch.int64}


def test_a_small_vocabulary_keeps_the_most_frequent_words(folder: Path) -> None:
    data = read(folder, vocabulary=NUM_SPECIAL + 1, tokenizer=Words(NUM_SPECIAL + 1))
    assert rows(data) == [[4, UNKNOWN, 4, UNKNOWN], [UNKNOWN] * 3, [4]]


def test_capitals_are_other_letters_where_lower_is_false() -> None:
    encode = Words(20, lower=False).encoder(["b B B"])
    assert encode(["b B"], None) == [5, 4]


def test_characters_and_bytes() -> None:
    assert Characters(20).encoder(["abb"])(["bac"], None) == [4, 5, UNKNOWN]
    assert Bytes().encoder([])(["aé"], None) == [97 + 4, 0xC3 + 4, 0xA9 + 4]


@pytest.mark.parametrize(
    ("length", "first", "second"),
    [(None, 6, 4), (11, 6, 4), (9, 4, 4), (8, 4, 3), (5, 2, 2), (3, 1, 1)],
)
def test_of_two_texts_the_longer_is_cut_first(length, first: int, second: int) -> None:
    encode = Characters(20).encoder(["ab"])
    assert encode(["aaaaaa", "bbbb"], length) == [4] * first + [SEPARATOR] + [5] * second


def test_a_short_second_text_leaves_its_room_to_the_first() -> None:
    assert Characters(20).encoder(["ab"])(["aaaaaa", "b"], 6) == [4, 4, 4, 4, SEPARATOR, 5]


def test_a_vocabulary_of_no_words_is_refused() -> None:
    for kind in (Words, Characters):
        with pytest.raises(UserError, match=r"dataset\.vocabulary=4 leaves no number"):
            kind(4)


def library_file(folder: Path) -> Path:
    library = pytest.importorskip("tokenizers", reason="the extra [text] is not installed")
    vocabulary = {"[UNK]": 0, "good": 1, "film": 2, "[CLS]": 3, "bad": 4, "[SEP]": 5}
    made = library.Tokenizer(library.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = library.pre_tokenizers.Whitespace()
    made.post_processor = library.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 3), ("[SEP]", 5)]
    )
    made.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def test_a_tokenizer_file_is_the_librarys_with_its_special_tokens(folder: Path) -> None:
    path = library_file(folder)
    data = read(folder, vocabulary=6, tokenizer=TokenizerFile(str(path)))
    assert rows(data) == [[3, 0, 0, 5], [3, 0, 4, 5], [3, 1, 5]]
    of_folder = read(folder, vocabulary=6, tokenizer=TokenizerFile(str(folder)))
    assert of_folder.fingerprint == data.fingerprint
    for other in (5, 7):
        with pytest.raises(
            UserError, match=r"the tokenizer has 6 tokens: set dataset.vocabulary=6"
        ):
            read(folder, vocabulary=other, tokenizer=TokenizerFile(str(path)))
    path.write_text("{}")
    with pytest.raises(UserError, match=r"is no tokenizer\.json"):
        read(folder, tokenizer=TokenizerFile(str(path)))


def test_without_the_library_one_message_says_what_to_install(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    with (
        mock.patch.dict(sys.modules, {"tokenizers": None}),
        pytest.raises(UserError, match=r"pip install 'lth-runner\[text\]'"),
    ):
        read(folder, tokenizer=TokenizerFile(str(folder / "tokenizer.json")))
    with pytest.raises(UserError, match="cannot be read"):
        TokenizerFile(str(folder / "none.json"))
    (folder / "model").mkdir()
    with pytest.raises(UserError, match=r"model is a folder without a tokenizer\.json"):
        TokenizerFile(str(folder / "model"))
    (folder / "model/small.gguf").touch()
    with pytest.raises(UserError, match=r"written there by .*gguf_file='small\.gguf'"):
        TokenizerFile(str(folder / "model"))


class NoTokens:
    def encoder(self, texts):
        return lambda parts, length: []


# --- formats


def test_csv_and_jsonl_hold_what_tsv_holds(folder: Path) -> None:
    expected = read(folder)
    for name, content in (("train", TRAIN), ("dev", DEV), ("test", TEST)):
        samples = [line.split("\t") for line in content.splitlines()]
        lines = [f'{label},"{text}"\r\n' for label, text in samples]
        (folder / f"{name}.csv").write_bytes("".join(lines).encode())
        objects = [json.dumps({"text": t, "label": int(y), "other": 0}) for y, t in samples[1:]]
        (folder / f"{name}.jsonl").write_text("\n".join(objects))
    for suffix, options in (("csv", {}), ("jsonl", {"text_columns": ["text"]})):
        files = {"train": f"train.{suffix}", "val": f"dev.{suffix}", "test": f"test.{suffix}"}
        assert read(folder, **files, **options).fingerprint == expected.fingerprint


def test_columns_go_by_their_names_in_each_file_wherever_they_stand(folder: Path) -> None:
    expected = read(folder)
    turned = [line.split("\t") for line in TRAIN.splitlines()]
    lines = "".join(f"{text}\t{label}\n" for label, text in turned)
    write(folder, train_tsv=lines.replace("text\tlabel", "sentence\tlabel"))
    assert read(folder).fingerprint == expected.fingerprint


def test_columns_go_by_numbers_where_there_is_no_header(folder: Path) -> None:
    expected = read(folder)
    bare = {name: (folder / f"{name}.tsv").read_text().split("\n", 1)[1]
            for name in ("train", "dev", "test")}  # fmt: skip
    write(folder, **{f"{name}_tsv": content for name, content in bare.items()})
    assert read(folder, header=False, label_column=0).fingerprint == expected.fingerprint


def test_quotes_are_text_in_tsv_and_a_quoted_cell_of_csv_may_hold_lines(tmp_path: Path) -> None:
    write(tmp_path, train_tsv='label\ttext\n0\t"a\n1\tb\n', test_csv='label,text\n1,"b\n""a"\n')
    data = read(tmp_path, val=None, validation=0, test="test.csv")
    quote, a, b = 4, 5, 6
    assert rows(data) == [[quote, a], [b]]
    assert rows(data, "test") == [[b, quote, a]]


def test_a_cell_of_csv_may_be_as_long_as_a_book(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    (tmp_path / "a.csv").write_text(f"text,label\n{'word ' * 50_000},0\n")
    [(_, row)] = read_rows(tmp_path / "a.csv")
    assert (len(row["text"]), csv.field_size_limit()) == (250_000, limit)


def test_a_pair_of_columns_is_one_sample(tmp_path: Path) -> None:
    pairs = "a\tlabel\tb\nx y\t0\tz\nx\t1\tx\n"
    write(tmp_path, train_tsv=pairs, test_tsv=pairs)
    data = read(tmp_path, val=None, validation=0)
    x, y, z = 4, 5, 6
    assert rows(data) == [[x, y, SEPARATOR, z], [x, SEPARATOR, x]]
    only = read(tmp_path, val=None, validation=0, text_columns=["b"])
    assert rows(only) == [[5], [4]]


def bert_file(folder: Path) -> Path:
    """A tokenizer as BERT's: WordPiece, [CLS] a [SEP] b [SEP], and 0 or 1 for which text it is."""
    library = pytest.importorskip("tokenizers", reason="the extra [text] is not installed")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *"abcdefg", *(f"##{letter}" for letter in "abcdefg")]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    made = library.Tokenizer(library.models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.add_special_tokens(special)
    made.normalizer = library.normalizers.BertNormalizer()
    made.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    made.post_processor = library.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.enable_padding(
        pad_token="[PAD]", length=16
    )  # as published files do: texts are padded here
    made.enable_truncation(16)
    made.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


BERT_TOKENS = 19
PAIRS = "a\tb\tlabel\nabc d\tfg\t1\nab cd ef ga bc\tdef gab cd efga\t0\ne\tf x\t1\n"


def test_pairs_are_what_transformers_makes_of_them(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra [nlp] is not installed")
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(bert_file(tmp_path)),
        pad_token="[PAD]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    write(tmp_path, train_tsv=PAIRS, test_tsv=PAIRS)
    pairs = [line.split("\t")[:2] for line in PAIRS.splitlines()[1:]]
    expected = theirs(
        pairs, padding="max_length", truncation=True, max_length=12, return_tensors="pt"
    )
    options = {"length": 12, "vocabulary": BERT_TOKENS, "val": None, "validation": 0,
               "tokenizer": TokenizerFile(str(tmp_path))}  # fmt: skip
    data = read(tmp_path, **options)
    assert sorted(data.train[0]) == ["attention_mask", "input_ids", "token_type_ids"]
    for name, values in data.train[0].items():
        assert torch.equal(values, expected[name]), name
    assert set(read(tmp_path, token_types=False, **options).train[0]) == {
        "attention_mask",
        "input_ids",
    }
    alone = read(tmp_path, text_columns=["a"], **options)
    assert set(alone.train[0]) == {"attention_mask", "input_ids"}  # all of one text: nothing to say


def by_batch(root: Path, cache: Path, **options: Any):
    return read(root, pad="batch", cache=str(cache), length=12, vocabulary=BERT_TOKENS,
                tokenizer=TokenizerFile(str(root)), **options)  # fmt: skip


def test_a_batch_is_padded_to_its_longest_and_a_multiple_of_8(tmp_path: Path) -> None:
    bert_file(tmp_path)
    write(tmp_path, train_tsv=PAIRS, test_tsv=PAIRS)
    data = by_batch(tmp_path, tmp_path / "cache", val=None, validation=0)
    whole = read(tmp_path, length=12, vocabulary=BERT_TOKENS, val=None, validation=0,
                 tokenizer=TokenizerFile(str(tmp_path)))  # fmt: skip
    for index, length in (([2], 8), ([2, 0], 12), ([1, 2], 12)):
        inputs, targets = data.train.take(torch.tensor(index), stream(0, "draw"))
        assert torch.equal(targets, whole.train[1][index])
        for name, values in whole.train[0].items():
            assert torch.equal(inputs[name], values[index][:, :length]), name
            assert not values[index][:, length:].any()


def test_texts_are_encoded_once_and_mapped_after_that(tmp_path: Path, caplog) -> None:
    bert_file(tmp_path)
    write(tmp_path, train_tsv=PAIRS, test_tsv=PAIRS)
    first = by_batch(tmp_path, tmp_path / "cache", val=None, validation=1)
    [file] = (tmp_path / "cache").iterdir()
    with mock.patch.object(TokenizerFile, "encoder", side_effect=AssertionError("encoded again")):
        again = by_batch(tmp_path, tmp_path / "cache", val=None, validation=1)
        assert again.fingerprint == first.fingerprint
        with pytest.raises(AssertionError):
            by_batch(tmp_path, tmp_path / "cache", val=None, text_columns=["a"])
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert (
        by_batch(tmp_path, tmp_path / "cache", val=None, validation=1).fingerprint
        == first.fingerprint
    )
    assert "is damaged" in caplog.text
    assert sorted(path.suffix for path in file.parent.iterdir()) == [".corrupt", ".safetensors"]


def test_padding_by_batch_holds_out_the_same_samples_and_answers_the_same(tmp_path: Path) -> None:
    lines = [f"{i % 2}\t{' '.join('abcdefg'[: 1 + i * 5 % 7])}\n" for i in range(60)]
    write(tmp_path, train_tsv="label\ttext\n" + "".join(lines), test_tsv=TEST)
    options = {"val": None, "validation": 10, "length": 24, "subset": 40}
    data = {pad: read(tmp_path, pad=pad, cache=str(tmp_path / "cache"), **options)
            for pad in ("length", "batch")}  # fmt: skip
    model = partial(transformer_classifier, vocabulary=20, length=24, num_classes=2,
                    width=16, depth=1, heads=2)  # fmt: skip
    tasks = {pad: Task(model, found) for pad, found in data.items()}
    check_fits(tasks["batch"])
    weights = tasks["batch"].init()
    for split in ("train", "val", "test"):
        found, expected = (tasks[pad].evaluate(weights, split) for pad in ("batch", "length"))
        assert found == pytest.approx(expected, rel=1e-5)
    batches = [found.stream(8, 0)[3] for found in data.values()]
    assert torch.equal(batches[0][1], batches[1][1])  # the same samples in the same order
    assert data["batch"].fingerprint != data["length"].fingerprint  # other bits: another training


def test_a_network_that_takes_no_kinds_of_tokens_is_told_how_to_leave_them_out(
    tmp_path: Path,
) -> None:
    bert_file(tmp_path)
    write(tmp_path, train_tsv=PAIRS, test_tsv=PAIRS)
    model = partial(transformer_classifier, vocabulary=BERT_TOKENS, length=12, num_classes=2,
                    width=16, depth=1, heads=2)  # fmt: skip
    pairs = by_batch(tmp_path, tmp_path / "cache", val=None, validation=0)
    with pytest.raises(UserError, match=r"dataset\.token_types=false"):
        check_fits(Task(model, pairs))
    without = by_batch(tmp_path, tmp_path / "cache", val=None, validation=0, token_types=False)
    check_fits(Task(model, without))
    short = partial(model, length=8)
    with pytest.raises(
        UserError, match="the samples have 12 tokens"
    ):  # the longest sample is tried
        check_fits(Task(short, without))


# --- labels and splits


def test_named_classes_are_numbered_by_the_alphabet(tmp_path: Path) -> None:
    content = "label\ttext\nneg\ta\npos\tb\nneither\tc\n"
    write(tmp_path, train_tsv=content, test_tsv=content)
    data = read(tmp_path, val=None, validation=0, num_classes=3)
    assert data.train[1].tolist() == [0, 2, 1]
    names = ("neg", "neither", "pos")
    assert data.class_names == data.to("cpu").class_names == names
    for _ in range(2):  # encoded, and as it is kept
        by_batch = read(tmp_path, val=None, num_classes=3, pad="batch", subset=1,
                        cache=str(tmp_path / "cache"))  # fmt: skip
        assert by_batch.class_names == names


def test_labels_of_a_regression_are_numbers(folder: Path) -> None:
    write(folder, train_tsv="label\ttext\n1.5\ta\n-2\tb\n")
    data = read(folder, num_classes=None)
    assert data.train[1].tolist() == [[1.5], [-2.0]]
    assert data.num_classes is None


def test_without_a_file_for_validation_samples_are_held_out(folder: Path) -> None:
    data = read(folder, val=None, validation=1)
    assert (len(data.train[1]), len(data.val[1])) == (2, 1)
    again = read(folder, val=None, validation=1)
    assert data.fingerprint == again.fingerprint
    assert len(read(folder, subset=2).train[1]) == 2


def test_another_file_under_the_same_path_is_another_problem(folder: Path) -> None:
    before = read(folder).fingerprint
    write(folder, test_tsv=TEST.replace("film", "good"))
    assert read(folder).fingerprint != before


# --- what is refused


@pytest.mark.parametrize(
    ("files", "options", "said"),
    [
        ({"test_tsv": "label\ttext\n1\ta\n2\tb\n"}, {}, "test.tsv, line 3: the class '2' is not"),
        ({"dev_tsv": "label\ttext\n1\t \n"}, {}, "dev.tsv, line 2: 'text' is empty"),
        ({"train_tsv": "label\ttext\n1\n"}, {}, "train.tsv, line 2, has 1 cells.*2 columns"),
        ({"train_tsv": "y\ttext\n1\ta\n"}, {}, "train.tsv has no column 'label'"),
        ({}, {"text_columns": ["sentence"]}, "has no column 'sentence'.*text_columns"),
        ({}, {"label_column": 2}, "label_column=2: accepted 0 to 1"),
        ({"dev_tsv": "a\tb\tc\tlabel\nx\ty\tz\t1\n"}, {}, "dev.tsv: .*one column or two"),
        ({"dev_tsv": "label\tlabel\n1\t1\n"}, {}, "two columns are called 'label'"),
        ({"dev_tsv": "label\ttext\n"}, {}, "dev.tsv holds no sample"),
        ({}, {"num_classes": 3}, "num_classes=3.*class numbers 0 to 1.*num_classes=2"),
        ({"train_tsv": "label\ttext\n1\ta\n2\tb\n"}, {"num_classes": 2},
         "class numbers 1 to 2: class numbers must start at 0: subtract 1"),
        ({"train_tsv": "label\ttext\nno\ta\nyes\tb\n"}, {"num_classes": 5},
         r"num_classes=5.*2 classes \(no, yes\).*num_classes=2"),
        ({"train_tsv": "label\ttext\nx\ta\n"}, {"num_classes": None},
         "train.tsv, line 2: the label 'x' is no finite number"),
        ({}, {"train": "train.txt"}, r"accepted: \.csv, \.jsonl, \.tsv"),
        ({}, {"test": "none.tsv"}, "none.tsv cannot be read: No such file"),
        ({}, {"length": 0}, "dataset.length=0"),
        ({"x_jsonl": '{"text": "a", "label": 1}\n{"text"\n'}, {"train": "x.jsonl"},
         "x.jsonl, line 2, is no JSON"),
        ({"x_jsonl": "[" * 200_000}, {"train": "x.jsonl"},
         "x.jsonl, line 1, is no JSON: it is nested too deeply"),
        ({"x_jsonl": '\n[1]\n'}, {"train": "x.jsonl"}, "x.jsonl, line 2, is a list"),
        ({"x_jsonl": '{"text": 3, "label": 1}\n'}, {"train": "x.jsonl"},
         "x.jsonl, line 1: 'text' is a int"),
        ({"x_jsonl": '{"text": "a", "label": 1}\n{"text": "b"}\n'}, {"train": "x.jsonl"},
         "x.jsonl, line 2, has no 'label'"),
        ({"x_csv": 'label,text\n1,a\n0,"b\n'}, {"train": "x.csv"}, "x.csv, line 3, is no CSV"),
        ({"train_tsv": "a\tb\tlabel\nx\ty\t1\n"}, {"length": 2}, "no room for two texts"),
        ({"x_jsonl": '{"text": "a", "label": [1]}\n'}, {"train": "x.jsonl"},
         "x.jsonl, line 1: 'label' is a list"),
        ({}, {"tokenizer": NoTokens()}, "train.tsv, line 2: the tokenizer finds no token"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_file_and_line(files, options, said, folder: Path) -> None:
    write(folder, **files)
    with pytest.raises(UserError, match=said):
        read(folder, **options)


def test_bytes_that_are_no_text_are_told_with_file_and_line(folder: Path) -> None:
    (folder / "dev.tsv").write_bytes(b"label\ttext\n1\tna\xefve\n")
    with pytest.raises(UserError, match=r"dev\.tsv, line 2, is no UTF-8 text.*save the file"):
        read(folder)


# --- a long text


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/lth-runner"


def windows(path: Path, content: str, **options: Any):
    path.write_text(content)
    return corpus(**{"path": str(path), "length": 4, "vocabulary": 20, "validation": 0.2,
                     "test": 0.2} | options)  # fmt: skip


def take(samples) -> tuple[list[list[int]], list[list[int]]]:
    inputs, targets = samples.take(torch.arange(len(samples)), stream(0, "draw"))
    return inputs.tolist(), targets.tolist()


def test_windows_are_contiguous_and_their_targets_are_the_next_tokens(
    tmp_path: Path, cache: Path
) -> None:
    data = windows(tmp_path / "a.txt", "ababababaXYZabcabcab", validation=0.25, test=0.25)
    # learned from the first ten characters: a b X
    a, b, x, unknown = 4, 5, 6, UNKNOWN
    assert take(data.train) == ([[a, b, a, b], [a, b, a, b]], [[b, a, b, a], [b, a, b, a]])
    assert take(data.val) == ([[unknown, unknown, a, b]], [[unknown, a, b, unknown]])
    assert take(data.test) == ([[a, b, unknown, a]], [[b, unknown, a, b]])
    assert x not in [number for row in take(data.val)[0] for number in row]
    assert data.num_classes == 20


def test_tokens_are_encoded_once_and_read_from_the_cache(tmp_path: Path, cache: Path) -> None:
    first = windows(tmp_path / "a.txt", "hello world " * 9)
    [file] = cache.iterdir()
    assert file.suffix == ".uint8"
    assert numpy.fromfile(file, numpy.uint8).max() < 20
    with mock.patch.object(Characters, "encoder", side_effect=AssertionError("encoded again")):
        again = windows(tmp_path / "b.txt", "hello world " * 9)
    assert again.fingerprint == first.fingerprint
    other = windows(tmp_path / "a.txt", "hello moon! " * 9)
    assert other.fingerprint != first.fingerprint
    windows(tmp_path / "a.txt", "hello world " * 9, vocabulary=300, tokenizer=Bytes())
    assert sorted(path.suffix for path in cache.iterdir()) == [".uint16", ".uint8", ".uint8"]


def test_the_training_split_is_what_the_tokenizer_learned_from(tmp_path: Path, cache: Path) -> None:
    content = "a" * 60 + "\u20ac" * 20 + "b" * 20  # three bytes each of the 20 in the middle
    for _ in range(2):  # encoded, then read from the cache
        data = windows(tmp_path / "a.txt", content, vocabulary=300, tokenizer=Bytes(), length=1)
        splits = [{n - NUM_SPECIAL for (n,) in take(split)[0]} for split in (data.train, data.test)]
        assert splits == [set(b"a"), set(b"b")]
        assert (len(data.train), len(data.val), len(data.test)) == (59, 59, 19)


def test_masks_are_of_whole_tokens_of_a_file_and_never_of_special_ones(
    tmp_path: Path, cache: Path
) -> None:
    tokenizer = TokenizerFile(str(bert_file(tmp_path)))
    pad, unknown, cls, sep, mask = range(5)
    options = {"length": 12, "vocabulary": BERT_TOKENS, "tokenizer": tokenizer}
    text = "abc de gab\n" * 80 + "x y\n" * 4
    data = windows(tmp_path / "a.txt", text, share=0.5, **options)
    plain = windows(tmp_path / "a.txt", text, **{**options, "length": 10})
    whole, _ = plain.train.take(torch.arange(len(plain.train)), stream(0, "draw"))
    seen, targets = data.train.take(torch.arange(len(data.train)), stream(0, "draw"))
    assert seen.shape == (len(plain.train), 12)
    assert seen[:, 0].eq(cls).all()
    assert seen[:, -1].eq(sep).all()
    chosen = targets != -100
    inner = chosen[:, 1:-1]
    assert not chosen[:, [0, -1]].any()
    assert torch.equal(targets[:, 1:-1][inner], whole[inner])
    assert torch.equal(seen[:, 1:-1][~inner], whole[~inner])
    assert not torch.isin(targets[chosen], torch.tensor([pad, unknown, cls, sep, mask])).any()
    changed = seen[chosen & (seen != mask)]
    assert not torch.isin(changed, torch.tensor([pad, unknown, cls, sep])).any()
    shares = [(seen[chosen] == mask).float().mean(), chosen[:, 1:-1].float().mean()]
    assert shares == pytest.approx([0.8, 0.5], abs=0.06)
    library_file(tmp_path)
    with pytest.raises(UserError, match="the tokenizer has no mask"):
        windows(tmp_path / "a.txt", text, share=0.5, length=12, vocabulary=6,
                tokenizer=TokenizerFile(str(tmp_path)))  # fmt: skip
    with pytest.raises(UserError, match=r"dataset\.length=2 has no room"):
        windows(tmp_path / "a.txt", text, share=0.5, **{**options, "length": 2})


def test_a_vocabulary_of_many_tokens_is_evaluated_in_few_samples(tmp_path, cache: Path) -> None:
    small = windows(tmp_path / "a.txt", "hello " * 5000)
    assert [len(t) for _, t in small.batches("train", 2000)][:2] == [256, 256]
    large = windows(tmp_path / "a.txt", "hello " * 5000, vocabulary=2**22)
    assert [len(t) for _, t in large.batches("train", 2000)][:2] == [4, 4]


def test_pythons_own_manual_is_the_text_where_none_is_given(cache: Path) -> None:
    data = corpus(length=32, vocabulary=128)
    assert len(data.train) > 5_000
    assert len(data.val) == pytest.approx(len(data.test), abs=1)


def test_masked_windows_have_the_masked_tokens_as_targets(tmp_path: Path, cache: Path) -> None:
    content = "some words of a text, " * 40
    plain = windows(tmp_path / "a.txt", content)
    masked = windows(tmp_path / "a.txt", content, share=0.5)
    original = torch.tensor(take(plain.train)[0])
    seen, targets = (torch.tensor(part) for part in take(masked.train))
    chosen = targets != -100
    assert torch.equal(targets[chosen], original[chosen])
    assert torch.equal(seen[~chosen], original[~chosen])
    assert chosen.float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert (seen[chosen] == MASK).float().mean().item() == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("short", {}, "its train part has 3 tokens, and a window of dataset.length=4 needs 5"),
        ("a text " * 20, {"test": 0}, "dataset.validation=0.2 and dataset.test=0 are shares"),
        ("a text " * 20, {"test": 0.9}, "something must be left for training"),
        ("a text " * 20, {"length": 0}, "dataset.length=0"),
        ("a text " * 20, {"cache": ""}, "dataset.cache='' must be the path of a folder, or null"),
        ("a text " * 20, {"share": 1.5}, "dataset.share=1.5 is outside"),
        ("a text " * 20, {"tokenizer": Bytes(), "vocabulary": 100}, "beyond dataset.vocabulary"),
    ],
)
def test_a_text_that_does_not_do_is_refused(content, options, said, tmp_path, cache) -> None:
    with pytest.raises(UserError, match=said):
        windows(tmp_path / "a.txt", content, **options)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"good\n\xff\n")
    with pytest.raises(UserError, match=r"a\.txt, line 2, is no UTF-8"):
        corpus(path=str(tmp_path / "a.txt"), length=4, vocabulary=20)


# --- as a run


def text_run(root: Path, *words: str):
    """A config of a small network on the files of a folder, checked and built."""
    overrides = [
        "dataset=text", "model=transformer", "model.width=8", "dataset.vocabulary=20",
        "dataset.length=4", f"dataset.root={root}", "train.batch_size=2", "device=cpu", *words,
    ]  # fmt: skip
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return parts_of(compose("config", overrides=overrides))


def test_another_file_under_the_same_path_is_another_run(folder: Path, tmp_path: Path) -> None:
    before = text_run(folder).run_id
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write(elsewhere, train_tsv=TRAIN, dev_tsv=DEV, test_tsv=TEST)
    assert text_run(elsewhere).run_id == before
    write(folder, dev_tsv=DEV.replace("bad bad", "good bad"))
    assert text_run(folder).run_id != before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dataset.num_classes=null"], "objective=classification needs class numbers"),
        (["objective=next_token"], "objective=next_token needs token numbers"),
        (["model.vocabulary=5"], "the largest token number is 8, the largest embedding has 5"),
        (["model.length=3"], "the samples have 4 tokens, but the model has 3 positions"),
        (["model.heads=3"], "model.width=8 is not divisible by model.heads=3"),
        (["model=causal_transformer"], "its forward takes no 'attention_mask'"),
        (["control=[random_data]"], "needs samples in memory with a class number each"),
        (["pruner=synflow"], "needs inputs that are plain numbers"),
        (["covers.also=[trunk.norm1]"], "matches no tensor"),
    ],
)
def test_what_does_not_fit_a_text_is_told_before_any_training(words, said, folder: Path) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        text_run(folder, *words)


def test_embeddings_are_covered_where_that_is_asked_for(folder: Path) -> None:
    tasks = [text_run(folder, f"covers={name}").experiment.tasks[0] for name in
             ("default", "embeddings")]  # fmt: skip
    added = {*tasks[1].prunable} - {*tasks[0].prunable}
    assert added == {"trunk.token_embedding.weight", "trunk.position_embedding.weight"}
    assert tasks[0].passed_over == (
        "trunk.token_embedding.weight", "trunk.position_embedding.weight",
    )  # fmt: skip
