"""The search that keeps the rows of an embedding whose values training has moved."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lth_runner.allocate import count
from lth_runner.problem.coordinates import Delta, stock_name
from lth_runner.problem.task import Task
from lth_runner.score.kolmogorov_smirnov import check_level, p_values, significant, statistics
from lth_runner.search.rewind import Rate
from lth_runner.search.ticket import Past, Start, Ticket, dense_ticket
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.listed import listed
from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step

Correction = Literal["none", "bonferroni", "bh"]
SHOWN = 20  # rows that the log names
SMOKE, SMOKE_RATE = 2, 0.2  # rounds and rate that +scale=smoke gives every pruner
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KsLottery:
    """Trains all deltas of an embedding, then those rows alone whose distribution has moved.

    Round 0 is the paper's embed tuning. Row j, a token's, is kept where the two-sample
    Kolmogorov-Smirnov test of its values before and after says p_j < ``alpha``, after a
    ``correction`` for the number of rows (none, bonferroni, bh); or where it is among the
    ``num_rows`` whose statistic is largest, or the share 1 - ``sparsity`` of them, in place of
    alpha. One round finds them all. Round 1 starts from the embedding as
    it was and trains these rows (partial tuning); with ``transfer`` it takes their trained values
    and trains nothing (partial transfer). The two samples are the same coordinates before and
    after, so that p ranks and sets a threshold and is no error rate.
    Yuan et al., NAACL 2025, arXiv 2402.02801. Raises UserError for what has no rows, for weights
    that are no deltas, and where no row has moved.
    """

    alpha: float | None = 0.05
    correction: Correction = "bonferroni"
    num_rows: int | None = None
    sparsity: float | None = None
    rounds: int | None = None
    rate: float | None = None
    transfer: bool = False

    def __post_init__(self) -> None:
        ways = {"alpha": self.alpha, "num_rows": self.num_rows, "sparsity": self.sparsity}
        if sum(value is not None for value in ways.values()) != 1:
            told = ", ".join(f"pruner.{key}={value}" for key, value in ways.items())
            raise UserError(f"{told}: give one of them, and null for the others")
        if self.rounds not in (None, 1, SMOKE):
            raise UserError(f"pruner.rounds={self.rounds}: one round finds all rows; leave it null")
        if self.rate not in (None, SMOKE_RATE):
            raise UserError(
                f"pruner.rate={self.rate!r}: no share of rows goes by it; leave it null"
            )
        if self.sparsity is not None:
            check_level(self.sparsity, "pruner.sparsity")
        if self.alpha is not None:
            check_level(self.alpha, "pruner.alpha")
        if self.correction not in get_args(Correction):
            said = nearest(str(self.correction), get_args(Correction))
            raise UserError(f"pruner.correction={self.correction!r}: {said}")
        num = self.num_rows
        if num is not None and (isinstance(num, bool) or not isinstance(num, int) or num < 1):
            raise UserError(f"pruner.num_rows={num}: give a whole number, at least 1")

    @property
    def num_rounds(self) -> int:
        return 2

    @property
    def num_dense(self) -> int:
        return 1

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError for weights that are no deltas, for none of rows, and for too few."""
        if not isinstance(task.coordinates, Delta):
            raise UserError(
                "pruner=ks_lottery compares rows with what they were, and a weight decay or a "
                "moving average of weights would move all of them: set coordinates=delta"
            )
        rows = 0
        for name, kept in task.dense().items():
            if kept.ndim < 2:
                raise UserError(
                    f"pruner=ks_lottery keeps whole rows, and {stock_name(name)} has none: its "
                    f"shape is {tuple(kept.shape)}; name the embedding alone, "
                    "coordinates.only=['*embed*weight']"
                )
            rows += len(kept)
        num = self._num_kept(rows)
        if num is not None and not 0 < num < rows:
            asked = f"num_rows={num}" if self.num_rows else f"sparsity={self.sparsity}"
            raise UserError(
                f"pruner.{asked} keeps {num} of {rows} rows: some must be kept, and some removed"
            )
        for name in task.prunable:
            if tied := _other_layers(task, name):
                log.info(
                    "tied     %s is used by %s too: a row that is trained changes both",
                    stock_name(name), listed(tied),
                )  # fmt: skip

    def snapshots(self, clock: Clock) -> Sequence[Step]:
        return []

    def propose(self, task: Task, past: Past) -> Ticket | None:
        if len(past) >= self.num_rounds:
            return None
        if not past:
            return dense_ticket(task)
        trained = past[0].weights
        mask = self.decide(task, trained)
        if self.transfer:
            return Ticket(mask, trained, Start().at_the_end(past[0].clock))
        return Ticket(mask, task.init())

    def decide(self, task: Task, trained: State) -> Mask:
        """Keeps the rows that have moved, of all tensors that a mask covers together."""
        shifts = row_shifts(task, trained)
        dense = task.dense()
        pooled = torch.cat([shifts[name] for name in dense])
        chosen = self._chosen(
            pooled, [dense[name][0].numel() for name in dense for _ in dense[name]]
        )
        parts = chosen.split([len(kept) for kept in dense.values()])
        for name, part in zip(dense, parts, strict=True):
            rows = sorted(part.nonzero()[:, 0].tolist(), key=lambda j: -float(shifts[name][j]))
            log.info(
                "rows     %d of %d of %s: %s", len(rows), len(part), stock_name(name),
                listed([str(row) for row in rows], SHOWN),
            )  # fmt: skip
        return whole_rows(dict(zip(dense, parts, strict=True)), dense)

    def _num_kept(self, num_rows: int) -> int | None:
        return self.num_rows if self.sparsity is None else count(1 - self.sparsity, num_rows)

    def _chosen(self, shifts: Tensor, sizes: Sequence[int]) -> Tensor:
        num = self._num_kept(len(shifts))
        if num is not None:
            best = shifts.argsort(descending=True, stable=True)[:num]
            chosen = torch.zeros(len(shifts), dtype=torch.bool).index_fill(0, best, value=True)
            if bool((shifts[best] > 0).all()):
                return chosen
            raise UserError(
                f"{num} rows are asked for, and training has moved {int((shifts > 0).sum())} only: "
                "ask for fewer, or train longer"
            )
        assert self.alpha is not None
        widths = torch.tensor(sizes)
        p = torch.ones(len(shifts), dtype=torch.float64)
        for size in widths.unique().tolist():
            p[widths == size] = p_values(shifts[widths == size], size)
        chosen = significant(p, self.alpha, self.correction)
        if bool(chosen.any()):
            return chosen
        raise UserError(
            f"no row has moved: of {len(p)} the smallest p is {float(p.min()):.2g}, and "
            f"pruner.alpha={self.alpha} with pruner.correction={self.correction} asks for less. "
            "Train longer, raise alpha, or take the first ones (pruner.alpha=null "
            "pruner.num_rows=18)"
        )


def row_shifts(task: Task, trained: State) -> dict[str, Tensor]:
    """Computes the Kolmogorov-Smirnov statistic of each row of what a mask covers, [rows]."""
    before, after = task.merged(task.init()), task.merged(trained)
    found = {}
    for name in task.prunable:
        stock = stock_name(name)
        found[name] = statistics(before[stock].flatten(1), after[stock].flatten(1))
    return found


def whole_rows(rows: Mapping[str, Tensor], like: Mask) -> Mask:
    """Makes a mask of whole rows from a bit for each."""
    return Mask(
        {
            name: rows[name].reshape(-1, *[1] * (kept.ndim - 1)).expand_as(kept)
            for name, kept in like.items()
        }
    )


def _other_layers(task: Task, name: str) -> list[str]:
    """Lists the layers, but for the first, that use one parameter."""
    parts = dict(task.named_modules())
    path, _, leaf = name.rpartition(".")
    own = parts[path]._parameters[leaf]
    return [
        other.split(".parametrizations")[0]
        for other, part in parts.items()
        if other != path and any(value is own for value in part._parameters.values())
    ]
