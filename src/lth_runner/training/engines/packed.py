"""The engines that train several networks as one, and which trainings they can take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from lth_runner.masking import Masking
from lth_runner.problem.data import Data
from lth_runner.problem.gaussian_layers import Spread, is_drawn
from lth_runner.problem.objective import Separable
from lth_runner.problem.task import Task
from lth_runner.store.checkpoint import Checkpoint
from lth_runner.training.engines.agreement import disagreement
from lth_runner.training.engines.carried import burden, changed_by_training
from lth_runner.training.engines.compiled import library
from lth_runner.training.engines.engine import Together
from lth_runner.training.engines.packed_evaluation import EVALUATED
from lth_runner.training.engines.packed_gaussian import gaussian_obstacle
from lth_runner.training.engines.packed_loop import Pack
from lth_runner.training.job import Job
from lth_runner.training.optimizers import looks_further
from lth_runner.training.recipe import Recipe
from lth_runner.values import identity, tree
from lth_runner.values.errors import UserError

# activations that see every value by itself
ELEMENTWISE = (
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU,
    nn.Mish, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish,
)  # fmt: skip

SAMPLED = 64  # samples by which data that are not in memory are judged


@dataclass(frozen=True)
class Packed:
    """Trains up to ``max_packed`` networks in step, as one with a leading axis of replicates.

    Every lane's own network is a view of its slice, so that masks, evaluation and checkpoints see
    a plain module. A lane's result does not depend on which others it was packed with.
    """

    max_packed: int = 8
    name: str = "packed"

    def pick(self, jobs: Sequence[Job]) -> Sequence[int]:
        """Picks the first and those after it that can go in step with it."""
        return _alike([_kind(job) for job in jobs], self.max_packed)

    def begin(
        self, jobs: Sequence[Job], recipe: Recipe, checkpoints: Sequence[Checkpoint | None]
    ) -> Together:
        pack = Pack(jobs, recipe, checkpoints, sparse=None)
        return Together(pack.lanes, pack.advance)


@dataclass(frozen=True)
class Sparse:
    """Trains as ``Packed`` does, in compiled loops and sparse layers over their survivors alone.

    A layer is sparse that keeps less than ``below``. Its pruned weights are not there in training:
    no product, no gradient, no moment. The lanes' own networks are brought up to date where
    somebody looks. For masks that stand still.
    """

    max_packed: int = 8
    below: float = 0.4  # where products over survivors overtake whole ones (docs/benchmarks.md)
    name: str = "sparse"

    def pick(self, jobs: Sequence[Job]) -> Sequence[int]:
        """Picks the first and those after it that go in step, with the same sparse layers."""
        kinds = [(*_kind(job), self._sparse(job)) for job in jobs]
        return _alike(kinds, self.max_packed)

    def begin(
        self, jobs: Sequence[Job], recipe: Recipe, checkpoints: Sequence[Checkpoint | None]
    ) -> Together:
        pack = Pack(jobs, recipe, checkpoints, sparse=self._sparse(jobs[0]))
        return Together(pack.lanes, pack.advance)

    def _sparse(self, job: Job) -> tuple[str, ...]:
        mask = job.ticket.mask.of_weights()
        return tuple(n for n, kept in mask.items() if kept.sum() < self.below * kept.numel())


def _alike(kinds: Sequence[object], num: int) -> Sequence[int]:
    return [index for index, kind in enumerate(kinds) if kind == kinds[0]][:num]


def _kind(job: Job) -> tuple[object, ...]:
    """Describes what must be alike for two trainings to go in step."""
    start = job.ticket.start
    return (
        id(job.task.data), job.task.device, identity.digest(job.task.identity), job.masking,
        start.step, start.final_rate, start.rate_factor, start.has_optimizer,
    )  # fmt: skip


def sparse_obstacle(task: Task, masking: Masking, recipe: Recipe) -> str | None:
    """Says why trainings that can be packed cannot be ``Sparse``; None where they can."""
    if not masking.still:
        return f"the mask of {type(masking).__name__} moves"
    if torch.device(task.device).type != "cpu":
        return "its compiled loops are for a CPU"
    if not isinstance(task.data, Data):
        return "its compiled loops are for data held in memory"
    kinds = {value.dtype for value in task.module().parameters()}
    if recipe.precision != "fp32" or kinds != {torch.float32}:
        return "its compiled loops are for fp32"
    if task.laws is not None:
        return "its weights are drawn"
    try:
        library()
    except UserError as error:
        return str(error)
    return disagreement(task, sparse=True)


def obstacle(task: Task, masking: Masking, recipe: Recipe) -> str | None:
    """Says why trainings of this kind cannot be packed; None where they can."""
    if not masking.packs:
        return f"{type(masking).__name__} cannot share a network's memory"
    if recipe.precision == "fp16":
        return "each of its losses has a scale of its own"
    if recipe.micro_batch is not None:
        return "its batches are taken in parts (train.micro_batch)"
    reason = _objective_obstacle(task)
    if reason is not None:
        return reason
    module = task.module()
    if task.laws is not None:
        reason = gaussian_obstacle(task)
    elif task.is_random:
        reason = "the network draws random numbers"
    if reason is not None:
        return reason
    optimizer = recipe.make_optimizer([{"params": list(module.parameters())}])
    if looks_further(optimizer):
        return f"{type(optimizer).__name__} may look at a whole tensor"
    if (carried := burden(module)) is not None:
        return carried
    for part in module.modules():
        own = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        drawn = is_drawn(part) or isinstance(part, (Spread, ParametrizationList))
        if own and type(part) is not nn.Linear and not drawn:
            return f"it has a {type(part).__name__} layer"
        # a class of one's own made from these may do something else
        known = drawn or type(part) in (nn.Linear, nn.Flatten, *ELEMENTWISE)
        if not known and not list(part.children()):
            return f"it has a {type(part).__name__} layer"
    names = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    if len(names) > len(list(module.parameters())):
        return "two of its layers share a tensor"
    if (changed := changed_by_training(task)) is not None:
        return f"training changes its {changed}, which is no parameter"
    return disagreement(task)


def _objective_obstacle(task: Task) -> str | None:
    """Says why the losses of several networks cannot be told apart; None where they can."""
    name = type(task.objective).__name__
    if not isinstance(task.objective, Separable):
        return f"{name} has another number of terms for each sample"
    inputs, targets = task.data.sample(min(SAMPLED, task.data.num_train), 0)
    if isinstance(task.data, Data):
        targets = task.data.train[1]
    if not isinstance(inputs, Tensor):
        return "its inputs are tensors by name"
    numbers = any(value.dtype == torch.int64 for value in tree.tensors(targets))
    if numbers and not isinstance(task.data, Data):
        return f"{name} may leave out targets, and these data do not lie in memory to be looked at"
    counts = sum(value.numel() for value in tree.tensors(targets))
    if task.objective.weight(targets) != counts:
        return f"{name} leaves out some of the targets"
    return None


def _plain_inputs(task: Task, num: int, seed: int) -> Tensor:
    inputs = task.data.sample(num, seed)[0]
    assert isinstance(inputs, Tensor)  # the objective's obstacle has seen to it
    return inputs


def lanes_that_fit(task: Task, recipe: Recipe, free: float) -> int:
    """Counts the trainings that fit into ``free`` bytes, from 1 to ``max_packed``.

    Each takes weights, gradients, two moments, a mask or the places of what survives, and the
    activations of a batch; all together those of an evaluation, and validation and test laid out
    feature by feature.
    """
    num_weights = sum(p.numel() for p in task.module().parameters())
    num_units = sum(kept.shape[0] for kept in task.dense().of_weights().values())
    inputs = _plain_inputs(task, 1, 0).numel()
    lane = 4 * (11 * num_weights + recipe.batch_size * (inputs + 3 * num_units))
    lane += 4 * EVALUATED * 2 * num_units
    evaluation = 4 * 2000 * (inputs + 2 * num_units)
    if isinstance(task.data, Data):
        evaluated = (task.data.val, task.data.test)
        evaluation += 4 * inputs * sum(tree.length(targets) for _, targets in evaluated)
    return max(1, int(min(recipe.max_packed, (free - evaluation) / lane)))
