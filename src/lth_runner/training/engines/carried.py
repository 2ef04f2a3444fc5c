"""What a network carries beside its layers, and what training changes of it beside its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as torchs
from torch.nn.utils import parametrize

from lth_runner.problem.answers import answer
from lth_runner.problem.gaussian_layers import is_drawn
from lth_runner.problem.task import Task
from lth_runner.values import state as states
from lth_runner.values.global_streams import all_seeded

_OF_MODULES = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip
_OF_PARAMETERS = ("_backward_hooks", "_post_accumulate_grad_hooks")
_OF_ALL = (
    "_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks",
    "_global_backward_pre_hooks",
)  # fmt: skip
_TORCHS_OWN = frozenset(vars(nn.Module()))  # attributes that every module has
_DEPTH = 4  # of containers within an attribute that are looked into


def burden(module: nn.Module) -> str | None:
    """Says what a network carries that would be dropped where its layers are packed; None: nothing.

    Hooks on modules, on tensors and on all modules there are, parametrisations, a forward pass put
    on one module alone, parameters of a class of one's own.
    """
    if any(getattr(torchs, name, None) for name in _OF_ALL):
        return "hooks lie on all modules (torch.nn.modules.module)"
    for part in module.modules():
        kind = type(part).__name__
        own = list(part.parameters(recurse=False))
        hooks = [getattr(part, name, None) for name in _OF_MODULES]
        if any(hooks) or any(getattr(p, name, None) for p in own for name in _OF_PARAMETERS):
            return f"its {kind} carries hooks"
        if parametrize.is_parametrized(part) and not is_drawn(part):
            return f"its {kind} is parametrised"
        if {"forward", "__call__"} & vars(part).keys():
            return f"its {kind} has a forward pass of its own"
        if any(type(parameter) is not nn.Parameter for parameter in own):
            return f"its {kind} has parameters of a class of their own"
    return None


def changed_by_training(task: Task) -> str | None:
    """Names an attribute that a step of training changes: a counter, a mean kept beside buffers.

    A packed network would change it in one place for all of its parts. None where there is none,
    and where the step fails, which is for the training to tell.
    """
    module = task.module().train()
    inputs, _ = task.data.sample(min(2, task.data.num_train), 0)
    before = _attributes(module)
    try:
        with all_seeded(0, task.device):
            outputs = answer(module, inputs)
            if isinstance(outputs, Tensor) and outputs.requires_grad:
                outputs.float().sum().backward()
    except (RuntimeError, ValueError, TypeError, IndexError):
        return None
    after = _attributes(module)
    names = [*before, *(name for name in after if name not in before)]
    return next((name for name in names if before.get(name) != after.get(name)), None)


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Describes what each part keeps as plain attributes, buffers and parameters left out."""
    return {
        f"{path}.{name}" if path else name: _described(value, _DEPTH)
        for path, part in module.named_modules()
        for name, value in vars(part).items()
        if name not in _TORCHS_OWN
    }


def _described(value: Any, depth: int) -> Any:
    """Describes a value so that equal descriptions are equal values, as deep as is looked."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)  # nan is nan
    if isinstance(value, Tensor):
        return "tensor" if value.is_meta else states.fingerprint({"": value})
    if isinstance(value, nn.Module) or depth == 0:
        return type(value).__name__
    if isinstance(value, Mapping):
        return [(repr(key), _described(one, depth - 1)) for key, one in value.items()]
    if isinstance(value, Set):
        return sorted(repr(one) for one in value)
    if isinstance(value, Sequence):
        return [_described(one, depth - 1) for one in value]
    inside = getattr(value, "__dict__", None)
    if isinstance(inside, dict) and not isinstance(value, type) and not callable(value):
        return type(value).__name__, _described(inside, depth - 1)
    return type(value).__name__
