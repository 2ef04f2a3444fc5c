"""Studies: stages whose points name each other's runs, planned whole before anything trains."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from command import SMALL, Said, contents, lth_run, no_training, rows, status_of
from lth_runner.cli.status import main as lth_status
from lth_runner.cli.study_plan import read_study
from lth_runner.study import Study
from lth_runner.study.plan import own_words, quoted
from lth_runner.values.errors import UserError

PLAN: dict[str, Any] = {
    "name": "carried",
    "settings": {"a": ["dataset.seed=0"], "b": ["dataset.seed=1"]},
    "overrides": [*SMALL[:-1], "record=local"],
    "stages": {
        "source": {"over": {"source": ["a", "b"]}, "overrides": ["${over:source}"]},
        "own": {"over": {"target": ["a", "b"]}, "overrides": ["${over:target}"]},
        "target": {
            "over": {"source": ["a", "b"], "target": ["a"]},
            "overrides": ["${over:target}", "origin=run", "origin.run=${stage:source}"],
            "unlike": {"dataset.seed": ["seed=7"]},
        },
    },
}


def changed(*path: str, to: Any) -> dict[str, Any]:
    """The plan with another value at a path."""
    plan: dict[str, Any] = yaml.safe_load(yaml.safe_dump(PLAN))
    node = plan
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = to
    return plan


def study(folder: Path, plan: dict[str, Any], *words: str, pictures: bool = False) -> Said:
    """Runs a plan as a yaml of one's own, in this folder."""
    (folder / "mine" / "study").mkdir(parents=True, exist_ok=True)
    (folder / "mine" / "study" / "small.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    drawn = mock.patch("lth_runner.runs.comparisons.compare_runs", return_value=("", []))
    where = (f"paths.outputs={folder}/outputs", f"hydra.sweep.dir={folder}/outputs/sweeps/one")
    with contextlib.nullcontext() if pictures else drawn:
        options = [word for word in words if word.startswith("--")]
        own = [word for word in words if word not in options]
        return lth_run(*options, "--config-dir", folder / "mine", "+study=small", *where, *own)


# --- the plan


def test_a_point_names_the_run_of_an_earlier_stage_that_shares_its_values() -> None:
    points = Study.read(PLAN).points(["train.length=9it"])
    assert [p.label for p in points[4:]] == [
        "target (source=a, target=a)",
        "target (source=b, target=a)",
    ]
    last = points[-1]
    assert last.needs == {"source": points[1]}
    words = last.spelt({"source": "outputs/carried/b 1"}, ["seed=7"])
    assert words[-4:] == [
        "origin=run",
        "origin.run='outputs/carried/b 1'",
        "seed=7",
        "train.length=9it",
    ]
    assert points[2].spelt({}) == points[0].spelt({})  # its own is the source's
    distinct = Study.read(changed("stages", "target", "distinct", to=True)).points()
    assert [point.label for point in distinct[4:]] == ["target (source=b, target=a)"]


def test_later_words_hold_over_earlier_ones_and_those_of_the_study_are_no_points() -> None:
    point = Study.read(PLAN).points(own_words(["+study=x", "study.name=y", "model.widths=[4]"]))[0]
    words = point.spelt({})
    assert words.count("model.widths=[4]") == 1
    assert "model.widths=[8]" not in words
    assert not any("study" in word for word in words)


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (changed("stages", to={}), "name at least one stage"),
        (changed("stages", "own", "ovr", to={}), r"study\.stages\.own\.ovr .*over"),
        (changed("stages", "own", "over", "target", to=["a", "a"]), "names a twice"),
        (changed("stages", "own", "over", "target", to=[]), r"own has no point.*target=\[\]"),
        (
            changed("stages", "own", to={"over": {"x": ["a"], "y": ["a"]}, "distinct": True}),
            r"each combination of x=\[a\], y=\[a\] has a value twice",
        ),
        (changed("stages", "own", "overrides", to=["${over:source}"]), "no value of its over"),
        (changed("stages", "own", "overrides", to=[{"a": 1}]), "each in quotes"),
        (changed("stages", "source", "overrides", to=["x=${stage:more}"]), "no earlier stage"),
        (changed("stages", "target", "overrides", to=["x=${stage:sourc}"]), "did you mean source"),
        (changed("stages", "target", "over", to={"target": ["a"]}), "stands for 2 points at"),
        (changed("stages", "target", "over", "source", to=["a", "c"]), "stands for 0 points"),
        (changed("stages", "own", "distinct", to="yes"), "true or false"),
        (changed("name", to=None), r"study\.name"),
        (changed("stages", "source", "over", "source", to=["c"]), r"c has no setting"),
        (
            changed("stages", "source", "over", "source", to=["aa"]),
            r"aa has no setting: did you mean a\? \(accepted: [^()]*\)\. Say",
        ),
        (
            changed("settings", to={"0": ["seed=0"], "a": ["x=1"], "b": ["x=2"]})
            | {"stages": {"own": {"over": {"seed": ["9"]}, "overrides": ["${over:seed}"]}}},
            r"'\+study\.settings\.9=\[\"seed=9\"\]' for example; or write words, seed=9",
        ),
    ],
)  # fmt: skip
def test_a_plan_that_makes_no_sense_is_told(plan: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        Study.read(plan).points()


@pytest.mark.parametrize("folder", ["out/a", "/é/a", "/a b", "C:\\a", "/a's", "/a\\'s", "/a\\"])
def test_a_folder_of_any_letters_is_one_value_of_a_word(folder: str) -> None:
    word = OverridesParser.create().parse_override(f"origin.run={quoted(folder)}")
    assert word.value() == folder


def test_a_value_without_a_setting_is_an_option_of_the_plans_group() -> None:
    values = ["a", "digits", "model=mlp"]
    plan = changed("stages", "source", "over", "source", to=values) | {"group": "dataset"}
    del plan["stages"]["target"]
    own = [point.words[-1] for point in Study.read(plan).points()]
    assert own[-3:] == ["dataset.seed=0", "dataset=digits", "model=mlp"]


@pytest.mark.parametrize("name", ["study.moreover", "study.moreover[0]", "study.moreover.first"])
def test_a_key_that_begins_as_one_that_is_named_is_used_by_nothing(name: str) -> None:
    named = changed("stages", "own", "overrides", to=[f"${{{name}}}"])
    with pytest.raises(UserError, match=r"study\.more is used by nothing"):
        read_study(OmegaConf.create({**named, "moreover": ["seed=1"], "more": 1}))


@pytest.mark.parametrize(
    ("word", "told"),
    [
        (
            "study.stags=1",
            "study.overrides, study.settings, study.stages)",
        ),
        ("+study.more=1", "study.more is used by nothing: "),
    ],
)
def test_a_mistyped_key_of_a_study_is_told_with_its_own(
    tmp_path: Path, word: str, told: str
) -> None:
    said = study(tmp_path, PLAN, word)
    assert said.status == 2
    assert told in said.err
    assert "dataset" not in said.err


def test_a_word_that_leaves_out_an_option_of_which_the_study_sets_a_key_is_named(
    tmp_path: Path,
) -> None:
    words = [*PLAN["overrides"], "control=shuffle", "control.shuffle.weights=fresh"]
    said = study(tmp_path, changed("overrides", to=words), "control=none", "--dry-run")
    assert said.status == 2
    assert "control=none leaves out control=" in said.err
    assert "of which +study=small sets control.shuffle.weights: leave control=none away" in said.err


# --- the runs


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    folder = tmp_path_factory.mktemp("study")
    return folder, study(folder, PLAN, pictures=True)


def test_a_study_runs_its_stages_in_order_each_on_what_the_earlier_found(
    done: tuple[Path, Said],
) -> None:
    folder, said = done
    assert said.status == 0, said.err
    assert "own: 2 points, 0 to run or to find done" in said.out
    commands = [row["command"] for row in rows(folder / "outputs/sweeps/one/points.jsonl")]
    runs = {
        status_of(one)["command"]: one
        for one in (folder / "outputs/carried").iterdir()
        if one.is_dir()
    }
    assert set(commands) == set(runs)
    unlike = []
    for command in commands[2:]:
        [source] = [word for word in command.split() if word.startswith("origin.run=")]
        config = yaml.safe_load((runs[command] / "config.yaml").read_text())
        of = yaml.safe_load(Path(source.partition("=")[2], "config.yaml").read_text())
        unlike.append(config["dataset"]["seed"] != of["dataset"]["seed"])
        assert config["seed"] == (7 if unlike[-1] else 0)
    assert sorted(unlike) == [False, True]
    owner = json.loads((folder / "outputs/sweeps/one/sweep.json").read_text())
    assert "+study=small" in owner["command"]
    assert "hydra.mode" not in owner["command"]
    assert (folder / "outputs/carried/comparison.html").is_file()
    assert lth_status([str(folder / "outputs")]) == 0


def test_the_same_command_again_trains_nothing(done: tuple[Path, Said]) -> None:
    outputs = done[0] / "outputs"
    commands = [row["command"] for row in rows(outputs / "sweeps/one/points.jsonl")]
    before = contents(outputs / "store/entries") | contents(outputs / "carried")
    with no_training():
        said = study(done[0], PLAN)
    assert said.status == 0, said.err
    assert [row["command"] for row in rows(outputs / "sweeps/one/points.jsonl")] == commands
    assert contents(outputs / "store/entries") | contents(outputs / "carried") == before
    with no_training():
        dry = study(done[0], PLAN, "--dry-run")
    assert "all      4 points: 4 done, at most 0 trainings" in dry.out, dry.out + dry.err


def test_a_mistake_in_the_last_stage_is_told_before_the_first_trains(tmp_path: Path) -> None:
    for word, told in (
        ("train.lenght=3it", "train.length"),
        ("model.widths=[wide]", "widths"),
        ("probe=signss", "there is no probe=signss"),
        ("train.batch_size=1000", "train.batch_size=1000"),
    ):
        overrides = [*PLAN["stages"]["target"]["overrides"], word]
        with no_training():
            said = study(tmp_path, changed("stages", "target", "overrides", to=overrides))
        assert said.status == 2, word
        assert told in said.err, said.err
    assert not (tmp_path / "outputs").exists()


GIVEN = ("pruner=given", "pruner.ticket=${stage:source}", "control=none")
ORIGIN = ("origin=run", "origin.run=${stage:source}")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((*GIVEN, "model.widths=[9]"), "a ticket of source (source=a) has other shapes: linear1"),
        ((*ORIGIN, "model.widths=[9]"), "as linear1.weight with (8, 64)"),
        ((*ORIGIN, "origin.into=old."), "source (source=a) has old.linear1.bias, old."),
        ((*ORIGIN, "origin.unused=[nothing]"), "origin.unused: 'nothing' matches no tensor"),
    ],
)
def test_what_a_run_to_come_will_not_have_is_told_before_it_trains(
    words: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    plan = changed("stages", "target", to={"over": {"source": ["a"]}, "overrides": list(words)})
    del plan["stages"]["own"]
    with no_training():
        said = study(tmp_path, plan)
    assert said.status == 2
    assert told in said.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_a_failed_point_takes_those_that_need_it_with_it_and_no_other(tmp_path: Path) -> None:
    from lth_runner.cli.launch import execute

    def failing(config: Any, *rest: Any, **named: Any) -> Any:
        if config.dataset.seed == 1 and config.origin is None:
            raise UserError("it is not to be")
        return execute(config, *rest, **named)

    with mock.patch("lth_runner.cli.launch.execute", failing):
        said = study(tmp_path, PLAN)
    assert said.status == 1
    assert "target (source=b, target=a) cannot run: it needs source (source=b)" in said.err
    assert "2 of 4 points failed" in said.err
    done = [one for one in (tmp_path / "outputs/carried").iterdir() if one.is_dir()]
    assert len(done) == 2  # source a, and what was carried from it
    assert lth_status([str(tmp_path / "outputs")]) == 1
    again = study(tmp_path, PLAN)
    assert again.status == 0, again.err
    assert lth_status([str(tmp_path / "outputs")]) == 0


def test_a_study_takes_no_sweep_beside_it(tmp_path: Path) -> None:
    said = study(tmp_path, PLAN, "hydra.mode=MULTIRUN")
    assert said.status == 2
    assert "without -m" in said.err
