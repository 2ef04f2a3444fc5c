"""Stands between a network and what it computes, operation by operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

Do = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]


class Operations(TorchDispatchMode):
    """Has ``do`` compute every operation of ATen: from it, its arguments and those by name.

    What ``do`` itself computes does not come back to it.
    """

    def __init__(self, do: Do) -> None:
        super().__init__()
        self._do = do

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it, torch would load its compiler first, which takes seconds

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return self._do(func, args, kwargs or {})
