"""The tokenizer of a corpus: trained once and then kept, or taken from elsewhere.

A model reads the ids of one tokenizer. A corpus therefore keeps its tokenizer when it is
built again, whatever became of its documents, and a corpus that a model was not trained
on can take the model's. Importing this module does not import torch.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from retro.artifacts import (
    MANIFEST_NAME,
    TOKENIZER_FILE,
    fingerprint,
    read_manifest,
    read_record,
    verify_files,
    write_manifest,
)
from retro.corpus.files import CONFIG_NAME, DATABASE_NAME, TOKENIZER_KIND, TOKENIZER_NAME
from retro.data.database import DATABASE_KIND, DocumentRecord
from retro.data.splits import DocumentSource
from retro.data.tokenizer import SavedTokenizer, open_tokenizer
from retro.errors import (
    ArtifactError,
    ArtifactMismatchError,
    ArtifactMissingError,
    ConfigError,
    shown,
)
from retro.json_files import read_object
from retro.model.hub_names import is_hub_name
from retro.model.pretrained.bundled import BUNDLED_NAME
from retro.places import check_place
from retro.progress import Progress, no_progress
from retro.whole_files import staged_folder

SETTINGS_FILES = ("config.json", CONFIG_NAME)
"""Where runs and saved models, and corpora, keep their settings."""


class TokenizerOrigin(StrEnum):
    """Where the tokenizer of a corpus comes from."""

    TRAINED = "trained"
    """Trained on the documents as they are."""
    KEPT = "kept"
    """Trained on the corpus before its documents were changed."""
    TAKEN = "taken"
    """Taken from a run, a saved model or another corpus."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerSource:
    """A tokenizer that a corpus can take."""

    tokenizer: SavedTokenizer

    name: str
    """What people call the place it comes from."""

    chunk_size: int | None
    """Tokens per chunk of the run, model or corpus there; None for a bare tokenizer."""

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Add what follows from the tokenizer to settings that somebody chose.

        Args:
            given: Fields of ``CorpusConfig``; those that are None were not chosen.

        Raises:
            ConfigError: One of them contradicts the tokenizer.
        """
        fixed = {"chunk_size": self.chunk_size, "vocab_size": self.tokenizer.vocab_size}
        for name, value in fixed.items():
            found = given.get(name)
            if value is not None and found is not None and found != value:
                raise ConfigError(
                    f"{name} must be {value} with the tokenizer of {self.name}, got "
                    f"{shown(found)}. Leave {name} out, or choose another tokenizer."
                )
        chunk_size = {} if self.chunk_size is None else {"chunk_size": self.chunk_size}
        return {**given, **chunk_size, "vocab_size": None, "tokenizer": None}


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerRecord:
    """What the folder of a corpus's tokenizer says of it."""

    made_from: str
    """Identity of what it was made from."""

    fingerprint: str
    """Identity of the tokenizer."""

    vocab_size: int
    """Its tokens."""

    asked_vocab_size: int | None
    """How many it was to have; a small corpus gives fewer. None where that is not known."""

    source: str | None
    """Where it was taken from; None where it was trained on the corpus."""

    @classmethod
    def read(cls, corpus_dir: Path) -> "TokenizerRecord | None":
        """Read the record, also of a tokenizer that is damaged or lost; None if there was none."""
        try:
            manifest = read_record(corpus_dir / TOKENIZER_NAME, TOKENIZER_KIND)
            settings = manifest.settings
            return cls(
                made_from=manifest.fingerprint,
                fingerprint=settings["fingerprint"],
                vocab_size=settings["vocab_size"],
                asked_vocab_size=settings.get("asked_vocab_size"),
                source=settings.get("source"),
            )
        except (ArtifactError, KeyError, TypeError, AttributeError):
            return cls._of_database(corpus_dir)

    @classmethod
    def _of_database(cls, corpus_dir: Path) -> "TokenizerRecord | None":
        try:
            settings = read_manifest(corpus_dir / DATABASE_NAME, DATABASE_KIND).settings
            return cls(
                made_from="",
                fingerprint=settings["tokenizer"],
                vocab_size=settings["vocab_size"],
                asked_vocab_size=None,
                source=None,
            )
        except (ArtifactError, KeyError):
            return None

    def has_size(self, vocab_size: int | None) -> bool:
        """Return whether this is a tokenizer of the given size; None stands for any."""
        return vocab_size in (None, self.vocab_size, self.asked_vocab_size)


def training_fingerprint(
    documents: Iterable[DocumentSource | DocumentRecord], vocab_size: int
) -> str:
    """Return the identity of what a tokenizer is trained on.

    Args:
        documents: Those it reads, in the order of the database.
        vocab_size: Most tokens.
    """
    return fingerprint(
        {
            "stage": TOKENIZER_KIND,
            "documents": [[item.path, item.sha256] for item in documents],
            "vocab_size": vocab_size,
        }
    )


def find_tokenizer(path: str | Path) -> TokenizerSource:
    """Open a tokenizer that a corpus is to take.

    Args:
        path: A run, a corpus, a saved model, a folder with ``tokenizer.json``, or this file.

    Raises:
        ConfigError: No file could be called so.
        ArtifactMissingError: There is none.
        ArtifactMismatchError: It is damaged, or from another program.
    """
    place = check_place("tokenizer", path).resolve()
    is_file = place.name == TOKENIZER_FILE and place.is_file()
    folders = (place.parent,) if is_file else (place, place / TOKENIZER_NAME)
    folder = next((one for one in folders if (one / TOKENIZER_FILE).is_file()), None)
    if folder is None:
        raise ArtifactMissingError(
            f"{place.name} must hold {TOKENIZER_FILE} or {TOKENIZER_NAME}/{TOKENIZER_FILE}, got "
            f"neither. Name a run that has started, a corpus that was built, a saved model, or a "
            f"folder with {TOKENIZER_FILE}."
        )
    is_bare = is_file or place.name == TOKENIZER_NAME
    return TokenizerSource(
        tokenizer=_load(folder),
        name=f"{place.parent.name}/{place.name}" if is_bare else place.name,
        chunk_size=_chunk_size(place),
    )


def find_model_tokenizer(name: str, on_progress: Progress = no_progress) -> TokenizerSource:
    """Open the tokenizer of a pretrained model, converting or downloading the model if need be.

    Args:
        name: The bundled model, a folder, or a name on the Hub.
        on_progress: Called with stage ``convert`` where the bundled model is converted.

    Raises:
        ConfigError: No model could be called so.
        ArtifactMissingError: It is neither here nor can it be had.
        ArtifactMismatchError: Its tokenizer is damaged, or of a kind that is not known.
    """
    from retro.model.pretrained.base import find_base  # noqa: PLC0415  # imports torch

    return replace(find_tokenizer(find_base(name, on_progress=on_progress)), name=name)


def is_model_name(name: str) -> bool:
    """Return whether a name is that of a pretrained model that is no folder here."""
    return not Path(name).exists() and (name == BUNDLED_NAME or is_hub_name(name))


def _load(folder: Path) -> SavedTokenizer:
    if (folder / MANIFEST_NAME).exists():
        verify_files(folder, read_manifest(folder, TOKENIZER_KIND))
    try:
        return open_tokenizer(folder)
    except ArtifactMismatchError as error:
        raise ArtifactMismatchError(
            f"{folder.name}/{TOKENIZER_FILE} must be the tokenizer of a corpus or of a language "
            f"model, and it cannot be read as one ({error.__cause__ or error}). Choose another one."
        ) from error


def _chunk_size(folder: Path) -> int | None:
    for name in SETTINGS_FILES:
        if (folder / name).is_file():
            values = read_object(folder / name)
            # A run's file has the settings of its model by that name, a saved model's is these.
            settings = values.get("model", values)
            size = settings.get("chunk_size") if isinstance(settings, dict) else None
            return size if isinstance(size, int) else None
    return None


def is_whole(corpus_dir: Path) -> bool:
    """Return whether a corpus has a tokenizer that is finished and undamaged."""
    folder = corpus_dir / TOKENIZER_NAME
    try:
        verify_files(folder, read_manifest(folder, TOKENIZER_KIND))
    except ArtifactError:
        return False
    return True


def take_tokenizer(corpus_dir: Path, source: TokenizerSource) -> None:
    """Give a corpus a tokenizer from elsewhere; the next build uses it.

    Nothing happens where the corpus has this tokenizer already.

    Args:
        corpus_dir: The corpus, which may be new.
        source: The tokenizer.
    """
    record = TokenizerRecord.read(corpus_dir)
    wanted = source.tokenizer.fingerprint
    if record is not None and record.fingerprint == wanted and is_whole(corpus_dir):
        return
    content = fingerprint({"stage": TOKENIZER_KIND, "tokenizer": wanted})
    save_tokenizer(corpus_dir, source.tokenizer, content, source=source.name)


def save_tokenizer(
    corpus_dir: Path,
    tokenizer: SavedTokenizer,
    made_from: str,
    *,
    asked_vocab_size: int | None = None,
    source: str | None = None,
) -> None:
    """Write the tokenizer of a corpus; the arguments are fields of ``TokenizerRecord``."""
    with staged_folder(corpus_dir / TOKENIZER_NAME) as staging:
        tokenizer.save(staging)
        settings = {
            "vocab_size": tokenizer.vocab_size,
            "fingerprint": tokenizer.fingerprint,
            "asked_vocab_size": asked_vocab_size,
            "source": source,
        }
        write_manifest(staging, TOKENIZER_KIND, content=made_from, settings=settings)


def tokenizer_words(summary: Mapping[str, Any]) -> str:
    """Return where the tokenizer of a corpus comes from, for people.

    Args:
        summary: Facts of a build; those of earlier versions do not say.
    """
    match summary.get("tokenizer_origin"):
        case TokenizerOrigin.TRAINED:
            return "trained on this corpus"
        case TokenizerOrigin.KEPT:
            return "kept from before the documents were changed"
        case TokenizerOrigin.TAKEN:
            return f"taken from {summary.get('tokenizer_source')}"
        case _:
            return "trained on this corpus, now or earlier"
