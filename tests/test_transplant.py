"""Tickets that go from a network of numbers into a Bayesian one, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from command import SMALL, folders, lth_run, no_training, rows
from lth_runner.export import ticket as exported
from lth_runner.problem.gaussian import is_rho, means
from lth_runner.store.ended import read_end

RUN = (*SMALL, "record=local", "pruner.rounds=2", "control=none")
BAYES = ("coordinates=gaussian", "coordinates.initial_std=0.1")


def run(outputs: Path, name: str, *words: str) -> Path:
    said = lth_run(*RUN, f"paths.outputs={outputs}", f"name={name}", *words)
    assert said.status == 0, said.err
    [folder] = folders(outputs, name)
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A Store, tickets of numbers and tickets of Gaussians, of one start."""
    outputs = tmp_path_factory.mktemp("outputs")
    return outputs, run(outputs, "plain"), run(outputs, "bayes", *BAYES)


def tickets(folder: Path, number: int) -> dict[str, torch.Tensor]:
    return load_file(folder / f"tickets/round-0{number}.safetensors")


def ended(outputs: Path, row: dict) -> tuple:
    return read_end(next((outputs / "store/entries").glob(f"{row['training_key']}*/end*")))


def given(folder: Path, weights: str) -> tuple[str, ...]:
    return ("pruner=given", f"pruner.ticket={folder}", f"pruner.weights={weights}")


@pytest.mark.parametrize("weights", ["own", "ticket", "trained"])
@pytest.mark.parametrize("into", ["bayes", "plain"])
def test_masks_and_weights_go_over_and_start_as_wide_as_any(both, weights: str, into: str) -> None:
    outputs, plain, bayes = both
    source, words = (plain, BAYES) if into == "bayes" else (bayes, ())
    folder = run(outputs, f"to_{into}_{weights}", *given(source, weights), *words)
    assert [row["num_kept"] for row in rows(folder / "rounds.jsonl")] == [
        row["num_kept"] for row in rows(source / "rounds.jsonl")
    ]
    for row in rows(source / "rounds.jsonl")[1:]:
        before, after = tickets(source, row["round"]), tickets(folder, row["round"])
        _, weights_at_end = ended(outputs, row)
        last = means(weights_at_end)
        for name in (n.removeprefix("mask.") for n in before if n.startswith("mask.")):
            mask = before[f"mask.{name}"]
            assert torch.equal(after[f"mask.{name}"], mask)
            wanted = before[f"weights.{name}"] if weights != "trained" else last[name] * mask
            assert torch.equal(after[f"weights.{name}"], wanted)
    with no_training():
        run(outputs, f"to_{into}_{weights}", *given(source, weights), *words)


def test_a_ticket_in_a_file_goes_into_a_bayesian_network_too(both) -> None:
    outputs, plain, _ = both
    file = plain / "tickets/round-01.safetensors"
    folder = run(outputs, "from_file", *given(file, "ticket"), *BAYES)
    assert rows(folder / "rounds.jsonl")[1]["num_kept"] == int(
        sum(value.sum() for name, value in load_file(file).items() if name.startswith("mask."))
    )


def test_what_is_exported_of_a_bayesian_ticket_are_its_means_and_says_so(both) -> None:
    outputs, _, bayes = both
    taken = exported(bayes)
    row = rows(bayes / "rounds.jsonl")[-1]
    mask, weights = ended(outputs, row)
    assert any(is_rho(name) for name in weights)
    assert taken.facts["means"]
    assert not taken.expected
    assert all(torch.equal(taken.weights[n], v) for n, v in means(weights).items())
    assert taken.mask.num_kept == mask.num_kept
    taken.check_zeros("csr")


def test_a_study_carries_tickets_both_ways(tmp_path: Path) -> None:
    words = [word for word in RUN if not word.startswith(("name=", "pruner.rounds=", "control="))]
    said = lth_run("+study=bayesian_transplant", *words, f"paths.outputs={tmp_path}")
    assert said.status == 0, said.err
    found = [folder for folder in folders(tmp_path, "bayesian_transplant") if folder.is_dir()]
    assert len(found) == 6
    assert all((folder / "rounds.jsonl").is_file() for folder in found)
