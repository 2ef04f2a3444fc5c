"""One run's config as words compose it, by the command line or from Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from lth_runner.cli.chosen import check_chosen
from lth_runner.cli.sweep import choices, command, run_name


@dataclass(frozen=True)
class Composed:
    """A config that is ready to be run, and what its run folder says of how it came about."""

    config: DictConfig
    command: str  # the command line of the same run
    choices: Mapping[str, Any]  # config group -> the option chosen
    whole: DictConfig | None = None  # with Hydra's own config, where Hydra does not hold it

    def __str__(self) -> str:
        return self.command


def composed(config: DictConfig, known: Any) -> Composed:
    """Names the run that a config is of, and looks at the options that were chosen together.

    ``known``: Hydra's own config. Raises UserError for options that do not go together. It must be
    called while Hydra still has what it composed the config from.
    """
    config.name = run_name(config.name, known)
    check_chosen(known)
    return Composed(config, command(known, known.overrides.task), choices(known))
