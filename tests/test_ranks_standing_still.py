"""A rank that lives and says nothing is told by its silence; one that says something is not."""

from __future__ import annotations

import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import pytest

from lth_runner.training.engines.distributed import pulse
from lth_runner.training.engines.distributed.lines import Follower, Leader
from lth_runner.training.engines.distributed.telling import Who
from lth_runner.values.errors import RankLost
from lth_runner.values.ranks import Rank

FIRST, SECOND = Who(0, "here", 10, {}), Who(1, "there", 11, {})


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> tuple[Connection, Connection]:
    monkeypatch.setattr(pulse, "EVERY", 0.02)
    return Pipe()


def test_a_rank_that_stands_still_is_named(ends: tuple[Connection, Connection]) -> None:
    own, other = ends
    leader = Leader(Rank(0, 2), FIRST, {own: SECOND})
    try:
        with pytest.raises(RankLost, match=r"rank 1 \(process 11 on there\) stands still: nothing"):
            leader.answers()
    finally:
        leader.end(2)
        other.close()


def test_one_that_computes_for_long_is_waited_for(ends: tuple[Connection, Connection]) -> None:
    own, other = ends
    leader = Leader(Rank(0, 2), FIRST, {own: SECOND})
    follower = Follower(Rank(1, 2), FIRST, other, None)
    time.sleep(3 * pulse.EVERY * pulse.MISSED)
    leader.check()
    follower.close()
    leader.end(2)


def test_a_rank_0_that_stands_still_is_named(ends: tuple[Connection, Connection]) -> None:
    own, other = ends
    follower = Follower(Rank(1, 2), FIRST, other, None)
    with pytest.raises(RankLost, match=r"rank 0 \(process 10 on here\) stands still"):
        follower.order()
    follower.close()
    own.close()
