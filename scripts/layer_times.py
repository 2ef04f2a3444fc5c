"""Where a network's answer takes its time, layer by layer: a ticket masked, and shrunk.

    python scripts/layer_times.py outputs/vgg11_cifar10_structured --round 3 --arm refill

Milliseconds for a batch, medians of so many answers of each network in turns, with weights in the
order of torch (channels first) and in that of training on a processor (channels last).
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lth_runner import export
from lth_runner.cutting import shrink
from lth_runner.export.programs import channels_last
from lth_runner.runs.aligned_text import aligned
from lth_runner.values.errors import UserError


def timed(module: nn.Module) -> dict[str, list[float]]:
    """Has each layer that has none within it write down how long it takes, by its name."""
    times: dict[str, list[float]] = defaultdict(list)
    began: list[float] = []
    for name, part in module.named_modules():
        if not list(part.children()):
            part.register_forward_pre_hook(lambda *_: began.append(time.perf_counter()))
            part.register_forward_hook(
                lambda *_, name=name: times[name].append(1e3 * (time.perf_counter() - began.pop()))
            )
    return times


@torch.inference_mode()
def measured(
    networks: Mapping[str, nn.Module], inputs: Tensor, repetitions: int
) -> dict[str, dict[str, float]]:
    """Milliseconds by network and layer; the first three answers are not counted."""
    times = {name: timed(module) for name, module in networks.items()}
    for _ in range(repetitions + 3):
        for module in networks.values():
            module(inputs)
    return {
        name: {layer: statistics.median(values[3:]) for layer, values in of.items()}
        for name, of in times.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--round", type=int)
    parser.add_argument("--arm", default="refill")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=30)
    chosen = parser.parse_args()
    try:
        ticket = export.ticket(chosen.run, round=chosen.round, arm=chosen.arm, seed=chosen.seed)
        small = shrink(ticket.lent, ticket.mask, ticket.inputs(2)).module.eval()
    except UserError as error:
        print(f"layer_times: {error}", file=sys.stderr)
        return 2
    inputs = ticket.inputs(chosen.batch)
    assert isinstance(inputs, Tensor)
    networks = {"masked": ticket.module(), "shrunk": small}
    last = {
        f"{name}, last": channels_last(copy.deepcopy(m), inputs) for name, m in networks.items()
    }
    found = measured(networks | last, inputs, chosen.repetitions)
    widths = dict(small.named_modules())
    rows = [("layer", "channels left", *found)]
    for name, part in ticket.lent.named_modules():
        if name not in found["masked"]:
            continue
        left, all_ = (getattr(m, "out_channels", "") for m in (widths[name], part))
        shown = f"{left} of {all_}" if isinstance(part, nn.Conv2d) else ""
        rows.append((name, shown, *(f"{of[name]:.3f}" for of in found.values())))
    rows.append(("all", "", *(f"{sum(of.values()):.3f}" for of in found.values())))
    print("\n".join(aligned(rows, right=range(1, 6))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
