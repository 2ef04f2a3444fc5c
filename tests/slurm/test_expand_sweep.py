"""The commands that a sweep is written down as."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def expand(*words: str, cwd: Path, save: bool = False) -> subprocess.CompletedProcess[str]:
    options = ["--save"] if save else []
    return subprocess.run(
        [sys.executable, str(SCRIPTS / "expand_sweep.py"), *options, "--", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )


def commands(*words: str, cwd: Path) -> list[list[str]]:
    done = expand(*words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in done.stdout.splitlines()]


def test_a_sweep_becomes_the_product_of_its_values_in_hydras_order(tmp_path: Path) -> None:
    assert commands("lth-run", "-m", "pruner.sparsity=0.5,0.9", "seed=range(2)", cwd=tmp_path) == [
        ["lth-run", "pruner.sparsity=0.5", "seed=0"],
        ["lth-run", "pruner.sparsity=0.5", "seed=1"],
        ["lth-run", "pruner.sparsity=0.9", "seed=0"],
        ["lth-run", "pruner.sparsity=0.9", "seed=1"],
    ]


def test_a_sweep_in_a_yaml_is_expanded_and_its_points_are_no_sweeps(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "sweep"
    folder.mkdir(parents=True)
    (folder / "tiny.yaml").write_text(
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n"
        "      seed: 0,1\n      pruner.sparsity: 0.5,0.9\n"
    )
    words = ("lth-run", "--config-dir", "mine", "+sweep=tiny", "pruner.sparsity=0.8")
    mine = str(tmp_path / "mine")
    expected = ["pruner.sparsity=0.8", "+sweep=tiny", "hydra.mode=RUN"]
    assert commands(*words, cwd=tmp_path) == [
        ["lth-run", "--config-dir", mine, f"seed={seed}", *expected] for seed in (0, 1)
    ]


def test_what_starts_the_program_stays_and_what_launches_the_sweep_goes(tmp_path: Path) -> None:
    words = ("srun", "-n1", "python", "-m", "lth_runner", "-m", "seed=0,1", "hydra.mode=MULTIRUN")
    found = commands(*words, "pruner.exclude=[output]", "name='a b'", cwd=tmp_path)
    start = ["srun", "-n1", "python", "-m", "lth_runner"]
    rest = ["pruner.exclude=[output]", "name='a b'", "hydra.mode=RUN"]
    assert found == [[*start, f"seed={seed}", *rest] for seed in (0, 1)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("lth-run", "-m", "seedd=0,1"), "unknown key 'seedd'"),
        (("lth-run", "-m", "pruner=imp,imq"), "there is no pruner=imq: did you mean imp"),
        (("lth-run", "-m", "--frobnicate"), "no option --frobnicate"),
        (("python", "train.py"), "no lth-run in 'python train.py'"),
        (("lth-run", "--config-dir", "nowhere", "seed=0,1"), "nowhere: there is no such folder"),
    ],
)
def test_mistakes_are_told_in_one_line_with_status_2(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    done = expand(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_saved_sweeps_lie_in_folders_of_their_own_with_their_points(tmp_path: Path) -> None:
    words = ("lth-run", "-m", "seed=0,1", "hydra.sweep.dir=outputs/sweeps/x")
    paths = [tmp_path / expand(*words, cwd=tmp_path, save=True).stdout.strip() for _ in range(2)]
    assert [path.parent.name for path in paths] == ["x", "x-2"]
    assert paths[0].read_text() == "lth-run seed=0\nlth-run seed=1\n"
    rows = (paths[0].parent / "points.jsonl").read_text().splitlines()
    assert [json.loads(row)["command"] for row in rows] == ["lth-run seed=0", "lth-run seed=1"]


def test_expanding_imports_no_torch() -> None:
    program = "import sys; import expand_sweep; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=SCRIPTS, check=True, timeout=60)
