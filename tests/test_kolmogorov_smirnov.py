"""The Kolmogorov-Smirnov test of rows: against scipy's, by hand, and where it must refuse."""

from __future__ import annotations

import pytest
import torch

from lth_runner.score import kolmogorov_smirnov as ks
from lth_runner.values.errors import UserError


@pytest.mark.filterwarnings("ignore:ks_2samp")  # ties of few values
@pytest.mark.parametrize("num", [1, 5, 16, 64, 300])
def test_statistics_and_p_values_are_scipys(num: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    drawn = torch.Generator().manual_seed(num)
    before = torch.randn(12, num, generator=drawn)
    moved = torch.randn(12, num, generator=drawn) * torch.linspace(0, 2, 12)[:, None]
    after = before + moved
    before[4:8], after[4:8] = before[4:8].round(), after[4:8].round()  # ties, and -0.0 among them
    found = ks.statistics(before, after)
    p = ks.p_values(found, num)
    for row in range(12):
        samples = (values[row].double().numpy() for values in (before, after))
        theirs = stats.ks_2samp(*samples, method="exact")
        assert float(found[row]) == pytest.approx(theirs.statistic, abs=1e-12)
        assert float(p[row]) == pytest.approx(theirs.pvalue, rel=1e-6)


def test_a_row_that_stands_still_or_is_permuted_has_not_moved() -> None:
    before = torch.tensor([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0], [0.0, 0.0, 1.0]])
    after = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [5.0, 5.0, 5.0]])
    assert ks.statistics(before, after).tolist() == [0.0, 0.0, 1.0]


def test_torch_has_as_many_threads_afterwards_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    ks.statistics(torch.zeros(1, 2), torch.ones(1, 2))
    assert asked == [1, 3]


def test_p_of_the_largest_difference_is_counted_by_hand() -> None:
    # of the 20 orders of three and three values 2 have all of one sample first: D = 1
    assert ks.p_values(torch.tensor([1.0, 0.0]), 3).tolist() == pytest.approx([2 / 20, 1.0])


def test_the_threshold_is_what_p_says_for_many_values() -> None:
    num = 4096
    assert ks.threshold(0.05, num) == pytest.approx(0.030, abs=5e-4)
    p = ks.p_values(torch.tensor([ks.threshold(0.05, num)]), num)
    assert float(p) == pytest.approx(0.05, rel=0.05)


def test_corrections_are_counted_by_hand() -> None:
    p = torch.tensor([0.30, 0.012, 0.001, 0.022, 0.039], dtype=torch.float64)
    kept = {how: ks.significant(p, 0.05, how).nonzero()[:, 0].tolist() for how in ks.CORRECTIONS}
    assert kept == {"none": [1, 2, 3, 4], "bonferroni": [2], "bh": [1, 2, 3, 4]}
    nothing = torch.tensor([0.5, 0.9], dtype=torch.float64)
    assert not bool(ks.significant(nothing, 0.05, "bh").any())


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, True])
def test_a_level_outside_0_and_1_is_refused(alpha: float) -> None:
    with pytest.raises(UserError, match=r"key=.* between 0 and 1"):
        ks.check_level(alpha, "key")
