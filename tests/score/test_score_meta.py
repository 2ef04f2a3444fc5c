"""ProsPr against finite differences of the loss after some steps of plain SGD."""

from __future__ import annotations

import pytest
import torch
from score_cases import HAND, INPUTS, LABELS, NUM, by_hand, flat, half_mask, three_samples

from fake_past import data
from lth_runner.problem.task import Task
from lth_runner.score import Prospr, Snip
from lth_runner.score.examples import draw_batches
from lth_runner.values.errors import UserError

TASK = three_samples()
STEPS = {"num_steps": 3, "inner_lr": 0.4, "batch_size": NUM}


def trained(start, batches, *, lr=0.4, momentum=0.0):
    """The weights after a step of SGD on each batch, gradients by the chain rule."""
    weights = dict(start)
    pace = {n: torch.zeros_like(w) for n, w in start.items()}
    for inputs, labels in batches:
        slope = by_hand(weights, inputs, labels)
        pace = {n: momentum * pace[n] + slope[n] for n in weights}
        weights = {n: w - lr * pace[n] for n, w in weights.items()}
    return weights


def loss(weights, inputs, labels):
    hidden = (inputs @ weights["0.weight"].T).clamp(min=0)
    return torch.nn.functional.cross_entropy(hidden @ weights["2.weight"].T, labels)


def numerical(mask, batches, last, **options):
    """|d loss / dm| by central differences, m a real number for each weight."""
    found = {}
    for name, kept in mask.items():
        found[name] = torch.zeros(kept.shape, dtype=torch.float64)
        for index in range(kept.numel()):
            ends = []
            for step in (1e-6, -1e-6):
                real = {n: k.double() for n, k in mask.items()}
                real[name].view(-1)[index] += step
                ended = trained({n: HAND[n] * real[n] for n in HAND}, batches, **options)
                ends.append(loss(ended, *last))
            found[name].view(-1)[index] = ((ends[0] - ends[1]) / 2e-6).abs()
    return found


@pytest.mark.parametrize("mask", [TASK.dense(), half_mask()], ids=["dense", "half"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_prospr_is_the_change_of_the_later_loss_in_the_mask(mask, momentum):
    batch = (INPUTS, LABELS)
    expected = numerical(mask, [batch] * 3, batch, momentum=momentum)
    found = Prospr(**STEPS, inner_momentum=momentum)(TASK, HAND, mask)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


def test_new_data_give_each_step_and_the_last_loss_a_batch_of_their_own():
    batches = [(x.double(), y) for x, y in draw_batches(TASK, 3, 1)]
    expected = numerical(TASK.dense(), batches[:2], batches[2])
    score = Prospr(num_steps=2, inner_lr=0.4, batch_size=1, new_data_in_inner=True)
    torch.testing.assert_close(score(TASK, HAND, TASK.dense()), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("first_order", [False, True])
def test_without_steps_it_is_snip(first_order):
    score = Prospr(num_steps=0, batch_size=NUM, first_order=first_order)
    snip = Snip(batch_size=NUM, normalise=False)(TASK, HAND, TASK.dense())
    torch.testing.assert_close(score(TASK, HAND, TASK.dense()), snip, rtol=1e-12, atol=0)


def test_first_order_is_the_initial_weight_times_the_last_gradient():
    ended = trained(HAND, [(INPUTS, LABELS)] * 3)
    expected = {n: (HAND[n] * g).abs() for n, g in by_hand(ended).items()}
    first = Prospr(**STEPS, first_order=True)(TASK, HAND, TASK.dense())
    torch.testing.assert_close(first, expected, rtol=1e-12, atol=0)
    full = Prospr(**STEPS)(TASK, HAND, TASK.dense())
    assert not torch.allclose(flat(first), flat(full), rtol=0.05)


@pytest.mark.parametrize("mask", [TASK.dense(), half_mask()], ids=["dense", "half"])
def test_structured_prospr_is_the_change_of_the_later_loss_in_a_channels_one_mask(mask):
    batch, expected = (INPUTS, LABELS), torch.zeros(2, dtype=torch.float64)
    for channel in range(2):
        ends = []
        for step in (1e-6, -1e-6):
            start = mask(HAND)
            start["0.weight"] = start["0.weight"].clone()
            start["0.weight"][channel] *= 1 + step
            ends.append(loss(trained(start, [batch] * 3), *batch))
        expected[channel] = ((ends[0] - ends[1]) / 2e-6).abs()
    found = Prospr(**STEPS, structured=True)(TASK, HAND, mask)
    wanted = expected[:, None].expand(2, 2)
    torch.testing.assert_close(found["0.weight"], wanted, rtol=1e-5, atol=1e-8)
    assert found["2.weight"].min() > found["0.weight"].max()  # the classes stay


def authors(batch, *, steps, lr, momentum):
    """|dL/dm| as the authors' code has it: their first buffer is a detached copy."""
    masks = [torch.ones_like(w, requires_grad=True) for w in HAND.values()]
    now = [w * m for w, m in zip(HAND.values(), masks, strict=True)]
    buffers = [None] * len(now)

    def cost():
        return loss(dict(zip(HAND, now, strict=True)), *batch)

    for _ in range(steps):
        slopes = torch.autograd.grad(cost(), now, create_graph=True)
        for index, slope in enumerate(slopes):
            last = buffers[index]
            buffers[index] = slope.clone().detach() if last is None else last * momentum + slope
        now = [w - lr * buffer for w, buffer in zip(now, buffers, strict=True)]
    found = torch.autograd.grad(cost(), masks)
    return {name: value.abs() for name, value in zip(HAND, found, strict=True)}


def test_a_constant_first_buffer_is_the_authors():
    expected = authors((INPUTS, LABELS), steps=3, lr=0.4, momentum=0.9)
    options = {**STEPS, "inner_momentum": 0.9}
    found = Prospr(**options, first_buffer="constant")(TASK, HAND, TASK.dense())
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    ours = Prospr(**options)(TASK, HAND, TASK.dense())
    assert not torch.allclose(flat(found), flat(ours), rtol=0.05)


def test_without_momentum_there_is_no_buffer_to_cut_off():
    one, other = (
        Prospr(**STEPS, first_buffer=kind)(TASK, HAND, TASK.dense())
        for kind in ("constant", "derived")
    )
    assert torch.equal(flat(one), flat(other))


def test_channels_of_one_layer_are_refused_as_there_is_none_but_the_last():
    task = Task(lambda: torch.nn.Linear(6, 3), data())
    with pytest.raises(UserError, match="weight is the only one that is pruned: take structured"):
        Prospr(batch_size=8, structured=True).check(task)
