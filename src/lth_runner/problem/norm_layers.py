"""Which layers normalise: the one list that every question about them goes by."""

from __future__ import annotations

from torch import nn

NORM_LAYERS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
