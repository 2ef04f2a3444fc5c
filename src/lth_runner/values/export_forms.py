"""The forms that a ticket can be taken away in, and how its report measures them by default.

A command knows them before it loads what writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lth_runner.values.errors import UserError

SUFFIXES: Mapping[str, tuple[str, ...]] = MappingProxyType({  # how their names end; (): a folder
    "checkpoint": (".safetensors", ".pt"),
    "pretrained": (),
    "shrink": (".pt2",),
    "onnx": (".onnx",),
    "semi_structured": (".safetensors",),
    "csr": (".safetensors",),
    "bitmask": (".safetensors",),
    "task_vector": (".safetensors",),
    "peft": (),
})  # fmt: skip
PACKED = ("semi_structured", "csr", "bitmask", "task_vector")  # no plain tensors by name
MADE_BY = "lth-export"  # what the metadata of its files say under made_by
BATCHES = (1, 32, 256)
REPETITIONS = 30  # below which a spread says little


def refuse_packed(metadata: Mapping[str, str], called: str) -> None:
    """Raises UserError where the metadata of a file say that it is an exported one and packed."""
    form = metadata.get("form")
    if metadata.get("made_by") == MADE_BY and form in PACKED:
        raise UserError(
            f"{called} was written by lth-export as {form}, which packs its tensors: export the "
            "same ticket with --as checkpoint"
        )
