"""What one pass through a network finds: what goes together, and what each layer hears."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from lth_runner.cutting.labels import Label, Ties


@dataclass(frozen=True)
class Product:
    """One product of inputs with weights: what each output hears, and what is constant.

    ``inputs`` and ``outputs`` are labels; ``nonzero`` [outputs, inputs] says which weights are not
    0; ``varies`` [inputs]. ``movable`` [inputs]: what is sent is 0, or is the same everywhere and
    can move into ``bias``. ``sent`` [outputs, constants] is what each of the inputs ``constants``
    adds to an output, None where the parameter ``weight`` [outputs, inputs, ...] says so with the
    ``values`` [inputs]. ``carried`` [inputs]: a constant that does not fit a bias, but another
    such input can send it too.
    """

    layer: str
    inputs: Tensor
    outputs: Tensor
    varies: Tensor
    nonzero: Tensor
    movable: Tensor
    constants: Tensor
    sent: Tensor | None
    bias: str | None
    carried: Tensor
    values: Tensor
    weight: str | None


@dataclass(frozen=True)
class Grouped:
    """A grouped convolution: labels of inputs [groups, inputs] and outputs [groups, outputs].

    ``transposed``: its weight is [inputs, outputs of a group, ...], not the other way about.
    """

    layer: str
    weight: str
    inputs: Tensor
    outputs: Tensor
    transposed: bool = False


@dataclass(frozen=True)
class Split:
    """An axis of labels that is seen as several, or the other way about, in one module."""

    module: str
    label: Label
    sizes: tuple[int, ...]
    merged: int


@dataclass
class Found:
    """What one pass has found; names stand for modules, parameters and buffers."""

    ties: Ties = field(default_factory=Ties)
    axes: dict[str, list[Tensor | None]] = field(default_factory=dict)  # labels per axis of a root
    products: list[Product] = field(default_factory=list)
    grouped: dict[str, Grouped] = field(default_factory=dict)
    norm_groups: dict[str, Tensor] = field(default_factory=dict)  # GroupNorm -> labels [groups]
    norm_channels: dict[str, Tensor] = field(default_factory=dict)  # of norms, where each is one
    halves: list[tuple[str, list[Tensor]]] = field(default_factory=list)  # equal numbers stay
    wider: list[tuple[str, Tensor, Tensor]] = field(default_factory=list)  # more stay of the first
    splits: list[Split] = field(default_factory=list)
    heads: list[Tensor] = field(default_factory=list)  # labels [.., places] of several heads
    uses: dict[str, int] = field(default_factory=dict)
