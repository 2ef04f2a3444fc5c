"""`lth-run --dry-run` says what would be trained, and a real run says so before it begins."""

from __future__ import annotations

import logging
import re

import pytest
import yaml

from command import SMALL, folders, lth_run, no_training, rows


@pytest.fixture
def outputs(tmp_path):
    return tmp_path / "outputs"


def planned(text):
    """At most how many trainings a text speaks of, and how many of them are to train."""
    found = re.findall(r"at most (\d+) trainings of \d+ steps: .*?(\d+) to train", text)
    return [tuple(map(int, pair)) for pair in found]


def dry(outputs, *words):
    options = [word for word in words if word.startswith("-")]
    overrides = [word for word in words if not word.startswith("-")]
    with no_training():
        said = lth_run("--dry-run", *options, *SMALL, f"paths.outputs={outputs}", *overrides)
    assert said.status == 0, said.err
    return said.out


def test_a_dry_run_leaves_nothing_and_foretells_the_rows_of_the_run(outputs, caplog):
    told = dry(outputs)
    assert not outputs.exists()
    assert "time     unknown" in told
    with caplog.at_level(logging.INFO):  # pytest takes the lines in the place of a command's own
        lth_run(*SMALL, f"paths.outputs={outputs}")
    [folder] = folders(outputs)
    assert str(folder) in told
    assert planned(told) == planned(caplog.text) == [(len(rows(folder / "rounds.jsonl")),) * 2]
    assert f"{folder}  done" in dry(outputs)


def test_what_the_store_holds_is_not_to_be_trained_and_tells_the_time(outputs):
    lth_run(*SMALL, f"paths.outputs={outputs}", "replicates=1")
    [folder] = folders(outputs)
    num = len(rows(folder / "rounds.jsonl"))
    told = dry(outputs, "replicates=2")
    assert f"{num} from the Store" in told
    assert planned(told) == [(2 * num, num)]
    assert f"as {num} like these took in {folder};" in told
    assert "time     unknown" in dry(outputs, "replicates=2", "train.batch_size=20")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    del config["train"]["clip_norm"]  # as of a version that had no such key
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert f"as {num} like these" in dry(outputs, "replicates=2")


def test_what_points_of_a_sweep_share_is_counted_once(outputs):
    told = dry(outputs, "-m", "replicates=1,2")
    one, two = (most for most, _ in planned(told))
    assert f"at most {two} trainings ({one} that several share are counted once)" in told


def test_an_option_that_a_dry_run_has_no_use_for_is_refused(outputs):
    said = lth_run("--dry-run", "--cfg", "job", *SMALL)
    assert said.status == 2
    assert "--cfg does not go with --dry-run" in said.err
