"""The check that a State holds all that training changes in a network: stored, it answers alike.

A buffer that is not persistent, a counter in Python, a plain tensor, a global or a generator of a
network's own may change in training too. None of them is stored, resumed or rewound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from lth_runner.problem.answers import answer
from lth_runner.problem.task import Task
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.global_streams import all_seeded
from lth_runner.values.memory import give_back
from lth_runner.values.state import State
from lth_runner.values.tree import Batch

SAMPLES = 4  # of a step that is tried: batch statistics need more than one
STEPS = 2
RATE = 1e-3
LOOKED_AT = 8  # samples that a trained network is asked about
LATER = 10**6, 1  # by how much a counter may once have moved on
NAMED = 4  # things that a message names


def check_retained(task: Task) -> None:
    """Raises UserError where a few steps change what no State holds, and the answers with it.

    The steps are taken on networks of its own, by few samples, and draw from no stream of the
    caller's. Networks that come with this program need
    none of it.
    """
    if task.is_shipped:
        return
    trial = _Trial(task, task.data.sample(min(SAMPLES, task.data.num_train), 0))
    start = task.init()
    try:
        once = trial.trained(start)
        answers = trial.answers(once)
    except Exception:  # whatever a user's own forward raises that cannot take so small a step
        return  # its training will tell
    again = trial.trained(start)
    same = _same_weights(once, again)
    del once, start  # networks may be large: as few of them at once as can be
    give_back(task.num_parameters)
    if not same or not _close(answers, trial.answers(again)):
        raise UserError(
            "the same steps of training, taken twice from the same weights and random numbers, end "
            "differently: what the model does depends on how often it has been run or built (a "
            "class attribute or a global that changes, a clock) or on random numbers of a "
            f"generator that is seeded nowhere{_CURE}"
        )
    if not _close(answers, trial.answers(again)):
        raise UserError(
            "the model answers differently when it is asked again in evaluation: something in it "
            f"changes there{_CURE}"
        )
    trial.refuse_what_is_not_stored(again)


def refuse_other_answers(task: Task, trained: nn.Module, weights: State) -> None:
    """Raises UserError where a trained network answers otherwise than what is stored of it."""
    # of the networks of a library, which are many, each is asked
    if task.is_shipped and "code" not in task.identity:
        return
    inputs, _ = task.data.sample(min(LOOKED_AT, task.data.num_train), 0)
    placed = task.placed(weights)
    with torch.no_grad():
        stored, own = task.outputs(placed, inputs), answer(trained.eval(), inputs)
    if not _close(own, stored, tolerance=0.01):  # other kernels than in training
        away = float((own - stored).abs().max())
        raise UserError(
            f"the trained network answers otherwise (by up to {away:.3g}) than the weights that "
            "are stored of it: something that training changes is not in the model's state_dict"
            f"{_CURE}"
        )


_CURE = (
    ". Keep it in buffers of the model, register_buffer(name, tensor), which are stored, resumed "
    "and rewound; or leave it out"
)


@dataclass(frozen=True)
class _Trial:
    """Steps of one task, always with the same samples and random numbers."""

    task: Task
    batch: Batch

    def network(self, weights: State) -> nn.Module:
        module = self.task.module()
        states.write(module, weights)
        return module

    def trained(self, start: State) -> nn.Module:
        module = self.network(start)
        for step in range(STEPS):
            self.step(module, step)
        return module

    def step(self, module: nn.Module, step: int) -> State:
        """Takes a step; returns its gradients."""
        inputs, targets = self.batch
        module.train()
        with all_seeded(step, self.task.device):
            self.task.objective.loss(answer(module, inputs), targets).backward()
        named = module.named_parameters()
        gradients = {name: value.grad for name, value in named if value.grad is not None}
        with torch.no_grad():
            for name, gradient in gradients.items():
                module.get_parameter(name).sub_(RATE * gradient)
        module.zero_grad()
        return gradients

    @torch.no_grad()
    def answers(self, module: nn.Module) -> Tensor:
        with all_seeded(0, self.task.device):
            return answer(module.eval(), self.batch[0])

    def refuse_what_is_not_stored(self, trained: nn.Module) -> None:
        """Compares a trained network with a fresh one that its weights are written into."""
        fresh = self.network(dict(states.named_tensors(trained)))
        before = _changed(trained, fresh)
        alike = self._do_alike(fresh, trained)
        changed = _changed(trained, fresh)  # but for what a step computes anew
        if alike and changed:  # a counter may matter later
            weights = states.read(trained)
            alike = all(self._would_do_alike(weights, changed, more) for more in LATER)
        if alike:
            return
        names = list(changed or before)[:NAMED]
        said = ", ".join(names) or "a generator or a list of its own, perhaps"
        raise UserError(
            f"training changes what the model's state_dict does not hold ({said}), and what the "
            "model does depends on it, so that the stored network would answer or learn "
            f"otherwise{_CURE}"
        )

    def _do_alike(self, one: nn.Module, other: nn.Module) -> bool:
        """Whether two networks of the same weights answer alike, and learn alike from a step."""
        try:
            return self._compare(one, other)
        except Exception:  # as above: of what is None in a fresh network
            return False

    def _would_do_alike(self, weights: State, held: Mapping[str, Any], more: int) -> bool:
        """Whether what a network holds besides its weights changes nothing, its counters later."""
        later = self.network(weights)
        _bring_later(later, held, more)
        try:
            return self._compare(later, self.network(weights))
        except Exception:
            return True  # where it comes to that, the training ends and says so

    def _compare(self, one: nn.Module, other: nn.Module) -> bool:
        if not _close(self.answers(one), self.answers(other)):
            return False
        learned = [self.step(module, STEPS) for module in (one, other)]
        return _agree(*learned) and _same_weights(one, other)


def _held(module: nn.Module) -> dict[str, Any]:
    """Finds the numbers and tensors that modules hold and no State does, by path and name."""
    alike = vars(nn.Module()).keys()
    found: dict[str, Any] = {}
    for path, part in module.named_modules():
        own = {name: value for name, value in vars(part).items() if name not in alike}
        own |= {name: part._buffers.get(name) for name in part._non_persistent_buffers_set}
        for name, value in own.items():
            if isinstance(value, (int, float, numpy.generic, numpy.ndarray, Tensor)):
                found[f"{path}.{name}" if path else name] = value
    return found


def _changed(trained: nn.Module, fresh: nn.Module) -> dict[str, Any]:
    """Finds what a trained network holds otherwise than a fresh one, as far as it is seen."""
    there = _held(fresh)
    return {n: value for n, value in _held(trained).items() if not _same(value, there.get(n))}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and _close(one, other)
    return numpy.array_equal(one, other)


@torch.no_grad()
def _bring_later(module: nn.Module, held: Mapping[str, Any], more: int) -> None:
    """Gives a network what another holds, its counters moved on."""
    for name, value in held.items():
        path, _, leaf = name.rpartition(".")
        if isinstance(value, Tensor):
            value = value.detach().clone()
            if not value.is_floating_point() and value.dtype != torch.bool:
                value += more
        elif isinstance(value, numpy.ndarray):
            value = value.copy()
        elif not isinstance(value, bool):
            value = value + more
        setattr(module.get_submodule(path), leaf, value)


def _same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether the states of two networks are the same up to rounding; copies neither."""
    return _agree(
        *({n: v.detach() for n, v in states.named_tensors(part)} for part in (one, other))
    )


def _agree(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(_close(v, other[name]) for name, v in one.items())


def _close(one: Tensor, other: Tensor, tolerance: float | None = None) -> bool:
    """Whether two tensors are the same up to rounding, by their largest value."""
    if one.shape != other.shape or not one.numel():
        return one.shape == other.shape
    if one.layout != other.layout:
        return False
    if one.layout is not torch.strided:
        one, other = one.to_sparse().coalesce(), other.to_sparse().coalesce()
        return _close(one.indices(), other.indices()) and _close(one.values(), other.values())
    if not one.is_floating_point():
        return torch.equal(one, other)
    if tolerance is None:
        tolerance = 1e-5 if one.device.type == "cpu" else 1e-3
    if one.dtype not in (torch.float32, torch.float64):
        tolerance = max(tolerance, 0.03)
    atol = tolerance * float(one.detach().abs().max().nan_to_num())
    return torch.allclose(one, other.to(one), rtol=0.0, atol=atol, equal_nan=True)
