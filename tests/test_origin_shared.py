"""A file with two values for what the network shares is refused: one of them would be lost."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lth_runner.problem.origin import File
from lth_runner.values.errors import UserError


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(4, 2)
        self.output = nn.Linear(2, 4, bias=False)
        self.output.weight = self.words.weight


@pytest.mark.parametrize("factor", [1, 2])
def test_two_values_of_a_shared_parameter_are_refused_and_one_twice_is_read(
    tmp_path, factor: int
) -> None:
    values = torch.arange(8.0).reshape(4, 2)
    file = tmp_path / "model.safetensors"
    save_file({"output.weight": factor * values, "words.weight": values.clone()}, file)
    network = Tied()
    if factor == 1:
        File(str(file)).lay(network)
        assert torch.equal(network.output.weight, values)
    else:
        with pytest.raises(UserError, match="shares one parameter"):
            File(str(file)).lay(network)
