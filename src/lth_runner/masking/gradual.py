"""The masking that prunes gradually while the network trains."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lth_runner.allocate import Allocate
from lth_runner.masking.due_steps import check_stretch, due_steps
from lth_runner.masking.live import LiveMask
from lth_runner.masking.static import Static, is_sparse
from lth_runner.schedule import Schedule
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import derive
from lth_runner.values.shards import are_finite, is_shard, whole
from lth_runner.values.state import State
from lth_runner.values.steps import Step


@dataclass(frozen=True)
class Gradual:
    """Removes the smallest weights at the schedule's densities, evenly spaced in the training.

    With n densities the i-th is reached after the share begin + (end - begin) i / n of the steps;
    what is left then trains on. Removed weights stay removed, where the authors' may return. Only
    a dense ticket is pruned; one that has lost weights is held still, as by Static. Raises
    UserError, on installing, for a density that cannot be had.
    Zhu & Gupta 2017, arXiv 1710.01878, with the cubic schedule.
    """

    packs: ClassVar[bool] = True
    still: ClassVar[bool] = False
    captures: ClassVar[bool] = False
    shards: ClassVar[bool] = True

    allocate: Allocate
    schedule: Schedule
    begin: float = 0.0
    end: float = 0.75

    def __post_init__(self) -> None:
        check_stretch(self.begin, self.end)

    def install(self, model: nn.Module, kept: Mapping[str, Tensor], seed: int) -> LiveMask:
        if is_sparse(kept):
            return Static().install(model, kept, seed)
        mask = Mask(kept)
        zeros = {name: torch.zeros(value.shape) for name, value in mask.items()}
        self.allocate(zeros, self.schedule()[-1], mask, 0)
        return _Gradual(self, model, mask, seed)

    def mask_by(self, mask: Mask, step: Step, total: Step) -> Mask:
        """Gives a mask as sparse as this one's is after so many steps, of no particular weights."""
        densities = self.schedule()
        reached = bisect_right(due_steps(self.begin, self.end, len(densities), total), step)
        if not reached:
            return mask
        zeros = {name: torch.zeros(kept.shape) for name, kept in mask.items()}
        return self.allocate(zeros, densities[reached - 1], mask, 0)


class _Gradual:
    def __init__(self, rule: Gradual, model: nn.Module, mask: Mask, seed: int) -> None:
        self._rule, self._model, self._seed = rule, model, seed
        self._densities = rule.schedule()
        self._total, self._due = -1, list[Step]()  # when densities are due in so many steps
        self._still = Static().install(model, mask, seed)  # the mask as it stands

    def trainable(self) -> Iterable[dict[str, Any]]:
        return self._still.trainable()

    def penalty(self) -> Tensor | None:
        return None

    def after_backward(self, step: Step, total: Step, optimizer: Optimizer) -> bool:
        return True

    def clip(self, max_norm: float) -> None:
        self._still.clip(max_norm)

    def after_step(self, step: Step, total: Step) -> None:
        reached, before = self._reached(step + 1, total), self._reached(step, total)
        if reached > before:
            self._close(reached, before)
        self._still.after_step(step, total)

    def _reached(self, step: Step, total: Step) -> int:
        """Counts how many of the densities are due once so many steps are done."""
        if total != self._total:
            rule, num = self._rule, len(self._densities)
            self._due, self._total = due_steps(rule.begin, rule.end, num, total), total
        return bisect_right(self._due, step)

    def _close(self, reached: int, before: int) -> None:
        # by what was asked for: with rates or channels a budget keeps another share of the whole
        density, last = self._densities[reached - 1], (1.0, *self._densities)[before]
        mask = self.mask()
        parameters = dict(self._model.named_parameters())
        scores = {name: self._size(parameters[name].detach()) for name in mask}
        if density < last and are_finite(scores.values()):  # a diverged one is the loop's to tell
            closer = self._rule.allocate(
                scores, density, mask, derive(self._seed, "gradual", reached)
            )
            self._still = Static().install(self._model, closer, self._seed)

    def _size(self, weight: Tensor) -> Tensor:
        """Gives |theta|, in parts where they lie so and the allocation can choose among these."""
        if is_shard(weight) and getattr(self._rule.allocate, "shards", False):
            return weight.abs()
        return whole(weight).abs().cpu()

    def mask(self) -> Mask:
        return self._still.mask()

    def weights(self) -> State:
        return self._still.weights()

    def remove(self) -> None:
        self._still.remove()

    def state_dict(self) -> State:
        return dict(self.mask())

    def load_state_dict(self, state: State) -> None:
        self._still = Static().install(self._model, Mask(state), self._seed)
