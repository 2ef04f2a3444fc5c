"""The weights that a model of the library transformers was pretrained to, as a start."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lth_runner.problem.laying import refuse_shapes
from lth_runner.problem.lying import lying_in
from lth_runner.problem.models.model_folder import ModelFolder, library, quiet
from lth_runner.problem.origin import Remainders, hash_file
from lth_runner.values.errors import UserError
from lth_runner.values.global_streams import all_seeded
from lth_runner.values.listed import listed
from lth_runner.values.name_patterns import as_names, select

UNNAMED = re.compile(r"LABEL_\d+")
KEPT = 2**27  # bytes of weights that are read once; of larger ones memory holds no other copy
KEPT_OF_GGUF = 2**30  # the same of files whose values are worked out, which takes half a minute


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
        object.__setattr__(self, "fresh", as_names(self.fresh))
        digest = hashlib.sha256()
        for file in self._folder.files():
            hash_file(file, digest)
        object.__setattr__(self, "content", digest.hexdigest())

    @torch.no_grad()
    def lay(self, module: nn.Module) -> None:
        """Writes the pretrained weights into a fresh network."""
        state, own = self._state(module), lying_in(module)
        drawn = set(self.remainders(module).drawn)
        if own and not own.keys() - drawn:
            raise UserError(
                f"origin.path={self.path} gives the network nothing: name fewer parameters in "
                "origin.fresh, or set origin=none"
            )
        for name in own.keys() - drawn:
            if state[name].is_floating_point() and not state[name].isfinite().all():
                raise UserError(
                    f"origin.path={self.path}: {name} has values that are not finite: take another "
                    "copy of the model"
                )
            own[name].copy_(state[name])

    def remainders(self, module: nn.Module) -> Remainders:
        """Names what of a network the folder does not give, and what it has besides."""
        held, own = self._held(module), lying_in(module)
        fresh = select(self.fresh, own, "origin.fresh")
        shapes = [each for each in held.misshapen if each[0] not in fresh]
        refuse_shapes(f"origin.path={self.path}", shapes, len(own))
        absent = held.absent & own.keys()
        body = f"{module.base_model_prefix}."
        if lacking := sorted(n for n in absent - fresh if n.startswith(body) and "pooler" not in n):
            raise UserError(
                f"origin.path={self.path} lacks {listed(lacking)}: is it the model that the "
                "config is of? Name them in origin.fresh to draw them anew"
            )
        drawn = absent | fresh
        of_head = [name for name in own if not name.startswith(body)]
        is_given = bool(of_head) and drawn.isdisjoint(of_head)
        return Remainders(
            drawn=tuple(name for name in own if name in drawn),
            unused=tuple(held.unused),
            classes=self._classes if is_given else (),
            head=tuple(dict.fromkeys(name.partition(".")[0] for name in of_head)),
        )

    @cached_property
    def _folder(self) -> ModelFolder:
        return ModelFolder.find(
            self.path, gguf=self.gguf, download=self.download, key="origin.path"
        )

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        """What the folder's config calls the classes of its head."""
        return () if self._folder.gguf is not None else _named(self._folder.config())

    @cached_property
    def _kept(self) -> dict[str, tuple[_Differences, Mapping[str, Tensor]]]:
        """What was read, by the kind of network: starts are made several times."""
        return {}

    def _held(self, module: nn.Module) -> _Differences:
        """Finds how the files differ from a network's class."""
        kind = _kind(module)
        if kind not in self._kept:
            self._state(module)
        return self._kept[kind][0]

    def _state(self, module: nn.Module) -> Mapping[str, Tensor]:
        """Reads the files as weights of a network's class; small ones stay in memory."""
        kind = _kind(module)
        if kind in self._kept and self._kept[kind][1]:
            return self._kept[kind][1]
        found, state = self._loaded(type(module), copy.deepcopy(module.config))
        most = KEPT if self._folder.gguf is None else KEPT_OF_GGUF
        small = sum(value.nbytes for value in state.values()) < most
        self._kept[kind] = found, state if small else {}
        return state

    def _loaded(self, kind: Any, config: Any) -> tuple[_Differences, Mapping[str, Tensor]]:
        options: dict[str, Any] = {"config": config, "dtype": torch.float32}
        options |= {"local_files_only": True, "output_loading_info": True}
        options |= {"ignore_mismatched_sizes": True, "attn_implementation": "eager"}
        place: str | None = str(self._folder.folder)
        try:
            with all_seeded(0), quiet():  # what is absent is drawn, and not looked at
                if self._folder.gguf is not None:
                    place, options["state_dict"] = (
                        None,
                        _in_gguf(self._folder.files()[0], kind, config),
                    )
                model, told = kind.from_pretrained(place, **options)
        except Exception as error:  # of the library and of what it reads with: many kinds
            raise self._folder.refusal(error) from error
        misshapen = sorted((name, tuple(a), tuple(b)) for name, a, b in told["mismatched_keys"])
        found = _Differences(
            absent=frozenset(told["missing_keys"]) | {name for name, *_ in misshapen},
            unused=tuple(sorted(told["unexpected_keys"])),
            misshapen=misshapen,
        )
        return found, {name: value.detach() for name, value in lying_in(model).items()}


@dataclass(frozen=True, eq=False)
class _Differences:
    """How a folder's weights differ from the tensors of one network."""

    absent: frozenset[str]
    unused: tuple[str, ...]
    misshapen: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]]


def _kind(module: nn.Module) -> str:
    """Names a network's class and config; raises UserError for one of another library."""
    if not isinstance(module, library().PreTrainedModel):
        raise UserError(
            f"origin=hf gives weights of transformers' own networks, and the model is a "
            f"{type(module).__name__}: choose model=hf"
        )
    config: Any = module.config
    return f"{type(module).__qualname__} {config.to_json_string()}"


def _named(config: Any) -> tuple[str, ...]:
    """Names a config's classes by number; none where they have the names that the library gives."""
    names = getattr(config, "id2label", None) or {}
    told = tuple(str(names[number]) for number in sorted(names))
    return () if any(UNNAMED.fullmatch(name) for name in told) else told


def _in_gguf(file: Path, kind: Any, config: Any) -> Mapping[str, Tensor]:
    """Reads a GGUF file's tensors, in single precision and under the library's names."""
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    with torch.device("meta"):
        like = kind(config)
    found: dict[str, Tensor] = load_gguf_checkpoint(
        str(file), return_tensors=True, model_to_load=like, torch_dtype=torch.float32
    )["tensors"]
    return found
