"""Objectives against values worked out by hand, and laws that hold for all of them."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from lth_runner.problem.answers import Tally, figures
from lth_runner.problem.data.samples import Masked
from lth_runner.problem.objective import (
    BySample,
    Correlation,
    CrossEntropy,
    MultiLabel,
    NextToken,
    OfTheWhole,
    Separable,
    SquaredError,
    smoothed,
)
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream

LN2, LN3, LN4 = math.log(2), math.log(3), math.log(4)


def logits(*shares: float) -> list[float]:
    """Logits whose softmax is in these proportions."""
    return [math.log(share) for share in shares]


def measured(objective, outputs, targets) -> dict[str, float]:
    return objective.values(objective.totals(outputs, targets).double())


# --- by hand


def test_cross_entropy_by_hand() -> None:
    # probabilities 1/4 1/4 1/2 and 3/5 1/5 1/5
    outputs = torch.tensor([logits(1, 1, 2), logits(3, 1, 1)])
    targets = torch.tensor([2, 1])
    expected = (LN2 + math.log(5)) / 2
    assert CrossEntropy().loss(outputs, targets).item() == pytest.approx(expected)
    found = measured(CrossEntropy(), outputs, targets)
    assert found == pytest.approx({"accuracy": 0.5, "loss": expected})
    assert CrossEntropy().chance(3) == {"accuracy": pytest.approx(1 / 3)}


def test_cross_entropy_leaves_out_targets_of_minus_100() -> None:
    outputs = torch.tensor([logits(1, 1, 2), logits(3, 1, 1)])
    targets = torch.tensor([2, -100])
    assert CrossEntropy().loss(outputs, targets).item() == pytest.approx(LN2)
    assert CrossEntropy().weight(targets) == 1
    assert measured(CrossEntropy(), outputs, targets) == pytest.approx({"accuracy": 1, "loss": LN2})
    nothing = measured(CrossEntropy(), outputs, torch.full((2,), -100))
    assert all(math.isnan(value) for value in nothing.values())


def test_cross_entropy_of_pixels_by_hand() -> None:
    # one image of two pixels in a row, two classes on axis 1: 1/2 1/2, and 1/4 3/4
    outputs = torch.tensor([[[[0.0, 0.0]], [[0.0, LN3]]]])
    targets = torch.tensor([[[0, 1]]])
    expected = (LN2 + math.log(4 / 3)) / 2
    assert outputs.shape == (1, 2, 1, 2)
    assert CrossEntropy().loss(outputs, targets).item() == pytest.approx(expected)
    found = measured(CrossEntropy(), outputs, targets)
    assert found == pytest.approx({"accuracy": 1.0, "loss": expected})
    hidden = torch.tensor([[[-100, 1]]])
    assert CrossEntropy().loss(outputs, hidden).item() == pytest.approx(math.log(4 / 3))


def test_label_smoothing_is_of_training_alone() -> None:
    outputs, targets = torch.tensor([logits(1, 1, 2)]), torch.tensor([2])
    uniform = (LN4 + LN4 + LN2) / 3
    trained = smoothed(CrossEntropy(), 0.3)
    assert trained.loss(outputs, targets).item() == pytest.approx(0.7 * LN2 + 0.3 * uniform)
    assert measured(trained, outputs, targets)["loss"] == pytest.approx(LN2)
    for objective in (SquaredError(), MultiLabel()):
        assert smoothed(objective, 0.0) is objective
        with pytest.raises(UserError, match=r"train\.label_smoothing=0\.3"):
            smoothed(objective, 0.3)


def test_next_token_by_hand() -> None:
    # one sequence of three tokens, a vocabulary of two: 1/2, 1/4, and one that takes no part
    outputs = torch.tensor([[logits(1, 1), logits(3, 1), logits(9, 1)]])
    targets = torch.tensor([[0, 1, -100]])
    expected = (LN2 + LN4) / 2
    assert NextToken().loss(outputs, targets).item() == pytest.approx(expected)
    assert NextToken().weight(targets) == 2
    found = measured(NextToken(), outputs, targets)
    assert found == pytest.approx(
        {"perplexity": math.sqrt(8), "accuracy": 0.5, "loss": expected}, rel=1e-6
    )
    assert NextToken().chance(2) == {"perplexity": 2, "accuracy": 0.5}
    even = measured(NextToken(), torch.zeros(1, 3, 7), torch.tensor([[1, 2, 3]]))
    assert even["perplexity"] == pytest.approx(7)  # what chance says of a vocabulary of seven


def test_a_perplexity_beyond_all_numbers_is_finite() -> None:
    outputs = torch.tensor([[[2000.0, 0.0]]])
    found = measured(NextToken(), outputs, torch.tensor([[1]]))
    assert found["loss"] == pytest.approx(2000)
    assert math.isfinite(found["perplexity"])


class Whole:
    """Rows of one tensor."""

    fingerprint = "tokens"

    def __init__(self, tokens: torch.Tensor) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, index, draw):
        return self.tokens[index], self.tokens[index]


def test_masked_tokens_follow_the_draws_one_by_one() -> None:
    special, mask, vocabulary, share = 3, 2, 9, 0.5
    tokens = torch.tensor([[3, 4, 5, 6, 0, 0, 7, 8, 3, 4]])
    masked = Masked(Whole(tokens), mask, vocabulary, special, share)
    seen, targets = masked.take(torch.tensor([0]), stream(0, "mask"))
    draw = stream(0, "mask")
    chance = torch.rand(tokens.shape, generator=draw)
    other = torch.randint(special, vocabulary, tokens.shape, generator=draw)
    for place, token in enumerate(tokens[0].tolist()):
        drawn = chance[0, place].item()
        if token < special or drawn >= share:
            expected = token, -100
        elif drawn < 0.4:  # 80 % of those chosen
            expected = mask, token
        else:  # 10 % become another token, 10 % stay
            expected = (token if drawn < 0.45 else other[0, place].item()), token
        assert (seen[0, place].item(), targets[0, place].item()) == expected
    assert (targets != -100).any()
    again = masked.take(torch.tensor([0]), stream(0, "mask"))
    assert torch.equal(again[0], seen)
    assert not torch.equal(masked.take(torch.tensor([0]), stream(1, "mask"))[1], targets)


def test_masked_tokens_are_chosen_in_the_shares_of_bert() -> None:
    tokens = torch.full((400, 50), 7)
    seen, targets = Masked(Whole(tokens), 2, 20, 4).take(torch.arange(400), stream(0, "mask"))
    chosen = targets != -100
    assert torch.equal(seen[~chosen], tokens[~chosen])
    assert chosen.float().mean().item() == pytest.approx(0.15, abs=0.01)
    among = seen[chosen]
    assert (among == 2).float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert (among == 7).float().mean().item() == pytest.approx(0.1 + 0.1 / 16, abs=0.03)
    assert among[among != 2].min() >= 4
    # a prediction from all but the masked ones counts for nothing
    outputs = torch.zeros(400, 50, 20)
    found = measured(NextToken(), outputs, targets)
    assert found["perplexity"] == pytest.approx(20)
    assert NextToken().weight(targets) == chosen.sum()


def test_squared_error_by_hand() -> None:
    outputs, targets = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[0.0], [2.0], [4.0]])
    assert SquaredError().loss(outputs, targets).item() == pytest.approx(1 / 3)
    # the targets lie around 2 with a sum of squares of 8
    found = measured(SquaredError(), outputs, targets)
    assert found == pytest.approx({"r2": 1 - 1 / 8, "loss": 1 / 3})


def test_r2_is_0_for_the_mean_and_1_for_the_targets() -> None:
    targets = torch.randn(50, 1, generator=stream(0, "targets")) * 3 + 100
    mean = torch.full_like(targets, targets.mean().item())
    assert measured(SquaredError(), mean, targets)["r2"] == pytest.approx(0, abs=1e-4)
    assert measured(SquaredError(), targets, targets)["r2"] == 1
    assert SquaredError().chance(None) == {"r2": 0.0}
    for value in (1.0, 0.1, 7.3):
        equal = torch.full((1000, 1), value)
        assert math.isnan(measured(SquaredError(), equal + 1, equal)["r2"])


def test_multi_label_by_hand() -> None:
    # probabilities 3/4 1/2 1/4 of labels 1 0 1; an output of 0 says no
    outputs = torch.tensor([[LN3, 0.0, -LN3]])
    targets = torch.tensor([[1.0, 0.0, 1.0]])
    expected = (math.log(4 / 3) + LN2 + LN4) / 3
    assert MultiLabel().loss(outputs, targets).item() == pytest.approx(expected)
    # one found, one said, two there
    found = measured(MultiLabel(), outputs, targets)
    assert found == pytest.approx({"f1": 2 / 3, "accuracy": 2 / 3, "loss": expected})
    none = measured(MultiLabel(), -torch.ones(1, 3), torch.zeros(1, 3))
    assert none["f1"] == 1


# --- laws


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(0, "outputs", *shape))


def classes(num: int, *shape: int) -> torch.Tensor:
    found = torch.randint(num, shape, generator=stream(0, "classes", num, *shape))
    hidden = torch.rand(shape, generator=stream(1, "classes", num, *shape)) < 0.3
    return found.masked_fill(hidden, -100)


CASES = {
    "classes": (CrossEntropy(), draw(12, 4), classes(4, 12)),
    "pixels": (CrossEntropy(), draw(12, 4, 3, 2), classes(4, 12, 3, 2)),
    "tokens": (NextToken(), draw(12, 5, 7), classes(7, 12, 5)),
    "numbers": (SquaredError(), draw(12, 3), draw(3, 12).T.contiguous()),
    "labels": (MultiLabel(), draw(12, 3), (draw(3, 12).T > 0).float()),
    "matthews": (CrossEntropy(headline="matthews"), draw(12, 4), classes(4, 12)),
    "f1": (CrossEntropy(headline="f1"), draw(12, 2), classes(2, 12)),
    "pearson": (Correlation(), draw(12, 1), draw(1, 12).T.contiguous()),
    "spearman": (Correlation("spearman"), draw(12, 1), draw(1, 12).T.contiguous()),
}
every_case = pytest.mark.parametrize("case", CASES)


@every_case
def test_the_loss_of_a_batch_is_the_weighted_mean_of_its_parts(case: str) -> None:
    objective, outputs, targets = CASES[case]
    parts = list(zip(outputs.split(5), targets.split(5), strict=True))
    weights = [objective.weight(y) for _, y in parts]
    assert len(set(weights)) > 1
    summed = sum(w * objective.loss(x, y) for w, (x, y) in zip(weights, parts, strict=True))
    assert sum(weights) == objective.weight(targets)
    torch.testing.assert_close(summed / sum(weights), objective.loss(outputs, targets))


@every_case
def test_totals_add_up_over_batches(case: str) -> None:
    objective, outputs, targets = CASES[case]
    if isinstance(objective, OfTheWhole):
        assert case in ("pearson", "spearman")
        return
    parts = zip(outputs.split(5), targets.split(5), strict=True)
    summed = torch.stack([objective.totals(x, y).double() for x, y in parts]).sum(0)
    whole = objective.totals(outputs, targets).double()
    torch.testing.assert_close(summed, whole, rtol=1e-6, atol=1e-6)
    assert objective.values(summed) == pytest.approx(objective.values(whole), rel=1e-5)


@every_case
def test_the_figures_are_those_of_the_measures_and_loss_is_the_loss(case: str) -> None:
    objective, outputs, targets = CASES[case]
    found = measured(objective, outputs, targets)
    assert list(found) == [measure.name for measure in objective.measures]
    assert found["loss"] == pytest.approx(objective.loss(outputs, targets).item(), rel=1e-5)
    assert set(objective.chance(4)) <= set(found)


@every_case
def test_the_loss_can_be_differentiated(case: str) -> None:
    objective, outputs, targets = CASES[case]
    leaf = outputs.clone().requires_grad_()
    objective.loss(leaf, targets).backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()
    assert leaf.grad.abs().sum() > 0


@every_case
def test_terms_and_totals_by_sample_add_up_to_the_whole(case: str) -> None:
    objective, outputs, targets = CASES[case]
    if not isinstance(objective, Separable):
        assert case in ("tokens", "pearson", "spearman")
        return
    by_sample = objective.totals_by_sample(outputs, targets)
    assert by_sample.dtype == torch.float64
    assert by_sample.shape[1] == len(targets)
    whole = objective.totals(outputs, targets).double()
    torch.testing.assert_close(by_sample.sum(1), whole, rtol=1e-6, atol=1e-6)
    shown = targets.masked_fill(targets == -100, 0) if targets.dtype == torch.int64 else targets
    torch.testing.assert_close(
        objective.terms(outputs, shown).mean(), objective.loss(outputs, shown)
    )
    assert objective.terms(outputs, shown).shape[0] == len(targets)


@every_case
def test_the_values_of_samples_have_the_headline_for_their_mean(case: str) -> None:
    """And each differs from it as the headline would without its sample (jackknife)."""
    objective, outputs, targets = CASES[case]
    assert isinstance(objective, BySample)
    total = objective.totals(outputs, targets).double()
    parts = objective.sample_parts(outputs, targets)
    assert (parts.dtype, parts.shape[1]) == (torch.float64, len(targets))
    values = objective.sample_values(parts, total)
    name = objective.measures[0].name
    headline = objective.values(total)[name]
    assert values.mean().item() == pytest.approx(headline, rel=1e-5)
    if isinstance(objective, OfTheWhole):
        return  # their totals are of a whole split: see the bootstrap below
    num = 400  # many of each: what one of them changes is small
    many, whole = torch.stack([total] * num).sum(0), torch.cat([parts] * num, 1)
    spread = objective.sample_values(whole, many)
    for index in range(min(3, len(targets))):
        one = slice(index, index + 1)
        without = many - objective.totals(outputs[one], targets[one]).double()
        lost = len(spread) * (headline - objective.values(without)[name])
        expected = spread[index].item() - headline
        if case != "numbers":  # of r2, the spread of the targets is taken as it is
            assert lost == pytest.approx(expected, abs=0.05 * spread.std().item())


SPREADS = {
    "f1": (CrossEntropy(headline="f1"), draw(900, 2), classes(2, 900)),
    "f1 of five": (CrossEntropy(headline="f1"), draw(900, 5), classes(5, 900)),
    "matthews": (CrossEntropy(headline="matthews"), draw(900, 5), classes(5, 900)),
    "pearson": (Correlation(), draw(900, 1), draw(900, 1) + 2 * draw(1, 900).T),
    "spearman": (Correlation("spearman"), (3 * draw(900, 1)).round(), draw(900, 1).exp().round()),
}


@pytest.mark.parametrize("case", SPREADS)
def test_the_values_of_samples_spread_as_the_headline_of_other_samples_does(case: str) -> None:
    """Against a bootstrap of the test samples; a target of -100 is a sample that says nothing."""
    objective, outputs, targets = SPREADS[case]
    if targets.dtype == torch.int64:
        outputs[:, 1] += (targets == 1) * 1.5  # better than guessing, and not the same everywhere
    assert isinstance(objective, BySample)
    tally = Tally(objective, by_sample=True)
    for outs, wanted in zip(outputs.split(128), targets.split(128), strict=True):
        tally.add(outs, wanted)
    assert tally.parts is not None
    assert tally.totals is not None
    values = objective.sample_values(tally.parts, tally.totals)
    headline = objective.measures[0].name
    assert values.mean().item() == pytest.approx(tally.figures()[headline], abs=1e-9)
    draws = [torch.randint(len(targets), (len(targets),), generator=stream(0, "bootstrap", i))
             for i in range(300)]  # fmt: skip
    others = torch.tensor([measured(objective, outputs[d], targets[d])[headline] for d in draws])
    expected = others.std().item()
    found = values.std().item() / len(values) ** 0.5
    assert found == pytest.approx(expected, rel=0.15)  # 300 draws: a standard error of 4 %


def test_f1_and_matthews_are_scikit_learns() -> None:
    for num in (2, 5):
        outputs, targets = draw(300, num), classes(num, 300)
        counted = targets != -100
        said, there = outputs.argmax(1)[counted], targets[counted]
        average = "binary" if num == 2 else "macro"
        for headline, expected in (
            ("f1", f1_score(there, said, average=average)),
            ("matthews", matthews_corrcoef(there, said)),
            ("accuracy", accuracy_score(there, said)),
        ):
            found = measured(CrossEntropy(headline=headline), outputs, targets)
            assert found[headline] == pytest.approx(expected)
    # one answer to all has no correlation, and a class that is nowhere no F1
    same = torch.tensor([[1.0, 0.0]] * 4)
    assert (
        measured(CrossEntropy(headline="matthews"), same, torch.tensor([0, 0, 1, 1]))["matthews"]
        == 0
    )
    assert measured(CrossEntropy(headline="f1"), same, torch.zeros(4, dtype=torch.int64))["f1"] == 0


def test_correlations_are_scipys_of_the_whole_split_with_ties() -> None:
    outputs, targets = (3 * draw(101, 1)).round(), (draw(101, 1) + draw(1, 101).T).round()
    objective = Correlation()
    batches = list(zip(outputs.split(7), targets.split(7), strict=True))
    found = figures(batches, objective)
    assert found["pearson"] == pytest.approx(pearsonr(outputs[:, 0], targets[:, 0]).statistic)
    assert found["spearman"] == pytest.approx(spearmanr(outputs[:, 0], targets[:, 0]).statistic)
    assert found["loss"] == pytest.approx(objective.loss(outputs, targets).item())
    same = figures([(torch.ones(9, 1), targets[:9])], Correlation("spearman"))
    assert (same["pearson"], same["spearman"]) == (0, 0)
    assert list(same) == ["spearman", "pearson", "loss"]


@pytest.mark.parametrize("objective", [CrossEntropy, Correlation])
def test_another_headline_is_refused(objective) -> None:
    with pytest.raises(UserError, match=r"objective\.headline"):
        objective(headline="mathews")


def test_the_values_of_samples_worked_by_hand() -> None:
    # right 1 of 1, 1 of 3: R = 1/2, v = 1/2 + (1 - 1/2) / 2 and 1/2 + (1 - 3/2) / 2
    outputs = torch.tensor([[[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]]).repeat(2, 1, 1)
    targets = torch.tensor([[1, -100, -100], [1, 1, 1]])
    images = CrossEntropy().sample_parts(torch.eye(3), torch.tensor([0, 0, 2]))
    assert CrossEntropy().sample_values(images, images).tolist() == [1, 0, 1]
    found = CrossEntropy().sample_parts(outputs, targets)
    assert found.tolist() == [[1, 1], [1, 3]]
    assert CrossEntropy().sample_values(found, found[0]).tolist() == [0.75, 0.25]
    # squared errors 1 and 3, mean 2, of r2 = 1/2: 1 - 1/2 (e / 2)
    parts, totals = torch.tensor([[1.0, 3.0]]), torch.tensor([2.0, 4.0, 0.0, 8.0])
    values = SquaredError().sample_values(parts.double(), totals.double())
    assert values.tolist() == pytest.approx([0.75, 0.25])
    # losses 2 of 1 token, 2 of 3: l = 1, v = 1 + (2 - 1) / 2 and 1 + (2 - 3) / 2
    parts = torch.tensor([[2.0, 2.0], [1.0, 3.0]])
    values = NextToken().sample_values(parts, parts[0])
    assert values.tolist() == pytest.approx([math.e * 1.5, math.e * 0.5])


# --- what is refused

FLOATS, NUMBERS = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (partial(CrossEntropy().check, FLOATS, FLOATS, 3), "needs class numbers"),
        (partial(CrossEntropy().check, FLOATS, NUMBERS, None), r"needs dataset\.num_classes"),
        (partial(CrossEntropy().check, FLOATS, NUMBERS, 4), r"shape \(3,\).*4 classes"),
        (partial(CrossEntropy().check, (FLOATS,), NUMBERS, 3), "answers with a tuple"),
        (partial(NextToken().check, FLOATS, NUMBERS, 3), r"needs token numbers"),
        (partial(NextToken().check, FLOATS, NUMBERS[:, None], 3), r"logits of every token"),
        (partial(NextToken().check, FLOATS[:, None], NUMBERS[:, None], 5), r"vocabulary has 5"),
        (partial(SquaredError().check, FLOATS, NUMBERS, None), "floating-point targets"),
        (partial(SquaredError().check, FLOATS, FLOATS[:, :1], None), r"\(3,\).*\(1,\)"),
        (partial(MultiLabel().check, FLOATS, FLOATS + 0.5, None), r"0\.0 and 1\.0"),
        (partial(MultiLabel().check, FLOATS, NUMBERS, None), "needs targets of"),
        (partial(MultiLabel().check, FLOATS, FLOATS[:, :2], None), "a logit for every label"),
    ],
)
def test_targets_that_do_not_fit_the_objective_are_refused(check, said: str) -> None:
    with pytest.raises(UserError, match=said):
        check()


@every_case
def test_what_fits_is_let_through(case: str) -> None:
    objective, outputs, targets = CASES[case]
    num = {"classes": 4, "pixels": 4, "tokens": 7, "matthews": 4, "f1": 2}.get(case)
    objective.check(outputs, targets, num)


@pytest.mark.parametrize(
    ("objective", "outputs"),
    [(CrossEntropy(), torch.randn(2, 3, 4)), (NextToken(), torch.randn(2, 4, 3))],
)
def test_a_step_without_a_counted_target_has_the_loss_0_and_no_gradient(objective, outputs) -> None:
    outputs.requires_grad_()
    loss = objective.loss(outputs, torch.full((2, 4), -100))
    loss.backward()
    assert loss == 0
    assert outputs.grad is not None
    assert not outputs.grad.any()


def test_r2_of_several_outputs_is_0_for_the_mean_of_each() -> None:
    targets = torch.tensor([[1.0, 100.0], [3.0, 104.0]])
    objective = SquaredError()
    means = targets.mean(0).expand(2, 2)
    assert objective.values(objective.totals(means, targets)) == {"r2": 0.0, "loss": 2.5}
    half = torch.tensor([[1.0, 102.0], [3.0, 102.0]])  # 8 of the spread of 2 + 8 are left
    assert objective.values(objective.totals(half, targets))["r2"] == pytest.approx(0.2)
