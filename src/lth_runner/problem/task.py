"""The problem as pure functions of the weights: a network, data, what is learned, and a seed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lth_runner.problem.answers import answered, drawn_in_a_step, figures
from lth_runner.problem.blueprint import Blueprint, build, hollowed
from lth_runner.problem.channels_last import (
    channels_last_weights,
    has_convolutions,
    lay_channels_last,
)
from lth_runner.problem.coordinates import (
    Coordinates,
    Probabilistic,
    constants,
    merged,
    stock_name,
)
from lth_runner.problem.covers import Covers
from lth_runner.problem.data import Dataset
from lth_runner.problem.data.dataset import dealt
from lth_runner.problem.evaluated import for_evaluation, for_gradient, num_at_once
from lth_runner.problem.functional import Functional
from lth_runner.problem.gaussian import is_rho
from lth_runner.problem.low_rank import is_of_a_pair, stock_mask
from lth_runner.problem.objective import CrossEntropy, Objective
from lth_runner.problem.origin import LeavesRemainders, Origin, Remainders
from lth_runner.problem.parameter_gradient import averaged_gradient, parameter_gradient
from lth_runner.problem.places import moved
from lth_runner.problem.sharing import Sharing
from lth_runner.values import identity, tree
from lth_runner.values import state as states
from lth_runner.values.global_streams import all_seeded
from lth_runner.values.mask import Mask
from lth_runner.values.ranks import Rank
from lth_runner.values.seeds import derive
from lth_runner.values.state import State
from lth_runner.values.tree import Batch, Tree

MANY = 2**20  # values of a network that is copied sooner than it is drawn
SOME = 1024  # samples by which the terms of a loss are counted


@dataclass(frozen=True, eq=False)
class Task:
    """The problem of one replicate: what is to be learned, from where, in which numbers.

    ``model`` builds the network, ``seed`` names its random streams. ``objective`` is the loss and
    what is measured; ``origin`` the weights to start from where that is no draw; ``coordinates``
    the numbers that are trained where these are not the weights; ``covers`` what a mask covers,
    and with ``biases`` those of layers with covered weights too. ``sharing``: other processes that
    take parts of sums over batches, where there are any.
    Scores, rewinding and probes see weights as values and never a live module:
    ``task.outputs(weights, inputs)`` is f(x; theta).
    """

    model: Callable[[], nn.Module]
    data: Dataset
    seed: int = 0
    device: torch.device | str = "cpu"
    biases: bool = False
    objective: Objective = field(default_factory=CrossEntropy)
    origin: Origin | None = None
    coordinates: Coordinates | None = None
    covers: Covers = field(default_factory=Covers)
    sharing: Sharing | None = None

    def with_seed(self, seed: int) -> Task:
        """Returns the same problem with other random streams: a replicate."""
        return replace(self, seed=seed)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the problem is, apart from its seed and the weights that a training starts from."""
        code = identity.sources(self._blueprint.classes)
        described = {"model": identity.describe(self.model), "data": self.data.fingerprint}
        described |= {"biases": True} if self.biases else {}
        for name, default in (
            ("objective", CrossEntropy()), ("coordinates", None), ("covers", Covers()),
        ):  # fmt: skip
            value = getattr(self, name)
            described |= {name: identity.describe(value)} if value != default else {}
        if self.coordinates is not None:  # what no State holds; the rest is in a ticket's weights
            described["constants"] = states.fingerprint(constants(self._template))
        if self.held is not None:
            described["held"] = self.held
        return described | ({"code": code} if code else {})

    @cached_property
    def _blueprint(self) -> Blueprint:
        return self._built(self._constants_seed).bare(self.model, self.device)

    @property
    def is_shipped(self) -> bool:
        """Whether all that builds and is the network comes with this program.

        Such a network draws all that it starts from out of torch's global stream, answers by what
        a State holds, and its arguments say what it is: tests hold it to that.
        """
        return self.held is None

    @property
    def held(self) -> str | None:
        """A hash of what the network holds besides its weights; None where it is shipped."""
        return self._blueprint.held

    @property
    def _template(self) -> nn.Module:
        return self._blueprint.module

    @property
    def _constants_seed(self) -> int | None:
        """The seed of the weights that coordinates turn into constants; None: there are none."""
        return self.seed if self.coordinates is not None else None

    def _built(self, seed: int | None, *, from_origin: bool = True) -> Blueprint:
        """Builds the network in its coordinates, drawn by a seed, and names what a mask covers."""
        with all_seeded(0 if seed is None else derive(seed, "init"), self.device):
            return build(
                self.model,
                self.origin if from_origin and seed is not None else None,
                self.coordinates,
                self.covers,
                self.objective,
                biases=self.biases,
            )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The tensors of a State of the network: parameters, and buffers that are kept."""
        return tuple(name for name, _ in states.named_tensors(self._template))

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Goes through the network's modules by their paths, to look at and not to run."""
        return self._template.named_modules()

    @property
    def prunable(self) -> tuple[str, ...]:
        """The parameters that a mask covers, in the network's order."""
        return self._blueprint.covered

    def kind(self, name: str) -> str | None:
        """Returns the kind of layer, as ``covers.types`` calls it, that a parameter is a weight of.

        None for other parameters: biases, norm scales, the matrices of a low-rank pair, tensors
        that belong to no known layer.
        """
        return None if is_of_a_pair(name) else self._blueprint.kinds.get(stock_name(name))

    @cached_property
    def passed_over(self) -> tuple[str, ...]:
        """Parameters of two axes or more that no mask covers."""
        named = self._template.named_parameters()
        return tuple(n for n, p in named if p.ndim > 1 and n not in self.prunable and not is_rho(n))

    @cached_property
    def num_parameters(self) -> int:
        """All values of the network that are no running statistics, a shared one once.

        A Gaussian weight is one, whatever tells how wide it is.
        """
        # what deltas are added to, and widths at the start: beside the weights, and no others
        beside = re.compile(r"(.*\.)?parametrizations\..*\.0\.(base|start)")
        buffers = dict(self._template.named_buffers())
        fixed = [name for name in self._blueprint.fixed if not beside.fullmatch(name)]
        still = sum(buffers[name].numel() for name in fixed)
        named = self._template.named_parameters()
        return still + sum(value.numel() for name, value in named if not is_rho(name))

    @cached_property
    def laws(self) -> Probabilistic | None:
        """The coordinates, where weights are drawn in them; None where weights are numbers."""
        return self.coordinates if isinstance(self.coordinates, Probabilistic) else None

    @cached_property
    def num_terms(self) -> float:
        """How many terms of all training samples the loss is the mean of: one each, mostly.

        By a sample of them, where texts are of different lengths.
        """
        num = min(SOME, self.data.num_train)
        _, targets = self.data.sample(num, 0)
        return self.objective.weight(targets) * self.data.num_train / num

    @property
    def norm(self) -> frozenset[str]:
        """Scales, shifts and running statistics of the normalisation layers."""
        return self._function.norm

    def init(self, seed: int | None = None) -> State:
        """Draws fresh weights by a seed and writes the origin's over them.

        The seed is the task's own where none is given.
        """
        return states.read(self._built(self.seed if seed is None else seed).module)

    @cached_property
    def remainders(self) -> Remainders:
        """What the origin leaves as it was drawn, and what it has besides, where it says so."""
        if isinstance(self.origin, LeavesRemainders):
            return self.origin.remainders(self._template)
        return Remainders((), ())

    def fresh(self, seed: int) -> State:
        """Draws weights of which nothing is the origin's: what a re-initialisation starts from."""
        return states.read(self._built(seed, from_origin=False).module)

    def module(self) -> nn.Module:
        """Makes a network on the task's device; its weights are to be written over."""
        many = self.is_shipped and self.num_parameters >= MANY
        copied = self._blueprint.copied() if many else None
        return moved(copied or self._built(self._constants_seed).module, self.device)

    def hollow(self) -> nn.Module:
        """Makes a network whose tensors take no memory: each of them is to be assigned anew."""
        copied = self._blueprint.copied(hollow=True) if self.is_shipped else None
        return hollowed(self._built(self._constants_seed).module) if copied is None else copied

    def merged(self, weights: State) -> State:
        """Computes the stock network's tensors, whatever the coordinates: for files, for others.

        Of Gaussian weights these are the means.
        """
        if self.coordinates is None:
            return weights
        module = self.module()
        states.write(module, weights)
        # buffers that the stock network makes itself: no State holds them
        unkept = constants(module).keys() - self._blueprint.fixed
        return {name: value for name, value in merged(module).items() if name not in unkept}

    def stock_names(self, mask: Mask) -> Mask:
        """Names a mask's tensors as the stock network does: where its weights may be others."""
        return stock_mask(self._template, mask)

    @cached_property
    def _full(self) -> Mask:
        parameters = dict(self._template.named_parameters())
        return Mask({n: torch.ones(parameters[n].shape, dtype=torch.bool) for n in self.prunable})

    def dense(self) -> Mask:
        """Returns the mask that keeps every prunable weight."""
        return self._full

    @cached_property
    def drawn_from(self) -> frozenset[str]:
        """Whose global streams a training step draws from: seen in a step, by no list."""
        batch = self.data.sample(min(2, self.data.num_train), 0)
        return drawn_in_a_step(self.module(), batch, self.objective, self.device)

    @property
    def is_random(self) -> bool:
        """Whether a training step draws random numbers."""
        return bool(self.drawn_from)

    @cached_property
    def answers_channels_last(self) -> bool:
        """Whether the network convolves images, and takes them channels-last too."""
        if not has_convolutions(self._template):
            return False
        if self.is_shipped:
            return True
        inputs, _ = self.data.sample(min(2, self.data.num_train), 0)
        trial = self.module().eval()  # of its own: nobody knows what a forward pass leaves behind
        return lay_channels_last(trial, inputs)

    def placed(self, weights: State) -> State:
        """Moves weights to the device, in the order that answers come from soonest."""
        found = {name: value.to(self.device) for name, value in weights.items()}
        if torch.device(self.device).type != "cpu" or not self.answers_channels_last:
            return found
        return channels_last_weights(self._template, found)

    def outputs(self, weights: State, inputs: Tree, *, batch_statistics: bool = False) -> Tensor:
        """Computes f(x; theta), normalised by running or by the batch's statistics."""
        drawing = batch_statistics and self.is_random  # a norm of one's own may, in training
        with all_seeded(0, self.device) if drawing else nullcontext():
            return self._function(weights, inputs, batch_statistics=batch_statistics)

    @cached_property
    def _function(self) -> Functional:
        return Functional(self._template)

    def loss(
        self,
        weights: State,
        batch: Batch,
        temperature: float = 1.0,
        *,
        batch_statistics: bool = False,
    ) -> Tensor:
        """Computes the objective's loss of f(x; theta) / temperature."""
        outputs = self.outputs(weights, batch[0], batch_statistics=batch_statistics)
        return self.objective.loss(outputs / temperature, batch[1])

    def batches(self, num: int, stream: int, size: int = 128) -> list[Batch]:
        """Draws ``num`` seeded batches of training samples, normalised and not augmented.

        All of one length: what is left over of few samples would have other statistics.
        """
        wanted = min(num * size, self.data.num_train)
        inputs, targets = self.data.sample(wanted, derive(self.seed, stream))
        pieces = list(zip(tree.split(inputs, size), tree.split(targets, size), strict=True))[:num]
        length = tree.length(pieces[0][1])
        return [piece for piece in pieces if tree.length(piece[1]) == length]

    def grad(self, weights: State, num_batches: int, *, batch_statistics: bool = False) -> State:
        """Averages the gradient of the loss over ``num_batches`` seeded batches, by parameter."""
        return averaged_gradient(
            lambda batch: self.gradient(weights, batch, batch_statistics=batch_statistics),
            self.batches(num_batches, 0),
            self.objective,
        )

    def gradient(self, weights: State, batch: Batch, *, batch_statistics: bool = False) -> State:
        """Computes the loss's gradient on one batch in every parameter, pruned ones too.

        A batch of tokens of which the layers would keep too much is taken in parts.
        """
        placed = {name: value.to(self.device).detach() for name, value in weights.items()}
        parameters = {n: placed[n].requires_grad_() for n, _ in self._template.named_parameters()}
        parts = [batch] if batch_statistics else for_gradient(self._template, batch)
        return parameter_gradient(
            lambda part: self.loss(placed, part, batch_statistics=batch_statistics),
            parameters,
            parts,
            self.objective,
        )

    def evaluated(self, split: str, size: int | None = None) -> Iterator[Batch]:
        """Goes through a split in order, in batches of which a network is best asked at once."""
        most = size or num_at_once(self._template, self.device)
        return for_evaluation(self._template, self.data.batches(split, most))

    def evaluated_by(self, rank: Rank, split: str) -> Iterator[list[Batch]]:
        """Goes through one rank's share of these batches: each rank has every ``num``th."""
        most = num_at_once(self._template, self.device)
        for batch in dealt(self.data, split, most, rank.number, rank.num):
            yield list(for_evaluation(self._template, [batch]))

    def evaluate(self, weights: State, split: str, size: int | None = None) -> dict[str, float]:
        """Measures the objective on a split, a figure by name; empty when the split is."""
        placed, batches = self.placed(weights), self.evaluated(split, size)
        with torch.no_grad():
            answers = answered(lambda inputs: self.outputs(placed, inputs), batches)
            return figures(answers, self.objective)
