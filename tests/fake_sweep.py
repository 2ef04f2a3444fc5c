"""Run folders of a sweep whose tickets obey the trade-off model, with noise over seeds."""

from __future__ import annotations

import hashlib
import json
import math
import random
from pathlib import Path

DENSE, TAU, BETA = 0.92, 400.0, 0.03
TOTAL = 10_000


def model(step, sparsity, *, tau=TAU, beta=BETA, dense=DENSE):
    return dense * (1 - math.exp(-step / tau)) * (1 - sparsity) ** beta


def key(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def densities(sparsity, rate=0.2):
    found = [1.0]
    while found[-1] * (1 - rate) > (1 - sparsity) * (1 + 1e-9):
        found.append(found[-1] * (1 - rate))
    return [*found, 1 - sparsity]


def fake_run(
    folder: Path, *, step, sparsity, seeds=(0,), accuracy=model, noise=0.0, rounds=None,
    state="done", store=None, controls=(), text=None, config=None, status=None,
):  # fmt: skip
    """`accuracy(step, sparsity)` of the tickets; `store`: keys of trainings that need not run."""
    store = set() if store is None else store
    rows = []
    for number, density in enumerate(densities(sparsity)[: None if rounds is None else rounds + 1]):
        for arm in ("ticket", *(controls if number else ())):
            for seed in seeds:
                start = step if number else 0
                chain = densities(sparsity)[: number + 1]
                name = key(start, chain, arm, seed)
                mean = accuracy(step, 1 - density) if number else DENSE
                value = mean + random.Random(name).gauss(0, noise) - 0.02 * (arm != "ticket")
                rows.append({
                    "round": number, "arm": arm, "seed": seed, "density": density,
                    "sparsity": 1 - density, "test_accuracy": value, "start_step": start,
                    "steps": TOTAL - start, "reused": name in store, "training_key": name,
                    "diverged": False,
                })  # fmt: skip
                store.add(name)
    folder.mkdir(parents=True)
    (folder / "rounds.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    step_text = f"{step}it" if text is None else text
    settings = {
        "name": "toy", "seed": seeds[0], "replicates": len(seeds),
        "report": {"tolerance": 0.005}, "model": {"name": "net"}, "train": {"length": "20ep"},
        "pruner": {
            "sparsity": sparsity, "rate": 0.2,
            "search": {"schedule": {"sparsity": sparsity}, "rewind": {"step": step_text}},
        },
        "rewind": {"step": step_text, "lr_clock": "rewind"},
    }  # fmt: skip
    (folder / "config.yaml").write_text(json.dumps(settings | (config or {})))  # JSON is YAML
    (folder / "status.json").write_text(json.dumps({"state": state, **(status or {})}))
    return folder


def fake_sweep(root: Path, *, steps, sparsities, seeds=(0,), as_replicates=False, **options):
    """A run for each (step, sparsity, seed), or for each (step, sparsity) with replicates."""
    store = options.pop("store", set())
    groups = [tuple(seeds)] if as_replicates else [(seed,) for seed in seeds]
    return [
        fake_run(root / key(step, sparsity, group), step=step, sparsity=sparsity, seeds=group,
                 store=store, **options)
        for step in steps for sparsity in sparsities for group in groups
    ]  # fmt: skip
