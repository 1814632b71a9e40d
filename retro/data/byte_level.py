r"""Lossless byte-level BPE tokenizer, trained on the corpus.

Every text without lone surrogates comes back exactly as it went in. Two ids stand for
no text: ``PAD_ID`` and ``END_ID``. Their names in the vocabulary hold a space, which no
byte-level token can (a space is spelled ``\u0120`` there), so no merge can produce them.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import decoders, models, pre_tokenizers, trainers

from retro.artifacts import TOKENIZER_FILE
from retro.errors import ArtifactMismatchError, ArtifactMissingError, ConfigError, InputError
from retro.json_files import parse_json, read_limited
from retro.whole_files import write_bytes

PAD_ID = 0
END_ID = 1
SPECIAL_TOKENS = ("no text", "end of text")
SMALLEST_VOCAB_SIZE = 256 + len(SPECIAL_TOKENS)

PIECE_CHARACTERS = 2**16
"""Encoding holds some hundred bytes per token, so a text is encoded in pieces."""
LONGEST_TRAINING_WORD = 128
"""Training takes time quadratic in the length of a word."""
TRAINING_CHARACTERS = 2**28


class ByteLevelTokenizer:
    """Byte-level BPE; see the module's docstring."""

    is_lossless = True

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        # Text that spells the name of a special token is text like any other.
        backend.encode_special_tokens = True
        self._backend = backend
        self._bytes = _bytes_of_tokens(backend)
        self.vocab_size = len(self._bytes)
        self.pad_id = PAD_ID
        self.eos_id = END_ID
        self.fingerprint = hashlib.sha256(backend.to_str().encode()).hexdigest()

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "ByteLevelTokenizer":
        """Learn a vocabulary.

        Args:
            texts: What to learn from; the first ``TRAINING_CHARACTERS`` are read.
            vocab_size: Most tokens, special tokens included. A small corpus gives fewer.

        Raises:
            ConfigError: ``vocab_size`` cannot hold every byte.
        """
        if vocab_size < SMALLEST_VOCAB_SIZE:
            raise ConfigError(
                f"vocab_size must be at least {SMALLEST_VOCAB_SIZE}, got {vocab_size}."
            )
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        backend.train_from_iterator(_training_pieces(texts), trainer)
        return cls(backend)

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Return whether a folder's tokenizer is one that this library trained.

        A missing file counts as one, so that loading it says what is missing.
        """
        path = folder / TOKENIZER_FILE
        return not path.exists() or f'"{SPECIAL_TOKENS[0]}"'.encode() in read_limited(path)

    @classmethod
    def load(cls, folder: Path) -> "ByteLevelTokenizer":
        """Open a saved tokenizer.

        Raises:
            ArtifactMissingError: There is none in the folder.
            ArtifactMismatchError: The file is damaged or from another program.
        """
        path = folder / TOKENIZER_FILE
        if not path.exists():
            raise ArtifactMissingError(
                f"{folder.parent.name} has no {TOKENIZER_FILE}. Build the corpus first."
            )
        content = read_limited(path)
        try:
            _check_ids(parse_json(content))
            return cls(tokenizers.Tokenizer.from_str(content.decode("utf-8")))
        # The parser of the tokenizers package raises plain exceptions, or gives up.
        except BaseException as error:
            if not (isinstance(error, Exception) or is_panic(error)):
                raise
            raise ArtifactMismatchError(
                f"{TOKENIZER_FILE} is damaged ({error}). Build the corpus again."
            ) from error

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` into a folder."""
        write_bytes(folder / TOKENIZER_FILE, self._backend.to_str(pretty=True).encode())

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens.

        Raises:
            InputError: The text holds half of a surrogate pair.
        """
        check_text(text)
        pieces = split_text(text, PIECE_CHARACTERS)
        return [id for piece in pieces for id in self._backend.encode(piece).ids]

    def encode_with_spans(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return token ids, (tokens,), and the characters they cover, (tokens, 2).

        Tokens that are parts of one character all cover that character.

        Raises:
            InputError: The text holds half of a surrogate pair.
        """
        check_text(text)
        ids: list[NDArray[np.int32]] = []
        spans: list[NDArray[np.int64]] = []
        start = 0
        for piece in split_text(text, PIECE_CHARACTERS):
            encoding = self._backend.encode(piece)
            ids.append(np.array(encoding.ids, dtype=np.int32))
            spans.append(np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2) + start)
            start += len(piece)
        if not ids:
            return np.zeros(0, np.int32), np.zeros((0, 2), np.int64)
        return np.concatenate(ids), np.concatenate(spans)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids.

        Special tokens have no text. Bytes that are not UTF-8, as at the border of a
        chunk inside a character, become U+FFFD.
        """
        return b"".join([self._bytes[id] for id in ids]).decode("utf-8", errors="replace")

    def token_bytes(self, id: int) -> bytes:
        """Return the UTF-8 bytes of one token, which may be part of a character."""
        return self._bytes[id]


def is_panic(error: BaseException) -> bool:
    """Return whether code written in Rust gave up, which raises what is no ``Exception``."""
    return type(error).__name__ == "PanicException"


def check_text(text: str) -> None:
    """Refuse a text that UTF-8 cannot hold.

    Raises:
        InputError: The text holds half of a surrogate pair.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"A text must not hold half of a surrogate pair, got {text[error.start]!a} "
            f"at character {error.start}. Remove it."
        ) from None


WORD_BREAK = re.compile(r"(?<=\S)(?=[ \n])")
"""Here the pre-tokenizer always begins a new word, so cutting here changes no token."""


def split_text(text: str, size: int) -> Iterator[str]:
    """Yield a text in pieces of at least ``size`` characters, cut at word breaks.

    A stretch of another ``size`` characters without a word break is cut anyway.
    """
    start = 0
    while len(text) - start > size:
        found = WORD_BREAK.search(text, start + size, start + 2 * size)
        stop = found.start() if found else min(start + 2 * size, len(text))
        yield text[start:stop]
        start = stop
    if start < len(text):
        yield text[start:]


def _training_pieces(texts: Iterable[str]) -> Iterator[str]:
    left = TRAINING_CHARACTERS
    long_word = re.compile(rf"\S{{{LONGEST_TRAINING_WORD}}}|\s{{{LONGEST_TRAINING_WORD}}}")
    words = re.compile(rf"\S{{1,{LONGEST_TRAINING_WORD}}}|\s{{1,{LONGEST_TRAINING_WORD}}}")
    for text in texts:
        for piece in split_text(text[:left], PIECE_CHARACTERS):
            yield from words.findall(piece) if long_word.search(piece) else [piece]
        left -= len(text)
        if left <= 0:
            return


def _check_ids(values: Any) -> None:
    """Refuse ids that are not counted from 0: the package would reserve memory up to the largest.

    Raises:
        ValueError, TypeError, KeyError or AttributeError: There are such ids, or none at all.
    """
    vocabulary = values["model"]["vocab"]
    ids = [*vocabulary.values(), *(token["id"] for token in values["added_tokens"])]
    if not all(0 <= id < len(ids) for id in ids):
        raise ValueError(f"ids of tokens must be below {len(ids)}, got {max(ids)}")


def _bytes_of_tokens(backend: tokenizers.Tokenizer) -> list[bytes]:
    names = [backend.id_to_token(id) for id in range(backend.get_vocab_size())]
    if tuple(names[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
        raise ValueError(f"its first tokens are {names[: len(SPECIAL_TOKENS)]}")
    letters = byte_of_letter()
    words = (name or "" for name in names[len(SPECIAL_TOKENS) :])
    empty = [b""] * len(SPECIAL_TOKENS)
    return empty + [bytes(letters[letter] for letter in word) for word in words]


@cache
def byte_of_letter() -> dict[str, int]:
    """Return the byte that each printable letter stands for (as in GPT-2)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    made = {chr(256 + position): byte for position, byte in enumerate(others)}
    return made | {chr(byte): byte for byte in printable}
