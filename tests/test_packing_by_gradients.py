"""What an engine would change of a network's learning is found before it is chosen."""

from __future__ import annotations

import functools
import threading

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import small
from lanes import jobs
from lanes import recipe as recorded_recipe
from lth_runner.masking import Static
from lth_runner.search.ticket import Ticket
from lth_runner.training.engines.carried import changed_by_training
from lth_runner.training.engines.choose import choose
from lth_runner.training.engines.cuda_graph_trial import tried
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.values.errors import UserError
from own_forward import Own
from recorder import recorded


class Three(nn.Sequential):
    """A perceptron that looks as if it could be packed; ``hide`` gives it something to carry."""

    def __init__(self):
        super().__init__(
            nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
        )
        self.hide()

    def hide(self):
        pass


class TensorHook(Three):
    def hide(self):
        self[3].weight.register_hook(lambda gradient: gradient * 0)


class AccumulatedHook(Three):
    def hide(self):
        def halve(parameter):
            parameter.grad *= 0.5

        self[3].weight.register_post_accumulate_grad_hook(halve)


NODES = []  # a node of the graph lives as long as somebody holds it


class NodeHook(Three):
    """Held by the graph alone: no attribute tells."""

    def hide(self):
        weight = self[3].weight
        node = weight.expand_as(weight).grad_fn.next_functions[0][0]
        node.register_prehook(lambda gradients: tuple(g * 0 for g in gradients))
        NODES.append(node)


class Uncopied(Three):
    def hide(self):
        self.lock = threading.Lock()


class BackwardHook(Three):
    def hide(self):
        self[4].register_full_backward_hook(lambda part, inputs, outputs: (inputs[0] * 0.5,))


class ForwardHook(Three):
    def hide(self):
        self[3].register_forward_hook(lambda part, inputs, output: output * 2)


class RootHook(Three):
    def hide(self):
        self.register_forward_pre_hook(lambda part, inputs: (inputs[0] * 2,))


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


class Parametrised(Three):
    def hide(self):
        parametrize.register_parametrization(self[3], "weight", Doubled())


class WeightNormed(Three):
    def hide(self):
        parametrizations.weight_norm(self[3])


class OwnForward(Three):
    def hide(self):
        layer, usual = self[3], self[3].forward
        layer.forward = lambda x: 2 * usual(x)


class Half(nn.ReLU):
    def forward(self, x):
        return super().forward(x) / 2


class OwnActivation(Three):
    def hide(self):
        self[2] = Half()


class OwnParameter(Three):
    def hide(self):
        class Named(nn.Parameter):
            pass

        self[3].weight = Named(self[3].weight.data)


class _Shortened(torch.autograd.Function):
    """The identity, whose gradient is cut to a norm of one: over all that it is shown."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient / gradient.norm().clamp(min=1.0)


class Shortened(Three):
    def forward(self, x):
        return self[5](self[4](self[3](_Shortened.apply(self[2](self[1](self[0](x)))))))


class ShortenedByHook(Three):
    def forward(self, x):
        hidden = self[2](self[1](self[0](x)))
        if hidden.requires_grad:
            hidden.register_hook(lambda gradient: gradient / gradient.norm().clamp(min=1.0))
        return self[5](self[4](self[3](hidden)))


class Counting(Three):
    def hide(self):
        self.count = 0

    def forward(self, x):
        self.count += 1
        return super().forward(x) * (1.0 if self.count < 4 else 0.5)


class Remembering(Three):
    def hide(self):
        self.seen = {"mean": [torch.zeros(())]}

    def forward(self, x):
        if self.training:
            self.seen["mean"][0] = 0.9 * self.seen["mean"][0] + x.mean()
        return super().forward(x) + self.seen["mean"][0]


CARRIES = {
    TensorHook: "its Linear carries hooks", AccumulatedHook: "its Linear carries hooks",
    BackwardHook: "its ReLU carries hooks", ForwardHook: "its Linear carries hooks",
    RootHook: "its RootHook carries hooks", Parametrised: "its ParametrizedLinear is parametrised",
    WeightNormed: "its ParametrizedLinear is parametrised",
    OwnForward: "its Linear has a forward pass of its own",
    OwnParameter: "its Linear has parameters of a class of their own",
    OwnActivation: "it has a Half layer", NodeHook: "its gradients are others",
    Uncopied: "it cannot be copied", Shortened: "its gradients are others",
    ShortenedByHook: "its gradients are others",
    Counting: "training changes its count", Remembering: "training changes its seen",
}  # fmt: skip


@pytest.mark.parametrize(("model", "reason"), CARRIES.items(), ids=lambda kind: str(kind)[:40])
def test_a_network_that_would_learn_otherwise_is_not_packed(model, reason):
    choice = choose(small.recipe(), small.task(model=model), Static())
    assert choice.name == "sequential"
    assert reason in choice.reason


class StraightThrough(torch.autograd.Function):
    """The sign, whose gradient is passed on: value by value."""

    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.clamp(-1, 1)


class Signs(Three):
    def forward(self, x):
        return self[5](StraightThrough.apply(self[3](self[2](self[1](self[0](x))))))


class Detached(Three):
    def forward(self, x):
        return self[5](self[4](self[3](self[2](self[1](self[0](x))).detach())))


class PartWithoutGradient(Three):
    def forward(self, x):
        with torch.no_grad():
            hidden = self[2](self[1](self[0](x)))
        return self[5](self[4](self[3](hidden)))


class Frozen(Three):
    def hide(self):
        self[3].requires_grad_(False)


class Unused(Three):
    def hide(self):
        self.spare = nn.Linear(8, 8)

    def forward(self, x):
        for part in list(self)[:6]:
            x = part(x)
        return x


PACKS = [Three, Signs, Detached, PartWithoutGradient, Frozen, Unused]


def trained(by, model, num=6):
    """The weights of two replicates after some steps of momentum and decay."""
    first = small.task(model=model)
    two = [
        Job(task, Ticket(task.dense(), task.init()), Static())
        for task in map(first.with_seed, (0, 1))
    ]
    if isinstance(by, Sequential):
        groups = [by.begin([job], small.recipe(), [None]) for job in two]
    else:
        groups = [by.begin(two, small.recipe(), [None, None])]
    for _ in range(num):
        for together in groups:
            together.advance()
    return [lane.weights() for together in groups for lane in together.lanes]


@pytest.mark.parametrize("engine", ["auto", "packed"])
@pytest.mark.parametrize("model", PACKS)
def test_a_network_that_is_packed_learns_as_it_does_alone(model, engine):
    recipe, task = small.recipe(engine=engine), small.task(model=model)
    choice = choose(recipe, task, Static())
    assert choice.name != "sequential"
    by, _ = choice.engine(recipe, task)
    for one, other in zip(trained(by, model), trained(Sequential(), model), strict=True):
        for name, value in one.items():
            assert torch.allclose(value, other[name], rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("engine", ["packed", "sparse"])
def test_an_engine_asked_for_that_would_learn_otherwise_is_refused(engine):
    with pytest.raises(UserError, match=f"cannot be {engine}: its gradients are others where it"):
        choose(small.recipe(engine=engine), small.task(model=NodeHook), Static())


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_hooks_on_all_modules_are_seen():
    handle = nn.modules.module.register_module_full_backward_hook(lambda *_: None)
    try:
        assert "hooks lie on all modules" in choose(small.recipe(), small.task(), Static()).reason
    finally:
        handle.remove()


def test_what_does_not_change_is_no_state():
    class Holding(Three):
        def hide(self):
            self.names, self.table, self.nothing = ["a"], {"b": torch.ones(2)}, float("nan")

    assert changed_by_training(small.task(model=Holding)) is None
    assert changed_by_training(small.task(model=small.convolutional)) is None


class HeldLater(Own):
    """Its gradient is let through in the first steps alone, which a record would do for ever."""

    def __init__(self):
        super().__init__(lambda net, inputs: 1.0)
        calls = []

        def hold(gradient):
            calls.append(None)
            return gradient * (len(calls) < 6)

        self.output.weight.register_hook(hold)


def test_a_record_is_compared_by_what_was_learned_too():
    [job] = jobs(1, HeldLater)
    found = tried(job.task, Static(), recorded_recipe(), recorded)
    assert found.obstacle == "its step, recorded and done again, learns something else"
    [job] = jobs(1, functools.partial(Own, lambda net, inputs: 1.0))
    assert tried(job.task, Static(), recorded_recipe(), recorded).obstacle is None
