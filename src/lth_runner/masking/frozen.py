"""Maskings over frozen weights, which train scores that choose among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.state import State
from lth_runner.values.steps import Step

Scores = Mapping[str, Tensor]


def unchanged(weight: Tensor, kept: Tensor) -> Tensor:
    """Puts a kept weight itself in its place."""
    return weight


def rule_nothing_out(scores: Scores, within: Mask, step: Step, total: Step) -> Mask:
    """Rules no weight out while scores are trained."""
    return within


@dataclass(frozen=True)
class ScoreRule:
    """Says how scores s choose among frozen weights w, one tensor of each by layer.

    ``start`` draws a layer's scores; ``choose`` is the hard mask within what is not ruled out,
    the one that is evaluated and saved; ``draw`` that of a training step, where it is another.
    ``values`` are the kept weights' values in the network, ``slope`` their derivative by the
    score, straight through the choice, from (w, s, the step's mask). ``penalty`` is added to the
    loss; ``after_step`` puts the scores right after a step and says what is not ruled out.
    """

    start: Callable[[Tensor, torch.Generator], Tensor]
    choose: Callable[[Scores, Mask], Mask]
    slope: Callable[[Tensor, Tensor, Tensor], Tensor]
    values: Callable[[Tensor, Tensor], Tensor] = unchanged
    draw: Callable[[Scores, Mask, Step], Scores] | None = None
    penalty: Callable[[Scores], Tensor] | None = None
    after_step: Callable[[Scores, Mask, Step, Step], Mask] = rule_nothing_out


class Frozen:
    """A live mask that trains a rule's scores and no weight, bias or norm parameter.

    Before a forward pass the network's own parameters receive m * values; their gradient, times
    the slope, is the scores'. So names and structure stay stock. A sparse ticket is one that was
    found already: its mask is held, and nothing is trained.
    """

    def __init__(
        self, model: nn.Module, kept: Mapping[str, Tensor], seed: int, rule: ScoreRule
    ) -> None:
        if Mask(kept).biases:
            raise UserError(
                "pruner.biases=true, but this pruner chooses among weights that stay as they were "
                "drawn, and biases at zero are no choice: leave pruner.biases out"
            )
        self._model, self._rule = model, rule
        parameters = dict(model.named_parameters())
        self._layers = {name: parameters[name] for name in kept}
        self._whole = {name: p.detach().clone() for name, p in self._layers.items()}
        self._scores = {name: _scores(w, rule, seed, name) for name, w in self._whole.items()}
        self._within = Mask(kept)
        self._found = self._within.num_kept < self._within.num_prunable
        self._step = 0
        self._still = [p for n, p in parameters.items() if n not in kept and p.requires_grad]
        for parameter in self._still:
            parameter.requires_grad_(False)  # noqa: FBT003 (torch's own signature)
        self._held: Scores | None = None  # the mask that the network holds, in training mode or not
        self._held_training = False
        self._mask, self._chosen = self._within, self._found
        self.mask()  # refuses a density that cannot be had
        self._hook = model.register_forward_pre_hook(self._place)

    @torch.no_grad()
    def _place(self, model: nn.Module, inputs: Any) -> None:
        """Masks the network's weights as this pass wants them: by a step's draw, or by the mask."""
        drawn = model.training and self._rule.draw is not None and not self._found
        if self._held is not None and self._held_training == drawn:
            return
        if drawn and self._rule.draw is not None:
            masks = self._rule.draw(self._scores, self._within, self._step)
        else:
            masks = self.mask()
        self._held = {n: masks[n].to(w.device) for n, w in self._whole.items()}
        self._held_training = drawn
        for name, value in self._effective(self._held).items():
            self._layers[name].copy_(value)

    def _effective(self, masks: Scores) -> State:
        """Computes m * values, pruned entries exactly +0.0.

        NaN where scores have diverged: the loop looks at weights alone.
        """
        whole = self._whole
        values = {n: self._rule.values(w, masks[n].to(w.device)) for n, w in whole.items()}
        if not self._finite():
            return {name: torch.full_like(value, torch.nan) for name, value in values.items()}
        zero = torch.zeros(())
        return {n: torch.where(masks[n].to(v.device), v, zero.to(v)) for n, v in values.items()}

    def _finite(self) -> bool:
        norms = torch._foreach_norm([score.detach() for score in self._scores.values()])
        return bool(torch.isfinite(torch.stack(norms)).all())

    def trainable(self) -> Iterable[dict[str, Any]]:
        return [{"params": list(self._scores.values())}]

    def penalty(self) -> Tensor | None:
        return self._rule.penalty(self._scores) if self._rule.penalty and not self._found else None

    @torch.no_grad()
    def after_backward(self, step: Step, total: Step, optimizer: Optimizer) -> bool:
        if self._found:
            return False
        assert self._held is not None  # a forward pass came before
        for name, score in self._scores.items():
            gradient = self._layers[name].grad
            if gradient is None:  # the loss does not reach this layer
                continue
            through = gradient * self._rule.slope(self._whole[name], score, self._held[name])
            score.grad = through if score.grad is None else score.grad + through
        return True

    def clip(self, max_norm: float) -> None:
        nn.utils.clip_grad_norm_(list(self._scores.values()), max_norm)

    @torch.no_grad()
    def after_step(self, step: Step, total: Step) -> None:
        self._step = step + 1
        if self._found:
            return
        self._held = None
        if self._finite():
            self._within = self._rule.after_step(self._scores, self._within, step, total)
            self._chosen = False

    @torch.no_grad()
    def mask(self) -> Mask:
        if not self._chosen and self._finite():  # else the last one: to tell is for the loop
            self._mask = self._rule.choose(self._scores, self._within)
            self._chosen = True
        return self._mask

    @torch.no_grad()
    def weights(self) -> State:
        effective = self._effective(self.mask())
        return states.read(self._model) | {n: w.cpu() for n, w in effective.items()}

    def remove(self) -> None:
        self._hook.remove()
        states.write(self._model, self.weights())
        for parameter in self._still:
            parameter.requires_grad_(True)  # noqa: FBT003

    def state_dict(self) -> State:
        """Gives the scores, and the weights whole: those of a checkpoint are masked."""
        parts: dict[str, Scores] = {
            "scores": self._scores,
            "whole": self._whole,
            "within": self._within,
        }
        found = {
            f"{part}.{name}": value.detach().cpu().clone()
            for part, tensors in parts.items()
            for name, value in tensors.items()
        }
        return found | {"step": torch.tensor(self._step)}

    @torch.no_grad()
    def load_state_dict(self, state: State) -> None:
        for name in self._scores:
            self._scores[name].copy_(state[f"scores.{name}"])
            self._whole[name].copy_(state[f"whole.{name}"])
        self._within = Mask({name: state[f"within.{name}"] for name in self._scores})
        self._step = int(state["step"])
        self._held, self._mask, self._chosen = None, self._within, self._found


def _scores(weight: Tensor, rule: ScoreRule, seed: int, name: str) -> nn.Parameter:
    drawn = rule.start(weight, stream(seed, "scores", name))
    return nn.Parameter(torch.empty_like(weight).copy_(drawn))  # in the weight's memory layout
