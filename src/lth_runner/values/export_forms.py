"""The forms that a ticket can be taken away in, and how its report measures them by default.

A command knows them before it loads what writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

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
BATCHES = (1, 32, 256)
REPETITIONS = 30  # below which a spread says little
