"""Wanda scores a weight by its size and by how large the inputs are that it meets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lth_runner.problem.task import Task
from lth_runner.score import derivatives
from lth_runner.score.checks import KEY, check_whole_number
from lth_runner.score.examples import check_draw, draw_batches
from lth_runner.score.input_norms import UnknownUseError, squared_input_norms
from lth_runner.score.score import Scores
from lth_runner.values import state as states
from lth_runner.values import tree
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.name_patterns import select
from lth_runner.values.state import State
from lth_runner.values.tree import Batch

REFUSED = {
    "embedding": "whose inputs are numbers of rows",
    "recurrent": "whose inputs are within the layer",
}
INSTEAD = (
    f"name it in pruner.exclude (with another pruner: in {KEY}.exclude too), leave it out of "
    "covers, or choose another score (pruner=magnitude_at_init)"
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanda:
    """Scores each weight by |theta_ij| * ||X_j||_2, with X_j the inputs that it meets.

    X are the inputs of m * theta at ``num_batches`` seeded batches of training samples, over all
    samples and positions; tokens of padding are left out. Weights used in several places have the
    inputs of all. A convolution is the matrix that multiplies the unfolded input: the norm is one
    for each input channel and kernel place. How ``nn.MultiheadAttention`` and other layers use
    their weights is seen in the products themselves. A removed weight scores 0. Layers in
    ``exclude`` are not looked into and score |theta|. The authors compare within each output row
    (``scope: rows``), and prune block after block, so that a block's inputs come of pruned ones;
    here all inputs are those of one network, and with ``iterations`` of the one pruned so far.
    Raises UserError for embeddings, recurrent layers, biases, and a weight that the network uses
    in anything but a product with inputs. Sun et al., ICLR 2024, arXiv 2306.11695.
    """

    num_batches: int = 1
    batch_size: int = 128
    exclude: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_whole_number(1, num_batches=self.num_batches, batch_size=self.batch_size)

    def check(self, task: Task) -> None:
        """Raises UserError for layers without inputs to see, and for more samples than there are.

        The network is run on two samples for it, with weights as they happen to be drawn.
        """
        if task.biases:
            raise UserError(
                "pruner.biases=true, but Wanda goes by the inputs that a weight meets, and a bias "
                "meets none: leave pruner.biases out, or take another score (magnitude, snip)"
            )
        if task.coordinates is not None:
            raise UserError(
                f"coordinates ({type(task.coordinates).__name__}): Wanda goes by the inputs that a "
                "weight meets, and here other numbers are trained, which meet none: take another "
                "score (pruner=magnitude_at_init), or coordinates=weights"
            )
        names = self._looked_into(task)
        for name in names:
            kind = task.kind(name)
            if kind in REFUSED:
                raise UserError(
                    f"{KEY}: Wanda goes by the inputs of a layer, but {name} is of the kind "
                    f"{kind}, {REFUSED[kind]}: {INSTEAD}"
                )
        check_draw(task, self.num_batches, self.batch_size, batch_statistics=False)
        few = task.data.sample(min(2, task.data.num_train), 0)
        _squares(task, states.read(task.module()), names, [few])

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        home = derivatives.on_device_with_float64(task)
        start = derivatives.to_device_and_dtype(home, mask(weights))
        batches = draw_batches(task, self.num_batches, self.batch_size)
        looked = self._looked_into(task)
        squares = _squares(home, start, looked, batches)
        scores = {name: start[name].abs() for name in mask}
        for name in looked:
            # in double precision: a square may be beyond what a float32 holds
            scores[name] = (scores[name].double() * squares(name).sqrt()).to(start[name])
        return derivatives.on_cpu(scores)

    def _looked_into(self, task: Task) -> tuple[str, ...]:
        spared = select(self.exclude, task.prunable, "pruner.exclude")
        return tuple(name for name in task.prunable if name not in spared)


def _squares(
    task: Task, weights: State, names: Sequence[str], batches: Sequence[Batch]
) -> Callable[[str], Tensor]:
    """Sums the squared inputs of each weight; raises UserError for one that is used otherwise."""
    try:
        found = squared_input_norms(task, weights, names, batches)
    except UnknownUseError as error:
        raise UserError(
            f"{KEY}: Wanda goes by the inputs that a weight is multiplied with, but the network "
            f"uses {error.name} in {error.operation}: {INSTEAD}"
        ) from error

    def squares(name: str) -> Tensor:
        value = found(name)
        if value is not None:
            return value
        num = sum(tree.length(targets) for _, targets in batches)
        log.warning("warning: no input of %d samples met %s: its weights score 0", num, name)
        return torch.zeros((), dtype=torch.float64, device=weights[name].device)

    return squares
