"""Questions with passages: windows by stride, the best span over them, the published measures."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lth_runner.problem.answers import Tally
from lth_runner.problem.data import TokenizerFile, squad
from lth_runner.problem.fits import check_fits
from lth_runner.problem.objective import CrossEntropy, Span
from lth_runner.problem.objective.span import best_match
from lth_runner.problem.outcomes import measure, sampled_unit
from lth_runner.problem.task import Task
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream
from test_text import BERT_TOKENS, bert_file

PASSAGE = "abc d ef \u2014 ga bcd, efg ab cd fe gab cde fga"  # a dash takes three bytes


def question(number: int, text: str, *answers: str) -> dict[str, Any]:
    found = [{"text": one, "answer_start": PASSAGE.find(one)} for one in answers]
    return {"id": str(number), "question": text, "answers": found}


QUESTIONS = [question(0, "ab?", "ga bcd"), question(1, "  d", "fga", "cde fga", "fga"),
             question(2, "ef", "abc")]  # fmt: skip


def published(root: Path, *paragraphs: list[dict[str, Any]]) -> Path:
    data = [{"title": "t", "paragraphs": [{"context": PASSAGE, "qas": qas} for qas in paragraphs]}]
    for name in ("train", "dev"):
        (root / f"{name}-v1.1.json").write_text(json.dumps({"version": "1.1", "data": data}))
    return root


def read(root: Path, **options: Any):
    bert_file(root)
    return squad(**{
        "root": str(root), "length": 20, "stride": 4, "vocabulary": BERT_TOKENS, "validation": 0,
        "tokenizer": TokenizerFile(str(root)), "cache": str(root / "cache"),
    } | options)  # fmt: skip


def taken(samples):
    return samples.take(torch.arange(len(samples)), stream(0, "draw"))


def said(targets, row: int, start: int, end: int) -> str:
    codes = targets["text"][row, targets["begins"][row, start] : targets["stops"][row, end]]
    return "".join(map(chr, codes.tolist()))


def test_windows_share_tokens_and_know_where_the_answer_is(tmp_path: Path) -> None:
    data = read(published(tmp_path, QUESTIONS))
    inputs, targets = taken(data.train)
    ids, segments = inputs["input_ids"], inputs["token_type_ids"]
    assert ids.shape[1] <= 20
    library = TokenizerFile(str(tmp_path)).encoder(()).library
    library.no_truncation()
    whole = library.encode(PASSAGE, add_special_tokens=False).ids
    for number in range(3):
        rows = (targets["question"] == number).nonzero().squeeze(1).tolist()
        assert len(rows) > 1
        windows = []
        for row in rows:
            inside = targets["begins"][row] >= 0
            assert torch.equal(inside, (segments[row] == 1) & (ids[row] != 3))
            assert inputs["attention_mask"][row].sum() == targets["length"][row]
            windows.append(ids[row][inside].tolist())
            assert said(targets, row, *inside.nonzero()[[0, -1], 0].tolist()) in PASSAGE
        joined = windows[0]
        for window in windows[1:]:
            assert joined[-4:] == window[:4]
            joined = joined + window[4:]
        assert joined == whole
    answers = {0: "ga bcd", 1: "fga", 2: "abc"}
    found = set()
    for row, (start, end) in enumerate(zip(targets["start"], targets["end"], strict=True)):
        number = int(targets["question"][row])
        if end:
            assert said(targets, row, int(start), int(end)) == answers[number]
            found.add(number)
        else:
            assert start == 0
    assert found == {0, 1, 2}


def sharp(targets, row: int, text: str, height: float, width: int) -> torch.Tensor:
    """Outputs of one window that are certain of a text of it."""
    outputs = torch.zeros(width, 2)
    begin = "".join(chr(c) for c in targets["text"][row].tolist() if c >= 0).find(text)
    assert begin >= 0
    begins, stops = targets["begins"][row], targets["stops"][row]
    outputs[(begins == begin).nonzero()[0, 0], 0] = height
    outputs[(stops == begin + len(text)).nonzero()[0, 0], 1] = height
    return outputs


def test_the_answer_is_the_best_span_over_the_windows_of_a_question(tmp_path: Path) -> None:
    data = read(published(tmp_path, QUESTIONS))
    _, targets = taken(data.test)
    width = targets["begins"].shape[1]
    outputs = torch.zeros(len(targets["question"]), width, 2)
    rows = [(targets["question"] == number).nonzero().squeeze(1).tolist() for number in range(3)]
    right = next(row for row in rows[0] if targets["end"][row])
    wrong = next(row for row in rows[0] if row != right)
    outputs[right] = sharp(targets, right, "ga bcd", 5.0, width)
    outputs[wrong] = sharp(targets, wrong, "ab", 9.0, width)  # the wrong window is surer
    last = rows[1][-1]
    outputs[last] = sharp(targets, last, "cde fga", 5.0, width)  # an accepted answer
    first = rows[2][0]
    outputs[first] = sharp(targets, first, "abc d", 5.0, width)  # one word of two is right
    tally = Tally(Span(), by_sample=True)
    for begin in range(0, len(outputs), 2):  # the windows of a question in several batches
        part = slice(begin, begin + 2)
        tally.add(outputs[part], {name: value[part] for name, value in targets.items()})
    found = tally.figures()
    f1 = [0.0, 1.0, 2 / 3]
    assert found["f1"] == pytest.approx(sum(f1) / 3)
    assert found["exact_match"] == pytest.approx(1 / 3)
    values = Span().sample_values(tally.parts, tally.totals)
    assert values.tolist() == pytest.approx(f1)
    assert found["loss"] == pytest.approx(Span().loss(outputs, targets).item(), rel=1e-5)


def test_a_span_goes_forward_in_the_passage_and_is_not_too_long(tmp_path: Path) -> None:
    data = read(published(tmp_path, QUESTIONS))
    _, targets = taken(data.test)
    one = {name: value[:1] for name, value in targets.items()}
    width = one["begins"].shape[1]
    inside = (one["begins"][0] >= 0).nonzero().squeeze(1).tolist()
    outputs = torch.zeros(1, width, 2)
    outputs[0, :, 0], outputs[0, :, 1] = torch.arange(width, 0, -1), torch.arange(width)
    outputs[0, 0] = 99.0  # the first token is not of the passage
    best = max(
        (float(outputs[0, start, 0] + outputs[0, end, 1]), -(end - start), -start)
        for start in inside for end in inside if start <= end < start + 3
    )  # fmt: skip
    assert Span(longest=3).sample_parts(outputs, one)[1].item() == best[0]
    backwards = torch.zeros(1, width, 2)
    backwards[0, inside[-1], 0] = backwards[0, inside[0], 1] = 9.0
    assert Span().sample_parts(backwards, one)[1].item() == 9.0


def test_padding_takes_no_part_in_the_loss(tmp_path: Path) -> None:
    _, targets = taken(read(published(tmp_path, QUESTIONS)).test)
    outputs = torch.randn(*targets["begins"].shape, 2, generator=stream(0, "outputs"))
    other = outputs.clone()
    padded = torch.arange(outputs.shape[1]) >= targets["length"][:, None]
    other[padded] = 50.0
    assert padded.any()
    torch.testing.assert_close(Span().loss(other, targets), Span().loss(outputs, targets))


@pytest.mark.parametrize(
    ("text", "answers", "exact", "f1"),
    [
        ("The Cat.", ["a cat"], 1, 1),  # no case, punctuation, articles
        ("cat  sat", ["the cat", "sat on it"], 0, 2 / 3),
        ("cat cat dog", ["cat dog dog"], 0, 2 / 3),  # a word counts as often as in both
        ("dog", ["cat"], 0, 0),
        ("x-ray", ["xray"], 1, 1),
        ("", ["cat"], 0, 0),
    ],
)
def test_texts_are_compared_as_the_published_script_does(text, answers, exact, f1) -> None:
    assert best_match(text, answers) == pytest.approx((exact, f1))


class Reader(nn.Module):
    """Answers by the tokens alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.output = nn.Embedding(BERT_TOKENS, 8), nn.Linear(8, 2)

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.output(self.embedding(input_ids))


def test_questions_are_a_problem_and_a_test_sample_is_a_question(tmp_path: Path) -> None:
    data = read(published(tmp_path, QUESTIONS, QUESTIONS[:1]), validation=1)
    assert len(taken(data.val)[1]["question"].unique()) in (1, 3)  # a passage with all of its own
    task = Task(Reader, data, objective=Span())
    check_fits(task)
    weights = task.init()
    outcomes = measure(task, weights, "test")
    assert outcomes.by_sample is not None
    assert len(outcomes.by_sample) == 4
    assert outcomes.figures(Span()) == pytest.approx(task.evaluate(weights, "test"))
    assert sampled_unit(task) == "questions"
    again = read(tmp_path, validation=1)
    assert again.fingerprint == data.fingerprint
    assert read(tmp_path, validation=1, stride=5).fingerprint != data.fingerprint


@pytest.mark.parametrize(
    ("paragraph", "options", "said"),
    [
        ([{"id": "7", "question": "a", "answers": []}], {}, "question '7' has no answer"),
        ([{"id": "7", "question": "a", "answers": [{"text": "abc", "answer_start": 1}]}], {},
         "question '7': its passage has not 'abc' at character 1"),
        ([{"id": "7"}], {}, "is no file of SQuAD v1.1"),
        ([], {}, "holds no question"),
        (QUESTIONS, {"length": 5, "stride": 4}, "give a larger length"),
        (QUESTIONS, {"stride": 20}, r"dataset\.stride=20"),
        (QUESTIONS, {"vocabulary": 40}, "the tokenizer has 19 tokens"),
        (QUESTIONS, {"train": "none.json"}, r"none\.json is no file.*fetch_data\.py squad"),
    ],
)  # fmt: skip
def test_what_is_no_squad_is_told(paragraph, options, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        read(published(tmp_path, paragraph), **options)


def test_answers_and_targets_of_another_kind_are_refused(tmp_path: Path) -> None:
    data = read(published(tmp_path, QUESTIONS))
    with pytest.raises(UserError, match="objective=span needs questions"):
        Span().check(torch.zeros(2, 5, 2), torch.zeros(2), None)
    _, targets = data.sample(2, 0)
    with pytest.raises(UserError, match="question_answering"):
        Span().check(torch.zeros(2, 3), targets, None)
    with pytest.raises(UserError, match="class numbers"):
        check_fits(Task(partial(Reader), data, objective=CrossEntropy()))
