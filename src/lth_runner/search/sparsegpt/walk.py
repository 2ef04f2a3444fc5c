"""Going through a network from its first layer to its last, each on what those before it give.

What is written into the network on the way is what later layers see. The blocks of a transformer
are run once before they change and once after, and passed over from then on, so that no more than
the answers of one block are held. Where that does not give what the network gives, and in networks
without such blocks, it is run from its inputs for each layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lth_runner.problem.answers import answer, plain_attention
from lth_runner.problem.covers import attending_blocks
from lth_runner.search.sparsegpt.layers import Layer, Seen
from lth_runner.values.tree import Tree

Part = tuple[Tree, Tensor | None]  # inputs, and which tokens of a sample are no padding
Change = Callable[[Layer, Tensor | None], None]  # given the inner products, None of no inputs
UNFIT = (RuntimeError, ValueError, TypeError, IndexError, KeyError)  # what a network may raise


class UncalledError(Exception):
    """A network has run without calling a layer."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True)
class Step:
    """Layers whose inputs are seen at once: a block's, or one that is in no block.

    ``num_calls``: how often a run of the network calls that one.
    """

    layers: tuple[Layer, ...]
    block: str | None = None
    num_calls: int = 1


class _Reached(Exception):
    """Ends a run of the network where all is seen."""


@dataclass
class _Passed:
    """The blocks that have changed, and what the last of each list answers to a part."""

    blocks: list[str] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Walk:
    """The steps through a network."""

    network: nn.Module
    steps: tuple[Step, ...]

    @classmethod
    @torch.no_grad()
    def through(cls, network: nn.Module, layers: Sequence[Layer], sample: Tree) -> Walk:
        """Finds the steps by running the network on a sample, in the order of first calls.

        Raises UncalledError for a layer that the network does not call.
        """
        order: list[str] = []
        with plain_attention(), _given(layers, lambda layer, _: order.append(layer.name)):
            whole = answer(network, sample)
        for layer in layers:
            if layer.name not in order:
                raise UncalledError(layer.name)
        known, calls = {layer.name: layer for layer in layers}, Counter(order)
        called = [known[name] for name in dict.fromkeys(order)]
        by_blocks = cls(network, tuple(_by_blocks(network, called, calls)))
        if any(step.block for step in by_blocks.steps) and by_blocks._answers(sample, whole):
            return by_blocks
        return cls(network, tuple(Step((one,), num_calls=calls[one.name]) for one in called))

    def __call__(self, parts: Sequence[Part], change: Change) -> None:
        """Has each layer changed by what it is given, with all layers before it changed."""
        self._go(parts, change)

    @torch.no_grad()
    def _go(self, parts: Sequence[Part], change: Change) -> _Passed:
        passed = _Passed(answers=[{} for _ in parts])
        with plain_attention():
            for step in self.steps:
                seen = Seen()
                calls = [self._reach(step, part, seen, passed, index)
                         for index, part in enumerate(parts)]  # fmt: skip
                for layer in step.layers:
                    change(layer, seen.grams.pop(layer.name, None))
                if step.block is not None:
                    self._pass(step.block, calls, passed)
        return passed

    def _reach(
        self, step: Step, part: Part, seen: Seen, passed: _Passed, index: int
    ) -> tuple[Any, Any] | None:
        """Runs the network up to a step on a part; returns what a block was called with."""
        inputs, seen.real = part
        left, caught = step.num_calls, []

        def see(layer: Layer, given: Tensor) -> None:
            nonlocal left
            seen.see(layer, given)
            left -= 1
            if step.block is None and not left:
                raise _Reached

        def catch(block: nn.Module, args: Any, named: Any, found: Any) -> None:
            caught.append((args, named))
            raise _Reached

        hooks = []
        if step.block is not None:
            block = self.network.get_submodule(step.block)
            hooks.append(block.register_forward_hook(catch, with_kwargs=True))
        try:
            with self._passing(passed, index), _given(step.layers, see):
                answer(self.network, inputs)
        except _Reached:
            pass
        finally:
            seen.forget_inputs()
            for hook in hooks:
                hook.remove()
        return caught[0] if caught else None

    def _pass(self, block: str, calls: Sequence[tuple[Any, Any] | None], passed: _Passed) -> None:
        """Runs a changed block on what it was called with, for the blocks behind it."""
        module = self.network.get_submodule(block)
        for call, answers in zip(calls, passed.answers, strict=True):
            if call is not None:
                answers[_list_of(block)] = module(*call[0], **call[1])
        passed.blocks.append(block)

    @contextmanager
    def _passing(self, passed: _Passed, index: int) -> Iterator[None]:
        """Has blocks that are done answer at once, all with the last answer of their list.

        Only the next block's inputs are asked for, and these are what the last one answers.
        """
        changed = []
        try:
            for path in passed.blocks:
                found = passed.answers[index].get(_list_of(path))
                block = self.network.get_submodule(path)
                if found is not None and "forward" not in vars(block):
                    vars(block)["forward"] = lambda *_, _found=found, **__: _found
                    changed.append(block)
            yield
        finally:
            for block in changed:
                del vars(block)["forward"]

    def _answers(self, sample: Tree, whole: Tensor) -> bool:
        """Whether the network answers a sample as it did when its blocks are passed over."""
        try:
            passed = self._go([(sample, None)], lambda *_: None)
            with plain_attention(), self._passing(passed, 0):
                return torch.equal(answer(self.network, sample), whole)
        except UNFIT:  # what stands between two blocks was given the answer of another
            return False


def _list_of(block: str) -> str:
    return block.rpartition(".")[0]


def _by_blocks(
    network: nn.Module, called: Sequence[Layer], calls: Mapping[str, int]
) -> Iterator[Step]:
    """Puts the layers of each block together, blocks in the order in which they are reached."""
    blocks = attending_blocks(network)
    outer = [b for b in blocks if not any(b.startswith(f"{other}.") for other in blocks)]
    members: dict[str, list[Layer]] = {}
    for layer in called:
        place = next((b for b in outer if layer.name.startswith(f"{b}.")), layer.name)
        members.setdefault(place, []).append(layer)
    for place, own in members.items():
        yield Step(tuple(own), place if place in outer else None, calls[own[0].name])


@contextmanager
def _given(layers: Iterable[Layer], see: Callable[[Layer, Tensor], None]) -> Iterator[None]:
    """Shows what layers are called with, before they compute."""

    def hook(layer: Layer) -> Callable[..., None]:
        def shown(module: nn.Module, args: Any, named: Any) -> None:
            see(layer, (args or tuple(named.values()))[0])

        return shown

    hooks = [
        layer.module.register_forward_pre_hook(hook(layer), with_kwargs=True) for layer in layers
    ]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()
