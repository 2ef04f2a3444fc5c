"""What is known of a run before it is there is held against what another one wants of it."""

from __future__ import annotations

import re
from typing import Any

import pytest

import small
from lth_runner.parts.seams import check_seam
from lth_runner.runs.awaited import AwaitedRun, AwaitedTickets
from lth_runner.search import Fit, Given, Search
from lth_runner.values.errors import UserError

TASK = small.task()
RUN = AwaitedRun.of("source", [TASK.with_seed(seed) for seed in (3, 4)], num_rounds=3, num_dense=1)


def given(**options: Any) -> Given:
    return Given(AwaitedTickets(RUN, TASK.prunable, **options), options.get("weights", "own"))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "round": ({"round": 7}, "pruner.round=7: source has round 0 to 2 at most"),
    "dense": ({"round": 0, "seed": 3}, "a ticket of source keeps all of 228 weights"),
    "seed": ({"seed": 9}, "pruner.seed=9: source has seed 3, 4"),
    "seeds": ({}, "source has no ticket of seed 0: it has seed 3, 4. Set seed"),
    "two ways": ({"round": 1, "sparsity": 0.5}, "pruner.round and pruner.sparsity each choose"),
}


@pytest.mark.parametrize(("options", "told"), WRONG.values(), ids=WRONG)
def test_what_the_run_will_not_have_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        given(**options).check_replicates([TASK])


@pytest.mark.parametrize("options", [{}, {"round": 2}, {"sparsity": 0.3}, {"rounds": 1}])
@pytest.mark.parametrize("weights", ["own", "ticket", "trained"])
def test_what_it_may_have_is_taken(options: dict[str, Any], weights: str) -> None:
    search = given(weights=weights, **options)
    check_seam("pruner.search", search, Search)
    search.check_replicates([TASK.with_seed(4)])
    assert search.num_rounds == (2 if options else 3)


def test_a_layer_that_its_search_may_spare_is_not_taken_for_pruned() -> None:
    tickets = AwaitedTickets(RUN, ["linear1.weight"], seed=3)
    found = Fit().mask(TASK, tickets.of(0)[0]).mask.layer_density()
    assert found == {"linear1.weight": pytest.approx(0.5, abs=0.2), "output.weight": 1}


def test_an_origin_is_held_against_rounds_and_seeds_too() -> None:
    RUN.check("origin", round=2, seed=None)
    for wrong in ({"round": 3, "seed": None}, {"round": 0, "seed": 5}):
        with pytest.raises(UserError, match=r"origin\.(round=3|seed=5): source has"):
            RUN.check("origin", **wrong)
