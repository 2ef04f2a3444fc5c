"""Steps through torch.compile against plain ones, and after how many steps compiling has paid.

All in the processor's time: what compiles is other processes too, and the machine may be shared.
"""

from __future__ import annotations

import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from measuring import Timed, in_turns, ratios, repeated, say
from torch import Tensor, nn

from lth_runner.problem import models
from lth_runner.values.seeds import stream

TURNS = 7


def main() -> None:
    """A small transformer, one of MiniLM's size, and ResNet-20: forward, backward, AdamW."""
    numbers = functools.partial(torch.randint, generator=stream(0, "compile"))
    tokens, classes = numbers(0, 4000, (32, 32)), numbers(0, 2, (32,))
    texts = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    transformer = functools.partial(
        models.transformer_classifier, vocabulary=4000, length=32, num_classes=2
    )
    resnet = models.resnet_cifar(
        depth=20, width=16, norm="batch", shape=(3, 32, 32), num_classes=10
    )
    images = torch.randn(128, 3, 32, 32, generator=stream(0, "images"))
    compare("transformer 64 x 2", transformer(), texts, classes, num=20)
    compare("transformer 384 x 6", transformer(width=384, depth=6, heads=12), texts, classes, num=2)
    compare(
        "ResNet-20", resnet.to(memory_format=torch.channels_last),
        images.to(memory_format=torch.channels_last), numbers(0, 10, (128,)), num=2,
    )  # fmt: skip


def compare(
    label: str,
    model: nn.Module,
    inputs: Tensor | Mapping[str, Tensor],
    targets: Tensor,
    *,
    num: int,
) -> None:
    """Times ``num`` steps a turn, and a first compiled step with an empty cache and a full one."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def steps(network: Callable[..., Tensor]) -> Timed:
        def step() -> None:
            optimizer.zero_grad()
            given = network(**inputs) if isinstance(inputs, Mapping) else network(inputs)
            F.cross_entropy(given, targets).backward()
            optimizer.step()

        return step

    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # so that its time is counted
        seconds = [warm_up(steps(torch.compile(model))) for _ in range(2)]
        compiled = torch.compile(model)
        plain, other = repeated(steps(model), num), repeated(steps(compiled), num)
        times = in_turns(
            {"plain": plain, "compiled": other}, repeats=TURNS, clock=time.process_time
        )
    say(f"{label}: plain step", [1e3 * t / num for t in times["plain"]], "ms")
    say(f"{label}: compiled, faster", ratios(times["plain"], times["compiled"]), "x")
    saved = statistics.median(times["plain"]) - statistics.median(times["compiled"])
    for when, spent in zip(("the first time", "from the disk"), seconds, strict=True):
        pays = f"pays after {num * spent / saved:,.0f} steps" if saved > 0 else "never pays"
        print(f"  {label}: compiling {when} {spent:.1f} s of processor time, {pays}", flush=True)


def warm_up(step: Timed) -> float:
    """Seconds of this process and its children that a first compiled step takes."""
    torch.compiler.reset()
    before, began = os.times(), time.process_time()
    step()
    after = os.times()
    children = after.children_user + after.children_system
    spent = time.process_time() - began + children
    return spent - before.children_user - before.children_system
