"""What the papers say of one-shot pruning of language models, decided before the runs."""

from __future__ import annotations

from claim import Claim, Group
from oneshot import (
    GLOBAL,
    MAGNITUDE,
    NAME,
    SPARSEGPT,
    TWO_OF_FOUR,
    WANDA,
    Cell,
    Collapsed,
    Lower,
    Narrowed,
    Recovered,
)

FRANTAR = "Frantar & Alistarh, ICML 2023, arXiv:2301.00774"
SUN = "Sun et al., ICLR 2024, arXiv:2306.11695"
BELOW = "difference below 0"
COLLAPSE = 10.0  # times the perplexity of the pretrained network
COMMANDS = {
    "magnitude_at_init": f"{MAGNITUDE} pruner.scope=layerwise",
    "wanda": WANDA,
    "sparsegpt": SPARSEGPT,
}
CALLED = {
    "magnitude_at_init": "magnitude by layer",
    "wanda": "Wanda",
    "sparsegpt": "SparseGPT",
}


SCOPES = {TWO_OF_FOUR: "n_of_m", GLOBAL: "global"}


def _command(cell: Cell) -> str:
    words = [COMMANDS[cell.pruner], f"pruner.sparsity={cell.sparsity:g}"]
    if cell.pattern is not None:
        words[0] = words[0].replace("pruner.scope=layerwise", "").rstrip()
        words.append(f"pruner.scope={SCOPES[cell.pattern]}")
    words += ["pruner.retrain=true"] if cell.retrained else []
    return " ".join(words)


def _lower(first: str, second: str, sparsity: float = 0.5, *, pattern: str | None = None) -> Claim:
    cells = [Cell(pruner, sparsity, pattern) for pruner in (first, second)]
    where = pattern or f"{100 * sparsity:.0f} %"
    return Claim(
        f"oneshot-{first}-{second}-{where}",
        f"perplexity at {where}: {CALLED[first]} less {CALLED[second]}",
        "below 0", BELOW, ", then ".join(map(_command, cells)),
        {"first": (NAME, first), "second": (NAME, second)}, Lower(*cells),
    )  # fmt: skip


def _layerwise(sparsity: float) -> Claim:
    pruner, where = "magnitude_at_init", f"{100 * sparsity:.0f} %"
    cells = Cell(pruner, sparsity), Cell(pruner, sparsity, GLOBAL)
    return Claim(
        f"oneshot-layerwise-global-{where}",
        f"perplexity at {where}: magnitude by layer less magnitude, global",
        "by layer is what is pruned", BELOW, ", then ".join(map(_command, cells)),
        {"first": (NAME, pruner), "second": (NAME, pruner)}, Lower(*cells),
    )  # fmt: skip


def _collapsed(sparsity: float) -> Claim:
    cell = Cell("magnitude_at_init", sparsity)
    return Claim(
        f"oneshot-collapse-{100 * sparsity:.0f}",
        f"magnitude by layer at {100 * sparsity:.0f} %: perplexity as a multiple of the dense",
        "collapses", f"above {COLLAPSE:g}", _command(cell),
        {"run": (NAME, cell.pruner)}, Collapsed(cell, COLLAPSE),
    )  # fmt: skip


def _recovered(pruner: str) -> Claim:
    cell = Cell(pruner, 0.5, retrained=True)
    return Claim(
        f"oneshot-recovered-{pruner}",
        f"{CALLED[pruner]} at 50 %: perplexity after a short retraining less before it",
        "below 0", BELOW, _command(cell), {"run": (NAME, pruner)}, Recovered(cell),
    )  # fmt: skip


def _narrowed() -> Claim:
    cells = [Cell(pruner, 0.5, retrained=True) for pruner in ("magnitude_at_init", "wanda")]
    return Claim(
        "oneshot-narrowed",
        "magnitude by layer less Wanda at 50 %: the gap after a short retraining less before it",
        "narrower", BELOW, ", then ".join(map(_command, cells)),
        {"first": (NAME, "magnitude_at_init"), "second": (NAME, "wanda")}, Narrowed(*cells),
    )  # fmt: skip


ONE_SHOT_CLAIMS = {
    "One-shot pruning of a language model: before retraining": Group(
        f"{FRANTAR}, and {SUN}: 7 billion parameters and more, 128 samples of 2048 tokens of C4, "
        "WikiText-2. Here SmolLM2-135M, 16 samples of 128 tokens; decided before the runs.",
        (
            _lower("wanda", "magnitude_at_init"),
            _lower("sparsegpt", "magnitude_at_init"),
            _lower("wanda", "magnitude_at_init", pattern=TWO_OF_FOUR),
            _lower("sparsegpt", "magnitude_at_init", pattern=TWO_OF_FOUR),
            _lower("sparsegpt", "wanda", pattern=TWO_OF_FOUR),
            _collapsed(0.6),
            _collapsed(0.7),
        ),
    ),
    "One-shot pruning of a language model: higher sparsity, and one threshold for all": Group(
        "As above. Both papers prune layer by layer, and global magnitudes are a row of our own. "
        "Decided before the runs of Wanda, SparseGPT and global magnitudes in it.",
        (
            *(_lower("wanda", "magnitude_at_init", sparsity) for sparsity in (0.6, 0.7)),
            *(_lower("sparsegpt", "wanda", sparsity) for sparsity in (0.6, 0.7)),
            *map(_layerwise, (0.5, 0.6)),
        ),
    ),
    "One-shot pruning of a language model: after retraining": Group(
        f"{SUN}, section 5, who fine-tune for hours; here 8 steps with the mask held.",
        (*map(_recovered, ("magnitude_at_init", "wanda", "sparsegpt")), _narrowed()),
    ),
}
