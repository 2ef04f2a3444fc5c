"""The engine that records a step of several trainings as one CUDA graph."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from lth_runner.problem.data import Stream
from lth_runner.store.checkpoint import Checkpoint
from lth_runner.training.engines.engine import Together
from lth_runner.training.job import Job
from lth_runner.training.loop import Loop
from lth_runner.training.network import autocast
from lth_runner.training.recipe import Recipe

Work = Callable[[], None]
Capture = Callable[[Work, torch.device], Work]  # records work; the answer does it again

WARM_UP = 3  # steps, in which libraries choose their kernels and the optimizer makes its state
AHEAD = 16  # steps that the host may be ahead of the device: it is stopped, and read, behind them


def cuda_graph(work: Work, device: torch.device) -> Work:
    """Records what ``work`` launches without running it; the answer launches it all at once."""
    graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream(device)
    try:
        with torch.cuda.device(device), torch.cuda.graph(graph, stream=torch.cuda.Stream(device)):
            work()
    finally:
        torch.cuda.set_stream(before)  # a recording that fails leaves its own stream in place
    return graph.replay


@dataclass(frozen=True)
class Graphed:
    """Trains up to ``max_packed`` networks of any kind in step, on a CUDA stream each.

    Every lane has a network, an optimizer and a mask of its own. A few steps are taken kernel by
    kernel; then a step of all lanes is recorded by ``capture`` and from there on launched as one.
    """

    max_packed: int = 8
    capture: Capture = cuda_graph
    name: str = "graphed"

    def pick(self, jobs: Sequence[Job]) -> Sequence[int]:
        """Picks the first and those after it that have as many steps to go."""
        first = _kind(jobs[0])
        return [index for index, job in enumerate(jobs) if _kind(job) == first][: self.max_packed]

    def begin(
        self, jobs: Sequence[Job], recipe: Recipe, checkpoints: Sequence[Checkpoint | None]
    ) -> Together:
        steps = GraphedSteps(jobs, recipe, checkpoints, self.capture)
        return Together(steps.lanes, steps.advance)


def _stream(lane: Loop) -> Stream:
    assert isinstance(lane.stream, Stream)  # the trial has refused other data
    return lane.stream


def _kind(job: Job) -> tuple[object, ...]:
    return id(job.task.data), job.task.device, job.ticket.start.step


class GraphedSteps:
    """Steps of several loops at once, each in a part on the host and one on the device.

    On the host: which samples, how they are augmented, at what learning rate; counters. On the
    device: all the rest, a function of that.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        recipe: Recipe,
        checkpoints: Sequence[Checkpoint | None],
        capture: Capture,
    ) -> None:
        self.lanes = [
            Loop(job, recipe, checkpoint, num_lanes=len(jobs))
            for job, checkpoint in zip(jobs, checkpoints, strict=True)
        ]
        self._capture, self._device = capture, torch.device(jobs[0].task.device)
        self.inputs = StepInputs(self.lanes, self._device)
        parts = [self._device_part(lane, index) for index, lane in enumerate(self.lanes)]
        self._work = on_own_streams(parts, self._device)
        self._to_warm_up = WARM_UP
        self._recorded: Work | None = None
        self._ahead = RunAhead(_mark_of(self._device))

    def _device_part(self, lane: Loop, index: int) -> Work:
        """Makes the device part of a lane's step.

        The lane's own first steps warm it up, so that this leaves no trace; recording is not
        running.
        """
        draws, rates = self.inputs.draws[index], self.inputs.rates[index]
        for group, rate in zip(lane.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
            if "capturable" in group:
                group["capturable"] = True
        # a cast kept from one step to the next would be one that no graph computes
        lane.cast = autocast(lane.recipe, self._device, cached=False)

        def part() -> None:
            lane.differentiate(_stream(lane).take(*draws))
            if lane.prepare_gradients():
                lane.optimizer.step()
            lane.live.after_step(lane.step, lane.clock.total)

        return part

    def advance(self) -> None:
        """Takes one step of every lane; the host waits for none but those of long ago."""
        self.inputs.send(self.lanes)
        if self._to_warm_up:
            self._to_warm_up -= 1
            self._work()
        else:
            if self._recorded is None:
                self._recorded = self._capture(self._work, self._device)
            self._recorded()
        self._ahead.stepped()
        for lane in self.lanes:
            lane.num_losses += 1
            lane.step += 1


class StepInputs:
    """All that varies from step to step, in one piece of the device's memory.

    Every lane's ``draws`` (sample numbers, augmentation) and ``rates`` (one a group of
    parameters) are views of it.
    """

    def __init__(self, lanes: Sequence[Loop], device: torch.device) -> None:
        shapes = [[drawn.shape for drawn in _stream(lane).draw(lane.step)] for lane in lanes]
        self._num_draws = sum(shape.numel() for of_lane in shapes for shape in of_lane)
        groups = [len(lane.optimizer.param_groups) for lane in lanes]
        self._num_rates = sum(groups)
        # int64 draws, then float32 rates, two to an int64: one copy a step
        length = self._num_draws + (self._num_rates + 1) // 2
        self._memory = torch.zeros(length, dtype=torch.int64, device=device)
        draws, rates = self._split(self._memory)
        sizes = [shape.numel() for of_lane in shapes for shape in of_lane]
        pieces = iter(draws.split(sizes))
        self.draws = [[next(pieces).view(shape) for shape in of_lane] for of_lane in shapes]
        self.rates = [part.unbind() for part in rates.split(groups)]

    def _split(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        rates = memory[self._num_draws :].view(torch.float32)
        return memory[: self._num_draws], rates[: self._num_rates]

    def send(self, lanes: Sequence[Loop]) -> None:
        """Sends the lanes' step there, behind all that the device was given to do before."""
        # pinned, or the copy might wait; anew each time, for the last may not have left yet:
        # torch gives memory out again only when the copy from it is done
        pinned = self._memory.device.type == "cuda"
        block = torch.empty(self._memory.shape, dtype=torch.int64, pin_memory=pinned)
        draws, rates = self._split(block)
        drawn = [values.flatten() for lane in lanes for values in _stream(lane).draw(lane.step)]
        torch.cat(drawn, out=draws)
        rates.copy_(
            torch.tensor([rate for lane in lanes for rate in lane.rates()], dtype=rates.dtype)
        )
        self._memory.copy_(block, non_blocking=True)


class Mark(Protocol):
    """A place in the device's work that the host can wait for."""

    def synchronize(self) -> None:
        """Waits until the device has come there."""


@dataclass(frozen=True)
class RunAhead:
    """Keeps the host from queueing more than so many steps, of which ``mark`` marks each.

    A graph is launched in less time than it takes: without this hundreds would wait, and whoever
    stops a run or writes a checkpoint would wait for all of them.
    """

    mark: Callable[[], Mark]
    limit: int = AHEAD
    _marks: deque[Mark] = field(init=False, default_factory=deque)

    def stepped(self) -> None:
        """Waits, behind a step, until the device has at most ``limit`` steps to go."""
        self._marks.append(self.mark())
        if len(self._marks) > self.limit:
            self._marks.popleft().synchronize()


class _Done:
    """The mark of a device that does as it is told, as a CPU does."""

    def synchronize(self) -> None:
        pass


def _mark_of(device: torch.device) -> Callable[[], Mark]:
    if device.type != "cuda":
        return _Done
    return lambda: torch.cuda.current_stream(device).record_event()


@functools.cache  # the libraries keep a workspace for each stream: as few as there are lanes
def _lane_stream(device: torch.device, number: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def on_own_streams(parts: Sequence[Work], device: torch.device) -> Work:
    """Joins the parts of a step; on CUDA each runs on a stream of its own, all from one begin."""
    if device.type != "cuda":

        def one_by_one() -> None:
            for part in parts:
                part()

        return one_by_one
    streams = [_lane_stream(device, number) for number in range(len(parts))]

    def forked() -> None:
        current = torch.cuda.current_stream(device)
        begun = current.record_event()
        for stream, part in zip(streams, parts, strict=True):
            stream.wait_event(begun)
            with torch.cuda.stream(stream):
                part()
        for stream in streams:
            current.wait_stream(stream)

    return forked
