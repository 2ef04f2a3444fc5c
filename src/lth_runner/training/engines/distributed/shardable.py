"""Which trainings can be sharded: those in which each value of a weight steps by itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lth_runner.masking import Masking
from lth_runner.problem.task import Task
from lth_runner.training.recipe import Recipe
from lth_runner.values.global_streams import all_seeded, drawn_between, positions


def obstacle(task: Task, masking: Masking, recipe: Recipe) -> str | None:
    """Says what keeps a training from being sharded; None where nothing does."""
    if not getattr(masking, "shards", False):
        return (
            f"{type(masking).__name__} chooses weights while it trains and looks at whole layers, "
            "of which a rank has a part: pruners between trainings, gradual, rigl and set are "
            "sharded"
        )
    if task.laws is not None:
        return "weights that are drawn (coordinates=gaussian) add a loss of whole layers"
    if recipe.precision == "fp16":
        return "train.precision=fp16 scales losses by what one process sees: give bf16 or fp32"
    return _of_parameters(task) or _of_the_optimizer(recipe)


def _of_parameters(task: Task) -> str | None:
    named = {
        f"{path}.{leaf}" if path else leaf: parameter
        for path, module in task.named_modules()
        for leaf, parameter in module.named_parameters(recurse=False)
    }
    for name, parameter in named.items():
        if not parameter.ndim:
            return f"the parameter {name} has no axis: make it torch.ones(1), not torch.tensor(1.0)"
    kinds = sorted({str(parameter.dtype) for parameter in named.values()})
    return f"parameters are of several types ({', '.join(kinds)})" if len(kinds) > 1 else None


def _of_the_optimizer(recipe: Recipe) -> str | None:
    """Says where an optimizer does otherwise with the halves of a tensor than with the whole."""
    drawn = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = drawn.exp() * torch.tensor([1.0, 1.0, 4.0, 4.0])[:, None]
    with all_seeded(0):
        before = positions()
        try:
            name, together = _stepped(recipe, [whole])
            _, apart = _stepped(recipe, [whole[:2], whole[2:]])
        except Exception:  # of a stranger's: the step that is tried of each training tells of it
            return None
        is_random = bool(drawn_between(before, positions()))
    if is_random:
        return f"train.optimizer={name} draws random numbers, and each rank would draw the same"
    if not torch.allclose(together - whole, apart - whole, rtol=1e-3, atol=0):
        return f"train.optimizer={name} looks at whole tensors, of which a rank has a part"
    return None


def _stepped(recipe: Recipe, values: Sequence[Tensor]) -> tuple[str, Tensor]:
    """Takes two steps from some values; gives the optimizer's name and where they end."""
    parameters = [nn.Parameter(value.clone()) for value in values]
    optimizer = recipe.make_optimizer([{"params": parameters}])
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = parameter.detach().square()
        optimizer.step()
    return type(optimizer).__name__, torch.cat([one.detach() for one in parameters])
