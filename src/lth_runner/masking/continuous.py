"""Continuous sparsification learns masks with the weights, as sigmoids that sharpen to steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from lth_runner.allocate import Allocate, Global
from lth_runner.masking.learned import refuse_avoiding_collapse
from lth_runner.masking.live import LiveMask
from lth_runner.masking.static import Static, is_sparse
from lth_runner.schedule import Geometric
from lth_runner.values import state as states
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.mask import Mask
from lth_runner.values.name_patterns import others
from lth_runner.values.own_class import own_class
from lth_runner.values.seeds import derive
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step

RESETS = ("paper", "code")
STARTS = ("keep", "rewind")


@dataclass(frozen=True)
class Continuous:
    """Trains w * sigma(beta s) / sigma(s_0) in place of w; in the end the mask is 1[s > 0].

    The loss gains ``penalty`` * sum sigma(beta s) / sigma(s_0), and s is trained beside w, from
    s_0 = ``initial``, without weight decay, at ``score_lr`` (None: the weights' rate). beta grows
    from 1 to ``final_beta`` as final_beta^(e / (E - 1)) in E equal ``stages`` (None: at every
    step). The training falls into so many ``rounds``; each begins with beta = 1, a fresh
    optimizer, the weights as they are (``weights``: keep) or as they were at the start (rewind),
    and s = min(beta s, s_0) (``reset``: paper) or min(s, s_0) (code: there weights whose mask has
    just closed come back half open).

    At the last step the mask is set: 1[s > 0], or, with ``sparsity``, the largest s to that count
    by ``allocate``. The weights are then w / sigma(s_0), so that the network is the limit of the
    soft one, and this is the network that is evaluated and kept. Until then nothing is removed:
    the mask is full, and the weights under their stock names are w.

    Only a dense ticket's mask is learned; one that has lost weights is held still, as by Static.
    Savarese, Silva & Maire, NeurIPS 2020, arXiv 1912.04427; 1 / sigma(s_0) and ``reset``=code are
    the authors' code's. Raises UserError for options and patterns that cannot be had.
    """

    packs: ClassVar[bool] = False
    still: ClassVar[bool] = False
    captures: ClassVar[bool] = False
    shards: ClassVar[bool] = False

    initial: float = 0.0
    penalty: float = 1e-8
    final_beta: float = 200.0
    stages: int | None = None
    rounds: int = 1
    reset: Literal["paper", "code"] = "paper"
    weights: Literal["keep", "rewind"] = "keep"
    score_lr: float | None = None
    sparsity: float | None = None
    allocate: Allocate = field(default_factory=Global)
    exclude: Sequence[str] = ()

    def __post_init__(self) -> None:
        for key, least in (("rounds", 1), ("stages", 2)):
            value = getattr(self, key)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
            if not whole and not (key == "stages" and value is None):
                raise UserError(f"pruner.{key}={value!r}: give a whole number, at least {least}")
        for key, accepted in (("reset", RESETS), ("weights", STARTS)):
            if getattr(self, key) not in accepted:
                value = str(getattr(self, key))
                raise UserError(f"pruner.{key}={value!r}: {nearest(value, accepted)}")
        if not math.isfinite(self.initial):
            raise UserError(f"pruner.initial={self.initial} must be a finite number, 0 for example")
        if not 0 <= self.penalty < math.inf:
            raise UserError(f"pruner.penalty={self.penalty} must be a number of at least 0")
        if not 1 <= self.final_beta < math.inf:
            raise UserError(f"pruner.final_beta={self.final_beta} must be a number of at least 1")
        if self.score_lr is not None and not 0 < self.score_lr < math.inf:
            raise UserError(f"pruner.score_lr={self.score_lr} must be above 0, or null")
        if self.sparsity is not None:
            Geometric(self.sparsity, rounds=1)  # refuses what is no share
        else:
            refuse_avoiding_collapse(self.allocate)

    def install(self, model: nn.Module, kept: Mapping[str, Tensor], seed: int) -> LiveMask:
        if is_sparse(kept):
            return Static().install(model, kept, seed)
        spared = frozenset(kept).difference(others(self.exclude, kept, "pruner.exclude"))
        if self.sparsity is not None:
            nothing = {name: torch.zeros(value.shape) for name, value in kept.items()}
            self.allocate(nothing, 1 - self.sparsity, Mask(kept), 0)
        return _Continuous(self, model, Mask(kept), spared, seed)

    def beta(self, done: Step, length: Step) -> float:
        """Computes the sharpness at a round's step ``done``, of ``length`` steps."""
        stages = length if self.stages is None else min(self.stages, length)
        stage = done * stages // length
        return self.final_beta ** (stage / (stages - 1)) if stages > 1 else self.final_beta


@dataclass(frozen=True)
class Restarting:
    """Starts another schedule of the learning rate anew in each of ``rounds`` equal rounds."""

    schedule: Callable[[Step, Clock], float]
    rounds: int

    def __call__(self, step: Step, clock: Clock) -> float:
        begin, end = round_of(step, clock.total, self.rounds)
        return self.schedule(step - begin, Clock(clock.epoch, end - begin, clock.scale))


def round_of(step: Step, total: Step, rounds: int) -> tuple[Step, Step]:
    """Finds where the round that a step lies in begins, and where it ends."""
    borders = [number * total // rounds for number in range(rounds + 1)]
    begin = max(border for border in borders[:-1] if border <= step)
    return begin, next((border for border in borders if border > begin), total)


class _SigmoidFactor(nn.Module):
    """The factor sigma(beta s) / sigma(s_0) on one tensor."""

    def __init__(self, weight: Tensor, initial: float) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.full_like(weight, initial))
        self.beta = 1.0
        self.scale = 1 + math.exp(-initial)  # 1 / sigma(s_0)
        self.hard: Tensor | None = None

    def factor(self) -> Tensor:
        if self.hard is not None:
            return self.hard * self.scale
        return torch.sigmoid(self.beta * self.scores) * self.scale

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.factor()


class _Continuous:
    def __init__(
        self, rule: Continuous, model: nn.Module, kept: Mask, spared: frozenset[str], seed: int
    ) -> None:
        self._rule, self._model, self._kept, self._seed = rule, model, kept, seed
        # under stock names, which parametrisation takes away
        self._own = dict(states.named_tensors(model))
        self._weights = list(model.parameters())
        self._soft: dict[str, _SigmoidFactor] = {}
        self._done = False
        self._begin = -1  # the training's first step, once it is known
        self._start = states.read(model) if rule.weights == "rewind" and rule.rounds > 1 else {}
        for name in kept:
            if name not in spared:
                self._soft[name] = _masked(model, name, self._own[name], rule.initial)

    def trainable(self) -> Iterable[dict[str, Any]]:
        rate = {} if self._rule.score_lr is None else {"lr": self._rule.score_lr}
        scores = [soft.scores for soft in self._soft.values()]
        return [{"params": self._weights}, {"params": scores, "weight_decay": 0.0, **rate}]

    def penalty(self) -> Tensor | None:
        if not self._rule.penalty:
            return None
        sums = [soft.factor().sum() for soft in self._soft.values()]
        return self._rule.penalty * torch.stack(sums).sum()

    def after_backward(self, step: Step, total: Step, optimizer: Optimizer) -> bool:
        if self._begin < 0:
            self._begin = step
        done = step - self._begin
        if done and self._stretch(step, total)[0] == done:
            optimizer.state.clear()  # a round's first step
        return True

    def _stretch(self, step: Step, total: Step) -> tuple[Step, Step]:
        return round_of(step - self._begin, total - self._begin, self._rule.rounds)

    def clip(self, max_norm: float) -> None:
        """Bounds the norm of the gradient of weights and scores together."""
        scores = [soft.scores for soft in self._soft.values()]
        nn.utils.clip_grad_norm_([*self._weights, *scores], max_norm)

    @torch.no_grad()
    def after_step(self, step: Step, total: Step) -> None:
        if step + 1 == total:
            self._set()
            return
        done = step + 1 - self._begin
        begin, end = self._stretch(step + 1, total)
        if done == begin:
            self._new_round()
        self._sharpen(self._rule.beta(done - begin, end - begin))

    def _sharpen(self, beta: float) -> None:
        for soft in self._soft.values():
            soft.beta = beta

    def _new_round(self) -> None:
        for soft in self._soft.values():
            beta = soft.beta if self._rule.reset == "paper" else 1.0
            soft.scores.mul_(beta).clamp_(max=self._rule.initial)
        for name, value in self._start.items():
            self._own[name].copy_(value)

    def _set(self) -> None:
        """Sets the mask to what the scores say, from now on."""
        self._done = True
        mask = self.mask()
        for name, soft in self._soft.items():
            soft.hard = torch.empty_like(soft.scores).copy_(mask[name])

    def mask(self) -> Mask:
        if not self._done:
            return self._kept
        scores = {name: torch.zeros(value.shape) for name, value in self._kept.items()}
        scores |= {name: soft.scores.detach().cpu() for name, soft in self._soft.items()}
        finite = all(bool(value.isfinite().all()) for value in scores.values())
        if self._rule.sparsity is not None and finite:  # else it has diverged: for the loop to tell
            seed = derive(self._seed, "continuous")
            return self._rule.allocate(scores, 1 - self._rule.sparsity, self._kept, seed)
        open_ = {name: scores[name] > 0 for name in self._soft}
        return Mask({**self._kept, **open_})

    def weights(self) -> State:
        own = {name: value.detach().cpu().clone() for name, value in self._own.items()}
        if not self._done:
            return own
        scaled = {name: own[name] * soft.scale for name, soft in self._soft.items()}
        return self.mask()(own | scaled)

    def remove(self) -> None:
        weights, factors = self.weights(), set(self._soft.values())
        for module in list(self._model.modules()):
            for name in list(getattr(module, "parametrizations", ())):
                if _factors_on(module, name) & factors:  # others are the network's own
                    parametrize.remove_parametrizations(module, name, leave_parametrized=False)
        states.write(self._model, weights)

    def state_dict(self) -> State:
        # the weights too: what was removed in the end is gone from the checkpoint's own
        soft = {f"scores.{name}": part.scores for name, part in self._soft.items()}
        raw = {f"weights.{name}": self._own[name] for name in self._soft}
        start = {f"start.{name}": value for name, value in self._start.items()}
        beta = next(iter(self._soft.values())).beta
        facts = {
            "beta": torch.tensor(beta, dtype=torch.float64),
            "begin": torch.tensor(self._begin),
            "done": torch.tensor(self._done),
        }
        return {n: v.detach().cpu().clone() for n, v in (soft | raw | start | facts).items()}

    @torch.no_grad()
    def load_state_dict(self, state: State) -> None:
        for name, soft in self._soft.items():
            soft.scores.copy_(state[f"scores.{name}"])
            self._own[name].copy_(state[f"weights.{name}"])
        self._start = {name: state[f"start.{name}"] for name in self._start}
        self._begin = int(state["begin"])
        self._sharpen(float(state["beta"]))
        if bool(state["done"]):
            self._set()


def _masked(model: nn.Module, name: str, weight: Tensor, initial: float) -> _SigmoidFactor:
    """Lays one factor on a tensor, in every module that shares it.

    Raises UserError for a module that would not see it: torch's recurrent layers read their
    weights from a list of their own, and parametrisations theirs by number.
    """
    soft = _SigmoidFactor(weight.detach(), initial)
    for module in list(model.modules()):
        for leaf in [leaf for leaf, own in module._parameters.items() if own is weight]:
            if isinstance(module, (nn.RNNBase, parametrize.ParametrizationList)):
                raise UserError(
                    f"this pruner trains a factor on each weight, and {type(module).__name__} "
                    f"does not read {name} where one could lie: leave it whole by "
                    f"pruner.exclude=[{name}], or take another pruner (pruner=imp)"
                )
            own_class(module)
            parametrize.register_parametrization(module, leaf, soft)
    return soft


def _factors_on(module: nn.Module, name: str) -> set[nn.Module]:
    if not parametrize.is_parametrized(module, name):
        return set()
    return set(getattr(module.parametrizations, name).children())
