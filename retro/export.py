"""Turns a checkpoint of a run into a saved model that needs neither run nor corpus."""

import logging
from pathlib import Path

import torch

from retro.artifacts import SPECIAL_TOKENS_FILE, TOKENIZER_FILE, read_manifest
from retro.checkpoints import CHECKPOINT_KIND, CheckpointRecord, find_checkpoint
from retro.config.checks import config_to_dict
from retro.corpus.corpus import Corpus
from retro.corpus.files import KEYS_NAME
from retro.errors import ArtifactError, ArtifactMissingError
from retro.model.open import open_checkpoint
from retro.model.origin import CorpusOrigin, ModelOrigin
from retro.retrieval.keys import KEYS_KIND
from retro.run import Run, open_run

logger = logging.getLogger(__name__)


def export_run(run_dir: str | Path, folder: str | Path, step: int | None = None) -> Path:
    """Save a checkpoint of a run, with all that is known of where it comes from.

    Args:
        run_dir: Folder of the run.
        folder: Where the model is to be; see ``HubModel.save_pretrained``.
        step: Step of the checkpoint; None is the newest.

    Returns:
        The folder, for ``open_saved``, ``RETRO.from_pretrained`` and ``Generator.open``.

    Raises:
        ArtifactMissingError: There is no such run or checkpoint.
        ArtifactMismatchError: The checkpoint is damaged.
        ConfigError: The folder holds something else.
        DiskFullError: There is no room.
    """
    run = open_run(Path(run_dir))
    record = find_checkpoint(run.path, step)
    if run.model is None:
        raise ArtifactMissingError(f"Run {run.path.name} has not started yet. Train it first.")
    model = open_checkpoint(run.kind, run.model, record.path, torch.device("cpu"))
    model.origin = run_origin(run, record)
    model.save_pretrained(folder)
    return Path(folder)


def run_origin(run: Run, record: CheckpointRecord) -> ModelOrigin:
    """Return where a checkpoint of a run comes from.

    Args:
        run: A run that has started.
        record: One of its checkpoints.

    Raises:
        ArtifactMissingError: The run has lost its tokenizer.
    """
    path = run.tokenizer_dir / TOKENIZER_FILE
    if not path.exists():
        raise ArtifactMissingError(
            f"Run {run.path.name} has no {path.parent.name}/{TOKENIZER_FILE}. "
            f"Copy it from its corpus."
        )
    special = run.tokenizer_dir / SPECIAL_TOKENS_FILE
    settings = read_manifest(record.path, CHECKPOINT_KIND).settings
    return ModelOrigin(
        tokenizer=path.read_bytes(),
        special_tokens=special.read_bytes() if special.exists() else None,
        corpus=_corpus_origin(run),
        preset=run.preset,
        training={} if run.training is None else config_to_dict(run.training),
        step=record.step,
        tokens_seen=settings.get("tokens_seen"),
        val_loss_on=record.val_loss_on,
        val_loss_off=record.val_loss_off,
        val_loss_base=settings.get("val_loss_base"),
    )


def _corpus_origin(run: Run) -> CorpusOrigin:
    """Return the facts of a run's corpus; where it is gone, those that the run noted."""
    summary, embedder = run.corpus_summary, None
    try:
        corpus = Corpus.open(run.corpus_path)
        if corpus.fingerprint == run.corpus_fingerprint:
            summary = corpus.summary().to_dict()
            embedder = read_manifest(run.corpus_path / KEYS_NAME, KEYS_KIND).settings["embedder"]
    except ArtifactError as error:
        logger.info("The corpus of %s cannot be asked: %s", run.path.name, error)
    facts = {} if summary is None else summary
    encoder = facts.get("encoder")
    if encoder is not None and Path(encoder).is_absolute():
        # Where the encoder's folder is on this machine helps nobody else.
        encoder = Path(encoder).name
    return CorpusOrigin(
        name=run.corpus_path.name,
        fingerprint=run.corpus_fingerprint,
        num_documents=facts.get("num_documents"),
        num_chunks=facts.get("num_chunks"),
        num_tokens=facts.get("num_tokens"),
        num_neighbors=facts.get("num_neighbors"),
        exclusion=facts.get("exclusion"),
        exclusion_window=facts.get("exclusion_window"),
        encoder=encoder,
        embedder_fingerprint=embedder,
    )
