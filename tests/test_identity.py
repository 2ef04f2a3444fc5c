"""What a value is called: defaults, order, partial arguments, a user's own code."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass, field, make_dataclass

import numpy
import pytest
import torch
from torch import nn

from lth_runner.values import identity
from lth_runner.values.object_identity import describe_object
from lth_runner.values.steps import Duration


@dataclass(frozen=True)
class Part:
    size: int
    factor: float = 0.5
    names: tuple[str, ...] = ()
    options: dict[str, int] = field(default_factory=dict)
    speed: int = field(default=1, compare=False)


def make(width, depth=2, **rest):
    """A target that is only ever described: describing must not call it."""
    pytest.fail("describing called its target")


def test_what_equals_its_default_is_left_out():
    bare = identity.describe(Part(3))
    assert identity.describe(Part(3, 0.5, ())) == bare
    assert "factor" not in bare
    assert "names" not in bare
    assert identity.describe(Part(3, 0.25))["factor"] == 0.25


def test_a_default_made_by_a_factory_is_left_out_too():
    assert "options" not in identity.describe(Part(3))
    assert identity.describe(Part(3, options={"a": 1}))["options"] == {"a": 1}


def test_what_has_no_part_in_equality_has_none_in_the_identity():
    assert identity.describe(Part(3, speed=9)) == identity.describe(Part(3))


@pytest.mark.parametrize(
    "extra", [("new", int, field(default=1)), ("new", dict, field(default_factory=dict))]
)
def test_a_new_field_with_a_default_renames_nothing(extra):
    older = make_dataclass("Grown", [("size", int)], frozen=True)
    newer = make_dataclass("Grown", [("size", int), extra], frozen=True)
    older.__module__ = newer.__module__ = "lth_runner.grown"  # no source: one of ours
    assert identity.digest(identity.describe(newer(3))) == identity.digest(
        identity.describe(older(3))
    )


def test_a_mappings_order_is_irrelevant_and_a_lists_is_not():
    assert identity.describe({"a": 1, "b": [1, 2]}) == identity.describe({"b": (1, 2), "a": 1})
    assert list(identity.describe({"b": 1, "a": 2})) == ["a", "b"]
    assert identity.describe([1, 2]) != identity.describe([2, 1])
    assert identity.describe({2, 1}) == identity.describe({1, 2})


def test_a_factory_is_its_target_and_arguments_however_they_are_given():
    named = identity.describe(functools.partial(make, width=3))
    assert identity.describe(functools.partial(make, 3)) == named
    assert identity.describe(functools.partial(make, 3, 2)) == named
    assert identity.describe(functools.partial(make, 3, 4)) != named
    assert identity.describe(functools.partial(make, 3, other=1)) != named
    assert named[""] == "test_identity.make"


def test_every_argument_counts_whatever_it_is_called(tmp_path, monkeypatch):
    net = user_module(tmp_path, monkeypatch, "def net(source=None): ...\n")
    one, other = (identity.describe(functools.partial(net, source=s)) for s in ("a", "b"))
    assert one != other


def user_module(folder, monkeypatch, text, name="users_own"):
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return __import__(name).net


def test_a_users_edited_file_is_another_network(tmp_path, monkeypatch):
    before = identity.describe(user_module(tmp_path, monkeypatch, "def net(): ...\n"))
    after = identity.describe(user_module(tmp_path, monkeypatch, "def net(): return 1\n"))
    assert before.keys() == after.keys()
    assert before[""] == after[""] == "users_own.net"
    assert before != after


def test_networks_that_a_closure_tells_apart_are_not_called_the_same():
    def factory(activation):
        return lambda: nn.Sequential(nn.Linear(2, 2), activation())

    try:
        one, other = (identity.describe(factory(kind)) for kind in (nn.ReLU, nn.Tanh))
    except TypeError:
        return  # refused: a closure has no identity of its own
    assert one != other


@pytest.mark.parametrize("value", [object(), 1j, b"bytes", torch.zeros(1), nn.Linear(2, 2)])
def test_a_value_without_identity_is_refused(value):
    with pytest.raises(TypeError, match="has no identity"):
        identity.describe(value)


def test_numbers_are_told_apart_however_they_are_laid_out():
    table = torch.eye(3)
    held = [table, table * 2, table.to_sparse(), table.to_sparse() * 2]
    assert len({str(describe_object(one)) for one in held}) == len(held)
    assert describe_object(table.to_sparse()) == describe_object(torch.eye(3).to_sparse())
    assert describe_object(numpy.zeros(0)) != describe_object(numpy.zeros((0, 1)))


def test_digests_are_pinned():
    described = identity.describe(Duration.parse("12ep"))
    assert described == {"": "lth_runner.values.Duration", "amount": 12, "unit": "ep"}
    assert identity.canonical({"b": 1, "a": [None, True, 0.1]}) == '{"a":[null,true,0.1],"b":1}'
    assert identity.digest({}) == "44136fa355b3678a1146ad16f7e8649e"
    assert identity.digest(described) == "7e5463a10ec603784898f218bc1362ab"
    assert identity.digest(described, 12) == identity.digest(described)[:12]


def test_not_a_number_has_no_canonical_form():
    with pytest.raises(ValueError):
        identity.canonical(float("nan"))
