"""Maskings that compute with m * theta, train theta whole and choose the mask anew on the way."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lth_runner.allocate import Allocate, NOfM
from lth_runner.allocate.n_of_m import best_of_groups
from lth_runner.masking.due_steps import check_stretch, due_step, due_steps
from lth_runner.masking.live import LiveMask
from lth_runner.masking.static import Static, is_sparse
from lth_runner.masking.updates import parse_period, period
from lth_runner.schedule import Schedule
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import derive
from lth_runner.values.state import State
from lth_runner.values.steps import Duration, Step

# the weights theta by name, the mask as it stands, steps done, steps in all -> what is kept now
Choose = Callable[[State, Mapping[str, Tensor], Step, Step], Mapping[str, Tensor] | None]


@dataclass(frozen=True)
class StraightThrough:
    """Trains all weights by dL/d(m * theta), where m, the largest |theta|, is chosen anew.

    After every multiple of ``every`` steps m is chosen again among all weights, at the density
    that the schedule has reached: with n densities the i-th after the share begin + (end - begin)
    i / n of the steps, the last until the end. Where no such multiple comes after the last is due,
    m is chosen at that step too, so that every training ends at its density. Weights that a mask
    left out train on, and come back when they have grown. Before the first choice the network is
    dense. Only a dense ticket's mask is chosen; one that has lost weights is held still, as by
    Static.
    Dynamic pruning with feedback: Lin et al., ICLR 2020, arXiv 2006.07253; at one density
    throughout (begin = end = 0) and with gradients to all weights also the dense-backward case of
    Top-KAST, Jayakumar et al., NeurIPS 2020, arXiv 2106.03517. Raises UserError, on installing,
    for a density that cannot be had.
    """

    packs: ClassVar[bool] = False
    still: ClassVar[bool] = False
    captures: ClassVar[bool] = False
    shards: ClassVar[bool] = False

    allocate: Allocate
    schedule: Schedule
    begin: float = 0.0
    end: float = 0.5
    every: Duration | str = "16it"

    def __post_init__(self) -> None:
        object.__setattr__(self, "every", parse_period(self.every))
        check_stretch(self.begin, self.end)

    def install(self, model: nn.Module, kept: Mapping[str, Tensor], seed: int) -> LiveMask:
        if is_sparse(kept):
            return Static().install(model, kept, seed)
        zeros = {name: torch.zeros(value.shape) for name, value in kept.items()}
        whole = Mask(kept)
        self.allocate(zeros, self.schedule()[-1], whole, 0)
        num = len(self.schedule())

        def choose(
            raw: State, mask: Mapping[str, Tensor], step: Step, total: Step
        ) -> Mapping[str, Tensor] | None:
            if not self._chooses(step, total, num):
                return None
            density = self._density(step, total)
            if density is None:
                return None
            size = {name: value.abs().cpu() for name, value in raw.items()}
            if not all(bool(value.isfinite().all()) for value in size.values()):
                return None  # a diverged training is for the loop to tell
            return self.allocate(size, density, whole, derive(seed, "straight-through", step))

        return _StraightThrough(model, kept, choose, 0.0)

    def mask_by(self, mask: Mask, step: Step, total: Step) -> Mask:
        """Gives a mask as sparse as this one's is after so many steps, of no particular weights."""
        num = len(self.schedule())
        chosen = (s for s in range(step, 0, -1) if self._chooses(s, total, num))
        density = self._density(next(chosen, 0), total)
        if density is None:
            return mask
        return self.allocate({n: torch.zeros(k.shape) for n, k in mask.items()}, density, mask, 0)

    def _chooses(self, step: Step, total: Step, num: int) -> bool:
        """Whether the mask is chosen after so many steps: where it is due, or else never would."""
        every, last = period(self.every, total), due_step(self.begin, self.end, num, num, total)
        return step % every == 0 or (step == last and total // every * every < last)

    def _density(self, step: Step, total: Step) -> float | None:
        """Finds the density reached after so many steps; None before the first."""
        densities = self.schedule()
        due = due_steps(self.begin, self.end, len(densities), total)
        reached = bisect_right(due, step)
        return densities[reached - 1] if reached else None


@dataclass(frozen=True)
class SrSte:
    """Trains N:M sparse networks straight-through, and decays the weights that the mask leaves out.

    m keeps the N largest |theta| of every M, chosen anew after each step, the first of equal ones;
    the gradient of theta is dL/d(m * theta) + decay * (1 - m) * theta, before momentum. The first
    step is dense. N is that of the schedule's last density. A ticket that has lost weights is held
    still, as by Static.
    Zhou et al., ICLR 2021, arXiv 2102.04010. Raises UserError for a budget that is not N:M.
    """

    packs: ClassVar[bool] = False
    still: ClassVar[bool] = False
    captures: ClassVar[bool] = True
    shards: ClassVar[bool] = False

    allocate: Allocate
    schedule: Schedule
    decay: float = 2e-4

    def __post_init__(self) -> None:
        if not isinstance(self.allocate, NOfM):
            raise UserError("sr_ste keeps N of every M weights: set pruner.scope=n_of_m")
        if not 0 <= self.decay < math.inf:
            raise UserError(f"pruner.decay={self.decay} must be a number of at least 0")

    def install(self, model: nn.Module, kept: Mapping[str, Tensor], seed: int) -> LiveMask:
        if is_sparse(kept):
            return Static().install(model, kept, seed)
        assert isinstance(self.allocate, NOfM)
        budget = self.allocate
        grouped, num = budget.layers(Mask(kept)), budget.num_kept(self.schedule()[-1])
        axes = budget.axes(Mask(kept))

        def choose(
            raw: State, mask: Mapping[str, Tensor], step: Step, total: Step
        ) -> Mapping[str, Tensor]:
            # where the weights lie: this is done in every step
            return {
                name: best_of_groups(raw[name].abs(), num, budget.group, axis=axes[name])
                for name in grouped
            }

        return _StraightThrough(model, kept, choose, self.decay)

    def mask_by(self, mask: Mask, step: Step, total: Step) -> Mask:
        """Gives a mask as sparse as this one's is after so many steps, of no particular weights."""
        assert isinstance(self.allocate, NOfM)
        budget, num = self.allocate, self.allocate.num_kept(self.schedule()[-1])
        grouped = budget.layers(mask) if step else ()
        zeros = {name: torch.zeros(mask[name].shape) for name in grouped}
        chosen = {n: best_of_groups(z, num, budget.group) for n, z in zeros.items()}
        return Mask({**mask, **chosen})


class _StraightThrough:
    """A live mask whose network holds m * theta, but theta for the optimizer's step.

    So its module, its names and its optimizer are the stock ones.
    """

    def __init__(
        self, model: nn.Module, kept: Mapping[str, Tensor], choose: Choose, decay: float
    ) -> None:
        self._model, self._choose, self._decay = model, choose, decay
        parameters = dict(model.named_parameters())
        self._names = list(kept)
        self._parameters = [parameters[name] for name in kept]
        self._weights = [parameter.data for parameter in self._parameters]
        self._raw = [weight.clone() for weight in self._weights]
        self._factors = [
            torch.empty_like(weight).copy_(kept[name])
            for name, weight in zip(self._names, self._weights, strict=True)
        ]

    def trainable(self) -> Iterable[dict[str, Any]]:
        return [{"params": list(self._model.parameters())}]

    def penalty(self) -> Tensor | None:
        return None

    @torch.no_grad()
    def after_backward(self, step: Step, total: Step, optimizer: Optimizer) -> bool:
        torch._foreach_copy_(self._weights, self._raw)
        if self._decay:
            for parameter, raw, factor in zip(
                self._parameters, self._raw, self._factors, strict=True
            ):
                if parameter.grad is not None:
                    parameter.grad.add_(raw * (1 - factor), alpha=self._decay)
        return True

    def clip(self, max_norm: float) -> None:
        nn.utils.clip_grad_norm_(self._model.parameters(), max_norm)  # every weight is trained

    @torch.no_grad()
    def after_step(self, step: Step, total: Step) -> None:
        torch._foreach_copy_(self._raw, self._weights)
        raw, factors = (
            dict(zip(self._names, values, strict=True)) for values in (self._raw, self._factors)
        )
        chosen = self._choose(raw, factors, step + 1, total)
        for name, kept in (chosen or {}).items():
            factors[name].copy_(kept)
        torch._foreach_mul_(self._weights, self._factors)

    def mask(self) -> Mask:
        return Mask(
            {
                name: (factor != 0).cpu().contiguous()
                for name, factor in zip(self._names, self._factors, strict=True)
            }
        )

    def weights(self) -> State:
        return self.mask()(states.read(self._model))

    def remove(self) -> None:
        states.write(self._model, self.weights())

    def state_dict(self) -> State:
        raw = zip(self._names, self._raw, strict=True)
        return {f"mask.{name}": kept for name, kept in self.mask().items()} | {
            f"raw.{name}": value.detach().cpu().clone() for name, value in raw
        }

    @torch.no_grad()
    def load_state_dict(self, state: State) -> None:
        for name, raw, factor in zip(self._names, self._raw, self._factors, strict=True):
            raw.copy_(state[f"raw.{name}"])
            factor.copy_(state[f"mask.{name}"])
        torch._foreach_copy_(self._weights, self._raw)
        torch._foreach_mul_(self._weights, self._factors)
