"""Networks that write into parts of tensors are cut to equal answers, or a reason is given."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lth_runner.cutting import shrink
from lth_runner.values.errors import UserError
from test_shrink import check, columns, masked, rows, trained

EXAMPLE = torch.linspace(-1, 1, 24).reshape(4, 6)


class Written(nn.Module):
    """Writes what its first layer answers into four of eight places, by a way of its own."""

    def __init__(self, write):
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(6, 4), nn.Linear(8, 8), nn.Linear(8, 3)
        self.register_buffer("kept", torch.zeros(8, 8))
        self.write = write

    def forward(self, x):
        return self.last(F.relu(self.inner(self.write(self, x, self.first(x)))))


def into_slice(module, x, found):
    whole = torch.zeros(len(x), 8)
    whole[:, :4] = found
    return whole


def into_view(module, x, found):
    whole = torch.zeros(len(x), 8)
    whole.view(-1, 2, 4)[:, 1].add_(found)
    return whole


def at_indices(module, x, found):
    return torch.zeros(len(x), 8).index_add_(1, torch.tensor([0, 2, 4, 6]), found)


def as_out(module, x, found):
    whole = torch.zeros(len(x), 8)
    torch.mul(found, 2, out=whole[:, 2:6])
    return whole


def into_buffer(module, x, found):
    module.kept[: len(x), :4] = found
    return module.kept[: len(x)]


def into_narrowed_buffer(module, x, found):
    module.kept.narrow(0, 0, len(x))[:, :4] = found
    return module.kept[: len(x)]


WAYS = [into_slice, into_view, at_indices, as_out, into_buffer, into_narrowed_buffer]


@pytest.mark.parametrize("write", WAYS)
def test_what_is_written_into_a_part_of_a_tensor_is_no_constant(write):
    module = trained(Written(write))
    module.inner.bias.data[:] = -3.0  # silent behind the ReLU for inputs like the example
    module.inner.bias.data[0] = 1.0
    mask = {"first.weight": rows(module.first, 1)}
    found = check(module, mask, EXAMPLE)
    assert "first" in found.blocked
    with torch.no_grad():
        for given in (EXAMPLE, 30 * EXAMPLE, -30 * EXAMPLE):
            expected = masked(module, mask)(given)
            torch.testing.assert_close(found.module(given), expected, rtol=1e-4, atol=1e-4)


def by_numpy(module, x, found):
    return torch.from_numpy(2 * found.numpy()).repeat(1, 2)


def by_array(module, x, found):
    return torch.as_tensor(np.asarray(found)).repeat(1, 2)


def by_list(module, x, found):
    return torch.tensor(found.tolist()).repeat(1, 2)


def by_dlpack(module, x, found):
    return torch.from_dlpack(found).repeat(1, 2)


def by_number(module, x, found):
    return torch.full((len(x), 8), found.max().item())


@pytest.mark.parametrize("leave", [by_numpy, by_array, by_dlpack, by_list, by_number])
def test_what_has_left_torch_and_comes_back_is_no_constant(leave):
    module = trained(Written(leave))
    module.inner.bias.data[:] = -3.0  # silent behind the ReLU for inputs like the example
    mask = {"first.weight": rows(module.first, 1), "last.weight": columns(module.last, 0)}
    found = check(module, mask, EXAMPLE)
    assert "otherwise" not in found.blocked.get("first", "")  # kept as seen, and not as tried
    with torch.no_grad():
        for given in (30 * EXAMPLE, -30 * EXAMPLE):
            expected = masked(module, mask)(given)
            torch.testing.assert_close(found.module(given), expected, rtol=1e-4, atol=1e-4)


def test_a_number_that_only_says_which_way_to_go_keeps_nothing():
    def either(module, x, found):
        whole = F.pad(found, (0, 4)) if bool((x == x).all()) else found.repeat(1, 2)
        return torch.tanh(whole)

    module = trained(Written(either))
    found = check(module, {"inner.weight": rows(module.inner, 1, 2)}, EXAMPLE)
    assert found.widths == {"inner": (8, 6)}


class Moved(nn.Module):
    """Hands some of its channels on to the next step in time."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = torch.tanh(self.first(x))
        moved = torch.zeros_like(x)
        moved[:, 1:, :3], moved[:, :, 3:] = x[:, :-1, :3], x[:, :, 3:]
        return self.last(moved).mean(1)


def test_channels_stay_that_are_written_into_parts_and_are_told():
    module = trained(Moved())
    found = check(module, {"first.weight": rows(module.first, 4, 5)}, torch.randn(2, 5, 6))
    assert found.widths == {}
    assert found.blocked["first"].startswith("2 dead stay: ")


class Routed(nn.Module):
    """Sends each sample to one of its layers, which may get none."""

    def __init__(self):
        super().__init__()
        self.ways = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)) for _ in range(3)
        )

    def forward(self, x):
        way = (x[:, 0] > 0).long()
        return torch.cat([layer(x[way == number]) for number, layer in enumerate(self.ways)])


def test_of_layers_that_an_example_does_not_come_to_units_go_that_nobody_hears():
    module = trained(Routed())
    mask = {"ways.0.0.weight": rows(module.ways[0][0], 1)}
    mask["ways.2.2.weight"] = torch.arange(8).expand(3, 8) > 1
    found = check(module, mask, EXAMPLE.abs() + 0.1)
    assert found.widths == {"ways.2.0": (8, 6)}  # of a constant there is no value
    torch.testing.assert_close(found.module(-EXAMPLE), masked(module, mask)(-EXAMPLE))


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d, nn.BatchNorm2d])
def test_norms_without_weights_are_told_their_number_of_channels(norm):
    norm = norm(8, affine=False, track_running_stats=False)
    module = trained(nn.Sequential(nn.Conv2d(2, 8, 3), norm, nn.ReLU(), nn.Conv2d(8, 3, 3)))
    example = torch.randn(2, 2, 8, 8)
    found = check(module, {"0.weight": rows(module[0], 1, 6)}, example)
    assert found.module[1].num_features == found.module[0].out_channels == 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found.module(example)


class ByPrecision(nn.Module):
    def forward(self, x):
        return x if x.dtype == torch.float32 else 2 * x


def test_a_network_that_computes_something_else_in_float64_is_refused():
    module = trained(nn.Sequential(nn.Linear(6, 4), ByPrecision(), nn.Linear(4, 3)))
    with pytest.raises(UserError, match="in float64 it answers otherwise than in its own"):
        shrink(module, {"0.weight": rows(module[0], 1)}, EXAMPLE)
