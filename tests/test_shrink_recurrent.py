"""Units of recurrent layers that nobody hears, or that are 0 at every step, are cut out exactly."""

from __future__ import annotations

import copy
from unittest import mock

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

from lth_runner.cutting import shrink
from lth_runner.values.errors import UserError

KINDS = [nn.LSTM, nn.GRU, nn.RNN]
DEAD = [1, 4, 5]  # of 8
LENGTHS = torch.tensor([6, 3, 4])


class Reader(nn.Module):
    """A recurrent layer whose answers, or last states, a layer hears."""

    def __init__(self, kind, *, hears="answers", packed=False, **sizes):
        super().__init__()
        torch.manual_seed(0)
        self.memory = kind(3, 8, batch_first=True, **sizes)
        self.hears, self.packed = hears, packed
        width = sizes.get("proj_size", 8)
        ways = 2 if sizes.get("bidirectional") or hears == "all states" else 1
        self.head = nn.Linear(width * ways, 2)

    def forward(self, x, lengths=None):
        if self.packed:
            x = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        found, states = self.memory(x)
        if self.packed:
            found, _ = pad_packed_sequence(found, batch_first=True)
        last = states if isinstance(states, torch.Tensor) else states[0]
        if self.hears == "all states":
            return self.head(torch.cat([last[-2], last[-1]], 1))
        return self.head(found[:, -1])


def unheard(module, dead=DEAD, width=8):
    """Closes all ways out of some units of every layer and direction."""
    mask = {}
    for name, value in module.named_parameters():
        kept = torch.ones_like(value, dtype=torch.bool)
        heard = "weight_hh" in name or "weight_hr" in name or name == "head.weight"
        if heard or ("weight_ih" in name and "l0" not in name):
            kept.view(len(kept), -1, width)[:, :, dead] = False
        mask[name] = kept
    return mask


def masked(module, mask):
    copied = copy.deepcopy(module).eval()
    for name, value in copied.named_parameters():
        if name in mask:
            value.data.masked_fill_(~mask[name], 0)
    return copied


@torch.no_grad()
def assert_alike(module, mask, shrunk, *more):
    """Compares for shorter and longer sequences than the example's."""
    for time in (1, 2, 11):
        x = torch.randn(3, time, 3)
        before, after = (one.eval()(x, *more) for one in (masked(module, mask), shrunk))
        assert (before - after).abs().max() <= 1e-5 * before.abs().max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "sizes", [{}, {"bias": False, "num_layers": 2}, {"bidirectional": True}], ids=str
)
def test_units_that_nobody_hears_go(kind, sizes):
    module = Reader(kind, **sizes)
    mask = unheard(module)
    found = shrink(module, mask, torch.randn(3, 6, 3))
    assert found.widths == {"memory": (8, 5)}
    assert found.blocked == {}
    assert found.module.memory.weight_hh_l0.shape[1] == found.module.memory.hidden_size == 5
    assert_alike(module, mask, found.module)


def test_weights_that_are_cut_are_flattened_for_cudnn_at_the_next_call():
    flattened = []

    def noted(layer):
        flattened.append((layer.hidden_size, layer._flat_weights[1].shape[1]))

    module = Reader(nn.LSTM)
    with mock.patch.object(nn.LSTM, "flatten_parameters", noted):
        shrink(module, unheard(module), torch.randn(3, 6, 3))
    assert flattened[0] == (5, 5)  # by their new sizes


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_a_cut_network_on_a_cuda_device_answers_without_a_warning(recwarn):
    module = Reader(nn.LSTM).cuda()
    mask = {name: kept.cuda() for name, kept in unheard(module).items()}
    found = shrink(module, mask, torch.randn(3, 6, 3, device="cuda"))
    recwarn.clear()
    found.module(torch.randn(3, 6, 3, device="cuda"))
    assert [str(one.message) for one in recwarn] == []


def test_of_both_directions_as_many_go():
    module = Reader(nn.GRU, bidirectional=True)
    mask = unheard(module)
    mask["memory.weight_hh_l0_reverse"][:] = True
    mask["memory.weight_hh_l0_reverse"][:, 2] = False
    mask["head.weight"][:, 8:] = True
    mask["head.weight"][:, 8 + 2] = False
    found = shrink(module, mask, torch.randn(3, 6, 3))
    assert found.widths == {"memory": (8, 7)}
    assert found.blocked == {"memory": "2 dead stay: memory needs parts of equal size"}
    assert_alike(module, mask, found.module)


def test_last_states_of_layers_lose_units_each_of_its_own():
    module = Reader(nn.LSTM, hears="all states", num_layers=2)
    mask = unheard(module)
    mask["memory.weight_hh_l1"] = mask["memory.weight_hh_l1"].roll(1, 1)
    mask["head.weight"][:, 8:] = mask["head.weight"][:, 8:].roll(1, 1)
    found = shrink(module, mask, torch.randn(3, 6, 3))
    assert found.widths == {"memory": (8, 5)}
    assert_alike(module, mask, found.module)


def test_a_projection_stays_narrower_than_what_it_projects():
    module = Reader(nn.LSTM, proj_size=4)
    mask = {"memory.weight_hr_l0": torch.ones(4, 8, dtype=torch.bool)}
    mask["memory.weight_hr_l0"][:, 1:7] = False  # two units are left
    found = shrink(module, mask, torch.randn(3, 6, 3))
    assert found.widths == {"memory": (8, 5)}
    assert found.blocked == {
        "memory": "3 dead stay: memory needs more units than it projects them to"
    }
    assert_alike(module, mask, found.module)
    mask["head.weight"] = torch.tensor([True, False, True, False]).expand(2, 4)
    mask["memory.weight_hh_l0"] = mask["head.weight"][:1].expand(32, 4)
    found = shrink(module, mask, torch.randn(3, 6, 3))
    assert found.widths == {"memory": (8, 3), "memory.proj_size": (4, 2)}
    assert_alike(module, mask, found.module)


@pytest.mark.parametrize("kind", KINDS)
def test_units_that_are_0_at_every_step_go_and_others_with_a_bias_stay(kind):
    module = Reader(kind)
    mask = {}
    for name, value in module.memory.named_parameters():
        kept = torch.ones_like(value, dtype=torch.bool)
        kept.view(-1, 8, *value.shape[1:])[:, DEAD] = False  # nothing comes in
        mask[f"memory.{name}"] = kept
    found = shrink(module, mask, torch.randn(3, 6, 3))
    assert found.widths == {"memory": (8, 5)}
    assert_alike(module, mask, found.module)
    mask["memory.bias_ih_l0"][:] = True
    mask["memory.bias_hh_l0"][:] = True
    assert shrink(module, mask, torch.randn(3, 6, 3)).widths == {}  # they change step by step


def test_a_unit_that_hears_the_input_after_more_steps_than_the_example_has_stays():
    module = Reader(nn.RNN, bias=False)
    mask = {name: torch.zeros_like(value, dtype=torch.bool)
            for name, value in module.named_parameters() if "weight_" in name}  # fmt: skip
    mask["memory.weight_ih_l0"][0] = True
    for unit in range(5):  # a chain: each hears the one before
        mask["memory.weight_hh_l0"][unit + 1, unit] = True
    found = shrink(module, mask, torch.randn(3, 2, 3))
    assert found.widths == {"memory": (8, 6)}
    assert_alike(module, mask, found.module)


def test_packed_sequences_are_followed_and_taken_as_inputs():
    module = Reader(nn.LSTM, packed=True, bidirectional=True)
    mask = unheard(module)
    found = shrink(module, mask, (torch.randn(3, 6, 3), LENGTHS))
    assert found.widths == {"memory": (8, 5)}
    x, lengths = torch.randn(3, 9, 3), torch.tensor([2, 9, 5])
    before, after = masked(module, mask)(x, lengths), found.module(x, lengths)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


class Packed(nn.Module):
    """What it is given is packed, or is to be packed by lengths that fall."""

    def __init__(self):
        super().__init__()
        self.memory, self.head = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x, lengths=None):
        if lengths is not None:
            x = pack_padded_sequence(x, lengths, batch_first=True)
        return self.head(self.memory(x)[1][-1])


@pytest.mark.parametrize(
    "example",
    [
        pack_sequence([torch.randn(5, 3), torch.randn(2, 3)]),
        (torch.randn(2, 5, 3), torch.tensor([5, 2])),
    ],
    ids=["packed", "lengths that fall"],
)
def test_examples_that_no_random_numbers_can_replace_are_taken(example):
    module = Packed()
    assert shrink(module, unheard(module), example).widths == {"memory": (8, 5)}


class Translator(nn.Module):
    """One layer begins with the last state of another, and cells go on step by step."""

    def __init__(self, given):
        super().__init__()
        self.encoder, self.decoder = nn.LSTM(3, 8, batch_first=True), nn.LSTM(3, 8, 1)
        self.cell, self.head, self.given = nn.LSTMCell(8, 8), nn.Linear(8, 2), given

    def forward(self, x):
        _, states = self.encoder(x, self.given)
        found, _ = self.decoder(x.transpose(0, 1), states)
        state = None
        for step in found:
            state = self.cell(step, state)
        return self.head(state[0])


def test_a_state_that_is_handed_on_goes_with_the_units_that_begin_with_it():
    module = Translator(None)
    mask = unheard(module)
    mask["cell.weight_ih"][:, DEAD] = False
    found = shrink(module, mask, torch.randn(3, 6, 3))
    assert found.widths == {"encoder": (8, 5), "decoder": (8, 5), "cell": (8, 5)}
    assert_alike(module, mask, found.module)


class Largest(nn.Module):
    """Hears the largest answer in time, and has a layer that it never calls."""

    def __init__(self):
        super().__init__()
        self.memory, self.head = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 2)
        self.other = nn.LSTM(3, 8)

    def forward(self, x):
        return self.head(self.memory(x)[0].max(1).values)


def test_units_go_of_which_the_largest_in_time_is_taken_and_what_is_never_called_stays():
    module = Largest()
    mask = {name: kept for name, kept in unheard(module).items() if "other" not in name}
    found = shrink(module, mask, torch.randn(3, 6, 3))
    assert found.widths == {"memory": (8, 5)}
    assert_alike(module, mask, found.module)
    assert found.module.other(torch.randn(2, 1, 3))[0].shape == (2, 1, 8)


class Remembering(nn.Module):
    def __init__(self):
        super().__init__()
        self.memory, self.state = nn.LSTM(3, 8), None

    def forward(self, x):
        found, self.state = self.memory(x, self.state)
        return found


def test_a_network_that_remembers_what_it_was_asked_is_told_so():
    with pytest.raises(UserError, match="or what it keeps between calls"):
        shrink(Remembering(), {}, torch.randn(4, 1, 3))


def test_units_that_begin_with_a_state_of_ones_own_stay():
    module = Translator((torch.zeros(1, 3, 8), torch.zeros(1, 3, 8)))
    mask = unheard(module)
    mask["cell.weight_ih"][:, DEAD] = False
    found = shrink(module, mask, torch.randn(3, 6, 3))
    assert found.widths == {"cell": (8, 5)}
    why = "3 dead stay: encoder is given a first state of a size of its own"
    assert found.blocked == {"encoder": why, "decoder": why}


class Stepwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.cell = nn.Linear(3, 8), nn.GRUCell(8, 8)

    def forward(self, x):
        state = None
        for step in self.first(x).unbind(1):
            state = self.cell(step, state)
        return state


def test_a_constant_stays_before_a_cell_since_that_is_called_step_by_step():
    module = Stepwise()
    mask = {"first.weight": torch.ones(8, 3, dtype=torch.bool)}
    mask["first.weight"][:2] = False
    found = shrink(module, mask, torch.randn(3, 6, 3))
    why = "cell is called step by step, so their constant cannot move into its bias"
    assert found.widths == {}
    assert found.blocked == {"first": f"2 dead stay: {why}"}
