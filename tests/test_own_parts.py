"""Parts of a user's own that are not what their place asks for: told before anything is trained."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy
import pytest
import torch
from torch import Tensor, nn

import small
from command import SMALL, folders, lth_run, parts_of, rows
from lth_runner.cli.messages import explain, explain_bug
from lth_runner.experiment import ROW
from lth_runner.probe.measured import measured
from lth_runner.search.ticket import Ticket
from lth_runner.search.untrained import Untrained
from lth_runner.store.checkpoint_file import load_checkpoint, save_checkpoint
from lth_runner.training.train import replay
from lth_runner.training.trainer import clock_of
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.global_streams import positions
from test_signatures import composed

CONF = Path(__file__).parents[1] / "conf"


class NoDataclass:
    """What measures and scores, and cannot be told from another."""

    def __call__(self, task, past, trained):
        return iter(())


@dataclass(frozen=True)
class NoCall:
    """What cannot be called."""


@dataclass(frozen=True)
class Holds:
    """A probe of which one field has no identity."""

    own: object = field(default_factory=object)

    def __call__(self, task, past, trained):
        return iter(())


@dataclass(frozen=True)
class Scores:
    """A score that gives what it is told to."""

    gives: str

    def __call__(self, task, weights, mask):
        return {
            "list": [1.0],
            "nothing": {},
            "another shape": {name: torch.ones(3) for name in mask},
            "complex": {name: torch.ones(kept.shape) * 1j for name, kept in mask.items()},
        }[self.gives]


@dataclass(frozen=True)
class Says:
    """A probe that says what it is told to, of the dense network or of others alone."""

    says: str
    late: bool = False

    def __call__(self, task, past, trained):
        if self.late and not past:
            return
        yield {
            "no pair": 3.0,
            "a tensor": ("norm", torch.ones(2)),
            "NaN for a name": (float("nan"), 1.0),
            "a taken name": ("density", 1.0),
            "a name twice": ("norm", 1.0),
            "a word": ("norm", "large"),
            "tensors in a list": ("norm", [torch.ones(())]),
            "all that it may": ("norm", {"a": float(len(trained.history))}),
        }[self.says]
        if self.says == "a name twice":
            yield "norm", 2.0
        if self.says == "all that it may":
            yield "numpy", numpy.float32(0.5)
            yield "curve", [float(next(trained.gradients(3))["output.weight"].norm())]
            yield (
                "again",
                float(trained.sibling(trained.ticket, "again").at(5)["output.bias"].sum()),
            )
            raised = trained.derived("x", lambda: {"x": torch.rand(1)})["x"]
            yield "drawn", float(raised)


@dataclass(frozen=True)
class NoPairs:
    """A probe that says nothing at all."""

    def __call__(self, task, past, trained):
        return None


@dataclass(frozen=True)
class Fails:
    """A probe that fails."""

    def __call__(self, task, past, trained):
        yield "norm", {}["weights"]


class Complex(nn.Module):
    """A network with a complex parameter."""

    def __init__(self, shape, num_classes):
        super().__init__()
        self.layer = nn.Linear(64, num_classes)
        self.turn = nn.Parameter(torch.ones(64, dtype=torch.complex64))

    def forward(self, images: Tensor) -> Tensor:
        return self.layer((images.flatten(1) * self.turn).abs())


class Untrainable(nn.Module):
    """A network that answers, and fails in training as it is told to."""

    def __init__(self, shape, num_classes, fails):
        super().__init__()
        self.layer, self.fails = nn.Linear(64, num_classes), fails

    def forward(self, images: Tensor) -> Tensor:
        answer = self.layer(images.flatten(1))
        if self.training and self.fails == "raises":
            raise KeyError("gate")
        return answer.detach() if self.fails == "cuts" else answer


class Keeps(torch.optim.SGD):
    """An optimizer that keeps something beside its state, as it is told to."""

    def __init__(self, params, lr, keeps):
        super().__init__(params, lr=lr)
        self.keeps = keeps
        if keeps == "generator":
            self.stream = torch.Generator()

    def step(self, closure=None):
        super().step()
        if self.keeps == "count":
            self.count = getattr(self, "count", 0) + 1
        if self.keeps == "group":
            self.param_groups[0]["k"] = self.param_groups[0].get("k", 0) + 1


def no_network(*, shape, num_classes):
    return 3


def raises(*, shape, num_classes):
    raise LookupError("no weights here")


def of(key: str, name: str, *more: str) -> list[str]:
    return [f"{key}._target_=test_own_parts.{name}", *more]


BARE = ["model=custom", "model.num_classes=10"]
MUON = ["train.optimizer._target_=torch.optim.Muon", "~train.optimizer.fused"]
PLAIN = [f"~train.optimizer.{key}" for key in ("fused", "momentum", "nesterov", "weight_decay")]
CASES = {
    "a probe that is no dataclass": (
        of("+probe.mine", "NoDataclass"),
        r"probe\.mine: <test_own_parts\.NoDataclass object> has no identity: use a dataclass",
    ),
    "a probe with a field that has none": (
        of("+probe.mine", "Holds"), r"probe\.mine: <object object> has no identity"
    ),
    "a probe that cannot be called": (
        of("+probe.mine", "NoCall"), r"probe\.mine: .*NoCall is no Probe, .* have __call__\(task"
    ),
    "a control that cannot be called": (
        of("+control.mine", "NoCall"), r"control\.mine: .*NoCall is no Control, .*__call__\(task"
    ),
    "a score that is no dataclass": (
        of("pruner.search.score", "NoDataclass"), r"pruner\.search\.score: .* has no identity"
    ),
    "a rewinding that is a mapping": (
        ["pruner.search.rewind={a: 1}"], r"pruner\.search\.rewind=\{'a': 1\} must be a part"
    ),
    "a score that cannot be called": (
        of("pruner.search.score", "NoCall"), r"pruner\.search\.score: .*NoCall is no Score"
    ),
    **{
        f"a score that gives {gives}": (
            of("pruner.search.score", "Scores", f"+pruner.search.score.gives={gives}"),
            rf"pruner\.search\.score: Scores gives {says}",
        )
        for gives, says in {
            "list": r"a list, not a mapping of linear1\.weight, .*to tensors",
            "nothing": r"no tensor of real numbers of shape \(\d+, 64\) for linear1\.weight",
            "another shape": r"no tensor of real numbers of shape",
            "complex": r"no tensor of real numbers of shape",
        }.items()
    },
    **{
        f"a probe that gives {says}": (
            of("+probe.mine", "Says", f"+probe.mine.says='{says}'", *late),
            rf"probe\.mine gives {told}",
        )
        for says, late, told in [
            ("no pair", [], r"a float: a probe yields pairs \(name, value\)"),
            ("a tensor", [], r"norm as a Tensor: .*float\(x\) of a tensor x"),
            ("a tensor", ["+probe.mine.late=true"], "norm as a Tensor"),
            ("NaN for a name", [], "a value under the name nan"),
            ("a taken name", [], "density, which the row has already: .* mine_density for example"),
            ("a name twice", [], "norm, which the row has already"),
            ("a word", [], "norm as a str"),
            ("tensors in a list", [], "norm as a list"),
        ]
    },
    "a probe that gives nothing": (
        of("+probe.mine", "NoPairs"), r"probe\.mine gives nothing: a probe yields"
    ),
    "a probe that fails": (
        of("+probe.mine", "Fails"),
        r"probe\.mine cannot measure a network, tried before any training: KeyError: 'weights'",
    ),
    "a masking that installs nothing": (
        of("pruner.masking", "NoCall"), r"pruner\.masking: .*NoCall is no Masking, which must have"
    ),
    "an objective without measures": (
        of("objective", "NoCall"), r"objective: .*NoCall is no Objective, .* have measures"
    ),
    "an origin that lays nothing": (
        ["origin={_target_:test_own_parts.NoCall}"], r"origin: .*is no Origin, .* lay\(module\)"
    ),
    "coordinates that install nothing": (
        ["coordinates={_target_:test_own_parts.NoCall}"], r"no Coordinates, .* install\(module\)"
    ),
    "complex parameters": (
        [*BARE, *of("model", "Complex")], r"parameter turn is of complex numbers.*two parameters"
    ),
    "a network that fails in training": (
        [*BARE, *of("model", "Untrainable", "+model.fails=raises")],
        r"cannot be trained by CrossEntropy on a batch of 2 .*: 'gate' \(KeyError\)",
    ),
    "a network that hands on no gradient": (
        [*BARE, *of("model", "Untrainable", "+model.fails=cuts")],
        r"cannot be trained by CrossEntropy .*does not require grad",
    ),
    "a model that is none": (
        [*BARE, *of("model", "no_network")],
        r"the model cannot be built: 'int'",
    ),
    "a model that raises": (
        [*BARE, *of("model", "raises")],
        r"the model cannot be built: no weights here \(LookupError\), at .*test_own_parts\.py:\d+",
    ),
    "an optimizer of matrices, and biases": (
        MUON, r"train\.optimizer cannot train this network: Muon only supports 2D"
    ),
    "an optimizer that asks for the loss again": (
        ["train.optimizer._target_=torch.optim.LBFGS", *PLAIN],
        r"train\.optimizer=LBFGS cannot take a step of this training: .*closure",
    ),
    **{
        f"an optimizer that keeps a {keeps} of its own": (
            [
                "train.optimizer._target_=test_own_parts.Keeps", *PLAIN,
                f"+train.optimizer.keeps={keeps}",
            ],
            rf"train\.optimizer=Keeps {told}",
        )
        for keeps, told in {
            "generator": r"has a generator of random numbers of its own \(stream\)",
            "count": r"changes count in a step, which no checkpoint holds: .*self\.state\[param",
            "group": r"changes param_groups\[0\]\['k'\] in a step, which no checkpoint holds",
        }.items()
    },
    "an optimizer that is none": (
        ["train.optimizer._target_=torch.nn.Identity"], r"Identity is no torch\.optim\.Optimizer"
    ),
}  # fmt: skip


class Counting(torch.optim.Optimizer):
    """Keeps Python's numbers in its state, beside a tensor."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(count=0, size=0.0, momentum_buffer=torch.zeros_like(p))
                state["count"] += 1
                state["size"] = 0.9 * state["size"] + 0.1 * float(p.grad.norm())
                state["momentum_buffer"].mul_(0.9).add_(p.grad)
                share = (1 - 0.99 ** state["count"]) / (1 + state["size"])
                p.add_(state["momentum_buffer"], alpha=-group["lr"] * share)


def test_an_optimizer_that_keeps_numbers_goes_on_from_a_file_bit_for_bit(tmp_path) -> None:
    job, how = small.dense_job(small.task()), small.recipe(optimizer=Counting)
    whole, path = replay(job, how, None, 20), tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, replay(job, how, None, 7))
    resumed = replay(job, how, load_checkpoint(path), 20)
    assert states.fingerprint(resumed.weights) == states.fingerprint(whole.weights)
    assert states.fingerprint(resumed.optimizer) == states.fingerprint(whole.optimizer)


@pytest.mark.parametrize(("words", "says"), CASES.values(), ids=CASES.keys())
def test_a_part_that_is_not_what_its_place_asks_for_is_told_by_its_key(words, says) -> None:
    with pytest.raises(UserError) as caught:
        parts_of(composed(*words))
    message = explain(caught.value, CONF)
    assert re.search(says, message, re.DOTALL), message
    assert " at 0x" not in message


def test_what_fails_in_a_users_own_code_is_not_called_a_bug_of_the_program() -> None:
    with pytest.raises(LookupError) as caught:
        raises(shape=[1], num_classes=2)
    message = explain_bug(caught.value)
    assert "test_own_parts.py" in message
    assert "in a part of your own" in message
    assert "bug" not in message


def test_a_probe_may_ask_untrained_networks_all_that_it_asks_of_trained_ones() -> None:
    before = positions()
    built = parts_of(composed(*of("+probe.mine", "Says", "+probe.mine.says='all that it may'")))
    assert positions() == before
    task, [*_, probe] = built.task, built.experiment.probes
    dense = Untrained(task, Ticket(task.dense(), task.init()), clock_of(task, built.recipe))
    found = measured(probe, task, [], dense, taken=ROW, told="it")
    assert found.keys() == {"norm", "numpy", "curve", "again", "drawn"}
    assert json.loads(json.dumps(found))["numpy"] == 0.5
    assert found["norm"] == {"a": 2.0}


def test_a_row_without_probes_has_the_names_that_probes_may_not_take(tmp_path: Path) -> None:
    said = lth_run(*SMALL, f"paths.outputs={tmp_path}")
    assert said.status == 0, said.err
    [folder] = folders(tmp_path)
    for row in rows(folder / "rounds.jsonl"):
        assert row.keys() >= ROW
        measures = row.keys() - ROW  # of probe.accuracy, which is always there
        assert all(name.startswith(("val_", "test_", "train_")) for name in measures)
