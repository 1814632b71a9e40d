"""Load a checkpoint or saved model."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from retro.artifacts import TOKENIZER_FILE
from retro.checkpoints import find_checkpoint
from retro.config.pretrained import PretrainedConfig
from retro.corpus.corpus import Corpus
from retro.data.model_tokenizer import ModelTokenizer
from retro.data.tokenizer import Tokenizer, open_tokenizer
from retro.errors import ArtifactMismatchError, ArtifactMissingError, ConfigError
from retro.model.hub import is_saved_model
from retro.model.hub_names import is_hub_name
from retro.model.language_model import ReadingModel
from retro.model.open import open_checkpoint, open_pretrained, open_saved
from retro.model.origin import ModelOrigin
from retro.model.pretrained.base import find_base, is_base
from retro.model.pretrained.bundled import BUNDLED_NAME
from retro.places import check_place
from retro.run import open_run


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model ready to write, and what it is to retrieve from."""

    model: ReadingModel
    tokenizer: Tokenizer
    corpus_dir: Path | None
    """None with retrieval off."""


def open_source(
    path: str | Path,
    *,
    corpus_dir: Path | None,
    step: int | None,
    device: torch.device,
    with_corpus: bool,
    chunk_size: int | None = None,
) -> Source:
    """Load model and tokenizer; see ``Generator.open``."""
    if str(path) == BUNDLED_NAME or _is_saved_model(path):
        return _open_saved_model(path, corpus_dir, step, device, with_corpus, chunk_size)
    run = open_run(Path(path))
    record = find_checkpoint(run.path, step)
    if run.model is None:
        raise ArtifactMissingError(f"Run {run.path.name} has not started yet. Train it first.")
    return Source(
        model=open_checkpoint(run.kind, run.model, record.path, device),
        tokenizer=open_tokenizer(run.tokenizer_dir),
        corpus_dir=(corpus_dir or run.corpus_path) if with_corpus else None,
    )


def _is_saved_model(path: str | Path) -> bool:
    """Return whether a place is a saved model or a name on the Hub, and not a run."""
    folder = check_place("RUN", path)
    if folder.is_dir():
        return is_saved_model(folder) or is_base(folder)
    return not folder.exists() and is_hub_name(str(path))


def _open_saved_model(
    path: str | Path,
    corpus_dir: Path | None,
    step: int | None,
    device: torch.device,
    with_corpus: bool,
    chunk_size: int | None,
) -> Source:
    # Its patterns hold the files of saved models, too.
    folder = find_base(path)
    if step is not None:
        raise ConfigError(
            f"step must be left out for a saved model, which has one state, got {step}. "
            f"Give the folder of the run to choose a checkpoint."
        )
    is_pretrained = is_base(folder)
    origin = None if is_pretrained else ModelOrigin.read(folder)
    if with_corpus and corpus_dir is None:
        named = "" if origin is None or origin.corpus is None else f" ({origin.corpus.name})"
        raise ArtifactMissingError(
            f"Retrieval needs a corpus, and a saved model does not bring the one it was trained "
            f"on{named}. Add --corpus CORPUS or --retrieval off "
            f"(in Python corpus_dir=... or with_corpus=False)."
        )
    corpus_dir = corpus_dir if with_corpus else None
    if is_pretrained:
        return _open_pretrained(path, corpus_dir, device, chunk_size)
    if origin is None or origin.tokenizer is None:
        raise ArtifactMissingError(
            f"The saved model {Path(path).name} has no {TOKENIZER_FILE}, so it knows token ids "
            f"only. Save it from its run with `python -m retro export`, or set model.origin "
            f"before save_pretrained."
        )
    tokenizer = open_tokenizer(folder)
    model = open_saved(folder, device)
    if tokenizer.vocab_size != model.vocab_size:
        raise ArtifactMismatchError(
            f"The saved model {Path(path).name} has {model.vocab_size} tokens, but its "
            f"{TOKENIZER_FILE} has {tokenizer.vocab_size}. Save the model again."
        )
    return Source(model=model, tokenizer=tokenizer, corpus_dir=corpus_dir)


def _open_pretrained(
    name: str | Path, corpus_dir: Path | None, device: torch.device, chunk_size: int | None
) -> Source:
    """Open a pretrained model, with the chunk size of the corpus it reads unless one is given."""
    folder = find_base(name)
    tokenizer = ModelTokenizer.load(folder)
    if chunk_size is None and corpus_dir is not None:
        chunk_size = Corpus.open(corpus_dir).database.chunk_size
    config = PretrainedConfig(base=str(name))
    if chunk_size is not None:
        config = replace(config, chunk_size=chunk_size)
    model = open_pretrained(folder, config, device)
    return Source(model=model, tokenizer=tokenizer, corpus_dir=corpus_dir)
