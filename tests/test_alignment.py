"""What is read from a file computes what was written to it, on processors where places matter."""

from __future__ import annotations

import json

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from lth_runner.values import state as states

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6)
DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float64, torch.bool])


@given(sizes=SIZES, dtype=DTYPES)
def test_tensors_of_any_size_are_read_to_where_torch_allocates_them(tmp_path_factory, sizes, dtype):
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    written = {f"w{n}": torch.arange(size).to(dtype) for n, size in enumerate(sizes)}
    written["weight"] = torch.randn(sizes[0], 16)
    states.save(path, written, {"says": "x" * sizes[-1]})
    found, said = states.load(path)
    assert said["says"] == "x" * sizes[-1]
    for name, value in load_file(path).items():  # the library reads it too
        assert torch.equal(found[name], written[name])
        assert torch.equal(value, written[name])
        assert found[name].data_ptr() % states.ALIGNMENT == 0


def test_a_layer_that_was_read_answers_with_the_bits_of_the_one_that_was_written(tmp_path):
    state = {"0.bias": torch.randn(33), "0.weight": torch.randn(33, 17), "odd": torch.ones(3)}
    states.save(tmp_path / "state.safetensors", state, {})
    read, _ = states.load(tmp_path / "state.safetensors")
    for num in (1, 3, 7, 60):
        inputs = torch.randn(num, 17)
        ours, theirs = (
            torch.nn.functional.linear(inputs, one["0.weight"], one["0.bias"])
            for one in (read, state)
        )
        assert torch.equal(ours, theirs)


def test_tensors_of_usual_sizes_are_mapped_and_not_copied(tmp_path):
    """What the file aligns takes no memory when it is read."""
    state = {"a.bias": torch.randn(10), "a.weight": torch.randn(64, 32), "b.weight": torch.ones(48)}
    states.save(tmp_path / "state.safetensors", state, {"says": "anything"})
    with (tmp_path / "state.safetensors").open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        places = json.loads(opened.read(length))
    for name in ("a.weight", "b.weight"):
        assert (8 + length + places[name]["data_offsets"][0]) % states.ALIGNMENT == 0
