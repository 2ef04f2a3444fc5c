"""The budget of a network, shared out to its layers as whole numbers of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from lth_runner.allocate.keep import Rounding, count, keep_top
from lth_runner.allocate.on_device import Choose, Top, laid
from lth_runner.score import Scores
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.name_patterns import others, spares_others

Counts = dict[str, int]  # prunable name -> weights


def refuse_biases(within: Mask, scope: str) -> None:
    """Raises UserError for biases in a budget that goes by inputs, outputs or depth."""
    if within.biases:
        raise UserError(
            f"pruner.biases=true: pruner.scope={scope} goes by a weight's inputs, outputs or "
            "depth, and a bias has none: set pruner.scope to global, layerwise, uniform, given or "
            "deviation, or leave pruner.biases out"
        )


@dataclass(frozen=True)
class Budget:
    """How many weights are to be kept, and in which layers.

    ``total`` weights are for the layers of ``capacity``, which holds what is left of each;
    ``fixed`` layers stay as they are. Those called ``biases`` may be emptied: no signal passes
    through them.
    """

    total: int
    capacity: Counts
    fixed: Counts
    biases: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        density: float,
        within: Mask,
        exclude: Iterable[str],
        dense: Sequence[str] = (),
        rounding: Rounding = "nearest",
    ) -> Budget:
        """Makes the budget that is left when the excluded layers, and those of ``dense``, stay.

        It counts every prunable weight, the excluded ones too: the sparsity asked for is that of
        the whole network, and the other layers give what the excluded ones do not. Raises
        UserError where they cannot.
        """
        spared = {*within}.difference(others(exclude, within, "pruner.exclude")) | {*dense}
        left = {name: int(kept.sum()) for name, kept in within.items()}
        capacity = {name: num for name, num in left.items() if name not in spared}
        fixed = {name: num for name, num in left.items() if name in spared}
        if not capacity:
            raise UserError(
                f"no layer is left to prune: {dense[0]}, the first, stays dense"
                f"{spares_others(exclude, 'pruner.exclude')}: choose another pruner.scope, "
                "layerwise for example"
            )
        total = count(density, within.num_prunable, rounding) - sum(fixed.values())
        if not 0 <= total <= sum(capacity.values()):
            first = f" ({dense[0]}, the first, is one)" if dense else ""
            raise UserError(
                f"density {density:.4g} cannot be had: {sum(fixed.values())} weights are in "
                f"excluded layers{first} and {sum(capacity.values())} others are left of "
                f"{within.num_prunable}"
            )
        return cls(total, capacity, fixed, within.biases)

    def least(self, name: str) -> int:
        """How many entries of a tensor stay at least: one of a weight that has any, no bias."""
        return 0 if name in self.biases else min(1, self.capacity[name])

    def check_none_empty(self) -> None:
        """Raises UserError where there are fewer weights than layers."""
        num_layers = sum(map(self.least, self.capacity))
        if self.total < num_layers:
            raise UserError(
                f"pruner.avoid_collapse wants a weight in each of {num_layers} layers, "
                f"but {self.total} are to be kept in them: lower pruner.sparsity"
            )

    def none_below_least(self, shares: Mapping[str, float]) -> dict[str, float]:
        """Raises shares below ``least`` to it; the others give, in proportion, what that takes."""
        poor: set[str] = set()
        while True:
            owed = sum(self.least(name) - shares[name] for name in poor)
            rest = sum(share for name, share in shares.items() if name not in poor)
            factor = 1 - owed / rest if rest else 1.0
            given = {
                name: float(self.least(name)) if name in poor else factor * share
                for name, share in shares.items()
            }
            fresh = {name for name, share in given.items() if share < self.least(name)}
            if not fresh:
                return given
            poor |= fresh

    def proportional(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Shares ``total`` out as c * weights, none above its layer's capacity.

        What a full layer cannot take goes to the others in proportion, until it fits: one factor
        c, and every layer either below its capacity or at it. Raises UserError where layers of
        weight zero would have to take some.
        """
        left = float(self.total)
        shares = dict.fromkeys(self.capacity, 0.0)
        waiting = [name for name, num in self.capacity.items() if weights[name] > 0 and num]
        while waiting:
            factor = left / sum(weights[name] for name in waiting)
            full = [name for name in waiting if factor * weights[name] >= self.capacity[name]]
            if not full:
                return shares | {name: factor * weights[name] for name in waiting}
            for name in full:
                shares[name] = float(self.capacity[name])
                left -= self.capacity[name]
            waiting = [name for name in waiting if name not in full]
        if left > 0.5:
            raise UserError(
                f"{self.total} weights are to be kept, {round(left)} more than the layers with a "
                "density above zero hold: lower the density, or raise theirs"
            )
        return shares

    def whole_numbers(self, shares: Mapping[str, float], *, avoid_collapse: bool = False) -> Counts:
        """Rounds shares to whole numbers with sum ``total``: down, the largest remainders up."""
        kept = {name: math.floor(share) for name, share in shares.items()}
        by_remainder = sorted(kept, key=lambda name: kept[name] - shares[name])
        missing = self.total - sum(kept.values())
        while missing > 0:
            for name in by_remainder:
                if missing and kept[name] < self.capacity[name]:
                    kept[name] += 1
                    missing -= 1
        if avoid_collapse:
            self.check_none_empty()
            for name in [name for name, num in kept.items() if num < self.least(name)]:
                kept[max(kept, key=lambda other: kept[other] - self.least(other))] -= 1
                kept[name] = 1
        return kept

    def keep(self, counts: Counts, scores: Scores, within: Mask, seed: int) -> Mask:
        """Keeps as many of the best-scored weights of each layer as ``counts`` says."""
        counts = self.fixed | counts
        return Mask(
            {
                name: keep_top(scores[name], inside, counts[name], seed + index)
                for index, (name, inside) in enumerate(within.items())
            }
        )

    def keep_on_device(
        self, counts: Counts, within: Mask, seed: int, device: torch.device
    ) -> Choose:
        """Prepares ``keep`` of scores on a device."""
        counts, inside = self.fixed | counts, laid(within, device)
        top = {name: Top(counts[name], seed + index, device) for index, name in enumerate(within)}
        return lambda scores: {
            name: top[name]([scores[name]], [inside[name]])[0] for name in inside
        }
