"""Small models of the library transformers, as folders that a test makes itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lth_runner.problem.data import Data
from lth_runner.problem.models.hugging_face import HuggingFace
from lth_runner.values.global_streams import all_seeded
from lth_runner.values.seeds import stream

VOCABULARY, POSITIONS, LENGTH = 40, 20, 6
BODY = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": POSITIONS,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": BODY,
    "roberta": BODY | {"max_position_embeddings": POSITIONS + 2, "pad_token_id": 1},
    "distilbert": {
        "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24,
        "max_position_embeddings": POSITIONS,
    },
    "electra": BODY | {"embedding_size": 8},
    "deberta": BODY | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": BODY | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": POSITIONS},
    "opt": BODY | {"ffn_dim": 24, "word_embed_proj_dim": 16},
    "llama": BODY
    | {"num_key_value_heads": 1, "attention_dropout": 0.1, "tie_word_embeddings": True},
    "t5": {
        "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2,
        "decoder_start_token_id": 0,
    },
}  # fmt: skip
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def config(family: str = "bert", **changes: Any) -> Any:
    from transformers import AutoConfig

    known = SPECIAL | FAMILIES[family] | {"vocab_size": VOCABULARY} | changes
    return AutoConfig.for_model(family, **known)


def folder(path: Path, family: str = "bert", head: str | None = None, **changes: Any) -> str:
    """A config, and with ``head`` (a name of transformers', behind AutoModel) weights too."""
    made = config(family, **changes)
    path.mkdir(parents=True, exist_ok=True)
    if head is None:
        made.save_pretrained(path)
    else:
        weights(made, head).save_pretrained(path)
    return str(path)


def words(path: Path, known: Sequence[str]) -> None:
    """A tokenizer.json of whole words beside a config, two special tokens before them."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    numbers = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *known])}
    made = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(path / "tokenizer.json"))


def weights(made: Any, head: str = "", seed: int = 5) -> Any:
    """A network of the library with values that no draw of its own has."""
    import transformers

    with all_seeded(seed), torch.no_grad():
        model = getattr(transformers, f"AutoModel{head}").from_config(made)
        for value in model.parameters():
            value.normal_(std=0.1)
    return model


def sentences(classes: int = 3, length: int = LENGTH, targets: Tensor | None = None) -> Data:
    """Sentences of tokens, their class to be seen at their first token, the last one eos."""
    rng = stream(0, "sentences")

    def draw(num: int) -> tuple[dict[str, Tensor], Tensor]:
        ids = torch.randint(3, VOCABULARY, (num, length), generator=rng)
        ids[:, -1] = SPECIAL["eos_token_id"]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, ids[:, 0] % classes

    return Data.from_tensors(draw(48), draw(24), validation=12, num_classes=classes)


def sequence_classifier(path: str, classes: int = 3, **options: Any) -> HuggingFace:
    return HuggingFace(path, "sequence_classification", classes, **options)
