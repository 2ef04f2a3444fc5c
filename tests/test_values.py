"""Durations and clocks, random streams, states and their seals, patterns."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from torch import nn

from lth_runner.values import state as states
from lth_runner.values.errors import Damaged, UserError, nearest
from lth_runner.values.name_patterns import select, value_for
from lth_runner.values.raised import reason_of
from lth_runner.values.seeds import derive, stream
from lth_runner.values.steps import Clock, Duration, Growing


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("500it", 500, "it"),
        (" 12 ep ", 12, "ep"),
        ("2.5ep", 2.5, "ep"),
        ("10%", 10, "%"),
        ("1234567.25ep", 1234567.25, "ep"),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text, amount, unit):
    assert Duration.parse(text) == Duration(amount, unit)
    assert Duration.parse(str(Duration.parse(text))) == Duration(amount, unit)


@pytest.mark.parametrize("text", ["", "500", "it", "-1it", "1.5it", "1e3it", "5 epochs", "10 %%"])
def test_anything_else_is_no_duration(text):
    with pytest.raises(UserError, match=r"is not a duration.*500it.*12ep.*10%"):
        Duration.parse(text)


def test_durations_resolve_on_the_clock():
    clock = Clock.of(Duration.parse("4ep"), epoch=25)
    assert clock == Clock(epoch=25, total=100)
    at = {text: clock.at(Duration.parse(text), "k") for text in ("7it", "2ep", "0.5ep", "30%")}
    assert at == {"7it": 7, "2ep": 50, "0.5ep": 12, "30%": 30}
    assert clock.at(Duration.parse("4ep"), "k") == clock.total


def test_a_duration_past_the_end_names_its_key_and_the_end():
    clock = Clock.of(Duration.parse("4ep"), epoch=25)
    with pytest.raises(UserError, match=r"rewind\.step=101it is step 101.*0it to 100it"):
        clock.at(Duration.parse("101it"), "rewind.step")
    short = Clock.of(Duration.parse("4ep"), epoch=25, shrink_to=Duration.parse("20it"))
    with pytest.raises(UserError, match=r"20 steps, shrunk from 100 .*: choose 0it to 100it"):
        short.at(Duration.parse("200it"), "rewind.step")
    assert short.at(Duration.parse("100it"), "rewind.step") == 20


@pytest.mark.parametrize(
    ("length", "why"), [("0it", "at least one step"), ("50%", "share of what")]
)
def test_a_training_has_a_length_of_its_own(length, why):
    with pytest.raises(UserError, match=rf"train\.length={length}.*{why}"):
        Clock.of(Duration.parse(length), epoch=25)


def test_shrinking_scales_all_durations_alike():
    long = Clock.of(Duration.parse("40ep"), epoch=50)
    short = Clock.of(Duration.parse("40ep"), epoch=50, shrink_to=Duration.parse("200it"))
    assert (short.total, short.scale) == (200, 0.1)
    for text in ("0it", "500it", "10ep", "25%", "2000it", "40ep", "100%"):
        duration = Duration.parse(text)
        assert short.at(duration, "k") == long.at(duration, "k") // 10


def test_shrinking_to_more_than_the_length_changes_nothing():
    length = Duration.parse("4ep")
    assert Clock.of(length, 25, Duration.parse("200it")) == Clock.of(length, 25)


def test_derived_seeds_are_pinned():
    assert derive(0) == 3456079177858693020
    assert derive(0, "init") == 1519069808562059438
    assert derive(7, "data", 3) == 6975685844921256464


def test_derived_seeds_differ_by_seed_name_and_order():
    paths = [(s, *names) for s in range(20) for names in [(), ("a",), ("b",), ("a", 1), (1, "a")]]
    seeds = {derive(*path) for path in paths}
    assert len(seeds) == len(paths)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_stream_is_a_function_of_its_names_and_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    first, again = (torch.rand(5, generator=stream(3, "data", 1)) for _ in range(2))
    other = torch.rand(5, generator=stream(3, "data", 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.last = nn.Linear(3, 3, bias=False)
        self.last.weight = self.first.weight
        self.register_buffer("scratch", torch.zeros(2), persistent=False)


def test_a_shared_parameter_is_read_once_and_scratch_buffers_not_at_all():
    assert list(states.read(Tied())) == [
        "first.weight",
        "first.bias",
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
    ]


def test_read_copies_and_write_copies_back():
    module = Tied()
    state = states.read(module)
    other = {name: value + 1 for name, value in state.items()}
    states.write(module, other)
    assert states.fingerprint(states.read(module)) == states.fingerprint(other)
    assert states.fingerprint(state) != states.fingerprint(other)
    assert module.last.weight is module.first.weight


def test_write_refuses_tensors_of_other_names():
    module = nn.Linear(2, 2)
    with pytest.raises(KeyError, match="bias"):
        states.write(module, {"weight": torch.zeros(2, 2)})


def test_fingerprint_knows_names_types_shapes_and_bits_but_no_order():
    value = torch.zeros(2, 3)
    prints = [
        states.fingerprint(state)
        for state in (
            {"a": value},
            {"b": value},
            {"a": value.double()},
            {"a": value.view(3, 2)},
            {"a": -value},  # -0.0
            {},
        )
    ]
    assert len(set(prints)) == len(prints)
    one, two = torch.arange(6).view(2, 3), torch.ones(())
    assert states.fingerprint({"a": one, "b": two}) == states.fingerprint({"b": two, "a": one})
    assert states.fingerprint({"a": one.t()}) == states.fingerprint({"a": one.t().contiguous()})


STATE = {
    "w": torch.tensor([[0.5, -0.0], [float("nan"), 1e-40]]),
    "n": torch.tensor(7),
    "m": torch.tensor([True, False, True]),
    "empty": torch.zeros(0, 2),
}


def test_a_saved_state_comes_back_bit_for_bit(tmp_path):
    path = tmp_path / "state.safetensors"
    states.save(path, STATE, {"seed": "3"})
    loaded, metadata = states.load(path)
    assert states.fingerprint(loaded) == states.fingerprint(STATE)
    assert metadata == {"seed": "3"}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_parts_of_one_tensor_can_be_saved(tmp_path):
    parts = dict(zip("ab", torch.arange(6.0).split([2, 4]), strict=True))
    states.save(tmp_path / "parts", parts, {})
    assert states.fingerprint(states.load(tmp_path / "parts")[0]) == states.fingerprint(parts)


def test_a_file_that_is_not_there_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        states.load(tmp_path / "nothing")


def test_any_flipped_bit_and_any_truncation_is_damage(tmp_path):
    path = tmp_path / "tiny"
    states.save(path, {"w": torch.tensor([1.5]), "m": torch.tensor([True])}, {"seed": "3"})
    whole = path.read_bytes()
    for place in range(len(whole)):
        for flip in (1 << place % 8, 0xFF):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
            with pytest.raises(Damaged):
                states.load(path)
        path.write_bytes(whole[:place])
        with pytest.raises(Damaged):
            states.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(Damaged):
        states.load(path)


NAMES = ["conv1.weight", "conv2.weight", "output.weight", "output.bias"]


def test_a_pattern_picks_names_and_what_lies_under_them():
    assert select(["output"], NAMES, "k") == {"output.weight", "output.bias"}
    assert select(["conv*"], NAMES, "k") == {"conv1.weight", "conv2.weight"}
    assert select(["conv1", "*.bias"], NAMES, "k") == {"conv1.weight", "output.bias"}
    assert select([], NAMES, "k") == frozenset()


def test_a_pattern_that_matches_nothing_is_refused_with_the_nearest_names():
    with pytest.raises(UserError, match=r"pruner\.exclude: 'outptu' matches no tensor.*output"):
        select(["outptu"], NAMES, "pruner.exclude")


def test_an_error_that_says_nothing_is_told_by_its_type():
    assert reason_of(RuntimeError()) == "RuntimeError"
    assert reason_of(ValueError("\n first:\nsecond")) == "first"


def test_a_pattern_where_there_are_no_names_is_to_be_left_out():
    with pytest.raises(UserError, match=r"origin\.unused: 'head' .*there is none: leave it out"):
        select(["head"], [], "origin.unused")


def test_the_last_matching_pattern_gives_the_value():
    values = value_for({"*": 0.5, "conv*": 0.2, "conv2": 0.1}, NAMES, "k")
    assert values == {
        "conv1.weight": 0.2,
        "conv2.weight": 0.1,
        "output.weight": 0.5,
        "output.bias": 0.5,
    }


def test_nearest_names_or_all_of_them():
    assert nearest("globl", ["global", "layerwise"]) == (
        "did you mean global? (accepted: global, layerwise)"
    )
    assert nearest("k3", [f"key{n}" for n in range(9)]) == "did you mean key3?"
    assert nearest("xyz", ["b", "a"]) == "accepted: a, b"


def test_of_many_names_none_of_which_is_near_the_least_unlike_are_told() -> None:
    few, many = [f"abc{n}" for n in range(20)], [f"abc{n}" for n in range(2000)]
    assert nearest("zzz", few) == f"accepted: {', '.join(sorted(few))}"
    assert re.fullmatch(r"accepted: (abc\d+, ){7}abc\d+ and 1992 more", nearest("zzz", many))


def test_evaluations_grow_apart_with_the_steps_taken() -> None:
    clock = Clock.of(Duration.parse("5000it"), epoch=100)
    even = clock.every(Growing.parse("100it"), "k")
    grown = sorted(clock.every(Growing.parse("100it+10%"), "k"))
    assert list(even) == list(range(100, 5001, 100))
    assert grown[:10] == list(range(100, 1001, 100))
    assert all(later - step == max(100, step // 10) for step, later in itertools.pairwise(grown))
    assert len(grown) == 26
    assert str(Growing.parse("1ep+3%")) == "1ep+3%"


@pytest.mark.parametrize("text", ["100it+", "100it+3it", "100it+0%", "100it+101%", "+3%", "log"])
def test_a_distance_that_grows_by_no_share_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        Growing.parse(text)
