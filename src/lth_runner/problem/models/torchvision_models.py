"""torchvision's classification models, untrained."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from lth_runner.problem.models.parts import (
    check_name,
    check_positive,
    image_shape,
    initialise_weights,
)
from lth_runner.values.errors import UserError

# Sides to suggest when an image does not fit: powers of two and those of published recipes.
USUAL_SIDES = (8, 16, 32, 64, 96, 128, 224, 256, 299, 384, 512)
REFUSALS = (RuntimeError, ValueError, AssertionError)  # how torchvision's models reject a size


def torchvision_classifier(
    *,
    shape: Sequence[int],
    num_classes: int,
    name: str,
    init: str = "default",
    **options: Any,
) -> nn.Module:
    """Builds torchvision's model `name` with random weights; `options` go to its constructor.

    Layer names, norm, dropout and (with init=default) initial values are torchvision's own;
    in-place activation modules are made out-of-place. Images must have three channels. Models with
    auxiliary heads (googlenet, inception_v3) need aux_logits=False; vision transformers take other
    sizes by image_size.
    Raises UserError: no torchvision, unknown `name` or `init`, an option the model does not know, a
    shape it cannot take, or a training output that is not (batch, num_classes) logits.
    """
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise UserError(
            f"The model {name!r} needs torchvision, which cannot be imported ({error}). "
            "Install torch and torchvision from the same package index."
        ) from error
    check_name(name, models.list_models(module=models), what="torchvision model")
    check_positive(num_classes, what="num_classes")
    channels, height, width = image_shape(shape, model=name)
    if channels != 3:
        raise UserError(
            f"torchvision's {name} takes 3 channels, not inputs of shape {list(shape)}; "
            "use a dataset of colour images or one of the other models."
        )

    try:
        model: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"torchvision's {name} refuses options {options}: {error}") from error
    _check_output(model, (height, width), num_classes=num_classes, name=name)
    for layer in model.modules():
        if "inplace" in vars(layer):
            vars(layer)["inplace"] = False
    return initialise_weights(model, init=init)


def _check_output(model: nn.Module, size: tuple[int, int], *, num_classes: int, name: str) -> None:
    try:
        output = _output_without_data(model, size)
    except REFUSALS as error:
        fits = [side for side in USUAL_SIDES if _takes(model, side)]
        smallest = f"[3, {fits[0]}, {fits[0]}]" if fits else "none"
        raise UserError(
            f"torchvision's {name} cannot take inputs of shape {[3, *size]} ({error}); "
            f"the smallest accepted among the usual sizes is {smallest}."
        ) from error
    if not isinstance(output, torch.Tensor) or output.shape != (2, num_classes):
        raise UserError(
            f"torchvision's {name} returns {type(output).__name__} in training instead of "
            f"(batch, {num_classes}) logits; models with auxiliary heads need aux_logits=False."
        )


def _takes(model: nn.Module, side: int) -> bool:
    try:
        _output_without_data(model, (side, side))
    except REFUSALS:
        return False
    return True


def _output_without_data(model: nn.Module, size: tuple[int, int]) -> Any:
    """Computes the output for a batch of two on the meta device: shapes without arithmetic."""
    tensors = itertools.chain(model.named_parameters(), model.named_buffers())
    state = {key: torch.empty_like(value, device="meta") for key, value in tensors}
    return functional_call(model, state, torch.empty(2, 3, *size, device="meta"))
