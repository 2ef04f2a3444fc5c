"""Training batches of tables in memory as a function of the step: no loader, nothing to resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lth_runner.problem.data.augmentation import Augmentation
from lth_runner.problem.data.order import Order, sent
from lth_runner.values import tree
from lth_runner.values.tree import Batch, Tree


class Stream:
    """Endless training batches, where ``stream[step]`` depends on (seed, order, step) alone.

    In two parts, so that a step can be recorded: ``draw`` on the host, ``take`` on the data's
    device. Raises UserError when one batch does not fit the training set.
    """

    def __init__(
        self,
        inputs: Tree,
        targets: Tree,
        *,
        batch_size: int,
        seed: int,
        order: int = 0,
        augment: Augmentation | None = None,
        normalise: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._chosen = Order(tree.length(targets), batch_size, seed, order)
        self.batch_size = batch_size
        self.steps_per_epoch = self._chosen.steps_per_epoch
        self._inputs, self._targets = inputs, targets
        self.device = tree.tensors(targets)[0].device
        self._seed, self._order = seed, order
        self._augment = augment if augment else None
        self._normalise = normalise

    def __getitem__(self, step: int) -> Batch:
        """Returns (inputs, targets) of one training step, the first axis ``batch_size``."""
        return self.take(*(sent(drawn, self.device) for drawn in self.draw(step)))

    def draw(self, step: int) -> tuple[Tensor, ...]:
        """Draws all that varies from step to step.

        That is the samples' numbers, int64 [batch_size], and where images are augmented the
        random numbers of that, int64 [rows, batch_size].
        """
        index = self._chosen[step]
        if self._augment is None:
            return (index,)
        return index, self._augment.draw(self.batch_size, self._seed, self._order, step)

    def take(self, index: Tensor, draws: Tensor | None = None) -> Batch:
        """Makes the batch of what was drawn, both on the data's device."""
        inputs = tree.rows(self._inputs, index)
        if self._augment is not None and draws is not None:
            inputs = tree.each(lambda images: self._augmented(images, draws), inputs)
        if self._normalise is not None:
            inputs = tree.each(self._normalise, inputs)
        return inputs, tree.rows(self._targets, index)

    def part(self, begin: int, end: int) -> PartOfStream:
        """Returns the same batches, of each the samples from ``begin`` on and before ``end``."""
        return PartOfStream(self, begin, end)

    def _augmented(self, images: Tensor, draws: Tensor) -> Tensor:
        assert self._augment is not None
        return self._augment.apply(images, draws)


@dataclass(frozen=True)
class PartOfStream:
    """A part of each of a stream's batches, with the random numbers that it has in the whole."""

    whole: Stream
    begin: int
    end: int

    @property
    def steps_per_epoch(self) -> int:
        return self.whole.steps_per_epoch

    def __getitem__(self, step: int) -> Batch:
        chosen = [drawn[..., self.begin : self.end] for drawn in self.whole.draw(step)]
        return self.whole.take(*(sent(drawn, self.whole.device) for drawn in chosen))
