"""Cutting dead channels, units and heads out of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from lth_runner.cutting.answers import (
    Answers,
    ask,
    ask_another,
    call,
    check_double,
    difference,
    tensors,
)
from lth_runner.cutting.cut import cut
from lth_runner.cutting.dead import Dead, find_dead
from lth_runner.cutting.double import Exact
from lth_runner.cutting.found import Found
from lth_runner.cutting.heads import Numbers, needed, tell, tries, untell
from lth_runner.cutting.parts import (
    beside,
    layers_of,
    num_parameters,
    parts_that_go,
    reasons,
    widths,
)
from lth_runner.cutting.plain import additions, check_mask, masked_copy, plain_copy
from lth_runner.cutting.recurrent import WHOLES
from lth_runner.cutting.rules import rule_of
from lth_runner.cutting.trace import Rule, Trace
from lth_runner.problem.answers import plain_attention
from lth_runner.values.errors import UserError
from lth_runner.values.listed import listed
from lth_runner.values.raised import first_line

UNSTEADY = (
    "the network cannot be shrunk: in evaluation it answers the same input differently each time, "
    "so nothing can be compared; switch off what is random in it, or what it keeps between calls"
)


@dataclass(frozen=True)
class Shrunk:
    """A network without its dead parts.

    ``widths``: layer -> outputs before and after, where they differ, and ``<module>.<number>`` for
    a number of heads or the like. ``num_parameters`` before and after. ``blocked``: layer -> why
    some of its dead outputs stay.
    """

    module: nn.Module
    widths: dict[str, tuple[int, int]]
    num_parameters: tuple[int, int]
    blocked: dict[str, str]


def shrink(
    module: nn.Module,
    mask: Mapping[str, Tensor],
    example: Any,
    *,
    seed: int = 0,
    copied: Callable[[], object] = lambda: None,
) -> Shrunk:
    """Cuts out of a masked network what is dead, and checks that it answers as before.

    Dead is a channel, unit or head that nobody hears, all weights that lead out of it being 0, and
    one that sends a constant, all weights that lead into it (or a norm's scale) being 0. What a
    constant sends moves into the next bias where that is the same everywhere. A convolution with
    zero padding sends less at the borders: there one of the constants stays, and its weights grow
    by those of the others, so that it sends what all have sent. A recurrent unit goes where no
    other hears it either, step by step, or where it is 0 at every step. Residual connections, batch
    norm, grouped and depthwise convolutions, concatenations, flattening, pixel shuffles and
    attention are followed. What LayerNorm or another mean is taken over stays, as do one unit of
    each layer and the heads of nn.MultiheadAttention, whose size is fixed.

    ``mask``: bool tensors by parameter name. ``example``: inputs as the network is called, a
    tensor, a tuple of them or a mapping of them by name; a batch of two will do. Its other sizes
    stand for those to come: over another length, constants that are summed have another sum, and a
    padded kernel may hear places that a short example has not. ``copied`` is called when a copy of
    the module is what is worked on from there. Networks are compared in evaluation: one that is in
    training has other constants. The given module is not changed. The new one is a plain module of
    its kind, without hooks and parametrisations, in training or evaluation as that was; where a
    layer without bias takes up a constant, it has one. A hook that only watches is left out (and
    watches a copy answer); one that changes what is answered is refused. A plain function that is
    hooked into the network as a whole stays.

    The answers to the example and to random inputs must agree to 1e-9 in float64, and to 1e-5 of
    the largest in the network's own precision (or to eight times the masked network's own error of
    rounding, where that is more). A part that does not stand this test, because a module of one's
    own counts on its size, stays whole and is named in ``blocked``. Whole numbers that modules of
    one's own keep, of heads for example, change where the network does not answer else.

    One run in float64 finds what goes together, by labels that pass through each operation of ATen
    as the values do. Torch-Pruning's dependency graph (Fang et al., CVPR 2023, arXiv:2301.12900)
    groups layers too, and finds the same groups in plain networks; but it knows no constants, which
    must move here, nor which inputs a layer hears, and it takes the reshapes of attention for
    elementwise operations.

    Raises UserError for a mask that does not fit, and for a network that answers at random, that
    fails on the example or in float64, or whose hooks change what it answers.
    """
    return Shrinking(module, mask, example, seed=seed, copied=copied).result()


@dataclass(frozen=True)
class _Attempt:
    """A network that was cut, None where it fails, and why; ``numbers`` that had to change."""

    module: nn.Module | None
    failure: str = ""
    numbers: Numbers = field(default_factory=dict)


class Shrinking:
    """One network being shrunk; what was found of it, and what of that went, is kept.

    ``seen`` is what of the found is gone by, ``spared`` says which dead classes stay all the same.
    """

    found: Found
    dead: Dead

    def __init__(
        self,
        module: nn.Module,
        mask: Mapping[str, Tensor],
        example: Any,
        *,
        seed: int = 0,
        copied: Callable[[], object] = lambda: None,
        seen: Callable[[Found], Found] = lambda found: found,
        spared: Callable[[Found, Dead], set[int]] = lambda found, dead: set(),
    ) -> None:
        check_mask(module, mask)
        self._module, self._mask, self._copied = module, mask, copied
        self._seen, self._spared = seen, spared
        self._inputs, self._seed = [example], seed

    def result(self) -> Shrunk:
        """Shrinks the network; raises as ``shrink`` does."""
        with self._failures_told():
            masked = self._copy()
            self._before = widths(masked), num_parameters(masked)
            self._expected = [ask(masked, self._inputs[0], {})]
            another, answers = ask_another(masked, self._inputs[0], self._seed)
            self._inputs.append(another)
            self._expected.append(answers)
            given = self._as_given()
            self.found = self._seen(self._traced(masked))
            for each in self._expected:
                check_double(each)
        self._refuse_others(given)
        self.dead = find_dead(self.found)
        self._staying = self._spared(self.found, self.dead)
        self.dead = find_dead(self.found, self._staying)
        blocked: dict[str, str] = {}
        done = self._attempt(masked, self.dead)
        if done.module is None:
            del masked
            blocked, self.dead = self._part_by_part(self.dead)
            done = self._attempt(self._copy(), self.dead)
        if done.module is None:
            raise UserError(f"the network cannot be shrunk: {done.failure} when nothing is cut")
        return self._told(done.module, done.numbers, blocked)

    @contextmanager
    def _failures_told(self) -> Iterator[None]:
        """Raises UserError where a network fails before anything is cut."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # of a forward that may be anyone's
            if self._is_unsteady():
                raise UserError(UNSTEADY) from error
            raise UserError(
                f"the network cannot be shrunk: on the example, or in float64, it fails: "
                f"{first_line(error)}"
            ) from error

    def _is_unsteady(self) -> bool:
        """Whether a network that fails answers the same twice before, in its own precision."""
        copy = self._copy()
        try:
            with plain_attention(), torch.no_grad():
                one, other = ([each.clone() for each in tensors(call(copy, self._inputs[0]))]
                              for _ in range(2))  # fmt: skip
        except Exception:  # of a forward that may be anyone's
            return False
        return not all(map(torch.equal, one, other))

    def _copy(self) -> nn.Module:
        copy = plain_copy(self._module, self._mask)
        self._copied()
        return copy

    def _as_given(self) -> list[list[Tensor]]:
        """Asks the network with its hooks and parametrisations, where it has some."""
        if not any(additions(self._module)):
            return []
        masked = masked_copy(self._module, self._mask)
        with plain_attention(), torch.no_grad():
            return [[each.clone() for each in tensors(call(masked, inputs))]
                    for inputs in self._inputs]  # fmt: skip

    def _refuse_others(self, given: list[list[Tensor]]) -> None:
        """Raises UserError where the network answers otherwise without what is hooked into it."""
        for asked, plain in zip(given, self._expected, strict=False):
            if difference(plain, Answers(asked, plain.double)):
                raise UserError(
                    "the network cannot be shrunk: it answers otherwise without the hooks of "
                    f"{listed(list(additions(self._module)))}: do in forward what they do, or "
                    "take them off"
                )

    def _traced(self, masked: nn.Module) -> Found:
        found, answers = traced(masked, self._inputs[0])
        if difference(self._expected[0], Answers(self._expected[0].own, answers)):
            raise UserError(UNSTEADY)
        return found

    def _attempt(self, masked: nn.Module, dead: Dead) -> _Attempt:
        """Cuts a masked network, compares it, and tells its modules of it where it fails else."""
        exact = cut(masked, self.found, dead)
        failure = self._failure(masked, exact)
        if not failure:
            return _Attempt(masked)
        for numbers in tries(masked, self.found, dead):
            tell(masked, numbers)
            if not self._failure(masked, exact):
                kept = needed(masked, numbers, lambda: not self._failure(masked, exact))
                return _Attempt(masked, numbers=kept)
            untell(masked, numbers)
        return _Attempt(None, failure)

    def _failure(self, module: nn.Module, exact: Mapping[str, Exact]) -> str:
        for inputs, expected in zip(self._inputs, self._expected, strict=True):
            try:
                given = ask(module, inputs, exact)
            except Exception as error:  # of a forward that may be anyone's
                return f"the smaller network fails: {first_line(error)}"
            if differs := difference(expected, given):
                return differs
        return ""

    def _part_by_part(self, dead: Dead) -> tuple[dict[str, str], Dead]:
        """Cuts one part more at a time, and leaves those whole with which it fails."""
        blocked: dict[str, str] = {}
        parts = list(parts_that_go(self.found, dead))
        for part in list(parts):
            parts.remove(part)
            tried = self._without(beside(self.found, dead, parts))
            failure = self._attempt(self._copy(), tried).failure
            if failure:
                parts.append(part)
                for layer in layers_of(self.found, list(part), dead):
                    blocked[layer] = f"stays whole, as otherwise {failure}"
        found = self._without(beside(self.found, dead, parts))
        still = {each: why for each, why in dead.why.items() if not found.gone[each]}
        return blocked, replace(found, why=still | found.why)

    def _without(self, fixed: set[int]) -> Dead:
        return find_dead(self.found, fixed | self._staying)

    def _told(self, shrunk: nn.Module, numbers: Numbers, blocked: dict[str, str]) -> Shrunk:
        (old, num), new = self._before, widths(shrunk)
        changed = {name: (old[name], new[name]) for name in old if old[name] != new[name]}
        training = {name: part.training for name, part in self._module.named_modules()}
        for name, part in shrunk.named_modules():
            part.training = training[name]
        return Shrunk(shrunk, changed | dict(numbers), (num, num_parameters(shrunk)),
                      reasons(self.found, self.dead) | blocked)  # fmt: skip


def traced(
    masked: nn.Module, example: Any, rules: Callable[[Any], Rule] = rule_of
) -> tuple[Found, list[Tensor]]:
    """Runs a plain network once, in evaluation, and finds what goes together; with its answers."""
    trace = Trace(masked, rules, WHOLES)
    with plain_attention(), trace.watching(tensors(example)):
        answers = tensors(call(masked, example))
    trace.answered(answers)
    return trace.found, answers
