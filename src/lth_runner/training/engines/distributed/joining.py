"""How the ranks come together: each calls rank 0, whose address lies in torchrun's store."""

from __future__ import annotations

import secrets
import socket
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any

from lth_runner.training.engines.distributed.lines import CPU, Follower, Leader
from lth_runner.training.engines.distributed.sending import packed, unpacked
from lth_runner.training.engines.distributed.telling import Who
from lth_runner.values.errors import UserError
from lth_runner.values.ranks import Rank

JOIN = 300.0  # seconds in which all ranks are to come


def await_others(rank: Rank, me: Who, store: Any) -> Leader:
    """Takes the lines of all other ranks; raises UserError where one does not come."""
    lines: dict[int, tuple[Connection, Who]] = {}
    key = secrets.token_bytes(32)
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    with socket.create_server(("", 0), family=family, dualstack_ipv6=both) as server:
        place = f"{server.getsockname()[1]} {socket.gethostname()} {key.hex()}"
        store.set("line", place)
        until = time.monotonic() + JOIN
        while len(lines) < rank.num - 1:
            server.settimeout(max(0.1, until - time.monotonic()))
            try:
                taken, _ = server.accept()
                line = _kept(taken)
                deliver_challenge(line, key)
                answer_challenge(line, key)
                line.send_bytes(packed(me, ()))
                who = unpacked(line.recv_bytes(), (), CPU)
            except TimeoutError:
                missing = sorted(set(range(1, rank.num)) - lines.keys())
                raise UserError(
                    f"of {rank.num} ranks {', '.join(map(str, missing))} have not come within "
                    f"{JOIN:.0f} s: start all of them with the same torchrun, and let them reach "
                    f"port {server.getsockname()[1]} of {socket.gethostname()}"
                ) from None
            except (AuthenticationError, EOFError, OSError):  # a stranger's
                continue
            lines[who.number] = (line, who)
    return Leader(rank, me, dict(lines[number] for number in sorted(lines)), store)


def join(rank: Rank, me: Who, store: Any, master: str) -> Follower:
    """Calls rank 0; raises OSError or RuntimeError where there is none."""
    port, host, key = store.get("line").decode().split()
    try:
        taken = socket.create_connection((master, int(port)), timeout=JOIN)
    except OSError:  # the store may lie elsewhere
        taken = socket.create_connection((host, int(port)), timeout=JOIN)
    line = _kept(taken)
    answer_challenge(line, bytes.fromhex(key))
    deliver_challenge(line, bytes.fromhex(key))
    line.send_bytes(packed(me, ()))
    return Follower(rank, unpacked(line.recv_bytes(), (), CPU), line, store)


def _kept(taken: socket.socket) -> Connection:
    """Makes a line of a socket, at which the system looks whether the other end still lives."""
    taken.settimeout(None)
    taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            taken.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)
    return Connection(taken.detach())
