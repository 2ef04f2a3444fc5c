"""docs/studies.md as written, and the shipped studies as their plans."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from command import lth_run, no_training
from documents import commands, workshop_of
from lth_runner.cli.conf_dir import conf_dir
from lth_runner.cli.study_plan import read_study

PAGE = (Path(__file__).parents[1] / "docs/studies.md").read_text()
QUICK = ["record=local", "threads=1", "device=cpu", "probe=none"]
STUDIES = sorted(path.stem for path in (conf_dir() / "study").glob("*.yaml"))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("workshop")
    with workshop_of(PAGE, folder):
        yield folder


@pytest.mark.slow
@pytest.mark.parametrize("words", commands(PAGE), ids=lambda words: words[3])
def test_what_the_page_says_runs_as_written_and_once(words: list[str], workshop: Path) -> None:
    assert words[0] == "lth-run"
    for again in (False, True):
        with no_training() if again else contextlib.nullcontext():
            said = lth_run(*words[1:], *QUICK)
        assert said.status == 0, said.err
    if "+study=halves" in words:
        assert (workshop / "outputs/halves/transfer.html").is_file()
        assert "transfer.html" in said.out
        assert "less random" in said.out


TRANSFERS = [name for name in STUDIES if "transfer" in name]


@pytest.mark.parametrize("name", [name for name in STUDIES if "forgetting" in name])
def test_second_tasks_start_from_the_first_of_their_seed_and_look_back_to_it(name: str) -> None:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        config = compose("config", overrides=[f"+study={name}"])
    points = read_study(config.study).points()
    later = [point for point in points if "first" not in point.stage]
    assert {point.stage for point in later} == {"full", "lota", "lotto", "random", "lora"}
    for point in later:
        first = "lora_first" if point.stage == "lora" else "first"
        assert point.needs[first].values["seed"] == point.values["seed"]
        words = point.spelt({first: "outputs/x/y"})
        assert {"origin.run=outputs/x/y", "probe=retention", "replicates=1"} <= {*words}
        assert ("pruner.outside=outputs/x/y" in words) == (point.stage == "lotto")
    assert f"lth-run +study={name}" in (conf_dir() / "study" / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", TRANSFERS)
def test_a_shipped_study_is_a_plan_whose_carried_runs_name_their_sources(name: str) -> None:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        config = compose("config", overrides=[f"+study={name}"])
    points = read_study(config.study).points()
    carried = [point for point in points if point.stage == "carried"]
    assert carried or name == "minilm_tickets"  # which finds its tickets and carries none
    for point in carried:
        assert point.values["source"] != point.values["target"]
        assert point.needs["source"].values == {"source": point.values["source"]}
        words = point.spelt({"source": "outputs/x/y"})
        assert "pruner.ticket=outputs/x/y" in words
    text = (conf_dir() / "study" / f"{name}.yaml").read_text()
    assert f"lth-run +study={name}" in text
