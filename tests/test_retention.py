"""`store.keep`: what a finished run leaves in the Store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import command

SMALL = ("+scale=smoke", "record=local", "control=none", "train.shrink_to=6it")


def kept(outputs: Path) -> dict[str, int]:
    """Counts files: derived ones are early gradients, and each training's outcomes by sample."""
    entries = outputs / "store" / "entries"
    return {
        kind: len(list(entries.glob(f"*/{kind}*.safetensors"))) for kind in ("end", "step", "deriv")
    }


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        ("all", {"end": 3, "step": 1, "deriv": 4}),
        ("tickets", {"end": 3, "step": 0, "deriv": 0}),
        ("last", {"end": 1, "step": 0, "deriv": 0}),
    ],
)
def test_a_finished_run_keeps_what_it_was_told_to(tmp_path, keep, left):
    command.lth_run(*SMALL, f"store.keep={keep}", f"paths.outputs={tmp_path}")
    assert kept(tmp_path) == left


def test_what_to_keep_may_be_told_to_a_run_that_is_finished(tmp_path):
    for keep, ends in (("all", 3), ("last", 1)):
        command.lth_run(*SMALL, f"store.keep={keep}", f"paths.outputs={tmp_path}")
        assert kept(tmp_path)["end"] == ends


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "rounds.jsonl").unlink(),
        lambda folder: (folder / "rounds.jsonl").write_text("{"),
        lambda folder: shutil.rmtree(folder / "tickets"),
        lambda folder: (folder / "config.yaml").unlink(),
    ],
    ids=["no rows", "torn rows", "no tickets", "no config"],
)
def test_a_finished_run_that_lost_files_is_written_again_from_the_store(tmp_path, harm, caplog):
    command.lth_run(*SMALL, f"paths.outputs={tmp_path}")
    [folder] = [path.parent for path in tmp_path.glob("*/*/rounds.jsonl")]
    before = command.untimed(folder / "rounds.jsonl")
    trainings = sorted((tmp_path / "store" / "entries").iterdir())
    harm(folder)
    said = command.lth_run(*SMALL, f"paths.outputs={tmp_path}")
    assert said.status == 0
    assert "written again from the Store" in caplog.text
    assert command.untimed(folder / "rounds.jsonl") == before
    assert len(list((folder / "tickets").iterdir())) == 3
    assert (folder / "config.yaml").exists()
    assert sorted((tmp_path / "store" / "entries").iterdir()) == trainings


@pytest.mark.slow
def test_nothing_goes_while_another_run_is_not_done(tmp_path):
    command.lth_run(*SMALL, f"paths.outputs={tmp_path}")
    [status] = tmp_path.glob("*/*/status.json")
    status.write_text(status.read_text().replace('"done"', '"interrupted"'))
    command.lth_run(*SMALL, "seed=1", "store.keep=last", f"paths.outputs={tmp_path}")
    assert kept(tmp_path) == {"end": 6, "step": 2, "deriv": 8}
