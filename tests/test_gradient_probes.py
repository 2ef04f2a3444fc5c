"""Early gradients, gradient energy and trajectories: hand-derived values, exact nulls, cost."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev
from unittest import mock

import pytest
import torch

import small
from lth_runner.control import permuted
from lth_runner.masking import Static
from lth_runner.probe import EarlyGradients, GradientEnergy, Trajectory
from lth_runner.probe.gradients import over_shuffles
from lth_runner.probe.trajectory import movement
from lth_runner.search.ticket import Ticket, Trained
from lth_runner.training.job import Job
from lth_runner.training.pace import Pace
from lth_runner.training.trainer import Trainer
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask

TASK = small.task()


def rounds(trainer: Trainer, num: int, **rewind: object) -> list[Trained]:
    search, past = small.imp(rounds=num, **rewind), []
    while (ticket := search.propose(TASK, past)) is not None:
        past += trainer.fit([Job(TASK, ticket, Static())])
    return past


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> list[Trained]:
    """A dense training and two rounds rewound to step 4 with the same batches."""
    trainer = small.trainer(tmp_path_factory.mktemp("store"))
    return rounds(trainer, 2, step="4it", data_order="rewind", optimizer="restore")


def measured(probe: object, past: list[Trained], number: int) -> dict[str, object]:
    return dict(probe(TASK, past[:number], past[number]))  # type: ignore[operator]


def masks(*counts: tuple[int, int]) -> Mask:
    """The first of each layer's weights kept: (kept, of)."""
    return Mask({f"l{i}": torch.arange(of) < kept for i, (kept, of) in enumerate(counts)})


# --- the layer-conditioned null


def test_moments_over_shuffles_are_those_of_all_shuffles() -> None:
    values = {"l0": torch.tensor([1.0, 2.0, 4.0, 8.0]), "l1": torch.tensor([0.0, 3.0, 5.0])}
    sums = [
        sum(first) + sum(second)
        for first in itertools.combinations([1, 2, 4, 8], 2)
        for second in itertools.combinations([0, 3, 5], 1)
    ]
    mean, deviation = over_shuffles(values, masks((2, 4), (1, 3)))
    assert mean == pytest.approx(fmean(sums))
    assert deviation == pytest.approx(pstdev(sums))


def test_full_and_empty_layers_do_not_deviate() -> None:
    values = {"l0": torch.rand(4), "l1": torch.tensor([7.0])}
    assert over_shuffles(values, masks((4, 4), (0, 1))) == (pytest.approx(values["l0"].sum()), 0.0)


def test_z_and_index_of_a_shuffled_mask_agree_with_drawn_ones(past: list[Trained]) -> None:
    seen = measured(EarlyGradients(5, 400), past, 2)
    one = replace(past[2].ticket, mask=permuted(past[2].mask, 1))
    shuffled = Ghost(one, past[2])
    null = dict(EarlyGradients(5, 400)(TASK, past[:2], shuffled))
    assert null["jaccard_null"] == pytest.approx(seen["jaccard_null"], abs=0.01)
    assert abs(null["jaccard_z"]) < 3
    # I = 2k J / (1 + J): the drawn nulls' mean index belongs to the mean number shared
    k = past[2].mask.num_kept
    shared = {
        n: 2 * k * seen[n] / (1 + seen[n]) for n in ("jaccard_early_gradient", "jaccard_null")
    }
    above = shared["jaccard_early_gradient"] - shared["jaccard_null"]
    assert math.copysign(1, above) == math.copysign(1, seen["jaccard_z"])


class Ghost:
    """A finished training under another ticket."""

    def __init__(self, ticket: Ticket, of: Trained, **changed: object) -> None:
        self.ticket, self._of = ticket, of
        self.mask = ticket.mask
        self.__dict__.update(changed)

    def __getattr__(self, name: str) -> object:
        return getattr(self._of, name)


def test_the_support_itself_stands_far_above_its_shuffles(past: list[Trained]) -> None:
    magnitude = past[0].derived("early-gradient-v1-5", lambda: pytest.fail("not kept"))
    flat = torch.cat([magnitude[n].flatten() for n in past[0].mask])
    least = flat.sort(descending=True).values[past[2].mask.num_kept - 1]
    best = Mask({n: magnitude[n] >= least for n in past[0].mask})
    seen = dict(
        EarlyGradients(5)(TASK, past[:2], Ghost(replace(past[2].ticket, mask=best), past[2]))
    )
    assert seen["jaccard_early_gradient"] == pytest.approx(1, abs=0.05)  # ties
    assert seen["jaccard_z"] > 8


def test_the_dense_network_has_no_z(past: list[Trained]) -> None:
    assert math.isnan(measured(EarlyGradients(5), past, 0)["jaccard_z"])
    assert math.isnan(measured(GradientEnergy(2), past, 0)["gradient_energy_z"])


# --- energy


def test_energy_is_the_share_of_the_gradient_at_the_rewound_weights(past: list[Trained]) -> None:
    seen = measured(GradientEnergy(2), past, 1)
    found = TASK.grad(past[0].at(4), 2, batch_statistics=True)
    mask = past[1].mask
    part = sum(float((found[n] * mask[n]).square().sum()) for n in mask)
    whole = sum(float(found[n].square().sum()) for n in mask)
    assert seen["gradient_energy"] == pytest.approx(part / whole, rel=1e-6)
    assert seen["gradient_energy_chance"] == mask.density


def test_a_mask_and_its_complement_share_the_whole_energy(past: list[Trained]) -> None:
    mask = past[2].mask
    both = [
        dict(GradientEnergy(2)(TASK, past[:2], Ghost(replace(past[2].ticket, mask=m), past[2])))
        for m in (mask, ~mask)
    ]
    for name in ("gradient_energy", "gradient_energy_null", "gradient_energy_chance"):
        assert both[0][name] + both[1][name] == pytest.approx(1)
    assert both[0]["gradient_energy_z"] == pytest.approx(-both[1]["gradient_energy_z"])


def test_the_null_is_the_mean_over_shuffled_masks(past: list[Trained]) -> None:
    def energy(mask: Mask) -> dict[str, float]:
        ghost = Ghost(replace(past[2].ticket, mask=mask), past[2])
        return dict(GradientEnergy(2)(TASK, past[:2], ghost))

    drawn = [energy(permuted(past[2].mask, seed)) for seed in range(200)]
    [null] = {round(of["gradient_energy_null"], 12) for of in drawn}
    assert fmean(of["gradient_energy"] for of in drawn) == pytest.approx(null, rel=0.03)
    assert pstdev([of["gradient_energy_z"] for of in drawn]) == pytest.approx(1, abs=0.15)


def test_a_gradient_is_computed_once_for_all_rounds(past: list[Trained]) -> None:
    measured(GradientEnergy(2), past, 1)
    with mock.patch("lth_runner.problem.task.Task.grad", side_effect=AssertionError("again")):
        measured(GradientEnergy(2), past, 2)
        with pytest.raises(AssertionError, match="again"):
            measured(GradientEnergy(1), past, 2)


# --- trajectories


def test_movement_is_over_kept_weights_alone() -> None:
    start = {"l0": torch.tensor([1.0, 2.0, 3.0])}
    end = {"l0": torch.tensor([4.0, 2.5, 9.0])}
    assert movement(start, end, masks((2, 3))).tolist() == [3.0, 0.5]


@pytest.mark.parametrize(
    ("num", "begin", "total", "expected"),
    [(128, 0, 1000, [1, 2, 4, 8, 16, 32, 64, 128, 1000]), (5, 10, 14, [11, 12, 14]),
     (5, 10, 11, [11]), (3, 0, 0, []), (1, 7, 9, [8, 9])],
)  # fmt: skip
def test_steps_are_powers_of_two_and_the_end(num: int, begin: int, total: int, expected: list[int]):
    assert Trajectory(num).steps(begin, total) == expected


def test_a_ticket_moves_along_with_itself(past: list[Trained]) -> None:
    seen = dict(Trajectory(8)(TASK, past[:1], past[0]))
    assert seen["trajectory_steps"] == [1, 2, 4, 8, 40]
    assert seen["trajectory_cosine_curve"] == pytest.approx([1.0] * 5, abs=1e-12)
    assert seen["trajectory_norm_ratio_curve"] == [1.0] * 5


def test_curves_are_cosines_and_ratios_of_the_masked_moves(past: list[Trained]) -> None:
    seen = measured(Trajectory(8), past, 1)
    assert seen["trajectory_steps"] == [5, 6, 8, 12, 40]
    kept = {n: k.flatten() for n, k in past[1].mask.items()}

    def moved(trained: Trained, end: dict, start: dict) -> torch.Tensor:
        return torch.cat([(end[n] - start[n]).flatten()[kept[n]] for n in kept]).double()

    whole = moved(past[0], past[0].at(8), past[0].at(4))
    own = moved(past[1], past[1].at(8), past[1].ticket.weights)
    cosine = torch.nn.functional.cosine_similarity(whole, own, dim=0)
    assert seen["trajectory_cosine_curve"][2] == pytest.approx(float(cosine), abs=1e-6)
    assert seen["trajectory_norm_ratio_curve"][2] == pytest.approx(
        float(own.norm() / whole.norm()), rel=1e-5
    )
    assert seen["trajectory_cosine"] == seen["trajectory_cosine_curve"][-1]


def test_the_opposite_move_has_cosine_minus_one(past: list[Trained]) -> None:
    start, end = past[0].ticket.weights, past[0].weights
    back = {n: 2 * start[n] - end[n] for n in start}
    ghost = Ghost(past[0].ticket, past[0], weights=back, at=lambda step: start)
    seen = dict(Trajectory(1)(TASK, past[:1], ghost))
    assert seen["trajectory_cosine"] == pytest.approx(-1)
    assert math.isnan(seen["trajectory_cosine_curve"][0])  # it had not moved there


def test_other_batches_are_not_compared_and_a_warning_says_so(
    past: list[Trained], caplog: pytest.LogCaptureFixture
) -> None:
    start = replace(past[1].ticket.start, order=7)
    other = Ghost(replace(past[1].ticket, start=start), past[1])
    for _ in range(3):  # arms
        assert not dict(Trajectory()(TASK, past[:1], other))
    assert caplog.text.count("rewind.data_order=rewind") == 1
    assert not dict(Trajectory()(TASK, [], past[0]))


def test_no_more_steps_are_run_again_than_announced(tmp_path: Path) -> None:
    replayed: list[int] = []
    trainer = small.trainer(tmp_path, pace=Pace(replayed=replayed.append))
    past = rounds(trainer, 1, data_order="rewind")
    assert len(measured(Trajectory(8), past, 1)["trajectory_steps"]) == 5
    assert sum(replayed) == 8 + 8  # the dense training's and the ticket's
    replayed.clear()
    measured(Trajectory(8), past, 1)
    assert not sum(replayed)


# --- what all share


def test_a_search_without_a_dense_training_gives_nothing(past: list[Trained]) -> None:
    for probe in (EarlyGradients(5), GradientEnergy(1), Trajectory(2)):
        assert not dict(probe(TASK, [past[1]], past[2]))


def options() -> Iterator[tuple[type, dict[str, object]]]:
    for value in (0, -1, 1.5, True):
        yield EarlyGradients, {"num_steps": value}
        yield EarlyGradients, {"num_nulls": value}
        yield GradientEnergy, {"num_batches": value}
        yield Trajectory, {"num_steps": value}


@pytest.mark.parametrize(("probe", "option"), [*options()])
def test_counts_below_one_are_refused_by_name(probe: type, option: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(option))):
        probe(**option)
