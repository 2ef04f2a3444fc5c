"""Vision transformers: their sizes, patches and heads."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lth_runner.probe.heads import heads_of, kind_of
from lth_runner.problem.covers import Covers
from lth_runner.problem.data import Data
from lth_runner.problem.models import packed_vision_transformer, vision_transformer
from lth_runner.problem.task import Task
from lth_runner.values.errors import UserError

SMALL = {"shape": [3, 8, 8], "num_classes": 5, "patch": 4, "width": 12, "depth": 2, "heads": 3}


def drawn(**options) -> nn.Module:
    torch.manual_seed(0)
    return vision_transformer(**(SMALL | options), std=0.3).eval()


@pytest.mark.parametrize("hidden", [None, 20])
def test_parameters_are_as_many_as_its_docstring_counts(hidden: int | None) -> None:
    model = drawn(hidden=hidden)
    w, d, h, c, p, n, k = 12, 2, hidden or 48, 3, 4, 4, 5
    blocks = d * (4 * w**2 + 2 * w * h + 9 * w + h)
    others = w * (c * p**2 + 1) + w + (n + 1) * w + 2 * w + k * (w + 1)
    assert sum(one.numel() for one in model.parameters()) == blocks + others


def test_patches_may_change_places_where_no_place_is_learned() -> None:
    model = drawn()
    images = torch.rand(2, 3, 8, 8)
    swapped = torch.cat([images[:, :, 4:], images[:, :, :4]], dim=2)
    with torch.no_grad():
        assert not torch.allclose(model(images), model(swapped), atol=1e-3)
        model.places.zero_()
        assert torch.allclose(model(images), model(swapped), atol=1e-5)


def test_each_pixel_matters() -> None:
    images = torch.rand(1, 3, 8, 8, requires_grad=True)
    drawn()(images).square().sum().backward()
    assert bool((images.grad != 0).all())


def test_images_that_fall_into_no_patches_are_refused() -> None:
    with pytest.raises(UserError, match="8x8 pixels do not fall into patches of 3x3"):
        drawn(patch=3)
    with pytest.raises(UserError, match="no images"):
        drawn(shape=[64])


def test_its_heads_are_counted() -> None:
    images, classes = torch.rand(8, 3, 8, 8), torch.arange(8) % 5
    task = Task(drawn, Data.from_tensors(train=(images, classes), test=(images, classes)), 0)
    heads = heads_of(task.module(), task.dense())
    assert list(heads) == ["blocks.0.attention", "blocks.1.attention"]
    assert all(one.num == 3 for one in heads.values())
    assert {"blocks.0.attention.query.weight", "patches.weight"} <= set(task.dense())


def test_a_packed_one_has_as_many_parameters_and_heads() -> None:
    pytest.importorskip("torchvision")
    model = packed_vision_transformer(**SMALL, hidden=20)
    plain = drawn(hidden=20)
    assert sum(one.numel() for one in model.parameters()) == sum(
        one.numel() for one in plain.parameters()
    )
    covers = Covers(("linear", "attention_projection"), blocks=True)
    kinds = {kind_of(name) for name in covers.names(model)}
    assert kinds == {"query, key and value", "attention output", "intermediate", "output"}
    with pytest.raises(UserError, match="square images"):
        packed_vision_transformer(**(SMALL | {"shape": [3, 8, 12]}))
