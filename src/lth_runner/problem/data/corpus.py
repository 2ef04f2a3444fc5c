"""One long text in windows of tokens, for language models."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path

import numpy

from lth_runner.problem.data.cache_file import cache_folder
from lth_runner.problem.data.rows import decoded
from lth_runner.problem.data.sampled import EVALUATED, SPLITS, SampledData
from lth_runner.problem.data.samples import CHUNK, Framed, Masked, Samples, Tokens
from lth_runner.problem.data.sentences import check_vocabulary
from lth_runner.problem.data.tokenizers import (
    NUM_SPECIAL,
    Characters,
    Knowing,
    Marked,
    Special,
    Tokenizer,
    special_of,
)
from lth_runner.values import identity
from lth_runner.values.errors import UserError
from lth_runner.values.files import open_regular, write_whole
from lth_runner.values.home import from_home

DTYPES = ("uint8", "uint16", "uint32")
CACHE_FORMAT = 3  # part of the cached file's name: raise it when the encoding changes
LOGITS = 2**26  # of one batch in evaluation at most: a number for each token of the vocabulary
_log = logging.getLogger(__name__)


def corpus(
    *,
    length: int,
    vocabulary: int,
    path: str | None = None,
    tokenizer: Tokenizer | None = None,
    share: float | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    cache: str | None = None,
    name: str = "corpus",
) -> SampledData:
    """Cuts a UTF-8 text into windows of ``length`` tokens; the targets are the tokens after each.

    Of the text, the last ``test`` share is the test split, the ``validation`` share before it the
    validation split, and the rest is for training. ``path=None`` takes the manual that Python
    brings (the topics of its ``help()``, some 460,000 characters in 3.11), another text in another
    version. With ``share``, that many tokens are masked instead, and are the targets; special
    tokens never are, and each window stands between those that the tokenizer puts around a text,
    which count in ``length``. ``tokenizer``
    (default: ``Characters``) learns from the training part alone. The tokens are kept in the folder
    ``cache`` (default: lth-runner under $XDG_CACHE_HOME or ~/.cache), by what they are made of, and
    read from there a window at a time. Raises UserError for a file that is no text, or too short.
    """
    for key, value in (("length", length), ("vocabulary", vocabulary)):
        if isinstance(value, bool) or value < 1:
            raise UserError(f"dataset.{key}={value} must be a whole number above 0")
    if not (validation >= 0 and test > 0 and validation + test < 1):
        raise UserError(
            f"dataset.validation={validation} and dataset.test={test} are shares of the text: "
            "test above 0, and something must be left for training"
        )
    text = _manual() if path is None else decoded(from_home(path))
    first, second = (round(kept * len(text)) for kept in (1 - test - validation, 1 - test))
    parts = text[:first], text[first:second], text[second:]
    made_by = Characters(vocabulary) if tokenizer is None else tokenizer
    special = special_of(made_by)
    num_framing = 0 if share is None else len(special.before) + len(special.after)
    if length <= num_framing:
        raise UserError(
            f"dataset.length={length} has no room beside the {num_framing} tokens that a model "
            f"expects around a text: give at least {num_framing + 1}"
        )
    if share is not None and special.mask is None:
        raise UserError(
            f"dataset.share={share} masks tokens, and the tokenizer has no mask ([MASK], <mask>): "
            "set dataset.share=null to learn each token's successor (objective=next_token), or "
            "give the tokenizer of a model that has learned masked tokens"
        )
    file, dtype, ends = _cached(parts, made_by, vocabulary, cache)

    def split(number: int) -> Samples:
        begin, end = [0, *ends][number : number + 2]
        if end - begin <= length - num_framing:
            raise UserError(
                f"{path or 'the manual'}: its {SPLITS[number]} part has {end - begin} tokens, and "
                f"a window of dataset.length={length} needs {length - num_framing + 1}: give a "
                "longer text, a smaller length, or other shares (dataset.validation, dataset.test)"
            )
        whole = Tokens(str(file), length - num_framing, vocabulary, begin, end, dtype)
        return whole if share is None else _masked(whole, special, share)

    return SampledData(
        train=split(0),
        val=split(1) if validation else None,
        test=split(2),
        num_classes=vocabulary,
        name=name,
        evaluated=max(1, min(EVALUATED, LOGITS // (length * vocabulary))),
    )


def _masked(windows: Tokens, special: Special, share: float) -> Masked:
    """Puts windows of tokens between those around a text, and masks a share of them."""
    framed = (*special.before, *special.after)
    inner = Framed(windows, special.before, special.after) if framed else windows
    assert special.mask is not None
    # of our own tokenizers the first numbers: so they are told in a fingerprint
    own = NUM_SPECIAL if special == Special() else special.all
    return Masked(inner, special.mask, windows.vocabulary, own, share)


def _manual() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise UserError(
            f"this Python comes without its manual ({error}): give the path of a text, "
            "dataset.path=book.txt"
        ) from error
    return "\n\n".join(topics[topic] for topic in sorted(topics))


def _cached(
    parts: Sequence[str], tokenizer: Tokenizer, vocabulary: int, cache: str | None
) -> tuple[Path, str, list[int]]:
    """The file of the parts' tokens, their type and where each part ends; made if not there.

    Each part is encoded by itself: tokens are not equally long everywhere, so that shares of the
    tokens would be other parts than shares of the text, the first of which is what the tokenizer
    learns from. The file's name says where the parts end, and what the tokens hash to.
    """
    dtype = next(t for t in DTYPES if vocabulary - 1 <= numpy.iinfo(t).max)
    content = [hashlib.sha256(part.encode()).hexdigest() for part in parts]
    made_of = [CACHE_FORMAT, content, identity.describe(tokenizer), dtype]
    made_of += ["plain"] if isinstance(tokenizer, Marked) else []
    folder = cache_folder(cache)
    name = f"tokens-{identity.digest(made_of)}"
    for path in sorted(folder.glob(f"{name}-*-*-*-*.{dtype}")):
        *found, digest = path.stem.split("-")[2:]
        if _sum(path) == digest:
            return path, dtype, [int(end) for end in found]
        path.replace(path.with_suffix(".corrupt"))
        _log.warning("cache file %s is damaged: set aside and rebuilt", path)
    _log.info("encoding %d characters of text", sum(map(len, parts)))
    encode = tokenizer.encoder([parts[0]])
    check_vocabulary(encode, vocabulary)
    if isinstance(encode, Knowing):
        encoded = [encode.plain(part) for part in parts]
    else:
        encoded = [encode([part], None) for part in parts]
    ends = list(accumulate(map(len, encoded)))
    tokens = numpy.asarray([token for part in encoded for token in part], dtype="int64")
    if tokens.size and tokens.max() >= vocabulary:
        raise UserError(
            f"the tokenizer gives token {tokens.max()}, beyond dataset.vocabulary={vocabulary}: "
            "set it to the tokenizer's own"
        )
    stored = tokens.astype(dtype).tobytes()
    path = folder / f"{name}-{'-'.join(map(str, ends))}-{_digest([stored])}.{dtype}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, stored)
    except OSError as error:
        raise UserError(
            f"cannot write the tokens to {folder} ({error}): pass dataset.cache=<a folder with "
            "room>"
        ) from error
    return path, dtype, ends


def _sum(path: Path) -> str:
    try:
        with open_regular(path) as opened:
            return _digest(iter(lambda: opened.read(CHUNK), b""))
    except OSError:
        return "unread"


def _digest(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()[:16]
