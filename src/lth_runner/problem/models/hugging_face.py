"""Networks of the library transformers, built by their configs and drawn by a seed.

What was pretrained are weights, and those are an origin (``lth_runner.problem.Pretrained``).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lth_runner.problem.models.model_folder import ModelFolder, library, quiet
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.files import as_umask_says
from lth_runner.values.json_files import loaded
from lth_runner.values.raised import reason_of

TASKS: Mapping[str, str] = {
    "sequence_classification": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "question_answering": "AutoModelForQuestionAnswering",
    "masked_token": "AutoModelForMaskedLM",
    "next_token": "AutoModelForCausalLM",
}
HEADS = ("sequence_classification", "token_classification")  # as many outputs as there are classes
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model", "chat_template.jinja",
)  # fmt: skip
# of a config: where it lies, who wrote it, and what changes no answer
BESIDE = {
    "_name_or_path", "_model_name_or_path", "transformers_version", "architectures", "dtype",
    "torch_dtype", "id2label", "label2id", "use_cache", "return_dict", "output_attentions",
    "output_hidden_states", "_attn_implementation", "task_specific_params", "problem_type",
    "gradient_checkpointing",
}  # fmt: skip


@dataclass(frozen=True)
class HuggingFace:
    """Builds a network of the architecture that a model's config says, with a task's head.

    ``path``: a folder, a .gguf file, or a hub's name that is in the local cache (``download``:
    fetched into it). ``task`` is one of ``TASKS``; ``num_classes`` how many numbers a head answers.
    ``config`` changes values of the model's own config, dropout for example; ``attention`` is what
    the library calls an implementation of it (sdpa, eager), None its choice. ``vocabulary`` and
    ``length`` are those of the data, which must fit. The network takes ``input_ids``,
    ``attention_mask`` and, where its architecture has them, ``token_type_ids``; its parameters have
    the library's names, and it answers with logits: [n, classes] of a sequence, [n, 1] of a
    regression, [n, length, classes] of tokens, [n, length, vocabulary] of language models, and
    [n, length, 2] of a question's answer, where it starts and where it ends. Two factories are one
    where their configs are, wherever these lie. Raises UserError for what is no such model.
    """

    path: str = field(compare=False)
    task: str = "sequence_classification"
    num_classes: int | None = field(default=None, compare=False)  # a part of the config
    config: Mapping[str, Any] = field(default_factory=dict, compare=False)  # so are these
    attention: str | None = None
    gguf: str | None = field(default=None, compare=False)
    download: bool = field(default=False, compare=False)
    vocabulary: int | None = field(default=None, compare=False)
    length: int | None = field(default=None, compare=False)
    described: Mapping[str, Any] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise UserError(f"model.task={self.task}: {nearest(str(self.task), TASKS)}")
        object.__setattr__(self, "described", _described(self._config))
        self._check_vocabulary()
        most = positions(self._config)
        if self.length is not None and most is not None and self.length > most:
            raise UserError(
                f"dataset.length={self.length} is more than the {most} positions of "
                f"model.path={self.path}: cut the samples to dataset.length={most}"
            )

    @cached_property
    def _folder(self) -> ModelFolder:
        return ModelFolder.find(self.path, gguf=self.gguf, download=self.download)

    @cached_property
    def _config(self) -> Any:
        """The config of what is built, with the task's head."""
        found = self._folder.config()
        known = found.to_dict()
        for name, value in (self.config or {}).items():
            if name == "num_labels" and self.task in (*HEADS, "regression"):
                raise UserError(
                    f"model.config.num_labels={value} would be overwritten by model.num_classes="
                    f"{self.num_classes}, which is dataset.num_classes where it is not given: set "
                    "that"
                )
            if name not in known and not hasattr(found, name):
                raise UserError(
                    f"model.config.{name} is in no config of a {found.model_type} model: "
                    f"{nearest(name, (key for key in known if not key.startswith('_')))}"
                )
            setattr(found, name, value)
        if self.task in HEADS and not self.num_classes:
            raise UserError(
                f"model.num_classes={self.num_classes}: model.task={self.task} answers one number "
                "for each class: give their number, or choose model.task=regression"
            )
        if self.task in HEADS or self.task == "regression":
            found.num_labels = self.num_classes or 1
        if self.task == "question_answering":
            found.num_labels = 2
        if self.task == "next_token" and "is_decoder" in known:  # BERT and its kin see what comes
            found.is_decoder = True
        found.use_cache, found.return_dict, found.name_or_path = False, True, ""
        return found

    @cached_property
    def _class(self) -> Any:
        """The library's class of this architecture for this task."""
        found = getattr(library(), TASKS[self.task])
        if type(self._config) not in found._model_mapping:
            kind = type(self._config)
            able = [
                n for n, auto in TASKS.items() if kind in getattr(library(), auto)._model_mapping
            ]
            raise UserError(
                f"model.task={self.task}: transformers has no such head for "
                f"{self._config.model_type} models (model.path={self.path}); accepted: "
                f"{', '.join(able) or 'none'}"
            )
        return found

    def __call__(self) -> nn.Module:
        """Draws a network out of torch's global stream, in single precision."""
        config = copy.deepcopy(self._config)  # which the library writes to
        chosen = {} if self.attention is None else {"attn_implementation": self.attention}
        try:
            model: nn.Module = self._class.from_config(config, dtype=torch.float32, **chosen)
        except ImportError as error:
            raise UserError(f"model.path={self.path} needs another library: {error}") from error
        except ValueError as error:
            first = reason_of(error)
            raise UserError(f"model.path={self.path} cannot be built: {first}") from error
        return _answering(model)

    def loaded(self, folder: Path) -> nn.Module:
        """Reads a network of this kind out of a folder of the library, weights and all."""
        chosen = {} if self.attention is None else {"attn_implementation": self.attention}
        options = {"local_files_only": True, "dtype": torch.float32, **chosen}
        with quiet():
            return _answering(self._class.from_pretrained(str(folder), **options))

    @property
    def tokenizer_files(self) -> list[Path]:
        """Lists the files of the tokenizer in the model's folder."""
        folder = self._folder.folder
        return [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]

    def save(self, network: Any, folder: Path, class_names: Sequence[str] = ()) -> None:
        """Writes a network as the library does; what is turned off for training is as it was.

        ``class_names`` are what the head's numbers mean, where the task has classes.
        """
        with quiet():
            network.save_pretrained(folder)
        config = folder / "config.json"
        for file in folder.glob("*.safetensors"):
            as_umask_says(file)
        found = json.loads(config.read_text(encoding="utf-8"))
        found["use_cache"] = getattr(self._folder.config(), "use_cache", True)
        if class_names and self.task in HEADS:
            found["id2label"] = {str(number): name for number, name in enumerate(class_names)}
            found["label2id"] = {name: number for number, name in enumerate(class_names)}
        config.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def _check_vocabulary(self) -> None:
        """Refuses data of another vocabulary than the model's, whose numbers mean other tokens."""
        own = getattr(self._config, "vocab_size", None)
        if self.vocabulary is None or own is None:
            return
        tokenizer = self._folder.folder / "tokenizer.json"
        accepted = {own, *_num_tokens(tokenizer)}
        wrong = self.vocabulary not in accepted if tokenizer.is_file() else self.vocabulary > own
        if wrong:
            raise UserError(
                f"dataset.vocabulary={self.vocabulary}, but model.path={self.path} knows {own} "
                "tokens: the numbers of another tokenizer mean nothing to it. Set "
                f"dataset.vocabulary={own} and its own tokenizer (dataset/tokenizer=file); "
                "model.vocabulary=null leaves this unasked"
            )


def _answering(model: nn.Module) -> nn.Module:
    """Has a network of the library take the inputs that data give, and answer with its logits."""
    model.register_forward_pre_hook(_fit_inputs, with_kwargs=True)
    model.register_forward_hook(_logits)
    return model


def positions(config: Any) -> int | None:
    """Counts the positions of a model, the most tokens of a sample; None where there is no limit.

    RoBERTa and its kin leave the first ones, up to that of padding, to themselves.
    """
    most = getattr(config, "max_position_embeddings", None)
    if not isinstance(most, int) or most < 1:
        return None
    return most - config.pad_token_id - 1 if _is_roberta(config) else most


def _is_roberta(config: Any) -> bool:
    kinds = [one.__name__ for one in type(config).__mro__]
    return "roberta" in str(config.model_type) or "RobertaConfig" in kinds


def _num_tokens(tokenizer: Any) -> Sequence[int]:
    """Counts the tokens of a tokenizer.json, the largest number and one; none where it fails."""
    try:
        found = loaded(tokenizer.read_text())
        vocabulary = found["model"]["vocab"]
        numbers = (
            list(vocabulary.values()) if isinstance(vocabulary, dict) else [len(vocabulary) - 1]
        )
        numbers += [token["id"] for token in found.get("added_tokens") or []]
        return [max(numbers) + 1]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _described(config: Any) -> dict[str, Any]:
    """Lists the values of a config that decide what a network is."""
    known = {key: value for key, value in config.to_dict().items() if key not in BESIDE}
    plain = json.loads(json.dumps(known, sort_keys=True, default=str))
    return {**plain, "num_labels": config.num_labels}


def _fit_inputs(module: Any, args: Any, inputs: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
    """Leaves out the kinds of segments that an architecture does not tell apart.

    Raises UserError for more tokens than there are positions.
    """
    tokens = inputs.get("input_ids")
    most = positions(module.config)
    if tokens is not None and most is not None and tokens.shape[-1] > most:
        raise UserError(
            f"the samples have {tokens.shape[-1]} tokens, but the model has {most} positions: cut "
            f"the samples to dataset.length={most}"
        )
    if getattr(module.config, "type_vocab_size", 0) < 2:
        inputs = {name: value for name, value in inputs.items() if name != "token_type_ids"}
    return args, inputs


def _logits(module: nn.Module, args: Any, answer: Any) -> Tensor:
    """Takes the logits out of what a network of the library answers."""
    if "start_logits" in answer:
        return torch.stack([answer["start_logits"], answer["end_logits"]], dim=-1)
    logits: Tensor = answer["logits"]
    return logits
