"""Where a network starts from follows from the seed: else it is refused, before any training."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import hiding
import small
from command import SMALL, folders, lth_run, rows
from fake_past import equal
from lth_runner.cli.build import run_id
from lth_runner.control import Reinit, RescaledRandom
from lth_runner.experiment import Experiment
from lth_runner.masking import Static
from lth_runner.problem import models
from lth_runner.problem.coordinates import Delta
from lth_runner.problem.origin import File
from lth_runner.problem.requirements import draws_anew
from lth_runner.problem.starts import check_starts
from lth_runner.search.rewind import Rewind
from lth_runner.values.errors import UserError
from lth_runner.values.global_streams import positions

SHAPE = {"shape": (1, 4, 4), "num_classes": 3}
REINIT = ["control=reinit"]
SAME = "starts from the same weights for every seed"


def task(network, **changes):
    return replace(small.task(model=partial(network, **SHAPE)), **changes)


def replicates(network, num=2):
    return [task(network, seed=seed) for seed in range(num)]


@pytest.mark.parametrize("network", [hiding.Plain, hiding.ByNumpy, hiding.ByPython])
def test_a_draw_from_any_global_stream_is_a_function_of_the_seed(network) -> None:
    before = positions()
    check_starts(replicates(network), REINIT)
    assert equal(task(network).init(7), task(network).init(7))
    for name in ("inp.weight", "output.weight"):
        assert not (task(network).init(7)[name] == task(network).init(8)[name]).any()
    assert positions() == before


@pytest.mark.parametrize("network", [hiding.SeedsItself, hiding.StartsAtZero])
def test_a_start_that_every_seed_gives_is_refused_where_two_must_differ(network, caplog) -> None:
    with pytest.raises(UserError, match=f"control=reinit draws weights anew, but .* {SAME}"):
        check_starts(replicates(network, 1), REINIT)
    with pytest.raises(UserError, match=f"replicates=2 are to start from 2 draws, but .* {SAME}"):
        check_starts(replicates(network), [])
    check_starts(replicates(network, 1), [])
    assert SAME in caplog.text


def test_a_fixed_start_is_seen_behind_coordinates_and_an_origin_may_stand_in_for_it() -> None:
    behind = task(hiding.SeedsItself, coordinates=Delta(only=["inp.weight"]))
    with pytest.raises(UserError, match=SAME):
        check_starts([behind], REINIT)
    started = [replace(one, origin=object()) for one in replicates(hiding.SeedsItself)]
    check_starts(started, [])  # replicates are to share what a file holds
    with pytest.raises(UserError, match=SAME):
        check_starts(started, REINIT)


def test_what_only_some_weights_start_from_for_every_seed_is_said(caplog) -> None:
    check_starts(replicates(hiding.LoadsAPart), REINIT)
    assert "inp.weight are the same for every seed" in caplog.text
    assert "bias" not in caplog.text


def test_a_start_that_one_seed_gives_twice_differently_is_refused() -> None:
    with pytest.raises(UserError, match=r"other weights when .* the same seed: inp\.weight: draw"):
        check_starts(replicates(hiding.ByEntropy, 1), [])


@pytest.mark.parametrize("kind", ["buffer", "tensor", "number", "list", "part"])
def test_what_a_network_loads_that_is_no_weight_is_in_every_name(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    names = []
    for value in (1.0, 1.0, 2.0):
        torch.save(torch.tensor(value), "scale.pt")
        loading = partial(hiding.LoadsAConstant, kind=kind)
        names.append(small.dense_job(task(loading)).identity(small.recipe(), "sequential"))
    assert names[0] == names[1] != names[2]


def test_what_a_network_holds_is_hashed_as_it_was_built_whatever_has_run() -> None:
    fresh, used = task(hiding.CountedInEvaluation), task(hiding.CountedInEvaluation)
    used.evaluate(used.init(), "test")
    assert used.identity == fresh.identity == fresh.with_seed(3).identity


def test_what_a_network_holds_that_another_build_does_not_is_refused() -> None:
    with pytest.raises(UserError, match="holds other numbers besides its weights when it is built"):
        check_starts(replicates(hiding.HoldsEntropy, 1), [])


def test_a_network_of_this_program_is_named_as_ever() -> None:
    shipped = partial(models.mlp, **SHAPE, widths=(4,))
    assert "held" not in small.task(model=shipped).identity
    assert "held" in task(hiding.Plain).identity


def test_what_lies_below_an_origin_names_a_run_too(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_file(hiding.Plain(**SHAPE).state_dict(), "origin.safetensors")
    names = []
    for network in (hiding.Plain, hiding.Plain, hiding.LoadsAFile, hiding.Plain, hiding.LoadsAFile):
        torch.save(network(**SHAPE).state_dict(), "w.pt")
        one = task(hiding.LoadsAFile, origin=File("origin.safetensors"))
        names.append(run_id(Experiment([one], small.imp(), Static(), {}, []), small.recipe()))
    first, other, again, changed, kept = names
    assert len({first, other, changed}) == 3
    assert (again, kept) == (other, changed)


def test_what_draws_anew_says_so_wherever_it_is_built_in() -> None:
    assert draws_anew(Reinit())
    assert draws_anew(small.imp(weights="reinit"))
    assert not draws_anew(small.imp())
    assert not draws_anew(Reinit(values="permuted"))
    assert not draws_anew(RescaledRandom())
    assert not draws_anew(Rewind())


def run(tmp_path: Path, network: str, *words: str):
    plain = [word for word in SMALL if not word.startswith("model")]
    return lth_run(
        *plain, "model=custom", f"model._target_=hiding.{network}",
        "train.engine=sequential", f"paths.outputs={tmp_path}", *words,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("network", "words", "told"),
    [
        ("SeedsItself", ["control=[reinit]", "replicates=1"], "control=reinit draws weights anew"),
        ("SeedsItself", ["control=none", "rewind=reinit"], "rewind.weights=reinit draws weights"),
        ("SeedsItself", ["control=none", "replicates=2"], "replicates=2 are to start from 2 draws"),
        ("ByEntropy", ["control=none"], "other weights when it is built again by the same seed"),
        ("DrawsInEvaluation", ["control=none"], "draws random numbers (from torch) in evaluation"),
        ("NumpyInEvaluation", ["control=none"], "draws random numbers (from numpy) in evaluation"),
    ],
)
def test_a_network_that_hides_where_it_starts_is_refused_before_any_training(
    tmp_path: Path, network: str, words: list[str], told: str
) -> None:
    said = run(tmp_path, network, *words)
    assert said.status == 2
    assert told in said.err
    assert not (tmp_path / "store").exists()


def test_a_network_that_loads_another_file_is_another_run(
    tmp_path: Path, monkeypatch, caplog
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(hiding.Plain((1, 8, 8), 10).state_dict(), "w.pt")
        said = run(tmp_path, "LoadsAFile", "control=none", "replicates=1")
        assert said.status == 0, said.err
        assert SAME in caplog.text
    for folder in folders(tmp_path):
        keys.append({row["training_key"] for row in rows(folder / "rounds.jsonl")})
    assert len(keys) == 2
    assert not keys[0] & keys[1]
