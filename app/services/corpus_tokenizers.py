"""Which tokenizer cuts a corpus: that of the model that is to read it, or one of its own."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.services.pretrained import pretrained_models
from jobs.store.rows import CorpusRow
from retro.corpus.tokenizer import TokenizerRecord, find_tokenizer
from retro.errors import ArtifactError
from retro.model.pretrained.stored import local_folder


def default_tokenizer() -> str | None:
    """Return the model that new corpora are cut for; None where there is none."""
    known = pretrained_models()
    return known[0].name if known else None


def merged(before: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with chosen ones; a vocabulary and a model's tokenizer replace each other.

    Args:
        before: Fields of ``CorpusConfig``.
        chosen: Those that somebody chose.
    """
    values = {**before, **chosen}
    if chosen.get("vocab_size") is not None and "tokenizer" not in chosen:
        values["tokenizer"] = None
    if chosen.get("tokenizer") is not None and "vocab_size" not in chosen:
        values["vocab_size"] = None
    return values


def suits(corpus: CorpusRow, corpus_dir: Path, base: str | None) -> bool:
    """Return whether a model can be trained on a corpus as it is, or will be when it is built.

    Args:
        corpus: The corpus.
        corpus_dir: Its folder.
        base: The pretrained model; None is RETRO from scratch, which learns from a corpus that
            was not cut for a pretrained model with its large vocabulary.
    """
    record = TokenizerRecord.read(corpus_dir)
    if record is None:
        return corpus.settings.get("tokenizer") == base
    if base is None:
        return record.source is None or record.source != corpus.settings.get("tokenizer")
    folder = local_folder(base)
    if folder is None:
        return record.source == base
    return record.fingerprint == _fingerprint(folder)


@lru_cache(maxsize=8)
def _fingerprint(folder: Path) -> str | None:
    try:
        return find_tokenizer(folder).tokenizer.fingerprint
    except ArtifactError:
        return None
