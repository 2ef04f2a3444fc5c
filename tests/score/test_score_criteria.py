"""Criteria that compare a weight's start with its end."""

from __future__ import annotations

import pytest
import torch
from score_cases import some_mask, task, three_samples

from lth_runner.allocate import LayerWise
from lth_runner.score import MaskCriterion
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream

TASK = three_samples()
START = [[1.0, -2.0], [0.5, -0.25]]
END = [[-3.0, -1.0], [0.5, 0.0]]
BY_HAND = {
    "large_final": [[3, 1], [0.5, 0]],
    "small_final": [[-3, -1], [-0.5, 0]],
    "large_init": [[1, 2], [0.5, 0.25]],
    "small_init": [[-1, -2], [-0.5, -0.25]],
    "magnitude_increase": [[2, -1], [0, -0.25]],
    "movement": [[4, 1], [0, 0.25]],
    # ranks from the start 3, 4, 2, 1 and from the end 4, 3, 2, 1, of 4
    "large_init_large_final": [[0.75, 0.75], [0.5, 0.25]],
    # 2, 1, 3, 4 and 1, 2, 3, 4
    "small_init_small_final": [[0.25, 0.25], [0.75, 1.0]],
}


class Known:
    """A task whose initial weights are known."""

    def __init__(self, start):
        self.start = start

    def init(self):
        return {"w": torch.tensor(self.start)}


@pytest.mark.parametrize("criterion", BY_HAND)
def test_criteria_by_hand(criterion):
    mask = type(TASK.dense())({"w": torch.ones(2, 2, dtype=torch.bool)})
    found = MaskCriterion(criterion)(Known(START), {"w": torch.tensor(END)}, mask)
    assert found["w"].tolist() == BY_HAND[criterion]
    same = MaskCriterion(criterion, same_sign=True)(Known(START), {"w": torch.tensor(END)}, mask)
    stays = torch.tensor([[False, True], [True, False]])
    assert torch.equal(same["w"][stays], found["w"][stays])
    assert (same["w"][~stays] < found["w"].min()).all()
    other = MaskCriterion(criterion, diff_sign=True)(Known(START), {"w": torch.tensor(END)}, mask)
    assert torch.equal(other["w"][~stays], found["w"][~stays])
    assert (other["w"][stays] < found["w"].min()).all()


def test_no_weight_has_both_signs():
    with pytest.raises(UserError, match=r"same_sign and .*diff_sign"):
        MaskCriterion(same_sign=True, diff_sign=True)


def test_the_initial_weights_are_the_tasks_own():
    problem = task("mlp")
    found = MaskCriterion("movement")(problem, problem.init(), problem.dense())
    assert all((value == 0).all() for value in found.values())


def bisected(one, other, num_kept):
    """Both above a common percentile, found by bisection, as the authors do it."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        both = (one > one.quantile(middle)) & (other > other.quantile(middle))
        low, high = (middle, high) if int(both.sum()) > num_kept else (low, middle)
    return (one > one.quantile(high)) & (other > other.quantile(high))


@pytest.mark.parametrize(("criterion", "sign"), [("large", 1), ("small", -1)])
def test_the_double_criterion_keeps_what_is_above_a_common_percentile_of_both(criterion, sign):
    problem = task("mlp")
    final = {
        n: torch.randn(w.shape, generator=stream(0, n)) + 4 * w for n, w in problem.init().items()
    }
    score = MaskCriterion(f"{criterion}_init_{criterion}_final")
    found = score(problem, final, problem.dense())
    for density in (0.3, 0.6):
        mask = LayerWise()(found, density, problem.dense(), 0)
        for name in ("linear1.weight", "linear2.weight"):
            ranked = [sign * w[name].abs().double().view(-1) for w in (problem.init(), final)]
            expected = bisected(*ranked, int(mask[name].sum()))
            # a percentile's step may add one weight of each of the two kinds
            assert int((expected ^ mask[name].view(-1)).sum()) <= 2


def test_ranks_are_among_the_kept_weights():
    problem = task("mlp")
    mask = some_mask(problem)
    score = MaskCriterion("large_init_large_final")
    found = score(problem, problem.init(7), mask)
    ones = score(problem, problem.init(), mask)  # start and end alike: plain ranks
    for name, kept in mask.items():
        num = int(kept.sum())
        assert sorted(ones[name][kept].tolist()) == [i / num for i in range(1, num + 1)]
        assert found[name][kept].min() > 0


def test_equal_weights_get_equal_ranks():
    mask = type(TASK.dense())({"w": torch.ones(2, 2, dtype=torch.bool)})
    same = {"w": torch.full((2, 2), 0.5)}
    found = MaskCriterion("large_init_large_final")(Known([[0.5] * 2] * 2), same, mask)
    assert found["w"].unique().tolist() == [1.0]
