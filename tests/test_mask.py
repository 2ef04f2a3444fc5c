"""The mask as a value: exact products, algebra, overlap, packing, files."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lth_runner.values.mask import Mask

bits = st.lists(st.booleans(), min_size=1, max_size=40)


def mask(**kept):
    return Mask({name: torch.tensor(value, dtype=torch.bool) for name, value in kept.items()})


A = mask(w=[1, 1, 0, 0], v=[[1, 0], [0, 0]])
B = mask(w=[1, 0, 1, 0], v=[[1, 1], [0, 0]])


def test_counts_and_densities():
    assert (A.num_kept, A.num_prunable) == (3, 8)
    assert (A.density, A.sparsity) == (3 / 8, 5 / 8)
    assert A.layer_density() == {"w": 0.5, "v": 0.25}


def test_a_layers_density_is_as_exact_as_its_count():
    assert mask(w=[1, 0, 0]).layer_density()["w"] == 1 / 3


def test_pruned_weights_are_plain_zero_whatever_they_were():
    weights = {"w": torch.tensor([-1.0, -2.0, -3.0, math.nan]), "bias": torch.tensor([math.nan])}
    masked = mask(w=[1, 0, 0, 0])(weights)
    assert masked["w"].tolist() == [-1.0, 0.0, 0.0, 0.0]
    assert torch.signbit(masked["w"]).tolist() == [True, False, False, False]
    assert masked["bias"] is weights["bias"]
    assert weights["w"][:3].tolist() == [-1.0, -2.0, -3.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_kept_weights_keep_their_bits(dtype):
    weights = torch.tensor([-0.0, 1e-40, math.inf, 0.1], dtype=dtype)
    kept = mask(w=[1, 1, 1, 1])({"w": weights})["w"]
    assert kept.dtype == dtype
    assert torch.equal(kept.view(torch.uint8), weights.view(torch.uint8))


def test_a_mask_is_of_bools():
    with pytest.raises(TypeError, match=r"mask of w is torch\.float32"):
        Mask({"w": torch.ones(3)})


def test_a_mask_does_not_follow_the_tensor_it_was_made_from():
    kept = torch.tensor([True, True])
    made = Mask({"w": kept})
    kept[0] = False
    assert made.num_kept == 2


def test_algebra_by_hand():
    assert mask(w=[1, 0, 0, 0], v=[[1, 0], [0, 0]]) == (A & B)
    assert mask(w=[1, 1, 1, 0], v=[[1, 1], [0, 0]]) == (A | B)
    assert mask(w=[0, 0, 1, 1], v=[[0, 1], [1, 1]]) == ~A
    assert mask(w=[1, 1, 0, 0], v=[[1, 0], [0, 0]]) == A  # unchanged by all this


def test_overlap_by_hand():
    assert A.overlap(B) == 2 / 5
    assert A.overlap(A) == 1.0
    assert A.overlap(~A) == 0.0
    assert (A & ~A).overlap(A & ~A) == 1.0


def test_masks_of_other_tensors_do_not_combine():
    with pytest.raises(KeyError, match="v"):
        A & mask(w=[1, 1, 1, 1])


@settings(derandomize=True, deadline=None)
@given(bits, st.randoms(use_true_random=False))
def test_the_laws_of_sets_hold(kept, random):
    a, b = mask(w=kept), mask(w=[random.random() < 0.5 for _ in kept])
    assert ~~a == a
    assert ~(a & b) == ~a | ~b
    assert (a & b).num_kept + (a | b).num_kept == a.num_kept + b.num_kept
    assert a & b <= a <= a | b
    assert (a <= b) == (a & b == a)
    assert a.overlap(b) == b.overlap(a)


def test_nesting():
    assert A & B <= A
    assert not A <= B
    assert mask(w=[0]) <= mask(w=[1])


@settings(derandomize=True, deadline=None)
@given(st.lists(bits, min_size=1, max_size=3))
def test_packing_takes_a_bit_a_weight_and_loses_nothing(layers):
    made = mask(**{f"w{index}": kept for index, kept in enumerate(layers)})
    packed = made.packed()
    assert [len(value) for value in packed.values()] == [math.ceil(len(k) / 8) for k in layers]
    assert Mask.unpacked(packed, {name: kept.shape for name, kept in made.items()}) == made


def test_packing_keeps_the_order_and_shape_of_a_kernel():
    kernel = torch.arange(2 * 3 * 3 * 3).remainder(5).eq(0).view(2, 3, 3, 3)
    made = Mask({"conv": kernel})
    assert torch.equal(Mask.unpacked(made.packed(), {"conv": kernel.shape})["conv"], kernel)


def test_fingerprint_is_of_names_shapes_and_bits_alone():
    different = [
        A,
        ~A,
        mask(v=[1, 1, 0, 0], w=[[1, 0], [0, 0]]),  # names
        mask(w=[[1, 1], [0, 0]], v=[[1, 0], [0, 0]]),  # shape
        mask(w=[1, 1, 0, 0, 0], v=[[1, 0], [0, 0]]),  # padding bits
    ]
    assert len({made.fingerprint for made in different}) == len(different)
    assert len(set(different)) == len(different)
    assert mask(v=[[1, 0], [0, 0]], w=[1, 1, 0, 0]).fingerprint == A.fingerprint
    strided = Mask({"w": torch.tensor([1, 0, 1, 0, 0, 1, 0, 1], dtype=torch.bool)[::2]})
    assert strided == mask(w=[1, 1, 0, 0])


def test_fingerprint_is_pinned():
    bytes_hashed = b"v:(2, 2);\x80w:(4,);\xc0"
    assert A.fingerprint == hashlib.sha256(bytes_hashed).hexdigest()
    assert A.fingerprint.startswith("9f7dda9d84b3f7be")


def test_a_mask_comes_back_from_its_file(tmp_path):
    A.save(tmp_path / "mask.safetensors")
    assert Mask.load(tmp_path / "mask.safetensors") == A


def test_a_mask_is_read_from_a_whole_ticket(tmp_path):
    from lth_runner.values import state as states

    tensors = {"mask.mask.w": A["w"], "weights.mask.w": torch.zeros(4)}
    states.save(tmp_path / "ticket", tensors, {"seed": "0"})
    assert Mask.load(tmp_path / "ticket") == Mask({"mask.w": A["w"]})


def test_a_mask_takes_a_bit_a_weight() -> None:
    mask = Mask({"weight": torch.rand(64, 100) > 0.9})
    held = sum(bits.nbytes for bits in mask._bits.values())
    assert held == 64 * 100 // 8
