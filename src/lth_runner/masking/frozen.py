"""Maskings over frozen weights, which train scores that choose among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lth_runner.allocate.on_device import Choose, laid
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.state import State
from lth_runner.values.steps import Step

Scores = Mapping[str, Tensor]
Draw = Callable[[Scores, Step], Scores]  # scores, the step -> its mask, on their device


def unchanged(weight: Tensor, kept: Tensor) -> Tensor:
    """Puts a kept weight itself in its place."""
    return weight


@dataclass(frozen=True)
class ScoreRule:
    """Says how scores s choose among frozen weights w, one tensor of each by layer.

    ``start`` draws a layer's scores; ``choose`` is the hard mask within what is not ruled out,
    the one that is evaluated and saved; ``draw`` that of a training step, where it is another.
    Both are prepared for what is not ruled out and for the scores' device, which what a step takes
    asks nothing. ``values`` are the kept weights' values in the network, ``slope`` their derivative
    by the score, straight through the choice, from (w, s, the step's mask). ``penalty`` is added to
    the loss; ``after_step`` puts the scores right after a step and says what is not ruled out, and
    is told, by the device, whether all of them are finite: others it leaves as they are.
    """

    start: Callable[[Tensor, torch.Generator], Tensor]
    choose: Callable[[Mask, torch.device], Choose]
    slope: Callable[[Tensor, Tensor, Tensor], Tensor]
    values: Callable[[Tensor, Tensor], Tensor] = unchanged
    draw: Callable[[Mask, torch.device], Draw] | None = None
    penalty: Callable[[Scores], Tensor] | None = None
    after_step: Callable[[Scores, Mask, Step, Step, Tensor], Mask] | None = None


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
        self._device = next(iter(self._whole.values())).device
        self._within = Mask(kept)
        self._found = self._within.num_kept < self._within.num_prunable
        self._step = 0
        self._still = [p for n, p in parameters.items() if n not in kept and p.requires_grad]
        for parameter in self._still:
            parameter.requires_grad_(False)  # noqa: FBT003 (torch's own signature)
        self._held: Scores | None = None  # the mask that the network holds, in training mode or not
        self._held_training = False
        self._draw: Draw | None = None
        self._prepare()
        if rule.draw is None or self._device.type == "cpu":  # else what no step needs may ask
            self._chosen_mask()  # refuses a density that cannot be had
        self._hook = model.register_forward_pre_hook(self._place)

    @torch.no_grad()
    def _place(self, model: nn.Module, inputs: Any) -> None:
        """Masks the network's weights as this pass wants them: by a step's draw, or by the mask."""
        drawn = model.training and self._draw is not None
        if self._held is not None and self._held_training == drawn:
            return
        if drawn and self._draw is not None:
            self._are_finite = self._finite()
            self._held = self._draw(self._scores, self._step)
        else:
            self._held = self._chosen_mask()
        self._held_training = drawn
        for name, value in self._effective(self._held).items():
            self._layers[name].copy_(value)

    def _effective(self, masks: Scores) -> State:
        """Computes m * values, pruned entries exactly +0.0.

        NaN where scores have diverged: the loop looks at weights alone.
        """
        values = {n: self._rule.values(w, masks[n]) for n, w in self._whole.items()}
        other = torch.where(self._are_finite, 0.0, torch.nan)
        return {
            n: torch.where(masks[n] & self._are_finite, v, other.to(v.dtype))
            for n, v in values.items()
        }

    def _finite(self) -> Tensor:
        """Looks whether all scores are finite, and leaves the answer on their device."""
        norms = torch._foreach_norm([score.detach() for score in self._scores.values()])
        return torch.isfinite(torch.stack(norms)).all()

    def _prepare(self) -> None:
        """Prepares the choices for what is not ruled out, which is the mask until the next one."""
        self._mask: Scores = laid(self._within, self._device)
        self._chosen, self._are_finite = self._found, self._finite()
        if not self._found:  # else the density may be another than the rule's
            rule, within, device = self._rule, self._within, self._device
            self._choose = rule.choose(within, device)
            self._draw = None if rule.draw is None else rule.draw(within, device)

    def _chosen_mask(self) -> Scores:
        """Gives the hard mask by the scores as they stand, where they lie.

        The last one where they have diverged: to tell is for the loop.
        """
        if self._chosen:
            return self._mask
        self._chosen, self._are_finite = True, self._finite()
        if self._device.type != "cpu":
            fresh = self._choose(self._scores)
            self._mask = {
                name: torch.where(self._are_finite, fresh[name], last)
                for name, last in self._mask.items()
            }
        elif bool(self._are_finite):  # an allocation refuses what is not finite
            self._mask = dict(self._choose(self._scores))
        return self._mask

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
        self._held, self._chosen = None, False
        if self._rule.after_step is not None:
            rest = self._rule.after_step(self._scores, self._within, step, total, self._finite())
            if rest is not self._within:
                self._within = rest
                self._prepare()

    @torch.no_grad()
    def mask(self) -> Mask:
        return Mask(self._chosen_mask())

    @torch.no_grad()
    def weights(self) -> State:
        effective = self._effective(self._chosen_mask())
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
        self._held = None
        self._prepare()


def _scores(weight: Tensor, rule: ScoreRule, seed: int, name: str) -> nn.Parameter:
    drawn = rule.start(weight, stream(seed, "scores", name))
    return nn.Parameter(torch.empty_like(weight).copy_(drawn))  # in the weight's memory layout
