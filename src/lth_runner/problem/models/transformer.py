"""Small transformers: a classifier of sentences, and language models."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lth_runner.problem.models.parts import check_depth, check_name, check_positive
from lth_runner.values.errors import UserError

POOLINGS = ("mean", "token")


@dataclass(frozen=True)
class Sizes:
    """How large the blocks of a transformer are; ``hidden`` is 4 ``width`` where None is given.

    Raises UserError for sizes that do not fit.
    """

    width: int
    depth: int
    heads: int
    hidden: int | None
    dropout: float
    causal: bool = False

    def __post_init__(self) -> None:
        if self.hidden is None:
            object.__setattr__(self, "hidden", 4 * self.width)
        for name in ("width", "depth", "heads", "hidden"):
            check_positive(getattr(self, name), what=f"model.{name}")
        check_depth(self.depth, what="model.depth")
        if self.width % self.heads:
            small = [n for n in range(1, math.isqrt(self.width) + 1) if self.width % n == 0]
            fit = [*small, *(self.width // number for number in reversed(small))]
            close = min(fit, key=lambda number: abs(number - self.heads))
            raise UserError(
                f"model.width={self.width} is not divisible by model.heads={self.heads}, and each "
                f"head takes an equal part of it: model.heads={close} would do"
            )
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.dropout={self.dropout} is outside [0, 1)")


class SelfAttention(nn.Module):
    """Attends from every token to the others: softmax(q k^T / sqrt(width / heads)) v.

    q, k, v and the output are plain linear layers of width x width, so that a mask covers them.
    Vaswani et al., NeurIPS 2017, arXiv:1706.03762.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads, self.causal = sizes.heads, sizes.causal
        self.query = nn.Linear(sizes.width, sizes.width)
        self.key = nn.Linear(sizes.width, sizes.width)
        self.value = nn.Linear(sizes.width, sizes.width)
        self.projection = nn.Linear(sizes.width, sizes.width)

    def forward(self, states: Tensor, seen: Tensor | None) -> Tensor:
        """Maps [n, length, width] to the same; ``seen``: bool [n, 1, 1, length], None for all."""
        parts = self.query(states), self.key(states), self.value(states)
        query, key, value = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in parts)
        found = F.scaled_dot_product_attention(
            query, key, value, attn_mask=seen, is_causal=self.causal
        )
        projected: Tensor = self.projection(found.transpose(1, 2).flatten(2))
        return projected


class Block(nn.Module):
    """Adds attention, then a layer of GELUs, each of normalised states and behind dropout.

    Normalisation comes first (Xiong et al., ICML 2020, arXiv:2002.04745).
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        assert sizes.hidden is not None
        self.norm1 = nn.LayerNorm(sizes.width)
        self.attention = SelfAttention(sizes)
        self.norm2 = nn.LayerNorm(sizes.width)
        self.expand = nn.Linear(sizes.width, sizes.hidden)
        self.contract = nn.Linear(sizes.hidden, sizes.width)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, states: Tensor, seen: Tensor | None) -> Tensor:
        states = states + self.dropout(self.attention(self.norm1(states), seen))
        hidden = F.gelu(self.expand(self.norm2(states)))
        added: Tensor = states + self.dropout(self.contract(hidden))
        return added


class Trunk(nn.Module):
    """Embeds tokens and their places, and passes them through blocks and a last norm."""

    def __init__(self, sizes: Sizes, vocabulary: int, length: int) -> None:
        super().__init__()
        check_positive(vocabulary, what="model.vocabulary")
        check_positive(length, what="model.length")
        self.token_embedding = nn.Embedding(vocabulary, sizes.width)
        self.position_embedding = nn.Embedding(length, sizes.width)
        self.dropout = nn.Dropout(sizes.dropout)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(sizes.width)

    def embedded(self, tokens: Tensor) -> Tensor:
        """Sums the embeddings of tokens [n, length] and of their places.

        Raises UserError for a sequence longer than there are positions.
        """
        num, most = tokens.shape[1], self.position_embedding.num_embeddings
        if num > most:
            raise UserError(
                f"the samples have {num} tokens, but the model has {most} positions: set "
                f"model.length={num}, or cut the samples to dataset.length={most}"
            )
        states: Tensor = self.token_embedding(tokens) + self.position_embedding.weight[:num]
        return states

    def forward(self, states: Tensor, seen: Tensor | None) -> Tensor:
        """Passes states [n, length, width] through the blocks."""
        states = self.dropout(states)
        for block in self.blocks:
            states = block(states, seen)
        normalised: Tensor = self.norm(states)
        return normalised


class TransformerClassifier(nn.Module):
    """Answers once for a whole sequence; see ``transformer_classifier``."""

    def __init__(self, trunk: Trunk, sizes: Sizes, *, num_classes: int, pooling: str) -> None:
        super().__init__()
        self.trunk = trunk
        self.class_token = nn.Parameter(torch.zeros(sizes.width)) if pooling == "token" else None
        self.output = nn.Linear(sizes.width, num_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Maps tokens [n, length], with 0 in ``attention_mask`` at padding, to [n, classes]."""
        states, real = self.trunk.embedded(input_ids), attention_mask.bool()
        if self.class_token is not None:
            first = self.class_token.expand(len(states), 1, -1)
            states = torch.cat([first, states], dim=1)
            real = torch.cat([real.new_ones(len(real), 1), real], dim=1)
        states = self.trunk(states, real[:, None, None, :])
        if self.class_token is not None:
            pooled = states[:, 0]
        else:
            pooled = (states * real[:, :, None]).sum(1) / real.sum(1, keepdim=True)
        answer: Tensor = self.output(pooled)
        return answer


class TransformerLanguageModel(nn.Module):
    """Answers with logits of the vocabulary at every token; see ``causal_transformer``."""

    def __init__(self, trunk: Trunk, *, tied: bool) -> None:
        super().__init__()
        self.trunk = trunk
        vocabulary, width = trunk.token_embedding.weight.shape
        self.output = nn.Linear(width, vocabulary, bias=not tied)
        if tied:
            self.output.weight = self.trunk.token_embedding.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        """Maps tokens [n, length] to logits [n, length, vocabulary]."""
        logits: Tensor = self.output(self.trunk(self.trunk.embedded(input_ids), None))
        return logits


def transformer_classifier(
    *,
    vocabulary: int,
    length: int,
    num_classes: int | None,
    width: int = 64,
    depth: int = 2,
    heads: int = 4,
    hidden: int | None = None,
    dropout: float = 0.0,
    pooling: str = "mean",
    std: float = 0.02,
) -> nn.Module:
    """Builds a transformer encoder over named inputs ``input_ids`` and ``attention_mask``.

    Token and position embeddings, ``depth`` blocks of attention and GELUs with the norm first,
    a norm, and ``output`` over the mean of all tokens that are no padding (``pooling=mean``) or
    over a learned token put before them (``token``). ``num_classes=None``: one number, for
    regression. ``hidden`` defaults to 4 ``width``; ``dropout`` follows the embeddings, attention
    and GELUs. With V, L, w, d, h, C of these there are (V + L) w + d (4 w^2 + 2 w h + 9 w + h)
    + 2 w + C (w + 1) parameters, w more with a token, of which d (4 w^2 + 2 w h) + C w are weights
    of linear layers. Linear layers, embeddings and the token start as N(0, std^2), biases as 0; the
    two layers of a block that add to its input have std / sqrt(2 d) (Radford et al., 2019).
    Raises UserError for sizes that do not fit.
    """
    check_name(pooling, POOLINGS, what="pooling")
    classes = 1 if num_classes is None else num_classes
    check_positive(classes, what="num_classes")
    sizes = Sizes(width, depth, heads, hidden, dropout)
    trunk = Trunk(sizes, vocabulary, length)
    model = TransformerClassifier(trunk, sizes, num_classes=classes, pooling=pooling)
    return drawn(model, trunk.blocks, std)


def causal_transformer(
    *,
    vocabulary: int,
    length: int,
    width: int = 64,
    depth: int = 2,
    heads: int = 4,
    hidden: int | None = None,
    dropout: float = 0.0,
    tied: bool = False,
    std: float = 0.02,
) -> nn.Module:
    """Builds a decoder-only language model: tokens [n, length] to logits [n, length, vocabulary].

    No token sees a later one. ``tied``: the output layer's weight is the token embedding, and it
    has no bias. The rest is as in ``transformer_classifier``: (V + L) w + d (4 w^2 + 2 w h + 9 w
    + h) + 2 w parameters, and V (w + 1) of the output layer where it is not tied.
    Radford et al., 2019. Raises UserError for sizes that do not fit.
    """
    sizes = Sizes(width, depth, heads, hidden, dropout, causal=True)
    model = TransformerLanguageModel(Trunk(sizes, vocabulary, length), tied=tied)
    return drawn(model, model.trunk.blocks, std)


def masked_transformer(
    *,
    vocabulary: int,
    length: int,
    width: int = 64,
    depth: int = 2,
    heads: int = 4,
    hidden: int | None = None,
    dropout: float = 0.0,
    tied: bool = False,
    std: float = 0.02,
) -> nn.Module:
    """Builds a model of masked tokens: as ``causal_transformer``, but each token sees all others.

    Devlin et al., NAACL 2019, arXiv:1810.04805. Raises UserError for sizes that do not fit.
    """
    sizes = Sizes(width, depth, heads, hidden, dropout, causal=False)
    model = TransformerLanguageModel(Trunk(sizes, vocabulary, length), tied=tied)
    return drawn(model, model.trunk.blocks, std)


@torch.no_grad()
def drawn(model: nn.Module, blocks: nn.ModuleList, std: float) -> nn.Module:
    """Draws initial values as Radford et al. (2019) do; returns ``model``.

    Linear layers, embeddings, a class token and learned places are N(0, std^2), biases 0, norms 1
    and 0; the two layers of a block that add to its input have std / sqrt(2 depth), so that the
    sum over blocks does not grow with their number.
    """
    if not std > 0:
        raise UserError(f"model.std={std} must be above 0: 0.02 is usual")
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Linear, nn.Embedding)):
            adds = name.endswith((".projection", ".contract"))
            nn.init.normal_(layer.weight, std=std / math.sqrt(2 * len(blocks)) if adds else std)
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    for name in ("class_token", "places"):
        if (learned := getattr(model, name, None)) is not None:
            nn.init.normal_(learned, std=std)
    return model
