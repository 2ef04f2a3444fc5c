"""Two ranks of this machine (gloo) for benchmarks: this process and a fork of it."""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist
from torch import nn

from lth_runner.problem import models
from lth_runner.problem.task import Task
from lth_runner.training.engines.distributed.collectives import connect
from lth_runner.training.engines.distributed.joining import await_others, join
from lth_runner.training.engines.distributed.lines import CPU, Leader
from lth_runner.training.engines.distributed.orders import Connect, Served, serve
from lth_runner.training.engines.distributed.telling import Who
from lth_runner.values.ranks import Rank

HOST, TURNS = "127.0.0.1", 7


class Spent:
    """An order: how many seconds of processor time this rank has taken."""

    def __call__(self, served: Served) -> float:
        return time.process_time()


@dataclass
class Keep:
    """An order: to keep what the orders after it name."""

    task: Task

    def __call__(self, served: Served) -> None:
        served.follower.known = (self.task,)


@contextmanager
def two_ranks() -> Iterator[Leader]:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
    other = os.fork()
    number = 0 if other else 1
    rank, minute = Rank(number, 2, number, 2), timedelta(seconds=60)
    store = dist.TCPStore(HOST, port, 2, rank.is_first, minute, wait_for_workers=False)
    me = Who.here(rank, {})
    if not other:
        serve(join(rank, me, store, HOST))
        os._exit(0)
    leader = await_others(rank, me, store)
    leader.tell(Connect("gloo"))
    leader.gradients = connect(rank, "gloo", store, CPU)
    leader.answers()
    try:
        yield leader
    finally:  # the other rank waits for a word
        leader.end(0)
        os.waitpid(other, 0)


def processor_times(leader: Leader) -> list[float]:
    """Seconds of processor time that each process has taken."""
    leader.tell(Spent())
    return [time.process_time(), *leader.answers()]


def wide() -> nn.Module:
    return models.mlp(shape=(1, 28, 28), num_classes=10, widths=(3072,) * 5)


def told(values: list[float], label: str, unit: str) -> None:
    low, middle, high = statistics.quantiles(values, n=4)
    print(f"  {label:<40} {middle:8.2f} {unit:<3} ({low:.2f} to {high:.2f})", flush=True)
