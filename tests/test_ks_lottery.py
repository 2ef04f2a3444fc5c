"""Tickets of an embedding's rows: which are kept, what is trained, and what stands beside them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from command import folders, lth_run, rows
from lth_runner.control import FrequentRows, LowestRows, RandomRows, TemplateRows
from lth_runner.probe import Certificate, Generation
from lth_runner.probe.reference import first_tested
from lth_runner.problem import Delta, evaluated
from lth_runner.problem.data import Data, SampledData, Tokens, cipher_answers, cipher_records
from lth_runner.problem.models import causal_transformer
from lth_runner.problem.objective import NextToken
from lth_runner.problem.task import Task
from lth_runner.search import KsLottery
from lth_runner.search.ticket import Ticket
from lth_runner.search.untrained import Untrained
from lth_runner.values.errors import UserError
from lth_runner.values.steps import Clock

NAME = "trunk.parametrizations.token_embedding.weight.original"
EMBEDDING = "trunk.token_embedding.weight"
CLOCK = Clock(epoch=10, total=10)
E, C, END, NEWLINE, COLON = 8, 6, 1, 2, 3


def task(tied: bool = False, only: tuple[str, ...] = (EMBEDDING,)) -> Task:
    model = partial(
        causal_transformer, vocabulary=30, length=24, width=8, depth=1, heads=2, tied=tied
    )
    data = cipher_answers(length=24, num_train=40, num_test=10, validation=4)
    return Task(model, data, objective=NextToken(), coordinates=Delta(only=only))


def embed_tuned(one: Task, moved: dict[int, float]) -> Untrained:
    """Round 0, in which training has moved some rows, by so much each."""
    weights = one.init()
    for row, by in moved.items():
        weights[one.prunable[0]][row] += by
    return Untrained(one, Ticket(one.dense(), weights), CLOCK)


def kept_rows(ticket: Ticket) -> list[int]:
    [mask] = ticket.mask.values()
    assert torch.equal(mask.any(1), mask.all(1))
    return mask.any(1).nonzero()[:, 0].tolist()


MOVED = {3: 5.0, 7: 4.0, 9: 0.01, 20: 0.02}


def test_the_rows_that_moved_most_are_kept_whole_and_start_where_they_were() -> None:
    one = task()
    ticket = KsLottery(alpha=None, num_rows=2).propose(one, [embed_tuned(one, MOVED)])
    assert kept_rows(ticket) == [3, 7]
    assert not any(bool(value.any()) for value in ticket.weights.values())
    assert ticket.start.step == 0


def test_a_share_of_rows_is_counted_to_the_row_and_alpha_keeps_what_has_moved() -> None:
    one = task()
    past = [embed_tuned(one, MOVED)]
    share = KsLottery(alpha=None, sparsity=0.9).propose(one, past)
    assert kept_rows(share) == [3, 7, 20]
    # d = 8: D = 1 has p = 2 / C(16, 8) = 1.6e-4
    assert kept_rows(KsLottery(alpha=0.05).propose(one, past)) == [3, 7]
    with pytest.raises(UserError, match=r"no row has moved: of 30 the smallest p is 0\.00016"):
        KsLottery(alpha=0.004).propose(one, past)  # / 30 rows


def test_partial_transfer_takes_the_trained_rows_and_trains_nothing() -> None:
    one = task()
    past = [embed_tuned(one, MOVED)]
    ticket = KsLottery(alpha=None, num_rows=2, transfer=True).propose(one, past)
    assert ticket.start.is_end(CLOCK)
    found, before = one.merged(ticket.masked), one.merged(one.init())
    trained = one.merged(past[0].weights)
    changed = (found[EMBEDDING] != before[EMBEDDING]).any(1).nonzero()[:, 0].tolist()
    assert changed == [3, 7]
    assert torch.equal(found[EMBEDDING][changed], trained[EMBEDDING][changed])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"num_rows": 3}, "give one of them"),
        ({"alpha": None}, "give one of them"),
        ({"alpha": 1.5}, r"pruner\.alpha=1\.5 must lie between"),
        ({"alpha": None, "num_rows": 0}, "at least 1"),
        ({"alpha": None, "num_rows": 30}, "keeps 30 of 30 rows"),
        ({"alpha": None, "sparsity": 0.999}, "keeps 0 of 30 rows"),
        ({"correction": "holm"}, r"pruner\.correction='holm'"),
        ({"rounds": 5}, r"pruner\.rounds=5: one round"),
        ({"rate": 0.5}, r"pruner\.rate=0\.5: no share of rows"),
    ],
)
def test_a_mistake_is_told_before_any_training(values: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        KsLottery(**values).check(task(), CLOCK, lambda step, clock: 1.0)


def test_weights_that_are_no_deltas_and_vectors_are_refused(caplog) -> None:
    one = task()
    plain = Task(one.model, one.data, objective=NextToken())
    for wrong, says in (
        (plain, "coordinates=delta"),
        (task(only=("trunk.norm.weight",)), r"trunk\.norm\.weight has none"),
    ):
        with pytest.raises(UserError, match=says):
            KsLottery().check(wrong, CLOCK, lambda step, clock: 1.0)


def test_a_tied_output_layer_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    KsLottery().check(task(), CLOCK, lambda step, clock: 1.0)
    assert "tied" not in caplog.text
    KsLottery().check(task(tied=True), CLOCK, lambda step, clock: 1.0)
    assert f"{EMBEDDING} is used by output too" in caplog.text


def test_controls_keep_as_many_rows_and_those_that_they_say() -> None:
    one = task()
    past = [embed_tuned(one, dict.fromkeys(range(10), 5.0))]
    ticket = KsLottery(alpha=None, num_rows=10).propose(one, past)
    drawn = [kept_rows(RandomRows()(one, ticket, past, seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 10
    assert set(kept_rows(LowestRows()(one, ticket, past, 0))).isdisjoint(range(10))
    frequent = kept_rows(FrequentRows()(one, ticket, past, 0))
    assert {E, C, NEWLINE, COLON} < set(frequent)
    assert 0 not in frequent  # padding is read by nobody
    assert kept_rows(TemplateRows()(one, ticket, past, 0)) == sorted([NEWLINE, COLON, C, E])
    assert kept_rows(TemplateRows(tokens=[5, 11])(one, ticket, past, 0)) == [5, 11]


def test_a_control_of_rows_is_refused_where_it_cannot_be_had() -> None:
    one = task()
    [mask] = one.dense().values()
    parts = Ticket(
        type(one.dense())({NAME: torch.arange(mask.numel()).view_as(mask) % 2 == 0}), one.init()
    )
    with pytest.raises(UserError, match=r"keeps parts of rows"):
        RandomRows().check_ticket(one, parts, [])
    with pytest.raises(UserError, match=r"control\.template_rows\.tokens=\[30\]"):
        TemplateRows(tokens=[30]).check(one, None, None)
    floats = Data.from_tensors(
        (torch.zeros(4, 3), torch.zeros(4)), (torch.zeros(4, 3), torch.zeros(4))
    )
    with pytest.raises(UserError, match="need inputs of one tensor of token numbers"):
        FrequentRows().check(Task(one.model, floats), None, None)


class Table(nn.Module):
    """Says for each token which comes next."""

    def __init__(self, follows: dict[int, int]) -> None:
        super().__init__()
        logits = torch.zeros(10, 10)
        for token, after in follows.items():
            logits[token, after] = 9.0
        self.logits = nn.Parameter(logits)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits[tokens]


@pytest.mark.parametrize(
    ("follows", "exact", "line", "stops"),
    [
        ({5: 6, 6: 7, 7: END}, 1.0, 1.0, 1.0),
        ({5: 6, 6: 7, 7: NEWLINE, NEWLINE: 5}, 0.0, 1.0, 0.0),  # right, and writes on
        ({5: 6, 6: 8, 8: END}, 0.0, 0.0, 1.0),
        ({5: 6, 6: 6}, 0.0, 0.0, 0.0),
    ],
)
def test_what_is_written_is_scored_by_hand(follows, exact, line, stops) -> None:
    inputs = torch.tensor([[4, 5, 6, 7, 0, 0, 0, 0]])
    targets = torch.tensor([[-100, 6, 7, END, -100, -100, -100, -100]])
    data = Data.from_tensors((inputs, targets), (inputs, targets), validation=0, num_classes=10)
    one = Task(partial(Table, follows), data, objective=NextToken())
    trained = Untrained(one, Ticket(one.dense(), one.init()), CLOCK)
    found = dict(Generation(newline=NEWLINE)(one, [], trained))
    assert found["generated_exact"] == found["before_generated_exact"] == exact
    assert found["generated_first_line"] == line
    assert found["generated_stops"] == stops


def test_as_many_samples_are_looked_at_however_few_a_network_takes_at_once(
    monkeypatch, tmp_path
) -> None:
    one = task()
    past = [embed_tuned(one, MOVED)]
    ticket = KsLottery(alpha=None, num_rows=2, transfer=True).propose(one, past)
    probes = Generation(num_samples=7), Certificate(num_samples=7)
    measure = [partial(probe, one, past, Untrained(one, ticket, CLOCK)) for probe in probes]
    whole = [dict(measured()) for measured in measure]
    monkeypatch.setattr(evaluated, "VALUES", 2 * 24 * 32)  # two samples of the widest layer
    assert [len(targets) for _, targets in first_tested(one, 7)] == [2, 2, 2, 1]
    assert [dict(measured()) for measured in measure] == whole
    monkeypatch.undo()
    path = tmp_path / "tokens.bin"
    path.write_bytes((torch.arange(250) % 30).to(torch.uint16).numpy().tobytes())
    text = Tokens(str(path), length=24, vocabulary=30)
    few = replace(one, data=SampledData(train=text, val=None, test=text, evaluated=4))
    assert [len(targets) for _, targets in first_tested(few, 7)] == [4, 3]


def test_a_sample_without_a_target_has_no_answer_to_be_written() -> None:
    inputs = torch.tensor([[4, 5, 6, 7], [4, 5, 6, 7]])
    targets = torch.tensor([[-100, 6, 7, END], [-100, -100, -100, -100]])
    data = Data.from_tensors((inputs, targets), (inputs, targets), validation=0, num_classes=10)
    one = Task(partial(Table, {5: 6, 6: 7, 7: END}), data, objective=NextToken())
    trained = Untrained(one, Ticket(one.dense(), one.init()), CLOCK)
    assert dict(Generation()(one, [], trained))["generated_exact"] == 1.0


def test_numbers_that_no_probe_of_tokens_can_go_by_are_refused() -> None:
    with pytest.raises(UserError, match=r"probe\.generation\.newline=-1"):
        Generation(newline=-1)
    with pytest.raises(UserError, match=r"probe\.certificate\.num_samples=0"):
        Certificate(num_samples=0)


def test_generation_is_refused_without_prompts() -> None:
    one = task()
    records = Task(one.model, cipher_records(length=24, num_train=20, num_test=5, validation=4),
                   objective=NextToken())  # fmt: skip
    with pytest.raises(UserError, match="needs prompts"):
        Generation().check(records)
    Generation().check(one)


def test_a_ticket_that_is_the_tuned_network_agrees_with_it_wherever_it_is_certified() -> None:
    one = task()
    past = [embed_tuned(one, MOVED)]
    found = dict(Certificate()(one, past, past[0]))
    assert found["agreement"] == 1.0
    assert found.get("certified_agreement", 1.0) == 1.0


def test_an_answer_is_the_words_cipher_and_the_same_as_in_the_records() -> None:
    inputs, targets = next(
        iter(cipher_answers(num_train=30, num_test=30, validation=0).batches("test", 30))
    )
    letters: dict[int, int] = {}
    for row, told in zip(inputs.tolist(), targets.tolist(), strict=True):
        word = row[2 : row.index(NEWLINE)]
        answer = [token for token in told if token != -100]
        assert answer[-1] == END
        for letter, other in zip(word, answer[:-1], strict=True):
            assert letters.setdefault(letter, other) == other
    assert len(set(letters.values())) == len(letters)
    [(windows, _)] = list(cipher_records(num_train=8, num_test=8, validation=0).batches("test", 8))
    for row in windows.tolist():
        end = row.index(NEWLINE)
        word, cipher = row[2:end], row[end + 3 : end + 3 + end - 2]
        assert all(
            letters.get(one, other) == other for one, other in zip(word, cipher, strict=True)
        )


@pytest.mark.slow
def test_the_experiments_run_one_after_the_other(tmp_path) -> None:
    small = ("+scale=smoke", f"paths.outputs={tmp_path}", "device=cpu", "threads=1", "record=local",
             "model.width=8")  # fmt: skip
    sizes = ("dataset.num_train=64", "dataset.num_test=16", "dataset.validation=8")
    first = lth_run("+experiment=cipher_pretraining", *small, *sizes)
    assert first.status == 0, first.err
    words = (f"origin.run={tmp_path}/cipher_pretraining", "pruner.num_rows=10", *small, *sizes)
    second = lth_run("+experiment=cipher_ks_lottery", *words)
    assert second.status == 0, second.err
    [folder] = folders(tmp_path, "cipher_ks_lottery")
    found = {row["arm"]: row for row in rows(folder / "rounds.jsonl") if row["round"] == 1}
    assert found.keys() == {
        "ticket",
        "random_rows",
        "lowest_rows",
        "frequent_rows",
        "template_rows",
    }
    assert found["ticket"]["num_kept"] == 10 * 8
    assert 0 <= found["ticket"]["agreement"] <= 1
