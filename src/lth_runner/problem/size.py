"""The size of a network, counted before its memory is asked for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from lth_runner.problem.held import is_shipped
from lth_runner.problem.task import Task
from lth_runner.values.errors import UserError
from lth_runner.values.global_streams import all_seeded
from lth_runner.values.memory import refuse_beyond_memory
from lth_runner.values.raised import reason_of

COPIES = 3  # a training's weights, their gradients, and what it starts from


def check_size(model: Callable[[], nn.Module], device: torch.device) -> int | None:
    """Counts the bytes of a network's parameters, before it is built.

    Raises UserError where a network of this program is larger than the memory there is. It is built
    without values. A network of a user's own may read or compute while it is built: it is left
    alone, and None is returned.
    """
    if not is_shipped(model, ()):
        return None
    try:
        with all_seeded(0), torch.device("meta"):
            built = model()
    except UserError:
        raise
    except Exception as error:  # a law that looks at values; or what is told in the building
        if "overflow" not in str(error):
            return None
        raise UserError(
            f"the model is larger than any machine ({reason_of(error)}): give smaller "
            "sizes (model.width, model.widths, dataset.shape)"
        ) from error
    num_bytes = sum(value.numel() * value.element_size() for value in built.parameters())
    on_gpu = device.type == "cuda"  # what it starts from lies in the machine's own memory
    beside = "their gradients" if on_gpu else "their gradients and what they start from"
    refuse_beyond_memory(
        (COPIES - 1 if on_gpu else COPIES) * num_bytes,
        f"the model has {sum(value.numel() for value in built.parameters()):,} parameters, which "
        f"take, with {beside}, tensors",
        device,
    )
    return num_bytes


def bytes_of_copies(task: Task, num_networks: int, num_masked: int, *, size: int = 4) -> int:
    """Counts the bytes of copies of a network, and of copies of what a mask covers of it.

    ``size``: bytes of a number.
    """
    covered = task.dense().num_prunable if num_masked else 0
    return size * (num_networks * task.num_parameters + num_masked * covered)
