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
    sizes = Sizes(width, depth, heads, hidden, dropout)
    num_patches = (height // patch) * (across // patch)
    model = VisionTransformer(
        sizes, channels=channels, num_patches=num_patches, patch=patch, num_classes=num_classes
    )
    nn.init.normal_(model.patches.weight, std=std)
    assert model.patches.bias is not None
    nn.init.zeros_(model.patches.bias)
    return drawn(model, model.blocks, std)
