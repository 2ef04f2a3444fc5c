"""A second rank, a process of its own, with a test's own process as the first."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from forked import Forked
from lth_runner.training.engines.distributed.collectives import connect
from lth_runner.training.engines.distributed.joining import await_others, join
from lth_runner.training.engines.distributed.lines import CPU, Leader
from lth_runner.training.engines.distributed.orders import Connect, serve
from lth_runner.training.engines.distributed.telling import Who
from lth_runner.values.ranks import Rank

HOST = "127.0.0.1"


def free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return server.getsockname()[1]


def store(port: int, *, is_master: bool) -> dist.Store:
    return dist.TCPStore(HOST, port, 2, is_master, timedelta(seconds=60), wait_for_workers=False)


def second(port: int) -> None:
    torch.set_num_threads(1)
    rank = Rank(1, 2, 1, 2)
    follower = join(rank, Who.here(rank, {}), store(port, is_master=False), HOST)
    serve(follower)
    follower.close()


@contextlib.contextmanager
def two_ranks(logs: Path) -> Iterator[Leader]:
    port, rank = free_port(), Rank(0, 2, 0, 2)
    own = store(port, is_master=True)
    other = Forked.start(second, port, logs=logs)
    leader = await_others(rank, Who.here(rank, {}), own)
    try:
        leader.tell(Connect("gloo"))
        leader.gradients = connect(rank, "gloo", own, CPU)
        leader.answers()
        yield leader
    finally:
        leader.end(0)
        if dist.is_initialized():
            dist.destroy_process_group()
        other.finish()
