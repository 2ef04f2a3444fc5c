"""Steps with train.compile=true against plain ones, and after how many of them it has paid.

All in the processor's time: what compiles is other processes too, and the machine may be shared.
"""

from __future__ import annotations

import functools
import os
import statistics
import tempfile
import time
from dataclasses import replace

import torch
from bench_convolution import BATCH, RESNET, SGD
from bench_transformer import LENGTH, RECIPE, VOCABULARY, sentences
from measuring import Timed, images, in_turns, kept, ratios, repeated, say

from lth_runner.masking import Static
from lth_runner.problem import models
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.recipe import Recipe

TURNS = 7


def main() -> None:
    """A small transformer, one of MiniLM's size, and ResNet-20, half of the weights masked."""
    transformer = functools.partial(
        models.transformer_classifier, vocabulary=VOCABULARY, length=LENGTH, num_classes=2
    )
    large = functools.partial(transformer, width=384, depth=6, heads=12)
    texts, pictures = sentences().to("cpu"), images(2_000, (3, 32, 32)).to("cpu")
    compare("transformer 64 x 2", Task(transformer, texts), RECIPE, num=20)
    compare("transformer 384 x 6", Task(large, texts), RECIPE, num=2)
    compare("ResNet-20", Task(RESNET, pictures), Recipe("9999it", BATCH, SGD), num=2)


def compare(label: str, task: Task, recipe: Recipe, *, num: int) -> None:
    """Times ``num`` steps a turn, and a first compiled step with an empty cache and a full one."""
    job = Job(task, Ticket(kept(task, 0.5), task.init()), Static())
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # so that its time is counted
        begun = functools.partial(step, job, replace(recipe, compile=True))
        seconds = [warm_up(begun()) for _ in range(2)]
        plain, compiled = repeated(step(job, recipe), num), repeated(begun(), num)
        times = in_turns(
            {"plain": plain, "compiled": compiled}, repeats=TURNS, clock=time.process_time
        )
    say(f"{label}: plain step", [1e3 * t / num for t in times["plain"]], "ms")
    say(f"{label}: compiled, faster", ratios(times["plain"], times["compiled"]), "x")
    saved = statistics.median(times["plain"]) - statistics.median(times["compiled"])
    for when, spent in zip(("the first time", "from the disk"), seconds, strict=True):
        pays = f"pays after {num * spent / saved:,.0f} steps" if saved > 0 else "never pays"
        print(f"  {label}: compiling {when} {spent:.1f} s of processor time, {pays}", flush=True)


def step(job: Job, recipe: Recipe) -> Timed:
    together = Sequential().begin([job], recipe, [None])

    def advance() -> None:
        with recipe.arithmetic(torch.device("cpu")):
            together.advance()

    return advance


def warm_up(advance: Timed) -> float:
    """Seconds of this process and its children that a first compiled step takes."""
    torch.compiler.reset()
    before, began = os.times(), time.process_time()
    advance()
    after = os.times()
    children = after.children_user + after.children_system
    spent = time.process_time() - began + children
    return spent - before.children_user - before.children_system
