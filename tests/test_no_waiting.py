"""What a masking does in a step asks the device nothing, but where connections are moved."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import small
from lth_runner import masking
from lth_runner.allocate import Channels, Global, LayerWise, NOfM
from lth_runner.masking import (
    Compact,
    Continuous,
    EarlyBirdStop,
    EdgePopup,
    GemMiner,
    Gradual,
    MultiPrize,
    Rigl,
    ScalePenalty,
    Set,
    SrSte,
    Static,
    StraightThrough,
    Supermask,
    Updates,
    edge_popup,
)
from lth_runner.schedule import Iterations
from lth_runner.search.ticket import Ticket
from lth_runner.training.job import Job
from lth_runner.training.loop import Loop
from lth_runner.values import state as states
from lth_runner.values.steps import Step

TOTAL = 20
HALF = Iterations(0.5)
OFTEN = Updates(every="4it")
NEVER = TOTAL
# each with the step in which the host chooses a mask, where that is not in every one
RULES = [
    (Compact(), NEVER),
    (Continuous(), NEVER),
    (EarlyBirdStop(Channels(), HALF, every="4it", window=2), 3),
    (EdgePopup(LayerWise(), HALF, scale_fan=True), NEVER),
    (GemMiner(Global(), Iterations(0.8, 4)), 3),
    (GemMiner(Global(), HALF, rounded=True), 9),
    (Gradual(Global(), HALF, end=0.2), 3),
    (MultiPrize(Global(), HALF), NEVER),
    (Rigl(OFTEN), 4),
    (ScalePenalty(), NEVER),
    (Set(OFTEN), 3),
    (SrSte(NOfM(group=3), HALF), NEVER),
    (Static(), NEVER),
    (StraightThrough(Global(), HALF, every="4it", end=0.1), 3),
    (Supermask(Global()), NEVER),
    (Supermask(Global(), sparsity=0.5, rescale=True), NEVER),
]


COPIES = {torch.ops.aten._to_copy.default: 0, torch.ops.aten.copy_.default: 1}  # what is copied


class Nothing(TorchDispatchMode):
    """Refuses what waits for a device: an answer, or a copy that the host stays for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = func(*args, **(kwargs or {}))
        if func in COPIES and args[COPIES[func]].device != given.device:
            stays = not (kwargs or {}).get("non_blocking", len(args) > 2 and args[2])
            if stays:
                raise RuntimeError("a copy between devices that waits")
        return given


def begun(rule):
    """A masking at work on a device of no values, where whoever asks for one gets an error."""
    meta = torch.device("meta")
    model = small.convolutional().to(meta)
    kept = small.task(model=small.convolutional).dense()
    if isinstance(rule, (Static, Compact)):
        kept = {
            name: torch.arange(bits.numel()).view(bits.shape) % 2 == 0
            for name, bits in kept.items()
        }
    live = rule.install(model, kept, 0)
    optimizer = torch.optim.SGD(live.trainable(), lr=0.1, momentum=0.9)
    inputs = torch.empty(5, 1, 4, 4, device=meta)

    def step(number: Step) -> None:
        optimizer.zero_grad()
        model.zero_grad()
        loss, penalty = model(inputs).square().sum(), live.penalty()
        (loss if penalty is None else loss + penalty).backward()
        if live.after_backward(number, TOTAL, optimizer):
            live.clip(1.0)
            optimizer.step()
        live.after_step(number, TOTAL)

    return step


@pytest.mark.parametrize(("rule", "due"), RULES, ids=[type(rule).__name__ for rule, _ in RULES])
def test_a_step_asks_the_device_nothing_but_where_the_host_chooses_a_mask(rule, due):
    step = begun(rule)
    step(1)  # where a mask is laid out on the device when it is first needed
    with Nothing():
        for number in range(2, min(due, 5)):
            step(number)
    if due != NEVER:
        with pytest.raises(RuntimeError):
            step(due)


@pytest.mark.parametrize("rule", [EdgePopup(LayerWise(), HALF), MultiPrize(Global(), HALF)])
def test_trained_by_a_devices_choice_a_network_is_what_it_is_by_the_hosts(monkeypatch, rule):
    """On a CPU that is taken for a device; scores that diverge leave the last mask."""

    def loop():
        task = small.task(model=small.convolutional)
        return Loop(Job(task, Ticket(task.dense(), task.init()), rule), small.recipe(), None)

    plain = loop()
    monkeypatch.setattr(edge_popup, "prepared", lambda budget, *given: budget.on_device(*given))
    found = loop()
    found.live._device = torch.device("meta")
    for one in (plain, found):
        for _ in range(8):
            one.backward()
            one.update()
    assert found.live.mask() == plain.live.mask()
    assert states.fingerprint(found.weights()) == states.fingerprint(plain.weights())
    for one in (plain, found):
        next(iter(one.live.trainable()))["params"][0].data[0] = torch.nan
        one.backward()
        one.update()
    assert found.live.mask() == plain.live.mask()
    for one in (plain, found):
        assert all(one.weights()[name].isnan().all() for name in one.live.mask())


def test_every_masking_is_looked_at():
    parts = {n for n, p in vars(masking).items() if hasattr(p, "install") and n[0].isupper()}
    assert {type(rule).__name__ for rule, _ in RULES} == parts - {"Masking"}


def test_what_waits_is_seen():
    value = torch.empty(3, device="meta")
    for ask in (lambda: bool(value.any()), value.cpu, lambda: value[value > 0], value.tolist):
        with pytest.raises(RuntimeError):
            ask()
    with Nothing(), pytest.raises(RuntimeError, match="waits"):
        value.copy_(torch.ones(3))
    with Nothing():
        value.copy_(torch.ones(3), non_blocking=True)
