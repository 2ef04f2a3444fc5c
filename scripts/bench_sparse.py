"""Where products over surviving weights pay: by density, against whole products.

make bench ARGS=sparse
"""

from __future__ import annotations

import torch
from measuring import ADAM, LENET, Timed, images, in_turns, jobs, ratios, repeated, say

from lth_runner.problem.task import Task
from lth_runner.training.engines.compiled import SurvivingLinear, Survivors, WholeLinear
from lth_runner.training.engines.engine import Engine
from lth_runner.training.engines.packed import Packed, Sparse
from lth_runner.training.engines.sequential import Sequential
from lth_runner.values.seeds import stream

# of imp at a rate of 0.2, after rounds 0, 1, 2, 3, 4, 5, 7, 9, 12, 15 and 18
DENSITIES = (1.0, 0.8, 0.64, 0.512, 0.41, 0.328, 0.211, 0.134, 0.07, 0.036, 0.019)
LANES = 6  # three seeds, each with a ticket and one control
STEPS = 10


def main() -> None:
    """A product of one layer, then a step of six trainings."""
    print("  784 to 300, batch 64: faster than torch's whole product", flush=True)
    for density in DENSITIES:
        products(density)
    print(f"  a step, {LANES} trainings: faster than one by one", flush=True)
    data = images(20_000, (1, 28, 28)).to("cpu")
    for density in DENSITIES:
        steps(Task(LENET, data), density)


def products(density: float) -> None:
    """One layer's forward products: torch's whole and sparse ones, and this project's."""
    batch = torch.randn(784, 64, generator=stream(0, "inputs"))
    kept = torch.rand(300, 784, generator=stream(0, "kept")) < density
    weights = torch.randn(300, 784, generator=stream(0, "weights")) * kept
    survivors = Survivors.of([kept])
    sparse = SurvivingLinear(survivors, torch.nn.Parameter(survivors.gather([weights])), None)
    whole = WholeLinear((300, 784), torch.nn.Parameter(weights.reshape(1, -1)), None)
    csr, by_sample = weights.to_sparse_csr(), batch.t().unsqueeze(0)
    things: dict[str, Timed] = {
        "torch": lambda: weights @ batch,
        "torch's sparse product": lambda: csr @ batch,
        "compiled, whole": lambda: whole(by_sample),
        "compiled, survivors": lambda: sparse(by_sample),
    }
    with torch.no_grad():
        times = in_turns({name: repeated(thing, 100) for name, thing in things.items()})
    for name in list(things)[1:]:
        say(f"{100 * density:5.1f} % kept: {name}", ratios(times["torch"], times[name]), "x")


def steps(task: Task, density: float) -> None:
    """Steps of the engines, as many of each training."""
    alone = Sequential().begin(jobs(task, 1, density), ADAM, [None])
    engines: dict[str, Engine] = {
        "packed": Packed(), "compiled, whole": Sparse(below=0.0),
        "compiled, survivors": Sparse(below=2.0),
    }  # fmt: skip
    things = {"alone": repeated(alone.advance, LANES * STEPS)}
    for name, engine in engines.items():
        together = engine.begin(jobs(task, LANES, density), ADAM, [None] * LANES)
        things[name] = repeated(together.advance, STEPS)
    times = in_turns(things)
    for name in engines:
        label = f"{100 * density:5.1f} % kept: {name}"
        step = 1e3 * sorted(times[name])[len(times[name]) // 2] / LANES / STEPS
        say(f"{label} ({step:.2f} ms)", ratios(times["alone"], times[name]), "x")
