"""A module or a tensor under two names is one, to whatever looks at the network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import small
from lth_runner.control import Shuffle
from lth_runner.experiment import Experiment, run
from lth_runner.masking import Static
from lth_runner.problem.fits import check_fits
from lth_runner.problem.places import moved
from lth_runner.runs.record import Record
from lth_runner.score import Force, Grasp, Obd, Prospr, Snip, Synflow
from lth_runner.values import state as states
from lth_runner.values.errors import UserError


class Once(nn.Module):
    """Two layers, the first of them used twice, with its norm."""

    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(16, 8)
        self.first, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.tie()
        self.output = nn.Linear(8, 3)

    def tie(self):
        pass

    def again(self, x):
        return self.norm(self.first(x)).relu()

    def forward(self, x):
        hidden = self.norm(self.first(self.inp(x.flatten(1)).relu())).relu()
        return self.output(self.again(hidden))


class Twice(Once):
    """The same function: layer and norm have a second name each."""

    def tie(self):
        self.second, self.other_norm = self.first, self.norm

    def again(self, x):
        return self.other_norm(self.second(x)).relu()


class Tied(Once):
    """The same function: another layer and another norm share their tensors."""

    def tie(self):
        self.second, self.other_norm = nn.Linear(8, 8), nn.BatchNorm1d(8)
        for layer, other in ((self.second, self.first), (self.other_norm, self.norm)):
            for name in other._parameters:
                setattr(layer, name, getattr(other, name))
            for name in other._buffers:
                setattr(layer, name, getattr(other, name))

    def again(self, x):
        return self.other_norm(self.second(x)).relu()


KINDS = pytest.mark.parametrize("kind", [Twice, Tied])


def drawn(seed):
    """Weights for any of these networks: they have the same tensors."""
    return small.task(model=Once).init(seed)


@KINDS
def test_a_state_holds_a_tensor_of_two_names_once(kind):
    assert small.task(model=kind).names == small.task(model=Once).names


@KINDS
def test_no_call_leaves_the_callers_tensors_in_the_network(kind):
    task = small.task(model=kind)
    inputs = task.data.sample(5, 0)[0]
    kept = drawn(0)
    before = states.fingerprint(kept)
    for batch_statistics in (True, False):
        first = task.outputs(kept, inputs, batch_statistics=batch_statistics)
        task.evaluate(drawn(1), "test")
        again = task.outputs(kept, inputs, batch_statistics=batch_statistics)
        assert torch.equal(first, again)
    assert states.fingerprint(kept) == before
    held = [value for _, part in task.named_modules() for value in part._parameters.values()]
    assert {value.device.type for value in held} == {"meta"}


@KINDS
@pytest.mark.parametrize("batch_statistics", [False, True])
def test_a_network_with_two_names_answers_as_the_one_with_one(kind, batch_statistics):
    task, once = small.task(model=kind), small.task(model=Once)
    inputs = task.data.sample(5, 0)[0]
    kept = drawn(0)
    for value in (torch.float32, torch.float64):
        given = {n: w.to(value) if w.is_floating_point() else w for n, w in kept.items()}
        outputs = [
            one.outputs(given, inputs.to(value), batch_statistics=batch_statistics)
            for one in (task, once)
        ]
        assert torch.equal(*outputs)


def test_a_tensor_that_the_network_does_not_have_is_told():
    task = small.task(model=Twice)
    with pytest.raises(KeyError, match=r"second\.weight"):
        task.outputs(task.init() | {"second.weight": torch.zeros(8, 8)}, torch.zeros(2, 1, 4, 4))


@KINDS
@pytest.mark.parametrize(
    "score",
    [
        Synflow(), Obd(num_batches=1, batch_size=24), Snip(batch_size=24), Force(batch_size=24),
        Prospr(num_steps=2, batch_size=24), Grasp(samples_per_class=4),
    ],
    ids=lambda score: type(score).__name__,
)  # fmt: skip
def test_a_score_is_that_of_the_same_function_with_one_name(kind, score):
    found = []
    for model in (kind, Once):
        task = small.task(model=model)
        task.evaluate(drawn(1), "test")  # which once left its tensors behind
        found.append(score(task, drawn(0), task.dense()))
    one, other = found
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.allclose(value, other[name], rtol=1e-4, atol=1e-9), name


def test_a_shuffled_ticket_is_that_of_the_same_function_with_one_name(tmp_path):
    rows = []
    for model in (Once, Twice):
        trainer = small.trainer(tmp_path / model.__name__, recipe=small.recipe(length="12it"))
        experiment = Experiment(
            [small.task(model=model)], small.imp(rounds=2), Static(), {"shuffle": Shuffle()}, ()
        )
        written = []

        class Rows:
            def __getattr__(self, name, written=written):
                return lambda *given: written.append(given) if name == "round" else set()

        run(experiment, trainer, Record([Rows()]))
        rows.append(written)
    assert [len(written) for written in rows] == [5, 5]
    told = [
        [
            {k: v for k, v in row.items() if "seconds" not in k and k != "training_key"}
            | {"ended": states.fingerprint(ticket.masked)}
            for row, ticket, *_ in written
        ]
        for written in rows
    ]
    assert told[0] == told[1]


def test_buffers_that_two_modules_share_are_shared_after_a_move():
    module = moved(Tied(), torch.float64)
    assert module.other_norm.running_mean is module.norm.running_mean
    assert module.other_norm.running_mean.dtype == torch.float64


class OneMemory(Once):
    """Another layer whose weight is a parameter of its own over the first one's memory."""

    def tie(self):
        self.second = nn.Linear(8, 8)
        self.second.weight = nn.Parameter(self.first.weight.data)


class Columns(Once):
    """Two parameters that interleave in one memory and have no value in common."""

    def tie(self):
        whole = torch.randn(8, 16)
        self.first.weight = nn.Parameter(whole[:, :8])
        self.second = nn.Linear(8, 8)
        self.second.weight = nn.Parameter(whole[:, 8:])


class AsBuffer(Once):
    """A parameter that is registered as a buffer, too."""

    def tie(self):
        self.register_buffer("copy", self.first.weight)


@pytest.mark.parametrize(
    ("held", "kind"),
    [(torch.eye(4).to_sparse(), "sparse_coo"), (torch.zeros(2).to(torch.complex128), "complex128")],
)
def test_a_tensor_that_no_file_holds_is_refused_before_training(held, kind):
    def network():
        module = small.perceptron()
        module.register_buffer("held", held)
        return module

    with pytest.raises(UserError, match=rf"model's held is a tensor of torch\.{kind}"):
        check_fits(small.task(model=network))


def test_two_parameters_over_one_memory_are_refused_before_training():
    with pytest.raises(UserError, match=r"first\.weight and second\.weight are two tensors over"):
        check_fits(small.task(model=OneMemory))


@pytest.mark.parametrize("kind", [Twice, Tied, Columns, AsBuffer])
def test_tensors_that_share_no_value_or_are_one_are_let_through(kind):
    check_fits(small.task(model=kind))


def test_a_parameter_that_is_a_buffer_too_is_held_once():
    assert small.task(model=AsBuffer).names == small.task(model=Once).names
