"""One ticket out of a file or a folder of another program, whose kind is told by its content."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lth_runner.search.given_ticket import GivenTicket, Kept, Tensors
from lth_runner.store.foreign import open_lth, sparse, torch_prune, zero_one
from lth_runner.store.foreign.opened import ACCEPTED, Opened
from lth_runner.store.ticket_file import ORIGIN, read_ticket
from lth_runner.values.errors import UserError
from lth_runner.values.export_forms import refuse_packed
from lth_runner.values.json_files import read_object

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WHOLE = ("model.safetensors", "pytorch_model.bin")


def read_ticket_from(place: Path, key: str = "pruner.ticket") -> GivenTicket:
    """Finds out what a file or a folder holds, and gives it as a ticket.

    ``key``: what messages call the path where nothing is there. Nothing in it is run: safetensors,
    and what torch.save writes of tensors alone. Raises UserError for what holds no ticket, or two
    kinds of content.
    """
    files = _files(place, key)
    tensors, called = Opened(files, str(place)), str(place)
    refuse_packed(tensors.metadata, called)
    sparse.refuse_compressed(tensors, called)
    if "seal" in tensors.metadata and any(name.startswith("weights.") for name in tensors):
        return _own(files[0], tensors)
    pruned = torch_prune.pruned_names(tensors)
    marked = [name for name in tensors if _is_marked(name, tensors)]
    if pruned and len(pruned) == len(marked):
        torch_prune.refuse_torn(tensors, called)
        return GivenTicket(
            called,
            masks=_kept(files, called, torch_prune.masks),
            start=_only_trained(called),
            trained=_kept(files, called, torch_prune.weights),
        )
    if zero_one.are_masks(tensors):
        start, trained = open_lth.weights(place if place.is_dir() else place.parent)
        alone = Kept.missing(f"{called} holds masks and no weights: take pruner.weights=own")
        beside = bool(start.files)
        return GivenTicket(
            called,
            masks=_kept(files, called, zero_one.masks),
            start=start if beside else alone,
            trained=trained if beside else alone,
        )
    zero_one.refuse_soft(tensors, called)
    torch_prune.refuse_torn(tensors, called)
    if marked:
        raise UserError(
            f"{called} holds two kinds of content, masks ({marked[0]}) beside other tensors "
            f"({next(name for name in tensors if name not in marked)}): save the masks in a file "
            f"of their own; {ACCEPTED}"
        )
    if not sparse.is_checkpoint(tensors):
        raise UserError(f"{called} holds no mask, and no weights that one is read off; {ACCEPTED}")
    return GivenTicket(
        called,
        masks=_kept(files, called, sparse.NonZero),
        start=_only_trained(called),
        trained=_kept(files, called, lambda found, called: found),
        by_zeros=True,
    )


def _kept(files: Sequence[Path], called: str, read: Callable[[Opened, str], Tensors]) -> Kept:
    return Kept(tuple(files), lambda: read(Opened(files, called), called))


def _only_trained(called: str) -> Kept:
    return Kept.missing(
        f"{called} holds one set of weights, as they were saved, and not those that its training "
        "began with: take pruner.weights=trained, or own"
    )


def _is_marked(name: str, tensors: Mapping[str, Any]) -> bool:
    """Whether a tensor is called the mask of another one, or of something."""
    base = zero_one.masked_name(name)
    beside = (base, f"{base}{torch_prune.ORIGINAL}")
    return name.startswith(zero_one.PREFIX) or (base != name and any(n in tensors for n in beside))


def _own(path: Path, tensors: Opened) -> GivenTicket:
    """Gives a file of this program's own: a ticket."""
    if "format" not in tensors.metadata:
        raise UserError(
            f"{path} is a training of the Store: give the run folder that names it, and "
            "pruner.weights=trained for the weights that it ended with"
        )
    facts = read_ticket(path).metadata
    began = Kept((path,), lambda: read_ticket(path).weights)
    if facts.get("pruned") == ORIGIN:
        began = Kept.missing(
            f"{path} was found in other coordinates, and what it removes has the origin's weight "
            "and is not zero: take pruner.weights=own"
        )
    return GivenTicket(
        str(path),
        masks=Kept((path,), lambda: read_ticket(path).mask),
        start=began,
        trained=Kept.missing(
            f"{path} holds the weights that its training began with (pruner.weights=ticket): give "
            "the run folder, whose Store holds those that it ended with"
        ),
        number=_whole(facts.get("round")),
        start_step=_whole(facts.get("start_step")),
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _files(place: Path, key: str) -> list[Path]:
    """Lists the files that hold a ticket: the one that is given, or those of a folder."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        what = "is no file" if place.exists() else "does not exist"
        raise UserError(f"{key}={place} {what}; {ACCEPTED}")
    if (place / open_lth.MASK).is_file():
        return [place / open_lth.MASK]
    for name in INDEXES:
        if (place / name).is_file():
            return _shards(place / name)
    whole = [place / name for name in WHOLE if (place / name).is_file()]
    found = whole[:1] or sorted(place.glob("*.safetensors"))
    if len(found) == 1:
        return found
    if levels := sorted(place.glob(f"**/{open_lth.MASK}")):
        few = len(levels) == 1
        what = "a level" if few else f"{len(levels)} levels"
        which = "its folder" if few else "the folder of one, for example"
        raise UserError(f"{key}={place} holds {what} of OpenLTH: give {which} {levels[-1].parent}")
    what = f"{len(found)} .safetensors files" if found else "no ticket"
    raise UserError(f"{key}={place} holds {what}: give one; {ACCEPTED}")


def _shards(index: Path) -> list[Path]:
    places = (read_object(index) or {}).get("weight_map")
    shards = sorted(set(map(str, places.values()))) if isinstance(places, Mapping) else []
    if not shards or any(Path(shard).name != shard for shard in shards):
        raise UserError(
            f"{index} is no index of shards: it must say under weight_map which file beside it "
            "holds each tensor"
        )
    return [index.parent / shard for shard in shards]
