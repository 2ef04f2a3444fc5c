"""What ``lth-run --help`` prints: a text of its own, and the options that lie in ``conf/``."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

WIDTH = 100
# groups of which none is chosen unasked: +group=option
ADDED = ("augment", "dataset/transforms", "experiment", "pruner/rename", "scale", "study", "sweep")
INNER = {"skeleton", "hydra"}  # what options are made of, and Hydra's own
TEXT = """\
lth-run - Lottery Ticket Hypothesis experiments from one config

usage: lth-run [option ...] [group=choice ...] [key=value ...]

Trains a network, prunes it, rewinds, and again, beside controls; the same command continues a run
that was stopped, or returns at once when it is done.

Examples
  lth-run                                        handwritten digits, an MLP
  lth-run +experiment=resnet20_imp               a shipped experiment
  lth-run +experiment=resnet20_imp +scale=smoke  the same in small
  lth-run model=lenet300 dataset=mnist pruner.sparsity=0.9 rewind.step=500it
  lth-run -m pruner.sparsity=0.5,0.9 rewind.step=0it,200it              a sweep
  lth-run +experiment=digits_imp +sweep=sparsity                        the same from a yaml
  lth-run +study=transfer                        tickets of some data sets trained on others
  lth-run --config-dir ./mine +experiment=my_own                        your own yaml

Groups (group=choice)
{groups}

Common keys (key=value; durations are steps 500it, epochs 12ep or a share 10%)
  pruner.sparsity  pruner.rate  pruner.rounds  pruner.scope=global|layerwise|erk|uniform|...
  pruner.exclude=[output]  pruner.rates={{output:0.1}}
  rewind.step  train.length  train.batch_size  train.precision=fp32|tf32|bf16|fp16
  train.optimizer.lr  train/learning_rate=multistep|cosine|linear|constant
  seed  replicates  device=auto|cpu|cuda|mps  dataset.root  paths.outputs

Options (before all of these, or behind them)
  -h, --help              this
  -m, --multirun          a sweep: every combination of values with commas
  --dry-run               what would be trained, how long, how much disk; nothing is done
  -cd, --config-dir DIR   a folder of your own groups and choices
  -cn, --config-name NAME another root than config.yaml
  -c, --cfg job           print the whole config, run nothing
  --version               the version
  --hydra-help            more options, which are Hydra's

Report of finished runs: lth-report outputs
Points of a sweep:       lth-status outputs
What two runs differ in: lth-diff outputs/a outputs/b
Tab completion:          eval "$(lth-run -sc install=bash)"
"""


def help_text(folders: Sequence[Path]) -> str:
    """Writes the help, with every group that folders of yaml hold; the first is the program's."""
    own = _choices(folders[:1])
    groups = {
        group if group in own and group not in ADDED else f"+{group}": names
        for group, names in _choices(folders).items()
    }
    return TEXT.format(groups="\n".join(_lines(groups)))


def _choices(folders: Sequence[Path]) -> dict[str, list[str]]:
    """Maps each group to the names of its yaml files, over all folders."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for path in folder.glob("*/**/*.yaml"):
            group = path.parent.relative_to(folder)
            if group.parts[0] not in INNER:
                found.setdefault(group.as_posix(), set()).add(path.stem)
    return {group: sorted(names) for group, names in sorted(found.items())}


def _lines(choices: dict[str, list[str]]) -> list[str]:
    return [
        textwrap.fill(
            f"{group}: {', '.join(names)}", WIDTH, initial_indent="  ", subsequent_indent="    "
        )
        for group, names in choices.items()
    ]
