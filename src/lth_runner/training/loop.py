"""The training loop of one network, which asks nothing about the method that it serves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from lth_runner.problem.answers import answer, evaluate
from lth_runner.problem.data.dataset import Batches
from lth_runner.problem.objective import smoothed
from lth_runner.problem.retained import refuse_other_answers
from lth_runner.store.checkpoint import Checkpoint, Outcome
from lth_runner.training import moments, step_streams
from lth_runner.training.elsewhere import Elsewhere
from lth_runner.training.history import History, Row
from lth_runner.training.job import Job
from lth_runner.training.loss_scale import LossScale
from lth_runner.training.network import are_finite_here, autocast, fresh_network, optimizer_of
from lth_runner.training.optimizers import begin_late
from lth_runner.training.pieces import pieces
from lth_runner.training.recipe import Recipe
from lth_runner.training.spread import Spread
from lth_runner.values import state as states
from lth_runner.values.state import State
from lth_runner.values.tree import Batch


class Loop:
    """One network in training, whose state between steps is exactly a ``Checkpoint``.

    ``model`` is the network to write to where the caller has one; ``num_lanes`` trainings share
    the time that passes. ``rank``: of several processes that each take a part of every batch, by
    other random numbers; ``spread`` lays the network out over them.
    """

    def __init__(
        self,
        job: Job,
        recipe: Recipe,
        checkpoint: Checkpoint | None,
        *,
        model: nn.Module | None = None,
        num_lanes: int = 1,
        rank: int = 0,
        spread: Spread | None = None,
    ) -> None:
        task, ticket = job.task, job.ticket
        self.job, self.recipe, self._rank = job, recipe, rank
        self.stream = task.data.stream(recipe.batch_size, task.seed, ticket.start.order)
        self.awaited: Batches = self.stream  # what a step waits for: it may be a part of a batch
        self.clock = recipe.clock(task.data.epoch(recipe.batch_size))
        self._began, self._num_lanes = time.monotonic(), num_lanes
        self._seconds_before = checkpoint.seconds if checkpoint else 0.0
        self.step = checkpoint.step if checkpoint else ticket.start.step
        self.model = (fresh_network(task, recipe) if model is None else model).train()
        lay = states.write if spread is None else spread.lay
        lay(self.model, checkpoint.weights if checkpoint else ticket.masked)
        # what is run, and what runs it in steps: others that do the same may stand for them
        self.network = self.stepped = self.model
        self._laws = task.laws
        if self._laws is not None:
            self._laws.settle(self.model)
        self.live = job.masking.install(self.model, ticket.mask, task.seed)
        self.optimizer = optimizer_of(self.model, self.live.trainable(), recipe)
        if spread is not None:
            moments.unfuse(self.optimizer)
        self._base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self._rate_shown = self._base_rates[0]
        restored = checkpoint.optimizer if checkpoint else ticket.start.optimizer
        if restored:
            named = restored.items() if spread is None else spread.sent(restored)
            moments.restore(self.optimizer, named)
        if checkpoint:
            self.live.load_state_dict(checkpoint.masking)
        self.loss = torch.tensor(checkpoint.loss if checkpoint else 0.0, device=task.device)
        self.num_losses = checkpoint.num_losses if checkpoint else 0
        self._history = History(checkpoint.history if checkpoint else ())
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        # frozen ones too: their gradients must not add up
        self.parameters = list(dict.fromkeys([*self.model.parameters(), *trained]))
        self.objective = smoothed(task.objective, recipe.label_smoothing)
        self.cast = autocast(recipe, task.device)
        self.scale = LossScale() if recipe.precision == "fp16" else None
        if self.scale is not None and checkpoint:
            self.scale.load_state_dict(checkpoint.scale)
        # a network of which each of several processes holds a part
        self.elsewhere: Elsewhere | None = None
        # a network trained elsewhere, as part of another: what brings this one up to date, and
        # what measures it there
        self.bring_up_to_date: Callable[[], None] = lambda: None
        self.measure: Callable[[str], dict[str, float]] | None = None

    def batch(self) -> Batch:
        """Returns this step's training batch."""
        return self.stream[self.step]

    def weights(self) -> State:
        """Returns the network's weights as they stand, masked, under their stock names."""
        self.bring_up_to_date()
        here = self.live.weights
        return here() if self.elsewhere is None else self.elsewhere.weights(here)

    def looked_at(self) -> State:
        """Returns what ``weights`` does, to be read before the next step and written to by nobody.

        No copy where the network trains the weights themselves, under a mask that stands still.
        """
        if not self.job.masking.still or self.elsewhere is not None:
            return self.weights()
        self.bring_up_to_date()
        return {name: value.detach() for name, value in states.named_tensors(self.model)}

    def backward(self) -> None:
        """Computes the dense gradients of the loss on this step's batch."""
        self.differentiate(self.batch())
        self.num_losses += 1

    def differentiate(
        self,
        batch: Batch,
        *,
        terms: float | None = None,
        penalised: bool = True,
        num_passes: int = 1,
        before_last: Callable[[], object] = lambda: None,
    ) -> None:
        """Computes the dense gradients of the loss on a batch, in new tensors; adds the loss up.

        ``terms``: of the loss of a whole batch, of which this is a part; ``penalised``: with what
        the mask and the weights' laws add to the loss; ``num_passes``: at least so many passes
        through the network, those that there are no samples for without an effect;
        ``before_last``: what is called before the last one's backward pass.
        """
        self.forget_gradients()
        with step_streams.of_forward(self.job, self.step, self._rank):
            parts = list(pieces(
                batch,
                self.objective,
                self.recipe.micro_batch,
                terms=terms,
                num_passes=num_passes,
                num_draws=1 if self._laws is None else self._laws.num_samples,
            ))  # fmt: skip
            for number, (share, (inputs, targets)) in enumerate(parts):
                with self.cast:
                    loss = self.objective.loss(answer(self.stepped, inputs), targets)
                if share is not None:  # a mean of no terms may be no number
                    loss = loss * share if share else 0.0 * loss.nan_to_num()
                self.loss += loss.detach()
                once = penalised and not number
                for penalty in self._penalties() if once else ():
                    loss = loss + penalty
                if number == len(parts) - 1:
                    before_last()
                (loss if self.scale is None else self.scale(loss)).backward()

    def _penalties(self) -> Iterator[Tensor]:
        """Gives what is added to the loss, by the mask and by the weights' laws."""
        penalty = self.live.penalty()
        if penalty is not None:
            yield penalty
        if self._laws is not None:
            yield self._laws.penalty(self.model, self.job.task.num_terms)

    def forget_gradients(self) -> None:
        """Frees the gradients, which nobody asks for once the step is taken."""
        for parameter in self.parameters:
            parameter.grad = None

    @property
    def seed_of_draws(self) -> int:
        """The seed of this step's forward pass."""
        return step_streams.forward_seed(self.job, self.step, self._rank)

    def update(self) -> None:
        """Takes one step of the optimizer and of the mask; the clock moves on."""
        if self.before_step():
            begin_late(self.optimizer)
            with step_streams.of_optimizer(self.job, self.step, self.optimizer):
                self.optimizer.step()
        self.after_step()

    def before_step(self) -> bool:
        """Does what comes before the optimizer's step; says whether there is to be one."""
        self.set_rate()  # shown where the step is left out, too
        return self.prepare_gradients()

    def prepare_gradients(self) -> bool:
        """Makes the gradients what the optimizer is to see; says whether it is to step at all."""
        are_finite = self.scale is None or self.scale.unscale(self.parameters)
        # before a step that is left out too: a mask may have put other weights into the network
        steps = self.live.after_backward(self.step, self.clock.total, self.optimizer)
        if not (are_finite and steps):
            return False
        if self.recipe.clip_norm is not None:
            self.live.clip(self.recipe.clip_norm)
        return True

    def set_rate(self) -> None:
        """Gives the optimizer this step's learning rate."""
        for group, rate in zip(self.optimizer.param_groups, self.rates(), strict=True):
            group["lr"] = rate

    def rates(self) -> list[float]:
        """Computes this step's learning rate of each group of parameters; shows the first."""
        factor = self._rate() * self.job.ticket.start.rate_factor
        rates = [base * factor for base in self._base_rates]
        self._rate_shown = rates[0]
        return rates

    def after_step(self) -> None:
        """Does what comes after the optimizer's step."""
        self.live.after_step(self.step, self.clock.total)
        if self._laws is not None:
            self._laws.settle(self.model)
        self.step += 1

    def _rate(self) -> float:
        frozen = self.job.ticket.start.final_rate
        return self.recipe.rate(self.clock.total - 1 if frozen else self.step, self.clock)

    def evaluate(self) -> Row:
        """Adds a row of history: training loss since the last one, validation and test."""
        row: Row = {
            "step": self.step,
            "train_loss": self.loss.item() / max(1, self.num_losses),
            "learning_rate": self._rate_shown,
        }
        self.loss.zero_()
        self.num_losses = 0
        self.bring_up_to_date()
        self.forget_gradients()  # room for what an evaluation takes
        measure = self.measure or self._measured
        row |= {f"val_{name}": value for name, value in measure("val").items()}
        if self._is_tested(row.get("val_loss")):
            row |= {f"test_{name}": value for name, value in measure("test").items()}
        are_finite = are_finite_here(self.model)
        if self.elsewhere is not None:
            are_finite = self.elsewhere.are_finite(are_finite)
        return self._history.add(row, are_weights_finite=are_finite)

    def _measured(self, split: str) -> dict[str, float]:
        return evaluate(self.network, self.job.task.evaluated(split), self.job.task.objective)

    def _is_tested(self, val_loss: float | None) -> bool:
        """Whether the test split is measured beside this validation loss; None: of no samples."""
        if self.recipe.test_at == "each" or val_loss is None or self.step == self.clock.total:
            return True
        return self._history.is_lowest(val_loss)

    @property
    def diverged(self) -> bool:
        """Whether the loss or a weight was NaN or infinite when last looked at."""
        return self._history.diverged

    @property
    def _seconds(self) -> float:
        return self._seconds_before + (time.monotonic() - self._began) / self._num_lanes

    def checkpoint(self) -> Checkpoint:
        """Returns the training as it stands between two steps, to be written before the next.

        The optimizer's tensors are its own, twice the weights, and are not copied.
        """
        self.forget_gradients()
        here = partial(moments.flat, self.optimizer)
        return Checkpoint(
            step=self.step,
            weights=self.weights(),
            optimizer=here() if self.elsewhere is None else self.elsewhere.moments(here),
            masking=self.live.state_dict(),
            scale={} if self.scale is None else self.scale.state_dict(),
            loss=self.loss.item(),
            num_losses=self.num_losses,
            history=self._history.rows,
            seconds=self._seconds,
        )

    def outcome(self) -> Outcome:
        """Returns the finished training's weights, masked, and its hard mask; it trains no more.

        Raises UserError where the network answers otherwise than these weights do; one that lies on
        several processes is not asked.
        """
        self.forget_gradients()
        weights = self.weights()
        self.optimizer.state.clear()  # twice the weights, beside probes that need room
        mask = self.live.mask()
        if not self.diverged and self.elsewhere is None:
            self.live.remove()
            refuse_other_answers(self.job.task, self.model, weights)
        return Outcome(
            weights=weights,
            mask=mask,
            history=self._history.rows,
            seconds=self._seconds,
            diverged=self.diverged,
        )
