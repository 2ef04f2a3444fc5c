"""Partial-LoRA: rows and columns of low-rank adapters, as many of each layer as its task needs."""

from lth_runner.search.partial_lora.lines import check_pairs, drawn, kept_lines, lines_of, singular
from lth_runner.search.partial_lora.ratios import Derived, Even, Ratios, even
from lth_runner.search.partial_lora.search import PartialLoRA

__all__ = [
    "Derived",
    "Even",
    "PartialLoRA",
    "Ratios",
    "check_pairs",
    "drawn",
    "even",
    "kept_lines",
    "lines_of",
    "singular",
]
