"""What ranks tell each other of themselves: who they are, and why they end."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from lth_runner.training.engines.distributed.collectives import Severed
from lth_runner.values.errors import UserError
from lth_runner.values.memory import is_out_of_memory, out_of_memory
from lth_runner.values.ranks import Rank


@dataclass(frozen=True)
class Who:
    """Tells one rank from the others: where it runs, and what must be alike on all."""

    number: int
    host: str
    process: int
    alike: Mapping[str, str]

    @classmethod
    def here(cls, rank: Rank, alike: Mapping[str, str]) -> Who:
        return cls(rank.number, socket.gethostname(), os.getpid(), alike)

    def __str__(self) -> str:
        return f"rank {self.number} (process {self.process} on {self.host})"


@dataclass(frozen=True)
class Failure:
    """What a rank says before it ends; ``is_severed``: that another is at fault, or the network."""

    text: str
    is_severed: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        lines = str(error).strip().splitlines()
        text = f"{lines[0] if lines else 'it says nothing'} ({type(error).__name__})"
        if isinstance(error, UserError):
            text = str(error)
        if is_out_of_memory(error):
            less = "a smaller train.micro_batch, or more ranks, take less"
            text = f"{out_of_memory(error)}: {less}"
        return cls(text, isinstance(error, Severed))


@dataclass(frozen=True)
class End:
    """The last order: the process ends with this status."""

    status: int
