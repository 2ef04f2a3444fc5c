"""Where the next round starts, told key by key because published codes all differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from lth_runner.problem.coordinates import stock_name
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Past, Start
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.name_patterns import as_names, select
from lth_runner.values.seeds import derive
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Duration, Step

Rate = Callable[[Step, Clock], float]  # the factor on the learning rate at a step
Layers = Literal["first", "last", "early_half", "late_half", "all_but_first", "all_but_output"]
LARGEST_FACTOR = 1e4  # of learning rates: beyond, a slip of the pen
LEAST_RATE = 1e-4  # of the schedule's 1: below, fine-tuning stands still


@dataclass(frozen=True)
class Rewind:
    """Says which weights and clocks the next round starts with, from the rounds before.

    ``step`` k: how far back (Frankle et al., ICML 2020, arXiv 1912.05671; 0it is the original
    hypothesis). ``weights``: W_k of the dense training, the last round's trained weights, or a
    fresh draw. ``only``: patterns of the parameters that are rewound, the others keep their
    trained values; ``layers``: the same by a group that any network has, see ``layer_group``.
    ``bn``: normalisation scales, shifts and statistics go back too, or stay trained.
    ``optimizer``: fresh, or the state it had at k. ``lr_clock``: the schedule continues from k,
    starts over with the whole length, or stands at its final rate (fine-tuning). ``data_order``:
    the dense training's batches again, or new ones in each round. ``lr_factor``: tickets train at
    so many times the dense network's learning rate: sparse changes want a larger one.

    Learning-rate rewinding (Renda et al., ICLR 2020, arXiv 2003.02389) is weights=keep, bn=keep,
    lr_clock=rewind.
    """

    step: Duration | str = "0it"
    weights: Literal["rewind", "keep", "reinit"] = "rewind"
    only: Sequence[str] | None = ()
    layers: Layers | None = None
    bn: Literal["rewind", "keep"] = "rewind"
    optimizer: Literal["fresh", "restore"] = "fresh"
    lr_clock: Literal["rewind", "restart", "final"] = "rewind"
    data_order: Literal["rewind", "continue"] = "continue"
    lr_factor: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", Duration.parse(self.step))
        for name, hint in get_type_hints(type(self)).items():
            accepted, value = get_args(hint), getattr(self, name)
            if name == "layers":
                accepted = () if value is None else get_args(Layers)
            if accepted and name not in ("step", "only") and value not in accepted:
                raise UserError(f"rewind.{name}={value!r}; {nearest(str(value), accepted)}")
        factor = self.lr_factor
        if isinstance(factor, bool) or not 0 < factor <= LARGEST_FACTOR:
            raise UserError(
                f"rewind.lr_factor={factor}: give what the dense network's learning rate is to be "
                f"multiplied by for tickets, above 0 and at most {LARGEST_FACTOR:g}"
            )
        if self.only is None and self.layers is None:
            raise UserError(
                "rewind.only is not set: name what is rewound, by rewind.layers=early_half or by "
                "rewind.only=[output]"
            )
        object.__setattr__(self, "only", self.only or ())
        if self.only and self.layers:
            raise UserError(
                f"rewind.only={list(as_names(self.only))} and rewind.layers={self.layers} both "
                "name what is rewound: give one"
            )
        if self.weights != "rewind" and (self.only or self.layers):
            name = "only" if self.only else "layers"
            raise UserError(
                f"rewind.{name} names what is rewound: weights={self.weights} has no use"
            )
        if self.weights == "reinit":
            self._refuse_what_is_anothers()

    def _refuse_what_is_anothers(self) -> None:
        for name, value, own in (
            ("bn", self.bn, "rewind"), ("optimizer", self.optimizer, "fresh"),
        ):  # fmt: skip
            if value != own:
                raise UserError(
                    f"rewind.{name}={value} would join the state of a trained network to the fresh "
                    f"weights of rewind.weights=reinit: set rewind.{name}={own}"
                )

    @property
    def draws_anew(self) -> bool:
        return self.weights == "reinit"

    def at(self, clock: Clock) -> Step:
        """Finds the step k; raises UserError where it lies at or past the end of the training."""
        step = clock.at(Duration.parse(self.step), "rewind.step")
        if step == clock.total and self.lr_clock != "restart":
            raise UserError(
                f"rewind.step={self.step} is the end of training: nothing is left to train"
            )
        return step

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError for a step past the end and for patterns that match nothing.

        And where fine-tuning would stand still behind the learning rate's schedule.
        """
        self.at(clock)
        self.rewound(task)
        if self.lr_clock != "final":
            return
        # a step past the last one: the end that a cosine has, however long the training is
        last = rate(clock.total, clock)
        if last < LEAST_RATE:
            raise UserError(
                f"lr_clock=final trains at the last value of the schedule, which is {last:.3g} of "
                "train.optimizer.lr: (almost) nothing would be trained. Take "
                "train/learning_rate=multistep or constant, set train.learning_rate.final=0.01, "
                "or rewind the schedule (lr_clock=rewind)"
            )

    def rewound(self, task: Task) -> frozenset[str]:
        """Names the tensors that go back, normalisation apart, where the weights are rewound.

        Raises UserError for a pattern that matches nothing and a group that has no layer.
        """
        if self.layers:
            return layer_group(task, self.layers)
        names = task.names
        return select(self.only, names, "rewind.only") if self.only else frozenset(names)

    def refuse_what_is_trained(self, clock: Clock) -> None:
        """Raises UserError for what only a dense training would have."""
        trained = {
            "step": self.at(clock) > 0,
            "weights": self.weights == "keep",
            "only": bool(self.only),
            "layers": self.layers is not None,
            "bn": self.bn == "keep",
            "optimizer": self.optimizer == "restore",
            "lr_clock": self.lr_clock == "final",
        }
        if any(trained.values()):
            name = next(name for name, needed in trained.items() if needed)
            raise UserError(
                f"rewind.{name}={getattr(self, name)} needs the dense training, which "
                "pruner.dense=false leaves out: set pruner.dense=true, or rewind=init"
            )

    def without_dense(self, task: Task) -> tuple[State, Start]:
        """Gives the weights and the start of a first training: the task's own, or a fresh draw."""
        fresh = self.weights == "reinit"
        weights = task.fresh(derive(task.seed, "reinit", 0)) if fresh else task.init()
        return weights, Start(rate_factor=self.lr_factor)

    def __call__(self, task: Task, past: Past) -> tuple[State, Start]:
        """Gives the weights (not yet masked) and the start of the round after ``past``."""
        dense = past[0]
        step = self.at(dense.clock)
        start = Start(
            step=0 if self.lr_clock == "restart" else step,
            order=len(past) if self.data_order == "continue" else dense.ticket.start.order,
            final_rate=self.lr_clock == "final",
            rate_factor=self.lr_factor,
            optimizer=dense.optimizer_at(step) if self.optimizer == "restore" else {},
        )
        return self._weights(task, past, step) | self._bn(task, past, step), start

    def _weights(self, task: Task, past: Past, step: Step) -> State:
        if self.weights == "keep":
            return past[-1].weights
        if self.weights == "reinit":
            return task.fresh(derive(task.seed, "reinit", len(past)))
        early = past[0].at(step)
        if not self.only and not self.layers:
            return early
        return past[-1].weights | {name: early[name] for name in self.rewound(task)}

    def _bn(self, task: Task, past: Past, step: Step) -> State:
        if self.bn == "keep":
            source = past[-1].weights
        elif self.weights == "reinit":
            return {}  # the fresh draw brings its own
        else:
            source = past[0].at(step)
        return {name: source[name] for name in source if name in task.norm}


def layer_group(task: Task, group: Layers) -> frozenset[str]:
    """Names the tensors of a group of layers that any network has.

    Layers are the modules with a prunable weight, in the network's order; a tensor of any other
    module belongs to the layer before it, or to the first. first and last are one layer each;
    early_half is the first (L + 1) // 2 of L layers and late_half the rest; all_but_first and
    all_but_output leave the first and the last out. Raises UserError where a group is empty.
    """
    tensors: dict[str, list[str]] = {}
    for name in task.names:
        tensors.setdefault(stock_name(name).rpartition(".")[0], []).append(name)
    layers: list[list[str]] = [[]]
    prunable = set(task.dense().of_weights())
    for path, _ in task.named_modules():
        own = tensors.get(path, [])
        if prunable & set(own) and prunable & set(layers[-1]):
            layers.append([])
        layers[-1] += own
    half = (len(layers) + 1) // 2
    chosen = {
        "first": layers[:1],
        "last": layers[-1:],
        "early_half": layers[:half],
        "late_half": layers[half:],
        "all_but_first": layers[1:],
        "all_but_output": layers[:-1],
    }[group]
    if not chosen:
        raise UserError(f"layers={group} names none in a network of one layer: rewind it all")
    return frozenset(name for layer in chosen for name in layer)
