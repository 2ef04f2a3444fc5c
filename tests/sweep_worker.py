"""One worker of a sweep: all points of one seed, over a Store that others may share."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch

import small
from lth_runner.allocate import Global
from lth_runner.control import Reinit
from lth_runner.experiment import Experiment, run
from lth_runner.masking import Static
from lth_runner.runs.record import Record
from lth_runner.schedule import Geometric
from lth_runner.score import Magnitude
from lth_runner.search import Iterative
from lth_runner.search.rewind import Rewind
from lth_runner.store.store import Store
from lth_runner.training.recipe import Recipe
from lth_runner.training.trainer import Trainer

LENGTH = 200
SPARSITIES, REWINDS, SEEDS = (0.3, 0.5), ("0it", "60it"), (0, 1)
POINTS = list(itertools.product(SPARSITIES, REWINDS, SEEDS))


def sweep_recipe(length: int = LENGTH) -> Recipe:
    return small.recipe(
        length=f"{length}it", eval_every="50it", snapshots=REWINDS, checkpoint_minutes=0.0005
    )


def search(sparsity: float, rewind: str) -> Iterative:
    return Iterative(Magnitude(), Global(), Geometric(sparsity, 0.2), Rewind(rewind))


def run_point(trainer: Trainer, point: tuple[float, str, int]) -> list[str]:
    """The keys of the point's trainings, ticket and control arms alike."""
    sparsity, rewind, seed = point
    rows: list[str] = []

    class Keys(Record):
        def round(self, job, trained, row):
            rows.append(row["training_key"])

    experiment = Experiment(
        [small.task(seed=seed)], search(sparsity, rewind), Static(), {"reinit": Reinit()}, []
    )
    run(experiment, trainer, Keys(()))
    return rows


def main(store: Path, first: int) -> None:
    torch.set_num_threads(1)
    mine = [point for point in POINTS if point[2] == SEEDS[0]]
    for point in mine[first:] + mine[:first]:
        trainer = Trainer(sweep_recipe(), Store(store), run=str(point))
        print(point, *run_point(trainer, point), flush=True)
