"""Words and their ciphers: a small text to learn from, and a task whose answers are exact."""

from __future__ import annotations

import torch
from torch import Tensor

from lth_runner.problem.data.tensors import Data
from lth_runner.values.errors import UserError
from lth_runner.values.ignored import IGNORED
from lth_runner.values.memory import refuse_beyond_memory
from lth_runner.values.seeds import stream

PADDING, END, NEWLINE, COLON, FIRST = 0, 1, 2, 3, 4  # tokens; letters a to z begin at FIRST
VOCABULARY = FIRST + 26
# of a hundred letters of English, a to z: some tokens are rare
OFTEN = (8.2, 1.5, 2.8, 4.3, 12.7, 2.2, 2.0, 6.1, 7.0, 0.2, 0.8, 4.0, 2.4, 6.7, 7.5, 1.9, 0.1, 6.0,
         6.3, 9.1, 2.8, 1.0, 2.4, 0.2, 2.0, 0.1)  # fmt: skip
SHORTEST, LONGEST = 3, 8  # letters of a word


def cipher_records(
    *,
    length: int = 32,
    vocabulary: int = VOCABULARY,
    num_train: int = 20000,
    num_test: int = 500,
    validation: int = 500,
    ends: float = 0.15,
    seed: int = 0,
    name: str = "cipher_records",
) -> Data:
    """Draws windows of records ``e:word`` newline ``c:cipher`` newline, to learn the cipher from.

    A cipher replaces each letter by another, always by the same. A window begins with a record;
    ``ends`` is the share of records behind which the text ends and another begins (token 1). Words
    are letters drawn as often as English has them. Targets are the tokens after each.
    Raises UserError for sizes that leave nothing.
    """
    _check(length, {"num_train": num_train, "num_test": num_test}, validation, num_train)
    if not 0 <= ends <= 1:
        raise UserError(f"dataset.ends={ends} is a share of the records: give one from 0 to 1")
    drawn = stream(seed, "cipher", "records")
    both = _cipher(seed)

    def windows(num: int) -> tuple[Tensor, Tensor]:
        rows = []
        for _ in range(num):
            row: list[int] = []
            while len(row) <= length:
                word = _word(drawn)
                row += _prompt(word) + [int(both[letter]) for letter in word] + [NEWLINE]
                row += [END] if float(torch.rand((), generator=drawn)) < ends else []
            rows.append(row[: length + 1])
        whole = torch.tensor(rows)
        return whole[:, :-1].contiguous(), whole[:, 1:].contiguous()

    return _data(windows(num_train), windows(num_test), validation, vocabulary, name)


def cipher_answers(
    *,
    length: int = 32,
    vocabulary: int = VOCABULARY,
    num_train: int = 4000,
    num_test: int = 200,
    validation: int = 200,
    seed: int = 0,
    name: str = "cipher_answers",
) -> Data:
    """Draws prompts ``e:word`` newline ``c:`` whose answer is the word's cipher and the end.

    The cipher of a seed is that of ``cipher_records``. The answer's tokens alone are targets, the
    others take no part (-100). Test words are in no other split.
    """
    _check(length, {"num_train": num_train, "num_test": num_test}, validation, num_train)
    if length < 2 * LONGEST + 6:
        raise UserError(
            f"dataset.length={length} is too short for a word of {LONGEST} letters, its cipher "
            f"and what stands around them: give at least {2 * LONGEST + 6}"
        )
    drawn, both = stream(seed, "cipher", "answers"), _cipher(seed)
    words: dict[tuple[int, ...], None] = {}  # none twice, in the order drawn
    while len(words) < num_train + num_test:
        words[_word(drawn)] = None
    chosen = list(words)

    def samples(picked: list[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        inputs = torch.full((len(picked), length), PADDING)
        targets = torch.full((len(picked), length), IGNORED)
        for row, word in enumerate(picked):
            prompt, answer = _prompt(word), [*(int(both[letter]) for letter in word), END]
            whole = prompt + answer
            inputs[row, : len(whole) - 1] = torch.tensor(whole[:-1])
            first = len(prompt) - 1
            targets[row, first : first + len(answer)] = torch.tensor(answer)
        return inputs, targets

    test = samples(chosen[:num_test])
    return _data(samples(chosen[num_test:]), test, validation, vocabulary, name)


def _check(length: int, sizes: dict[str, int], validation: int, num_train: int) -> None:
    for key, value in {"length": length, **sizes}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"dataset.{key}={value!r}: give a whole number, at least 1")
    if isinstance(validation, bool) or not 0 <= validation < num_train:
        raise UserError(
            f"dataset.validation={validation}: give a whole number of samples below "
            f"dataset.num_train={num_train}"
        )
    refuse_beyond_memory(16 * sum(sizes.values()) * length, "the samples of dataset=cipher")


def _cipher(seed: int) -> Tensor:
    """Maps each letter's token to another letter's."""
    letters = torch.randperm(26, generator=stream(seed, "cipher", "alphabet"))
    return torch.cat([torch.arange(FIRST), FIRST + letters])


def _word(drawn: torch.Generator) -> tuple[int, ...]:
    num = int(torch.randint(SHORTEST, LONGEST + 1, (), generator=drawn))
    letters = torch.multinomial(torch.tensor(OFTEN), num, replacement=True, generator=drawn)
    return tuple(FIRST + int(letter) for letter in letters)


def _prompt(word: tuple[int, ...]) -> list[int]:
    e, c = FIRST + 4, FIRST + 2
    return [e, COLON, *word, NEWLINE, c, COLON]


def _data(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    validation: int,
    vocabulary: int,
    name: str,
) -> Data:
    if vocabulary < VOCABULARY:
        raise UserError(
            f"dataset.vocabulary={vocabulary}: there are {VOCABULARY} tokens, {FIRST} and 26 "
            f"letters; give at least {VOCABULARY}"
        )
    return Data.from_tensors(train, test, validation=validation, num_classes=vocabulary, name=name)
