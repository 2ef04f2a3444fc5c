"""How labels pass through recurrent layers and cells, as wholes.

What happens at one step is not followed: whether a unit speaks may show only after as many steps as
there are units, more than an example has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lth_runner.cutting.heard import Side, hear, met, or_none
from lth_runner.cutting.labels import Shadow, axes
from lth_runner.cutting.moves import padded
from lth_runner.cutting.trace import LayerRule, Trace, WholeRules

GATES = {nn.LSTM: 4, nn.LSTMCell: 4, nn.GRU: 3, nn.GRUCell: 3, nn.RNN: 1, nn.RNNCell: 1}
ENTERS = {4: 2, 3: 2, 1: 0}  # the gate without whose value a state of 0 stays 0


def layer_rule_of(part: nn.Module) -> LayerRule | None:
    """Finds the rule of a layer that is followed as a whole; one's own forward has none."""
    for kind in GATES:
        plain = isinstance(part, kind) and "forward" not in vars(part)
        if plain and type(part).forward is vars(kind)["forward"]:
            return _layer if isinstance(part, nn.RNNBase) else _cell
    return None


@dataclass(frozen=True)
class _Inputs:
    """What one direction of a layer is given: labels, which vary, values [inputs, places]."""

    slots: Tensor | None
    varies: Tensor
    values: Tensor


@dataclass(frozen=True)
class _Outputs:
    """What one direction of a layer has: its units, what of them it sends, and which vary."""

    units: Tensor
    units_vary: Tensor
    sent: Tensor
    varies: Tensor


@dataclass(frozen=True)
class _Direction:
    """The tensors of one direction of a layer, by their names within the module."""

    layer: str
    part: nn.Module
    end: str

    def tensor(self, kind: str) -> Tensor | None:
        value = getattr(self.part, f"{kind}{self.end}", None)
        return value if isinstance(value, Tensor) else None

    def weight(self, kind: str) -> Tensor:
        value = self.tensor(kind)
        assert value is not None
        return value

    def slots(self, trace: Trace, kind: str, axis: int) -> Tensor:
        """Labels one axis of a tensor, where it has slots."""
        value = self.weight(kind)
        name = trace.roots[id(value)]
        trace.shadow(value)
        return or_none(trace.found.axes[name][axis], value.shape[axis])


def _layer(
    trace: Trace, name: str, part: nn.Module, args: Sequence[Any], named: Mapping[str, Any],
    out: Any,
) -> None:  # fmt: skip
    assert isinstance(part, nn.RNNBase)
    given, first = _asked(args, named)
    data = given.data if isinstance(given, PackedSequence) else given
    inputs = _given(trace, name, data)
    ends = ("", "_reverse") if part.bidirectional else ("",)
    found: list[_Outputs] = []
    for layer in range(part.num_layers):
        own = []
        for end in ends:
            direction = _Direction(name, part, f"_l{layer}{end}")
            own.append(_follow(trace, direction, inputs, begins=first is None, moves=True))
        found += own
        flags = torch.cat([one.varies for one in own])
        slots = torch.cat([one.sent for one in own])
        inputs = _Inputs(slots, flags, flags.new_zeros((len(flags), 1), dtype=torch.float64))
    _first_states(trace, name, part, first, found)
    _sizes(trace, name, part, found)
    answer, states = out
    answer = answer.data if isinstance(answer, PackedSequence) else answer
    trace.know(answer, _last(answer, inputs.slots, inputs.varies))
    hidden = states if isinstance(states, Tensor) else states[0]
    trace.know(hidden, _stacked(hidden, [(one.sent, one.varies) for one in found]))
    if not isinstance(states, Tensor):
        cells = [(one.units, one.units_vary) for one in found]
        trace.know(states[1], _stacked(states[1], cells))


def _cell(
    trace: Trace, name: str, part: nn.Module, args: Sequence[Any], named: Mapping[str, Any],
    out: Any,
) -> None:  # fmt: skip
    """A cell is called step by step, by code of one's own: it may be given anything later."""
    data, first = _asked(args, named)
    direction = _Direction(name, part, "")
    inputs = _given(trace, name, data)
    found = _follow(trace, direction, inputs, begins=False, moves=False)
    for state in _states(first):
        _tie_state(trace, name, state, [found.units])
    for state in _states(out):
        trace.know(state, _last(state, found.units, found.varies))


def _asked(args: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, Any]:
    both = [*args, *(named[key] for key in ("input", "hx") if key in named), None]
    return both[0], both[1]


def _states(states: Any) -> list[Tensor]:
    return [] if states is None else [states] if isinstance(states, Tensor) else list(states)


def _given(trace: Trace, name: str, data: Tensor) -> _Inputs:
    shadow, last = trace.shadow(data), data.ndim - 1
    for label in shadow.labels:
        if last not in axes(label):
            trace.found.ties.lose(label, f"{name or 'the network'} passes over them")
    slots = trace.found.ties.vector(shadow.labels, last, "")
    flags = shadow.varies.expand(data.shape).reshape(-1, data.shape[-1]).any(0)
    return _Inputs(slots, flags.cpu(), data.reshape(-1, data.shape[-1]).T.cpu())


def _follow(
    trace: Trace, own: _Direction, inputs: _Inputs, *, begins: bool, moves: bool
) -> _Outputs:
    """Labels one direction, and remembers what its units hear: inputs, and one another.

    ``begins``: whether every unit begins with 0; a state that is given is not looked into.
    ``moves``: whether a constant input can move into the bias.
    """
    ties, found = trace.found.ties, trace.found
    where = own.layer or "the network"
    into, back = own.weight("weight_ih"), own.weight("weight_hh")
    projected = own.tensor("weight_hr")
    gates = GATES[next(kind for kind in GATES if isinstance(own.part, kind))]
    rows = own.slots(trace, "weight_ih", 0)
    units = rows[: len(into) // gates]
    ties.tie(rows.reshape(gates, -1), units[None])
    outputs = units.repeat(gates)  # a unit has one name in all its gates
    for kind in ("weight_hh", "bias_ih", "bias_hh"):
        if own.tensor(kind) is not None:
            ties.tie(own.slots(trace, kind, 0), rows)
    sent = units
    if projected is not None:
        ties.tie(own.slots(trace, "weight_hr", 1), units)
        sent = own.slots(trace, "weight_hr", 0)
    ties.tie(own.slots(trace, "weight_hh", 1), sent)
    columns = own.slots(trace, "weight_ih", 1)
    slots = met(trace, inputs.slots, columns, f"{where} has no such slots on the other side")
    side = Side.of(or_none(slots, into.shape[1]), inputs.varies, inputs.values)
    quiet = _stays_zero(own, gates, side)
    vary = ~quiet if begins else torch.ones_like(quiet)
    bias, weight = own.tensor("bias_ih"), trace.roots[id(into)]
    hear(trace, own.layer, side, outputs, into.cpu()[:, :, None],
         bias=trace.roots[id(bias)] if moves and bias is not None else None,
         obstacle="" if moves else "is called step by step",
         carried=weight if moves else None)  # fmt: skip
    found.uses[weight] = max(
        found.uses.get(weight, 0), sum(product.weight == weight for product in found.products)
    )
    sends = vary
    if projected is not None:
        sends = (projected.cpu() != 0)[:, vary].any(1)
        _hear_units(trace, own.layer, (units, vary), sent, projected)
    _hear_units(trace, own.layer, (sent, sends), outputs, back)
    return _Outputs(units, vary, sent, sends)


def _hear_units(
    trace: Trace, layer: str, sides: tuple[Tensor, Tensor], outputs: Tensor, weight: Tensor
) -> None:
    slots, varies = sides
    zeros = torch.zeros(len(slots), 1, dtype=torch.float64)
    hear(trace, layer, Side(slots, varies, zeros), outputs, weight.cpu()[:, :, None],
         bias=None)  # fmt: skip


def _stays_zero(own: _Direction, gates: int, side: Side) -> Tensor:
    """Finds the units that are 0 at every step if all begin with 0.

    What enters their state is 0 as long as that of all units is that they hear: the largest such
    set is what is left when others are taken away until nothing changes. Constant inputs count with
    their value, and so do both biases.
    """
    gate = ENTERS[gates]
    into, back = (own.weight(f"weight_{kind}").detach().cpu().double().chunk(gates)[gate]
                  for kind in ("ih", "hh"))  # fmt: skip
    biases = [own.tensor(kind) for kind in ("bias_ih", "bias_hh")]
    first, second = (
        into.new_zeros(len(into)) if value is None
        else value.detach().cpu().double().chunk(gates)[gate] for value in biases
    )  # fmt: skip
    uniform = side.uniform()
    first = first + into[:, uniform] @ side.values[uniform, 0].to(into)
    deaf = (into[:, ~uniform] == 0).all(1)
    if gates == 3:  # a GRU multiplies the second by what varies
        silent = deaf & (first == 0) & (second == 0)
    elif getattr(own.part, "nonlinearity", getattr(own.part, "mode", "")).lower().endswith("relu"):
        silent = deaf & (first + second <= 0)
    else:
        silent = deaf & (first + second == 0)
    projected = own.tensor("weight_hr")
    while True:
        sends = ~silent if projected is None else (projected.cpu() != 0)[:, ~silent].any(1)
        left = silent & (back[:, sends] == 0).all(1)
        if bool((left == silent).all()):
            return silent
        silent = left


def _first_states(
    trace: Trace, name: str, part: nn.RNNBase, first: Any, found: Sequence[_Outputs]
) -> None:
    states = _states(first)
    for state, slots in zip(states, ([one.sent for one in found], [one.units for one in found]),
                            strict=False):  # fmt: skip
        _tie_state(trace, name, state, slots)


def _tie_state(trace: Trace, name: str, state: Tensor, units: Sequence[Tensor]) -> None:
    """Has the units go with those of the state that they begin with, of each layer its own."""
    ties, last = trace.found.ties, state.ndim - 1
    tied = False
    for label in trace.shadow(state).labels:
        if last in axes(label) and axes(label) <= {0, last} and len(units) > 1:
            rows = label.reshape(label.shape[0], -1).expand(len(units), -1)
            ties.tie(rows, torch.stack(list(units)))
            tied = True
        elif last in axes(label):
            along = ties.tie_along(label, axes(label) - {last}).reshape(-1)
            for own in units:
                ties.tie(along, own)
            tied = True
        else:
            ties.lose(label, f"{name or 'the network'} passes over them")
    if not tied:
        why = f"{name or 'the network'} is given a first state of a size of its own"
        for own in units:
            ties.place(own, why)


def _sizes(trace: Trace, name: str, part: nn.RNNBase, found: Sequence[_Outputs]) -> None:
    """All layers and directions have as many units; more than they send, where they project."""
    if len(found) > 1:
        trace.found.halves.append((name or "the network", [one.units for one in found]))
    if part.proj_size:
        if len(found) > 1:
            trace.found.halves.append((name or "the network", [one.sent for one in found]))
        trace.found.wider += [(name or "the network", one.units, one.sent) for one in found]


def _last(value: Tensor, slots: Tensor | None, varies: Tensor) -> Shadow:
    """Makes what is known of a tensor whose last axis has these slots."""
    shape = [1] * (value.ndim - 1) + [-1]
    labels = [] if slots is None or len(slots) < 2 else [slots.reshape(shape)]
    return Shadow(labels, varies.to(value.device).reshape(shape).expand(value.shape))


def _stacked(value: Tensor, each: Sequence[tuple[Tensor, Tensor]]) -> Shadow:
    """Makes what is known of the last states [layers and directions, ..., units]."""
    shape = [len(each)] + [1] * (value.ndim - 2) + [-1]
    slots = torch.stack([slots for slots, _ in each]).reshape(shape)
    varies = torch.stack([varies for _, varies in each]).reshape(shape)
    labels = [slots] if slots.shape[-1] > 1 else []
    return Shadow(labels, varies.to(value.device).expand(value.shape), stacked=len(each) > 1)


WHOLES = WholeRules(
    layer_rule_of,
    MappingProxyType({
        "_pad_packed_sequence": (
            ("data", "batch_sizes", "batch_first", "padding_value", "total_length"), padded,
        ),
    }),
)  # fmt: skip
