"""Making splits of data: reading pairs, holding out, counting, measuring moments."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lth_runner.values import tree
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream as generator
from lth_runner.values.tree import Batch, Tree

OTHER_WHOLE = (
    torch.int8, torch.int16, torch.int32, torch.uint16, torch.uint32, torch.uint64,
)  # fmt: skip
Split = Batch  # all samples of a split: inputs and targets


def as_split(pair: Any, where: str) -> Split:
    """Turns a pair (inputs, targets) of tensors, arrays or mappings of them into a Split.

    Whole numbers become int64, but for images in uint8; other numbers float32. Raises UserError
    naming ``where``.
    """
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise UserError(f"{where} is a {type(pair).__name__}: give a pair (inputs, targets)")
    try:
        inputs, targets = _as_tree(pair[0]), _as_tree(pair[1])
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{where} does not convert to tensors: {error}") from error
    targets = tree.each(lambda v: v.long() if v.dtype == torch.uint8 else v, targets)
    check_split((inputs, targets), where)
    return inputs, targets


def _as_tree(value: Any) -> Tree:
    if isinstance(value, Mapping):
        return {str(name): standard(torch.as_tensor(part)) for name, part in value.items()}
    return standard(torch.as_tensor(value))


def standard(value: Tensor) -> Tensor:
    """Turns whole numbers into int64, but for uint8, and other numbers into float32."""
    if value.is_floating_point():
        return value.float()
    return value.long() if value.dtype in OTHER_WHOLE else value


def check_split(split: Split, where: str) -> None:
    """Raises UserError unless the pair has a Split's types, shapes and lengths."""
    inputs, targets = split
    if isinstance(inputs, Tensor):
        if inputs.dtype not in (torch.uint8, torch.float32, torch.int64):
            raise UserError(
                f"{where} inputs are {inputs.dtype}: give uint8 images, floats or token numbers"
            )
        if inputs.dim() < 2:
            raise UserError(
                f"{where} inputs have shape {tuple(inputs.shape)}: give [samples, features...]"
            )
    for part, what in ((inputs, "inputs"), (targets, "targets")):
        if not tree.tensors(part) or not all(value.dim() for value in tree.tensors(part)):
            raise UserError(
                f"{where} {what} are {'a single number' if tree.tensors(part) else 'no tensors'}: "
                "give tensors whose first axis counts the samples"
            )
    counts = {len(value) for part in split for value in tree.tensors(part)}
    if len(counts) > 1:
        raise UserError(
            f"{where} has {tree.length(inputs)} inputs but {tree.length(targets)} targets: give "
            "one of each for every sample"
        )


def described_pair(split: Split) -> str:
    """Says types and shapes of one sample's input and target, for messages."""
    return " -> ".join(map(tree.describe, split))


def read_batches(batches: Iterable[Any], where: str) -> Split:
    """Reads all batches (inputs, targets) of an iterable once, into one Split."""
    pairs = [as_split(batch, where) for batch in batches]
    if not pairs:
        raise UserError(f"the {where} loader gave no batch: is it empty, or already used up?")
    kinds = sorted({described_pair(pair) for pair in pairs})
    if len(kinds) > 1:
        raise UserError(f"the {where} loader gave samples of several kinds: {'; '.join(kinds)}")
    return tree.cat([x for x, _ in pairs]), tree.cat([y for _, y in pairs])


def hold_out(split: Split, amount: float, *, seed: int) -> tuple[Split, Split]:
    """Splits into (the rest, ``amount`` samples drawn by ``seed``), both in the original order."""
    rest, held = numbers_held_out(tree.length(split[1]), amount, seed=seed)
    return _pick(split, rest), _pick(split, held)


def keep_subset(split: Split, amount: float | None, *, seed: int) -> Split:
    """Keeps ``amount`` samples drawn by ``seed`` in the original order; all of them for None.

    Nested: with one seed, a smaller subset is part of a larger one.
    """
    if amount is None:
        return split
    return _pick(split, numbers_kept(tree.length(split[1]), amount, seed=seed))


def numbers_held_out(total: int, amount: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Draws which of ``total`` samples are held out: the numbers of the rest, and theirs, in order.

    Raises UserError where none is left.
    """
    num = count_of(amount, total, key="validation", least=0, most=total - 1)
    permutation = torch.randperm(total, generator=generator(seed, "split"))
    return permutation[num:].sort().values, permutation[:num].sort().values


def numbers_kept(total: int, amount: float, *, seed: int) -> Tensor:
    """Draws the numbers of ``amount`` of ``total`` samples, in order; raises UserError for none."""
    num = count_of(amount, total, key="subset", least=1, most=total)
    permutation = torch.randperm(total, generator=generator(seed, "subset"))
    return permutation[:num].sort().values


def of_classes(
    train: Split, test: Split, classes: Sequence[int] | None, num_found: int
) -> tuple[Split, Split, int]:
    """Takes the samples of some classes, numbered anew in this order; all of them for None.

    Returns both splits and how many classes there are then. Raises UserError for a class that the
    data have not, and for one that is named twice.
    """
    if classes is None:
        return train, test, num_found
    chosen = list(classes)
    is_whole = all(isinstance(one, int) and not isinstance(one, bool) for one in chosen)
    if not is_whole or not chosen or not all(0 <= one < num_found for one in chosen):
        raise UserError(
            f"dataset.classes={chosen}: list classes by their numbers, 0 to {num_found - 1}"
        )
    if len(set(chosen)) < len(chosen):
        raise UserError(f"dataset.classes={chosen} names a class twice: name each once")
    numbers = torch.full((num_found,), -1)
    numbers[chosen] = torch.arange(len(chosen))
    found = []
    for inputs, labels in (train, test):
        assert isinstance(labels, Tensor)
        new = numbers[labels]
        kept = (new >= 0).nonzero().squeeze(1)
        found.append((tree.rows(inputs, kept), new[kept]))
    return found[0], found[1], len(chosen)


def count_of(amount: float, total: int, *, key: str, least: int, most: int) -> int:
    """Reads ``amount`` as a count if it is an integer, else as a fraction of ``total``.

    Raises UserError for what does not come to least..most.
    """
    is_number = isinstance(amount, (int, float)) and not isinstance(amount, bool)
    if is_number and math.isfinite(amount) and (isinstance(amount, int) or 0 <= amount <= 1):
        num = amount if isinstance(amount, int) else round(amount * total)
        if least <= num <= most:
            return num
    raise UserError(
        f"{key} is {amount!r}: give a fraction between 0.0 and 1.0, or a whole number of samples,"
        f" that comes to {least}..{most} of the {total} samples"
    )


def moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Computes each channel's mean and deviation, in units of 255, of uint8 [n, channels, ...].

    A constant channel gets standard deviation 1.
    """
    mean, std = [], []
    for channel in range(images.shape[1]):
        counts = images[:, channel].flatten().bincount(minlength=256).tolist()
        # whole numbers up to the last division: equal bits, so equal fingerprints, on any machine
        num = sum(counts)
        first = sum(level * count for level, count in enumerate(counts))
        second = sum(level**2 * count for level, count in enumerate(counts))
        variance = (second * num - first**2) / num**2
        mean.append(first / num / 255)
        std.append(math.sqrt(variance) / 255 if variance > 0 else 1.0)
    return tuple(mean), tuple(std)


def _pick(split: Split, index: Tensor) -> Split:
    return tree.rows(split[0], index), tree.rows(split[1], index)
