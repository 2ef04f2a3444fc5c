"""Words with tags: columns of files, tags at first pieces, spans as conlleval has them, a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import pretrained
from command import lth_run
from lth_runner.problem.answers import Tally
from lth_runner.problem.data import TokenizerFile, Words, tagged_files
from lth_runner.problem.data.columns import Columns
from lth_runner.problem.data.tags import span_facts
from lth_runner.problem.fits import check_fits
from lth_runner.problem.models.hugging_face import HuggingFace
from lth_runner.problem.objective import CrossEntropy, Tagging
from lth_runner.problem.outcomes import measure, sampled_unit
from lth_runner.problem.task import Task
from lth_runner.problem.unlearned import majority
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream
from test_text import BERT_TOKENS, bert_file

NAMES = ["B-X", "I-X", "O"]
# abc is three pieces, and ab two
TRAIN = "-DOCSTART- -X- O\n\nabc NN B-X\nd VB I-X\nab NN O\n\n\ng\tVB\tO\nab cd\tNN\tB-X\n"
TEST = "d NN O\nefg NN B-X\n"


def files(root: Path, train: str = TRAIN, test: str = TEST) -> Path:
    for name, content in (("train", train), ("valid", test), ("test", test)):
        (root / f"{name}.txt").write_text(content)
    return root


def read(root: Path, **options: Any):
    bert_file(root)
    return tagged_files(**{
        "root": str(root), "length": 12, "vocabulary": BERT_TOKENS, "num_classes": 3,
        "tokenizer": TokenizerFile(str(root)), "cache": str(root / "cache"),
    } | options)  # fmt: skip


def taken(samples, *numbers: int):
    index = torch.tensor(numbers or range(len(samples)))
    return samples.take(index, stream(0, "draw"))


def test_a_tag_stands_at_the_first_piece_of_its_word_and_nowhere_else(tmp_path: Path) -> None:
    data = read(files(tmp_path))
    inputs, targets = taken(data.train)
    # [CLS] a ##b ##c d a ##b [SEP] and [CLS] g a ##b c ##d [SEP], padded to a multiple of 8
    ids = [[2, 5, 13, 14, 8, 5, 13, 3], [2, 11, 5, 13, 7, 15, 3, 0]]
    assert inputs["input_ids"].tolist() == ids
    assert inputs["attention_mask"].tolist() == [[1] * 8, [1] * 7 + [0]]
    none = -100
    assert targets["tag"].tolist() == [
        [none, 0, none, none, 1, 2, none, none],
        [none, 2, 0, none, none, none, none, none],
    ]
    one = taken(data.train, 1)[1]["tag"]
    assert one.tolist() == targets["tag"][1:].tolist()
    assert data.num_classes == 3
    assert data.told == "3 tags: B-X, I-X, O"
    again = read(tmp_path)
    assert again.fingerprint == data.fingerprint
    assert read(tmp_path, tags=["O", "I-X", "B-X"]).fingerprint != data.fingerprint


def test_words_beyond_the_length_take_no_part_and_are_counted(tmp_path: Path) -> None:
    data = read(files(tmp_path), length=6)
    assert taken(data.train)[1]["tag"].tolist() == [
        [-100, 0, -100, -100, 1, -100],
        [-100, 2, 0, -100, -100, -100],
    ]
    assert "; 1 of 9 words lie beyond dataset.length=6" in data.told
    with pytest.raises(UserError, match=r"train\.txt, line 3: dataset\.length=2 has no room"):
        read(tmp_path, length=2)


def test_splits_are_files_or_held_out(tmp_path: Path) -> None:
    data = read(files(tmp_path), val=None, validation=1, subset=1)
    assert [len(split) for split in (data.train, data.val, data.test)] == [1, 1, 1]
    assert len(read(tmp_path).train) == 2


CONLLU = (
    "# text = ab du c\n1-2\tabdu\t_\t_\t_\t_\t_\t_\t_\t_\n1\tab\tab\tNOUN\tX\t_\t_\t_\t_\t_\n"
    "2\td u\td\tDET\tX\t_\t_\t_\t_\t_\n2.1\tx\tx\tVERB\tX\t_\t_\t_\t_\t_\n#\n"
    "3\t#\tc\tNOUN\tX\t_\t_\t_\t_\tA=B\n\n"
)


@pytest.mark.parametrize(
    ("content", "columns", "words", "tags"),
    [
        (CONLLU, Columns("conllu"), "ab|d u|#", "NOUN|DET|NOUN"),
        (CONLLU, Columns("conllu", 2, 4), "ab|d|c", "X|X|X"),
        ("# an id\n# O\nb X\r\n", Columns(comments=True), "b", "X"),
        ("# O\nb\u00a0c  X\n \t \n", Columns(), "#|b\u00a0c", "O|X"),
        ("X 1 a\nY 2 b", Columns(word_column=-1, tag_column=0), "a|b", "X|Y"),
        ("a X more\nb Y", Columns(tag_column=1), "a|b", "X|Y"),
    ],
)
def test_lines_are_read_as_their_layout_has_them(content, columns, words, tags, tmp_path) -> None:
    path = tmp_path / "words.txt"
    path.write_text(content, newline="")
    (sentence,) = columns.read(path)
    assert ("|".join(sentence.words), "|".join(sentence.tags)) == (words, tags)


@pytest.mark.parametrize(
    ("train", "options", "said"),
    [
        ("", {}, r"train\.txt holds no sentence"),
        ("-DOCSTART- O\n\n", {}, r"train\.txt holds no sentence"),
        ("a O\nb\n", {}, r"train\.txt, line 2, is cut into 1 cells, and line 1 into 2"),
        ("a\n", {}, r"train\.txt, line 1, has 1 column, too few"),
        ("a O\n", {"tag_column": 2}, r"train\.txt, line 1, has 2 columns, too few .* column 2"),
        ("a\t\n", {}, r"train\.txt, line 1, has no tag"),
        ("a O\n", {"layout": "conllu"}, r"train\.txt, line 1, is none of CoNLL-U"),
        ("a O\n", {"layout": "csv"}, r"dataset\.layout=csv: accepted: columns, conllu"),
        ("a O\n", {"word_column": 1, "tag_column": 1}, "are one column"),
        (TRAIN, {"num_classes": 9}, r"num_classes=9, but .*train\.txt has 3 tags \(B-X, I-X, O\)"),
        (TRAIN, {"num_classes": 2, "tags": ["O", "X"]}, r"line 3: .* 'B-X' is not in dataset\.ta"),
        (TRAIN, {"tags": ["O", "X", "O"]}, "names 'O' twice"),
        (TRAIN.replace("B-X", "I-X"), {"num_classes": 2},
         r"valid\.txt, line 2: the tag 'B-X' is not in the training file"),
        (TRAIN, {"val": "dev.txt"}, r"dev\.txt is no file: dataset\.val .* holds test\.txt, "),
        (TRAIN, {"tokenizer": Words(40)}, "dataset/tokenizer=file"),
        (TRAIN, {"vocabulary": 40}, "the tokenizer has 19 tokens"),
        (TRAIN, {"length": 0}, r"dataset\.length=0"),
    ],
)  # fmt: skip
def test_what_is_no_tagged_text_is_told(train, options, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        read(files(tmp_path, train), **options)


def test_a_word_is_encoded_as_behind_a_space_where_bytes_are_merged(tmp_path: Path) -> None:
    library = pytest.importorskip("tokenizers", reason="the extra [text] is not installed")
    vocabulary = {piece: number for number, piece in enumerate(["\u0120", "a", "b", "\u0120a"])}
    made = library.Tokenizer(library.models.BPE(vocabulary, [("\u0120", "a")]))
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.save(str(tmp_path / "tokenizer.json"))
    encode = TokenizerFile(str(tmp_path)).encoder(())
    assert encode.of_words(["a", "ab"], None) == ([3, 3, 2], [0, 1, 1])
    assert encode(["a ab"], None)[1:] == [3, 2]


def tagged(there: str, said: str, *, names: tuple[str, ...] | None = None):
    """Outputs and targets of sentences: of each word its tag and a piece without, and padding."""
    true, answered = (
        [line.split() for line in text.replace("x", "-X").replace("y", "-Y").split("|")]
        for text in (there, said)
    )
    known = names or tuple(sorted({tag for line in (*true, *answered) for tag in line}))
    width = 2 * max(map(len, true)) + 1
    tags = torch.full((len(true), width), -100)
    numbers = torch.zeros(len(true), width, dtype=torch.int64)  # the first tag where no word is
    for row, (one, other) in enumerate(zip(true, answered, strict=True)):
        for place, (tag, answer) in enumerate(zip(one, other, strict=True)):
            tags[row, 2 * place + 1] = known.index(tag)
            numbers[row, 2 * place + 1] = known.index(answer)
    facts = {name: fact.repeat(len(true), 1) for name, fact in span_facts(known).items()}
    return F.one_hot(numbers, len(known)).float(), {"tag": tags, **facts}


@pytest.mark.parametrize(
    ("there", "said", "found", "num_said", "num_there"),
    [
        ("Bx Ix O By", "Bx Ix O By", 2, 2, 2),
        ("Bx Ix Ix O", "Bx Ix O O", 0, 1, 1),  # a shorter one is another
        ("Ix Ix O Iy", "Bx Ix O By", 2, 2, 2),  # I- without B- begins one
        ("Ix Bx Ix", "Ix Ix Ix", 0, 1, 2),  # B- beside I- of its type begins another
        ("Bx Bx O", "Bx Bx O", 2, 2, 2),  # two side by side
        ("Bx Bx O", "Bx Ix O", 0, 1, 2),
        ("Bx Iy O", "Bx By O", 2, 2, 2),  # another type ends one and begins one
        ("Bx Ix", "By Iy", 0, 1, 1),
        ("O O O", "O Bx O", 0, 1, 0),
        ("Bx O O", "O O O", 0, 0, 1),
        ("O O", "O O", 0, 0, 0),
        ("O Bx|Ix O", "O Bx|Ix O", 2, 2, 2),  # none goes on into the next sentence
        ("Sx Sx Bx Ix Ex Ix", "Sx Bx Bx Ix Ex Bx", 4, 4, 4),
        ("Bx Ex Ex", "Bx Ix Ex", 0, 1, 2),  # behind an end something begins
        ("B I O B", "B I O O", 1, 1, 2),  # of one type that has no name
    ],
)
def test_spans_are_those_of_conlleval(there, said, found, num_said, num_there) -> None:
    outputs, targets = tagged(there, said)
    objective = Tagging()
    counts = objective.totals(outputs, targets).tolist()[3:]
    assert counts == [found, num_said, num_there]
    figures = objective.values(objective.totals(outputs, targets))
    below = num_said + num_there
    assert figures["span_f1"] == pytest.approx(2 * found / below if below else 0)


def test_spans_are_seqevals() -> None:
    metrics = pytest.importorskip("seqeval.metrics", reason="seqeval is not installed")
    there, said = "Bx Ix O Iy By|O Ix Bx Ix", "Bx Ix O By Iy|Bx Ix Ix Ix"
    outputs, targets = tagged(there, said)
    lines = ([line.split() for line in text.replace("x", "-X").replace("y", "-Y").split("|")]
             for text in (there, said))  # fmt: skip
    found = Tagging().values(Tagging().totals(outputs, targets))
    assert found["span_f1"] == pytest.approx(metrics.f1_score(*lines))


def test_loss_and_measures_count_tagged_words_and_add_up(tmp_path: Path) -> None:
    there = "Bx Ix O O|O Bx|O O O"
    outputs, targets = tagged(there, "Bx Ix Bx O|O O|O O O")
    objective = Tagging()
    assert objective.weight(targets) == 9
    losses = outputs.log_softmax(2).max(2).values  # of a right answer
    figures = objective.values(objective.totals(outputs, targets))
    assert figures["accuracy"] == pytest.approx(7 / 9)
    assert figures["span_f1"] == pytest.approx(2 * 1 / (2 + 2))
    right, wrong = -float(losses[0, 1]), -float(losses[0, 1]) + 1
    assert figures["loss"] == pytest.approx((7 * right + 2 * wrong) / 9, rel=1e-5)
    assert objective.loss(outputs, targets).item() == pytest.approx(figures["loss"], rel=1e-5)
    moved = outputs.clone()
    moved[targets["tag"] == -100] = 9.0
    assert torch.equal(objective.loss(moved, targets), objective.loss(outputs, targets))
    for one in (objective, Tagging(headline="accuracy")):
        tally = Tally(one, by_sample=True)
        for part in (slice(0, 1), slice(1, 3)):
            tally.add(outputs[part], {name: value[part] for name, value in targets.items()})
        assert tally.figures() == pytest.approx(one.values(one.totals(outputs, targets)))
        values = one.sample_values(tally.parts, tally.totals)
        assert values.mean().item() == pytest.approx(tally.figures()[one.measures[0].name])
    none = {**targets, "tag": torch.full_like(targets["tag"], -100)}
    assert objective.loss(outputs, none).item() == 0
    assert objective.smoothed(0.1).loss(outputs, targets) > objective.loss(outputs, targets)


@pytest.fixture
def model(tmp_path: Path) -> str:
    pytest.importorskip("transformers", reason="the extra [nlp] is not installed")
    return pretrained.folder(tmp_path / "bert", vocab_size=BERT_TOKENS)


def test_tags_are_a_problem_and_a_test_sample_is_a_sentence(tmp_path: Path, model: str) -> None:
    data = read(files(tmp_path))
    task = Task(HuggingFace(model, "token_classification", 3), data, objective=Tagging())
    check_fits(task)
    assert data.class_names == ("B-X", "I-X", "O")
    outcomes = measure(task, task.init(), "test")
    assert outcomes.figures(Tagging()) == pytest.approx(task.evaluate(task.init(), "test"))
    assert sampled_unit(task) == "sentences"
    # of train's five tags O and B-X are each two: the first of them is B-X, of test's two words one
    assert majority(task) == {"span_f1": pytest.approx(2 * 1 / (2 + 1)), "accuracy": 0.5}


def test_a_head_or_an_objective_of_another_kind_is_refused(tmp_path: Path, model: str) -> None:
    data = read(files(tmp_path))
    for task in ("sequence_classification", "next_token"):
        with pytest.raises(UserError, match=r"model\.task=token_classification"):
            check_fits(Task(HuggingFace(model, task, 3), data, objective=Tagging()))
    head = HuggingFace(model, "token_classification", 3)
    with pytest.raises(UserError, match="multi_label, tagging"):
        check_fits(Task(head, data, objective=CrossEntropy()))
    small = HuggingFace(pretrained.folder(tmp_path / "more"), "token_classification", 3)
    with pytest.raises(UserError, match="dataset=tagged"):
        check_fits(Task(small, pretrained.sentences(), objective=Tagging()))
    with pytest.raises(UserError, match=r"model\.task=token_classification .* at each token"):
        check_fits(Task(small, pretrained.sentences(), objective=CrossEntropy()))
    parts = files(tmp_path, TRAIN.replace("B-X", "N").replace("I-X", "V"), TEST.replace("B-X", "N"))
    task = Task(head, read(parts), objective=Tagging())
    with pytest.raises(UserError, match=r"2 of 3 tags are none .*objective\.headline=accuracy"):
        check_fits(task)
    check_fits(Task(head, read(parts), objective=Tagging(headline="accuracy")))
    with pytest.raises(UserError, match=r"objective\.headline: did you mean span_f1"):
        Tagging(headline="span_f")  # type: ignore[arg-type]


def test_a_ticket_of_a_tagger_is_found(tmp_path: Path, model: str, caplog) -> None:
    lines = "".join(f"{word} {tag}\n\n" * 6 for word, tag in (("abc", "B-X"), ("d", "O")))
    files(tmp_path, lines, TEST)
    bert_file(tmp_path / "bert")
    words = [
        "+scale=smoke", "dataset=tagged", f"dataset.root={tmp_path}", "dataset.num_classes=2",
        f"dataset.vocabulary={BERT_TOKENS}", "dataset.length=16", f"dataset.cache={tmp_path}/cache",
        "model=hf", f"model.path={model}", "model.task=token_classification", "objective=tagging",
        "train=sgd", "train.batch_size=4", "probe=none", "control=none", "device=cpu", "threads=1",
        "record=local", "name=tags", f"paths.outputs={tmp_path}/outputs",
    ]  # fmt: skip
    said = lth_run(*words)
    assert said.status == 0, said.err
    assert "data     2 tags: B-X, O" in caplog.text
    (rows,) = (tmp_path / "outputs").rglob("rounds.jsonl")
    last = json.loads(rows.read_text().splitlines()[-1])
    assert {"test_span_f1", "test_accuracy", "test_loss"} <= set(last)
    refused = lth_run(*(w for w in words if not w.startswith("model.task")), "name=refused")
    assert refused.status == 2
    assert "model.task=token_classification" in refused.err
