"""Steps of convolutional networks against loops written by hand, bf16, and the ceiling."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from measuring import (
    PRODUCT,
    Timed,
    images,
    in_turns,
    kept,
    own_clock,
    product,
    ratios,
    repeated,
    say,
)
from torch import nn

from lth_runner.masking import Static
from lth_runner.problem import models
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.recipe import Recipe

BATCH = 128
SGD = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-4, fused=True)
RESNET = functools.partial(
    models.resnet_cifar, depth=20, width=16, norm="batch", shape=(3, 32, 32), num_classes=10
)
VGG = functools.partial(models.vgg, depth=11, norm="batch", shape=(3, 32, 32), num_classes=10)
MULTIPLICATIONS = 40.55e6  # of one image's forward pass through the ResNet


def engine_step(task: Task, recipe: Recipe) -> Timed:
    """A step of the sequential engine, half of the weights masked."""
    job = Job(task, Ticket(kept(task, 0.5), task.init()), Static())
    together = Sequential().begin([job], recipe, [None])

    def step() -> None:
        with recipe.arithmetic(torch.device("cpu")):
            together.advance()

    return step


def hand_written(task: Task) -> Timed:
    """The least that does the same: gather, forward, backward, fused SGD, mask; channels last."""
    model = task.model().to(memory_format=torch.channels_last)
    optimizer = SGD(model.parameters())
    mask = kept(task, 0.5)
    weights = [model.get_parameter(name).data for name in mask]
    factors = [
        torch.empty_like(weight).copy_(mask[name])
        for name, weight in zip(mask, weights, strict=True)
    ]
    torch._foreach_mul_(weights, factors)
    inputs, labels = task.data.train
    batches = torch.randperm(len(labels)).split(BATCH)[:-1]
    done = 0

    def step() -> None:
        nonlocal done
        index = batches[done % len(batches)]
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs.index_select(0, index)), labels.index_select(0, index))
        loss.backward()
        optimizer.step()
        torch._foreach_mul_(weights, factors)
        done += 1

    return step


def against_by_hand(label: str, factory: Callable[[], nn.Module]) -> None:
    task = Task(factory, images(2_000, (3, 32, 32)).to("cpu"))
    things = {"engine": engine_step(task, Recipe("9999it", BATCH, SGD))}
    things["hand"] = hand_written(task)
    times = in_turns({name: repeated(step, 2) for name, step in things.items()}, clock=own_clock())
    say(f"{label}: hand-written step", [1e3 * t / 2 for t in times["hand"]], "ms")
    say("sequential engine / hand-written loop", ratios(times["engine"], times["hand"]), "x")


def in_double_precision() -> None:
    """Both passes of the ResNet in fp64, as scores and probes take them, against fp32."""

    def passes(num: int, dtype: torch.dtype) -> Timed:
        model, inputs = RESNET().to(dtype), torch.randn(num, 3, 32, 32, dtype=dtype)

        def both() -> None:
            model.zero_grad()
            model(inputs).square().sum().backward()

        return both

    kinds = {"fp32": torch.float32, "fp64": torch.float64}
    things = {f"{n} {name}": passes(n, kind) for n in (1, 16) for name, kind in kinds.items()}
    things |= {f"product {name}": product(kind) for name, kind in kinds.items()}
    times = in_turns(things, repeats=5, clock=own_clock())
    for label in ("1", "16", "product"):
        found = ratios(times[f"{label} fp64"], times[f"{label} fp32"])
        what = label if label == "product" else f"passes of {label} images"
        say(f"{what}: fp64 / fp32, time", found, "x")


def main() -> None:
    in_double_precision()
    against_by_hand("ResNet-20", RESNET)
    against_by_hand("VGG-11", VGG)
    task = Task(RESNET, images(2_000, (3, 32, 32)).to("cpu"))
    recipes = {kind: Recipe("9999it", BATCH, SGD, precision=kind) for kind in ("fp32", "bf16")}
    recipes["deterministic"] = Recipe("9999it", BATCH, SGD, deterministic=True)
    things = {name: engine_step(task, recipe) for name, recipe in recipes.items()}
    things |= {
        "fp32 product": repeated(product(torch.float32), 10),
        "bf16 product": repeated(product(torch.bfloat16), 10),
    }
    times = in_turns(things, repeats=5, clock=own_clock())
    step = 3 * 2 * BATCH * MULTIPLICATIONS
    for kind in ("fp32", "bf16"):
        rate = [PRODUCT * 10 / t for t in times[f"{kind} product"]]
        say(f"{kind} ceiling", [r / 1e9 for r in rate], "GFLOP/s")
        say(f"{kind} step", [1e3 * t for t in times[kind]], "ms")
        say(f"{kind} step / ceiling", [step / t / r for t, r in
                                       zip(times[kind], rate, strict=True)], "")  # fmt: skip
    say("bf16 faster than fp32", ratios(times["fp32"], times["bf16"]), "x")
    say("deterministic=true / false", ratios(times["deterministic"], times["fp32"]), "x")
