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
    assert begun[0] <= 2 + 2  # both pruners, and the first point twice: by Hydra and to run it
    assert "point    8 of 8  seed=3 pruner=one_shot" in said.out


def test_an_option_that_is_not_there_is_told_before_the_first_point_starts(tmp_path: Path) -> None:
    words = (*SMALL, "seed=0,1", "pruner=imp,impp", f"paths.outputs={tmp_path}")
    with mock.patch("lth_runner.cli.launch.execute") as execute:
        said = lth_run("-m", *words, f"hydra.sweep.dir={tmp_path}/sweep")
    assert said.status == 2
    assert "there is no pruner=impp" in said.err
    assert not execute.called
