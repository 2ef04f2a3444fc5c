"""Transformers: their sizes, what a token sees, and that padding changes nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from lth_runner.problem.covers import Covers
from lth_runner.problem.data import Data
from lth_runner.problem.fits import check_fits
from lth_runner.problem.models import (
    causal_transformer,
    masked_transformer,
    transformer_classifier,
)
from lth_runner.problem.objective import NextToken
from lth_runner.problem.task import Task
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream

VOCABULARY, LENGTH = 11, 6
SMALL = {"vocabulary": VOCABULARY, "length": LENGTH, "width": 8, "depth": 2, "heads": 2}
LANGUAGE_MODELS = [causal_transformer, masked_transformer]


def drawn(build, **options) -> nn.Module:
    """A network of larger weights than it starts with: what it answers differs by much more."""
    torch.manual_seed(0)
    return build(**SMALL, std=0.3, **options).eval()


def classifier(**options) -> nn.Module:
    return drawn(transformer_classifier, num_classes=3, **options)


def tokens(num: int, length: int = LENGTH) -> torch.Tensor:
    return torch.randint(VOCABULARY, (num, length), generator=stream(0, "tokens", length))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- sizes


def trunk(vocabulary: int, length: int, w: int, d: int, h: int) -> int:
    return (vocabulary + length) * w + d * (4 * w * w + 2 * w * h + 9 * w + h) + 2 * w


def test_the_classifier_has_as_many_parameters_as_its_docstring_says() -> None:
    assert count(classifier()) == trunk(11, 6, 8, 2, 32) + 3 * 9
    assert count(classifier(pooling="token")) == trunk(11, 6, 8, 2, 32) + 3 * 9 + 8
    assert count(classifier(hidden=5)) == trunk(11, 6, 8, 2, 5) + 3 * 9
    # conf/model/transformer.yaml
    named = transformer_classifier(vocabulary=4000, length=32, num_classes=2)
    assert count(named) == 358_274
    covered = {
        kinds: sum(named.get_parameter(name).numel() for name in Covers(types=kinds).names(named))
        for kinds in (("linear",), ("linear", "embedding"))
    }
    assert list(covered.values()) == [98_432, 356_480]


@pytest.mark.parametrize("build", LANGUAGE_MODELS)
def test_a_language_model_has_as_many_parameters_as_its_docstring_says(build) -> None:
    assert count(drawn(build)) == trunk(11, 6, 8, 2, 32) + 11 * 9
    assert count(drawn(build, tied=True)) == trunk(11, 6, 8, 2, 32)
    named = build(vocabulary=128, length=32)  # conf/model/causal_transformer.yaml
    assert count(named) == 118_656
    assert sum(named.get_parameter(name).numel() for name in Covers().names(named)) == 106_496


def test_the_shapes_of_the_answers() -> None:
    x = tokens(3)
    assert classifier()(input_ids=x, attention_mask=torch.ones_like(x)).shape == (3, 3)
    one = drawn(transformer_classifier, num_classes=None)
    assert one(input_ids=x, attention_mask=torch.ones_like(x)).shape == (3, 1)
    for build in LANGUAGE_MODELS:
        assert drawn(build)(x).shape == (3, LENGTH, VOCABULARY)
        assert drawn(build)(tokens(3, 4)).shape == (3, 4, VOCABULARY)


def test_initial_values_have_the_spread_that_is_documented() -> None:
    torch.manual_seed(0)
    depth = 3
    model = causal_transformer(vocabulary=500, length=64, width=128, depth=depth, std=0.05)
    for name, value in model.named_parameters():
        if value.ndim == 1:
            assert torch.equal(value, torch.full_like(value, float("norm" in name and "w" in name)))
            continue
        adds = "projection" in name or "contract" in name
        expected = 0.05 / math.sqrt(2 * depth) if adds else 0.05
        assert value.std().item() == pytest.approx(expected, rel=0.05), name
        assert abs(value.mean().item()) < 0.1 * expected, name


# --- what a token sees


def changed(x: torch.Tensor, place: int) -> torch.Tensor:
    other = x.clone()
    other[:, place] = (other[:, place] + 1) % VOCABULARY
    return other


@pytest.mark.parametrize("place", range(LENGTH))
def test_a_later_token_changes_no_earlier_answer_of_the_causal_model(place: int) -> None:
    model, x = drawn(causal_transformer), tokens(4)
    differs = (model(x) != model(changed(x, place))).any(dim=2)
    assert not differs[:, :place].any()
    assert differs[:, place:].all()


def test_each_token_sees_all_others_in_the_masked_model() -> None:
    model, x = drawn(masked_transformer), tokens(4)
    assert (model(x) != model(changed(x, 3))).any(dim=2).all()


def test_the_order_of_tokens_matters() -> None:
    model, x = classifier(), tokens(4)
    mask = torch.ones_like(x)
    assert not torch.allclose(model(x, mask), model(x.flip(1), mask), atol=1e-3)


@pytest.mark.parametrize("pooling", ["mean", "token"])
def test_padding_does_not_change_the_answer(pooling: str) -> None:
    model, x = classifier(pooling=pooling), tokens(5)
    lengths = torch.tensor([1, 2, 3, 5, 6])
    mask = (torch.arange(LENGTH) < lengths[:, None]).long()
    together = model(input_ids=x, attention_mask=mask)
    for row, length in enumerate(lengths.tolist()):
        one = x[row : row + 1, :length]
        alone = model(input_ids=one, attention_mask=torch.ones_like(one))
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)
    # and what stands there is not looked at
    other = torch.where(mask.bool(), x, (x + 1) % VOCABULARY)
    assert torch.equal(model(input_ids=other, attention_mask=mask), together)


def test_a_tied_output_is_the_token_embedding() -> None:
    model = drawn(causal_transformer, tied=True)
    assert model.output.weight is model.trunk.token_embedding.weight
    assert model.output.bias is None
    model(tokens(2)).sum().backward()
    assert "output.weight" not in dict(model.named_parameters())


# --- as a problem


def language(**options) -> Task:
    x = tokens(40, LENGTH + 1)
    pairs = x[:, :-1], x[:, 1:]
    data = Data.from_tensors(pairs, pairs, num_classes=VOCABULARY).to("cpu")
    return Task(lambda: causal_transformer(**SMALL, **options), data, objective=NextToken())


def test_a_training_is_random_with_dropout_alone() -> None:
    assert not language().is_random
    assert language(dropout=0.1).is_random


def test_outputs_of_given_weights_are_those_of_the_network() -> None:
    for tied in (False, True):
        task = language(tied=tied)
        weights = task.init()
        [batch] = task.batches(1, 0, 4)
        module = task.module().eval()
        module.load_state_dict(weights, strict=not tied)
        assert torch.equal(task.outputs(weights, batch[0]), module(batch[0]))
        assert task.gradient(weights, batch).keys() == dict(module.named_parameters()).keys()


# --- what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heads": 3}, r"model\.width=8 is not divisible by model\.heads=3.*heads=2"),
        ({"dropout": 1.0}, r"model\.dropout=1\.0 is outside \[0, 1\)"),
        ({"std": 0.0}, r"model\.std=0\.0 must be above 0"),
        ({"depth": 0}, r"model\.depth .* not 0"),
        ({"hidden": 0}, r"model\.hidden .* not 0"),
        ({"vocabulary": 0}, r"model\.vocabulary .* not 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        causal_transformer(**{**SMALL, **options})


def test_another_pooling_is_refused() -> None:
    with pytest.raises(UserError, match=r"pooling 'max'.*mean"):
        transformer_classifier(**SMALL, num_classes=2, pooling="max")


def test_a_sequence_beyond_the_positions_is_refused_with_both_numbers() -> None:
    with pytest.raises(UserError, match=r"have 7 tokens.*6 positions"):
        drawn(causal_transformer)(tokens(2, 7))


def table(**splits: torch.Tensor) -> Data:
    """Samples by name, all of them small numbers but for the splits that are given."""
    parts = {}
    for name in ("train", "test", "val"):
        x = splits.get(name, torch.ones(300, LENGTH, dtype=torch.int64))
        parts[name] = {"input_ids": x, "attention_mask": torch.ones_like(x)}, torch.arange(300) % 3
    return Data.from_tensors(parts["train"], parts["test"], parts["val"]).to("cpu")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_token_beyond_the_vocabulary_is_refused_wherever_it_stands(split: str) -> None:
    build = partial(transformer_classifier, **SMALL, num_classes=3)
    x = torch.ones(300, LENGTH, dtype=torch.int64)
    x[217, 3] = VOCABULARY - 1
    check_fits(Task(build, table(**{split: x})))
    x[217, 3] = VOCABULARY
    with pytest.raises(UserError, match=r"largest token number is 11, .* has 11 rows"):
        check_fits(Task(build, table(**{split: x})))


def test_inputs_by_other_names_are_refused() -> None:
    task = Task(partial(transformer_classifier, **SMALL, num_classes=3), table())
    inputs, labels = task.data.train
    for names, said in (
        (["input_ids", "mask"], "takes no 'mask'"),
        (["input_ids"], "needs attention_mask"),
    ):
        split = dict(zip(names, inputs.values(), strict=False)), labels
        with pytest.raises(UserError, match=said):
            check_fits(replace(task, data=Data.from_tensors(split, split).to("cpu")))
