"""The command line: what it answers, how it ends, what it says when something is wrong."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import yaml
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from command import (
    SMALL,
    Said,
    contents,
    environ,
    folders,
    lth_run,
    process,
    rows,
    status_of,
)
from forked import lth_run_forked
from lth_runner import __version__
from lth_runner.cli import arguments as arguments_of
from lth_runner.cli import main as cli
from lth_runner.cli.lazy_help import help_as_text
from lth_runner.cli.messages import explain_bug
from lth_runner.cli.stopping import stop_requested
from lth_runner.cli.sweep import as_typed, with_snapshots
from lth_runner.runs.sweep_folder import read_owner
from lth_runner.store.lease import Lease
from lth_runner.values.errors import UserError

LONG = ("train.shrink_to=null", "train.length=2000it", "train.eval_every=50%", "pruner.rounds=1")


def test_the_config_is_shown_without_a_run(tmp_path: Path) -> None:
    config = lth_run("--cfg", "job", "model=lenet300", f"paths.outputs={tmp_path}")
    assert config.status == 0
    assert re.search(r"^pruner:$", config.out, re.MULTILINE)
    assert f"outputs: {tmp_path}" in config.out
    assert not list(tmp_path.iterdir())


def test_help_names_every_group_and_choice_and_those_of_a_folder_of_ones_own(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "my_net.yaml").touch()
    (tmp_path / "mine" / "my_group").mkdir()
    (tmp_path / "mine" / "my_group" / "one.yaml").touch()
    shown = lth_run("--help", "--config-dir", str(tmp_path / "mine"), "seed=1")
    assert (shown.status, shown.err) == (0, "")
    listed = re.sub(r"\n    ", " ", shown.out)
    for path in cli.conf_dir().glob("*/**/*.yaml"):
        group = path.parent.relative_to(cli.conf_dir()).as_posix()
        line = re.search(rf"^  \+?{group}: (.*)$", listed, re.MULTILINE)
        inner = group.split("/")[0] in ("skeleton", "hydra")
        assert inner if line is None else path.stem in line[1].split(", ")
    assert re.search(r"^  model: .*, my_net,", listed, re.MULTILINE)
    assert re.search(r"^  \+my_group: one$", listed, re.MULTILINE)
    chosen = yaml.safe_load((cli.conf_dir() / "config.yaml").read_text())["defaults"]
    unasked = {group for entry in chosen if isinstance(entry, dict) for group in entry}
    plain = set(re.findall(r"^  ([a-z]+): ", listed.split("Groups")[1], re.MULTILINE))
    assert plain == {group for group in unasked if " " not in group}
    for word in ("lth-run -m ", "--config-dir", "paths.outputs", "-sc"):
        assert word in shown.out
    assert max(map(len, shown.out.splitlines())) <= 100


def test_a_key_with_dashes_is_the_key_as_an_agent_of_sweeps_writes_it(tmp_path: Path) -> None:
    words = ["--seed=1", "--train.optimizer.lr=0.2", "--cfg=job", "--config-dir=mine", "-m", "a=b"]
    expected = ["seed=1", "train.optimizer.lr=0.2", "--cfg=job", "--config-dir=mine", "-m", "a=b"]
    assert arguments_of.as_overrides(words) == expected
    dashed = [f"--{word}" if word[0] not in "+-" else word for word in SMALL]
    said = lth_run(*dashed, f"--paths.outputs={tmp_path}", "--seed=5", "replicates=1")
    assert said.status == 0, said.err
    (folder,) = folders(tmp_path)
    assert "--" not in status_of(folder)["command"]
    assert {row["seed"] for row in rows(folder / "rounds.jsonl")} == {5}


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], {"torch", "wandb", "matplotlib", "sklearn", "hydra", "omegaconf", "tqdm"}),
        (["--help", "model=mlp"], {"torch", "hydra", "omegaconf"}),
        (["--cfg", "job"], {"torch", "wandb", "matplotlib", "sklearn"}),
    ],
)
def test_what_runs_nothing_loads_little(arguments: list[str], absent: set[str]) -> None:
    code = (
        f"import sys, lth_runner.cli.main as c; sys.argv[1:]={arguments}\n"
        f"try: c.main()\nfinally: assert not {absent} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_whole_run_loads_what_only_shows_or_reads_results_after_its_trainings(
    tmp_path: Path,
) -> None:
    absent = {"wandb", "matplotlib", "scipy", "sklearn", "torchvision", "pandas", "IPython"}
    code = (
        "import sys, lth_runner.cli.launch as launch, lth_runner.cli.main as cli\n"
        "run = launch.run_experiment\n"
        "def looked(*parts):\n"
        f"    print('early:', {absent} & set(sys.modules))\n"
        "    return run(*parts)\n"
        f"launch.run_experiment, sys.argv[1:] = looked, {[*SMALL]}\n"
        "cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environ(), capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("run      outputs/small/")
    assert "\nearly: set()\n" in done.stdout
    [folder] = folders(tmp_path / "outputs")
    assert status_of(folder)["state"] == "done"


def test_the_version_is_this_packages() -> None:
    assert lth_run("--version") == Said(0, f"lth-run {__version__}\n", "")


OWN = tuple(a for a in SMALL if not a.startswith(("name", "control", "model")))
MISTAKES = {
    "modle=mlp": "unknown key 'modle': did you mean model",
    "model=mpl": "there is no model=mpl: did you mean mlp?",
    "control=[reinit,shufle]": "no control=shufle: did you mean shuffle or shuffle_layers or "
    "shuffled_ratios?",
    "+experiment=nope": "there is no experiment=nope: accepted: ",
    "experiment=digits_imp": "experiment cannot be chosen here: write +experiment=... to add it",
    "train/learning_rate=cosin": "there is no train/learning_rate=cosin: did you mean cosine?",
    "pruner.sparsty=0.9": "unknown key 'pruner.sparsty': did you mean pruner.sparsity",
    "train.lenght=3ep": "unknown key 'train.lenght': did you mean train.length",
    "train.optimizer.lrr=1": "did you mean train.optimizer.lr",
    "+foo=1": "unknown key 'foo'",
    "+model.foo=1": "model.foo is not an option of lth_runner.problem.models.mlp",
    "+seed=1": "seed exists already: leave the + away to set it",
    "seed=-1": "seed=-1",
    "seed=1.5": "seed=1.5",
    "replicates=0": "replicates=0",
    "pruner.sparsity=2": "pruner.sparsity=2",
    "pruner.scope=glob": "did you mean global?",
    "train.length=10": "train.length=10 is not a duration: write whole steps as 500it",
    "train.precision=fp8": "did you mean fp32 or fp16?",
    "train.batch_size=0": "train.batch_size=0 does not fit",
    "device=gpu": "accepted: auto, cpu, cuda (a GPU; ",
    "rewind=stepp": "did you mean step?",
    "pruner.exclude=[output": "quote lists and patterns for your shell",
    "'pruner.exclude=[output] x'": "quote lists and patterns for your shell",
    "pruner": "'pruner' is no key=value",
    "model=lenet5": "model.widths is a key of model=mlp, not of the option chosen here (a new "
    "key of your own part: +model.widths=...)",
    "+study=digits_forgetting pruner.score_step=5it": "first, which has none: write "
    "++pruner.score_step=..., where all stages have it",
    "pruner.retrain=true": "pruner.retrain is a key of pruner=continuous, pruner=dpf, "
    "pruner=early_bird_stop, pruner=force, pruner=gradual",
    "pruner.rate=1": "the share of what is left that goes in each round, 0.2 for 20 %",
    "train.engine=fast": "did you mean auto? (accepted: auto, distributed, graphed, packed, "
    "sequential, sharded, sparse)",
    "train.optimizer.lr=abc": "train.optimizer.lr='abc' must be a number",
    "train.optimizer.lr=-1": "train.optimizer: Invalid learning rate: -1 (train.optimizer.lr and",
    "train.snapshots=[foo]": "train.snapshots[0]='foo' is not a duration: ",
    "rewind.step=5": "rewind.step=5 is not a duration: ",
    "rewind.step=101%": "rewind.step=101% is past the end of the training: at most 100%",
    "--config-dir /nowhere": "'/nowhere' not found",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_in_one_line_that_says_what_to_do(mistake: str, tmp_path: Path) -> None:
    words = [*SMALL, f"paths.outputs={tmp_path}", *shlex.split(mistake)]
    said = lth_run(*arguments_of.in_order(words))
    assert said.status == 2
    assert said.err.startswith("error: ")
    assert MISTAKES[mistake] in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_process_ends_as_its_command_does(tmp_path: Path) -> None:
    wrong = process("modle=mlp", cwd=tmp_path)
    assert (wrong.status, wrong.out) == (2, "")
    assert re.fullmatch("error: unknown key 'modle': .*\n", wrong.err)


def test_the_traceback_is_shown_when_asked_for() -> None:
    with pytest.raises(UserError, match="seed=-1"):
        lth_run(*SMALL, "seed=-1", environment={"LTH_TRACEBACK": "1"})


@pytest.mark.parametrize(
    "words",
    [
        "-m a=1,2 b=-1",
        "a=1,2 b=3 -m",
        "--config-dir mine a=1 +experiment=x +scale=smoke --cfg job",
        "+scale=smoke a=1",
        "-sc query=bash",
        "",
    ],
)
def test_options_may_stand_before_all_overrides_or_behind_them(words: str) -> None:
    arguments_of.refuse_misplaced(words.split())


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ("--nonsense", "did you mean "),
        ("--dry-rn", "did you mean --dry-run"),
        ("--pruner.rate", "a key is set by pruner.rate=<value>, in one word"),
    ],
)
def test_an_option_that_there_is_not_is_told_in_one_line(option: str, advice: str) -> None:
    said = lth_run(option, "a=1")
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith(f"error: there is no option {option}: {advice}")
    assert said.err.count("\n") == 1


def test_a_dry_run_is_completed_as_a_run() -> None:
    line = "lth-run --dry-run model=len"
    environment = {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    said = lth_run("-sc", "query=bash", environment=environment)
    assert (said.status, said.out.split()) == (0, ["model=lenet300", "model=lenet5"])


def test_an_option_is_completed_from_its_beginning() -> None:
    environment = {"COMP_LINE": "lth-run --dr", "COMP_POINT": "12"}
    said = lth_run("-sc", "query=bash", environment=environment)
    assert (said.status, said.out.split(), said.err) == (0, ["--dry-run"], "")


def test_the_options_that_are_known_are_hydras_and_one_more() -> None:
    with help_as_text():
        found = [name for one in get_args_parser()._actions for name in one.option_strings]
    assert {n for n in found if n.startswith("--")} == arguments_of.LONG - {arguments_of.DRY_RUN}


@pytest.mark.parametrize(
    ("words", "right"),
    [
        ("a=1,2 -m b=3", "-m a=1,2 b=3"),
        ("-m a=1,2 --config-dir mine b=3", "-m --config-dir mine a=1,2 b=3"),
        ("+scale=smoke a=1 +experiment=x", "a=1 +experiment=x +scale=smoke"),
        ("+scale=smoke -m +experiment=x", "-m +experiment=x +scale=smoke"),
    ],
)
def test_misplaced_words_are_told_with_their_right_order(words: str, right: str) -> None:
    said = lth_run(*words.split())
    assert (said.status, said.out) == (2, "")
    assert said.err.endswith(f": write lth-run {right}\n")
    assert said.err.count("\n") == 1
    arguments_of.refuse_misplaced(right.split())


def test_a_sweep_makes_a_folder_for_each_point_and_shares_the_dense_training(
    tmp_path: Path,
) -> None:
    said = lth_run("-m", *SMALL, "pruner.rate=0.2,0.5", f"paths.outputs={tmp_path}")
    assert said.status == 0, said.err
    first, second = ([*rows(f / "rounds.jsonl")] for f in in_order(tmp_path))
    assert [row["reused"] for row in first] == [False] * 5
    assert [row["reused"] for row in second] == [True] + [False] * 4
    assert first[0]["training_key"] == second[0]["training_key"]
    entries = [path.name for path in (tmp_path / "store" / "entries").iterdir()]
    assert sorted(entries) == sorted({row["training_key"] for row in [*first, *second]})
    assert status_of(in_order(tmp_path)[1])["command"] == shlex.join(
        ["lth-run", *SMALL, "pruner.rate=0.5", f"paths.outputs={tmp_path}"]
    )


def in_order(outputs: Path) -> list[Path]:
    """Run folders, the first made first."""
    return sorted(folders(outputs), key=lambda path: (path / "config.yaml").stat().st_mtime_ns)


def test_a_failing_point_of_a_sweep_stops_no_sibling(tmp_path: Path) -> None:
    said = lth_run("-m", *SMALL, "pruner.rate=0.2,7,0.5,8", f"paths.outputs={tmp_path}")
    assert said.status == 2
    assert re.findall(r"^(?:point|report) .*", said.out, re.MULTILINE) == [
        "point    1 of 4  pruner.rate=0.2",
        "point    2 of 4  pruner.rate=7",
        "point    3 of 4  pruner.rate=0.5",
        "point    4 of 4  pruner.rate=8",
        f"report   lth-report {tmp_path}/small",
    ]
    states = [status_of(folder)["state"] for folder in folders(tmp_path)]
    assert states == ["done", "done"]
    assert [line[:21] for line in said.err.splitlines()] == [
        "warning: point 2 of 4", "warning: point 4 of 4",
        "error: pruner.rate=7 ", "error: pruner.rate=8 ", "error: 2 of 4 points ",
    ]  # fmt: skip


def test_sweeps_started_at_once_have_folders_and_exit_statuses_of_their_own(
    tmp_path: Path,
) -> None:
    outputs = f"paths.outputs={tmp_path / 'outputs'}"
    asked = {"pruner.rate=0.2,7": 2, "pruner.rate=0.3,0.5": 0, "pruner.rate=0.4,0.6": 0}
    small = ("-m", *SMALL, "control=none", outputs)
    sweeps = [lth_run_forked(*small, one, logs=tmp_path, pictures=False) for one in asked]
    for sweep, status in zip(sweeps, asked.values(), strict=True):
        sweep.finish(status)
    written = list((tmp_path / "outputs" / "sweeps").iterdir())
    assert len(written) == len(asked)
    for folder in written:
        (command,) = [word for word in read_owner(folder)["command"].split() if word in asked]
        first, second = command.removeprefix("pruner.rate=").split(",")
        told = [row["command"].split()[-1] for row in rows(folder / "points.jsonl")]
        assert told == [f"pruner.rate={first}", f"pruner.rate={second}"]
        assert (folder / "failures.jsonl").exists() == bool(asked[command])
        assert not (folder / "lease").exists()


def test_a_folder_given_to_two_sweeps_is_one_sweeps_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps" / "mine"
    command = ("-m", *SMALL, f"hydra.sweep.dir={folder}", f"paths.outputs={tmp_path}")
    assert lth_run(*command, "pruner.rate=0.2,7").status == 2
    lease = Lease.take(folder / "lease")
    assert lease is not None
    said = lth_run(*command, "pruner.rate=0.2,0.5")
    assert (said.status, said.out) == (2, "")
    assert said.err == (
        f"error: {folder} is the folder of a sweep that is under way: wait for it, or give this "
        "one another hydra.sweep.dir\n"
    )
    lease.release()
    assert lth_run(*command, "pruner.rate=0.2,0.5").status == 0  # the other's failure is not its
    (folder / "lease").mkdir()
    said = lth_run(*command, "pruner.rate=0.2,0.5")
    assert (said.status, "is a folder" in said.err) == (2, True)


@pytest.mark.slow
def test_a_point_that_another_process_is_at_is_left_to_it(tmp_path: Path) -> None:
    command = ("-m", *SMALL, "seed=0,1", f"paths.outputs={tmp_path}")
    assert lth_run(*command).status == 0
    _, second = in_order(tmp_path)
    (second / "status.json").unlink()
    lease = Lease.take(tmp_path / "store" / "leases" / f"run-small-{second.name}")
    assert lease is not None
    with mock.patch("lth_runner.cli.launch.is_elsewhere", return_value=False):
        said = lth_run(*command)
    lease.release()
    assert (said.status, said.err) == (0, "")
    assert "point    left to another process: " in said.out
    assert lth_run(*command).status == 0
    assert status_of(second)["state"] == "done"


@pytest.mark.slow
def test_a_sweep_over_rewind_steps_keeps_them_all_in_the_training_that_its_points_share(
    tmp_path: Path,
) -> None:
    swept = ("seed=0", "rewind.step=0it,3it,9it", "control=none", f"paths.outputs={tmp_path}")
    assert lth_run("-m", *SMALL, *swept).status == 0
    found = in_order(tmp_path)
    assert [status_of(folder)["steps"]["replayed"] for folder in found] == [0, 0, 0]
    kept = "train.snapshots=[0it,3it,9it]"
    (path,) = (tmp_path / "sweeps").glob("*/points.jsonl")
    assert all(shlex.split(row["command"])[-1] == kept for row in rows(path))
    assert all(kept not in status_of(folder)["command"] for folder in found)
    names = {folder.name for folder in found}
    assert lth_run(*shlex.split(rows(path)[1]["command"])[1:]).status == 0  # one alone
    assert {folder.name for folder in in_order(tmp_path)} == names


@pytest.mark.parametrize(
    ("described", "kept", "word"),
    [
        ([["a=1"], ["a=2"]], [], None),
        ([["rewind.step=1it", "a=1"], ["rewind.step=1it", "a=2"]], [], None),
        ([["rewind.step=1it"], ["rewind.step=2it"]], ["5it"], "train.snapshots=[5it,1it,2it]"),
        ([["rewind.step=1it", "train.snapshots=[]"], ["rewind.step=2it"]], [], None),
    ],
)
def test_what_points_rewind_to_is_kept_unless_the_words_say_what_is(
    described: list[list[str]], kept: list[str], word: str | None
) -> None:
    assert with_snapshots(described, kept) == [[*p, *([word] if word else [])] for p in described]


def test_a_sweep_is_told_as_it_was_typed() -> None:
    assert as_typed([], ["seed=0,1"]) == ["seed=0,1"]
    options = ["hydra/launcher=slurm", "hydra.mode=MULTIRUN"]
    assert as_typed(options, ["seed=0,1"]) == ["-m", "hydra/launcher=slurm", "seed=0,1"]


def test_an_interrupted_sweep_says_how_the_whole_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lth_runner.cli.launch._run", mock.Mock(side_effect=KeyboardInterrupt))
    given = ["seed=1", "rewind.step=0it,10it", f"paths.outputs={tmp_path}"]
    said = lth_run("-m", *SMALL, *given)
    assert (said.status, said.err) == (130, "")
    typed = ["lth-run", "-m", *SMALL, *given]
    assert said.out.endswith(f"interrupted; continue with:\n  {shlex.join(typed)}\n")
    assert "point    1 of 2  rewind.step=0it\n" in said.out


def test_a_sweeper_gets_the_last_tickets_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    returned = []

    @functools.wraps(cli.launch)
    def spy(config: DictConfig) -> float | None:
        returned.append(real(config))
        return returned[-1]

    real = cli.launch
    monkeypatch.setattr(cli, "launch", spy)
    lth_run(*SMALL, "replicates=2", f"paths.outputs={tmp_path}")
    last = [
        row["test_accuracy"]
        for row in rows(folders(tmp_path)[0] / "rounds.jsonl")
        if (row["round"], row["arm"]) == (2, "ticket")
    ]
    assert returned == [sum(last) / 2]
    lth_run(*SMALL, "replicates=2", f"paths.outputs={tmp_path}")
    assert returned == [sum(last) / 2] * 2  # a finished run gives it as well


MINE = """\
# @package _global_
defaults:
  - override /control: shuffle
name: mine
model:
  widths: [6]
"""
NET = """\
from torch import nn

def Net(shape, num_classes, *, hidden=5):
    pixels = shape[0] * shape[1] * shape[2]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))

class Recurrent(nn.Module):
    def __init__(self, shape, num_classes):
        super().__init__()
        self.cells = nn.LSTM(shape[2], 5, num_layers=2, batch_first=True)
        self.output = nn.Linear(5, num_classes)
    def forward(self, x):
        return self.output(self.cells(x.flatten(0, 1) if x.ndim == 3 else x[:, 0])[0][:, -1])

class Broken(nn.Module):
    def __init__(self, shape, num_classes):
        super().__init__()
        self.net = Net(shape, num_classes)
        self.calls = 0
    def forward(self, x):
        self.calls += self.training
        if self.calls > 15:
            raise ValueError("forward gave up")
        return self.net(x)
"""


def test_an_experiment_and_a_network_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "my_own.yaml").write_text(MINE)
    (tmp_path / "mynet.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    said = lth_run("--config-dir", "./mine", "+experiment=my_own", *OWN, "model=mlp")
    assert said.status == 0, said.err
    (folder,) = folders(tmp_path / "outputs", "mine")
    assert {row["arm"] for row in rows(folder / "rounds.jsonl")} == {"ticket", "shuffle"}
    # what it says continues it does find it
    again = lth_run(*shlex.split(status_of(folder)["command"])[1:])
    assert again.status == 0, again.err
    assert "\nmine  (" in again.out

    own = ("model=custom", "name=own", "control=none")
    said = lth_run(*OWN, *own, "model._target_=mynet.Net", "+model.hidden=7")
    assert said.status == 0, said.err
    (folder,) = folders(tmp_path / "outputs", "own")
    assert rows(folder / "rounds.jsonl")[0]["num_prunable"] == 64 * 7 + 7 * 10

    own = ("model=custom", "name=broken", "train.shrink_to=20it")
    said = lth_run(*OWN, *own, "model._target_=mynet.Broken")
    assert said.status == 1
    assert said.err == (
        f"error: ValueError: forward gave up, at {tmp_path / 'mynet.py'}:24 (in a part of your "
        "own; LTH_TRACEBACK=1 before the same command shows the traceback)\n"
    )
    (folder,) = folders(tmp_path / "outputs", "broken")
    assert status_of(folder)["state"] == "failed"
    assert status_of(folder)["error"] == "ValueError: forward gave up"


def test_a_run_says_what_is_shrunk_and_what_cannot_be_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mynet.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    given = ("model=custom", "model._target_=mynet.Recurrent", "control=none", "train.length=30it")
    said = lth_run(*OWN, *given)
    assert said.status == 0, said.err
    assert "length   train.length=30it is shrunk to train.shrink_to=8it, " in caplog.text
    # 4 * 5 * (8 + 5 + 2) and 4 * 5 * (5 + 5 + 2) in the cells, 5 * 10 + 10 at the output
    assert (
        "prunable 50 of 600 parameters (8.33 %); "
        "cells.weight_ih_l0, cells.weight_hh_l0, cells.weight_ih_l1, cells.weight_hh_l1 stay dense"
    ) in caplog.text
    caplog.clear()
    assert lth_run(*SMALL, f"paths.outputs={tmp_path}").status == 0
    assert "engine   " in caplog.text
    assert "length   " not in caplog.text
    assert "prunable 592 of 610 parameters (97 %)\n" in caplog.text


def test_a_long_exception_is_told_short() -> None:
    told = explain_bug(RuntimeError("a\n  b" * 1000))
    assert told.startswith("RuntimeError: a ba b")
    assert len(told) < 700
    assert "\n" not in told
    wrapped = explain_bug(RuntimeError("IoError: No space left on device (os error 28)"))
    assert wrapped.startswith("no space left to write a file of the run: free some")


def test_the_shell_completes_keys_and_options() -> None:
    script = """
        eval "$(lth-run -sc install=bash)"
        complete -p lth-run
        complete_line() {
            COMP_LINE="$1" COMP_POINT=${#1} COMP_CWORD=1; hydra_bash_completion
            echo "${COMPREPLY[@]}"
        }
        complete_line "lth-run pruner."
        complete_line "lth-run rewind="
        complete_line "lth-run --mul"
        """
    done = subprocess.run(
        ["bash", "-c", script], env=environ(), capture_output=True, text=True, timeout=60
    )
    function, keys, options, option = done.stdout.splitlines()
    assert "hydra_bash_completion lth-run" in function, done.stderr
    assert {"pruner.sparsity=", "pruner.rate=", "pruner.scope="} <= set(keys.split())
    assert {"rewind=init", "rewind=step"} <= set(options.split())
    assert option == "--multirun"


def test_a_run_within_the_completion_of_another_line_is_run(monkeypatch) -> None:
    monkeypatch.setenv("COMP_LINE", "git checkout -")
    with mock.patch("lth_runner.cli.launch.execute", side_effect=UserError("it is run")):
        assert lth_run(*SMALL).err == "error: it is run\n"


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGHUP,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_says_how_to_go_on_and_goes_on(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*SMALL, *LONG, "control=none", "name=stopped", "paths.outputs=out puts"]
    child = lth_run_forked(*command, logs=tmp_path, pictures=False)
    while child.is_running and not list(tmp_path.glob("out puts/store/drafts/*")):
        time.sleep(0.01)
    time.sleep(0.05)
    os.kill(child.process.pid, number)
    out = child.finish(130)
    assert out.startswith("run      out puts/stopped/")
    (folder,) = folders(tmp_path / "out puts", "stopped")
    assert status_of(folder)["state"] == "interrupted"
    assert list(tmp_path.glob("out puts/store/drafts/*/checkpoint.safetensors"))
    told = re.search(r"interrupted; continue with:\n\s*(lth-run .*)\n", out)
    assert told, out
    monkeypatch.chdir(tmp_path)
    assert lth_run(*shlex.split(told[1])[1:]).status == 0
    assert status_of(folder)["state"] == "done"
    assert len(rows(folder / "rounds.jsonl")) == 2


def test_two_hang_ups_are_one_wish_and_nohup_stays() -> None:
    with stop_requested() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requested() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_whose_reader_goes_is_interrupted_and_says_so(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    child = lth_run_forked(*SMALL, "train.eval_every=1it", logs=tmp_path, out=pipe)
    with pipe.open() as reader:
        assert reader.readline().startswith("run ")
    err = child.finish(130)
    assert re.fullmatch(r"interrupted; continue with:\n  lth-run .*\n", err)
    (folder,) = folders(tmp_path / "outputs")
    assert (status_of(folder)["state"], status_of(folder)["error"]) == ("interrupted", None)


def test_outputs_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for arguments in ((), ("-m", "seed=0,1")):
        said = lth_run(*arguments, *SMALL, f"paths.outputs={tmp_path}/file/x")
        assert (said.status, said.out) == (2, "")
        assert re.fullmatch(
            rf"error: .*{tmp_path}/file.* cannot be written.*paths\.outputs=\.\.\.\n", said.err
        )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"a small disk to fill is mounted, and mount does not run here: {error}")
    if done.returncode:
        pytest.skip(f"a small disk to fill takes the right to mount: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.parametrize("size", [pytest.param(10, marks=pytest.mark.slow), 100, 380])
def test_a_full_disk_is_one_clear_error_and_tears_nothing(small_disk: Path, size: int) -> None:
    (small_disk / "filler").write_bytes(b"\0" * 1024 * size)
    command = (*SMALL, "model.widths=[150]", f"paths.outputs={small_disk}")
    said = lth_run(*command)
    assert said.status == 2
    assert said.err.startswith("error: no space left to write ")
    assert said.err.count("\n") == 1
    assert not list(small_disk.rglob("*.part"))
    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
    assert lth_run(*command).status == 0  # what it had kept is whole
    assert not (small_disk / "store" / "damaged").exists()
    (folder,) = folders(small_disk)
    assert len(rows(folder / "rounds.jsonl")) == 5


def test_a_store_of_another_format_is_an_error_and_is_left_alone(tmp_path: Path) -> None:
    from lth_runner.store.store import Store, write_json

    Store(tmp_path / "store")
    write_json(tmp_path / "store" / "format.json", {"format": 99})
    before = contents(tmp_path / "store")
    said = lth_run(*SMALL, f"paths.outputs={tmp_path}")
    assert said.status == 2
    assert re.fullmatch("error: the Store .* has format 99, this version writes .*\n", said.err)
    assert contents(tmp_path / "store") == before
    assert json.loads((tmp_path / "store" / "format.json").read_text())["format"] == 99
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
