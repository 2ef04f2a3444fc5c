"""The place of a process among those that ``torchrun`` has started together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lth_runner.values.errors import UserError

KEYS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Rank:
    """One of ``num`` processes, ``local`` of ``num_local`` on its machine."""

    number: int = 0
    num: int = 1
    local: int = 0
    num_local: int = 1

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Rank | None:
        """Reads what ``torchrun`` says; None in a process that it has not started.

        Raises UserError for numbers that are none.
        """
        if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= environment.keys():
            return None
        found = {key: environment[key] for key in KEYS if key in environment}
        if not all(value.isdecimal() for value in found.values()):
            raise UserError(
                f"{', '.join(f'{key}={value}' for key, value in found.items())}: these are whole "
                "numbers that torchrun sets: start the ranks with it, or unset them"
            )
        number, num = int(found["RANK"]), int(found["WORLD_SIZE"])
        local, num_local = int(found.get("LOCAL_RANK", number)), found.get("LOCAL_WORLD_SIZE", num)
        if not number < num:
            raise UserError(f"RANK={number} is none of WORLD_SIZE={num} ranks: 0 to {num - 1}")
        return cls(number, num, local, int(num_local))

    @property
    def is_first(self) -> bool:
        """Whether it is the one that runs the program; the others lend it their devices."""
        return self.number == 0

    @property
    def program(self) -> list[str]:
        """The words that start all ranks, in the place of ``lth-run``."""
        nodes = -(-self.num // max(1, self.num_local))
        several = ["--nnodes", str(nodes)] if nodes > 1 else []
        each = ["--nproc-per-node", str(self.num_local)]
        return ["torchrun", *several, *each, "-m", "lth_runner"]

    def share(self, size: int) -> tuple[int, int]:
        """Returns where this rank's samples of a batch of ``size`` begin, and where they end.

        They are as many as those of any other rank, or one fewer.
        """
        return self.number * size // self.num, (self.number + 1) * size // self.num
