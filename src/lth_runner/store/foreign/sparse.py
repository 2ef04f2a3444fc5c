"""Sparse checkpoints, whose zeros are the mask: SparseGPT, Wanda, llm-compressor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from lth_runner.search.given_ticket import Tensors
from lth_runner.values.errors import UserError

# what compressed-tensors and kernels of quantized weights put in a weight's place
COMPRESSED = frozenset(
    {"compressed", "bitmask", "row_offsets", "weight_packed", "scale_packed", "qweight"}
)


def is_checkpoint(tensors: Tensors) -> bool:
    """Whether there is a matrix of floating numbers, or a filter, which a mask may be read off."""
    shaped = (tensors[name] for name in tensors)
    return any(value.ndim > 1 and value.is_floating_point() for value in shaped)


def refuse_compressed(tensors: Tensors, called: str) -> None:
    """Raises UserError for weights that are stored packed, and says how to write them out."""
    packed = [name for name in tensors if name.rpartition(".")[2] in COMPRESSED]
    if packed:
        raise UserError(
            f"{called} is stored compressed ({packed[0]}), and its zeros cannot be seen: write it "
            "out dense, with llm-compressor by model.save_pretrained(folder, save_compressed=False)"
        )


class NonZero(Mapping[str, Tensor]):
    """Where the tensors of a checkpoint are not zero, each found when it is looked up.

    Raises UserError for a tensor with values that are not finite.
    """

    def __init__(self, tensors: Tensors, called: str) -> None:
        self._tensors, self._called = tensors, called

    def __getitem__(self, name: str) -> Tensor:
        value = self._tensors[name]
        if not bool(value.isfinite().all()):
            raise UserError(
                f"{self._called}: {name} has values that are not finite, of which no mask can be "
                "read: take another copy of the file"
            )
        return value != 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
