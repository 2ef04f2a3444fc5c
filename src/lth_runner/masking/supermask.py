"""The masking that learns each weight's probability of being kept, and trains no weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args, get_type_hints

import torch
from torch import Tensor, nn

from lth_runner.allocate import Allocate
from lth_runner.allocate.on_device import Choose, laid, on_host
from lth_runner.masking.frozen import Draw, Frozen, ScoreRule, Scores, unchanged
from lth_runner.masking.learned import refuse_avoiding_collapse
from lth_runner.masking.live import LiveMask
from lth_runner.masking.static import is_sparse
from lth_runner.problem.data.order import sent
from lth_runner.schedule import Iterations
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.mask import Mask
from lth_runner.values.name_patterns import select
from lth_runner.values.seeds import derive, stream


@dataclass(frozen=True)
class Supermask:
    """Keeps each weight with probability p = sigmoid(s) and trains s, but no weight.

    Every step draws its mask z ~ Bernoulli(p) by seed, and dz/ds = p (1 - p), straight through
    the draw. The hard mask that is evaluated and saved: with ``hard=draw`` one more draw, whose
    luck is the same at every evaluation; with ``round`` where s > 0. How many it keeps is learned,
    unless ``sparsity`` (or ``rate`` with ``rounds``) is given: then it is the largest s, exactly so
    many. ``logit`` is where s starts. ``rescale``: kept weights are multiplied by N / (number
    kept) of their layer ("dynamic weight rescaling", as a constant for the gradient).
    ``exclude`` names layers that stay whole.
    Zhou et al., NeurIPS 2019, arXiv 1905.01067, who average several draws. Raises UserError for
    an unknown ``hard``, and on installing for a density that cannot be had.
    """

    packs: ClassVar[bool] = False
    still: ClassVar[bool] = False
    captures: ClassVar[bool] = False
    shards: ClassVar[bool] = False

    allocate: Allocate
    sparsity: float | None = None
    rate: float | None = None
    rounds: int | None = None
    hard: Literal["draw", "round"] = "draw"
    logit: float = 0.0
    rescale: bool = False
    exclude: Sequence[str] = ()

    def __post_init__(self) -> None:
        accepted = get_args(get_type_hints(type(self))["hard"])
        if self.hard not in accepted:
            raise UserError(f"pruner.hard={self.hard!r}; {nearest(str(self.hard), accepted)}")
        if (schedule := self.schedule) and self.hard == "round":
            raise UserError(
                f"pruner.hard=round keeps what is learned, not a sparsity of {1 - schedule()[-1]:g}"
                ": leave it out, or set pruner.sparsity=null"
            )
        if schedule is None:
            refuse_avoiding_collapse(self.allocate)

    @property
    def schedule(self) -> Iterations | None:
        if self.sparsity is None and (self.rate is None or self.rounds is None):
            return None
        return Iterations(self.sparsity, rate=self.rate, rounds=self.rounds)

    def install(self, model: nn.Module, kept: Mapping[str, Tensor], seed: int) -> LiveMask:
        whole = select(self.exclude, kept, "pruner.exclude")
        values = _rescaled if self.rescale else unchanged
        schedule = self.schedule
        if schedule and not is_sparse(kept):
            zeros = {name: torch.zeros(value.shape) for name, value in kept.items()}
            self.allocate(zeros, schedule()[-1], Mask(kept), 0)  # refuses what cannot be had

        def keep(inside: Scores, masks: Scores) -> Scores:
            return {
                name: left if name in whole else left & masks[name] for name, left in inside.items()
            }

        def drawn(scores: Scores, *names: str | int) -> Scores:
            return {name: _coins(s, seed, *names, name) for name, s in scores.items()}

        def choose(within: Mask, device: torch.device) -> Choose:
            inside = laid(within, device)
            if schedule:
                # on the host, where an evaluation is: scores that start alike are all drawn by seed
                density, own = schedule()[-1], derive(seed, "scores")
                return on_host(self.allocate, density, within, own, device)
            if self.hard == "round":
                return lambda scores: keep(inside, {n: s.detach() > 0 for n, s in scores.items()})
            return lambda scores: keep(inside, drawn(scores, "hard"))

        def draw(within: Mask, device: torch.device) -> Draw:
            inside = laid(within, device)
            return lambda scores, step: keep(inside, drawn(scores, "step", step))

        def slope(weight: Tensor, score: Tensor, held: Tensor) -> Tensor:
            odds = score.sigmoid()
            return values(weight, held) * odds * (1 - odds)

        def start(weight: Tensor, rng: torch.Generator) -> Tensor:
            return torch.full(weight.shape, float(self.logit))

        return Frozen(model, kept, seed, ScoreRule(start, choose, slope, values, draw))


def _coins(score: Tensor, seed: int, *names: str | int) -> Tensor:
    """Draws z ~ Bernoulli(sigmoid(s)), a function of the seed and the names."""
    rng = stream(seed, "supermask", *names)
    coins = sent(torch.rand(score.shape, generator=rng), score.device)
    return coins < score.detach().sigmoid()


def _rescaled(weight: Tensor, kept: Tensor) -> Tensor:
    return weight * (kept.numel() / kept.sum().clamp(min=1))
