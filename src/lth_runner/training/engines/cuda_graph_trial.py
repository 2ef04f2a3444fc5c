"""A trial that tells whether steps can be recorded as a CUDA graph, and how many at once fit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn, optim

from lth_runner.masking import Masking
from lth_runner.problem.answers import evaluate
from lth_runner.problem.data import Data
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.training.engines.engine import Together
from lth_runner.training.engines.graphed import WARM_UP, Capture, Graphed, cuda_graph
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.recipe import Recipe
from lth_runner.values.errors import UserError
from lth_runner.values.global_streams import drawn_between, positions
from lth_runner.values.memory import is_out_of_memory
from lth_runner.values.raised import reason_of
from lth_runner.values.state import State

# their fused kernels read the learning rate where it lies on the device
OPTIMIZERS = (optim.SGD, optim.Adam, optim.AdamW)
REPLAYED = 3  # steps of a trial after the warm-up
TOLERANCE = 0.01  # of a step's loss: above what rounding changes, below what another batch does
STRAYED = 0.1  # of the way that the weights have gone


@dataclass(frozen=True)
class Trial:
    """Says why a few steps cannot be recorded, or what memory they take, in bytes."""

    obstacle: str | None = None
    lane: int = 0
    evaluation: int = 0
    is_out_of_memory: bool = False

    def num_lanes(self, recipe: Recipe, free: float) -> int:
        """Counts the trainings that fit into ``free`` bytes, from 1 to ``max_packed``."""
        return max(1, int(min(recipe.max_packed, (free - self.evaluation) / max(1, self.lane))))


def obstacle(task: Task, masking: Masking, recipe: Recipe) -> str | None:
    """Says why such steps cannot be recorded, as far as their parts tell; None for no reason."""
    if not masking.captures:
        return f"{type(masking).__name__} decides between steps"
    if recipe.precision == "fp16":
        return "whether to step is asked of the gradients (train.precision=fp16)"
    data = task.data
    if not isinstance(data, Data) or not data.augment.captures:
        return "its batches are made by the host"
    if task.is_random:
        return "the network draws random numbers"
    module = task.module()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._NormBase) and part.momentum is None:
            return f"a {type(part).__name__} without momentum asks the host to count its batches"
    optimizer = recipe.make_optimizer([{"params": list(module.parameters())}])
    fused = all(group.get("fused") for group in optimizer.param_groups)
    if type(optimizer) not in OPTIMIZERS or not fused:
        return (
            f"{type(optimizer).__name__} may ask the host for its learning rate (SGD, Adam and "
            "AdamW with fused=true do not)"
        )
    return None


def tried(task: Task, masking: Masking, recipe: Recipe, capture: Capture = cuda_graph) -> Trial:
    """Trains the dense network for a few steps, one by one and recorded, and compares them.

    By their losses, and by where the weights have gone: the last gradients show in no loss yet.
    A network of one's own may do what no list of parts foretells: draw random numbers, count in
    Python, ask the device a question. Raises what a training one by one raises, and UserError
    where there is no memory for one.
    """
    reason = obstacle(task, masking, recipe)
    if reason is not None:
        return Trial(reason)
    device = torch.device(task.device)
    job = Job(task, Ticket(task.dense(), task.init()), masking)
    with recipe.arithmetic(device):
        before = positions(device)
        num, expected, plain = _one_by_one(job, recipe)
        if drawn_between(before, positions(device)):
            return Trial("the network draws random numbers")
        try:
            found, trial, again = _recorded(job, recipe, capture, num)
        except (MemoryError, RuntimeError) as error:  # what CUDA, and torch's recording, raise
            if is_out_of_memory(error):
                reason = "out of memory: recorded, a training takes more than one by one"
                return Trial(reason, is_out_of_memory=True)
            return Trial(f"its step cannot be recorded: {reason_of(error)}")
    if not torch.allclose(found, expected, rtol=TOLERANCE, atol=0.0, equal_nan=True):
        return Trial("its step, recorded and done again, does something else")
    if _strayed(job.ticket.weights, plain, again):
        return Trial("its step, recorded and done again, learns something else")
    return trial


def _strayed(start: State, plain: State, again: State) -> bool:
    """Whether the same steps led elsewhere, measured over all weights: rounding moves single ones.

    Not where they diverge.
    """
    squares = torch.zeros(2, dtype=torch.float64)
    for name, value in plain.items():
        if value.is_floating_point():
            apart, gone = _moved(value, again[name]), _moved(start[name], value)
            squares += torch.stack([one.double().square().sum() for one in (apart, gone)])
    apart_squared, gone_squared = squares.tolist()
    return math.isfinite(gone_squared) and not apart_squared <= STRAYED**2 * gone_squared


def _moved(before: Tensor, after: Tensor) -> Tensor:
    """Computes after - before, 0 where they are equal: of a buffer that holds infinity too."""
    return torch.where(after == before, 0.0, after - before)


def _one_by_one(job: Job, recipe: Recipe) -> tuple[int, Tensor, State]:
    """Counts the steps that are tried, and computes their losses and the weights behind them."""
    try:
        plain = Sequential().begin([job], recipe, [None])
        num = min(WARM_UP + REPLAYED, plain.lanes[0].clock.total)
        return num, _losses(plain, num), plain.lanes[0].weights()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"out of memory: a single training does not fit into what is free on "
            f"{job.task.device}: lower train.batch_size, wait until other processes end, or set "
            "device=cpu"
        ) from error


def _recorded(job: Job, recipe: Recipe, capture: Capture, num: int) -> tuple[Tensor, Trial, State]:
    """Records the first ``num`` steps: losses, the memory in use at most, the weights behind."""
    device = torch.device(job.task.device)
    _forget_most(device)
    before = _most_bytes(device)
    together = Graphed(capture=capture).begin([job], recipe, [None])
    model = together.lanes[0].model
    choosing, warm = min(num, WARM_UP - 1), min(num, WARM_UP)
    losses = [_losses(together, choosing)]
    _forget_most(device)  # libraries try large kernels where they choose
    losses.append(_losses(together, warm - choosing, watched=device))
    lane = _most_bytes(device) - before
    losses.append(_losses(together, num - warm))
    for _ in range(2):
        _forget_most(device)
        still = _most_bytes(device)
        evaluate(model, iter([next(job.task.evaluated("test"))]), job.task.objective)
    trial = Trial(None, lane, _most_bytes(device) - still)
    return torch.cat(losses), trial, together.lanes[0].weights()


def _losses(together: Together, num: int, watched: torch.device | None = None) -> Tensor:
    """Takes so many steps of one training and computes the loss of each.

    A step that asks the ``watched`` device a question raises: to find that out by a recording
    that fails would leave what it had begun, in some versions of torch for good.
    """
    [lane] = together.lanes
    sums = [float(lane.loss)]
    for _ in range(num):
        with questions_raise(watched):
            together.advance()
        sums.append(float(lane.loss))
    return torch.tensor(sums, dtype=torch.float64).diff()


@contextmanager
def questions_raise(device: torch.device | None) -> Iterator[None]:
    """Has torch raise a RuntimeError where the host waits for an answer of a CUDA device."""
    if device is None or device.type != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _most_bytes(device: torch.device) -> int:
    """Reads the most memory that tensors took since ``_forget_most``; 0 where nobody counts."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def _forget_most(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
