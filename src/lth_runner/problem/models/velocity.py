"""The network that says where a point of weight space moves at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lth_runner.problem.models.parts import check_positive
from lth_runner.values.errors import UserError


class Velocity(nn.Module):
    """A perceptron of a point and a time: [d + e -> h -> h/2 -> h -> d].

    The time goes through [1 -> e -> e]; with conditions the point's own, a number below
    ``num_conditions``, is looked up and added there. LayerNorm and GELU behind each hidden layer,
    dropout behind the first two; the last layer begins at zero, so that nothing moves at first.
    Gupta et al. (DeepWeightFlow), ICLR 2026, arXiv 2601.05052.
    """

    def __init__(
        self, size: int, width: int, time_width: int, dropout: float, num_conditions: int
    ) -> None:
        super().__init__()
        self.time = nn.Sequential(
            nn.Linear(1, time_width), nn.GELU(), nn.Linear(time_width, time_width)
        )
        self.condition = nn.Embedding(num_conditions, time_width) if num_conditions else None
        self.linear1 = nn.Linear(size + time_width, width)
        self.norm1 = nn.LayerNorm(width)
        self.linear2 = nn.Linear(width, width // 2)
        self.norm2 = nn.LayerNorm(width // 2)
        self.linear3 = nn.Linear(width // 2, width)
        self.norm3 = nn.LayerNorm(width)
        self.output = nn.Linear(width, size)
        self.dropout = nn.Dropout(dropout)
        self.activation = nn.GELU()
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, points: Tensor, times: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Computes velocities [batch, d] of points [batch, d] at times [batch, 1]."""
        if (self.condition is None) != (conditions is None):
            raise ValueError(
                "the points have conditions and the model none, or the reverse: set "
                "model.num_conditions to dataset.num_conditions"
            )
        told = self.time(times)
        if self.condition is not None:
            told = told + self.condition(conditions)
        hidden = self.linear1(torch.cat([points, told], -1))
        hidden = self.dropout(self.activation(self.norm1(hidden)))
        hidden = self.dropout(self.activation(self.norm2(self.linear2(hidden))))
        found: Tensor = self.output(self.activation(self.norm3(self.linear3(hidden))))
        return found


def velocity(
    *,
    shape: Sequence[int],
    width: int = 512,
    time_width: int = 64,
    dropout: float = 0.1,
    num_conditions: int = 0,
) -> nn.Module:
    """Builds a ``Velocity`` of points of ``shape``, [d].

    Raises UserError for sizes out of range.
    """
    if len(shape) != 1:
        raise UserError(
            f"model=velocity moves points of shape [d], and the data's are {list(shape)}: choose "
            "dataset=weight_flow"
        )
    check_positive(shape[0], what="The size of a point")
    check_positive(width // 2, what="Half of model.width")
    check_positive(time_width, what="model.time_width")
    if isinstance(num_conditions, bool) or not isinstance(num_conditions, int):
        raise UserError(f"model.num_conditions={num_conditions!r}: give a whole number")
    if num_conditions < 0 or not 0 <= dropout < 1:
        raise UserError(
            f"model.num_conditions={num_conditions} and model.dropout={dropout}: give a number of "
            "conditions from 0, and a share to drop from 0 and below 1"
        )
    return Velocity(shape[0], width, time_width, dropout, num_conditions)
