"""The weights that a model of the library transformers was pretrained to, as a start."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lth_runner.problem.models.model_folder import ModelFolder, library
from lth_runner.problem.origin import Remainders, hash_file, listed, lying_in
from lth_runner.values.errors import UserError
from lth_runner.values.global_streams import all_seeded
from lth_runner.values.name_patterns import select


@dataclass(frozen=True)
class Pretrained:
    """Starts from the weights of a model's folder, read and named by the library transformers.

    ``path``, ``gguf`` and ``download`` are those of ``models.HuggingFace``, whose networks it
    fills. A head or a pooler that the folder lacks stays as it was drawn by the seed, and what the
    folder has besides is left out: both are told (``remainders``). ``fresh``: patterns of
    parameters that are drawn anew, whatever the folder has of them. Named by the contents of the
    files. Raises UserError for weights of the network's body that the folder lacks, and for ones of
    another shape, with both shapes.
    """

    path: str = field(compare=False)
    fresh: Sequence[str] = ()
    gguf: str | None = field(default=None, compare=False)
    download: bool = field(default=False, compare=False)
    content: str = field(init=False, default="")  # SHA-256 of the files

    def __post_init__(self) -> None:
        object.__setattr__(self, "fresh", tuple(self.fresh or ()))
        digest = hashlib.sha256()
        for file in self._folder.files():
            hash_file(file, digest)
        object.__setattr__(self, "content", digest.hexdigest())

    @torch.no_grad()
    def lay(self, module: nn.Module) -> None:
        """Writes the pretrained weights into a fresh network."""
        held, own = self._held(module), lying_in(module)
        drawn = set(self.remainders(module).drawn)
        if own and not own.keys() - drawn:
            raise UserError(
                f"origin.path={self.path} gives the network nothing: name fewer parameters in "
                "origin.fresh, or set origin=none"
            )
        for name in own.keys() - drawn:
            if held.state[name].is_floating_point() and not held.state[name].isfinite().all():
                raise UserError(
                    f"origin.path={self.path}: {name} has values that are not finite: take another "
                    "copy of the model"
                )
            own[name].copy_(held.state[name])

    def remainders(self, module: nn.Module) -> Remainders:
        """Names what of a network the folder does not give, and what it has besides."""
        held, own = self._held(module), lying_in(module)
        fresh = select(self.fresh, own, "origin.fresh")
        for name, there, wanted in held.misshapen:
            if name not in fresh:
                raise UserError(
                    f"origin.path={self.path}: {name} has shape {there}, the network's has "
                    f"{wanted}: name it in origin.fresh to draw it anew"
                )
        absent = held.absent & own.keys()
        body = f"{module.base_model_prefix}."
        if lacking := sorted(n for n in absent - fresh if n.startswith(body) and "pooler" not in n):
            raise UserError(
                f"origin.path={self.path} lacks {listed(lacking)}: is it the model that the "
                "config is of? Name them in origin.fresh to draw them anew"
            )
        return Remainders(tuple(n for n in own if n in absent | fresh), tuple(held.unused))

    @cached_property
    def _folder(self) -> ModelFolder:
        return ModelFolder.find(
            self.path, gguf=self.gguf, download=self.download, key="origin.path"
        )

    @cached_property
    def _read(self) -> dict[str, _Held]:
        """What was read, by the kind of network: starts are made several times."""
        return {}

    def _held(self, module: nn.Module) -> _Held:
        """Reads the files as weights of a network's class."""
        transformers = library()
        if not isinstance(module, transformers.PreTrainedModel):
            raise UserError(
                f"origin=hf gives weights of transformers' own networks, and the model is a "
                f"{type(module).__name__}: choose model=hf"
            )
        config: Any = copy.deepcopy(module.config)  # the library writes to it where it has read
        kind = f"{type(module).__qualname__} {config.to_json_string()}"
        if kind not in self._read:
            self._read[kind] = self._loaded(type(module), config)
        return self._read[kind]

    def _loaded(self, kind: Any, config: Any) -> _Held:
        options: dict[str, Any] = {"config": config, "dtype": torch.float32}
        options |= {"local_files_only": True, "output_loading_info": True}
        options |= {"ignore_mismatched_sizes": True, "attn_implementation": "eager"}
        place: str | None = str(self._folder.folder)
        try:
            with all_seeded(0), _quiet():  # what is absent is drawn, and not looked at
                if self._folder.gguf is not None:
                    place, options["state_dict"] = (
                        None,
                        _in_gguf(self._folder.files()[0], kind, config),
                    )
                model, told = kind.from_pretrained(place, **options)
        except Exception as error:  # of the library and of what it reads with: many kinds
            raise self._folder.refusal(error) from error
        misshapen = sorted((name, tuple(a), tuple(b)) for name, a, b in told["mismatched_keys"])
        return _Held(
            state={name: value.detach() for name, value in lying_in(model).items()},
            absent=frozenset(told["missing_keys"]) | {name for name, *_ in misshapen},
            unused=tuple(sorted(told["unexpected_keys"])),
            misshapen=misshapen,
        )


@dataclass(frozen=True, eq=False)
class _Held:
    """A folder's weights as the tensors of one network, and how the two differ."""

    state: Mapping[str, Tensor]
    absent: frozenset[str]
    unused: tuple[str, ...]
    misshapen: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]]


def _in_gguf(file: Path, kind: Any, config: Any) -> Mapping[str, Tensor]:
    """Reads a GGUF file's tensors, in single precision and under the library's names."""
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    with torch.device("meta"):
        like = kind(config)
    found: dict[str, Tensor] = load_gguf_checkpoint(
        str(file), return_tensors=True, model_to_load=like, torch_dtype=torch.float32
    )["tensors"]
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the library from reporting what a run reports itself."""
    logging = library().logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
            yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
