"""The probe of how near two trainings are once the units of one stand in the other's order."""

from __future__ import annotations

import pytest
import torch

from command import SMALL, folders, lth_run, no_training, rows
from lth_runner.study.permutation import Symmetries
from lth_runner.study.rebasin import Rebasin, distance, overlap
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from small import task as small_task

WORDS = (
    *[word for word in SMALL if not word.startswith(("probe=", "control="))],
    "control=none", "probe=rebasin", "probe.rebasin.num_points=3", "replicates=2", "record=local",
)  # fmt: skip


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    path = tmp_path_factory.mktemp("outputs")
    said = lth_run(*WORDS, f"paths.outputs={path}")
    assert said.status == 0, said.err
    return path


def of_probe(row):
    return {key for key in row if key.startswith("rebasin_")}


def test_replicates_are_held_against_the_first_one_and_nothing_more_is_trained(outputs):
    [folder] = folders(outputs)
    found = rows(folder / "rounds.jsonl")
    assert [bool(of_probe(row)) for row in found if row["round"] == 0] == [False, True]
    [row] = [row for row in found if of_probe(row)]
    assert row["rebasin_distance_after"] <= row["rebasin_distance_before"]
    assert row["rebasin_error_before_curve"][0] == row["rebasin_error_after_curve"][0]
    assert row["rebasin_error_before_curve"][2] == row["rebasin_error_after_curve"][2]
    entries = {path.name for path in (outputs / "store" / "entries").iterdir()}
    assert entries == {row["training_key"] for row in found}


def test_every_round_of_another_run_is_compared_with_its_masks(outputs):
    [folder] = folders(outputs)
    with no_training():
        said = lth_run(*WORDS, f"probe.rebasin.run={folder}", f"paths.outputs={outputs}")
    assert said.status == 0, said.err
    found = rows(folder / "rounds.jsonl")
    assert [bool(of_probe(row)) for row in found] == [row["seed"] == 1 for row in found]
    pruned = [row for row in found if row["round"] and row["seed"] == 1]
    assert pruned
    assert all(0 <= row["rebasin_mask_overlap_after"] <= 1 for row in pruned)


def test_masks_of_deltas_are_compared_too(tmp_path):
    words = (*WORDS, "coordinates=delta", f"paths.outputs={tmp_path}")
    for further in ([], ["name=again", f"probe.rebasin.run={tmp_path}/small"]):
        said = lth_run(*words, *further)
        assert said.status == 0, said.err
    [folder] = folders(tmp_path, "again")
    pruned = [row for row in rows(folder / "rounds.jsonl") if row["round"] and row["seed"] == 1]
    assert pruned
    assert all("rebasin_mask_overlap_after" in row for row in pruned)


def test_a_run_that_does_not_fit_is_refused_before_any_training(outputs):
    for words, told in {
        ("replicates=1",): "there is no other: set replicates=2",
        ("model.widths=[9]", f"probe.rebasin.run={outputs}/small"): "has other tensors",
        ("probe.rebasin.run=elsewhere",): r"probe.rebasin.run=elsewhere is no run folder",
        ("probe.rebasin.seed=7", f"probe.rebasin.run={outputs}/small"): "no training of seed 7",
        ("model.widths=[]", "replicates=2"): "no layer has units that may change places",
        ("probe.rebasin.num_points=1",): "num_points=1 must be",
    }.items():
        with no_training():
            said = lth_run(*WORDS, *words, f"paths.outputs={outputs}", "name=other")
        assert said.status == 2, (words, said.err)
        assert told in said.err, said.err


def test_a_mask_that_is_permuted_stands_for_the_same_subnetwork():
    task = small_task()
    symmetries = Symmetries.of(task)
    weights, orders = task.init(), symmetries.random(1)
    drawn = torch.Generator().manual_seed(0)
    mask = Mask({n: torch.rand(m.shape, generator=drawn) > 0.5 for n, m in task.dense().items()})
    turned = Mask(symmetries.applied(mask, orders))
    moved = symmetries.applied(mask(weights), orders)
    assert all(torch.equal(turned(moved)[name], moved[name]) for name in moved)
    inputs, _ = task.data.sample(4, 0)
    assert torch.allclose(task.outputs(moved, inputs), task.outputs(mask(weights), inputs))
    assert overlap(mask, mask) == 1.0 > overlap(mask, turned)
    assert distance(weights, weights, symmetries.parameters) == 0


def test_points_and_samples_out_of_range_are_refused():
    for options in ({"num_points": True}, {"num_samples": 0}):
        with pytest.raises(UserError, match="must be a whole number"):
            Rebasin(**options)
