"""The parts of a network that go or stay as one, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from lth_runner.cutting.dead import Dead, producers
from lth_runner.cutting.found import Found
from lth_runner.problem.covers import is_conv1d


def num_parameters(module: nn.Module) -> int:
    """Counts the numbers that a network has, shared ones once."""
    return sum(value.numel() for value in module.parameters())


def widths(module: nn.Module) -> dict[str, int]:
    """Reads the number of outputs of each layer that has weights for them."""
    found = {}
    for name, part in module.named_modules():
        for attribute in ("out_features", "out_channels", *(["nf"] if is_conv1d(part) else [])):
            if isinstance(getattr(part, attribute, None), int):
                found[name] = getattr(part, attribute)
        if isinstance(part, (nn.RNNBase, nn.RNNCellBase)):
            found[name] = part.hidden_size
        if isinstance(part, nn.RNNBase) and part.proj_size:
            found[f"{name}.proj_size"] = part.proj_size
    return found


def parts_that_go(found: Found, dead: Dead) -> Iterator[set[int]]:
    """Groups the classes that go by the axes that they lie on."""
    waiting = [
        {int(each) for each in dead.classes[slots.numpy()] if dead.gone[each]}
        for own in found.axes.values()
        for slots in own
        if slots is not None
    ]
    parts: list[set[int]] = []
    for classes in filter(None, waiting):
        for part in [part for part in parts if part & classes]:
            classes |= part
            parts.remove(part)
        parts.append(classes)
    yield from parts


def beside(found: Found, dead: Dead, parts: list[set[int]]) -> set[int]:
    """Lists all classes on the axes that some parts lie on.

    One that stayed, because one must, could go once the others stay.
    """
    fixed = set().union(*parts)
    classes = [
        dead.classes[slots.numpy()]
        for own in found.axes.values()
        for slots in own
        if slots is not None
    ]
    return fixed.union(
        *({int(each) for each in own} for own in classes if not fixed.isdisjoint(own.tolist()))
    )


def layers_of(found: Found, classes: Any, dead: Dead) -> set[str]:
    """Names the layers that have some of these classes (a list, or flags) among their outputs."""
    wanted = torch.zeros(len(dead.gone), dtype=torch.bool)
    wanted[torch.as_tensor(classes)] = True
    return {
        layer
        for layer, slots in producers(found)
        if bool(wanted[torch.from_numpy(dead.classes[slots.numpy()])].any())
    }


def _outputs(found: Found) -> dict[str, torch.Tensor]:
    """Lists the outputs of each layer, each once."""
    labels: dict[str, list[torch.Tensor]] = {}
    for layer, slots in producers(found):
        labels.setdefault(layer, []).append(slots)
    return {layer: torch.cat(each).unique() for layer, each in labels.items()}


def reasons(found: Found, dead: Dead) -> dict[str, str]:
    """Says for each layer how many of its outputs stay though dead, and why."""
    told: dict[str, dict[str, int]] = {}
    for layer, slots in _outputs(found).items():
        for each in dead.classes[slots.numpy()]:
            if why := dead.why.get(int(each)):
                counts = told.setdefault(layer, {})
                counts[why] = counts.get(why, 0) + 1
    return {
        layer: "; ".join(f"{num} dead stay: {why}" for why, num in counts.items())
        for layer, counts in told.items()
    }
