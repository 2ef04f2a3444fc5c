"""One pass through a network that finds which slots go together, and what each layer hears."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from lth_runner.cutting.double import DoubleArguments, double_operations, double_recurrent
from lth_runner.cutting.found import Found
from lth_runner.cutting.labels import Shadow
from lth_runner.cutting.memory import beside_in_memory


@dataclass(frozen=True)
class Call:
    """One operation: its arguments by name, in double precision, and what it has answered."""

    op: Any
    args: Mapping[str, Any]
    shadows: Mapping[int, Shadow]
    out: Any
    module: str

    def shadow(self, name: str) -> Shadow:
        """Returns what is known of an argument; of a plain number or tensor, nothing."""
        value = self.args[name]
        if isinstance(value, Tensor):
            return self.of(value)
        return Shadow([], torch.zeros((), dtype=torch.bool))

    def of(self, value: Tensor) -> Shadow:
        known = self.shadows.get(id(value))
        return known or Shadow([], value.new_zeros((), dtype=torch.bool).expand(value.shape))

    def operands(self) -> list[tuple[Tensor, Shadow]]:
        """Lists the tensors among the arguments, and what is known of them."""
        return [(v, self.of(v)) for v in pytree.tree_leaves(self.args) if isinstance(v, Tensor)]

    def where(self) -> str:
        """Names the operation and its module, for messages."""
        name = getattr(self.op, "overloadpacket", self.op).__name__.strip("_")
        return f"{name} in {self.module or 'the network'}"


Rule = Callable[["Trace", Call], list[Shadow]]
# of a layer as a whole: its name, itself, what it is called with, and what it answers
LayerRule = Callable[["Trace", str, nn.Module, tuple[Any, ...], dict[str, Any], Any], None]


LEAVING = ("numpy", "tolist", "__array__", "__dlpack__")  # functions, besides item()

# functions that are followed as a whole: their arguments' names, and the rule
Functions = Mapping[str, tuple[tuple[str, ...], Rule]]


@dataclass(frozen=True)
class WholeRules:
    """Rules of what is followed as a whole, and not by the operations within."""

    layer: Callable[[nn.Module], LayerRule | None]
    functions: Functions


class _Functions(TorchFunctionMode):
    """Has some functions followed as a whole."""

    def __init__(self, do: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        super().__init__()
        self._do = do

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return self._do(func, args, kwargs or {})


class Trace:
    """Watches a network in evaluation answer once, in double precision, rule by rule."""

    def __init__(
        self,
        module: nn.Module,
        rules: Callable[[Any], Rule],
        wholes: WholeRules,
    ) -> None:
        self.found = Found()
        self.modules = dict(module.named_modules())
        self._rules = rules
        self._wholes = {name: rule for name, part in self.modules.items()
                        if (rule := wholes.layer(part)) is not None}  # fmt: skip
        self._functions = wholes.functions
        self._left = False  # whether what varies has left torch, and may come back as a constant
        self._within = False  # whether something is at work that is followed as a whole
        self._stack: list[str] = []
        self._known = WeakTensorKeyDictionary()
        self.roots = {id(v): n for n, v in [*module.named_buffers(), *module.named_parameters()]}
        self._held = [*module.buffers(), *module.parameters()]  # so that ids stay theirs

    @contextmanager
    def watching(self, inputs: Sequence[Tensor]) -> Iterator[None]:
        """Watches what is called inside; the inputs are what varies."""
        handles = []
        for name, part in self.modules.items():
            handles += [
                part.register_forward_pre_hook(lambda *_, name=name: self._stack.append(name)),
                part.register_forward_hook(lambda *_: self._leave(), always_call=True),
            ]
        for value in inputs:
            self._known[value] = Shadow([], torch.ones_like(value, dtype=torch.bool))
        try:
            with (
                torch.no_grad(),
                sdpa_kernel(SDPBackend.MATH),
                double_recurrent(self.modules[""]) as doubled,
                double_operations(self._follow),
                DoubleArguments({}),
                _Functions(self._call),
            ):
                # a copy is labelled as what it is a copy of, once something uses it
                self.roots |= {id(copy): self.roots[id(own)] for own, copy in doubled
                               if id(own) in self.roots}  # fmt: skip
                self._held += [copy for _, copy in doubled]
                handles += self._watched_as_wholes()
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _leave(self) -> None:
        self._stack.pop()

    def _watched_as_wholes(self) -> Iterator[RemovableHandle]:
        """Follows layers that have a rule of their own, and not the operations within."""

        def enter(*_: Any) -> None:
            self._within = True

        def leave(
            rule: LayerRule, name: str, part: nn.Module, args: Any, named: Any, out: Any
        ) -> None:
            rule(self, name, part, args, named, out)  # computes too, which is not followed either
            self._within = False

        for name, rule in self._wholes.items():
            part = self.modules[name]
            yield part.register_forward_pre_hook(enter)
            yield part.register_forward_hook(partial(leave, rule, name), with_kwargs=True)

    def answered(self, answers: Sequence[Tensor]) -> None:
        """Keeps what the network answers with."""
        for value in answers:
            shadow = self.shadow(value)
            for label in shadow.labels:
                self.found.ties.hear(label, shadow.varies, "they are what the network answers")

    @property
    def module(self) -> str:
        """Names the innermost module that is at work."""
        return self._stack[-1] if self._stack else ""

    def _call(self, func: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Calls a function, and follows it as a whole where it has a rule."""
        name = getattr(func, "__name__", "")
        if name in LEAVING:
            self._leaves(args[0], self.shadow(args[0]))
        names, rule = self._functions.get(name, ((), None))
        if rule is None or self._within:
            return func(*args, **named)
        self._within = True
        out = func(*args, **named)
        given = {**dict(zip(names, args, strict=False)), **named}
        shadows = {id(value): self.shadow(value) for value in pytree.tree_leaves(given)
                   if isinstance(value, Tensor)}  # fmt: skip
        results = [value for value in pytree.tree_leaves(out) if isinstance(value, Tensor)]
        call = Call(func, given, shadows, out, self.module)
        for value, shadow in zip(results, rule(self, call), strict=True):
            self.know(value, shadow)
        self._within = False
        return out

    def know(self, value: Tensor, shadow: Shadow) -> None:
        """Remembers what is known of a tensor."""
        self._known[value] = shadow

    def shadow(self, value: Tensor) -> Shadow:
        if value not in self._known:  # and remembered, as it may be written to
            self._known[value] = self._first_shadow(value)
        known: Shadow = self._known[value]
        return known

    def _first_shadow(self, value: Tensor) -> Shadow:
        """Makes what is known of a tensor that no operation has answered."""
        root = self.roots.get(id(value))
        nothing = torch.zeros((), dtype=torch.bool, device=value.device).expand(value.shape)
        if root is None:
            return Shadow([], nothing | self._left)  # which may be what has come back
        if root not in self.found.axes:
            self.found.axes[root] = [
                self.found.ties.fresh(size) if size > 1 else None for size in value.shape
            ]
        labels = []
        for axis, slots in enumerate(self.found.axes[root]):
            if slots is not None:
                shape = [1] * value.ndim
                shape[axis] = len(slots)
                labels.append(slots.reshape(shape))
        return Shadow(labels, nothing, root)

    def _follow(self, func: Any, given: dict[str, Any], named: dict[str, Any], out: Any) -> None:
        """Learns what is known of the answers of one operation, by its rule."""
        if self._within:
            return
        shadows = {}
        for old, new in zip(pytree.tree_leaves(given), pytree.tree_leaves(named), strict=True):
            if isinstance(old, Tensor):
                shadows[id(new)] = self.shadow(old)
                if id(old) in self.roots:
                    name = self.roots[id(old)]
                    self.found.uses[name] = self.found.uses.get(name, 0) + 1
        call = Call(func, named, shadows, out, self.module)
        if func.overloadpacket.__name__ == "_local_scalar_dense":
            self._leaves(named["self"], call.shadow("self"))
        results = [value for value in pytree.tree_leaves(out) if isinstance(value, Tensor)]
        for value, shadow in zip(results, self._rules(func)(self, call), strict=False):
            if self._left:
                shadow = replace(shadow, varies=torch.ones_like(shadow.varies))
            if func._schema.is_mutable:
                self._written(value, shadow.varies)
            self._known[value] = shadow

    def _leaves(self, value: Tensor, shadow: Shadow) -> None:
        """Keeps what becomes Python's or NumPy's, and takes nothing for constant behind it.

        Nothing where it is a fraction that varies: whole numbers and truths, by which a network
        goes on in one way or another, do not count.
        """
        for label in shadow.labels:
            self.found.ties.hear(label, shadow.varies.expand(value.shape), "they leave torch")
        self._left |= value.is_floating_point() and bool(shadow.varies.any())

    def _written(self, value: Tensor, varies: Tensor) -> None:
        """Takes nothing for constant that shares memory with what varies of a written tensor."""
        for other, more in beside_in_memory(value, varies, list(self._known)):
            known = self._known[other]
            self._known[other] = Shadow(known.labels, known.varies | more)
