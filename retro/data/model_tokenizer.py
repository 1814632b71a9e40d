"""Tokenizers of pretrained models, from their ``tokenizer.json``.

Text comes back exactly as it went in where the tokenizer keeps it; ``is_lossless`` says whether
it does. Text that spells the name of a special token is text like any other.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from retro.artifacts import SPECIAL_TOKENS_FILE, TOKENIZER_FILE
from retro.data.byte_level import (
    PIECE_CHARACTERS,
    byte_of_letter,
    check_text,
    is_panic,
    split_text,
)
from retro.errors import ArtifactMismatchError
from retro.json_files import parse_json, read_limited
from retro.whole_files import write_bytes, write_json

MODEL_FILES = ("generation_config.json", "config.json")
"""Files of a model that say so too, the first that knows."""
NO_ID = -1
PROBE = " The caf\u00e9's\r\n\r\n\tna\u00efve  \u4e2d\u6587 \U0001f600 e\u0301 <|end|> x=1;\n  end "
BYTE_NAME = re.compile(r"<0x([0-9A-F]{2})>")
WORD_START = "\u2581"
"""Stands for a space in vocabularies that were made by SentencePiece."""


class ModelTokenizer:
    """A tokenizer that a pretrained model was trained with.

    Args:
        backend: As the package ``tokenizers`` read it.
        bos_id: Token at the beginning of a text; the last token of a text where there is none.
        eos_id: Token at the end of a text.

    Raises:
        ValueError: Its tokens are not known to be parts of a text.
    """

    pad_id = NO_ID

    def __init__(self, backend: tokenizers.Tokenizer, bos_id: int, eos_id: int) -> None:
        backend.encode_special_tokens = True
        self._backend = backend
        self._bytes = _bytes_of_tokens(backend)
        self.vocab_size = len(self._bytes)
        self.bos_id = bos_id
        self.eos_id = eos_id
        identity = f"{backend.to_str()} {bos_id} {eos_id}"
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()
        self._is_piecewise = '"ByteLevel"' in json.dumps(_part(backend, "pre_tokenizer"))
        self.is_lossless = self.decode(self.encode(PROBE)) == PROBE

    @classmethod
    def load(cls, folder: Path) -> "ModelTokenizer":
        """Open the tokenizer of a folder: one that was saved, or that of a model.

        Raises:
            ArtifactMismatchError: A file is damaged, or the tokenizer of a kind that is not known.
        """
        content = read_limited(folder / TOKENIZER_FILE)
        try:
            backend = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
            return cls(backend, *_special_ids(folder))
        # The parser of the tokenizers package raises plain exceptions, or gives up.
        except BaseException as error:
            if not (isinstance(error, Exception) or is_panic(error)):
                raise
            raise ArtifactMismatchError(
                f"{folder.name}/{TOKENIZER_FILE} must be a tokenizer whose tokens are parts of a "
                f"text, and it cannot be read as one ({error}). Choose another model."
            ) from error

    def save(self, folder: Path) -> None:
        """Write what ``load`` reads into a folder."""
        write_bytes(folder / TOKENIZER_FILE, self._backend.to_str(pretty=True).encode())
        write_json(folder / SPECIAL_TOKENS_FILE, {"bos_id": self.bos_id, "eos_id": self.eos_id})

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens.

        Raises:
            InputError: The text holds half of a surrogate pair.
        """
        check_text(text)
        return [id for piece in self._pieces(text) for id in self._encode(piece).ids]

    def encode_with_spans(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return token ids, (tokens,), and the characters they cover, (tokens, 2).

        Tokens that are parts of one character all cover that character.

        Raises:
            InputError: The text holds half of a surrogate pair.
        """
        check_text(text)
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        start = 0
        for piece in self._pieces(text):
            encoding = self._encode(piece)
            ids += encoding.ids
            offsets += [(start + first, start + end) for first, end in encoding.offsets]
            start += len(piece)
        spans = _spans_of_bytes(text, [self._bytes[id] for id in ids])
        if spans is None:
            # What the tokenizer says, where it does not keep the text.
            spans = np.array(offsets, dtype=np.int64).reshape(-1, 2)
        return np.array(ids, dtype=np.int32), spans

    def _pieces(self, text: str) -> list[str]:
        # Others mark the beginning of what they are given.
        return list(split_text(text, PIECE_CHARACTERS)) if self._is_piecewise else [text]

    def _encode(self, text: str) -> Any:
        return self._backend.encode(text, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids; special tokens have none.

        Bytes that are not UTF-8, as at the border of a chunk inside a character, become U+FFFD.
        """
        return b"".join([self._bytes[id] for id in ids]).decode("utf-8", errors="replace")

    def token_bytes(self, id: int) -> bytes:
        """Return the UTF-8 bytes of one token, which may be part of a character."""
        return self._bytes[id]


def _part(backend: tokenizers.Tokenizer, name: str) -> Any:
    return json.loads(backend.to_str())[name]


def _bytes_of_tokens(backend: tokenizers.Tokenizer) -> list[bytes]:
    """Return the bytes of every token; special tokens have none."""
    values = json.loads(backend.to_str())
    special = {token["id"] for token in values["added_tokens"] if token["special"]}
    plain = {token["id"] for token in values["added_tokens"] if not token["special"]}
    decoder = json.dumps(values["decoder"], ensure_ascii=False)
    if '"ByteLevel"' in decoder:
        to_bytes = _byte_level
    elif WORD_START in decoder or '"Metaspace"' in decoder:
        to_bytes = _word_pieces
    else:
        raise ValueError(f"its decoder is {decoder[:120]}")
    made = []
    for id in range(backend.get_vocab_size()):
        name = backend.id_to_token(id) or ""
        if id in special:
            made.append(b"")
        else:
            made.append(name.encode() if id in plain else to_bytes(name))
    return made


def _byte_level(name: str) -> bytes:
    letters = byte_of_letter()
    if any(letter not in letters for letter in name):
        return name.encode()
    return bytes(letters[letter] for letter in name)


def _word_pieces(name: str) -> bytes:
    byte = BYTE_NAME.fullmatch(name)
    return bytes([int(byte[1], 16)]) if byte else name.replace(WORD_START, " ").encode()


def _spans_of_bytes(text: str, tokens: Sequence[bytes]) -> NDArray[np.int64] | None:
    """Return the characters that each token covers, None where the tokens are not the text."""
    content = text.encode()
    if b"".join(tokens) != content:
        return None
    is_first = (np.frombuffer(content, dtype=np.uint8) & 0xC0) != 0x80
    character = np.append(is_first.cumsum() - 1, len(text)).astype(np.int64)
    ends = np.cumsum([len(token) for token in tokens], dtype=np.int64)
    starts = np.append(0, ends[:-1]).astype(np.int64) if len(ends) else ends
    last = np.where(ends > starts, character[np.maximum(ends - 1, 0)] + 1, character[starts])
    return np.stack([character[starts], last], axis=1)


def _special_ids(folder: Path) -> tuple[int, int]:
    if (folder / SPECIAL_TOKENS_FILE).exists():
        facts = parse_json(read_limited(folder / SPECIAL_TOKENS_FILE))
        return int(facts["bos_id"]), int(facts["eos_id"])
    found: dict[str, int] = {}
    for name in MODEL_FILES:
        if (folder / name).exists():
            values = parse_json(read_limited(folder / name))
            for which in ("bos_token_id", "eos_token_id"):
                value = values.get(which)
                value = value[0] if isinstance(value, list) and value else value
                if isinstance(value, int):
                    found.setdefault(which, value)
    if "eos_token_id" not in found:
        raise ValueError("no file of the model says which token ends a text")
    return found.get("bos_token_id", found["eos_token_id"]), found["eos_token_id"]
