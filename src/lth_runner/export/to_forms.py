"""One function for each form that a ticket can be taken away in, named as the form is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from lth_runner.export.form import Exported, exported
from lth_runner.export.peft_adapter import PeftAdapter
from lth_runner.export.pretrained_folder import PretrainedFolder
from lth_runner.export.programs import Onnx, ShrunkProgram
from lth_runner.export.taken_ticket import Taken
from lth_runner.export.task_vector import TaskVectorForm
from lth_runner.export.tensor_files import BITMASK, CSR, Checkpoint
from lth_runner.export.two_of_four import SemiStructured


def to_checkpoint(ticket: Taken, to: str | Path, *, samples: int | None = None) -> Exported:
    """Writes the plain ``state_dict``, to .safetensors or .pt; as ``exported`` does."""
    return exported(ticket, to, Checkpoint(Path(to).suffix), samples=samples)


def to_pretrained(ticket: Taken, to: str | Path, *, samples: int | None = None) -> Exported:
    """Writes a folder that ``from_pretrained`` reads, of model=hf; as ``exported`` does."""
    return exported(ticket, to, PretrainedFolder(), samples=samples)


def to_shrink(ticket: Taken, to: str | Path, *, samples: int | None = None) -> Exported:
    """Writes the network without what its mask has killed, to .pt2; as ``exported`` does."""
    return exported(ticket, to, ShrunkProgram(), samples=samples)


def to_onnx(ticket: Taken, to: str | Path, *, samples: int | None = None) -> Exported:
    """Writes an ONNX model of any batch size, to .onnx; as ``exported`` does."""
    return exported(ticket, to, Onnx(), samples=samples)


def to_semi_structured(ticket: Taken, to: str | Path, *, samples: int | None = None) -> Exported:
    """Writes 2:4 tensors packed, to .safetensors; as ``exported`` does."""
    return exported(ticket, to, SemiStructured(), samples=samples)


def to_csr(ticket: Taken, to: str | Path, *, samples: int | None = None) -> Exported:
    """Writes rows of weights that stay with their columns, to .safetensors; as ``exported``."""
    return exported(ticket, to, CSR, samples=samples)


def to_bitmask(ticket: Taken, to: str | Path, *, samples: int | None = None) -> Exported:
    """Writes a bit a weight and the weights that stay, to .safetensors; as ``exported`` does."""
    return exported(ticket, to, BITMASK, samples=samples)


def to_task_vector(ticket: Taken, to: str | Path, *, samples: int | None = None) -> Exported:
    """Writes deltas and a bit for each place, to .safetensors; as ``exported`` does."""
    return exported(ticket, to, TaskVectorForm(), samples=samples)


def to_peft(ticket: Taken, to: str | Path, *, samples: int | None = None) -> Exported:
    """Writes an adapter's folder that peft reads, of model=hf; as ``exported`` does."""
    return exported(ticket, to, PeftAdapter(), samples=samples)


TO_FORMS: Mapping[str, Callable[..., Exported]] = MappingProxyType({  # as a command names them
    "checkpoint": to_checkpoint,
    "pretrained": to_pretrained,
    "shrink": to_shrink,
    "onnx": to_onnx,
    "semi_structured": to_semi_structured,
    "csr": to_csr,
    "bitmask": to_bitmask,
    "task_vector": to_task_vector,
    "peft": to_peft,
})  # fmt: skip
