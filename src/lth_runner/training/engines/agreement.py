"""Whether networks packed into one answer, and learn, as each of them does alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lth_runner.problem.task import Task
from lth_runner.training.engines.compiled import Survivors, by_feature
from lth_runner.training.engines.packed_gaussian import Noise, pack_gaussians
from lth_runner.training.engines.packed_layers import (
    pack_networks,
    pack_networks_compiled,
    slice_of,
)
from lth_runner.values import state as states
from lth_runner.values.global_streams import torch_seeded
from lth_runner.values.seeds import stream

NUM = 5  # samples
SCALES = (1.0, 1e3, 1e-3)  # of the gradient: what bounds or rounds one shows itself at some
TRIES = 2  # samples of a kink, where rounding decides which way a gradient goes, are tried again


def disagreement(task: Task, *, sparse: bool = False) -> str | None:
    """Says how a packed network differs from its parts; None where it does not.

    Its outputs are compared, in training and in evaluation, and the gradients that its parameters
    get: what holds a layer still, or acts on a gradient, need not show in any output. ``sparse``:
    in compiled loops over survivors, of which there are all.
    """
    modules = [task.module(), task.module()]
    for seed, module in enumerate(modules):  # other weights in each: a mix-up must show
        states.write(module, task.init(seed))
    what = "a batch that lies feature by feature" if sparse else "a leading axis"
    # a packed network of draws is never evaluated: each of its parts is
    modes = (True, False) if task.laws is None else (True,)
    apart = _answers(modules, _inputs(task, 0), modes)
    try:
        copy.deepcopy(modules[0])  # as packing does
    except Exception as error:  # whatever a user's own part raises
        return f"it cannot be copied: {error}"
    try:
        packed = _Packed.of(task, modules) if sparse else _Packed.whole(task, modules)
        if not _all_near(packed.answers(_inputs(task, 0), modes), apart):
            return f"its forward pass does not take {what}"
        for scale in SCALES:
            if not any(_learn_alike(task, modules, packed, scale, seed) for seed in range(TRIES)):
                return f"its gradients are others where it takes {what}"
    except Exception:  # whatever a user's own forward raises where it meets another shape
        return f"its forward pass does not take {what}"
    return None


def _inputs(task: Task, number: int) -> Tensor:
    """Draws samples [2, samples, ...], others for each of the two networks."""
    num = min(NUM, task.data.num_train)
    pair = [task.data.sample(num, seed)[0] for seed in (2 * number, 2 * number + 1)]
    assert all(isinstance(inputs, Tensor) for inputs in pair)  # the objective has been asked
    return torch.stack(pair)  # type: ignore[arg-type]


@torch.no_grad()
def _answers(modules: Sequence[nn.Module], inputs: Tensor, modes: Sequence[bool]) -> list[Tensor]:
    """Gives what the networks answer by themselves, in training and in evaluation."""
    found = []
    for mode in modes:
        pairs = enumerate(zip(modules, inputs, strict=True))
        found.append(torch.stack([_answer(m.train(mode), x, seed) for seed, (m, x) in pairs]))
    return found


def _answer(module: nn.Module, inputs: Tensor, seed: int) -> Tensor:
    """Gives what a network answers, whose draws are those of a seed where it draws any."""
    with torch_seeded(seed):
        found: Tensor = module(inputs)
    return found


@dataclass(frozen=True, eq=False)
class _Packed:
    network: nn.Module
    kept: Mapping[str, Survivors]  # of layers in compiled loops
    noise: Noise

    @staticmethod
    def whole(task: Task, modules: Sequence[nn.Module]) -> _Packed:
        noise = Noise(len(modules))
        if task.laws is None:
            return _Packed(pack_networks(modules), {}, noise)
        return _Packed(pack_gaussians(modules, noise), {}, noise)

    @staticmethod
    @torch.no_grad()
    def of(task: Task, modules: Sequence[nn.Module]) -> _Packed:
        kept = {n: Survivors.of([m, m]) for n, m in task.dense().of_weights().items()}
        network = pack_networks_compiled(modules, kept)
        for name, survivors in kept.items():
            own = [module.get_parameter(name) for module in modules]
            network.get_parameter(name).copy_(survivors.gather(own))
        return _Packed(network, kept, Noise(len(modules)))

    def answer(self, inputs: Tensor) -> Tensor:
        num, shape = inputs.shape[1], inputs.shape[2:]
        if self.kept:
            features = torch.stack([by_feature(x) for x in inputs])
            inputs = features.transpose(1, 2).unflatten(2, shape)
        self.noise.seed(range(len(inputs)))
        found: Tensor = self.network(inputs)[:, :num]
        return found

    @torch.no_grad()
    def answers(self, inputs: Tensor, modes: Sequence[bool]) -> list[Tensor]:
        found = []
        for mode in modes:
            self.network.train(mode)
            found.append(self.answer(inputs))
        return found

    def gradient(self, name: str, index: int, like: Tensor) -> Tensor:
        """Gives one network's share of a parameter's gradient; zeros where there is none."""
        slab = self.network.get_parameter(name).grad
        if slab is None:
            return torch.zeros_like(like)
        if name not in self.kept:
            return slice_of(slab, index, like)
        whole = torch.zeros_like(like)
        self.kept[name].scatter(slab, index, whole)
        return whole


def _learn_alike(
    task: Task, modules: Sequence[nn.Module], packed: _Packed, scale: float, number: int
) -> bool:
    """Whether ``backward`` leaves every parameter the same gradient, packed or not."""
    inputs = _inputs(task, number)
    packed.network.train().zero_grad()
    together = packed.answer(inputs)
    slope = scale * torch.randn(together.shape, generator=stream(number, "agreement"))
    slope = slope.to(together)
    if together.requires_grad:
        together.backward(slope)
    for seed, (module, x, part) in enumerate(zip(modules, inputs, slope, strict=True)):
        module.train().zero_grad()
        alone = _answer(module, x, seed)
        if alone.requires_grad != together.requires_grad:
            return False
        if alone.requires_grad:
            alone.backward(part)
    pairs = [
        (packed.gradient(name, index, own), torch.zeros_like(own) if own.grad is None else own.grad)
        for index, module in enumerate(modules)
        for name, own in module.named_parameters()
    ]
    return all(_near(one.detach(), other, float(other.abs().max())) for one, other in pairs)


def _near(one: Tensor, other: Tensor, size: float) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-5 * size)


def _all_near(together: Sequence[Tensor], apart: Sequence[Tensor]) -> bool:
    return all(
        one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-5)
        for one, other in zip(together, apart, strict=True)
    )
