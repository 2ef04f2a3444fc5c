"""The masking that prunes a training once its early-bird mask stands still."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lth_runner.allocate import Allocate, channels
from lth_runner.masking.live import LiveMask
from lth_runner.masking.scale_penalty import ScalePenalty
from lth_runner.masking.static import Static, is_sparse
from lth_runner.masking.updates import parse_period, period
from lth_runner.schedule import Schedule
from lth_runner.score.channel import no_norm, scales, watch_norms
from lth_runner.search.early_bird import check_early_bird, mask_distance
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import derive
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Duration, Step

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EarlyBirdStop:
    """Stops the dense training itself once its early-bird mask stands still.

    After every ``every`` steps a mask is drawn at the schedule's last density by the norm layers'
    scales, as ``score.NormScale`` has them. When it differs from each of the ``window`` - 1 before
    it in at most ``distance`` of all ``unit`` (weights or channels), it is laid on, for good, and
    the training goes on under it, with the optimizer as it is. Where masks do not settle before
    ``until`` the network stays dense, and a warning says so. While it is dense, ``penalty`` is paid
    on the scales (``ScalePenalty``). Only a dense ticket is looked at; one that has lost weights is
    held still, as by Static.
    You et al., ICLR 2020, arXiv 1909.11957. Raises UserError on installing for a density that
    cannot be had, and at the first step for a network without norms to go by.
    """

    packs: ClassVar[bool] = False
    still: ClassVar[bool] = False
    captures: ClassVar[bool] = False
    shards: ClassVar[bool] = False

    allocate: Allocate
    schedule: Schedule
    unit: Literal["weights", "channels"] = "weights"
    distance: float = 0.1
    window: int = 5
    every: Duration | str = "4%"
    until: Duration | str = "100%"
    penalty: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "every", parse_period(self.every))
        object.__setattr__(self, "until", Duration.parse(self.until))
        if Duration.parse(self.until).unit == "ep":
            raise UserError(
                f"pruner.until={self.until} must be steps (100it) or a share of the training "
                "(40%): a mask within a training knows no epochs"
            )
        check_early_bird(self.distance, self.window, self.unit)
        ScalePenalty(self.penalty)  # refuses what is no price

    def check(self, clock: Clock) -> None:
        """Raises UserError for fewer masks until ``until`` than the window has."""
        until = min(clock.total, self._until(clock.total))
        num = until // period(self.every, clock.total)
        if num < self.window:
            raise UserError(
                f"pruner.window={self.window} masks are more than the {num} that are drawn every "
                f"{self.every} until {self.until} of {clock.total} steps, so that none would be "
                "found: lower it or pruner.every, or train longer"
            )

    def _until(self, total: Step) -> Step:
        return Clock(1, total).steps(Duration.parse(self.until), "pruner.until")

    def install(self, model: nn.Module, kept: Mapping[str, Tensor], seed: int) -> LiveMask:
        if is_sparse(kept):
            return Static().install(model, kept, seed)
        zeros = {name: torch.zeros(value.shape) for name, value in kept.items()}
        self.allocate(zeros, self.schedule()[-1], Mask(kept), 0)
        return _EarlyBirdStop(self, model, Mask(kept), seed)


class _EarlyBirdStop:
    def __init__(self, rule: EarlyBirdStop, model: nn.Module, whole: Mask, seed: int) -> None:
        self._rule, self._model, self._whole, self._seed = rule, model, whole, seed
        self._still = ScalePenalty(rule.penalty).install(model, whole, seed)  # the mask as it is
        self._recent: list[Mask] = []  # of units, the last ones before the next
        self._found: Step = -1
        self._norms, self._watch = watch_norms(model, whole)

    def trainable(self) -> Iterable[dict[str, Any]]:
        return self._still.trainable()

    def penalty(self) -> Tensor | None:
        return self._still.penalty()

    def after_backward(self, step: Step, total: Step, optimizer: Optimizer) -> bool:
        if self._watch:  # a forward pass has shown which norm reads which layer
            self._unwatch()
            if not self._norms:
                raise no_norm()
        return self._still.after_backward(step, total, optimizer)

    def _unwatch(self) -> None:
        for handle in self._watch:
            handle.remove()
        self._watch = []

    def clip(self, max_norm: float) -> None:
        self._still.clip(max_norm)

    def after_step(self, step: Step, total: Step) -> None:
        if self._found < 0:
            self._look(step + 1, total)
        self._still.after_step(step, total)

    def _look(self, step: Step, total: Step) -> None:
        rule = self._rule
        if step % period(rule.every, total) == 0:
            mask = self._drawn() if step <= rule._until(total) else None
            if mask is not None and self._settled(mask):
                self._found = step
                self._still = Static().install(self._model, mask, self._seed)
                log.info("early bird: the mask stands still at step %d of %d", step, total)
        if step == total and self._found < 0:
            log.warning(
                "warning: no early-bird ticket: until %s no %d masks in a row were within %g of "
                "each other; try a larger pruner.distance", rule.until, rule.window, rule.distance,
            )  # fmt: skip

    @torch.no_grad()
    def _drawn(self) -> Mask | None:
        if not all(bool(value.isfinite().all()) for value in self._model.parameters()):
            return None  # a diverged training is for the loop to tell
        weights = states.read(self._model)
        scores = scales(weights, self._whole, self._norms)
        seed = derive(self._seed, "search", 1)  # one for all: equal scores are cut at one place
        return self._rule.allocate(scores, self._rule.schedule()[-1], self._whole, seed)

    def _settled(self, mask: Mask) -> bool:
        units = channels(mask) if self._rule.unit == "channels" else mask
        near = all(mask_distance(units, other) <= self._rule.distance for other in self._recent)
        settled = near and len(self._recent) == self._rule.window - 1
        self._recent = [*self._recent, units][1 - self._rule.window :]
        return settled

    def mask(self) -> Mask:
        return self._still.mask()

    def weights(self) -> State:
        return self._still.weights()

    def remove(self) -> None:
        self._unwatch()
        self._still.remove()

    def state_dict(self) -> State:
        recent = {
            f"recent.{index}.{name}": kept
            for index, mask in enumerate(self._recent)
            for name, kept in mask.items()
        }
        mask = {f"mask.{name}": kept for name, kept in self.mask().items()}
        return mask | recent | {"found": torch.tensor(self._found)}

    def load_state_dict(self, state: State) -> None:
        self._found = int(state["found"])
        units = channels(self._whole) if self._rule.unit == "channels" else self._whole
        num = sum(name.startswith("recent.") for name in state) // len(units)
        self._recent = [
            Mask({name: state[f"recent.{index}.{name}"] for name in units}) for index in range(num)
        ]
        if self._found >= 0:
            mask = Mask({name: state[f"mask.{name}"] for name in self._whole})
            self._still = Static().install(self._model, mask, self._seed)
