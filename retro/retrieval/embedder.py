"""Keys: vectors by which chunks are found, from a frozen encoder.

Database chunks and queries go through the same ``embed``, and a key does not depend on
the batch it was computed in (beyond rounding), so a chunk finds itself.

Shape suffixes: N any number of rows, M tokens per chunk, T tokens in a batch, Z key
width.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from retro.artifacts import fingerprint
from retro.config.corpus import BUNDLED_ENCODER
from retro.config.training import Precision
from retro.data.byte_level import is_panic
from retro.data.tokenizer import Tokenizer
from retro.device import autocast_dtype, default_device
from retro.errors import ArtifactError, ArtifactMismatchError, ConfigError, shown
from retro.retrieval.encoder_files import (
    check_settings,
    encoder_fingerprint,
    find_encoder,
    first_line,
    pooling,
)

CPU_BATCH_TOKENS = 1024
"""Larger batches leave the cache: measured 12 % slower at 2,048 and 20 % at 8,192."""
CUDA_BATCH_TOKENS = 65_536
UNUSABLE = (
    ArtifactError, OSError, ValueError, TypeError, LookupError, AttributeError, ImportError,
    SafetensorError,
)  # fmt: skip
"""What transformers raises for files that are not those of an encoder."""


class Embedder(Protocol):
    """Maps chunks to keys. Database chunks and queries both go through here."""

    width: int
    fingerprint: str

    def embed(self, chunks_NM: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return one key per chunk, (chunks, width)."""
        ...


MakeEmbedder = Callable[[Tokenizer], Embedder]
"""Makes the embedder of a corpus, given its tokenizer."""


Pool = Callable[[Tensor, Tensor], Tensor]
"""Makes vectors, (rows, width), of states, (rows, tokens, width), and where tokens exist."""


class TextEncoder:
    """A frozen encoder of transformers: one vector per text.

    The vector is the mean over the real tokens, special ones included. A sentence
    encoder whose ``modules.json`` says otherwise is followed: first token instead of the
    mean, and unit length. Text beyond the encoder's longest input is left out.
    """

    def __init__(
        self, folder: Path, name: str, device: torch.device, precision: Precision = Precision.AUTO
    ) -> None:
        self.name = name
        self.device = device
        self.fingerprint = encoder_fingerprint(folder)
        self._uses_first_token, self._normalizes = pooling(folder)
        dtype = autocast_dtype(device, precision) or torch.float32
        with _quiet_transformers():
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            if config.is_encoder_decoder:
                raise ConfigError(
                    f"encoder must be an encoder model, got {name!r}, which has a decoder. "
                    f"Leave encoder empty for the bundled {BUNDLED_ENCODER}."
                )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModel.from_pretrained(
                folder, config=config, dtype=dtype, use_safetensors=True, local_files_only=True
            )
        self._model = model.to(device).eval()
        self.width: int = config.hidden_size
        longest = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
        self.longest: int = min(longest, tokenizer.model_max_length)
        """Most tokens it reads, special ones included."""
        self.num_embeddings: int = config.vocab_size
        """Token ids must be below this."""
        self._tokenizer = tokenizer

    @classmethod
    def open(
        cls,
        name: str | None = None,
        device: torch.device | None = None,
        precision: Precision = Precision.AUTO,
    ) -> Self:
        """Load an encoder.

        Args:
            name: Hub name or folder; None is the bundled encoder.
            device: Where it computes; None is CUDA where there is one.
            precision: Number format of the matrix products.

        Raises:
            ArtifactMissingError: It is neither here nor can it be downloaded.
            ArtifactMismatchError: Its files cannot be used.
        """
        folder = find_encoder(name)
        try:
            check_settings(folder)
            return cls(folder, name or BUNDLED_ENCODER, device or default_device(), precision)
        except ConfigError:
            raise
        except BaseException as error:
            if not (isinstance(error, UNUSABLE) or is_panic(error)):
                raise
            raise ArtifactMismatchError(
                f"The encoder {shown(name or BUNDLED_ENCODER)} cannot be used "
                f"({first_line(error)}). Choose another, or leave encoder empty for the bundled "
                f"{BUNDLED_ENCODER}."
            ) from error

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector per text, (texts, width); never zero, never NaN.

        Raises:
            ArtifactMismatchError: The encoder gave a vector that is zero or not finite.
        """
        if not texts:
            return np.zeros((0, self.width), dtype=np.float32)
        found = self._tokenizer(list(texts), truncation=True, max_length=self.longest)
        # Without special tokens, an empty text would have nothing to take the mean of.
        rows = [ids or [self._tokenizer.pad_token_id or 0] for ids in found["input_ids"]]
        vectors_NZ = self._vectors(rows, [np.ones(len(ids), np.bool_) for ids in rows], self._pool)
        self.check(vectors_NZ)
        return vectors_NZ

    def _vectors(
        self,
        rows: Sequence[Sequence[int] | NDArray[np.int64]],
        exists: Sequence[NDArray[np.bool_]],
        pool: Pool,
        most_rows: int | None = None,
    ) -> NDArray[np.float32]:
        """Return one vector per row of token ids; a token that does not exist is not read."""
        vectors_NZ = np.zeros((len(rows), self.width), dtype=np.float32)
        kinds = [(len(ids), bool(flags.all())) for ids, flags in zip(rows, exists, strict=True)]
        for batch in self._batches(kinds, most_rows):
            vectors_NZ[batch] = self._encode_batch(
                np.array([rows[row] for row in batch], dtype=np.int64),
                np.array([exists[row] for row in batch]),
                pool,
            )
        return vectors_NZ

    def _batches(
        self, kinds: Sequence[tuple[int, bool]], most_rows: int | None
    ) -> Iterator[list[int]]:
        """Yield rows of one length, all whole or all with gaps.

        No padding is computed, whole rows need no mask, and what a row gives does not depend on
        the rows beside it: attention over padding rounds differently.
        """
        limit = CUDA_BATCH_TOKENS if self.device.type == "cuda" else CPU_BATCH_TOKENS
        order = sorted(range(len(kinds)), key=kinds.__getitem__)
        for (length, _), same in itertools.groupby(order, key=kinds.__getitem__):
            rows = list(same)
            size = max(1, limit // max(1, length))
            size = size if most_rows is None else min(size, most_rows)
            yield from (rows[start : start + size] for start in range(0, len(rows), size))

    @torch.inference_mode()
    def _encode_batch(
        self, ids_NT: NDArray[np.int64], exists_NT: NDArray[np.bool_], pool: Pool
    ) -> NDArray[np.float32]:
        """Return the vectors of rows of one length."""
        mask = None
        if not exists_NT.all():
            read_NT = exists_NT.astype(np.int64)
            # Attention over nothing at all is not defined.
            read_NT[~exists_NT.any(axis=1), 0] = 1
            mask = torch.from_numpy(read_NT).to(self.device)
        states_NTZ: Tensor = self._model(
            input_ids=torch.from_numpy(ids_NT).to(self.device), attention_mask=mask
        ).last_hidden_state.float()
        vectors_NZ = pool(states_NTZ, torch.from_numpy(exists_NT.astype(np.int64)).to(self.device))
        result_NZ: NDArray[np.float32] = vectors_NZ.cpu().numpy()
        return result_NZ

    def _pool(self, states_NTZ: Tensor, exists_NT: Tensor) -> Tensor:
        """Make vectors as the encoder's own files ask for."""
        if self._uses_first_token:
            vectors_NZ = states_NTZ[:, 0]
        else:
            exists_NT1 = exists_NT[..., None]
            vectors_NZ = (states_NTZ * exists_NT1).sum(1) / exists_NT1.sum(1)
        if self._normalizes:
            vectors_NZ = torch.nn.functional.normalize(vectors_NZ, dim=-1)
        return vectors_NZ

    def check(self, vectors_NZ: NDArray[np.float32]) -> None:
        """Refuse keys by which nothing can be found.

        Raises:
            ArtifactMismatchError: A key is zero or not finite.
        """
        usable_N: NDArray[np.bool_] = np.asarray(
            np.isfinite(vectors_NZ).all(axis=1) & vectors_NZ.any(axis=1)
        )
        if not usable_N.all():
            raise ArtifactMismatchError(
                f"The encoder {self.name!r} gave {int((~usable_N).sum())} of {len(usable_N)} keys "
                f"that are zero or not finite. Choose another encoder."
            )


class ChunkEmbedder:
    """Embeds chunks by their text, so encoder and tokenizer are independent choices."""

    def __init__(self, encoder: TextEncoder, tokenizer: Tokenizer) -> None:
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.width = encoder.width
        self.fingerprint = embedder_fingerprint(encoder.fingerprint, tokenizer)

    @classmethod
    def open(
        cls, encoder: str | None, tokenizer: Tokenizer, device: torch.device
    ) -> "ChunkEmbedder":
        """Load an encoder; the arguments are those of ``TextEncoder.open``."""
        return cls(TextEncoder.open(encoder, device), tokenizer)

    def embed(self, chunks_NM: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return one key per chunk, (chunks, width)."""
        # A chunk may begin or end inside a character, which decodes to U+FFFD.
        texts = [self.tokenizer.decode(ids).strip("\ufffd") for ids in chunks_NM.tolist()]
        return self.encoder.encode(texts)


def embedder_fingerprint(encoder: str, tokenizer: Tokenizer) -> str:
    """Return the identity of the keys that an encoder gives to a tokenizer's chunks."""
    return fingerprint({"encoder": encoder, "tokenizer": tokenizer.fingerprint})


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep notes about unused weights and progress bars off the terminal."""
    verbosity = transformers_logging.get_verbosity()
    had_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # not typed there
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # not typed there
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # not typed there
