"""`store.keep`: what a finished run leaves in the Store."""

from __future__ import annotations

from pathlib import Path

import pytest

import command

SMALL = ("+scale=smoke", "record=local", "control=none", "train.shrink_to=6it")


def kept(outputs: Path) -> dict[str, int]:
    entries = outputs / "store" / "entries"
    return {
        kind: len(list(entries.glob(f"*/{kind}*.safetensors"))) for kind in ("end", "step", "deriv")
    }


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        ("all", {"end": 3, "step": 1, "deriv": 1}),
        ("tickets", {"end": 3, "step": 0, "deriv": 0}),
        ("last", {"end": 1, "step": 0, "deriv": 0}),
    ],
)
def test_a_finished_run_keeps_what_it_was_told_to(tmp_path, keep, left):
    command.lth_run(*SMALL, f"store.keep={keep}", f"paths.outputs={tmp_path}")
    assert kept(tmp_path) == left


def test_nothing_goes_while_another_run_is_not_done(tmp_path):
    command.lth_run(*SMALL, f"paths.outputs={tmp_path}")
    [status] = tmp_path.glob("*/*/status.json")
    status.write_text(status.read_text().replace('"done"', '"interrupted"'))
    command.lth_run(*SMALL, "seed=1", "store.keep=last", f"paths.outputs={tmp_path}")
    assert kept(tmp_path) == {"end": 6, "step": 2, "deriv": 2}
