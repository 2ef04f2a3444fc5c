"""A sweep's first point starts once each choice of options has been composed, not each point."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from hydra._internal.config_loader_impl import ConfigLoaderImpl

from command import SMALL, lth_run
from lth_runner.cli.launch import Ended


def test_points_that_differ_in_values_alone_are_not_all_composed_first(tmp_path: Path) -> None:
    composed, begun = [], []
    whole = ConfigLoaderImpl.load_sweep_config

    def count(*arguments: Any, **named: Any) -> object:
        composed.append(arguments)
        return whole(*arguments, **named)

    def begin(*arguments: object, **named: object) -> Ended:
        begun.append(len(composed))
        return Ended(0.5, diverged=False, folder=tmp_path)

    words = (*SMALL, "seed=0,1,2,3", "pruner=imp,one_shot", f"paths.outputs={tmp_path}")
    with (
        mock.patch.object(ConfigLoaderImpl, "load_sweep_config", count),
        mock.patch("lth_runner.cli.launch.execute", begin),
    ):
        said = lth_run("-m", *words, f"hydra.sweep.dir={tmp_path}/sweep")
    assert said.status == 0, said.err
    assert len(begun) == 8
    # both pruners, three seeds more, and the first point twice: by Hydra and to run it
    assert begun[0] <= 2 + 3 + 2
    assert "point    8 of 8  seed=3 pruner=one_shot" in said.out


def test_an_option_that_is_not_there_is_told_before_the_first_point_starts(tmp_path: Path) -> None:
    words = (*SMALL, "seed=0,1", "pruner=imp,impp", f"paths.outputs={tmp_path}")
    with mock.patch("lth_runner.cli.launch.execute") as execute:
        said = lth_run("-m", *words, f"hydra.sweep.dir={tmp_path}/sweep")
    assert said.status == 2
    assert "there is no pruner=impp" in said.err
    assert not execute.called


def test_values_that_are_refused_are_told_before_the_first_point_starts(tmp_path: Path) -> None:
    told: list[str] = []

    def begin(*arguments: object, **named: object) -> Ended:
        told.append("a run")
        return Ended(0.5, diverged=False, folder=tmp_path)

    def note(text: str, *arguments: object) -> None:
        told.append(text)

    swept = ("pruner.sparsity=0.5,1.5", "train.optimizer.lr=0.1,-1,0.2")
    words = (*SMALL, *swept, f"paths.outputs={tmp_path}")
    with (
        mock.patch("lth_runner.cli.launch.execute", begin),
        mock.patch("lth_runner.cli.planning.show", note),
    ):
        lth_run("-m", *words, f"hydra.sweep.dir={tmp_path}/sweep")
    first, second = told[: told.index("a run")]
    assert "3 of 6 (train.optimizer.lr=-1 pruner.sparsity=0.5) will be refused: train.opt" in first
    assert "pruner.sparsity=1.5" in second
    assert "will be refused: pruner.sparsity=1.5 is outside (0, 1)" in second


def test_a_sweep_of_good_values_is_planned_without_a_word(tmp_path: Path) -> None:
    words = (*SMALL, "seed=0,1", f"paths.outputs={tmp_path}")
    with (
        mock.patch("lth_runner.cli.launch.execute", return_value=Ended(0.5, False, tmp_path)),
        mock.patch("lth_runner.cli.planning.show") as show,
    ):
        lth_run("-m", *words, f"hydra.sweep.dir={tmp_path}/sweep")
    assert not show.called
