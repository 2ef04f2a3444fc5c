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


def mixes_samples(module: nn.Module, *, batch_statistics: bool) -> bool:
    """Whether a norm may go by other samples than the one it normalises.

    By the batch's statistics batch norm does, and of a class of one's own nobody knows; a batch
    norm that keeps no running statistics goes by the batch's in evaluation too.
    """
    by_sample = (nn.modules.instancenorm._InstanceNorm, *_TORCHS[1:])
    if not is_norm(module) or isinstance(module, by_sample):
        return False
    has_no_others = (
        isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None
    )
    return batch_statistics or has_no_others


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
