"""Which ticket of a run is meant: by round, by density, or by the report's own verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lth_runner.runs.folder import (
    read_rounds,
    read_status,
    replace_rows,
    write_config,
    write_status,
)
from lth_runner.runs.seal import Seal
from lth_runner.runs.ticket_choice import choose
from lth_runner.values.errors import UserError

NUM = 1000
DENSITIES = (1.0, 0.8, 0.64, 0.512)
LEVELS = (0.90, 0.901, 0.899, 0.80)  # test accuracy: rounds 1 and 2 match, 3 does not


def finished(
    folder: Path,
    *,
    accuracies: tuple[float, ...] = LEVELS,
    seeds: int = 6,
    state: str = "done",
    diverged: tuple[int, int] = (-1, -1),  # round and seed
) -> Path:
    """A run folder that was never trained; seeds differ by a few hundredths of a point."""
    rows: list[dict[str, Any]] = []
    for round, (kept, level) in enumerate(zip(DENSITIES, accuracies, strict=True)):
        for seed in range(seeds):
            for arm in ("ticket", "reinit") if round else ("ticket",):
                facts = {
                    "round": round,
                    "arm": arm,
                    "seed": seed,
                    "density": kept,
                    "steps": 10,
                    "num_kept": round_to(kept),
                    "num_prunable": NUM,
                    "training_key": "k",
                }
                worse = 0.3 if arm == "reinit" else 0.0
                found = {"test_accuracy": level - worse + 1e-4 * (seed % 3)}
                is_diverged = (round, seed) == diverged and arm == "ticket"
                rows.append(facts | ({"diverged": True} if is_diverged else found))  # fmt: skip
    folder.mkdir(parents=True)
    write_config(folder, {"seed": 0, "dataset": {"num_classes": 10}})
    replace_rows(folder / "rounds.jsonl", rows)
    seal = Seal.of(folder / "rounds.jsonl").facts
    write_status(folder, {"state": state, "command": "lth-run", "files": {"rounds.jsonl": seal}})
    return folder


def round_to(density: float) -> int:
    return int(density * NUM + 0.5)


def test_a_ticket_is_chosen_by_its_round_its_sparsity_or_its_verdict(tmp_path: Path) -> None:
    folder = finished(tmp_path / "outputs/a/run")
    assert choose(folder, round=2, seed=3) in read_rounds(folder)
    for place in (folder, folder.parent):
        assert choose(place)["round"] == 3
    assert choose(folder, sparsity=0.36, seed=1)["round"] == 2
    assert choose(folder, sparsity=0.359)["round"] == 2  # one weight of a thousand beside it
    assert choose(folder, sparsity=0.0)["round"] == 0
    assert choose(folder, density=0.641, seed=1)["round"] == 2
    best = choose(folder, best_matching=True, seed=5)
    assert (best["round"], best["arm"], best["seed"]) == (2, "ticket", 5)
    assert choose(folder, round=1, arm="reinit")["arm"] == "reinit"


REFUSED = {
    "no such round": ({"round": 9}, "no round 9; it has round 0 .* 3 \\(sparsity 0.488\\)"),
    "no such sparsity": (
        {"sparsity": 0.362},
        r"no round of sparsity 0\.362 .*nearest are round 2 \(sparsity 0\.36\) and 3 \(.*it has",
    ),
    "no such density": (
        {"density": 0.638},
        r"no round of density 0\.638 .*round 2 \(density 0\.64\).*it has .*\(density 1\)",
    ),
    "two ways with a density": ({"density": 0.64, "round": 2}, "round and density each choose"),
    "no sparsity": ({"sparsity": 20}, r"sparsity 20 is not in \[0, 1\): it is the share .*0\.9 "),
    "no such seed": ({"seed": 7}, "no seed 7: it has 0, 1, 2, 3, 4, 5"),
    "no such arm": ({"arm": "shuffle"}, "no arm 'shuffle': it has ticket, reinit"),
    "two ways": ({"round": 1, "best_matching": True}, "round and best_matching each choose"),
    "none matches": ({"best_matching": True, "arm": "reinit"}, "shown to match.*refuted: none"),
    "diverged": ({"round": 1, "seed": 2}, "round 1 of seed 2 has diverged.*1 .*diverged"),
}


@pytest.mark.parametrize(("options", "says"), REFUSED.values(), ids=REFUSED)
def test_what_a_run_has_not_is_refused_with_what_it_has(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    folder = finished(tmp_path / "run", diverged=(1, 2), state="diverged")
    with pytest.raises(UserError, match=says):
        choose(folder, **options)


def test_where_no_round_is_shown_to_match_those_not_refuted_are_named(tmp_path: Path) -> None:
    single = finished(tmp_path / "single", seeds=1)
    with pytest.raises(UserError, match=r"not yet refuted: up to round 3, sparsity 0.488"):
        choose(single, best_matching=True)
    by_chance = finished(tmp_path / "chance", accuracies=(0.1, 0.1, 0.1, 0.1))
    with pytest.raises(UserError, match="hardly better than guessing"):
        choose(by_chance, best_matching=True)


def test_a_run_that_is_not_done_or_was_edited_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not done, its status is interrupted.*lth-run"):
        choose(finished(tmp_path / "half", state="interrupted"))
    with pytest.raises(UserError, match=r"is running: wait for its end, or, .* gone, .*: lth-run$"):
        choose(finished(tmp_path / "now", state="running"))
    failed = finished(tmp_path / "failed", state="failed")
    write_status(failed, read_status(failed) | {"error": "UserError: no room\nmore"})
    for _ in ("in the midst", "before its first row"):
        with pytest.raises(UserError, match=r"has failed: no room\. Mend that.*: lth-run$"):
            choose(failed)
        (failed / "rounds.jsonl").unlink(missing_ok=True)
    edited = finished(tmp_path / "edited")
    text = (edited / "rounds.jsonl").read_text()
    (edited / "rounds.jsonl").write_text(text.replace("0.64", "0.65"))
    with pytest.raises(UserError, match="is not what was written"):
        choose(edited)
    (tmp_path / "name").mkdir()
    for name in "bc":
        finished(tmp_path / "name" / name)
    with pytest.raises(UserError, match="holds 2 runs"):
        choose(tmp_path / "name")
    with pytest.raises(UserError, match="is no run folder"):
        choose(tmp_path / "nothing")


def test_a_round_that_a_control_has_not_is_refused_as_the_controls(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no round 0 of arm reinit; it has round 1"):
        choose(finished(tmp_path / "run"), round=0, arm="reinit")
