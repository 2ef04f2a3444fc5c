"""Vision transformers: images as sequences of patches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lth_runner.problem.models.parts import check_positive
from lth_runner.problem.models.transformer import Block, Sizes, drawn
from lth_runner.values.errors import UserError


class VisionTransformer(nn.Module):
    """Answers once for an image; see ``vision_transformer``."""

    def __init__(self, sizes: Sizes, *, channels: int, num_patches: int, patch: int,
                 num_classes: int) -> None:  # fmt: skip
        super().__init__()
        self.patches = nn.Conv2d(channels, sizes.width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(sizes.width))
        self.places = nn.Parameter(torch.zeros(num_patches + 1, sizes.width))
        self.dropout = nn.Dropout(sizes.dropout)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(sizes.width)
        self.output = nn.Linear(sizes.width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images [n, channels, height, width] to logits [n, classes]."""
        states = self.patches(images).flatten(2).transpose(1, 2)
        first = self.class_token.expand(len(states), 1, -1)
        states = self.dropout(torch.cat([first, states], dim=1) + self.places)
        for block in self.blocks:
            states = block(states, None)
        logits: Tensor = self.output(self.norm(states)[:, 0])
        return logits


def vision_transformer(
    *,
    shape: Sequence[int],
    num_classes: int,
    patch: int = 4,
    width: int = 192,
    depth: int = 6,
    heads: int = 3,
    hidden: int | None = None,
    dropout: float = 0.0,
    std: float = 0.02,
) -> nn.Module:
    """Builds a vision transformer over patches of ``patch`` x ``patch`` pixels.

    A convolution makes a state of every patch, a learned token stands before them and learned
    places are added; then ``depth`` blocks of attention and GELUs with the norm first, a norm, and
    ``output`` over the token. With c channels, n patches of p x p, and w, d, h, C of the others
    there are w (c p^2 + 1) + w + (n + 1) w + d (4 w^2 + 2 w h + 9 w + h) + 2 w + C (w + 1)
    parameters, of which w c p^2 + d (4 w^2 + 2 w h) + C w are weights of layers. Queries, keys and
    values are layers of their own. Initial values as in ``transformer_classifier``; the patches'
    convolution is a linear layer of them and is drawn as one.
    Dosovitskiy et al., ICLR 2021, arXiv:2010.11929; this small for CIFAR: DeiT-tiny's width
    (Touvron et al., ICML 2021, arXiv:2012.12877) at half its depth.
    Raises UserError for sizes that do not fit.
    """
    channels, height, across = _patched(shape, patch, num_classes)
    sizes = Sizes(width, depth, heads, hidden, dropout)
    num_patches = (height // patch) * (across // patch)
    model = VisionTransformer(
        sizes, channels=channels, num_patches=num_patches, patch=patch, num_classes=num_classes
    )
    nn.init.normal_(model.patches.weight, std=std)
    assert model.patches.bias is not None
    nn.init.zeros_(model.patches.bias)
    return drawn(model, model.blocks, std)


def packed_vision_transformer(
    *,
    shape: Sequence[int],
    num_classes: int,
    patch: int = 16,
    width: int = 384,
    depth: int = 12,
    heads: int = 6,
    hidden: int | None = None,
    dropout: float = 0.0,
) -> nn.Module:
    """Builds torchvision's vision transformer, whose queries, keys and values are one matrix.

    Names of layers and initial values are torchvision's, the output's all zero; blocks are those of
    ``vision_transformer``, over images that are square, and there are as many parameters.
    DeiT-small by default: Touvron et al., ICML 2021, arXiv:2012.12877.
    Raises UserError for sizes that do not fit, and without torchvision.
    """
    channels, height, across = _patched(shape, patch, num_classes)
    if channels != 3 or height != across:
        raise UserError(
            f"torchvision's vision transformer takes square images of 3 channels, not "
            f"{list(shape)}: choose model=vit, or another dataset.shape"
        )
    sizes = Sizes(width, depth, heads, hidden, dropout)
    try:
        from torchvision.models.vision_transformer import VisionTransformer as Packed
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise UserError(
            f"model=deit needs torchvision, which cannot be imported ({error}). Install torch and "
            "torchvision from the same package index, or choose model=vit"
        ) from error
    assert sizes.hidden is not None
    model: nn.Module = Packed(
        height, patch, depth, heads, width, sizes.hidden, dropout, num_classes=num_classes
    )
    return model


def _patched(shape: Sequence[int], patch: int, num_classes: int) -> tuple[int, int, int]:
    """Gives channels, height and width; raises UserError where they do not fall into patches."""
    check_positive(num_classes, what="num_classes")
    check_positive(patch, what="model.patch")
    if len(shape) != 3:
        raise UserError(f"samples of shape {list(shape)} are no images [channels, height, width]")
    channels, height, across = shape
    if height % patch or across % patch:
        raise UserError(
            f"images of {height}x{across} pixels do not fall into patches of {patch}x{patch}: "
            "model.patch must divide both"
        )
    return channels, height, across
