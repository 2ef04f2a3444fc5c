"""Which layers normalise: the one list that every question about them goes by."""

from __future__ import annotations

import re

from torch import nn

# what torch has: batch and instance norm, with running statistics or without, and the others
_TORCHS = (
    nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm,
    nn.CrossMapLRN2d,
)  # fmt: skip
_NAMED = re.compile(r"norm_?([123]d)?", re.IGNORECASE)  # how the name of such a class ends

# norms of one scale a channel, the second axis of what they read
CHANNEL_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)


def meets(module: nn.Module) -> bool:
    """Whether a norm in training may go by other samples than the one it normalises.

    Batch norm does; of a class of one's own nobody knows.
    """
    by_sample = (nn.modules.instancenorm._InstanceNorm, *_TORCHS[1:])
    return is_norm(module) and not isinstance(module, by_sample)


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises: one of torch's, or a class of one's own that is named so.

    The latter has no modules within and nothing but vectors and numbers (``LlamaRMSNorm``,
    ``LayerNorm2d``, ``FrozenBatchNorm2d``).
    """
    if isinstance(module, _TORCHS):
        return True
    kind = type(module)
    match = [*_NAMED.finditer(kind.__name__)]
    if not match or match[-1].end() != len(kind.__name__) or kind.__module__.startswith("torch."):
        return False  # torch's others norm weights: parametrisations
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    vectors = all(value.numel() == max(value.shape, default=1) for value in own)
    return vectors and next(module.children(), None) is None
