"""Weights to start from that are not a draw, named by what they hold and not by where they lie."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lth_runner.problem.laying import Laying, refuse_shapes
from lth_runner.problem.lying import lying_in
from lth_runner.values import state as states
from lth_runner.values.errors import Damaged, UserError
from lth_runner.values.export_forms import refuse_packed
from lth_runner.values.files import open_regular
from lth_runner.values.home import from_home
from lth_runner.values.json_files import read_object
from lth_runner.values.listed import listed
from lth_runner.values.name_patterns import as_names, select
from lth_runner.values.raised import reason_of
from lth_runner.values.store_places import END

INDEX = "model.safetensors.index.json"  # which file of a folder holds which tensor
CHUNK = 2**24  # bytes that are hashed at once
WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # which torch.load goes by


class Origin(Protocol):
    """Holds the weights that a network starts from, in place of a draw."""

    def lay(self, module: nn.Module) -> None:
        """Writes its weights into a fresh network; what it does not hold stays as it was drawn.

        Raises UserError where the network's tensors are not those that it holds.
        """


@dataclass(frozen=True)
class Remainders:
    """What of a network an origin does not give, and what it holds that has no place there.

    ``classes``: what the head that it does give calls its classes, by number; empty where it gives
    none in whole, or says nothing of them. ``head``: the modules that such a head consists of.
    """

    drawn: tuple[str, ...]  # by the seed, as without an origin
    unused: tuple[str, ...]
    classes: tuple[str, ...] = ()
    head: tuple[str, ...] = ()

    @property
    def fresh_head(self) -> str:
        """The words by which the head is drawn anew."""
        return f"origin.fresh=[{','.join(self.head)}]"


@runtime_checkable
class LeavesRemainders(Protocol):
    """An origin that leaves some of a network as it was drawn, without being told which."""

    def remainders(self, module: nn.Module) -> Remainders:
        """Names them, for a network that it fits."""


@dataclass(frozen=True)
class File:
    """Starts from a safetensors file, or from a folder of them: a checkpoint, a ticket, a training.

    ``under`` is the prefix of the names in the file that are meant, ``into`` where they go in the
    network: of a ticket file or a training of the Store ``under`` is ``weights.``, which is found
    by itself. ``fresh``: patterns of parameters that are drawn anew, a task's head; what the file
    has of them is not looked at. ``unused``: patterns of the file's names that have no place in the
    network, another head. Raises UserError for tensors that the file lacks or has besides, and for
    one of another shape, with both shapes.
    """

    path: str = field(compare=False)
    under: str | None = None
    into: str = ""
    fresh: Sequence[str] = ()
    unused: Sequence[str] = ()
    content: str = field(init=False, default="")  # SHA-256: all that tells one file from another

    def __post_init__(self) -> None:
        for name in ("fresh", "unused"):
            object.__setattr__(self, name, as_names(getattr(self, name)))
        digest = hashlib.sha256()
        for file in self._files:
            hash_file(file, digest)
            _refuse_changed(file)
        object.__setattr__(self, "content", digest.hexdigest())

    @cached_property
    def _files(self) -> list[Path]:
        """The files of the path, in the order of their names."""
        place = from_home(self.path)
        if place.is_file():
            return [place]
        if not place.is_dir():
            raise UserError(f"origin.path={self.path}: there is no such file or folder of weights")
        if (place / INDEX).is_file():
            return [place / shard for shard in self._shards(place / INDEX)]
        found = sorted(place.glob("*.safetensors"))
        whole = [file for file in found if file.name in ("model.safetensors", END)]
        if not found:
            raise UserError(f"origin.path={self.path}: the folder holds no .safetensors file")
        if not whole and len(found) > 1:
            raise UserError(
                f"origin.path={self.path}: the folder holds {len(found)} .safetensors files and no "
                f"{INDEX} that says which is which: give one of them"
            )
        return whole or found

    def _shards(self, index: Path) -> list[str]:
        places = (read_object(index) or {}).get("weight_map")
        shards = sorted(set(map(str, places.values()))) if isinstance(places, Mapping) else []
        if not shards or any(Path(shard).name != shard for shard in shards):
            raise UserError(
                f"origin.path={index} is no index of shards: it must say under weight_map which "
                ".safetensors file beside it holds each tensor"
            )
        return shards

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Goes through the tensors that are meant, under the network's names, one in memory."""
        for file in self._files:
            try:
                with safe_open(file, framework="pt") as opened:
                    refuse_packed(opened.metadata() or {}, f"origin.path={file}")
                    names = list(opened.keys())
                    under = self._under(names)
                    for name in names:
                        if name.startswith(under):
                            yield self.into + name[len(under) :], opened.get_tensor(name)
            except (SafetensorError, OSError) as error:
                raise UserError(
                    f"origin.path={file} is no safetensors file ({error}): write a state_dict of "
                    "torch's own format again with safetensors.torch.save_file; of lth-export take "
                    "--as checkpoint --to FILE.safetensors"
                ) from error

    def _under(self, names: Sequence[str]) -> str:
        if self.under is not None:
            return self.under if self.under.endswith(".") or not self.under else f"{self.under}."
        return "weights." if any(name.startswith("weights.") for name in names) else ""

    def lay(self, module: nn.Module) -> None:
        """Writes the file's weights into a network, one tensor at a time."""
        called = f"origin.path={self.path}"
        Laying(called, self.fresh, self.unused).lay(module, self.tensors())


def _refuse_changed(file: Path) -> None:
    """Raises UserError for a file that this program sealed and that does not fit its seal."""
    try:
        if states.SEAL in states.metadata_of(file):
            states.load(file)
    except Damaged as error:
        raise UserError(
            f"origin.path={file} is not what was written: {error}. Copy it again from where it "
            "came; weights of the Store are trained again by their run's own command, once the "
            "run folder's status.json is removed"
        ) from error
    except OSError as error:
        raise UserError(f"origin.path={file} cannot be read: {error}") from error


@dataclass(frozen=True)
class ModelsOwn:
    """Starts from the weights that a library publishes for its model: torchvision's, by their name.

    ``weights`` is what torchvision calls them, ``DEFAULT`` or ``IMAGENET1K_V1``; they are read
    from torch's cache of downloads, or fetched into it. ``fresh``: patterns of parameters that are
    drawn anew, the classifier where the classes differ. Named by content. Raises UserError where
    they cannot be had.
    """

    name: str
    weights: str = "DEFAULT"
    fresh: Sequence[str] = ()
    content: str = field(init=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "fresh", as_names(self.fresh))
        digest = hashlib.sha256()
        for name, value in sorted(self._state.items()):
            digest.update(f"{name}:{value.dtype}:{tuple(value.shape)};".encode())
            digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        object.__setattr__(self, "content", digest.hexdigest())

    @cached_property
    def _state(self) -> Mapping[str, Tensor]:
        try:
            from torchvision import models

            with _without_code():
                found: Mapping[str, Tensor] = models.get_model(
                    self.name, weights=self.weights
                ).state_dict()
        except ImportError as error:
            raise UserError(f"origin.name={self.name} needs torchvision: {error}") from error
        except (ValueError, KeyError, OSError, RuntimeError, UnpicklingError) as error:
            raise UserError(
                f"origin.name={self.name} with origin.weights={self.weights} cannot be had: "
                f"{reason_of(error)} (without internet: fetch them on a "
                "connected machine and copy torch's cache, ~/.cache/torch/hub/checkpoints)"
            ) from error
        return found

    @torch.no_grad()
    def lay(self, module: nn.Module) -> None:
        """Writes the published weights into a network of the same library model."""
        own = lying_in(module)
        spared = select(self.fresh, own, "origin.fresh")
        if wrong := sorted((own.keys() ^ self._state.keys()) - spared):
            raise UserError(
                f"origin.name={self.name}: {listed(wrong)} are in the network or in the "
                "published weights alone: name the network's in origin.fresh to draw them anew"
            )
        named = sorted(own.keys() - spared)
        other = [(name, self._state[name].shape, own[name].shape) for name in named]
        shapes = [each for each in other if each[1] != each[2]]
        refuse_shapes(f"origin.name={self.name}", shapes, len(own))
        for name in named:
            own[name].copy_(self._state[name])


@contextmanager
def _without_code() -> Iterator[None]:
    """Has torch.load, which torchvision calls, run nothing that a file of weights may name."""
    before = os.environ.get(WEIGHTS_ONLY)
    os.environ[WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[WEIGHTS_ONLY]
        else:
            os.environ[WEIGHTS_ONLY] = before


def hash_file(path: Path, digest: hashlib._Hash) -> None:
    """Adds a file's contents to a digest; raises UserError where it cannot be read."""
    try:
        with open_regular(path) as opened:
            while chunk := opened.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise UserError(f"origin.path={path} cannot be read: {error.strerror}") from error
