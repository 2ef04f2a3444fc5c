"""Gradients added up over the ranks, while the backward pass still makes others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lth_runner.training.engines.distributed.collectives import severed
from lth_runner.values.errors import UserError

BUCKET = 25 * 2**20  # bytes that are sent at once


class SummedGradients:
    """Adds up the gradients of some parameters over the ranks, in buckets of ``BUCKET`` bytes.

    In the last backward pass of a step a bucket goes out as soon as its gradients are there and
    those before it have gone, as torch's DistributedDataParallel has it; the order is the same on
    all ranks, whatever order gradients come in. This one takes what the loop trains and not what a
    module owns: scores of a masking, parts of a batch that add up, and gradients that stay None
    where no rank has any, so that the optimizer passes them over as it does in one process.
    ``group``: connections of their own, since the sums of batch norms go between the buckets, and
    where ranks go through different layers, not between the same ones.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], group: Any) -> None:
        self._buckets = list(_buckets([p for p in parameters if p.requires_grad]))
        self._group, self._next, self._is_last_pass = group, 0, False
        self._handles = [
            parameter.register_post_accumulate_grad_hook(self._noting(number))
            for number, bucket in enumerate(self._buckets)
            for parameter in bucket.parameters
        ]

    @property
    def way(self) -> int:
        """None in particular: a rank may have other gradients than the others."""
        return 0

    def remove(self) -> None:
        """Takes its hooks off the parameters."""
        for handle in self._handles:
            handle.remove()

    def expect(self) -> None:
        """Has buckets go out from here on: the step's last backward pass begins."""
        self._next, self._is_last_pass = 0, True
        for bucket in self._buckets:
            bucket.awaited = set(map(id, bucket.parameters))

    def _noting(self, number: int) -> Callable[[Tensor], None]:
        def there(parameter: Tensor) -> None:
            if not self._is_last_pass:
                return
            if number < self._next:
                raise UserError(
                    f"train.engine=distributed: a parameter of shape {tuple(parameter.shape)} gets "
                    "its gradient in several goes of one backward pass, and this one after it was "
                    "sent, as torch.utils.checkpoint does with use_reentrant=True for a parameter "
                    "that is used in two of its parts: give use_reentrant=False"
                )
            self._buckets[number].awaited.discard(id(parameter))
            while self._next < len(self._buckets) and not self._buckets[self._next].awaited:
                self._send_next()

        return there

    def _send_next(self) -> None:
        self._buckets[self._next].send(self._group)
        self._next += 1

    @torch.no_grad()
    def finish(self) -> None:
        """Adds up what has not gone out, and puts all sums in the gradients' places."""
        self._is_last_pass = False
        while self._next < len(self._buckets):
            self._send_next()
        for bucket in self._buckets:
            bucket.receive()


@dataclass(eq=False)
class _Bucket:
    """Parameters of one kind of number on one device, whose gradients are sent as one tensor.

    Behind them stands for each parameter whether there is a gradient.
    """

    parameters: Sequence[nn.Parameter]
    awaited: set[int] = field(default_factory=set)  # whose gradients are to come
    _sent: Tensor | None = field(default=None, init=False)
    _work: Any = field(default=None, init=False)

    @torch.no_grad()
    def send(self, group: Any) -> None:
        like = self.parameters[0]
        flat = [
            torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
            for p in self.parameters
        ]
        known = torch.tensor([float(p.grad is not None) for p in self.parameters])
        self._sent = torch.cat([*flat, known.to(like)])
        with severed():
            self._work = dist.all_reduce(self._sent, group=group, async_op=True)

    def receive(self) -> None:
        assert self._sent is not None
        with severed():
            self._work.wait()
        sizes = [p.numel() for p in self.parameters]
        *parts, known = self._sent.split([*sizes, len(sizes)])
        absent = [p.grad is None for p in self.parameters]
        somewhere = known.tolist() if any(absent) else [1.0] * len(sizes)
        for parameter, part, is_absent, num in zip(
            self.parameters, parts, absent, somewhere, strict=True
        ):
            if is_absent and num:
                parameter.grad = torch.empty_like(parameter)
            if parameter.grad is not None:
                parameter.grad.copy_(part.view(parameter.shape))
        self._sent = self._work = None


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterable[_Bucket]:
    """Groups parameters, the last first, as a backward pass comes to them."""
    kinds: dict[tuple[torch.device, torch.dtype], list[nn.Parameter]] = {}
    for parameter in reversed(parameters):
        group = kinds.setdefault((parameter.device, parameter.dtype), [])
        if group and sum(p.nbytes for p in group) + parameter.nbytes > BUCKET:
            yield _Bucket(tuple(group))
            group.clear()
        group.append(parameter)
    yield from (_Bucket(tuple(group)) for group in kinds.values() if group)
