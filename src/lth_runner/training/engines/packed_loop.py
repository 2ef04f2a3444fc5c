"""Training several networks as one, with each layer's products of all of them in one call."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lth_runner.problem.data import Data
from lth_runner.problem.gaussian import Gaussian, mu_of
from lth_runner.problem.objective import Separable, smoothed
from lth_runner.store.checkpoint import Checkpoint
from lth_runner.training.engines.compiled import (
    Survivors,
    WholeLinear,
    can_fuse_step,
    fused_step,
)
from lth_runner.training.engines.packed_batches import ByFeature, Stacked
from lth_runner.training.engines.packed_evaluation import Evaluation
from lth_runner.training.engines.packed_gaussian import Noise, divergences, pack_gaussians
from lth_runner.training.engines.packed_layers import (
    pack_networks,
    pack_networks_compiled,
    slice_of,
)
from lth_runner.training.engines.packed_parameter import PackedParameter
from lth_runner.training.job import Job
from lth_runner.training.loop import Loop
from lth_runner.training.network import autocast
from lth_runner.training.recipe import Recipe


class Pack:
    """Trainings in step, over one packed network and one optimizer.

    ``sparse`` names the weights of which only the survivors take part, in compiled loops as all
    other layers then; None: torch's batched products.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        recipe: Recipe,
        checkpoints: Sequence[Checkpoint | None],
        *,
        sparse: Sequence[str] | None,
    ) -> None:
        self._recipe = recipe
        objective = smoothed(jobs[0].task.objective, recipe.label_smoothing)
        assert isinstance(objective, Separable)
        self._objective = objective
        modules = [job.task.module() for job in jobs]
        kept = {n: Survivors.of([job.ticket.mask[n] for job in jobs]) for n in sparse or ()}
        compiled = sparse is not None
        self._laws, self._noise = jobs[0].task.laws, Noise(len(jobs))
        if isinstance(self._laws, Gaussian):
            self._noise = Noise(len(jobs), self._laws.prior_std)
            network = pack_gaussians(modules, self._noise)
        else:
            network = pack_networks_compiled(modules, kept) if compiled else pack_networks(modules)
        self._network = network.train()
        self.lanes = [
            Loop(job, recipe, checkpoint, model=module, num_lanes=len(jobs))
            for job, checkpoint, module in zip(jobs, checkpoints, modules, strict=True)
        ]
        # a mask that stands still is applied to the slabs, once for all lanes
        self._still = jobs[0].masking.still
        self._parameters = self._pack_parameters(modules, kept)
        self._optimizer = self._pack_optimizer()
        self._fused = self._fused_layers()
        apart = {id(packed.slab) for packed, _ in self._fused}
        rest = [packed for packed in self._parameters if id(packed.slab) not in apart]
        self._masked = [packed.slab.data for packed in rest if packed.factor is not None]
        self._factors = [packed.factor for packed in rest if packed.factor is not None]
        self._losses = torch.stack([lane.loss for lane in self.lanes])
        for lane, loss in zip(self.lanes, self._losses.unbind(), strict=True):
            lane.loss = loss  # a view: added to by all, read and reset by each
        self._cast = autocast(recipe, jobs[0].task.device)
        self._batch: Callable[[], tuple[Tensor, Tensor]] = Stacked(self.lanes)
        if compiled:
            data = jobs[0].task.data
            assert isinstance(data, Data)  # compiled loops are for nothing else
            self._batch = ByFeature(self.lanes, data, recipe.batch_size)
            self._up_to_date_at = -1
            self._evaluations: dict[str, tuple[int, list[dict[str, float]]]] = {}
            self._evaluate = Evaluation(self._network, data, jobs[0].task.objective, len(jobs))
            pack = weakref.ref(self)  # a lane that held it would keep both for long
            for index, lane in enumerate(self.lanes):
                lane.bring_up_to_date = partial(_bring_up_to_date, pack)
                lane.measure = partial(_measured, pack, index)

    def _pack_parameters(
        self, modules: Sequence[nn.Module], kept: dict[str, Survivors]
    ) -> list[PackedParameter]:
        """Names each parameter's tensors; slabs of survivors and masks of whole layers are made."""
        own = [dict(module.named_parameters()) for module in modules]
        found = []
        for name, slab in self._network.named_parameters():
            packed = PackedParameter(slab, tuple(lane[name] for lane in own), kept.get(name))
            if packed.survivors is not None:
                slab.data = packed.gather(packed.own)
            of = mu_of(name)  # a width goes with its mean
            masks = [lane.job.ticket.mask.get(of) for lane in self.lanes]
            # a full layer needs no product
            if (
                self._still
                and packed.survivors is None
                and not all(mask is None or bool(mask.all()) for mask in masks)
            ):
                factor = packed.gather([mask.to(slab) for mask in masks if mask is not None])
                packed = PackedParameter(slab, packed.own, None, factor)
            found.append(packed)
        return found

    def _pack_optimizer(self) -> Optimizer:
        """Makes one optimizer over the slabs, in the groups of a lane's, and with their state."""
        whole = {id(packed.own[0]): packed.slab for packed in self._parameters}
        groups = [
            {**group, "params": [whole[id(p)] for p in group["params"]]}
            for group in self.lanes[0].optimizer.param_groups
        ]
        optimizer = self._recipe.optimizer(groups)
        for packed in self._parameters:
            pairs = zip(self.lanes, packed.own, strict=True)
            found = [s for s in (lane.optimizer.state.get(own) for lane, own in pairs) if s]
            if found:
                optimizer.state[packed.slab] = {
                    key: packed.gather([state[key] for state in found])
                    if isinstance(value, Tensor) and value.shape == packed.own[0].shape
                    else copy.deepcopy(value)  # a counter, the same in all lanes
                    for key, value in found[0].items()
                }
            for state in found if packed.survivors else ():
                state.clear()  # of what is pruned nothing is kept
        self._share(optimizer)
        return optimizer

    def _fused_layers(self) -> list[tuple[PackedParameter, WholeLinear]]:
        """Finds the whole layers whose gradient nobody else sees, so that it can be fused."""
        alone = self._still and self._recipe.clip_norm is None and can_fuse_step(self._optimizer)
        layers = [m for m in self._network.modules() if isinstance(m, WholeLinear)] if alone else []
        by_slab = {id(packed.slab): packed for packed in self._parameters}
        for layer in layers:
            layer.fuses_step = layer.weight.requires_grad
        return [(by_slab[id(layer.weight)], layer) for layer in layers if layer.fuses_step]

    def _share(self, optimizer: Optimizer) -> None:
        """Shows each lane's optimizer its part of the packed state."""
        for packed in self._parameters:
            state = optimizer.state.get(packed.slab, {})
            for index, lane in enumerate(self.lanes if state else ()):
                packed.share_state(index, state, lane.optimizer.state[packed.own[index]])

    def advance(self) -> None:
        """Takes one step of every lane."""
        self.backward()
        self.update()

    def backward(self) -> None:
        """Computes the gradients of every lane's loss on its own batch of this step."""
        inputs, targets = self._batch()
        for packed in self._parameters:
            packed.slab.grad = None
        self._seed()
        with self._cast:
            outputs = self._network(inputs)[:, : self._recipe.batch_size].flatten(0, 1)
            terms = self._objective.terms(outputs, targets)
            loss = terms.view(len(self.lanes), -1).mean(1)
        self._losses += loss.detach()
        for lane in self.lanes:
            lane.num_losses += 1
        total = loss.sum()
        if isinstance(self._laws, Gaussian):
            num = self.lanes[0].job.task.num_terms
            total = total + divergences(self._network) * (self._laws.temperature / num)
        total.backward()
        for packed in () if self._still else self._parameters:
            if packed.slab.grad is not None:
                for index, view in enumerate(packed.own):
                    view.grad = slice_of(packed.slab.grad, index, view)

    def _seed(self) -> None:
        """Begins the noise of this step, each lane's as its own loop would."""
        if self._laws is not None:
            self._noise.seed([lane.seed_of_draws for lane in self.lanes])

    def update(self) -> None:
        """Takes one step of the optimizer and of every lane's mask; the clocks move on."""
        if self._still:
            self._clip()
            for lane in self.lanes:
                lane.set_rate()
        else:
            for lane in self.lanes:
                lane.before_step()
        own = self.lanes[0].optimizer.param_groups
        for group, first in zip(self._optimizer.param_groups, own, strict=True):
            group["lr"] = first["lr"]
        num_before = len(self._optimizer.state)
        self._step_fused()
        self._optimizer.step()
        if len(self._optimizer.state) > num_before:
            self._share(self._optimizer)
        if not self._still:
            for lane in self.lanes:
                lane.after_step()
            return
        if self._masked:
            torch._foreach_mul_(self._masked, self._factors)
        for lane in self.lanes:
            lane.step += 1

    def _step_fused(self) -> None:
        groups = {id(p): group for group in self._optimizer.param_groups for p in group["params"]}
        for packed, layer in self._fused:
            fused_step(layer, groups[id(packed.slab)], self._optimizer.state, packed.factor)

    @torch.no_grad()
    def _clip(self) -> None:
        """Bounds the norm of each lane's m * gradient."""
        if self._recipe.clip_norm is None:
            return
        moved = [(b, b.slab.grad) for b in self._parameters if b.slab.grad is not None]
        for packed, gradient in moved:
            if packed.factor is not None:
                gradient.mul_(packed.factor)
        for index in range(len(self.lanes)):
            parts = [gradient[index, : packed.size(index)] for packed, gradient in moved]
            total = nn.utils.get_total_norm(parts)
            scale = (self._recipe.clip_norm / (total + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(parts, scale)

    @torch.no_grad()
    def bring_up_to_date(self) -> None:
        """Brings the lanes' own networks and optimizers up to date with the survivors."""
        step = self.lanes[0].step
        if self._up_to_date_at == step:
            return
        for packed in self._parameters:
            if packed.survivors is not None:
                for index, own in enumerate(packed.own):
                    packed.survivors.scatter(packed.slab, index, own)
        self._share(self._optimizer)
        self._up_to_date_at = step

    def measured(self, lane: int, split: str) -> dict[str, float]:
        """Measures one lane by a pass of all lanes over the split, made once a step."""
        step = self.lanes[0].step
        if self._evaluations.get(split, (-1, []))[0] != step:
            self._evaluations[split] = step, self._evaluate(split)
        return self._evaluations[split][1][lane]


def _bring_up_to_date(pack: weakref.ref[Pack]) -> None:
    alive = pack()
    assert alive is not None, "the pack that trained this network is gone"
    alive.bring_up_to_date()


def _measured(pack: weakref.ref[Pack], lane: int, split: str) -> dict[str, float]:
    alive = pack()
    assert alive is not None, "the pack that trained this network is gone"
    return alive.measured(lane, split)
