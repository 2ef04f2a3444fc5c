"""Winning tickets of a network of your own, from Python: no config, no command line.

python docs/examples/own_network.py [OUTPUTS]     results in OUTPUTS/own_network, outputs by default
"""

from __future__ import annotations

import functools
import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lth_runner as lth


class Net(nn.Module):
    """Any module that answers a batch of inputs with a batch of logits."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.hidden = nn.Linear(64, width)
        self.output = nn.Linear(width, 10)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.output(self.hidden(inputs.flatten(1)).relu())


def digits() -> lth.Data:
    """Any tensors, or any loader of (inputs, labels) batches."""
    loaded = load_digits()
    images = torch.tensor(loaded.images).float() / 16
    labels = torch.tensor(loaded.target)
    test = DataLoader(TensorDataset(images[1500:], labels[1500:]), batch_size=100)
    train = DataLoader(TensorDataset(images[:1500], labels[:1500]), batch_size=100)
    return lth.Data.from_loaders(train=train, test=test, validation=0.1)


def main(outputs: str) -> None:
    factory = functools.partial(Net, width=48)  # a class or a partial; a lambda has no name
    experiment = lth.Experiment(
        tasks=[lth.Task(factory, digits(), seed) for seed in (0, 1)],
        search=lth.Iterative(
            lth.Magnitude(),
            lth.Global(),
            lth.Geometric(sparsity=0.9, rounds=3),
            lth.Rewind(step="20it"),
        ),
        masking=lth.Static(),
        controls={"reinit": lth.Reinit()},
        probes=[lth.Performance(), lth.Signs()],
    )
    recipe = lth.Recipe(
        length="10ep",
        batch_size=50,
        optimizer=functools.partial(torch.optim.SGD, lr=0.2, momentum=0.9),
    )
    result = lth.run_parts(experiment, recipe, name="own_network", outputs=outputs)

    net = Net(width=48)  # a plain module again
    mask = lth.load_ticket(result.folder / "tickets" / "round-03.safetensors", net)
    zeros = sum(int((value == 0).sum()) for value in (net.hidden.weight, net.output.weight))
    print(f"round-03 in a plain module: {mask.num_kept} weights kept, {zeros} are zero")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "outputs")
