"""Where a model comes from: what travels with its weights, in plain values."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

from retro.artifacts import SPECIAL_TOKENS_FILE, TOKENIZER_FILE
from retro.errors import ArtifactMismatchError, ArtifactMissingError
from retro.json_files import read_limited, read_object

ORIGIN_NAME = "origin.json"

FactsT = TypeVar("FactsT")


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusOrigin:
    """The corpus a model was trained on; None where a fact is not known."""

    name: str
    """What people call it: the name of its folder."""
    fingerprint: str | None = None
    """Identity of everything that training read."""
    num_documents: int | None = None
    """Documents, held-out ones included."""
    num_chunks: int | None = None
    """Chunks, held-out ones included."""
    num_tokens: int | None = None
    """Tokens of text, without padding."""
    num_neighbors: int | None = None
    """Neighbors stored for each chunk."""
    exclusion: str | None = None
    """Which chunks may not be neighbors of a chunk: ``document`` or ``window``."""
    exclusion_window: int | None = None
    """Tokens of the same document on either side that ``window`` excludes."""
    encoder: str | None = None
    """Hub name or folder of the frozen encoder for keys."""
    embedder_fingerprint: str | None = None
    """Identity of the keys' making: the encoder's files together with the tokenizer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelOrigin:
    """What is known of a trained model beyond its weights and sizes."""

    tokenizer: bytes | None = field(default=None, repr=False)
    """Content of ``tokenizer.json``; without it the model reads and writes ids only."""
    special_tokens: bytes | None = field(default=None, repr=False)
    """Content of ``special_tokens.json``, which belongs to the tokenizer of a pretrained model."""
    corpus: CorpusOrigin | None = None
    """What it was trained on."""
    preset: str | None = None
    """Name of the preset its sizes began with."""
    training: dict[str, Any] = field(default_factory=dict)
    """Settings of its training, fields of ``retro.config.training.TrainingConfig``."""
    step: int | None = None
    """Optimizer steps taken."""
    tokens_seen: int | None = None
    """Labels that counted in the training loss."""
    val_loss_on: float | None = None
    """Validation loss with retrieval at this step, in nats per token."""
    val_loss_off: float | None = None
    """The same with retrieval off."""
    val_loss_base: float | None = None
    """The same of a pretrained model before its training."""

    def write(self, folder: Path) -> None:
        """Write ``origin.json``, and ``tokenizer.json`` where there is a tokenizer."""
        values = asdict(self)
        tokenizer = values.pop("tokenizer")
        special = values.pop("special_tokens")
        if special is not None:
            (folder / SPECIAL_TOKENS_FILE).write_bytes(special)
        if tokenizer is not None:
            (folder / TOKENIZER_FILE).write_bytes(tokenizer)
            values["tokenizer_sha256"] = hashlib.sha256(tokenizer).hexdigest()
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        (folder / ORIGIN_NAME).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "ModelOrigin | None":
        """Read what ``write`` wrote; names of later versions are passed over.

        Args:
            folder: A saved model.

        Returns:
            The origin; None where the model was saved without one and has no tokenizer.

        Raises:
            ArtifactMissingError: The tokenizer that belongs to the model is not there.
            ArtifactMismatchError: A file is damaged or belongs to another model.
        """
        if not (folder / ORIGIN_NAME).exists():
            tokenizer = folder / TOKENIZER_FILE
            return cls(tokenizer=read_limited(tokenizer)) if tokenizer.exists() else None
        values = read_object(folder / ORIGIN_NAME)
        try:
            corpus = values.pop("corpus", None)
            sha256 = values.pop("tokenizer_sha256", None)
            origin = _known(cls, values) | {
                "corpus": None if corpus is None else CorpusOrigin(**_known(CorpusOrigin, corpus)),
                "training": dict(values.get("training") or {}),
            }
        except (AttributeError, TypeError, ValueError) as error:
            raise ArtifactMismatchError(
                f"{folder.name}/{ORIGIN_NAME} is damaged ({error}). Save the model again."
            ) from error
        special = folder / SPECIAL_TOKENS_FILE
        return cls(
            **origin,
            tokenizer=None if sha256 is None else _read_tokenizer(folder, sha256),
            special_tokens=read_limited(special) if special.exists() else None,
        )


def _known(facts: type[FactsT], values: Mapping[str, Any]) -> dict[str, Any]:
    names = {item.name for item in fields(facts)}  # type: ignore[arg-type]  # both are dataclasses
    kept = {
        name: value
        for name, value in values.items()
        if name in names - {"tokenizer", "special_tokens"}
    }
    for name, value in kept.items():
        kind: type | UnionType = str
        if name.startswith("num_") or name in ("step", "tokens_seen", "exclusion_window"):
            kind = int
        elif name.startswith("val_loss"):
            kind = int | float
        elif name in ("corpus", "training"):
            kind = dict
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name} is {type(value).__name__}")
    return kept


def _read_tokenizer(folder: Path, sha256: str) -> bytes:
    path = folder / TOKENIZER_FILE
    if not path.exists():
        raise ArtifactMissingError(
            f"{folder.name}/{TOKENIZER_FILE} is missing, and the model was saved with one. "
            f"Copy the whole folder, or save the model again."
        )
    content = read_limited(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ArtifactMismatchError(
            f"{folder.name}/{TOKENIZER_FILE} is damaged or belongs to another model: its sha256 "
            f"is not the one in {ORIGIN_NAME}. Save the model again."
        )
    return content
