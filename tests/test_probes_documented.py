"""docs/probes.md names every field and key of the probes that it is about, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from command import SMALL, folders, lth_run, rows
from lth_runner.cli.conf_dir import conf_dir

TEXT = (Path(__file__).parents[1] / "docs/probes.md").read_text()
FULL = yaml.safe_load((conf_dir() / "probe/full.yaml").read_text())["defaults"]
# of masks that regrow, and of a data order that comes back
OTHER_RUNS = {"exploration", "gradients"}
OPTIONS = [one for one in FULL if f"\n## {one}\n" in TEXT and one not in OTHER_RUNS]


def named(option: str) -> set[str]:
    """The first column of an option's tables."""
    part = re.split(r"^## ", TEXT.split(f"\n## {option}\n")[1], flags=re.MULTILINE)[0]
    return set(re.findall(r"^\| `([\w.]+)` \|", part, re.MULTILINE))


def keys(option: str) -> set[str]:
    parts = yaml.safe_load((conf_dir() / f"probe/{option}.yaml").read_text())
    del parts["defaults"]
    return {f"probe.{n}.{key}" for n, of in parts.items() for key in of if key != "_target_"}


def fields(outputs: Path, probe: str, *, pictures: bool = False) -> set[str]:
    words = [word for word in SMALL if not word.startswith(("probe=", "control="))]
    others = ("control=none", "record=local", f"probe={probe}", f"paths.outputs={outputs}")
    said = lth_run(*words, *others, pictures=pictures)
    assert said.status == 0, said.err
    [folder] = folders(outputs)
    return {key for row in rows(folder / "rounds.jsonl") for key in row}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def default(outputs: Path) -> set[str]:
    return fields(outputs, "default")


@pytest.mark.parametrize("option", OPTIONS)
def test_fields_and_keys_of_an_option_are_documented_and_the_reverse(option, outputs, default):
    found = fields(outputs, option) - default
    assert found
    assert named(option) == found | keys(option)


@pytest.mark.slow
def test_panels_of_all_these_options_are_drawn(outputs, default):
    assert fields(outputs, f"[{','.join(OPTIONS)}]", pictures=True) - default
    [folder] = folders(outputs)
    assert (folder / "report.html").read_text().count("<svg") > 5


def test_every_probe_of_full_has_its_section_or_is_told_with_the_default_ones():
    assert {*FULL} - {*OPTIONS} == {"default", "signs", "supermask", "before", *OTHER_RUNS}
