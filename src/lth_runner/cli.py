"""`lth-run`: the command line. Imports no torch at module level, so that --help answers at once."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lth_runner.errors import UserError

EXIT_USER, EXIT_INTERRUPTED = 2, 130


def conf_dir() -> Path:
    """The packaged conf/ where there is one, else the checkout's."""
    packaged = Path(__file__).parent / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "conf"


def main() -> None:
    """Entry point of ``lth-run``."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    sys.path.insert(0, str(Path.cwd()))  # model._target_=mine.Net finds mine.py in this folder
    traceback_wanted = bool(os.environ.get("LTH_TRACEBACK"))
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come here, and are told in one place
    sys.argv[1:] = scale_last(sys.argv[1:])
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(launch)()
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        if traceback_wanted:
            raise
        sys.exit(tell(error))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def scale_last(arguments: Sequence[str]) -> list[str]:
    """``+scale=`` holds over any experiment, wherever it stands on the command line."""
    return sorted(arguments, key=lambda argument: argument.startswith("+scale="))


def tell(error: BaseException) -> int:
    """Prints what went wrong in one message, and returns the exit status."""
    from lth_runner.messages import explain

    print(f"error: {explain(error, conf_dir())}", file=sys.stderr)
    return EXIT_USER


def launch(config: DictConfig) -> float | None:
    """One run; returns the last ticket's mean test accuracy, for sweepers to optimise."""
    from lth_runner.launch import execute

    command = shlex.join(["lth-run", *_overrides()])
    return execute(config, command)


def _overrides() -> list[str]:
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task)
