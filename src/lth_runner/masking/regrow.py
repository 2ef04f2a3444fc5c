"""Maskings of dynamic sparse training, which move connections while the network trains."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lth_runner.allocate import keep_top
from lth_runner.masking.live import LiveMask
from lth_runner.masking.static import Static
from lth_runner.masking.updates import Updates
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import derive, stream
from lth_runner.values.shards import are_finite, is_shard, local, local_of, whole
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step

REMOVALS = ("magnitude", "signed")


@dataclass(frozen=True)
class Rigl:
    """Replaces the smallest weights by those of the largest dense gradients |dL/d(m * theta)|.

    In each layer floor(f(t) n) of n, by the gradient of the step at hand, which takes the place of
    the optimizer's step. What has just gone may come back, with the value it had; what is new
    starts from zero with zeroed optimizer state. Full layers stay full. Equal values are drawn by
    seed, where the authors' code adds noise of 1e-5 to the weights; an update that would move
    nothing leaves the step to the optimizer, so that fraction=0 is a static mask.
    Evci et al., ICML 2020, arXiv 1911.11134.
    """

    packs: ClassVar[bool] = False
    still: ClassVar[bool] = False
    captures: ClassVar[bool] = False
    shards: ClassVar[bool] = True
    replaces_step: ClassVar[bool] = True
    spread: ClassVar[float] = 0.0
    reset: ClassVar[bool] = False

    updates: Updates = field(default_factory=Updates)

    def check(self, clock: Clock) -> None:
        """Warns where no update is due behind the first step in so short a training."""
        self.updates.check(clock, at_step_0=True)

    def install(self, model: nn.Module, kept: Mapping[str, Tensor], seed: int) -> LiveMask:
        return _Regrow(self, model, Mask(kept), seed)

    def survivors(self, weight: Tensor, active: Tensor, share: float, seed: int) -> Tensor:
        """Chooses the connections of a layer that stay."""
        return _largest(weight.abs(), active, share, seed)

    def appeal(self, weight: Tensor, gradient: Tensor, seed: int) -> Tensor:
        """Says how much a connection is wanted at each place of a layer."""
        return gradient.abs()


@dataclass(frozen=True)
class Set:
    """Replaces the smallest weights by others at random (sparse evolutionary training).

    The optimizer steps first. With removal=magnitude the floor(f(t) n) smallest of a layer go;
    with removal=signed, as in the authors' code, that share of the positive and that of the
    negative weights, each by itself, and all that are zero. What has just gone may come back, with
    the value it had; what is new starts from N(0, spread^2), by default from zero, with zeroed
    optimizer state. ``reset``: an update leaves the optimizer no state at all.
    Mocanu et al., Nature Communications 2018, arXiv 1707.04780, with anneal=constant, end=1 and an
    update each epoch; their code for sparse matrices has spread=0.1, the one for masks reset.
    Raises UserError for an unknown removal and a negative spread.
    """

    packs: ClassVar[bool] = False
    still: ClassVar[bool] = False
    captures: ClassVar[bool] = False
    shards: ClassVar[bool] = True
    replaces_step: ClassVar[bool] = False

    updates: Updates = field(default_factory=Updates)
    removal: Literal["magnitude", "signed"] = "magnitude"
    spread: float = 0.0
    reset: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.spread, bool) or not 0 <= self.spread < math.inf:
            raise UserError(f"pruner.spread={self.spread!r} must be a number of at least 0")
        if self.removal not in REMOVALS:
            accepted = nearest(str(self.removal), REMOVALS)
            raise UserError(f"pruner.removal={self.removal!r}: {accepted}")

    def check(self, clock: Clock) -> None:
        """Warns where no update is due in so short a training."""
        self.updates.check(clock, at_step_0=False)

    def install(self, model: nn.Module, kept: Mapping[str, Tensor], seed: int) -> LiveMask:
        return _Regrow(self, model, Mask(kept), seed)

    def survivors(self, weight: Tensor, active: Tensor, share: float, seed: int) -> Tensor:
        """Chooses the connections of a layer that stay."""
        size = weight.abs()
        if self.removal == "magnitude":
            return _largest(size, active, share, seed)
        signs = (active & whole(sign).cpu() for sign in (weight > 0, weight < 0))
        positive, negative = (_largest(size, of_sign, share, seed) for of_sign in signs)
        return positive | negative

    def appeal(self, weight: Tensor, gradient: Tensor, seed: int) -> Tensor:
        """Says how much a connection is wanted at each place of a layer."""
        return torch.rand(weight.shape, generator=stream(seed, "set"))


def _largest(size: Tensor, active: Tensor, share: float, seed: int) -> Tensor:
    num = int(active.sum())
    return keep_top(size, active, num - int(share * num + 1e-9), seed)


class _Regrow:
    def __init__(self, rule: Rigl | Set, model: nn.Module, mask: Mask, seed: int) -> None:
        self._rule, self._model, self._seed = rule, model, seed
        self._still = Static().install(model, mask, seed)  # the mask as it stands
        self._ever = mask  # all that was active at some time
        self._optimizer: Optimizer | None = None

    def trainable(self) -> Iterable[dict[str, Any]]:
        return self._still.trainable()

    def penalty(self) -> Tensor | None:
        return None

    def after_backward(self, step: Step, total: Step, optimizer: Optimizer) -> bool:
        self._optimizer = optimizer
        return not (self._rule.replaces_step and self._update(step, total))

    def clip(self, max_norm: float) -> None:
        self._still.clip(max_norm)

    def after_step(self, step: Step, total: Step) -> None:
        if not self._rule.replaces_step:
            self._update(step + 1, total)
        self._still.after_step(step, total)

    @torch.no_grad()
    def _update(self, step: Step, total: Step) -> bool:
        """Moves connections where that is due after so many steps; says whether any was dropped."""
        share = self._rule.updates.share(step, total)
        if not share:
            return False
        before = self.mask()
        parameters = dict(self._model.named_parameters())
        weights = {name: _on_host(parameters[name].detach()) for name in before}
        gradients = {name: _gradient(parameters[name]) for name in before}
        if not are_finite((*weights.values(), *gradients.values())):
            return False  # a diverged training is for the loop to tell
        after, num_dropped = dict(before), 0
        for name, active in before.items():
            if bool(active.all()):
                continue
            seed = derive(self._seed, "regrow", step, name)
            kept = self._rule.survivors(weights[name], active, share, derive(seed, "drop"))
            appeal = self._rule.appeal(weights[name], gradients[name], seed)
            num = int(active.sum()) - int(kept.sum())
            after[name] = kept | keep_top(appeal, ~kept, num, derive(seed, "grow"))
            num_dropped += num
        if num_dropped:
            self._put(before, Mask(after), step)
        return num_dropped > 0

    def _put(self, before: Mask, after: Mask, step: Step) -> None:
        parameters = dict(self._model.named_parameters())
        assert self._optimizer is not None
        for name, active in after.items():
            if int(active.sum()) != int(before[name].sum()):
                raise RuntimeError(
                    f"a bug: an update left {int(active.sum())} connections in {name}, where "
                    f"there were {int(before[name].sum())}"
                )
            weight = parameters[name]
            new = local_of(active & ~before[name], weight).to(weight.device)
            local(weight.data).masked_fill_(new, 0.0)
            if spread := self._rule.spread:
                rng = stream(self._seed, "regrow", step, name, "first")
                drawn = local_of(spread * torch.randn(weight.shape, generator=rng), weight)
                local(weight.data).add_(torch.where(new, drawn.to(new.device), 0.0))
            for value in self._optimizer.state.get(weight, {}).values():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    local(value).masked_fill_(new, 0.0)
        if self._rule.reset:
            self._optimizer.state.clear()
        self._still = Static().install(self._model, after, self._seed)
        self._ever = self._ever | after

    def mask(self) -> Mask:
        return self._still.mask()

    def weights(self) -> State:
        return self._still.weights()

    def remove(self) -> None:
        self._still.remove()

    def state_dict(self) -> State:
        parts = {"mask": self.mask(), "ever": self._ever}
        return {
            f"{part}.{name}": kept for part, mask in parts.items() for name, kept in mask.items()
        }

    def load_state_dict(self, state: State) -> None:
        mask, self._ever = (
            Mask({name: state[f"{part}.{name}"] for name in self._ever})
            for part in ("mask", "ever")
        )
        self._still = Static().install(self._model, mask, self._seed)


def _gradient(parameter: nn.Parameter) -> Tensor:
    gradient = parameter.grad
    return _on_host((torch.zeros_like(parameter) if gradient is None else gradient).detach())


def _on_host(value: Tensor) -> Tensor:
    """Brings a value to the CPU, but for one that lies on several processes in parts."""
    return value if is_shard(value) else value.cpu()
