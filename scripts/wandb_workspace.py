"""A view of a W&B project that shows tickets: curves by sparsity, rounds, trainings.

    pip install wandb-workspaces
    python scripts/wandb_workspace.py ENTITY PROJECT         # ticket, reinit, shuffle
    python scripts/wandb_workspace.py ENTITY PROJECT --measure perplexity --arms ticket random
    python scripts/wandb_workspace.py ENTITY PROJECT --show               # prints it, saves nothing

It is saved by the account that `wandb login` knows, and shows what `record=wandb` has sent there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

FIELDS = ("sign_preservation", "jaccard_early_gradient", "mask_overlap_previous")


def workspace(entity: str, project: str, measure: str, arms: Sequence[str]) -> Any:
    """Makes the view: a band of each arm over the seeds, then every seed, then each training."""
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as views

    def plot(title: str, axis: str, **which: Any) -> Any:
        return panels.LinePlot(title=title, x=axis, **which)

    value = f"test_{measure}"
    bands = [
        plot(f"{arm}: mean over seeds, one standard deviation below and above",
             f"curves/{arm}/sparsity",
             y=[f"curves/{arm}/{value}_{part}" for part in ("mean", "low", "high")])
        for arm in arms
    ]  # fmt: skip
    rounds = [
        plot(f"{arm}: {field} of each seed", f"rounds/{arm}/seed-0/sparsity",
             metric_regex=f"rounds/{arm}/seed-\\d+/{field}")
        for arm in arms for field in (value, *FIELDS)
    ]  # fmt: skip
    trainings = [
        plot(f"{arm}: {split} loss in training", f"train/{arm}/seed-0/total_step",
             metric_regex=f"train/{arm}/seed-\\d+/{split}_loss")
        for arm in arms for split in ("train", "val")
    ]  # fmt: skip
    named = {"By sparsity": bands, "Rounds": rounds, "Trainings": trainings}
    sections = [views.Section(name=name, panels=made, is_open=name == "By sparsity")
                for name, made in named.items()]  # fmt: skip
    return views.Workspace(entity=entity, project=project, name="Tickets", sections=sections)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("entity", help="a user or a team of W&B")
    parser.add_argument("project", help="as record.wandb.project has it")
    parser.add_argument("--measure", default="accuracy", help="the objective's headline measure")
    parser.add_argument("--arms", nargs="+", default=["ticket", "reinit", "shuffle"])
    parser.add_argument("--show", action="store_true", help="print it and save nothing")
    arguments = parser.parse_args()
    made = workspace(arguments.entity, arguments.project, arguments.measure, arguments.arms)
    if arguments.show:
        shown = [[one.name, [panel.title for panel in one.panels]] for one in made.sections]
        print(json.dumps(shown, indent=2))
    else:
        print(made.save().url)


if __name__ == "__main__":
    main()
