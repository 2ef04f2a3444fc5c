"""The recipe that every network of a run is trained by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_type_hints

import torch
from torch import nn
from torch.optim import Optimizer

from lth_runner.training.learning_rate import Constant, LearningRate
from lth_runner.values.cublas import check_workspace, fix_workspace
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.steps import Clock, Duration, Growing, Step


@dataclass(frozen=True)
class Recipe:
    """Says how every network of a run is trained.

    ``length`` and all other durations are steps (it), epochs (ep) or shares of the length (%).
    ``optimizer`` takes parameter groups and makes an optimizer. ``decay``: weight decay acts on
    all parameters, or on the weights only and not on norm layers and biases. ``clip_norm``: the
    largest 2-norm of the gradient. ``micro_batch``: at most so many samples of a batch at once,
    whose gradients are added up to the whole batch's. ``recompute``: activations within the layers
    of a network of transformers are computed again for the gradient, and not kept. ``shrink_to``:
    the whole schedule, every duration in it, shrunk to so many steps. ``eval_every``: how often
    validation and test are measured, ever more rarely with ``100it+3%``; ``test_at``: test at each
    of these steps, or where validation loss is the lowest so far and at the end of training.
    ``snapshots``: steps of the dense training to keep beside those that rewinding asks for.
    ``engine``: train networks one by one, or up to ``max_packed`` as one, whole or over surviving
    weights alone, or side by side in one CUDA graph (auto: as pays); or one by one over all ranks
    that ``torchrun`` has started, each of which has the whole network (distributed) or a part of
    it (sharded), where ``sync_batch_norm`` normalises by the whole batch and not by each rank's
    part of it. ``cut_dead``: what a mask has cut off for good is left out of the computation.
    ``compile``: steps go through torch.compile.
    """

    length: Duration | str
    batch_size: int
    optimizer: Callable[..., Optimizer]
    learning_rate: LearningRate = field(default_factory=Constant)
    warmup: Duration | str = "0it"
    decay: Literal["all", "weights"] = "all"
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    micro_batch: int | None = None
    recompute: bool = False
    eval_every: Duration | Growing | str = "1ep"
    test_at: Literal["each", "lowest"] = "each"
    shrink_to: Duration | str | None = None
    deterministic: bool = False
    sync_batch_norm: bool = True
    cut_dead: bool = False
    compile: bool = False
    # these decide no result, or have a place of their own in its identity (the engine)
    engine: Literal[
        "auto", "sequential", "packed", "sparse", "graphed", "distributed", "sharded"
    ] = field(default="auto", compare=False)
    max_packed: int = field(default=16, compare=False)
    checkpoint_minutes: float = field(default=2.0, compare=False)
    snapshots: Sequence[Duration | str] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        for name in ("length", "warmup", "shrink_to"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Duration.parse(getattr(self, name)))
        every = Growing.parse(self.eval_every)
        object.__setattr__(self, "eval_every", every)
        snapshots = tuple(Duration.parse(snapshot) for snapshot in self.snapshots)
        object.__setattr__(self, "snapshots", snapshots)
        if not _is_whole(self.max_packed) or self.max_packed < 1:
            raise UserError(f"train.max_packed={self.max_packed!r} must be a whole number above 0")
        for name in ("decay", "precision", "test_at", "engine"):
            accepted = get_args(get_type_hints(type(self))[name])
            if getattr(self, name) not in accepted:
                value = getattr(self, name)
                raise UserError(f"train.{name}={value!r}; {nearest(str(value), accepted)}")
        most = self.micro_batch
        if most is not None and not (_is_whole(most) and 1 <= most <= self.batch_size):
            raise UserError(
                f"train.micro_batch={most!r}: give a whole number from 1 to train.batch_size="
                f"{self.batch_size}, or null for the whole batch at once"
            )
        if not self.checkpoint_minutes > 0:
            raise UserError(f"train.checkpoint_minutes={self.checkpoint_minutes} must be above 0")
        if (every.least if isinstance(every, Growing) else every).amount <= 0:
            raise UserError(f"train.eval_every={self.eval_every} must be above 0, 1ep for example")
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"train.label_smoothing={self.label_smoothing} is outside [0, 1)")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise UserError(f"train.clip_norm={self.clip_norm} must be above 0, or null for none")

    def clock(self, epoch: Step) -> Clock:
        """Makes the clock of a training on data with ``epoch`` steps an epoch."""
        shrink = None if self.shrink_to is None else Duration.parse(self.shrink_to)
        return Clock.of(Duration.parse(self.length), epoch, shrink)

    def check(self, clock: Clock, device: torch.device) -> None:
        """Raises UserError for what this machine, this clock or this optimizer cannot do."""
        if self.precision == "tf32" and device.type != "cuda":
            raise UserError("train.precision=tf32 needs a CUDA device: use fp32 or bf16 here")
        if self.precision == "fp16" and device.type != "cuda":
            raise UserError(
                f"train.precision=fp16 needs a CUDA device, and this run has device={device.type}: "
                "accepted here: fp32, bf16"
            )
        self.evaluation_steps(clock)
        self.snapshot_steps(clock)
        try:
            self.rate(0, clock)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"train.learning_rate: {error} (a schedule is chosen with "
                "train/learning_rate=cosine, a rate set with train.optimizer.lr=0.1)"
            ) from error
        self.check_optimizer()

    def check_optimizer(self) -> None:
        """Raises UserError for an optimizer that cannot be made, or that moves nothing."""
        try:
            made = self.make_optimizer([{"params": [nn.Parameter(torch.zeros(2, 2))]}])
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"train.optimizer: {error} (train.optimizer.lr and its other keys set that)"
            ) from error
        rates = [group.get("lr") for group in getattr(made, "param_groups", ())]
        if rates and all(rate == 0 for rate in rates):
            raise UserError("train.optimizer.lr=0 moves no weight: give a rate above 0")

    def snapshot_steps(self, clock: Clock) -> tuple[Step, ...]:
        """Lists the steps of ``snapshots``."""
        return tuple(clock.at(Duration.parse(s), "train.snapshots") for s in self.snapshots)

    def evaluation_steps(self, clock: Clock) -> Collection[Step]:
        """Lists the steps after which validation and test are measured, beside the last."""
        return clock.every(Growing.parse(self.eval_every), "train.eval_every")

    def rate(self, step: Step, clock: Clock) -> float:
        """Computes the factor on the learning rate at a step, warm-up included."""
        warmup = clock.at(Duration.parse(self.warmup), "train.warmup")
        ramp = min(1.0, (step + 1) / warmup) if warmup else 1.0
        return ramp * self.learning_rate(step, clock)

    def make_optimizer(
        self,
        groups: Iterable[dict[str, Any]],
        norm: Collection[nn.Parameter] = (),
        never: Collection[nn.Parameter] = (),
    ) -> Optimizer:
        """Makes the optimizer over a live mask's parameter groups, decay as ``decay`` says.

        ``norm``: the parameters of norm layers, which may have several axes. ``never``: those that
        no decay is meant for, the widths of Gaussian weights.
        """
        spared, kept = ({id(parameter) for parameter in some} for some in (norm, never))
        split: list[dict[str, Any]] = []
        for group in groups:
            whole = list(group["params"])
            parameters = [p for p in whole if id(p) not in kept]
            if apart := [p for p in whole if id(p) in kept]:
                split.append({**group, "weight_decay": 0.0, "params": apart})
            if not parameters and apart:
                continue
            if self.decay == "all" or "weight_decay" in group:
                split.append({**group, "params": parameters})
                continue
            for decayed, rest in ((True, {}), (False, {"weight_decay": 0.0})):
                chosen = [p for p in parameters if (p.ndim > 1 and id(p) not in spared) == decayed]
                if chosen:
                    split.append({**group, **rest, "params": chosen})
        return self.optimizer(split)

    @contextmanager
    def arithmetic(self, device: torch.device) -> Iterator[None]:
        """Sets the precision of fp32 matrix products and determinism, and puts them back.

        Where determinism is not asked for, CUDA tries its kernels.
        """
        if self.deterministic and device.type == "cuda":
            fix_workspace()  # for who does not come by lth-run
            check_workspace()
        before = torch.get_float32_matmul_precision()
        was_deterministic = torch.are_deterministic_algorithms_enabled()
        torch.set_float32_matmul_precision("high" if self.precision == "tf32" else "highest")
        convolutions = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = self.precision == "tf32"
        trying = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = device.type == "cuda" and not self.deterministic
        if self.deterministic and not was_deterministic:
            torch.use_deterministic_algorithms(True)  # noqa: FBT003 (torch's own signature)
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
            torch.backends.cudnn.allow_tf32 = convolutions
            torch.backends.cudnn.benchmark = trying
            if self.deterministic and not was_deterministic:
                torch.use_deterministic_algorithms(False)  # noqa: FBT003


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def comes_with_torch(optimizer: Optimizer) -> bool:
    """Whether an optimizer is one of torch's, which draw nothing and keep all in their state."""
    return type(optimizer).__module__.startswith("torch.")
