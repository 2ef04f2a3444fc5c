"""The experiment on one-shot pruning of language models, on a model that the tests make."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import pretrained
from command import folders, lth_run, rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with weights and a tokenizer of the characters that it knows."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    path = tmp_path_factory.mktemp("model")
    known = ["<unk>", *sorted(set("etaoinshrdlcumwfgypbvk .,:`'\n()"))]
    library = Tokenizer(models.WordLevel({one: i for i, one in enumerate(known)}, "<unk>"))
    library.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    library.save(str(path / "tokenizer.json"))
    pretrained.folder(path, "llama", head="ForCausalLM", vocab_size=len(known),
                      max_position_embeddings=64)  # fmt: skip
    return path


def slowly(*words: str) -> Any:
    return pytest.param(list(words), marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "words",
    [
        ["pruner.search.score.batch_size=8"],
        slowly("pruner=magnitude_at_init", "pruner.scope=layerwise"),
        slowly("pruner=magnitude_at_init", "pruner.scope=n_of_m"),
        ["pruner=sparsegpt", "pruner.search.solve.batch_size=8"],
        slowly("pruner=sparsegpt", "pruner.search.solve.batch_size=8", "pruner.scope=n_of_m",
               "pruner.search.solve.block=8", "pruner.retrain=true"),
    ],
    ids=lambda words: " ".join(words[:2]),
)  # fmt: skip
def test_smollm2_oneshot_measures_tickets_of_a_pretrained_model_as_they_are(
    words: list[str], model: Path, tmp_path: Path
) -> None:
    vocabulary = 1 + len(set("etaoinshrdlcumwfgypbvk .,:`'\n()"))
    said = lth_run(
        "+experiment=smollm2_oneshot", "+scale=smoke", f"model.path={model}", *words,
        "pruner.sparsity=0.5", f"dataset.vocabulary={vocabulary}", "dataset.length=16",
        f"dataset.cache={tmp_path}", "train.shrink_to=3it", "train.batch_size=4", "record=local",
        "device=cpu", "threads=1", f"paths.outputs={tmp_path / 'outputs'}",
    )  # fmt: skip
    assert said.status == 0, said.err
    [folder] = folders(tmp_path / "outputs", "smollm2_oneshot")
    dense, ticket = rows(folder / "rounds.jsonl")
    assert dense["density"] == 1.0
    assert ticket["num_kept"] == ticket["num_prunable"] // 2
    assert math.isfinite(ticket["test_perplexity"])
    assert dense["before_perplexity"] != dense["test_perplexity"]
    retrained = "pruner.retrain=true" in words
    assert ticket["steps"] == (3 if retrained else 0)
    assert ("before_perplexity" in ticket) == retrained
