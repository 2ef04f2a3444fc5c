"""Values of a config are held against whatever annotations a part of one's own has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import pytest

from lth_runner.cli.signatures import check_targets
from lth_runner.values.errors import UserError


def called(
    implicit: int = None,  # noqa: RUF013 (as many write it)
    choice: Literal["a", "b"] = "a",
    number: Literal[1, 2] = 1,
    none_too: Literal["a", None] = "a",
    bare: list = (),
    mapping: dict = None,  # noqa: RUF013
    either: int | list[int] = 1,
    text: str | float = "a",
    many: list[int | str] = (),
    named: Literal["auto"] | float = 1.0,
    some: int | Sequence[int] | list = 1,
):
    """Takes one argument of each kind."""


class Made:
    def __new__(cls, size: int):
        return super().__new__(cls)


@dataclass
class Factories:
    sizes: list[int] = field(default_factory=list)


def documented(width, sizes, odd=0):
    """Takes what its annotations describe in words."""


documented.__annotations__ = {"width": "the number of units", "sizes": [int], "odd": "1 / 0"}


def listed(sizes):
    """Takes what its annotation shows."""


listed.__annotations__ = {"sizes": [int]}


def check(target, **keys):
    check_targets({"part": {"_target_": f"{__name__}.{target.__qualname__}", **keys}})


FITS = [
    {"implicit": None}, {"choice": "b"}, {"number": 2}, {"none_too": None}, {"bare": [1, "a"]},
    {"mapping": None}, {"mapping": {"a": 1}}, {"either": 3}, {"either": [3]}, {"text": 0.5},
    {"many": [1, "a"]}, {"either": "???"},
    {"named": "auto"}, {"named": 0.5}, {"some": ["a"]},
]  # fmt: skip


@pytest.mark.parametrize("keys", FITS, ids=str)
def test_a_value_that_fits_is_taken(keys):
    check(called, **keys)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"choice": "c"}, "part.choice='c': accepted: a, b"),
        ({"choice": None}, "part.choice=null must have a value"),
        ({"number": True}, "part.number=True: accepted: 1, 2"),
        ({"number": "1"}, "part.number='1': did you mean 1"),
        ({"none_too": "z"}, "part.none_too='z': accepted: None, a"),
        ({"bare": "abc"}, "part.bare='abc' must be a list"),
        ({"mapping": [1]}, "part.mapping=[1] must be a mapping"),
        ({"either": "x"}, "part.either='x' must be one of these: int, list[int]"),
        ({"either": [1.5]}, "part.either=[1.5] must be one of these: int, list[int]"),
        ({"text": [1]}, "part.text=[1] must be one of these: float, str"),
        ({"many": [[1]]}, "part.many[0]=[1] must be one of these: int, str"),
        ({"named": "never"}, "part.named='never' must be one of these: auto, float"),
        ({"some": 0.5}, "part.some=0.5 must be one of these: Sequence[int], int, list"),
        ({"implicit": "x"}, "part.implicit='x' must be a whole number"),
    ],
    ids=str,
)
def test_a_value_that_fits_nothing_is_refused_by_its_key(keys, told):
    with pytest.raises(UserError) as error:
        check(called, **keys)
    assert str(error.value).startswith(told)


@pytest.mark.parametrize(("kind", "keys"), [(Made, {"size": "x"}), (Factories, {"sizes": ["x"]})])
def test_what_makes_an_object_says_what_it_takes(kind, keys):
    with pytest.raises(UserError, match="must be a whole number"):
        check(kind, **keys)


def test_annotations_that_are_no_types_say_nothing():
    check(documented, width=3, sizes=[3])
    check(listed, sizes=[3])


def test_a_value_beside_which_another_is_named_is_told_by_that_ones_key():
    config = {"part": {"_target_": f"{__name__}.called", "implicit": "x"}}
    for name, at in (("${.own}", "part.own"), ("${..own}", "own"), ("${other.own}", "other.own")):
        written = {"part": {"implicit": name}}
        with pytest.raises(UserError, match=f"^{at}='x' must be a whole number"):
            check_targets(config, written)
