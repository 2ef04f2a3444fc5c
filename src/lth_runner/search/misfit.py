"""What is said of a ticket's tensors that do not fit the network that they are laid on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from lth_runner.problem.coordinates import prunes_to_zero
from lth_runner.problem.task import Task
from lth_runner.search.given_ticket import GivenTicket
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.listed import listed
from lth_runner.values.mask import Mask

FEW_ZEROS = 0.01  # share of a tensor's values below which its zeros are taken for chance
ROOT = "."  # the key of what all names are put under
OPEN_LTH = {  # how names of its networks begin, and what renames them
    "fc_layers.": "+pruner/rename=open_lth_mnist_lenet with model=lenet300",
    "blocks.": "+pruner/rename=open_lth_cifar_resnet_20 with model=resnet20",
}


def strangers_told(
    called: str, names: Sequence[str], own: Collection[str], places: Collection[str]
) -> str:
    """Says which names the network has not, and what makes them fit.

    ``places``: the network's names that others of the ticket have found.
    """
    prefix, fits = _prefix(names, own), bool(places)
    first = names[0].partition(".")[0]
    if all(name.removeprefix(f"{first}.") in places for name in names):
        cure = (
            f"each is there without {first}. too: leave those out by 'pruner.dropped=[{first}.*]', "
            "or out of the file"
        )
    elif prefix is not None:
        cure = f"their prefix alone differs: 'pruner.rename={prefix}' makes them fit"
    elif theirs := [cure for first, cure in OPEN_LTH.items() if _any_begins(names, first)]:
        cure = f"of OpenLTH's networks they would be renamed by {theirs[0]}"
    else:
        cure = (
            f"{nearest(names[0], own)}; map names by pruner.rename={{theirs: ours}}, or leave them "
            "out by pruner.dropped"
        )
    nothing = "" if fits else ", nor does another tensor of it fit"
    return f"{called} has {listed(names)}, which the network has not{nothing}: {cure}"


def _any_begins(names: Sequence[str], first: str) -> bool:
    return any(name.startswith(first) for name in names)


def _prefix(names: Sequence[str], own: Collection[str]) -> str | None:
    """Finds what takes all names to the network's by a common prefix; None where nothing does."""
    for one in own:
        if names[0].endswith(f".{one}"):
            prefix = names[0].removesuffix(f".{one}")
            if all(name.removeprefix(f"{prefix}.") in own for name in names):
                return f'{{{prefix}: ""}}'
        if one.endswith(f".{names[0]}"):
            prefix = one.removesuffix(f".{names[0]}")
            if all(f"{prefix}.{name}" in own for name in names):
                return f"{{{ROOT}: {prefix}}}"
    return None


def shapes_told(place: str, found: Tensor, own: Tensor) -> str:
    """Says which shape a tensor has, and which the network's."""
    return f"{place} {tuple(found.shape)} where the network has {tuple(own.shape)}"


def refuse_coordinates(task: Task, called: str, found: Mapping[str, torch.Size]) -> None:
    """Refuses masks of the stock network's weights where other numbers are masked here."""
    if task.coordinates is None or not found:
        return
    stock = task.merged(task.init())
    if all(shape == stock[name].shape for name, shape in found.items()):
        raise UserError(
            f"{called} masks the weights {listed(sorted(found))}, and with coordinates="
            f"{type(task.coordinates).__name__} others are masked in their place: take "
            "coordinates=weights, or a ticket that was found in these"
        )


def refuse_shapes(called: str, shapes: Sequence[str]) -> None:
    """Raises UserError where there are such lines on shapes."""
    if shapes:
        raise UserError(
            f"{called} has other shapes: {'; '.join(shapes)}. Take the model that it was found in, "
            "or name in pruner.fresh what is to come from this task, unpruned (a head)"
        )


def refuse_beyond(task: Task, called: str, names: Sequence[str]) -> None:
    """Raises UserError for masks that remove of tensors which none covers here."""
    parameters = dict(dict(task.named_modules())[""].named_parameters(remove_duplicate=False))
    plain = task.coordinates is None
    if buffers := [name for name in names if plain and name not in parameters]:
        raise UserError(
            f"{called} removes values of {listed(buffers)}, which the network keeps beside its "
            "parameters and no mask covers: leave them out by pruner.dropped"
        )
    if names:
        key = "covers.also" if prunes_to_zero(task.coordinates) else "coordinates.only"
        key = "pruner.biases=true" if all(name.endswith("bias") for name in names) else key
        raise UserError(
            f"{called} removes weights of {listed(names)}, which no mask covers here: cover them "
            f"({key}), or leave them dense by pruner.fresh"
        )


def refuse_whole_or_empty(given: GivenTicket, mask: Mask) -> None:
    """Raises UserError for a mask that keeps all or nothing."""
    if given.by_zeros and mask.sparsity < FEW_ZEROS:
        raise UserError(
            f"{given.called} has hardly any zeros in the {mask.num_prunable} weights that a mask "
            "covers, and no mask beside them: it is no sparse checkpoint. Give one whose pruned "
            "weights are zero, or a file of masks"
        )
    if mask.num_kept == mask.num_prunable:
        raise UserError(
            f"{given.called} keeps all of {mask.num_prunable} weights, and is no ticket: give a "
            "later round, or name less in pruner.fresh and pruner.dropped"
        )
    if not mask.num_kept:
        raise UserError(
            f"{given.called} keeps none of {mask.num_prunable} weights: nothing is left to train "
            "(1 must mean kept)"
        )


def refuse_values(called: str, place: str, value: Tensor, own: Tensor) -> None:
    """Raises UserError for numbers of another kind, and for those that are not finite."""
    floating: Callable[[Tensor], bool] = torch.is_floating_point
    if value.dtype != own.dtype and not (floating(value) and floating(own)):
        raise UserError(
            f"{called}: {place} is {value.dtype}, the network's is {own.dtype}: save it as the "
            "network has it"
        )
    if floating(value) and not bool(value.isfinite().all()):
        raise UserError(
            f"{called}: {place} has values that are not finite: the training that it comes from "
            "has diverged, so take another"
        )
